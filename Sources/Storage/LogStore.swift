package import Domain
import Foundation
import GRDB
import Synchronization

/// `Storage` keeps the truth: tables of rows, each row with its place in one log, in an SQLite
/// file, beside it a small registry of documents and the artifact files.
///
/// Rows come in by `commit`, which returns once they are synced to the disk and have been shown to
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
    /// Batches are refused while so many bytes wait for the disk.
    package var waitingBytes = 256 << 20
    /// The database file grows no further than this; nil for as far as the disk goes.
    package var databaseBytes: Int?
    /// The write-ahead log is moved into the database's file when it has so many pages.
    package var checkpointPages = 16_384
    package init() {}
  }

  /// The format that this build writes, and the oldest that it reads.
  package static let currentVersion: Int64 = 3
  package static let oldestReadable: Int64 = 1

  package let directory: DataDirectory
  let database: DatabasePool
  let queue: WriterQueue
  private let finished = DispatchSemaphore(value: 0)
  private let isClosed = Atomic<Bool>(false)

  var path: String { directory.databasePath }

  /// Opens the database of a directory, which is made where there is none.
  ///
  /// - Throws: `newer_format` or `older_format` where another version of Riffle wrote it, and what
  ///   the disk reports.
  package init(_ directory: DataDirectory, limits: Limits = Limits()) throws(Diagnostic) {
    self.directory = directory
    let path = directory.databasePath
    let (database, tables, views, through, horizon) = try translatingFaults(
      path: path, doing: "open the database"
    ) {
      var configuration = Configuration()
      configuration.busyMode = .timeout(5)
      configuration.prepareDatabase { ViewFunctions.install(on: $0) }
      let database = try DatabasePool(path: path, configuration: configuration)
      let (loaded, views, horizon) = try database.writeWithoutTransaction { database in
        // GRDB opens a pool with `synchronous = NORMAL`, which does not sync each commit.
        try database.execute(
          sql: """
            PRAGMA synchronous = FULL;
            PRAGMA wal_autocheckpoint = \(limits.checkpointPages);
            PRAGMA cache_size = -65536;
            PRAGMA secure_delete = ON;
            """)
        if let bytes = limits.databaseBytes {
          let pageBytes = try Int.fetchOne(database, sql: "PRAGMA page_size") ?? 4096
          _ = try Int.fetchOne(
            database, sql: "PRAGMA max_page_count = \(max(1, bytes / pageBytes))")
        }
        try LogStore.prepare(database, path: path)
        return (
          try LogStore.load(database, path: path),
          try LogStore.loadViews(database, path: path),
          LogPosition(try LogStore.number("undo_horizon", database))
        )
      }
      return (database, loaded.0, views, loaded.1, horizon)
    }
    self.database = database
    queue = WriterQueue(
      groupCommit: GroupCommit(
        rowsPerCommit: limits.rowsPerCommit, waitingRowsLimit: limits.waitingRows,
        waitingBytesLimit: limits.waitingBytes),
      tables: tables, through: through)
    for view in views {
      queue.set(view, named: view.definition.name)
    }
    // A thread of its own: commits wait for the disk, which must not hold up the shared pool.
    let thread = Thread { [queue, finished] in
      LogWriter(
        shared: queue, database: database, path: path, through: through, undoHorizon: horizon
      ).run()
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

  /// Changes a table's columns and rules.
  ///
  /// - Parameter change: gives the table's new form and what is to be done once it is stored. It is
  ///   called on the writer's thread, and so is what it gives: no row comes in between.
  /// - Returns: the new form.
  @discardableResult
  package func alterTable(
    _ name: String,
    _ change:
      @escaping @Sendable (TableSchema) throws(Diagnostics) -> (
        schema: TableSchema, adopt: @Sendable () -> Void
      )
  ) async throws(Diagnostics) -> TableSchema {
    let queue = queue
    let outcome: Result<TableSchema, Diagnostics>
    do throws(Diagnostic) {
      outcome = try await perform { [self] (writer) throws(Diagnostic) in
        let old = try schema(of: name)
        let (new, adopt): (TableSchema, @Sendable () -> Void)
        do throws(Diagnostics) { (new, adopt) = try change(old) } catch { return .failure(error) }
        if new == old { return .success(old) }
        writer.forget(table: name)
        try writer.transaction(doing: "change the table `\(name)`") { database in
          try LogStore.change(old, to: new, in: database)
        }
        queue.set(
          StoredTable(
            schema: new,
            createdAt: queue.table(name)?.createdAt ?? Timestamp(microsecondsSinceEpoch: 0)),
          named: name)
        adopt()
        return .success(new)
      }
    } catch { throw Diagnostics(error) }
    return try outcome.get()
  }

  /// Deletes a table with its rows. Positions are not used again.
  package func dropTable(_ name: String) async throws(Diagnostic) {
    let queue = queue
    try await perform { [self] (writer) throws(Diagnostic) in
      _ = try schema(of: name)
      if queue.views[name] != nil {
        throw Diagnostic(
          .conflict, code: "table_is_view", "`\(name)` is a view.", at: "table",
          help: "Delete it as one: DELETE /v2/views/\(name).")
      }
      let readers = queue.views.values.filter { $0.sources.contains(name) }
        .map(\.definition.name).sorted()
      if !readers.isEmpty {
        throw Diagnostic(
          .conflict, code: "table_in_use",
          "The table `\(name)` is read by the views "
            + "\(readers.map { "`\($0)`" }.joined(separator: ", ")).", at: "table",
          help: "Delete those views first.")
      }
      writer.forget(table: name)
      try writer.transaction(doing: "delete the table `\(name)`") { database in
        try database.execute(sql: "DROP TABLE \(quoted(name))")
        for statement in [
          "DELETE FROM _riffle_tables WHERE name = ?",
          "DELETE FROM _riffle_dead_letters WHERE table_name = ?",
          "DELETE FROM _riffle_removed WHERE table_name = ?",
        ] {
          try database.execute(sql: statement, arguments: [name])
        }
      }
      queue.set(nil as StoredTable?, named: name)
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

  /// What waits for its commit.
  package var waiting: (rows: Int, bytes: Int) { queue.waiting }

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
    let receipt = try await commit(LogBatch([LogBatch.Rows(table: name, rows: rows)]))
    return AppendReceipt(
      first: receipt.first ?? receipt.through.next, through: receipt.through,
      insertedCount: receipt.insertedCount, replacedCount: receipt.replacedCount)
  }

  /// Appends rows and blocks until they are synced: for the end of a process, which has no time for
  /// tasks. Never to be called by the shared pool while others wait for the log.
  package func appendAndWait(table name: String, rows: [[Value]]) throws(Diagnostic) {
    let schema = try schema(of: name)
    for (i, row) in rows.enumerated() { try LogStore.check(row, i, schema) }
    let done = DispatchSemaphore(value: 0)
    let outcome = Mutex<Diagnostic?>(nil)
    let pending = PendingBatch(
      batch: LogBatch([LogBatch.Rows(table: name, rows: rows)]),
      rows: [PendingBatch.Rows(schema: schema, rows: rows)]
    ) { result in
      if case .failure(let problem) = result { outcome.withLock { $0 = problem } }
      done.signal()
    }
    try queue.enqueue(.batch(pending))
    done.wait()
    if let problem = outcome.withLock({ $0 }) { throw problem }
  }

  /// Gives the rows of several tables, merged in log order, to the body.
  ///
  /// The rows come in windows, so that no table is ever in memory as a whole. A window has the form
  /// of a commit: one batch for each table, nothing replaced.
  ///
  /// To follow the log without a gap: buffer what `onCommit` gives, replay, then apply of the
  /// buffer the commits after the position that this returned.
  ///
  /// - Parameters:
  ///   - position: only later rows are given.
  ///   - undoes: whether rows up to the position that have gone since are given first, as replaced.
  /// - Returns: the position of the last commit that the replay saw.
  @discardableResult
  package func replay(
    tables names: [String], after position: LogPosition = .start, windowRows: Int = 8192,
    undoing undoes: Bool = false,
    _ body: (_ batches: [CommittedBatch], _ through: LogPosition) throws -> Void
  ) throws -> LogPosition {
    let schemas = try names.map { name throws(Diagnostic) in try schema(of: name) }
    return try translatingFaults(path: path, doing: "read the log") {
      try database.read { database in
        let end = try LogStore.position(database)
        if undoes {
          let gone = try removedRows(names, after: position, database)
          if !gone.isEmpty { try body(gone, position) }
        }
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

  // MARK: Below

  /// Runs a body on the writer's thread, after everything that was appended before.
  func perform<Answer: Sendable>(
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
}
