import Columns
import Domain
import Engine
import Foundation
import Ingest
import Logging
import State
import Storage
import Testing

private let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Runs a body with a database of its own, which has the table `events`.
private func withDatabase(
  table: JSON = eventTable, _ body: (RiffleDatabase, String) async throws -> Void
) async throws {
  let path = NSTemporaryDirectory() + "riffle-ingest-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: path) }
  var options = RiffleDatabase.Options()
  options.trains = false
  let database = try RiffleDatabase(opening: path, options: options, logger: silentLogger)
  defer { database.close() }
  _ = try await database.createTable(table)
  try await body(database, path)
}

/// Opens a directory again. Nothing is trained: a test that closes on the shared pool must not wait
/// for a training that needs it.
private func reopen(_ path: String) throws -> RiffleDatabase {
  var options = RiffleDatabase.Options()
  options.trains = false
  return try RiffleDatabase(opening: path, options: options, logger: silentLogger)
}

private let eventTable: JSON = [
  "name": "events", "unique_keys": ["event_id"],
  "column_schema": [
    "event_id": "String", "user_id": "String", "item_id": "String", "event": "String",
    "ratio": "Double", "created_at": "DateTime",
  ],
]

private func event(_ id: Int, more: [JSON.Member] = []) -> JSON {
  .object(
    [
      JSON.Member("event_id", .string("e\(id)")), JSON.Member("user_id", .string("u\(id % 7)")),
      JSON.Member("item_id", .string("i\(id % 11)")),
      JSON.Member("event", .string(id % 4 == 0 ? "like" : "view")),
      JSON.Member("ratio", .double(0.5)),
      JSON.Member("created_at", .int(1_700_000_000_000 + Int64(id))),
    ].filter { member in !more.contains { $0.name == member.name } } + more)
}

/// A small repeatable generator.
private struct Dice: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ (state >> 29)
  }
}

private func request(_ records: [JSON], source: String = "test") -> IngestRequest {
  IngestRequest(
    source: source, table: "events",
    records: records.enumerated().map { SourceRecord(.json($1), at: .int(Int64($0))) })
}

@Suite struct `Ingest` {
  @Test func `keeps the good rows of a batch and the others as dead letters`() async throws {
    try await withDatabase { database, _ in
      var mixed = request([
        event(1), event(2, more: [.init("ratio", "many")]), event(3), ["event_id": "e4", "usr": 1],
      ])
      mixed.position = ["line": 4]
      let receipt = try await database.ingest(mixed)
      #expect(receipt.accepted == 2 && receipt.dead == 2)
      #expect(receipt.through == LogPosition(2))
      #expect(receipt.problems.map(\.place) == ["data[1].ratio", "data[3].usr"])
      #expect(try database.position(ofSource: "test") == ["line": 4])
      let letters = try database.deadLetters(DeadLetterQuery())
      #expect(letters.map(\.letter.code) == ["type_mismatch", "unknown_column"])
      #expect(letters.map(\.letter.position) == [.int(1), .int(3)])
      #expect(letters[1].letter.raw == Array(#"{"event_id":"e4","usr":1}"#.utf8))
      #expect(letters[1].letter.source == "test")
    }
  }

  @Test func `takes bytes that are no JSON as dead letters`() async throws {
    try await withDatabase { database, _ in
      let deep = [UInt8](repeating: UInt8(ascii: "["), count: 10_000)
      let receipt = try await database.ingest(
        IngestRequest(
          source: "kafka/clicks", table: "events",
          records: [
            SourceRecord(.bytes(Array("{\"event_id\":".utf8)), at: ["offset": 9]),
            SourceRecord(.bytes([0xFF, 0xFE])), SourceRecord(.bytes(deep)),
            SourceRecord(.bytes(Array("[1]".utf8))), SourceRecord(.bytes(event(1).utf8)),
            SourceRecord(.bytes(Array("{\"event_id\":\"\u{FF}\"}".utf8) + [0xC0])),
          ]))
      #expect(receipt.accepted == 1 && receipt.dead == 5)
      let codes = try database.deadLetters(DeadLetterQuery()).map(\.letter.code)
      #expect(
        codes == [
          "invalid_json", "invalid_json", "invalid_json", "invalid_row", "invalid_json",
        ])
    }
  }

  @Test func `of a strict table refuses the whole batch`() async throws {
    var table = eventTable
    if case .object(let members) = table {
      table = .object(members + [JSON.Member("strict", true)])
    }
    try await withDatabase(table: table) { database, _ in
      let problems = await #expect(throws: Diagnostics.self) {
        _ = try await database.ingest(
          request([event(1), event(2, more: [.init("ratio", "x")])]))
      }
      #expect(problems?.all.map(\.place) == ["data[1].ratio"])
      let count = try database.table(named: "events").rowCount
      let letters = try database.deadLetters(DeadLetterQuery())
      #expect(count == 0 && letters.isEmpty)
    }
  }

  @Test func `checks what a table's rules ask for`() async throws {
    var table = eventTable
    if case .object(let members) = table {
      table = .object(
        members + [
          JSON.Member(
            "contract",
            [
              "event": ["required": true, "allowed": ["view", "like"]],
              "ratio": ["min": 0, "max": 1],
            ])
        ])
    }
    try await withDatabase(table: table) { database, _ in
      let receipt = try await database.ingest(
        request([
          event(1), event(2, more: [.init("ratio", 1.5)]), event(3, more: [.init("event", .null)]),
          event(4, more: [.init("event", "lke")]), event(5, more: [.init("ratio", .null)]),
        ]))
      #expect(receipt.accepted == 2)
      let letters = try database.deadLetters(DeadLetterQuery())
      #expect(
        letters.map(\.letter.code) == [
          "value_out_of_range", "missing_value", "value_not_allowed",
        ])
      #expect(letters[2].letter.reason.contains("Did you mean `like`?"))
    }
  }

  @Test func `with a known key changes nothing`() async throws {
    try await withDatabase { database, _ in
      var first = request([event(1), event(2), ["event_id": "x", "ratio": "bad"]])
      first.key = "k1"
      first.fingerprint = "f"
      let a = try await database.ingest(first)
      let b = try await database.ingest(first)
      #expect(!a.isRepetition && b.isRepetition)
      #expect(b.accepted == 2 && b.dead == 1 && b.through == a.through)
      #expect(b.problems.map(\.message) == a.problems.map(\.message))
      #expect(try database.deadLetterCounts().map(\.count) == [1])
      first.fingerprint = "g"
      let problem = await #expect(throws: Diagnostic.self) {
        _ = try await database.ingest(first)
      }
      #expect(problem?.code == "idempotency_key_reused")
    }
  }

  @Test func `into an unknown table is refused with the nearest name`() async throws {
    try await withDatabase { database, _ in
      let problem = await #expect(throws: Diagnostic.self) {
        _ = try await database.ingest(IngestRequest(source: "s", table: "event", records: []))
      }
      #expect(problem?.code == "unknown_table" && problem?.help == "Did you mean `events`?")
    }
  }
}

@Suite struct `Dead letters` {
  @Test func `come in once the table has their column`() async throws {
    try await withDatabase { database, _ in
      _ = try await database.ingest(
        request([
          event(1, more: [.init("device", "phone")]), event(2, more: [.init("ratio", "x")]),
        ]))
      let first = try await database.replayDeadLetters(DeadLetterQuery())
      #expect(first.mended == 0 && first.remaining == 2)
      #expect(first.problems.count == 2)
      _ = try await database.alterTable([
        "name": "events", "column_schema": ["device": "String"],
      ])
      let second = try await database.replayDeadLetters(DeadLetterQuery())
      #expect(second.mended == 1 && second.remaining == 1)
      #expect(try database.table(named: "events").rowCount == 1)
      #expect(try database.deadLetterCounts().map(\.code) == ["type_mismatch"])
      #expect(try await database.dropDeadLetters(DeadLetterQuery()) == 1)
      #expect(try database.deadLetterCounts().isEmpty)
    }
  }
}

@Suite struct `Retention` {
  @Test func `lets old rows go by age and by number, and engines follow`() async throws {
    try await withDatabase { database, _ in
      let now = Timestamp.now().microsecondsSinceEpoch / 1000
      func aged(_ id: Int, days: Int64) -> JSON {
        event(id, more: [.init("created_at", .int(now - days * 86_400_000))])
      }
      let engine = try await database.createEngine(
        parsing: "name: feed\ndata: {interaction_table: events}")
      _ = try await database.ingest(
        request((0..<100).map { aged($0, days: Int64($0) / 10) } + [aged(100, days: 0)]))
      #expect(try await database.applyRetention() == 0)
      _ = try await database.alterTable([
        "name": "events", "retention": ["max_age": "5d", "time_column": "created_at"],
      ])
      #expect(try await database.applyRetention() == 50)
      #expect(engine.snapshot.interactionCount == 51)
      _ = try await database.alterTable(["name": "events", "retention": ["max_rows": 7]])
      #expect(try await database.applyRetention() == 44)
      #expect(try database.table(named: "events").rowCount == 7)
      #expect(engine.snapshot.interactionCount == 7)
      #expect(engine.asOf == database.through)
    }
  }
}

@Suite struct `Altered tables` {
  @Test func `reach the catalog of an engine without folding again`() async throws {
    try await withDatabase { database, path in
      _ = try await database.createTable([
        "name": "items", "unique_keys": ["item_id"],
        "column_schema": ["item_id": "String", "price": "Int32"],
      ])
      let engine = try await database.createEngine(
        parsing: "name: feed\ndata: {interaction_table: events, item_table: items}")
      _ = try await database.insert(["data": [["item_id": "i1", "price": 3]]], into: "items")
      _ = try await database.insert(["data": [event(1)]], into: "events")
      _ = try await database.alterTable([
        "name": "items", "column_schema": ["price": "Double", "brand": "String"],
      ])
      _ = try await database.insert(
        ["data": [["item_id": "i2", "price": 2.5, "brand": "b"]]], into: "items")
      let catalog = engine.snapshot.catalog
      let rows = try ["i1", "i2"].map { id in
        try #require(engine.snapshot.row(of: ItemID(id))).index
      }
      #expect(catalog["price"]?.value(at: rows[0]) == .double(3))
      #expect(catalog["price"]?.value(at: rows[1]) == .double(2.5))
      #expect(catalog["brand"]?.value(at: rows[1]) == .string("b"))
      let problems = await #expect(throws: Diagnostics.self) {
        _ = try await database.alterTable([
          "name": "items", "unique_keys": ["brand"], "strct": true,
          "column_schema": ["price": "Int32", "user_id": "Sting"],
        ])
      }
      #expect(
        problems?.all.map(\.code) == [
          "unknown_member", "unique_keys_fixed", "unknown_column_type", "type_not_wider",
        ])
      database.close()
      let again = try reopen(path)
      defer { again.close() }
      let restored = try again.engine(named: "feed").snapshot
      let row = try #require(restored.row(of: ItemID("i1"))).index
      #expect(restored.catalog["price"]?.value(at: row) == .double(3))
    }
  }

  @Test func `keep the digits of numbers that become text`() async throws {
    try await withDatabase(
      table: ["name": "events", "unique_keys": ["n"], "column_schema": ["n": "Int64"]]
    ) { database, _ in
      _ = try await database.insert(["data": [["n": 7], ["n": 8]]], into: "events")
      _ = try await database.alterTable(["name": "events", "column_schema": ["n": "String"]])
      _ = try await database.insert(["data": [["n": "007"], ["n": "8"]]], into: "events")
      var values: [Value] = []
      try database.rows(of: "events") { rows in values += rows.map { $0.values[0] } }
      #expect(values == [.string("7"), .string("007"), .string("8")])
    }
  }
}

@Suite struct `Stored states` {
  private func item(_ random: inout Dice) -> JSON {
    [
      "item_id": .string("i\(Int.random(in: 0..<20, using: &random))"),
      "price": .int(Int64.random(in: 0..<9, using: &random)),
    ]
  }

  @Test(arguments: [1, 2] as [UInt64])
  func `give the same engine as folding the whole log`(seed: UInt64) async throws {
    try await withDatabase { database, path in
      let yaml = """
        name: feed
        data:
          interaction_table: events
          item_table: items
          user_table: people
          filters:
            - name: liked
              filter_table: {type: query, query: "SELECT user_id, item_id FROM events WHERE event = 'like'"}
              filter_type: {type: personal, user_id_column: user_id, item_id_column: item_id}
            - name: recalled
              filter_table: {type: table, name: recalled}
              filter_type: {type: global, item_id_column: item_id}
        """
      _ = try await database.createTable([
        "name": "items", "unique_keys": ["item_id"],
        "column_schema": ["item_id": "String", "price": "Int32"],
      ])
      _ = try await database.createTable([
        "name": "people", "unique_keys": ["user_id"],
        "column_schema": ["user_id": "String", "country": "String"],
      ])
      _ = try await database.createTable([
        "name": "recalled", "unique_keys": ["shelf"],
        "column_schema": ["shelf": "String", "item_id": "String"],
      ])
      _ = try await database.createEngine(parsing: yaml)
      var random = Dice(state: seed)
      func traffic() async throws {
        for _ in 0..<12 {
          _ = try await database.ingest(
            request((0..<40).map { _ in event(Int.random(in: 0..<300, using: &random)) }))
          _ = try await database.insert(
            ["data": .array((0..<5).map { _ in item(&random) })], into: "items")
          let person = Int.random(in: 0..<9, using: &random)
          let shelf = Int.random(in: 0..<4, using: &random)
          _ = try await database.insert(
            ["data": [["user_id": .string("u\(person)"), "country": .string("c\(shelf)")]]],
            into: "people")
          _ = try await database.insert(
            ["data": [["shelf": .string("s\(shelf)"), "item_id": .string("i\(person)")]]],
            into: "recalled")
        }
      }
      try await traffic()
      try await database.storeStates()
      // Some of what the stored state holds is replaced, and more comes.
      try await traffic()
      let expected = try database.engine(named: "feed").snapshot
      let copy = path + "-killed"
      defer { try? FileManager.default.removeItem(atPath: copy) }
      try FileManager.default.copyItem(atPath: path, toPath: copy)
      try? FileManager.default.removeItem(atPath: copy + "/LOCK")
      for usesState in [true, false] {
        if !usesState { try FileManager.default.removeItem(atPath: copy + "/states") }
        let again = try reopen(copy)
        let state = try again.engine(named: "feed").snapshot
        #expect(state.through == expected.through)
        #expect(state.interactionCount == expected.interactionCount)
        expected.forEachUser { id, user in
          let other = state.user(id)
          #expect(other?.history.map(\.position) == user.history.map(\.position))
          #expect(
            other?.history.map { state.itemID(of: $0.row) }
              == user.history.map { expected.itemID(of: $0.row) })
        }
        for item in 0..<20 {
          let id = ItemID("i\(item)")
          let a = expected.row(of: id).flatMap { expected.catalog["price"]?.value(at: $0.index) }
          let b = state.row(of: id).flatMap { state.catalog["price"]?.value(at: $0.index) }
          #expect(a == b)
          func isRecalled(_ state: StateSnapshot) -> Bool {
            let bits = state.forbidden(filter: 1)
            return state.row(of: id).map { $0.index < bits.count && bits[$0.index] } ?? false
          }
          #expect(isRecalled(state) == isRecalled(expected), "\(id)")
        }
        for user in 0..<9 {
          let id = UserID("u\(user)")
          func liked(_ state: StateSnapshot) -> Set<ItemID> {
            Set(state.forbidden(filter: 0, user: id).map { state.itemID(of: $0) })
          }
          #expect(liked(state) == liked(expected), "\(id)")
          func country(_ state: StateSnapshot) -> Value? {
            state.userCode(id).flatMap { state.userTable["country"]?.value(at: Int($0)) }
          }
          #expect(country(state) == country(expected), "\(id)")
        }
        // The state was used, and not thrown away as one that does not fit.
        #expect(!usesState || FileManager.default.fileExists(atPath: copy + "/states/feed.state"))
        again.close()
      }
    }
  }
}

@Suite struct `Erasure of a user` {
  @Test func `leaves no byte of the id in the data directory`() async throws {
    try await withDatabase { database, path in
      let secret = "person-7f3a9c"
      let engine = try await database.createEngine(
        parsing: "name: feed\ndata: {interaction_table: events}")
      for round in 0..<8 {
        var records: [JSON] = []
        for i in 0..<60 {
          let user: [JSON.Member] = i % 5 == 0 ? [.init("user_id", .string(secret))] : []
          records.append(event(round * 60 + i, more: user))
        }
        records.append([
          "event_id": .string("x\(round)"), "user_id": .string(secret), "ratio": "bad",
        ])
        _ = try await database.ingest(request(records))
        // Rows that are replaced leave copies behind.
        let again: [JSON] = (0..<30).map { i in
          event(round * 60 + i, more: [JSON.Member("item_id", "again")])
        }
        _ = try await database.ingest(request(again))
      }
      var keyed = request([["event_id": "y", "user_id": .string(secret), "ratio": .string(secret)]])
      keyed.key = "key-" + secret
      _ = try await database.ingest(keyed)
      try await database.storeStates()
      let export = try database.exportUser(secret)
      let exported = try #require(export["tables"]?["events"]?.array)
      #expect(exported.count == 48)
      #expect(exported.allSatisfy { $0["user_id"] == .string(secret) })
      #expect(export["dead_letters"]?.array?.count == 9)
      #expect(occurrences(of: secret, in: path) > 0)

      let receipt = try await database.eraseUser(secret)
      #expect(receipt.rows == ["events": 48] && receipt.deadLetters == 9)
      #expect(receipt.occurrencesLeft == 0)
      #expect(occurrences(of: secret, in: path) == 0)
      #expect(engine.snapshot.user(UserID(secret)) == nil)
      #expect(engine.asOf >= receipt.through)
      // The others are all there, and stay so over a restart.
      let count = try database.table(named: "events").rowCount
      #expect(engine.snapshot.interactionCount == count)
      try await database.storeStates()
      database.close()
      #expect(occurrences(of: secret, in: path) == 0)
      let again = try reopen(path)
      defer { again.close() }
      #expect(try again.engine(named: "feed").snapshot.interactionCount == count)
      #expect(try again.exportUser(secret)["tables"] == .object([]))
    }
  }

  /// How often a text stands in the files of a directory, byte by byte.
  private func occurrences(of text: String, in path: String) -> Int {
    var total = 0
    for case let name as String in FileManager.default.enumerator(atPath: path) ?? .init() {
      guard let data = FileManager.default.contents(atPath: path + "/" + name) else { continue }
      var start = data.startIndex
      while let found = data.range(of: Data(text.utf8), in: start..<data.endIndex) {
        total += 1
        start = found.upperBound
      }
    }
    return total
  }
}
