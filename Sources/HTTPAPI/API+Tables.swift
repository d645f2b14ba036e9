import Domain
import Engine
import Foundation
import Ingest
import Storage

extension API {
  func listTables() -> APIReply {
    Self.json(["tables": .array(database.tables.map { .object(Self.members(of: $0)) })])
  }

  func viewTable(_ name: String) async throws -> APIReply {
    let table = try await offThePool { try database.table(named: name) }
    let alerts = try database.schemaAlerts(table: name)
    let dead = try await offThePool { try database.deadLetterCounts(table: name) }
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
    members.append(
      JSON.Member("dead_letter_count", .int(Int64(dead.reduce(0) { $0 + $1.count }))))
    members.append(
      JSON.Member(
        "warning_message",
        alerts.isEmpty ? .null : .string(alerts.map(\.message).joined(separator: "\n"))))
    members.append(JSON.Member("alerts", .array(alerts.map(\.json))))
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

  func alterTable(_ request: APIRequest) async throws -> APIReply {
    let schema = try await database.alterTable(try await jsonBody(request))
    return Self.json([
      "message": .string("Table `\(schema.name)` is changed."),
      "schema": .object(
        schema.columns.map { JSON.Member($0.name, .string($0.type.rawValue)) }),
    ])
  }

  func alerts(_ table: String?) throws -> APIReply {
    Self.json(["alerts": .array(try database.schemaAlerts(table: table).map(\.json))])
  }

  func clearAlerts(_ table: String) throws -> APIReply {
    let count = try database.clearSchemaAlerts(table: table)
    return Self.json(["message": .string("Cleared \(count) alerts of `\(table)`.")])
  }

  /// Runs what waits for the disk on a thread that is none of the shared pool's.
  func offThePool<Answer: Sendable>(
    _ body: @escaping @Sendable () throws -> Answer
  ) async throws -> Answer {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(with: Result { try body() }) }
    }
  }
}
