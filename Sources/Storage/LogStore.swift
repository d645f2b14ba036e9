package import Domain
import Foundation
import GRDB
import Synchronization

/// `Storage` keeps the truth: tables of rows, each row with its place in one log, in an SQLite
/// file, beside it a small registry of documents and the artifact files.
///
/// Rows come in by `append`, which returns once they are synced to the disk and have been shown to
/// the observer; they go out by `replay`, in log order. Storage knows nothing of users, items,
/// engines or HTTP, and it never reads a clock.

/// A table that exists, and when it was made.
package struct StoredTable: Hashable, Sendable {
  package var schema: TableSchema
  package var createdAt: Timestamp
  package init(schema: TableSchema, createdAt: Timestamp) {
    self.schema = schema
    self.createdAt = createdAt
  }
}

/// What an acknowledged append did.
package struct AppendReceipt: Hashable, Sendable {
  /// The position of the append's first row.
  package var first: LogPosition
  /// The position of the append's last row. A state that has come this far holds all of it.
  package var through: LogPosition
  /// The rows given, among them those that a later row of the same append replaced.
  package var insertedCount: Int
  /// The rows that were replaced because a new one bears the same unique key.
  package var replacedCount: Int
}

/// How the database keeps its promise, for `doctor`.
package struct Durability: Hashable, Sendable {
  /// `wal`: commits go to a log beside the file.
  package var journalMode: String
  /// 2 (`FULL`): every commit is synced before it is acknowledged.
  package var synchronous: Int
}

/// A document of the registry.
package struct RegistryEntry: Hashable, Sendable {
  package var kind: String
  package var name: String
  /// The document as JSON text, as it was given.
  package var json: String
  package init(kind: String, name: String, json: String) {
    self.kind = kind
    self.name = name
    self.json = json
  }
}

/// The tables, the log and the registry of one data directory, with one writer.
///
/// Every user table is an SQLite table of the same name whose row id, `_position`, is the row's
/// place in the log: one sequence over all tables, which only grows. Our own tables begin with
/// `_riffle_`.
///
/// Unique keys: a later row replaces the earlier one with the same values and takes a new position;
/// this and the insert are one step. A row with a null in its unique key stands for itself and
/// replaces nothing.
package final class LogStore: Sendable {
  /// How much may wait and how much shares one commit, in rows.
  package struct Limits: Sendable {
    /// A commit takes no further append once it holds this many rows.
    package var rowsPerCommit = 50_000
    /// Appends are refused while this many rows wait for the disk.
    package var waitingRows = 1_000_000
    /// The database file grows no further than this; nil for as far as the disk goes.
    package var databaseBytes: Int?
    package init() {}
  }

  /// The format that this build writes, and the oldest that it reads.
  package static let currentVersion: Int64 = 1
  package static let oldestReadable: Int64 = 1

  package let directory: DataDirectory
  private let database: DatabasePool
  private let queue: WriterQueue
  private let finished = DispatchSemaphore(value: 0)
  private let isClosed = Atomic<Bool>(false)

  private var path: String { directory.databasePath }

  /// Opens the database of a directory, which is made where there is none.
  ///
  /// - Throws: `newer_format` or `older_format` where another version of Riffle wrote it, and what
  ///   the disk reports.
  package init(_ directory: DataDirectory, limits: Limits = Limits()) throws(Diagnostic) {
    self.directory = directory
    let path = directory.databasePath
    let (database, tables, through) = try translatingFaults(
      path: path, doing: "open the database"
    ) {
      var configuration = Configuration()
      configuration.busyMode = .timeout(5)
      let database = try DatabasePool(path: path, configuration: configuration)
      let (tables, through) = try database.writeWithoutTransaction { database in
        // GRDB opens a pool with `synchronous = NORMAL`, which does not sync each commit.
        try database.execute(
          sql: """
            PRAGMA synchronous = FULL;
            PRAGMA wal_autocheckpoint = 16384;
            PRAGMA cache_size = -65536;
            """)
        if let bytes = limits.databaseBytes {
          let pageBytes = try Int.fetchOne(database, sql: "PRAGMA page_size") ?? 4096
          _ = try Int.fetchOne(
            database, sql: "PRAGMA max_page_count = \(max(1, bytes / pageBytes))")
        }
        try LogStore.prepare(database, path: path)
        return try LogStore.load(database, path: path)
      }
      return (database, tables, through)
    }
    self.database = database
    queue = WriterQueue(
      groupCommit: GroupCommit(
        rowsPerCommit: limits.rowsPerCommit, waitingRowsLimit: limits.waitingRows),
      tables: tables, through: through)
    // A thread of its own: commits wait for the disk, which must not hold up the shared pool.
    let thread = Thread { [queue, finished] in
      LogWriter(shared: queue, database: database, path: path, through: through).run()
      finished.signal()
    }
    thread.name = "riffle log writer"
    thread.start()
  }

  deinit { close() }

  /// Finishes what waits, then closes the database and gives up the directory. A second call does
  /// nothing.
  package func close() {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    queue.close()
    finished.wait()
    // A clean stop leaves everything in the one file; after a kill the next start recovers the rest.
    try? database.writeWithoutTransaction { database in _ = try database.checkpoint(.truncate) }
    try? database.close()
    directory.release()
  }

  // MARK: Tables

  /// Makes a table.
  ///
  /// - Throws: every fault of the schema; `table_exists` where the name is taken.
  package func createTable(_ schema: TableSchema, at time: Timestamp) async throws(Diagnostics) {
    let problems = schema.problems
    if !problems.isEmpty { throw Diagnostics(problems) }
    let table = StoredTable(schema: schema, createdAt: time)
    let queue = queue
    do {
      try await perform { (writer) throws(Diagnostic) in
        if let other = queue.tables.first(where: {
          $0.schema.name.lowercased() == schema.name.lowercased()
        }) {
          throw Diagnostic(
            .conflict, code: "table_exists", "A table `\(other.schema.name)` exists already.",
            at: "name",
            help: "Choose another name, or delete that table first. Case makes no difference.")
        }
        try writer.transaction(doing: "make the table `\(schema.name)`") { database in
          try LogStore.make(table, in: database)
        }
        queue.set(table, named: schema.name)
      }
    } catch {
      throw Diagnostics(error)
    }
  }

  /// Deletes a table with its rows. Positions are not used again.
  package func dropTable(_ name: String) async throws(Diagnostic) {
    let queue = queue
    try await perform { [self] (writer) throws(Diagnostic) in
      _ = try schema(of: name)
      writer.forget(table: name)
      try writer.transaction(doing: "delete the table `\(name)`") { database in
        try database.execute(sql: "DROP TABLE \(quoted(name))")
        try database.execute(
          sql: "DELETE FROM _riffle_tables WHERE name = ?", arguments: [name])
      }
      queue.set(nil, named: name)
    }
  }

  /// All tables, by name.
  package func tables() -> [StoredTable] {
    queue.tables.sorted { $0.schema.name < $1.schema.name }
  }

  /// The table of that name, or nil.
  package func table(_ name: String) -> StoredTable? { queue.table(name) }

  /// The schema of a table.
  ///
  /// - Throws: `unknown_table` with the nearest name.
  package func schema(of name: String) throws(Diagnostic) -> TableSchema {
    if let table = queue.table(name) { return table.schema }
    let names = queue.tables.map(\.schema.name).sorted()
    let near = nearestName(to: name, among: names)
    throw Diagnostic(
      .notFound, code: "unknown_table", "There is no table `\(name)`.", at: "table",
      help: near.map { "Did you mean `\($0)`?" }
        ?? (names.isEmpty
          ? "Create it first."
          : "The tables are \(names.map { "`\($0)`" }.joined(separator: ", ")).")
    )
  }

  // MARK: Rows

  /// The position of the last acknowledged row.
  package var through: LogPosition { queue.through }

  /// Calls the body for every commit from now on, in log order, on the writer's thread and before
  /// the appends of that commit return. To be set once, before the first append.
  ///
  /// While the body runs nothing is committed, so it should be quick. It is given one batch for
  /// each table that changed, and the last position of the commit.
  package func onCommit(
    _ body: @escaping @Sendable (_ batches: [CommittedBatch], _ through: LogPosition) -> Void
  ) {
    queue.setObserver(body)
  }

  /// Appends rows to a table, all or none, and returns once they are synced and the observer has
  /// seen them.
  ///
  /// Appends of several tasks share commits; they take their positions in the order of the calls.
  ///
  /// - Parameter rows: the cells in the order of the schema's columns.
  /// - Throws: `unknown_table`, `too_many_waiting_rows`, or what the disk reports; then nothing of
  ///   it is stored.
  package func append(
    table name: String, rows: [[Value]]
  ) async throws(Diagnostic) -> AppendReceipt {
    let schema = try schema(of: name)
    for (i, row) in rows.enumerated() { try LogStore.check(row, i, schema) }
    let queue = queue
    let outcome: Result<AppendReceipt, Diagnostic> = await withCheckedContinuation { continuation in
      let pending = PendingAppend(schema: schema, rows: rows) { continuation.resume(returning: $0) }
      do throws(Diagnostic) {
        try queue.enqueue(.append(pending))
      } catch {
        continuation.resume(returning: .failure(error))
      }
    }
    return try outcome.get()
  }

  /// Appends rows and blocks until they are synced: for the end of a process, which has no time for
  /// tasks. Never to be called by the shared pool while others wait for the log.
  package func appendAndWait(table name: String, rows: [[Value]]) throws(Diagnostic) {
    let schema = try schema(of: name)
    for (i, row) in rows.enumerated() { try LogStore.check(row, i, schema) }
    let done = DispatchSemaphore(value: 0)
    let outcome = Mutex<Diagnostic?>(nil)
    let pending = PendingAppend(schema: schema, rows: rows) { result in
      if case .failure(let problem) = result { outcome.withLock { $0 = problem } }
      done.signal()
    }
    try queue.enqueue(.append(pending))
    done.wait()
    if let problem = outcome.withLock({ $0 }) { throw problem }
  }

  private static func check(_ row: [Value], _ index: Int, _ schema: TableSchema) throws(Diagnostic)
  {
    guard row.count == schema.columns.count else {
      throw Diagnostic(
        .internalError, code: "wrong_row_width",
        "A row of `\(schema.name)` has \(row.count) cells instead of \(schema.columns.count).",
        at: "data[\(index)]")
    }
    for (value, column) in zip(row, schema.columns) where !column.type.holds(value) {
      throw Diagnostic(
        code: "type_mismatch",
        "The column `\(column.name)` is of type \(column.type.rawValue) and cannot hold this value.",
        at: "data[\(index)].\(column.name)")
    }
  }

  /// Gives the rows of several tables, merged in log order, to the body.
  ///
  /// The rows come in windows, so that no table is ever in memory as a whole. A window has the form
  /// of a commit: one batch for each table, nothing replaced.
  ///
  /// To follow the log without a gap: buffer what `onCommit` gives, replay, then apply of the
  /// buffer the commits after the position that this returned.
  ///
  /// - Parameter position: only later rows are given.
  /// - Returns: the position of the last commit that the replay saw.
  @discardableResult
  package func replay(
    tables names: [String], after position: LogPosition = .start, windowRows: Int = 8192,
    _ body: (_ batches: [CommittedBatch], _ through: LogPosition) throws -> Void
  ) throws -> LogPosition {
    let schemas = try names.map { name throws(Diagnostic) in try schema(of: name) }
    return try translatingFaults(path: path, doing: "read the log") {
      try database.read { database in
        let end = try LogStore.position(database)
        var merge = try LogMerge(schemas, after: position, database)
        while let window = try merge.next(windowRows) { try body(window.batches, window.through) }
        return end
      }
    }
  }

  /// The number of rows of a table, counted.
  package func rowCount(of name: String) throws(Diagnostic) -> Int {
    _ = try schema(of: name)
    return try translatingFaults(path: path, doing: "count the rows of `\(name)`") {
      try database.read { database in
        try Int.fetchOne(database, sql: "SELECT count(*) FROM \(quoted(name))") ?? 0
      }
    }
  }

  /// Asks the writer's connection how it is set up.
  package func durability() async throws(Diagnostic) -> Durability {
    try await perform { (writer) throws(Diagnostic) in
      try writer.reading(doing: "read the database's settings") { database in
        Durability(
          journalMode: try String.fetchOne(database, sql: "PRAGMA journal_mode") ?? "",
          synchronous: try Int.fetchOne(database, sql: "PRAGMA synchronous") ?? 0)
      }
    }
  }

  /// What SQLite finds wrong with the database's file; empty where it is sound. Reads all of it.
  package func integrityProblems() throws -> [String] {
    try translatingFaults(path: path, doing: "examine the database") {
      try database.read { database in
        try String.fetchAll(database, sql: "PRAGMA integrity_check").filter { $0 != "ok" }
      }
    }
  }

  // MARK: Registry

  /// Stores a document under its kind and name, in place of an earlier one.
  package func setEntry(kind: String, name: String, json: String) async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "store the \(kind) `\(name)`") { database in
        try database.execute(
          sql: "INSERT OR REPLACE INTO _riffle_entries (kind, name, json) VALUES (?, ?, ?)",
          arguments: [kind, name, json])
      }
    }
  }

  /// Removes a document; nothing happens where there is none.
  package func removeEntry(kind: String, name: String) async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "remove the \(kind) `\(name)`") { database in
        try database.execute(
          sql: "DELETE FROM _riffle_entries WHERE kind = ? AND name = ?", arguments: [kind, name])
      }
    }
  }

  /// The documents of a kind, by name.
  package func entries(kind: String) throws(Diagnostic) -> [RegistryEntry] {
    try translatingFaults(path: path, doing: "read the registry") {
      try database.read { database in
        try Row.fetchAll(
          database, sql: "SELECT name, json FROM _riffle_entries WHERE kind = ? ORDER BY name",
          arguments: [kind]
        ).map { RegistryEntry(kind: kind, name: $0["name"], json: $0["json"]) }
      }
    }
  }

  /// The document of a kind and name, or nil.
  package func entry(kind: String, name: String) throws(Diagnostic) -> RegistryEntry? {
    try entries(kind: kind).first { $0.name == name }
  }

  // MARK: Below

  /// Runs a body on the writer's thread, after everything that was appended before.
  private func perform<Answer: Sendable>(
    _ body: @escaping @Sendable (LogWriter) throws(Diagnostic) -> Answer
  ) async throws(Diagnostic) -> Answer {
    let queue = queue
    let outcome: Result<Answer, Diagnostic> = await withCheckedContinuation { continuation in
      do throws(Diagnostic) {
        try queue.enqueue(
          .perform { writer in
            do throws(Diagnostic) {
              continuation.resume(returning: .success(try body(writer)))
            } catch {
              continuation.resume(returning: .failure(error))
            }
          })
      } catch {
        continuation.resume(returning: .failure(error))
      }
    }
    return try outcome.get()
  }

  /// Makes our own tables where there are none, and refuses formats that this build cannot read.
  private static func prepare(_ database: Database, path: String) throws {
    guard try database.tableExists("_riffle_meta") else {
      try database.inTransaction(.immediate) {
        try database.execute(
          sql: """
            CREATE TABLE _riffle_meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
            CREATE TABLE _riffle_tables (
              name TEXT PRIMARY KEY, schema TEXT NOT NULL, created_at INTEGER NOT NULL);
            CREATE TABLE _riffle_entries (
              kind TEXT NOT NULL, name TEXT NOT NULL, json TEXT NOT NULL,
              PRIMARY KEY (kind, name)) WITHOUT ROWID;
            INSERT INTO _riffle_meta VALUES ('format', \(currentVersion)), ('position', 0);
            """)
        return .commit
      }
      return
    }
    let version =
      try Int64.fetchOne(database, sql: "SELECT value FROM _riffle_meta WHERE name = 'format'") ?? 0
    guard version <= currentVersion else {
      throw Diagnostic(
        .conflict, code: "newer_format",
        "The data directory has format \(version); this build reads "
          + "\(oldestReadable) to \(currentVersion).", at: path,
        help: "Open it with the version of Riffle that wrote it, or a later one.")
    }
    guard version >= oldestReadable else {
      throw Diagnostic(
        .conflict, code: "older_format",
        "The data directory has format \(version); this build reads "
          + "\(oldestReadable) to \(currentVersion).", at: path,
        help: "Open it once with an earlier version of Riffle, which brings it up to date.")
    }
  }

  private static func load(
    _ database: Database, path: String
  ) throws -> ([String: StoredTable], LogPosition) {
    var tables: [String: StoredTable] = [:]
    for row in try Row.fetchAll(database, sql: "SELECT schema, created_at FROM _riffle_tables") {
      let text: String = row["schema"]
      guard let schema = TableSchema(stored: try JSON(parsing: text)) else {
        throw Diagnostic(
          .internalError, code: "database_damaged", "A table's schema cannot be read: \(text)",
          at: path, help: "Restore the last backup of the data directory.")
      }
      tables[schema.name] = StoredTable(
        schema: schema, createdAt: Timestamp(microsecondsSinceEpoch: row["created_at"]))
    }
    return (tables, try position(database))
  }

  private static func position(_ database: Database) throws -> LogPosition {
    LogPosition(
      try Int64.fetchOne(database, sql: "SELECT value FROM _riffle_meta WHERE name = 'position'")
        ?? 0)
  }

  private static func make(_ table: StoredTable, in database: Database) throws {
    let schema = table.schema
    let columns = schema.columns.map { ", \(quoted($0.name)) \($0.type.sqliteType)" }.joined()
    try database.execute(
      sql: "CREATE TABLE \(quoted(schema.name)) (_position INTEGER PRIMARY KEY\(columns))")
    if !schema.uniqueKeys.isEmpty {
      let keys = schema.uniqueKeys.map(quoted).joined(separator: ", ")
      try database.execute(
        sql: "CREATE UNIQUE INDEX \(quoted("_riffle_unique_" + schema.name)) "
          + "ON \(quoted(schema.name)) (\(keys))")
    }
    try database.execute(
      sql: "INSERT INTO _riffle_tables (name, schema, created_at) VALUES (?, ?, ?)",
      arguments: [schema.name, schema.stored.text, table.createdAt.microsecondsSinceEpoch])
  }
}
