import Domain
import Engine
import Foundation
import Storage

extension API {
  func listViews() -> APIReply {
    Self.json(["views": .array(database.views.map { .object(Self.members(of: $0)) })])
  }

  func viewView(_ name: String) async throws -> APIReply {
    let view = try database.view(named: name)
    var members = Self.members(of: view)
    let definition = view.definition
    members += [
      JSON.Member("sql_query", .string(definition.sql)),
      JSON.Member("sql_transform_type", .string(definition.kind.rawValue)),
      JSON.Member(
        "schema",
        .object(view.columns.map { JSON.Member($0.name, .string($0.type.rawValue)) })),
      JSON.Member("upkeep", .string(view.upkeep.rawValue)),
      JSON.Member("upkeep_reason", view.upkeepReason.map { .string($0) } ?? .null),
    ]
    if view.upkeep == .onSchedule {
      members.append(JSON.Member("refresh_seconds", .int(Int64(definition.refreshSeconds))))
      members.append(
        JSON.Member("refreshed_at", view.refreshedAt.map { .string($0.iso8601) } ?? .null))
    }
    if view.upkeep == .withEachRow {
      members.append(JSON.Member("filled_through", .int(view.filledThrough.rawValue)))
    }
    let count = try await outsideThePool { try database.rowCount(ofView: name) }
    members.append(JSON.Member("row_count", count.map { .int(Int64($0)) } ?? .null))
    members.append(JSON.Member("misfit_cells", .int(Int64(view.misfits))))
    members.append(JSON.Member("error_message", view.problem.map { .string($0) } ?? .null))
    return Self.json(.object(members))
  }

  private static func members(of view: StoredView) -> [JSON.Member] {
    [
      JSON.Member("name", .string(view.definition.name)),
      JSON.Member("uri", .string("/v2/views/\(view.definition.name)")),
      JSON.Member("created_at", .string(view.createdAt.iso8601)),
      JSON.Member("type", "SQL"),
      JSON.Member("status", .string(view.status.rawValue)),
      JSON.Member("source_table_names", .array(view.sources.map { .string($0) })),
      JSON.Member("description", view.definition.description.map { .string($0) } ?? .null),
    ]
  }

  /// Makes a view, or by PATCH replaces one.
  func setView(_ request: APIRequest) async throws -> APIReply {
    let body = try await jsonBody(request)
    let replaces = request.method == "PATCH"
    let view =
      replaces ? try await database.replaceView(body) : try await database.createView(body)
    let how =
      switch view.upkeep {
      case .withEachRow: "It is kept up to date with each row."
      case .onSchedule:
        "It is computed every \(view.definition.refreshSeconds) seconds, because "
          + "\(view.upkeepReason ?? "of its form")."
      case .whenRead: "It is computed when it is read."
      }
    return Self.json([
      "message": .string(
        "View `\(view.definition.name)` is \(replaces ? "replaced" : "made"). \(how)"),
      "upkeep": .string(view.upkeep.rawValue),
    ])
  }
}
