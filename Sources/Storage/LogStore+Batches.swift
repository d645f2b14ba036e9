package import Domain
import Foundation
import GRDB

/// Commits of more than rows, and what they keep: positions of sources, dead letters, answers.
extension LogStore {
  /// Stores a batch, all or none, and returns once it is synced and the observer has seen its rows.
  ///
  /// Batches of several tasks share commits; they take their positions in the order of the calls. A
  /// batch whose idempotency key is known changes nothing and is answered as the first time.
  ///
  /// - Throws: `unknown_table`, `too_many_waiting_rows`, `idempotency_key_reused` where the key
  ///   stands for another request, or what the disk reports; then nothing of it is stored.
  package func commit(_ batch: LogBatch) async throws(Diagnostic) -> CommitReceipt {
    try await submit(batch).receipt()
  }

  /// Puts a batch in its place in the queue and does not wait for its commit. Batches that one task
  /// submits one after another are stored in that order.
  ///
  /// - Throws: as `commit` does, where the batch is refused at once.
  package func submit(_ batch: LogBatch) throws(Diagnostic) -> CommitTicket {
    var groups: [PendingBatch.Rows] = []
    groups.reserveCapacity(batch.rows.count)
    for group in batch.rows {
      let schema = try schema(of: group.table)
      if queue.views[group.table] != nil {
        throw Diagnostic(
          .conflict, code: "view_is_derived",
          "`\(group.table)` is a view: its rows come from its query.", at: "table",
          help: "Insert the rows into the table that the view reads.")
      }
      if !batch.isChecked || group.rows.first.map({ $0.count != schema.columns.count }) ?? false {
        for (i, row) in group.rows.enumerated() { try LogStore.check(row, i, schema) }
      }
      groups.append(PendingBatch.Rows(schema: schema, rows: group.rows))
    }
    for removal in batch.removals { _ = try schema(of: removal.table) }
    let ticket = CommitTicket()
    try queue.enqueue(
      .batch(PendingBatch(batch: batch, rows: groups) { ticket.finish($0) }))
    return ticket
  }

  static func check(_ row: [Value], _ index: Int, _ schema: TableSchema) throws(Diagnostic) {
    guard row.count == schema.columns.count else {
      throw Diagnostic(
        .internalError, code: "wrong_row_width",
        "A row of `\(schema.name)` has \(row.count) cells instead of \(schema.columns.count).",
        at: "data[\(index)]")
    }
    for place in row.indices where !schema.columns[place].type.holds(row[place]) {
      let column = schema.columns[place]
      throw Diagnostic(
        code: "type_mismatch",
        "The column `\(column.name)` is of type \(column.type.rawValue) and cannot hold this value.",
        at: "data[\(index)].\(column.name)")
    }
  }

  // MARK: Sources

  /// How far a source has been read, as the last committed batch of it said; nil where none did.
  package func position(ofSource source: String) throws(Diagnostic) -> JSON? {
    let text = try translatingFaults(path: path, doing: "read the position of `\(source)`") {
      try database.read { database in
        try String.fetchOne(
          database, sql: "SELECT position FROM _riffle_sources WHERE name = ?",
          arguments: [source])
      }
    }
    return try text.map { text throws(Diagnostic) in try JSON(parsing: text) }
  }

  /// Every source that has a position, by name.
  package func sourcePositions() throws(Diagnostic) -> [SourcePosition] {
    try translatingFaults(path: path, doing: "read the positions of the sources") {
      try database.read { database in
        try Row.fetchAll(
          database, sql: "SELECT name, position FROM _riffle_sources ORDER BY name"
        ).map { SourcePosition(source: $0["name"], position: try JSON(parsing: $0["position"])) }
      }
    }
  }

  /// Forgets how far a source has been read: it will be read from its beginning.
  package func forgetPosition(ofSource source: String) async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "forget the position of `\(source)`") { database in
        try database.execute(
          sql: "DELETE FROM _riffle_sources WHERE name = ?", arguments: [source])
      }
    }
  }

  // MARK: Dead letters

  /// The dead letters that a query asks for, oldest first.
  package func deadLetters(
    _ query: DeadLetterQuery
  ) throws(Diagnostic) -> [StoredDeadLetter] {
    try translatingFaults(path: path, doing: "read dead letters") {
      try database.read { database in
        let (condition, arguments) = LogStore.condition(of: query)
        return try Row.fetchAll(
          database,
          sql: "SELECT * FROM _riffle_dead_letters WHERE \(condition) ORDER BY id LIMIT ?",
          arguments: arguments + [query.limit]
        ).map(LogStore.deadLetter)
      }
    }
  }

  /// One dead letter, or nil.
  package func deadLetter(_ id: Int64) throws(Diagnostic) -> StoredDeadLetter? {
    try translatingFaults(path: path, doing: "read a dead letter") {
      try database.read { database in
        try Row.fetchOne(
          database, sql: "SELECT * FROM _riffle_dead_letters WHERE id = ?", arguments: [id]
        ).map(LogStore.deadLetter)
      }
    }
  }

  /// How many dead letters there are, by table, source and reason; counted.
  package func deadLetterCounts(
    table: String? = nil
  ) throws(Diagnostic) -> [DeadLetterCount] {
    var query = DeadLetterQuery()
    query.table = table
    let (condition, arguments) = LogStore.condition(of: query)
    return try translatingFaults(path: path, doing: "count dead letters") {
      try database.read { database in
        try Row.fetchAll(
          database,
          sql: """
            SELECT table_name, source, code, count(*) AS count FROM _riffle_dead_letters
            WHERE \(condition) GROUP BY table_name, source, code ORDER BY table_name, source, code
            """, arguments: arguments
        ).map {
          DeadLetterCount(
            table: $0["table_name"], source: $0["source"], code: $0["code"], count: $0["count"])
        }
      }
    }
  }

  /// Throws dead letters away for good.
  ///
  /// - Returns: how many there were.
  package func dropDeadLetters(_ query: DeadLetterQuery) async throws(Diagnostic) -> Int {
    try await perform { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "drop dead letters") { database in
        let (condition, arguments) = LogStore.condition(of: query)
        try database.execute(
          sql: "DELETE FROM _riffle_dead_letters WHERE \(condition)", arguments: arguments)
        return database.changesCount
      }
    }
  }

  private static func condition(
    of query: DeadLetterQuery
  ) -> (sql: String, arguments: StatementArguments) {
    var sql = "id > ?"
    var arguments: StatementArguments = [query.after]
    for (column, value) in [
      ("table_name", query.table), ("source", query.source), ("code", query.code),
    ] {
      guard let value else { continue }
      sql += " AND \(column) = ?"
      arguments += [value]
    }
    return (sql, arguments)
  }

  static func deadLetter(_ row: Row) throws -> StoredDeadLetter {
    StoredDeadLetter(
      id: row["id"],
      letter: DeadLetter(
        table: row["table_name"], source: row["source"],
        position: try JSON(parsing: row["position"] as String), code: row["code"],
        reason: row["reason"], raw: Array(row["raw"] as Data),
        isTruncated: row["is_truncated"],
        at: Timestamp(microsecondsSinceEpoch: row["at"])))
  }
}
