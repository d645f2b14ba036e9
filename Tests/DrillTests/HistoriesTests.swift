import Domain
import Drill
import State
import Testing

@Suite struct `Histories folded from scratch` {
  private static let table = TableSchema(
    name: "events",
    columns: [
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "item_id", type: .string),
      ColumnDefinition(name: "created_at", type: .dateTime),
    ])

  private static let events: [(user: String, item: String, seconds: Int64)] = [
    ("u", "a", 30), ("u", "b", 10), ("v", "a", 20), ("u", "a", 40), ("v", "c", 20),
  ]

  private static func state(_ events: [(user: String, item: String, seconds: Int64)]) throws
    -> StateSnapshot
  {
    let fold = StateFold(try EntityMapping(interactions: table))
    let rows = events.enumerated().map { i, event in
      LoggedRow(
        position: LogPosition(Int64(i + 1)),
        values: [
          .string(event.user), .string(event.item),
          .timestamp(Timestamp(microsecondsSinceEpoch: event.seconds * 1_000_000)),
        ])
    }
    fold.apply(
      [CommittedBatch(table: "events", inserted: rows)], through: LogPosition(Int64(rows.count)))
    return fold.snapshot()
  }

  private static func histories(
    _ events: [(user: String, item: String, seconds: Int64)] = events
  ) -> Histories {
    var histories = Histories()
    for (i, event) in events.enumerated() {
      histories.add(
        user: event.user, item: event.item,
        time: Timestamp(microsecondsSinceEpoch: event.seconds * 1_000_000),
        position: LogPosition(Int64(i + 1)))
    }
    return histories
  }

  @Test func `are those of the engine's own fold`() throws {
    #expect(Self.histories().difference(from: try Self.state(Self.events)) == nil)
    #expect(Self.histories().events(of: "u").map(\.item) == ["b", "a", "a"])
    #expect(Self.histories().seen(by: "v") == ["a", "c"])
  }

  @Test func `differ from a state that has lost, doubled or changed an event`() throws {
    let lost = Self.histories().difference(from: try Self.state(Self.events.dropLast()))
    #expect(lost?.contains("the history of `v` has 1 events") == true)
    let doubled = Self.histories().difference(from: try Self.state(Self.events + [Self.events[1]]))
    #expect(doubled?.contains("the history of `u` has 4 events") == true)
    var changed = Self.events
    changed[2].item = "c"
    #expect(Self.histories().difference(from: try Self.state(changed)) != nil)
    let stranger = Self.histories().difference(from: try Self.state(Self.events + [("w", "a", 5)]))
    #expect(stranger?.contains("`w`") == true)
    let unknown = Self.histories(Array(Self.events[..<3])).difference(
      from: try Self.state(Array(Self.events[..<2])))
    #expect(unknown?.contains("does not know the user `v`") == true)
  }
}
