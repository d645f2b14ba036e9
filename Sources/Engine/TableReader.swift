import Columns
import Domain
import Foundation
import Storage
import Synchronization

/// Tables of the log as columns in memory, for data queries.
///
/// A table is read when a query first asks for it; later queries read only the rows that have come
/// since. A few tables are kept: the others are read again. Reading waits for the disk, so it is no
/// work for the shared pool.
final class TableReader: Sendable {
  private struct State {
    var tables: [String: (table: KeptTable, lastUsed: Int)] = [:]
    var tick = 0
  }

  private let log: LogStore
  private let state = Mutex(State())
  private static let mostTables = 4

  init(_ log: LogStore) { self.log = log }

  var names: [String] { log.tables().map(\.schema.name).sorted() }

  /// The columns of a table without its rows, or nil where there is no such table.
  func columns(_ name: String, _ roles: InteractionColumns.Roles? = nil) -> ColumnTable? {
    guard let schema = log.table(name)?.schema else { return nil }
    let table = ColumnTable(schema.columns)
    return roles.map {
      InteractionColumns().added(to: table, positions: ChunkedVector(), $0)
    } ?? table
  }

  /// Forgets a table of which rows have gone without another in their place.
  func rowsGone(_ batch: CommittedBatch) {
    let isKept = state.withLock { $0.tables[batch.table] != nil }
    guard isKept, let schema = log.table(batch.table)?.schema else { return }
    let keys = schema.uniqueKeys.compactMap { schema.index(of: $0) }
    if !keys.isEmpty {
      let new = Set(batch.inserted.map { row in keys.map { row.values[$0] } })
      if batch.replaced.allSatisfy({ row in new.contains(keys.map { row.values[$0] }) }) { return }
    }
    state.withLock { $0.tables[batch.table] = nil }
  }

  /// The rows of a table as they are now, or nil where there is no such table.
  ///
  /// They stand in the order in which they first came; a row that replaced another stands in its place.
  ///
  /// - Parameter roles: which columns tell sessions; then the derived columns of interactions stand behind
  ///   the others.
  func table(_ name: String, _ roles: InteractionColumns.Roles? = nil) throws -> ColumnTable? {
    guard let stored = log.table(name) else { return nil }
    let kept = state.withLock { state in
      state.tick += 1
      var kept = state.tables[name]?.table
      // A table that was dropped and made again is another one.
      if kept == nil || kept?.stored != stored { kept = KeptTable(stored) }
      guard let kept else { preconditionFailure("a table was made") }
      state.tables[name] = (kept, state.tick)
      while state.tables.count > Self.mostTables {
        guard let oldest = state.tables.min(by: { $0.value.lastUsed < $1.value.lastUsed }) else {
          break
        }
        state.tables[oldest.key] = nil
      }
      return kept
    }
    return try kept.rows(of: log, roles)
  }
}

/// One table in memory, with the one writer that may extend its dictionaries.
private final class KeptTable: Sendable {
  let stored: StoredTable
  private let contents: Mutex<Contents>
  /// A larger table is refused: it would not fit beside everything else.
  private static let mostRows = 50_000_000

  private struct Contents {
    var through = LogPosition.start
    var table: ColumnTable
    /// The row of each unique key; empty where nothing is ever replaced.
    var rows: [[Value]: Int32] = [:]
    /// Where each row stands in the log.
    var positions = ChunkedVector<Int64>()
    /// For each way in which engines read the table's sessions.
    var sessions: [InteractionColumns.Roles: InteractionColumns] = [:]
    let keys: [Int]
  }

  init(_ stored: StoredTable) {
    self.stored = stored
    let schema = stored.schema
    contents = Mutex(
      Contents(
        table: ColumnTable(schema.columns),
        keys: schema.uniqueKeys.compactMap { schema.index(of: $0) }
      ))
  }

  func rows(of log: LogStore, _ roles: InteractionColumns.Roles?) throws -> ColumnTable {
    try contents.withLock { contents in
      if let roles, contents.sessions[roles] == nil { KeptTable.addSessions(roles, &contents) }
      try KeptTable.catchUp(&contents, log, stored.schema)
      guard let roles, let sessions = contents.sessions[roles] else { return contents.table }
      return sessions.added(to: contents.table, positions: contents.positions, roles)
    }
  }

  private static func catchUp(
    _ contents: inout Contents, _ log: LogStore, _ schema: TableSchema
  ) throws {
    guard contents.through < log.through else { return }
    do {
      contents.through = try log.replay(
        tables: [schema.name], after: contents.through
      ) { batches, _ in
        for batch in batches {
          for row in batch.inserted { try KeptTable.take(row, &contents, schema.name) }
        }
      }
    } catch {
      // Half of the new rows may be in; the next query begins from nothing.
      let roles = contents.sessions.keys
      contents = Contents(table: ColumnTable(schema.columns), keys: contents.keys)
      for role in roles { contents.sessions[role] = InteractionColumns() }
      throw error
    }
  }

  /// Tells the sessions of the rows that are there already.
  private static func addSessions(
    _ roles: InteractionColumns.Roles, _ contents: inout Contents
  ) {
    var columns = InteractionColumns()
    if let user = contents.table[roles.user], let time = contents.table[roles.time] {
      for row in 0..<contents.table.rowCount {
        columns.take(row: row, user: user.value(at: row), time: time.value(at: row))
      }
    }
    contents.sessions[roles] = columns
  }

  private static func take(
    _ logged: LoggedRow, _ contents: inout Contents, _ name: String
  ) throws {
    let values = logged.values
    let key = contents.keys.map { values[$0] }
    // A row with a null in its key stands for itself.
    let isUnique = !key.isEmpty && !key.contains(where: \.isNull)
    if isUnique, let row = contents.rows[key] {
      contents.table.setRow(Int(row), to: values.map(TableReader.cell))
      contents.positions[Int(row)] = logged.position.rawValue
      note(Int(row), &contents)
      return
    }
    if contents.table.rowCount >= mostRows {
      throw Diagnostic(
        code: "table_too_large",
        "The table `\(name)` has more than \(mostRows) rows; data queries read no more.")
    }
    let row = contents.table.appendEmptyRow()
    contents.table.setRow(row, to: values.map(TableReader.cell))
    contents.positions.append(logged.position.rawValue)
    if isUnique { contents.rows[key] = Int32(row) }
    note(row, &contents)
  }

  private static func note(_ row: Int, _ contents: inout Contents) {
    for roles in contents.sessions.keys {
      guard let user = contents.table[roles.user]?.value(at: row),
        let time = contents.table[roles.time]?.value(at: row)
      else { continue }
      contents.sessions[roles]?.take(row: row, user: user, time: time)
    }
  }
}

extension TableReader {
  /// Columns hold bytes as Base64.
  static func cell(_ value: Value) -> Value {
    if case .bytes(let bytes) = value { return .string(Data(bytes).base64EncodedString()) }
    return value
  }
}
