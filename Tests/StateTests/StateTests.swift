import Columns
import Domain
import Foundation
import State
import Storage
import Synchronization
import Testing

/// A small repeatable generator (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// A value that several closures of a test share.
final class Shared<Value: Sendable>: Sendable {
  private let value: Mutex<Value>
  init(_ value: Value) { self.value = Mutex(value) }
  func withLock<Result: Sendable>(_ body: (inout Value) throws -> Result) rethrows -> Result {
    try value.withLock { value in try body(&value) }
  }
}

extension TableSchema {
  static let events = TableSchema(
    name: "events",
    columns: [
      ColumnDefinition(name: "event_id", type: .string),
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "item_id", type: .int64),
      ColumnDefinition(name: "created_at", type: .dateTime),
      ColumnDefinition(name: "label", type: .double),
      ColumnDefinition(name: "event_value", type: .lowCardinalityString),
    ], uniqueKeys: ["event_id"])

  static let videos = TableSchema(
    name: "videos",
    columns: [
      ColumnDefinition(name: "topic", type: .string),
      ColumnDefinition(name: "item_id", type: .string),
      ColumnDefinition(name: "tags", type: .stringArray),
      ColumnDefinition(name: "length", type: .double),
    ], uniqueKeys: ["item_id"])
}

func event(
  _ user: String?, _ item: Int64?, at time: Int64? = 0, label: Double? = nil, kind: String? = nil,
  id: String = ""
) -> [Value] {
  [
    .string(id), user.map { .string($0) } ?? .null, item.map { .int($0) } ?? .null,
    time.map { .timestamp(Timestamp(microsecondsSinceEpoch: $0)) } ?? .null,
    label.map { .double($0) } ?? .null, kind.map { .string($0) } ?? .null,
  ]
}

func video(_ id: String, topic: String? = nil, length: Double? = nil) -> [Value] {
  [
    topic.map { .string($0) } ?? .null, .string(id), .array([.string("t" + id)]),
    length.map { .double($0) } ?? .null,
  ]
}

/// A state by the names of its users and items, so that states can be compared whose rows are
/// numbered differently.
struct StateByName: Equatable {
  struct Step: Equatable {
    var item: String
    var time: Int64
    var position: Int64
    var label: Float
    var event: String?
  }
  var through: LogPosition
  var histories: [String: [Step]] = [:]
  var seen: [String: Set<String>] = [:]
  /// Listed items with their cells.
  var listed: [String: [Value]] = [:]
  /// Items that have interactions, with their number.
  var counts: [String: Int32] = [:]
  var interactionCount: Int
  var skipped: Int

  init(_ state: StateSnapshot) {
    through = state.through
    interactionCount = state.interactionCount
    skipped = state.skippedRowCount
    state.forEachUser { id, user in
      histories[id.rawValue] = user.history.map {
        Step(
          item: state.itemID(of: $0.row).rawValue, time: $0.time.microsecondsSinceEpoch,
          position: $0.position.rawValue, label: $0.label, event: state.eventName($0.event))
      }
      seen[id.rawValue] = Set(user.seen.map { state.itemID(of: $0).rawValue })
    }
    for row in 0..<state.itemCount {
      let name = state.itemID(of: CatalogRow(row)).rawValue
      let cells = state.catalog.names.indices.map { state.catalog.column(at: $0).value(at: row) }
      if state.listed[row] {
        listed[name] = cells
      }
      if state.interactionCounts[row] != 0 { counts[name] = state.interactionCounts[row] }
    }
  }
}

/// The state computed the slow and obvious way, from the rows that are left.
struct Oracle {
  /// The rows of a table that are left, in log order.
  static func state(
    _ mapping: EntityMapping, events: [LoggedRow], videos: [LoggedRow], through: LogPosition
  ) throws -> StateByName {
    var state = StateByName(StateFold(mapping).snapshot())
    state.through = through
    for row in events {
      guard case .string(let user) = row.values[1], case .int(let item) = row.values[2] else {
        state.skipped += 1
        continue
      }
      var time: Int64 = 0
      if case .timestamp(let given) = row.values[3] { time = given.microsecondsSinceEpoch }
      var label: Float = 1
      if case .double(let given) = row.values[4] { label = Float(given) }
      var kind: String?
      if case .string(let given) = row.values[5] { kind = given }
      state.histories[user, default: []].append(
        .init(
          item: "\(item)", time: time, position: row.position.rawValue, label: label, event: kind))
      state.seen[user, default: []].insert("\(item)")
      state.counts["\(item)", default: 0] += 1
      state.interactionCount += 1
      if mapping.itemTable == nil { state.listed["\(item)"] = [.string("\(item)")] }
    }
    for user in state.histories.keys {
      state.histories[user]?.sort { ($0.time, $0.position) < ($1.time, $1.position) }
    }
    if mapping.itemTable != nil {
      for row in videos {
        guard case .string(let item) = row.values[1] else {
          state.skipped += 1
          continue
        }
        state.listed[item] = [row.values[1], row.values[0], row.values[2], row.values[3]]
      }
    }
    return state
  }
}

func randomEvents(_ random: inout SeededGenerator) -> [[Value]] {
  (0..<Int.random(in: 1...12, using: &random)).map { _ in
    event(
      Int.random(in: 0..<20, using: &random) == 0
        ? nil : "u\(Int.random(in: 0..<12, using: &random))",
      Int.random(in: 0..<20, using: &random) == 0 ? nil : Int64.random(in: 0..<25, using: &random),
      at: Int.random(in: 0..<15, using: &random) == 0
        ? nil : Int64.random(in: 0..<20, using: &random),
      label: [nil, 0, 1, -1, 0.5].randomElement(using: &random) ?? nil,
      kind: [nil, "like", "skip"].randomElement(using: &random) ?? nil,
      id: "e\(Int.random(in: 0..<150, using: &random))")
  }
}

func randomVideos(_ random: inout SeededGenerator) -> [[Value]] {
  (0..<Int.random(in: 1...6, using: &random)).map { _ in
    video(
      "\(Int.random(in: 0..<30, using: &random))",
      topic: [nil, "cats", "dogs"].randomElement(using: &random) ?? nil,
      length: Double.random(in: 0..<10, using: &random))
  }
}

@Suite struct `Laws of the fold` {
  /// The goal: one state, whichever way the log is folded. The method: random appends through real
  /// storage, with ties and late events, repeated keys and nulls; the incremental fold, a fold of
  /// all at once, a replay after reopening and an oracle must agree, and an earlier snapshot must
  /// stand still.
  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
  func `incremental, at once and replayed are one state`(seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let path = FileManager.default.temporaryDirectory.appending(path: "riffle-state-\(UUID())")
      .path(percentEncoded: false)
    defer { try? FileManager.default.removeItem(atPath: path) }
    var videos = TableSchema.videos
    // With another key than the item's id, several rows describe an item and any may go.
    if seed % 3 == 1 { videos.uniqueKeys = ["topic"] }
    if seed % 3 == 2 { videos.uniqueKeys = [] }
    let mapping = try EntityMapping(
      interactions: .events, items: seed % 2 == 0 || seed % 3 == 1 ? videos : nil)
    let store = try LogStore(try DataDirectory.open(path))
    try await store.createTable(.events, at: Timestamp(microsecondsSinceEpoch: 0))
    try await store.createTable(videos, at: Timestamp(microsecondsSinceEpoch: 0))
    let commits = Shared<[([CommittedBatch], LogPosition)]>([])
    store.onCommit { batches, through in commits.withLock { $0.append((batches, through)) } }

    let fold = StateFold(mapping)
    var folded = 0
    var kept: [(StateSnapshot, StateByName)] = []
    for step in 0..<60 {
      // Two appends at once may share a commit, and then hide each other's rows.
      let (first, second) = (randomEvents(&random), randomEvents(&random))
      let items = randomVideos(&random)
      async let one = store.append(table: "events", rows: first)
      async let two = store.append(table: "events", rows: second)
      async let three = store.append(table: "videos", rows: items)
      _ = try await (one, two, three)
      let new = commits.withLock { $0[folded...] }
      for (batches, through) in new { fold.apply(batches, through: through) }
      folded += new.count
      if step % 10 == 0 {
        let snapshot = fold.snapshot()
        kept.append((snapshot, StateByName(snapshot)))
      }
      if step % 20 == 19 {
        var rows: [String: [LoggedRow]] = [:]
        try store.replay(tables: ["events", "videos"], windowRows: 13) { batches, _ in
          for batch in batches { rows[batch.table, default: []] += batch.inserted }
        }
        let expected = try Oracle.state(
          mapping, events: rows["events"] ?? [], videos: rows["videos"] ?? [],
          through: store.through)
        #expect(StateByName(fold.snapshot()) == expected, "seed \(seed), step \(step)")
      }
    }
    let incremental = StateByName(fold.snapshot())

    let atOnce = StateFold(mapping)
    for (batches, through) in commits.withLock({ $0 }) { atOnce.apply(batches, through: through) }
    #expect(StateByName(atOnce.snapshot()) == incremental, "seed \(seed)")

    store.close()
    let again = try LogStore(try DataDirectory.open(path))
    let replayed = StateFold(mapping)
    try again.replay(
      tables: ["events", "videos"], windowRows: Int.random(in: 1...100, using: &random)
    ) { batches, through in replayed.apply(batches, through: through) }
    replayed.apply([], through: again.through)
    #expect(StateByName(replayed.snapshot()) == incremental, "seed \(seed)")

    for (snapshot, then) in kept {
      #expect(StateByName(snapshot) == then, "seed \(seed): a snapshot moved")
    }
  }
}

@Suite struct `State` {
  func committed(
    _ table: String, _ rows: [[Value]], from position: Int64 = 1, replaced: [LoggedRow] = []
  ) -> CommittedBatch {
    CommittedBatch(
      table: table,
      inserted: rows.enumerated().map {
        LoggedRow(position: LogPosition(position + Int64($0.offset)), values: $0.element)
      }, replaced: replaced)
  }

  @Test func `orders a history by time, then by arrival`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events))
    fold.apply(
      committed(
        "events",
        [
          event("u", 1, at: 20), event("u", 2, at: 10), event("u", 3, at: 20),
          event("u", 4, at: 10), event("u", 5, at: nil),
        ]))
    let state = fold.snapshot()
    let user = try #require(state.user(UserID("u")))
    #expect(user.history.map { state.itemID(of: $0.row).rawValue } == ["5", "2", "4", "1", "3"])
    #expect(user.history.map(\.position.rawValue) == [5, 2, 4, 1, 3])
    #expect(state.through == LogPosition(5))
  }

  @Test func `takes labels above zero, and missing ones, for positive`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events))
    fold.apply(
      committed(
        "events",
        [
          event("u", 1, at: 1, label: 1), event("u", 2, at: 2, label: 0),
          event("u", 3, at: 3, label: -1), event("u", 4, at: 4), event("u", 5, at: 5, label: 0.1),
          event("u", 4, at: 6),
        ]))
    let state = fold.snapshot()
    let user = try #require(state.user(UserID("u")))
    func names(_ rows: [CatalogRow]) -> [String] { rows.map { state.itemID(of: $0).rawValue } }
    #expect(names(user.positives.map(\.row)) == ["1", "4", "5", "4"])
    #expect(names(user.recentPositives(2)) == ["5", "4"])
    #expect(names(user.recentPositives(9)) == ["1", "4", "5", "4"])
    #expect(user.recentPositives(0).isEmpty)
    #expect(Set(names(user.seen)) == ["1", "2", "3", "4", "5"])
    #expect(user.seen == user.seen.sorted())
    for row in user.seen { #expect(user.hasSeen(row)) }
    #expect(!user.hasSeen(CatalogRow(99)))
  }

  @Test func `forgets a replaced event as if it never was`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events))
    let first = event("u", 1, at: 5, id: "a")
    fold.apply(committed("events", [first]))
    let before = fold.snapshot()
    fold.apply(
      committed(
        "events", [event("v", 2, at: 6, id: "a")], from: 2,
        replaced: [LoggedRow(position: LogPosition(1), values: first)]))
    let after = fold.snapshot()
    #expect(after.user(UserID("u")) == nil)
    #expect(after.user(UserID("v"))?.history.count == 1)
    let row = try #require(after.row(of: ItemID("1")))
    #expect(after.interactionCounts[row.index] == 0)
    #expect(!after.listed[row.index])
    #expect(after.interactionCount == 1)
    var users: [UserID] = []
    after.forEachUser { id, _ in users.append(id) }
    #expect(users == [UserID("v")])
    #expect(before.user(UserID("u"))?.history.count == 1)
    #expect(before.user(UserID("v")) == nil)
    #expect(before.listed[row.index])
    #expect(before.row(of: ItemID("2")) == nil)
  }

  @Test func `lists the items of the item table only, where there is one`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events, items: .videos))
    fold.apply(committed("events", [event("u", 7)]))
    fold.apply(committed("videos", [video("8", topic: "cats", length: 2)], from: 2))
    let state = fold.snapshot()
    #expect(state.itemCount == 2)
    let seven = try #require(state.row(of: ItemID("7")))
    let eight = try #require(state.row(of: ItemID("8")))
    #expect(state.listed.rows == [eight.index])
    #expect(state.catalog.names == ["item_id", "topic", "tags", "length"])
    #expect(state.catalog["item_id"]?.value(at: seven.index) == .string("7"))
    #expect(state.catalog["topic"]?.value(at: seven.index) == .null)
    #expect(state.catalog["topic"]?.value(at: eight.index) == .string("cats"))
    #expect(state.catalog["tags"]?.value(at: eight.index) == .array([.string("t8")]))
    #expect(state.catalog["length"]?.value(at: eight.index) == .double(2))
  }

  @Test func `grows the catalog's version only with the catalog`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events, items: .videos))
    var versions = [fold.snapshot().catalogVersion]
    fold.apply(committed("videos", [video("1"), video("2")]))
    versions.append(fold.snapshot().catalogVersion)
    fold.apply(committed("events", [event("u", 1), event("u", 2)], from: 3))
    versions.append(fold.snapshot().catalogVersion)
    fold.apply(committed("events", [event("u", 3)], from: 5))
    versions.append(fold.snapshot().catalogVersion)
    fold.apply(committed("other", [[.int(1)]], from: 6))
    versions.append(fold.snapshot().catalogVersion)
    #expect(versions == [0, 1, 1, 2, 2])
    #expect(fold.snapshot().through == LogPosition(6))
  }

  @Test func `skips and counts rows without a user or an item`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events))
    let bad = event(nil, 1, id: "a")
    fold.apply(committed("events", [bad, event("u", nil, id: "b"), event("u", 1, id: "c")]))
    #expect(fold.snapshot().skippedRowCount == 2)
    #expect(fold.snapshot().interactionCount == 1)
    fold.apply(
      committed(
        "events", [event("u", 1, id: "a")], from: 4,
        replaced: [LoggedRow(position: LogPosition(1), values: bad)]))
    #expect(fold.snapshot().skippedRowCount == 1)
    #expect(fold.snapshot().interactionCount == 2)
  }

  @Test func `names the kinds of events`() throws {
    let fold = StateFold(try EntityMapping(interactions: .events))
    fold.apply(
      committed("events", [event("u", 1, at: 1, kind: "like"), event("u", 2, at: 2)]))
    let state = fold.snapshot()
    let history = try #require(state.user(UserID("u"))).history
    #expect(history.map { state.eventName($0.event) } == ["like", nil])
    #expect(state.eventCode("like") == history[0].event)
    #expect(state.eventCode("share") == nil)
  }
}

@Suite struct `Entity mapping` {
  @Test func `names every column that is missing or of the wrong type`() throws {
    let events = TableSchema(
      name: "events",
      columns: [
        ColumnDefinition(name: "usr_id", type: .string),
        ColumnDefinition(name: "item_id", type: .double),
        ColumnDefinition(name: "label", type: .string),
      ])
    let problems = #expect(throws: Diagnostics.self) {
      try EntityMapping(interactions: events, items: .init(name: "items", columns: []))
    }
    #expect(
      problems?.all.map(\.message) == [
        "The interaction table `events` has no column `user_id`.",
        "The column `item_id` of the interaction table `events` is of type Double.",
        "The interaction table `events` has no column `created_at`.",
        "The column `label` of the interaction table `events` is of type String.",
        "The item table `items` has no column `item_id`.",
      ])
    #expect(
      problems?.all.first?.help
        == "Did you mean `usr_id`? Its columns are `usr_id`, `item_id`, `label`.")
  }

  @Test func `finds columns under other names`() throws {
    var columns = EntityColumns()
    columns.userID = "event_id"
    columns.itemID = "event_value"
    var items = TableSchema.videos
    items.columns[1].name = "event_value"
    let mapping = try EntityMapping(interactions: .events, items: items, columns: columns)
    #expect(mapping.catalogColumns.map(\.name) == ["item_id", "topic", "tags", "length"])
  }
}
