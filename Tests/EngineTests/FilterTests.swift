import Domain
import Engine
import Foundation
import Logging
import QueryEngine
import Testing

private let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

private func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = NSTemporaryDirectory() + "riffle-filters-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

private func open(_ path: String) throws -> RiffleDatabase {
  var options = RiffleDatabase.Options()
  options.trains = false
  return try RiffleDatabase(opening: path, options: options, logger: silentLogger)
}

private func makeTables(_ database: RiffleDatabase) async throws {
  let tables: [JSON] = [
    [
      "name": "events",
      "column_schema": ["user_id": "String", "item_id": "String", "created_at": "DateTime"],
    ],
    [
      "name": "items", "unique_keys": ["item_id"],
      "column_schema": ["item_id": "String", "topic": "Int32"],
    ],
    [
      "name": "watched", "unique_keys": ["user_id", "video_id"],
      "column_schema": ["user_id": "String", "video_id": "String", "share": "Double"],
    ],
    ["name": "hidden", "column_schema": ["user_id": "String", "item_id": "String"]],
    [
      "name": "banned", "unique_keys": ["item_id"],
      "column_schema": ["item_id": "String", "active": "Bool"],
    ],
  ]
  for table in tables { _ = try await database.createTable(table) }
}

private let yaml = """
  name: e
  data:
    interaction_table: events
    item_table: items
    filters:
      - name: watched
        filter_table:
          type: query
          query: SELECT user_id, video_id AS item_id FROM watched WHERE share > 0.5 AND video_id != ''
        filter_type: {type: personal, user_id_column: user_id, item_id_column: item_id, index_type: bloom_filter}
      - name: hidden
        filter_table: {type: table, name: hidden}
        filter_type: {type: personal_filter}
      - name: banned
        filter_table: {type: table, name: banned, where: active}
        filter_type: {type: global}
  """

private let query = """
  SELECT * FROM items
  WHERE prebuilt('watched', input_user_id=$user) AND prebuilt('ref:data.filters:hidden', input_user_id=$user)
    AND prebuilt('banned') AND prebuilt('already_seen', input_user_id=$user)
  """

/// What the tables hold, in the plainest words.
private struct Oracle {
  var items: Set<String> = []
  var seen: Set<[String]> = []
  var watched: [[String]: Double] = [:]
  var hidden: Set<[String]> = []
  var banned: [String: Bool] = [:]

  func allowed(_ user: String) -> Set<String> {
    items.filter { item in
      !seen.contains([user, item]) && (watched[[user, item]] ?? 0) <= 0.5
        && !hidden.contains([user, item]) && banned[item] != true
    }
  }
}

private func answer(_ engine: ServedEngine, _ user: String, limit: Int) throws -> [String] {
  let call = QueryCall(
    text: query + " LIMIT \(limit)", parameters: ["user": .string(user)])
  return try engine.answer(call).result.ids.map(\.rawValue)
}

@Suite struct `Filters of an engine` {
  @Test(arguments: [UInt64(1), 2, 3])
  func `forbid exactly what their tables say, from the insert on, and after a restart`(
    seed: UInt64
  ) async throws {
    try await withDirectory { path in
      var random = Dice(seed)
      var oracle = Oracle()
      let users = (0..<6).map { "u\($0)" }
      func item() -> String { "i\(random.below(40))" }
      do {
        let database = try open(path)
        defer { database.close() }
        try await makeTables(database)
        // Rows from before the engine count as well.
        _ = try await database.insert(
          ["data": [["item_id": "i3", "active": true], ["item_id": "i4", "active": false]]],
          into: "banned")
        oracle.banned = ["i3": true, "i4": false]
        let engine = try await database.createEngine(parsing: yaml)
        for step in 0..<400 {
          let (user, item) = (users[random.below(users.count)], item())
          switch random.below(5) {
          case 0:
            oracle.items.insert(item)
            let row: JSON = ["item_id": .string(item), "topic": .int(Int64(step))]
            _ = try await database.insert(["data": [row]], into: "items")
          case 1:
            oracle.seen.insert([user, item])
            let row: JSON = [
              "user_id": .string(user), "item_id": .string(item),
              "created_at": .int(1_700_000_000_000 + Int64(step)),
            ]
            _ = try await database.insert(["data": [row]], into: "events")
          case 2:
            // A later row replaces the earlier one, and may take the item out of the filter again.
            let share = Double(random.below(10)) / 10
            oracle.watched[[user, item]] = share
            let row: JSON = [
              "user_id": .string(user), "video_id": .string(item), "share": .double(share),
            ]
            _ = try await database.insert(["data": [row]], into: "watched")
          case 3:
            if random.below(4) == 0 {
              oracle.hidden.insert([user, item])
              let row: JSON = ["user_id": .string(user), "item_id": .string(item)]
              // Twice the same row is one item.
              _ = try await database.insert(["data": [row, row]], into: "hidden")
            }
          default:
            let active = random.below(3) == 0
            oracle.banned[item] = active
            _ = try await database.insert(
              ["data": [["item_id": .string(item), "active": .bool(active)]]], into: "banned")
          }
          let allowed = oracle.allowed(user)
          #expect(
            Set(try answer(engine, user, limit: 1000)) == allowed, "seed \(seed) step \(step)")
          let few = try answer(engine, user, limit: 3)
          #expect(few.count == min(3, allowed.count) && allowed.isSuperset(of: few), "seed \(seed)")
        }
      }
      let database = try open(path)
      defer { database.close() }
      let engine = try database.engine(named: "e")
      for user in users + ["nobody"] {
        #expect(
          Set(try answer(engine, user, limit: 1000)) == oracle.allowed(user), "seed \(seed) \(user)"
        )
      }
      await #expect(throws: Diagnostic.self) { try await database.deleteTable(named: "hidden") }
    }
  }

  @Test func `are refused with all that is wrong`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      try await makeTables(database)
      await #expect {
        _ = try await database.createEngine(
          parsing: """
            name: e
            data:
              interaction_table: events
              filters:
                - {name: already_seen, filter_table: hidden, filter_type: personal}
                - {name: a, filter_table: {query: "SELECT user_id, count(*) FROM watched GROUP BY user_id LIMIT 5"}, filter_type: personal}
                - {name: b, filter_table: hidden, filter_type: {type: persnal}}
                - {name: c, filter_table: {query: "SELECT item_id FROM view.v"}, filter_type: global}
                - {name: d, filter_table: {query: "SELECT item FROM banned;"}, filter_type: global}
            """)
      } throws: { error in
        let all = (error as? Diagnostics)?.all ?? []
        return all.map(\.code) == [
          "duplicate_name", "not_supported", "not_supported", "not_supported", "unknown_value",
          "not_supported", "unknown_column",
        ]
      }
      await #expect {
        _ = try await database.createEngine(
          parsing: """
            name: e
            data:
              interaction_table: events
              filters:
                - {name: a, filter_table: hiden, filter_type: personal}
                - {name: b, filter_table: {type: table, name: banned, where: activ AND now() > $x}, filter_type: global}
                - {name: c, filter_table: {type: table, name: watched, where: shar > 1}, filter_type: personal}
            """)
      } throws: { error in
        let all = (error as? Diagnostics)?.all ?? []
        return all.map(\.code) == [
          "unknown_table", "not_supported", "not_supported", "unknown_column", "unknown_column",
        ]
      }
    }
  }

  @Test func `of a person need the user, and unknown names get the nearest`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      try await makeTables(database)
      let engine = try await database.createEngine(parsing: yaml)
      func code(_ condition: String) -> String? {
        do {
          _ = try engine.answer(QueryCall(text: "SELECT * FROM items WHERE \(condition) LIMIT 2"))
          return nil
        } catch {
          return (error as? Diagnostics)?.all.first?.code
        }
      }
      #expect(code("prebuilt('hidden')") == "missing_user")
      #expect(code("prebuilt('hiden', input_user_id='u')") == "unknown_filter")
      #expect(code("prebuilt('banned')") == nil)
      #expect(code("prebuilt('banned', input_user_id='u')") == nil)
    }
  }
}

/// SplitMix64.
private struct Dice {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func below(_ bound: Int) -> Int {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return Int((z ^ (z >> 31)) % UInt64(bound))
  }
}
