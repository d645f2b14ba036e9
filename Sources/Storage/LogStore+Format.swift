import Domain
import GRDB

/// The database's format: our own tables, and how older formats become the current one.
extension LogStore {
  /// Makes our own tables where there are none, brings older formats up to date, and refuses those
  /// that this build cannot read.
  static func prepare(_ database: Database, path: String) throws {
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
            INSERT INTO _riffle_meta VALUES ('format', 1), ('position', 0);
            """)
        try bringUpToDate(database, from: 1)
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
    if version < currentVersion {
      try database.inTransaction(.immediate) {
        try bringUpToDate(database, from: version)
        return .commit
      }
    }
  }

  /// Adds what each later format added, in the caller's transaction.
  private static func bringUpToDate(_ database: Database, from version: Int64) throws {
    if version < 2 {
      try database.execute(
        sql: """
          CREATE TABLE _riffle_sources (
            name TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
          CREATE TABLE _riffle_dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT, table_name TEXT NOT NULL, source TEXT NOT NULL,
            position TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, raw BLOB NOT NULL,
            is_truncated INTEGER NOT NULL, at INTEGER NOT NULL);
          CREATE INDEX _riffle_dead_letters_by_table ON _riffle_dead_letters (table_name, id);
          CREATE TABLE _riffle_answers (
            key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, receipt TEXT NOT NULL,
            at INTEGER NOT NULL) WITHOUT ROWID;
          CREATE INDEX _riffle_answers_by_time ON _riffle_answers (at);
          CREATE TABLE _riffle_removed (
            id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, removed_at INTEGER NOT NULL,
            position INTEGER NOT NULL, cells BLOB NOT NULL);
          INSERT INTO _riffle_meta VALUES ('undo_horizon', 0);
          INSERT INTO _riffle_meta VALUES ('identity', random());
          """)
    }
    if version < 3 {
      try database.execute(
        sql: """
          CREATE TABLE _riffle_views (
            name TEXT PRIMARY KEY, definition TEXT NOT NULL, state TEXT NOT NULL,
            created_at INTEGER NOT NULL) WITHOUT ROWID
          """)
    }
    try database.execute(
      sql: "UPDATE _riffle_meta SET value = ? WHERE name = 'format'", arguments: [currentVersion])
  }

  static func load(
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

  static func position(_ database: Database) throws -> LogPosition {
    LogPosition(try number("position", database))
  }

  /// A number of `_riffle_meta`; 0 where there is none.
  static func number(_ name: String, _ database: Database) throws -> Int64 {
    try Int64.fetchOne(
      database, sql: "SELECT value FROM _riffle_meta WHERE name = ?", arguments: [name]) ?? 0
  }

  static func make(_ table: StoredTable, in database: Database) throws {
    let schema = table.schema
    let columns = schema.columns.map { ", \(quoted($0.name)) \($0.type.sqliteType)" }.joined()
    try database.execute(
      sql: "CREATE TABLE \(quoted(schema.name)) (_position INTEGER PRIMARY KEY\(columns))")
    try makeUniqueIndex(schema, in: database)
    try makeTimeIndex(schema, in: database)
    try database.execute(
      sql: "INSERT INTO _riffle_tables (name, schema, created_at) VALUES (?, ?, ?)",
      arguments: [schema.name, schema.stored.text, table.createdAt.microsecondsSinceEpoch])
  }

  static func uniqueIndexName(_ table: String) -> String { quoted("_riffle_unique_" + table) }

  static func makeUniqueIndex(_ schema: TableSchema, in database: Database) throws {
    if schema.uniqueKeys.isEmpty { return }
    let keys = schema.uniqueKeys.map(quoted).joined(separator: ", ")
    try database.execute(
      sql: "CREATE UNIQUE INDEX IF NOT EXISTS \(uniqueIndexName(schema.name)) "
        + "ON \(quoted(schema.name)) (\(keys))")
  }

  /// Makes the index by which old rows are found, where the table's rows go by their age.
  private static func makeTimeIndex(_ schema: TableSchema, in database: Database) throws {
    let name = quoted("_riffle_time_" + schema.name)
    try database.execute(sql: "DROP INDEX IF EXISTS \(name)")
    guard let retention = schema.rules.retention, retention.maximumAgeSeconds != nil,
      let column = retention.timeColumn
    else { return }
    try database.execute(
      sql: "CREATE INDEX \(name) ON \(quoted(schema.name)) (\(quoted(column)))")
  }

  /// Brings a stored table into a new form. Columns are added, or widened; none goes.
  static func change(
    _ old: TableSchema, to new: TableSchema, in database: Database
  ) throws {
    let table = quoted(new.name)
    for column in new.columns {
      let name = quoted(column.name)
      guard let place = old.index(of: column.name) else {
        try database.execute(
          sql: "ALTER TABLE \(table) ADD COLUMN \(name) \(column.type.sqliteType)")
        continue
      }
      let type = old.columns[place].type
      if type == .int64, column.type == .double {
        let count =
          try Int.fetchOne(
            database,
            sql: "SELECT count(*) FROM \(table) WHERE abs(\(name)) > 9007199254740992") ?? 0
        if count > 0 {
          throw Diagnostic(
            .conflict, code: "type_not_wider",
            "\(count) values of `\(column.name)` are too large to be exact in a Double.",
            at: "column_schema.\(column.name)", help: "Add a column of another name.")
        }
      }
      // SQLite turns text that looks like a number into one where the column was made for numbers.
      guard type.sqliteType == "INTEGER", column.type.sqliteType == "TEXT" else { continue }
      if !new.uniqueKeys.isEmpty {
        try database.execute(sql: "DROP INDEX IF EXISTS \(uniqueIndexName(new.name))")
      }
      try database.execute(
        sql: """
          ALTER TABLE \(table) ADD COLUMN _riffle_widened TEXT;
          UPDATE \(table) SET _riffle_widened = CAST(\(name) AS TEXT);
          ALTER TABLE \(table) DROP COLUMN \(name);
          ALTER TABLE \(table) RENAME COLUMN _riffle_widened TO \(name);
          """)
      if !new.uniqueKeys.isEmpty { try makeUniqueIndex(new, in: database) }
    }
    if old.rules.retention != new.rules.retention { try makeTimeIndex(new, in: database) }
    try database.execute(
      sql: "UPDATE _riffle_tables SET schema = ? WHERE name = ?",
      arguments: [new.stored.text, new.name])
  }
}
