import Domain
import Engine

extension API {
  func listTables() -> APIReply {
    Self.json(["tables": .array(database.tables.map { .object(Self.members(of: $0)) })])
  }

  func viewTable(_ name: String) async throws -> APIReply {
    // The rows are counted in the database.
    let table = try await outsideThePool { [database] in try database.table(named: name) }
    var members = Self.members(of: table)
    members.append(
      JSON.Member(
        "schema",
        .object(table.schema.columns.map { JSON.Member($0.name, .string($0.type.rawValue)) })))
    members.append(
      JSON.Member("unique_keys", .array(table.schema.uniqueKeys.map { .string($0) })))
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
    let body = try await jsonBody(request)
    let receipt: InsertReceipt
    do { receipt = try await database.insert(body, into: table) } catch let problems as Diagnostics
    {
      // A row that does not fit its table is a bad request, by the documented API.
      return Self.failure(problems, invalidStatus: 400)
    }
    var out: [UInt8] = []
    out.reserveCapacity(80)
    out += "{\"message\":\"Inserted ".utf8
    out += String(receipt.rowCount).utf8
    out += (receipt.rowCount == 1 ? " row.\",\"as_of\":" : " rows.\",\"as_of\":").utf8
    out += String(receipt.through.rawValue).utf8
    out += "}".utf8
    return Self.bytes(out)
  }
}
