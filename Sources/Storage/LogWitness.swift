package import Domain
import GRDB

/// Reads the rows of a data directory beside the process that serves it, as any SQLite tool could: with
/// none of the store's own code between.
package struct LogWitness: ~Copyable {
  private let database: DatabaseQueue

  /// Opens the database of a data directory to be read.
  package init(_ directory: String) throws {
    var configuration = Configuration()
    configuration.readonly = true
    configuration.busyMode = .timeout(5)
    database = try DatabaseQueue(path: directory + "/riffle.db", configuration: configuration)
  }

  deinit { try? database.close() }

  /// The position at which the log ends.
  package func end() throws -> LogPosition {
    try database.read { try LogStore.position($0) }
  }

  /// The number of rows of a table, counted.
  package func rowCount(of table: String) throws -> Int {
    try database.read {
      try Int.fetchOne($0, sql: "SELECT count(*) FROM \(quoted(table))") ?? 0
    }
  }

  /// Gives the rows of a table behind a position, in log order. Cells come as SQLite holds them: as
  /// whole numbers, texts or nulls.
  package func rows(
    of table: String, columns: [String], after position: LogPosition = .start,
    _ body: (LogPosition, [Value]) throws -> Void
  ) throws {
    let names = columns.map(quoted).joined(separator: ", ")
    try database.read { database in
      let rows = try Row.fetchCursor(
        database,
        sql: "SELECT _position, \(names) FROM \(quoted(table)) WHERE _position > ? "
          + "ORDER BY _position", arguments: [position.rawValue])
      while let row = try rows.next() {
        let values = columns.indices.map { i -> Value in
          switch row[i + 1] as DatabaseValue {
          case let cell where cell.isNull: .null
          case let cell:
            switch cell.storage {
            case .int64(let number): .int(number)
            case .double(let number): .double(number)
            case .string(let text): .string(text)
            default: .null
            }
          }
        }
        try body(LogPosition(row[0]), values)
      }
    }
  }
}
