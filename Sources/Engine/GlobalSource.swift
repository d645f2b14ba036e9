import Columns
import Domain
import QueryEngine
import State
import Storage

/// What the global query endpoint reads: the log's tables, and the items and events of every engine.
struct GlobalSource: QuerySource {
  let tables: TableReader
  let log: LogStore
  let now: Timestamp
  let engine: @Sendable (String) -> ServedEngine?

  var tableNames: [String] {
    let views = log.views().map(\.definition.name)
    return tables.names.filter { !views.contains($0) }.map { "data.\($0)" }
      + views.map { "view.\($0)" }
  }

  /// A plain view is computed for the query: within these bounds.
  private static let mostRows = 1_000_000
  private static let mostSeconds = 10.0

  func table(_ reference: TableReference) throws -> ColumnTable? {
    switch reference {
    case .table("data", let name): return try tables.table(name)
    case .table("view", let name): return try view(name)
    case .table: return nil
    case .entity(let entity, let name):
      guard let name else {
        throw Diagnostic(
          code: "unknown_engine", "`\(entity)` belongs to an engine.",
          help: "Name it: FROM engine.NAME.\(entity), or read a table: FROM data.NAME.")
      }
      guard let engine = engine(name) else {
        throw Diagnostic(
          .notFound, code: "unknown_engine", "There is no engine `\(name)`.")
      }
      switch entity {
      case "item", "items": return engine.snapshot.catalog
      case "user", "users": return engine.snapshot.userTable
      case "interactions":
        return try tables.table(engine.mapping.interactionTable.name, engine.interactionRoles)
      default: return nil
      }
    }
  }

  private func view(_ name: String) throws -> ColumnTable {
    let view = try log.view(name)
    if view.definition.kind == .materialised, let table = try tables.table(name) { return table }
    var table = ColumnTable(view.columns)
    let start = ContinuousClock.now
    _ = try log.readView(
      name, mostRows: Self.mostRows,
      isOver: { ContinuousClock.now - start > .seconds(Self.mostSeconds) }
    ) { values in
      table.setRow(table.appendEmptyRow(), to: values.map(TableReader.cell))
    }
    return table
  }

  // It ranks nothing.
  var items: ColumnTable { ColumnTable([]) }
  var listed: Bitmap { Bitmap(count: 0) }
  var catalogVersion: UInt64 { 0 }
  func itemID(of row: CatalogRow) -> ItemID { ItemID("") }
  func row(of id: ItemID) -> CatalogRow? { nil }
  var embeddingNames: [String] { [] }
  var modelNames: [String] { [] }
  var filterNames: [String] { [] }
  func nearest(
    embedding: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) -> Nearest { Nearest(rows: [], scores: []) }
  func scores(model: String, for user: UserInput, rows: [CatalogRow]) -> [Float?] {
    rows.map { _ in nil }
  }
  func forbidden(filter: String, user: UserID?) -> [CatalogRow] { [] }
}
