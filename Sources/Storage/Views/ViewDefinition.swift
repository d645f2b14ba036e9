package import Domain

/// A query over tables that has a name.
package struct ViewDefinition: Hashable, Sendable {
  package enum Kind: String, Hashable, Sendable {
    /// Computed when it is read.
    case plain = "VIEW"
    /// Kept as rows of the log.
    case materialised = "MATERIALIZED_VIEW"
  }

  package var name: String
  package var sql: String
  package var kind: Kind
  package var description: String?
  /// Types of columns where those that follow from the query are not wanted.
  package var types: [String: ColumnType]
  /// Seconds between two computations, where the view is not kept up to date row by row.
  package var refreshSeconds: Int
  /// Made for an engine that reads a query; it goes with the engine.
  package var owner: String?

  package init(
    name: String, sql: String, kind: Kind, description: String? = nil,
    types: [String: ColumnType] = [:], refreshSeconds: Int = 60, owner: String? = nil
  ) {
    self.name = name
    self.sql = sql
    self.kind = kind
    self.description = description
    self.types = types
    self.refreshSeconds = refreshSeconds
    self.owner = owner
  }

  var json: JSON {
    [
      "name": .string(name), "sql": .string(sql), "kind": .string(kind.rawValue),
      "description": description.map { .string($0) } ?? .null,
      "types": .object(
        types.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value.rawValue)) }),
      "refresh_seconds": .int(Int64(refreshSeconds)),
      "owner": owner.map { .string($0) } ?? .null,
    ]
  }

  init?(_ json: JSON) {
    guard let name = json["name"]?.string, let sql = json["sql"]?.string,
      let kind = json["kind"]?.string.flatMap(Kind.init), let refresh = json["refresh_seconds"]?.int
    else { return nil }
    self.init(
      name: name, sql: sql, kind: kind, description: json["description"]?.string,
      refreshSeconds: Int(refresh), owner: json["owner"]?.string)
    for member in json["types"]?.object ?? [] {
      types[member.name] = member.value.string.flatMap(ColumnType.init)
    }
  }
}

/// A view as it stands.
package struct StoredView: Hashable, Sendable {
  /// How a view follows its tables.
  package enum Upkeep: String, Hashable, Sendable {
    /// Each row of one table gives at most one row: the view's rows are written in the commit that
    /// writes the table's.
    case withEachRow = "incremental"
    /// Computed anew from time to time.
    case onSchedule = "scheduled"
    /// Computed whenever it is read.
    case whenRead = "on_read"
  }

  package enum Status: String, Hashable, Sendable {
    case active = "ACTIVE"
    case backfilling = "BACKFILLING"
    case failed = "ERROR"
  }

  package var definition: ViewDefinition
  package var createdAt: Timestamp
  package var upkeep: Upkeep
  /// Why it is not kept up to date with each row; nil where it is.
  package var upkeepReason: String?
  /// The tables and views that it reads, by name.
  package var sources: [String]
  package var columns: [ColumnDefinition]
  package var status: Status
  /// What went wrong, where the status says so.
  package var problem: String?
  /// Source rows up to here are in the view.
  package var filledThrough: LogPosition
  /// When it was last computed as a whole.
  package var refreshedAt: Timestamp?
  /// Cells that did not fit their column and are null.
  package var misfits: Int

  var state: JSON {
    [
      "upkeep": .string(upkeep.rawValue),
      "reason": upkeepReason.map { .string($0) } ?? .null,
      "sources": .array(sources.map { .string($0) }),
      "columns": .array(
        columns.map { ["name": .string($0.name), "type": .string($0.type.rawValue)] }),
      "status": .string(status.rawValue), "problem": problem.map { .string($0) } ?? .null,
      "filled_through": .int(filledThrough.rawValue),
      "refreshed_at": refreshedAt.map { .int($0.microsecondsSinceEpoch) } ?? .null,
      "misfits": .int(Int64(misfits)),
    ]
  }

  init(
    _ definition: ViewDefinition, createdAt: Timestamp, plan: ViewPlan,
    columns: [ColumnDefinition]
  ) {
    self.definition = definition
    self.createdAt = createdAt
    upkeep = plan.upkeep
    upkeepReason = plan.reason
    sources = plan.sources
    self.columns = columns
    status = definition.kind == .plain ? .active : .backfilling
    filledThrough = .start
    misfits = 0
  }

  init?(_ definition: ViewDefinition, createdAt: Timestamp, state: JSON) {
    guard let upkeep = state["upkeep"]?.string.flatMap(Upkeep.init),
      let status = state["status"]?.string.flatMap(Status.init),
      let sources = state["sources"]?.array?.compactMap(\.string),
      let filled = state["filled_through"]?.int, let misfits = state["misfits"]?.int
    else { return nil }
    self.definition = definition
    self.createdAt = createdAt
    self.upkeep = upkeep
    upkeepReason = state["reason"]?.string
    self.sources = sources
    columns = (state["columns"]?.array ?? []).compactMap { column in
      guard let name = column["name"]?.string,
        let type = column["type"]?.string.flatMap(ColumnType.init)
      else { return nil }
      return ColumnDefinition(name: name, type: type)
    }
    self.status = status
    problem = state["problem"]?.string
    filledThrough = LogPosition(filled)
    refreshedAt = state["refreshed_at"]?.int.map { Timestamp(microsecondsSinceEpoch: $0) }
    self.misfits = Int(misfits)
  }
}

/// GRDB has a type of the same name.
typealias ViewColumn = ColumnDefinition
