import Domain
import Engine
import Foundation
import Ingest
import Logging
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
      #expect(try database.table(named: "events").rowCount == 0)
      #expect(try database.deadLetters(DeadLetterQuery()).isEmpty)
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
