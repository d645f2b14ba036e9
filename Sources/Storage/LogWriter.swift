import Domain
import GRDB
import GRDBSQLite

/// The body of the writer's thread: the only code that changes rows.
///
/// Not `Sendable`: it is made on that thread and stays there, so its statements and its counter
/// need no lock.
final class LogWriter {
  /// What one batch did to one table.
  struct Change {
    var table: String
    var inserted: [LoggedRow] = []
    /// Rows that are gone: replaced by one with the same unique key, or removed.
    var replaced: [LoggedRow] = []
  }

  /// The statements of a table of our own.
  private struct OwnStatements {
    var keepPosition: RawStatement
    var keepSource: RawStatement
    var insertDeadLetter: RawStatement
    var deleteDeadLetter: RawStatement
    var findAnswer: RawStatement
    var keepAnswer: RawStatement
    var forgetAnswers: RawStatement
    var keepEntry: RawStatement
    var keepRemoved: RawStatement

    init(_ database: Database) throws {
      keepPosition = try RawStatement(
        database, "UPDATE _riffle_meta SET value = ? WHERE name = 'position'")
      keepSource = try RawStatement(
        database, "INSERT OR REPLACE INTO _riffle_sources (name, position) VALUES (?, ?)")
      insertDeadLetter = try RawStatement(
        database,
        """
        INSERT INTO _riffle_dead_letters
          (table_name, source, position, code, reason, raw, is_truncated, at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """)
      deleteDeadLetter = try RawStatement(
        database, "DELETE FROM _riffle_dead_letters WHERE id = ?")
      findAnswer = try RawStatement(
        database, "SELECT fingerprint, receipt FROM _riffle_answers WHERE key = ? AND at > ?")
      keepAnswer = try RawStatement(
        database,
        "INSERT OR REPLACE INTO _riffle_answers (key, fingerprint, receipt, at) VALUES (?, ?, ?, ?)"
      )
      forgetAnswers = try RawStatement(database, "DELETE FROM _riffle_answers WHERE at <= ?")
      keepEntry = try RawStatement(
        database, "INSERT OR REPLACE INTO _riffle_entries (kind, name, json) VALUES (?, ?, ?)")
      keepRemoved = try RawStatement(
        database,
        "INSERT INTO _riffle_removed (table_name, removed_at, position, cells) VALUES (?, ?, ?, ?)")
    }
  }

  /// The statements of one table.
  struct TableStatements {
    var insert: RawStatement
    var delete: RawStatement
    /// Finds a row by its position.
    var read: RawStatement
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
      read = try RawStatement(
        database, "SELECT _position\(columns) FROM \(table) WHERE _position = ?")
      keys = schema.uniqueKeys.compactMap { schema.index(of: $0) }
      if !keys.isEmpty {
        let test = schema.uniqueKeys.map { quoted($0) + " = ?" }.joined(separator: " AND ")
        find = try RawStatement(
          database, "SELECT _position\(columns) FROM \(table) WHERE \(test)")
      }
    }
  }

  let shared: WriterQueue
  private let database: DatabasePool
  let path: String
  private var statements: [String: TableStatements] = [:]
  private var savepoint: (begin: RawStatement, release: RawStatement, rollBack: RawStatement)?
  private var own: OwnStatements?
  /// The last committed position.
  private(set) var through: LogPosition
  /// Rows up to here may be in a stored state; when they go, they are kept aside to be undone.
  var undoHorizon: LogPosition
  /// When answers to idempotent requests were last thrown away.
  private var answersForgottenAt: Timestamp?
  /// The views that follow a table row by row, by that table; nil until they are looked up.
  var rowViews: [String: [RowView]]?

  init(
    shared: WriterQueue, database: DatabasePool, path: String, through: LogPosition,
    undoHorizon: LogPosition
  ) {
    self.undoHorizon = undoHorizon
    self.shared = shared
    self.database = database
    self.path = path
    self.through = through
  }

  /// Works until the queue is closed and empty.
  func run() {
    while let work = shared.next() {
      switch work {
      case .batches(let batches): commit(batches)
      case .perform(let body): body(self)
      }
    }
  }

  /// Runs changes other than batches in a transaction of their own.
  func transaction<Result>(
    doing action: String, _ body: (Database) throws -> Result
  ) throws(Diagnostic) -> Result {
    try translatingFaults(path: path, doing: action) {
      try database.writeWithoutTransaction { database in
        try LogWriter.inTransaction(database) { try body(database) }
      }
    }
  }

  /// Changes rows without a batch, in a transaction of its own, and shows them to the observer.
  func derive<Result>(
    doing action: String,
    _ body: (Database, _ last: inout LogPosition, _ changes: inout [Change]) throws -> Result
  ) throws(Diagnostic) -> Result {
    let before = through
    var last = before
    var changes: [Change] = []
    let result: Result
    do throws(Diagnostic) {
      result = try transaction(doing: action) { database in
        let result = try body(database, &last, &changes)
        if last > before {
          let own = try ownStatements(database)
          try own.keepPosition.bind(last.rawValue, at: 1)
          _ = try own.keepPosition.step()
        }
        return result
      }
    } catch {
      statements = [:]
      reloadViews()
      throw error
    }
    through = last
    shared.through = last
    if last > before { shared.observe(LogWriter.batches(changes, after: before), last) }
    return result
  }

  /// Reads on the writer's own connection.
  func reading<Result>(
    doing action: String, _ body: (Database) throws -> Result
  ) throws(Diagnostic) -> Result {
    try translatingFaults(path: path, doing: action) {
      try database.writeWithoutTransaction(body)
    }
  }

  /// Takes the views as they are stored: what a transaction that failed made of them is void.
  private func reloadViews() {
    rowViews = nil
    let stored = try? database.read { try LogStore.loadViews($0, path: path) }
    for view in stored ?? [] { shared.set(view, named: view.definition.name) }
  }

  /// Runs statements that stand outside of transactions.
  func outsideTransactions(
    doing action: String, _ body: (Database) throws -> Void
  ) throws(Diagnostic) {
    try translatingFaults(path: path, doing: action) {
      try database.barrierWriteWithoutTransaction { database in try body(database) }
    }
  }

  /// Moves everything into the database's file and empties the log beside it.
  func emptyWriteAheadLog() throws(Diagnostic) {
    // A barrier waits for the readers, who would keep the log's end alive.
    try outsideTransactions(doing: "empty the write-ahead log") { database in
      _ = try database.checkpoint(.truncate)
    }
  }

  /// Forgets the statements of a table that is about to go.
  func forget(table: String) {
    statements[table] = nil
    rowViews = nil
  }

  // MARK: Batches

  /// Commits a group of batches in one transaction, shows it to the observer, and answers each.
  private func commit(_ batches: [PendingBatch]) {
    var outcomes: [Result<CommitReceipt, Diagnostic>] = []
    outcomes.reserveCapacity(batches.count)
    var changes: [Change] = []
    let before = through
    var last = before
    do {
      try database.writeWithoutTransaction { database in
        try LogWriter.inTransaction(database) {
          for batch in batches {
            let start = last
            let changesBefore = changes.count
            do {
              let receipt = try isolated(database, batches.count > 1) {
                try store(batch, into: database, last: &last, changes: &changes)
              }
              outcomes.append(.success(receipt))
            } catch {
              // Alone in its transaction, or after a fault that ended it: nothing of the group is
              // left.
              guard batches.count > 1, database.isInsideTransaction else { throw error }
              last = start
              changes.removeSubrange(changesBefore...)
              outcomes.append(.failure(fault(error)))
            }
          }
          if last > before {
            let own = try ownStatements(database)
            try own.keepPosition.bind(last.rawValue, at: 1)
            _ = try own.keepPosition.step()
          }
        }
      }
    } catch {
      statements = [:]
      reloadViews()
      let fault = fault(error)
      for batch in batches { batch.finish(.failure(fault)) }
      return
    }
    through = last
    shared.through = last
    if last > before { shared.observe(LogWriter.batches(changes, after: before), last) }
    for (batch, outcome) in zip(batches, outcomes) { batch.finish(outcome) }
  }

  func fault(_ error: any Error) -> Diagnostic {
    StorageFault.diagnostic(error, path: path, doing: "store the rows")
  }

  private func store(
    _ pending: PendingBatch, into database: Database, last: inout LogPosition,
    changes: inout [Change]
  ) throws -> CommitReceipt {
    let batch = pending.batch
    if let key = batch.key, let known = try answer(to: key, database) { return known }
    let start = last
    let changesBefore = changes.count
    var replaced = 0
    var inserted = 0
    for group in pending.rows where !group.rows.isEmpty {
      let change = try insert(group, into: database, last: &last)
      inserted += group.rows.count
      replaced += change.replaced.count
      changes.append(change)
    }
    let removed = try remove(batch.removals, from: database, last: &last, changes: &changes)
    try followRows(of: changes[changesBefore...].indices, database, &last, &changes)
    for letter in batch.deadLetters { try insert(letter, into: database) }
    if !batch.settledDeadLetters.isEmpty {
      let delete = try ownStatements(database).deleteDeadLetter
      for id in batch.settledDeadLetters {
        try delete.bind(id, at: 1)
        _ = try delete.step()
      }
    }
    if let position = batch.position {
      try run(
        ownStatements(database).keepSource,
        [.string(position.source), .string(position.position.text)])
    }
    for entry in batch.entries {
      try run(
        ownStatements(database).keepEntry,
        [.string(entry.kind), .string(entry.name), .string(entry.json)])
    }
    let receipt = CommitReceipt(
      first: last > start ? start.next : nil, through: last, insertedCount: inserted,
      replacedCount: replaced, removedCount: removed, deadLetterCount: batch.deadLetters.count,
      note: batch.key?.note ?? .null)
    if let key = batch.key { try keep(receipt, for: key, database) }
    return receipt
  }

  func run(_ statement: RawStatement, _ values: [Value]) throws {
    for (i, value) in values.enumerated() { try statement.bind(value, at: Int32(i + 1)) }
    _ = try statement.step()
  }

  // MARK: Rows

  /// Inserts the rows of one table, each in place of the row that bears the same unique key.
  func insert(
    _ group: PendingBatch.Rows, into database: Database, last: inout LogPosition
  ) throws -> Change {
    guard let schema = shared.table(group.schema.name)?.schema else {
      throw Diagnostic(
        .notFound, code: "unknown_table", "The table `\(group.schema.name)` is gone.", at: "table",
        help: "Create it again before inserting rows.")
    }
    // The table may have been widened since the rows were checked.
    let rows =
      schema.columns == group.schema.columns
      ? group.rows : try group.rows.map { try schema.widening($0, from: group.schema) }
    let table = try statements(for: schema, database)
    var change = Change(table: schema.name)
    change.inserted.reserveCapacity(rows.count)
    for row in rows {
      last = last.next
      try table.insert.bind(last.rawValue, at: 1)
      for place in row.indices { try table.insert.bind(row[place], at: Int32(place + 2)) }
      if try !table.insert.insert() {
        // The key is taken: the later row wins. Trying first is cheap, because most keys are new.
        let old = try take(rowLike: row, of: schema, table)
        try keepAside(old, of: schema.name, at: last, database)
        change.replaced.append(old)
        guard try table.insert.insert() else {
          throw DatabaseError(message: "a unique key of `\(schema.name)` is taken twice")
        }
      }
      change.inserted.append(LoggedRow(position: last, values: row))
    }
    return change
  }

  /// Takes rows out of their tables. The removal has a place in the log as well: one position for
  /// each table that lost a row.
  func remove(
    _ removals: [LogBatch.Removal], from database: Database, last: inout LogPosition,
    changes: inout [Change]
  ) throws -> Int {
    var count = 0
    for removal in removals {
      guard let schema = shared.table(removal.table)?.schema else { continue }
      let table = try statements(for: schema, database)
      var change = Change(table: schema.name)
      for position in removal.positions {
        try table.read.bind(position.rawValue, at: 1)
        guard try table.read.step() else { continue }
        let old = try table.read.row(of: schema)
        table.read.reset()
        try table.delete.bind(position.rawValue, at: 1)
        _ = try table.delete.step()
        change.replaced.append(old)
      }
      if change.replaced.isEmpty { continue }
      last = last.next
      for old in change.replaced { try keepAside(old, of: schema.name, at: last, database) }
      count += change.replaced.count
      changes.append(change)
    }
    return count
  }

  /// Keeps a row that has gone, where a stored state may hold it.
  func keepAside(
    _ row: LoggedRow, of table: String, at position: LogPosition, _ database: Database
  ) throws {
    guard row.position <= undoHorizon else { return }
    try run(
      ownStatements(database).keepRemoved,
      [
        .string(table), .int(position.rawValue), .int(row.position.rawValue),
        .bytes(BinaryCells.encode(row.values)),
      ])
  }

  // MARK: Dead letters and answers

  private func insert(_ letter: DeadLetter, into database: Database) throws {
    try run(
      ownStatements(database).insertDeadLetter,
      [
        .string(letter.table), .string(letter.source), .string(letter.position.text),
        .string(letter.code), .string(letter.reason), .bytes(letter.raw),
        .bool(letter.isTruncated), .timestamp(letter.at),
      ])
  }

  /// The receipt of the request that bore the key before; nil where there was none.
  private func answer(
    to key: IdempotencyKey, _ database: Database
  ) throws -> CommitReceipt? {
    let find = try ownStatements(database).findAnswer
    try find.bind(.string(key.key), at: 1)
    try find.bind(LogWriter.oldestAnswer(at: key.at), at: 2)
    guard try find.step() else { return nil }
    defer { find.reset() }
    let fingerprint = try find.value(at: 0, as: .string)
    guard fingerprint == .string(key.fingerprint) else {
      throw Diagnostic(
        .conflict, code: "idempotency_key_reused",
        "The idempotency key `\(key.key)` came with another request before.",
        at: "Idempotency-Key", help: "Give every request a key of its own, and keep it for retries."
      )
    }
    guard case .string(let text) = try find.value(at: 1, as: .string),
      let receipt = CommitReceipt(stored: try JSON(parsing: text))
    else { throw DatabaseError(message: "a stored answer cannot be read") }
    return receipt
  }

  private func keep(
    _ receipt: CommitReceipt, for key: IdempotencyKey, _ database: Database
  ) throws {
    let own = try ownStatements(database)
    try run(
      own.keepAnswer,
      [
        .string(key.key), .string(key.fingerprint), .string(receipt.stored.text),
        .timestamp(key.at),
      ])
    // Once a minute is often enough to keep the table small.
    if let last = answersForgottenAt, key.at < last.adding(seconds: 60) { return }
    answersForgottenAt = key.at
    try own.forgetAnswers.bind(LogWriter.oldestAnswer(at: key.at), at: 1)
    _ = try own.forgetAnswers.step()
  }

  private static func oldestAnswer(at time: Timestamp) -> Int64 {
    time.adding(seconds: -IdempotencyKey.lifetimeSeconds).microsecondsSinceEpoch
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

  func statements(for schema: TableSchema, _ database: Database) throws -> TableStatements {
    if let known = statements[schema.name] { return known }
    let made = try TableStatements(schema, database)
    statements[schema.name] = made
    return made
  }

  private func ownStatements(_ database: Database) throws -> OwnStatements {
    if let own { return own }
    let made = try OwnStatements(database)
    own = made
    return made
  }

  // MARK: Transactions

  /// Runs a body so that its failure undoes its own changes only.
  func isolated<Result>(
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

  static func inTransaction<Result>(
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
  static func batches(_ changes: [Change], after before: LogPosition) -> [CommittedBatch] {
    var order: [String] = []
    var byTable: [String: CommittedBatch] = [:]
    var superseded: [String: Set<LogPosition>] = [:]
    for change in changes {
      let table = change.table
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

extension Timestamp {
  func adding(seconds: Int64) -> Timestamp {
    Timestamp(microsecondsSinceEpoch: microsecondsSinceEpoch + seconds * 1_000_000)
  }
}
