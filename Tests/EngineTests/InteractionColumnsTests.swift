import Domain
import Engine
import Foundation
import Logging
import QueryEngine
import Testing

/// Steele, Lea & Flood's SplitMix64.
private struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite struct `Derived columns of interactions` {
  private struct Event {
    var user: Int
    var minutes: Int
    var position: Int64
  }

  private static let epoch: Int64 = 1_767_600_000_000

  private func withDatabase(_ body: (RiffleDatabase) async throws -> Void) async throws {
    let path = NSTemporaryDirectory() + "riffle-sessions-" + UUID().uuidString
    defer { try? FileManager.default.removeItem(atPath: path) }
    var options = RiffleDatabase.Options()
    options.trains = false
    let database = try RiffleDatabase(
      opening: path, options: options,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    defer { database.close() }
    _ = try await database.createTable([
      "name": "events", "unique_keys": ["event_id"],
      "column_schema": [
        "event_id": "String", "user_id": "String", "item_id": "String", "created_at": "DateTime",
        "visit": "String",
      ],
    ])
    try await body(database)
  }

  private func rows(_ engine: ServedEngine, _ text: String) throws -> [[Value]] {
    let answer = try engine.answer(QueryCall(text: text))
    guard case .table(let table) = answer.statements[0] else { return [] }
    return table.rows.map { row in
      row.map { cell in
        switch cell {
        case .int(let value): .int(value)
        case .string(let value): .string(value)
        default: .null
        }
      }
    }
  }

  /// Sessions from nothing: each user's events in time order, cut at pauses of over half an hour.
  private func sessions(_ events: [String: Event]) -> [String: String] {
    var names: [String: String] = [:]
    for user in Set(events.values.map(\.user)) {
      var start = 0
      var last: Int?
      let own = events.filter { $0.value.user == user }.sorted {
        $0.value.minutes < $1.value.minutes
      }
      for (id, event) in own {
        if last.map({ event.minutes - $0 > 30 }) ?? true { start = event.minutes }
        last = event.minutes
        names[id] = "u\(user)-\(Self.epoch + Int64(start) * 60_000)"
      }
    }
    return names
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func `tell sessions after each insert as they would from nothing`(seed: UInt64) async throws {
    try await withDatabase { database in
      let engine = try await database.createEngine(
        parsing: "name: e\ndata: {interaction_table: events}")
      var random = Generator(state: seed)
      var events: [String: Event] = [:]
      for round in 0..<40 {
        var batch: [JSON] = []
        for _ in 0..<Int.random(in: 1...6, using: &random) {
          // Some ids come again: then the row moves to another time, or another user.
          let id = "e\(Int.random(in: 0..<120, using: &random))"
          let event = Event(
            user: Int.random(in: 0..<3, using: &random),
            minutes: Int.random(in: 0..<1000, using: &random), position: 0)
          events[id] = event
          batch.append([
            "event_id": .string(id), "user_id": .string("u\(event.user)"), "item_id": "i1",
            "created_at": .int(Self.epoch + Int64(event.minutes) * 60_000), "visit": "v",
          ])
        }
        _ = try await database.insert(["data": .array(batch)], into: "events")
        let found = try rows(
          engine, "SELECT event_id, _derived_session_id FROM interactions LIMIT 1000")
        var told: [String: String] = [:]
        for row in found {
          guard case .string(let id) = row[0], case .string(let name) = row[1] else { continue }
          told[id] = name
        }
        #expect(told == sessions(events), "seed \(seed), round \(round)")
      }
    }
  }

  @Test func `count sessions, give log positions, and show declared columns`() async throws {
    try await withDatabase { database in
      let derived = try await database.createEngine(
        parsing: "name: derived\ndata: {interaction_table: events}")
      let declared = try await database.createEngine(
        parsing: """
          name: declared
          data:
            interaction_table: events
            schema_override:
              interaction:
                label: {name: label, type: BinaryLabel}
                created_at: created_at
                session_id: visit
                interaction_id: event_id
          """)
      let times = [0, 10, 45, 70, 101]
      let data: [JSON] = times.enumerated().map { number, minutes in
        [
          "event_id": .string("e\(number)"), "user_id": "u1", "item_id": "i1",
          "created_at": .int(Self.epoch + Int64(minutes) * 60_000),
          "visit": .string(number < 2 ? "first" : "second"),
        ]
      }
      _ = try await database.insert(["data": .array(data)], into: "events")
      let count = "SELECT COUNT(DISTINCT _derived_session_id) AS n FROM interactions"
      #expect(try rows(derived, count) == [[.int(3)]])
      #expect(try rows(declared, count) == [[.int(2)]])
      let ids = "SELECT _derived_interaction_id AS id FROM interactions ORDER BY id LIMIT 9"
      #expect(try rows(derived, ids) == (1...5).map { [.int($0)] })
      #expect(try rows(declared, ids) == (0..<5).map { [.string("e\($0)")] })
      // A late event joins the first two sessions.
      _ = try await database.insert(
        [
          "data": [
            [
              "event_id": "late", "user_id": "u1", "item_id": "i1",
              "created_at": .int(Self.epoch + 25 * 60_000),
            ]
          ]
        ], into: "events")
      #expect(try rows(derived, count) == [[.int(2)]])
    }
  }

  @Test func `are refused where the file names a column that is not there`() async throws {
    try await withDatabase { database in
      do {
        _ = try await database.createEngine(
          parsing: """
            name: e
            data:
              interaction_table: events
              schema_override: {interaction: {session_id: vist}}
            """)
        Issue.record("it was taken")
      } catch {
        let problem = (error as? Diagnostics)?.all.first
        #expect(problem?.code == "missing_column")
        #expect(problem?.help?.contains("Did you mean `visit`?") == true)
      }
    }
  }
}
