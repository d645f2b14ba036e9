import Domain
import GRDB
import GRDBSQLite

/// The body of the writer's thread: the only code that changes rows.
///
/// Not `Sendable`: it is made on that thread and stays there, so its statements and its counter
/// need no lock.
final class LogWriter {
  /// What one append did to its table.
  private struct Change {
    var inserted: [LoggedRow] = []
    var replaced: [LoggedRow] = []
  }

  /// The statements of one table.
  private struct TableStatements {
    var insert: RawStatement
    var delete: RawStatement
    /// Finds the row with the same unique key; nil where the table has none.
    var find: RawStatement?
    /// Places of the unique keys in a row.
    var keys: [Int]

    init(_ schema: TableSchema, _ database: Database) throws {
      let table = quoted(schema.name)
      let columns = schema.columns.map { ", " + quoted($0.name) }.joined()
      let marks = String(repeating: ", ?", count: schema.columns.count)
      insert = try RawStatement(
        database, "INSERT INTO \(table) (_position\(columns)) VALUES (?\(marks))")
      delete = try RawStatement(database, "DELETE FROM \(table) WHERE _position = ?")
      keys = schema.uniqueKeys.compactMap { schema.index(of: $0) }
      if !keys.isEmpty {
        let test = schema.uniqueKeys.map { quoted($0) + " = ?" }.joined(separator: " AND ")
        find = try RawStatement(
          database, "SELECT _position\(columns) FROM \(table) WHERE \(test)")
      }
    }
  }

  private let shared: WriterQueue
  private let database: DatabasePool
  private let path: String
  private var statements: [String: TableStatements] = [:]
  private var savepoint: (begin: RawStatement, release: RawStatement, rollBack: RawStatement)?
  private var keepPosition: RawStatement?
  /// The last committed position.
  private(set) var through: LogPosition

  init(shared: WriterQueue, database: DatabasePool, path: String, through: LogPosition) {
    self.shared = shared
    self.database = database
    self.path = path
    self.through = through
  }

  /// Works until the queue is closed and empty.
  func run() {
    while let work = shared.next() {
      switch work {
      case .appends(let appends): commit(appends)
      case .perform(let body): body(self)
      }
    }
  }

  /// Runs changes other than appends in a transaction of their own.
  func transaction<Result>(
    doing action: String, _ body: (Database) throws -> Result
  ) throws(Diagnostic) -> Result {
    try translatingFaults(path: path, doing: action) {
      try database.writeWithoutTransaction { database in
        try LogWriter.inTransaction(database) { try body(database) }
      }
    }
  }

  /// Reads on the writer's own connection.
  func reading<Result>(
    doing action: String, _ body: (Database) throws -> Result
  ) throws(Diagnostic) -> Result {
    try translatingFaults(path: path, doing: action) {
      try database.writeWithoutTransaction(body)
    }
  }

  /// Forgets the statements of a table that is about to go.
  func forget(table: String) { statements[table] = nil }

  // MARK: Appends

  /// Commits a group of appends in one transaction, shows it to the observer, and answers each.
  private func commit(_ appends: [PendingAppend]) {
    var outcomes: [Result<AppendReceipt, Diagnostic>] = []
    var changes: [(table: String, change: Change)] = []
    let before = through
    var last = before
    do {
      try database.writeWithoutTransaction { database in
        try LogWriter.inTransaction(database) {
          for append in appends {
            let start = last
            do {
              let change = try isolated(database, appends.count > 1) {
                try insert(append, into: database, last: &last)
              }
              outcomes.append(
                .success(
                  AppendReceipt(
                    first: start.next, through: last, insertedCount: append.rows.count,
                    replacedCount: change.replaced.count)))
              changes.append((append.schema.name, change))
            } catch {
              // Alone in its transaction, or after a fault that ended it: nothing of the group is
              // left.
              guard appends.count > 1, database.isInsideTransaction else { throw error }
              last = start
              outcomes.append(.failure(fault(error)))
            }
          }
          if last > before { try keep(last, in: database) }
        }
      }
    } catch {
      statements = [:]
      let fault = fault(error)
      for append in appends { append.finish(.failure(fault)) }
      return
    }
    through = last
    shared.through = last
    if last > before { shared.observe(LogWriter.batches(changes, after: before), last) }
    for (append, outcome) in zip(appends, outcomes) { append.finish(outcome) }
  }

  private func fault(_ error: any Error) -> Diagnostic {
    StorageFault.diagnostic(error, path: path, doing: "store the rows")
  }

  /// Inserts the rows of one append, each in place of the row that bears the same unique key.
  private func insert(
    _ append: PendingAppend, into database: Database, last: inout LogPosition
  ) throws -> Change {
    let schema = append.schema
    guard shared.table(schema.name)?.schema == schema else {
      throw Diagnostic(
        .notFound, code: "unknown_table", "The table `\(schema.name)` is gone.", at: "table",
        help: "Create it again before inserting rows.")
    }
    let table = try statements(for: schema, database)
    var change = Change()
    change.inserted.reserveCapacity(append.rows.count)
    for row in append.rows {
      last = last.next
      try table.insert.bind(last.rawValue, at: 1)
      for place in row.indices { try table.insert.bind(row[place], at: Int32(place + 2)) }
      if try !table.insert.insert() {
        // The key is taken: the later row wins. Trying first is cheap, because most keys are new.
        change.replaced.append(try take(rowLike: row, of: schema, table))
        guard try table.insert.insert() else {
          throw DatabaseError(message: "a unique key of `\(schema.name)` is taken twice")
        }
      }
      change.inserted.append(LoggedRow(position: last, values: row))
    }
    return change
  }

  /// Removes the row with the same unique key and returns it.
  private func take(
    rowLike row: [Value], of schema: TableSchema, _ table: TableStatements
  ) throws -> LoggedRow {
    guard let find = table.find else {
      throw DatabaseError(message: "`\(schema.name)` has a unique index and no unique key")
    }
    for (i, key) in table.keys.enumerated() { try find.bind(row[key], at: Int32(i + 1)) }
    guard try find.step() else {
      throw DatabaseError(message: "the row that holds a unique key was not found")
    }
    let old = try find.row(of: schema)
    find.reset()
    try table.delete.bind(old.position.rawValue, at: 1)
    _ = try table.delete.step()
    return old
  }

  private func statements(for schema: TableSchema, _ database: Database) throws -> TableStatements {
    if let known = statements[schema.name] { return known }
    let made = try TableStatements(schema, database)
    statements[schema.name] = made
    return made
  }

  private func keep(_ position: LogPosition, in database: Database) throws {
    let statement =
      try keepPosition
      ?? RawStatement(database, "UPDATE _riffle_meta SET value = ? WHERE name = 'position'")
    keepPosition = statement
    try statement.bind(position.rawValue, at: 1)
    _ = try statement.step()
  }

  // MARK: Transactions

  /// Runs a body so that its failure undoes its own changes only.
  private func isolated<Result>(
    _ database: Database, _ hasNeighbours: Bool, _ body: () throws -> Result
  ) throws -> Result {
    guard hasNeighbours else { return try body() }
    let point =
      try savepoint
      ?? (
        RawStatement(database, "SAVEPOINT append"),
        RawStatement(database, "RELEASE append"),
        RawStatement(database, "ROLLBACK TO append")
      )
    savepoint = point
    _ = try point.begin.step()
    do {
      let result = try body()
      _ = try point.release.step()
      return result
    } catch {
      if database.isInsideTransaction {
        _ = try point.rollBack.step()
        _ = try point.release.step()
      }
      throw error
    }
  }

  private static func inTransaction<Result>(
    _ database: Database, _ body: () throws -> Result
  ) throws -> Result {
    try database.beginTransaction(.immediate)
    do {
      let result = try body()
      try database.commit()
      return result
    } catch {
      if database.isInsideTransaction { try database.rollback() }
      throw error
    }
  }

  // MARK: What the observer sees

  /// The changes of a commit by table, without rows that came and went inside the commit.
  private static func batches(
    _ changes: [(table: String, change: Change)], after before: LogPosition
  ) -> [CommittedBatch] {
    var order: [String] = []
    var byTable: [String: CommittedBatch] = [:]
    var superseded: [String: Set<LogPosition>] = [:]
    for (table, change) in changes {
      if byTable[table] == nil {
        order.append(table)
        byTable[table] = CommittedBatch(table: table, inserted: [])
      }
      byTable[table]?.inserted += change.inserted
      for row in change.replaced {
        if row.position > before {
          superseded[table, default: []].insert(row.position)
        } else {
          byTable[table]?.replaced.append(row)
        }
      }
    }
    return order.compactMap { table in
      guard var batch = byTable[table] else { return nil }
      if let gone = superseded[table] { batch.inserted.removeAll { gone.contains($0.position) } }
      return batch
    }
  }
}
