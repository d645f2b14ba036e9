import Domain
import Engine
import Ingest
import Storage

extension API {
  func listTables() -> APIReply {
    Self.json(["tables": .array(database.tables.map { .object(Self.members(of: $0)) })])
  }

  func viewTable(_ name: String) throws -> APIReply {
    let table = try database.table(named: name)
    var members = Self.members(of: table)
    members.append(
      JSON.Member(
        "schema",
        .object(table.schema.columns.map { JSON.Member($0.name, .string($0.type.rawValue)) })))
    members.append(
      JSON.Member("unique_keys", .array(table.schema.uniqueKeys.map { .string($0) })))
    if table.schema.rules != TableRules() {
      members.append(JSON.Member("rules", table.schema.rules.json))
    }
    members.append(JSON.Member("row_count", .int(Int64(table.rowCount))))
    return Self.json(.object(members))
  }

  private static func members(of table: TableInfo) -> [JSON.Member] {
    [
      JSON.Member("name", .string(table.schema.name)),
      JSON.Member("uri", .string("/v2/tables/\(table.schema.name)")),
      JSON.Member("schema_type", "CUSTOM"),
      JSON.Member("status", "ACTIVE"),
      JSON.Member("created_at", .string(table.createdAt.iso8601)),
      JSON.Member("description", table.schema.description.map { .string($0) } ?? .null),
    ]
  }

  func createTable(_ request: APIRequest) async throws -> APIReply {
    let body = try await jsonBody(request)
    let schema = try await database.createTable(body)
    return Self.json(["message": .string("Table `\(schema.name)` is ready.")])
  }

  func insert(_ request: APIRequest, into table: String) async throws -> APIReply {
    let bytes = try await request.body()
    let body = try JSON(parsing: bytes)
    let receipt: IngestReceipt
    do {
      var ingest = IngestRequest(
        source: "http", table: table, records: try InsertBody.records(body))
      ingest.byteCount = bytes.count
      receipt = try await database.ingest(ingest)
    } catch let problems as Diagnostics {
      // A row that does not fit its table is a bad request, by the documented API.
      return Self.failure(problems, invalidStatus: 400)
    }
    return Self.inserted(receipt)
  }

  /// The answer to an insert whose receipt is there: an error where nothing went in.
  static func inserted(_ receipt: IngestReceipt) -> APIReply {
    if receipt.accepted == 0, receipt.dead > 0 {
      var problems = receipt.problems
      problems.append(
        Diagnostic(
          code: "dead_letters",
          receipt.dead == 1
            ? "The row does not fit; it is kept as a dead letter."
            : "None of the \(receipt.dead) rows fits; they are kept as dead letters.",
          help: "Mend the table or its rules, then: riffle dead-letters replay."))
      return failure(Diagnostics(problems), invalidStatus: 400)
    }
    var out: [UInt8] = []
    out.reserveCapacity(160)
    out += "{\"message\":\"Inserted ".utf8
    out += String(receipt.accepted).utf8
    out += (receipt.accepted == 1 ? " row" : " rows").utf8
    if receipt.dead > 0 { out += "; \(receipt.dead) did not fit and are kept as dead letters".utf8 }
    out += ".\",\"as_of\":".utf8
    out += String(receipt.through.rawValue).utf8
    out += ",\"accepted\":\(receipt.accepted)".utf8
    if receipt.replaced > 0 { out += ",\"replaced\":\(receipt.replaced)".utf8 }
    if receipt.isRepetition { out += ",\"repeated\":true".utf8 }
    if receipt.dead > 0 {
      out += ",\"dead_letters\":\(receipt.dead),\"problems\":".utf8
      JSON.array(receipt.problems.map { EngineDetails.json($0) }).write(into: &out)
    }
    if !receipt.alerts.isEmpty {
      out += ",\"alerts\":".utf8
      JSON.array(receipt.alerts.map(\.json)).write(into: &out)
    }
    out += "}".utf8
    return Self.bytes(out)
  }
}
