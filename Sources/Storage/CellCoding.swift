import Domain
import GRDB
import GRDBSQLite

/// The database's own kind of a column.
///
/// Times are whole microseconds since the epoch, arrays and documents are JSON text, so that any
/// SQLite tool can read a table.
extension ColumnType {
  var sqliteType: String {
    switch self {
    case .int32, .int64, .bool, .dateTime: "INTEGER"
    case .float, .double: "REAL"
    case .bytes: "BLOB"
    case .unknown, .string, .lowCardinalityString, .stringArray, .int64Array, .float64Array, .json,
      .imageURL:
      "TEXT"
    }
  }

  /// Whether a cell of this column may hold the value. Numbers must be finite: SQLite keeps a NaN
  /// as a null, and the cell would not come back as it went in.
  func holds(_ value: Value) -> Bool {
    switch (self, value) {
    case (_, .null), (.bool, .bool), (.int32, .int), (.int64, .int), (.dateTime, .timestamp),
      (.bytes, .bytes), (.unknown, .string), (.string, .string), (.lowCardinalityString, .string),
      (.json, .string), (.imageURL, .string):
      true
    case (.float, .double(let number)), (.double, .double(let number)): number.isFinite
    case (.stringArray, .array(let elements)):
      elements.allSatisfy { if case .string = $0 { true } else { false } }
    case (.int64Array, .array(let elements)):
      elements.allSatisfy { if case .int = $0 { true } else { false } }
    case (.float64Array, .array(let elements)):
      elements.allSatisfy { if case .double(let number) = $0 { number.isFinite } else { false } }
    default: false
    }
  }
}

/// A prepared statement that is bound and stepped through SQLite's own calls.
///
/// GRDB's argument type costs an allocation and several conversions for every cell; bound directly,
/// a row of five cells spares them. The statement belongs to GRDB's connection and must only be
/// used inside its access blocks.
struct RawStatement {
  private let statement: Statement
  private let handle: OpaquePointer
  private let connection: OpaquePointer?

  init(_ database: Database, _ sql: String) throws {
    statement = try database.makeStatement(sql: sql)
    handle = statement.sqliteStatement
    connection = database.sqliteConnection
  }

  private static let uniqueViolation = ResultCode.SQLITE_CONSTRAINT_UNIQUE.rawValue

  /// SQLite copies what it is given before the call returns.
  private static var copied: sqlite3_destructor_type {
    unsafeBitCast(-1, to: sqlite3_destructor_type.self)
  }

  func bind(_ value: Int64, at place: Int32) throws {
    try check(sqlite3_bind_int64(handle, place, value))
  }

  func bind(_ value: Value, at place: Int32) throws {
    let code =
      switch value {
      case .null: sqlite3_bind_null(handle, place)
      case .bool(let flag): sqlite3_bind_int64(handle, place, flag ? 1 : 0)
      case .int(let number): sqlite3_bind_int64(handle, place, number)
      case .double(let number): sqlite3_bind_double(handle, place, number)
      case .timestamp(let time): sqlite3_bind_int64(handle, place, time.microsecondsSinceEpoch)
      case .string(let text): bind(text: text, at: place)
      case .bytes(let bytes): bind(bytes: bytes, at: place)
      case .array(let elements): bind(text: RawStatement.text(of: elements), at: place)
      }
    try check(code)
  }

  private func bind(text: String, at place: Int32) -> Int32 {
    var text = text
    return text.withUTF8 { utf8 in
      utf8.withMemoryRebound(to: CChar.self) { characters in
        // An empty buffer may have no address, and SQLite reads "no address" as null.
        guard let address = characters.baseAddress else {
          return sqlite3_bind_text(handle, place, "", 0, RawStatement.copied)
        }
        return sqlite3_bind_text(
          handle, place, address, Int32(characters.count), RawStatement.copied)
      }
    }
  }

  private func bind(bytes: [UInt8], at place: Int32) -> Int32 {
    bytes.withUnsafeBytes { raw in
      guard let address = raw.baseAddress, raw.count > 0 else {
        return sqlite3_bind_zeroblob(handle, place, 0)
      }
      return sqlite3_bind_blob(handle, place, address, Int32(raw.count), RawStatement.copied)
    }
  }

  private static func text(of elements: [Value]) -> String {
    JSON.array(
      elements.map { element in
        switch element {
        case .string(let text): .string(text)
        case .int(let number): .int(number)
        case .double(let number): .double(number)
        default: .null
        }
      }
    ).text
  }

  /// Runs to the next row.
  ///
  /// - Returns: whether there is one. At the end the statement is reset and may be bound anew.
  func step() throws -> Bool {
    let code = sqlite3_step(handle)
    if code == SQLITE_ROW { return true }
    if code == SQLITE_DONE {
      sqlite3_reset(handle)
      return false
    }
    throw fault(code)
  }

  /// Runs a statement that gives no rows.
  ///
  /// - Returns: false where a unique index refused the row; nothing has changed then.
  func insert() throws -> Bool {
    let code = sqlite3_step(handle)
    if code == SQLITE_DONE {
      sqlite3_reset(handle)
      return true
    }
    if sqlite3_extended_errcode(connection) == RawStatement.uniqueViolation {
      sqlite3_reset(handle)
      return false
    }
    throw fault(code)
  }

  func reset() { sqlite3_reset(handle) }

  func int(at place: Int32) -> Int64 { sqlite3_column_int64(handle, place) }

  /// The current row of a statement that selects `_position` and then the columns of the schema.
  func row(of schema: TableSchema) throws -> LoggedRow {
    var values: [Value] = []
    values.reserveCapacity(schema.columns.count)
    for (i, column) in schema.columns.enumerated() {
      values.append(try value(at: Int32(i + 1), as: column.type))
    }
    return LoggedRow(position: LogPosition(int(at: 0)), values: values)
  }

  /// The cell of the current row, read as its column's type.
  func value(at place: Int32, as type: ColumnType) throws -> Value {
    if sqlite3_column_type(handle, place) == SQLITE_NULL { return .null }
    switch type {
    case .bool: return .bool(sqlite3_column_int64(handle, place) != 0)
    case .int32, .int64: return .int(sqlite3_column_int64(handle, place))
    case .float, .double: return .double(sqlite3_column_double(handle, place))
    case .dateTime:
      return .timestamp(Timestamp(microsecondsSinceEpoch: sqlite3_column_int64(handle, place)))
    case .bytes: return .bytes(Array(bytes(at: place)))
    case .unknown, .string, .lowCardinalityString, .json, .imageURL:
      return .string(String(decoding: bytes(at: place), as: UTF8.self))
    case .stringArray, .int64Array, .float64Array:
      let elements = try JSON(parsing: bytes(at: place)).array ?? []
      return .array(
        elements.map { element in
          switch element {
          case .string(let text): .string(text)
          case .int(let number): type == .float64Array ? .double(Double(number)) : .int(number)
          case .double(let number): .double(number)
          default: .null
          }
        })
    }
  }

  /// The cell of the current row as SQLite has it.
  func value(at place: Int32) -> Value {
    switch sqlite3_column_type(handle, place) {
    case SQLITE_INTEGER: .int(sqlite3_column_int64(handle, place))
    case SQLITE_FLOAT: .double(sqlite3_column_double(handle, place))
    case SQLITE_TEXT: .string(String(decoding: bytes(at: place), as: UTF8.self))
    case SQLITE_BLOB: .bytes(Array(bytes(at: place)))
    default: .null
    }
  }

  /// The bytes of a cell, valid until the next step.
  private func bytes(at place: Int32) -> UnsafeBufferPointer<UInt8> {
    // The address must be asked for before the length: asking may convert the cell.
    let address = sqlite3_column_blob(handle, place)
    let count = Int(sqlite3_column_bytes(handle, place))
    return UnsafeBufferPointer(
      start: address?.assumingMemoryBound(to: UInt8.self), count: address == nil ? 0 : count)
  }

  private func check(_ code: Int32) throws {
    if code != SQLITE_OK { throw fault(code) }
  }

  private func fault(_ code: Int32) -> DatabaseError {
    let words = sqlite3_errmsg(connection).map { String(cString: $0) }
    sqlite3_reset(handle)
    return DatabaseError(resultCode: ResultCode(rawValue: code), message: words)
  }
}

/// A name as SQL text.
func quoted(_ name: String) -> String {
  "\"" + name.replacing("\"", with: "\"\"") + "\""
}
