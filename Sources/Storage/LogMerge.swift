import Domain
import GRDB

/// Reads several tables at once in the order of the log.
struct LogMerge {
  private struct Source {
    var schema: TableSchema
    var statement: RawStatement
    /// The row that comes next; nil at the end.
    var head: LoggedRow?
  }

  private var sources: [Source]

  init(_ schemas: [TableSchema], after position: LogPosition, _ database: Database) throws {
    sources = try schemas.map { schema in
      let columns = schema.columns.map { ", " + quoted($0.name) }.joined()
      let statement = try RawStatement(
        database,
        "SELECT _position\(columns) FROM \(quoted(schema.name)) "
          + "WHERE _position > ? ORDER BY _position"
      )
      try statement.bind(position.rawValue, at: 1)
      return Source(schema: schema, statement: statement)
    }
    for i in sources.indices { try advance(i) }
  }

  private mutating func advance(_ i: Int) throws {
    sources[i].head =
      try sources[i].statement.step() ? sources[i].statement.row(of: sources[i].schema) : nil
  }

  /// The next rows, at most so many, by table; nil at the end.
  mutating func next(
    _ rowLimit: Int
  ) throws -> (batches: [CommittedBatch], through: LogPosition)? {
    var batches = sources.map { CommittedBatch(table: $0.schema.name, inserted: []) }
    var through = LogPosition.start
    for _ in 0..<rowLimit {
      var first: Int?
      for i in sources.indices {
        guard let head = sources[i].head else { continue }
        if first == nil || head.position < through {
          first = i
          through = head.position
        }
      }
      guard let first, let row = sources[first].head else { break }
      batches[first].inserted.append(row)
      try advance(first)
    }
    batches.removeAll { $0.inserted.isEmpty }
    return batches.isEmpty ? nil : (batches, through)
  }
}
