package import Domain

/// One column of a table in memory: typed values and a flag for each row that holds one.
package struct Column: Sendable {
  /// The values by type. A row without a value holds a filler (0, an empty list) and a cleared bit in
  /// `present`.
  package enum Values: Sendable {
    case bool(ChunkedVector<Bool>)
    /// `Int32` and `Int64` columns.
    case int(ChunkedVector<Int64>)
    /// `Float` and `Double` columns.
    case double(ChunkedVector<Double>)
    /// `DateTime` columns, in microseconds since the epoch.
    case timestamp(ChunkedVector<Int64>)
    /// Text columns: codes in the column's dictionary.
    case string(ChunkedVector<Int32>)
    /// `Array(String)`: codes in the column's dictionary.
    case strings(ChunkedVector<[Int32]>)
    case ints(ChunkedVector<[Int64]>)
    case doubles(ChunkedVector<[Double]>)
  }

  package let type: ColumnType
  package private(set) var values: Values
  package private(set) var dictionary = StringDictionary()
  /// 1 where the row holds a value, 0 where it is null.
  package private(set) var present = ChunkedVector<UInt8>()

  package init(type: ColumnType) {
    self.type = type
    values =
      switch type {
      case .bool: .bool(ChunkedVector())
      case .int32, .int64: .int(ChunkedVector())
      case .float, .double: .double(ChunkedVector())
      case .dateTime: .timestamp(ChunkedVector())
      case .stringArray: .strings(ChunkedVector())
      case .int64Array: .ints(ChunkedVector())
      case .float64Array: .doubles(ChunkedVector())
      case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL:
        .string(ChunkedVector())
      }
  }

  package var count: Int { present.count }

  package func isNull(_ row: Int) -> Bool { present[row] == 0 }

  /// The cell of a row.
  package func value(at row: Int) -> Value {
    guard present[row] != 0 else { return .null }
    switch values {
    case .bool(let vector): return .bool(vector[row])
    case .int(let vector): return .int(vector[row])
    case .double(let vector): return .double(vector[row])
    case .timestamp(let vector):
      return .timestamp(Timestamp(microsecondsSinceEpoch: vector[row]))
    case .string(let vector): return .string(dictionary[vector[row]])
    case .strings(let vector): return .array(vector[row].map { .string(dictionary[$0]) })
    case .ints(let vector): return .array(vector[row].map { .int($0) })
    case .doubles(let vector): return .array(vector[row].map { .double($0) })
    }
  }

  /// Appends a row. Bytes are kept as text in Base64, which is how every answer shows them. A value of another type than the column's is a programmer's mistake: ingestion
  /// has coerced it already.
  package mutating func append(_ value: Value) {
    grow()
    set(value, at: count - 1)
  }

  /// Replaces the cell of a row.
  package mutating func set(_ value: Value, at row: Int) {
    if value.isNull {
      present[row] = 0
      return
    }
    present[row] = 1
    switch (values, value) {
    case (.bool(var vector), .bool(let new)):
      values = .bool(ChunkedVector())
      vector[row] = new
      values = .bool(vector)
    case (.int(var vector), .int(let new)):
      values = .int(ChunkedVector())
      vector[row] = new
      values = .int(vector)
    case (.double(var vector), .double(let new)):
      values = .double(ChunkedVector())
      vector[row] = new
      values = .double(vector)
    case (.timestamp(var vector), .timestamp(let new)):
      values = .timestamp(ChunkedVector())
      vector[row] = new.microsecondsSinceEpoch
      values = .timestamp(vector)
    case (.string(var vector), .string(let new)):
      values = .string(ChunkedVector())
      vector[row] = dictionary.intern(new)
      values = .string(vector)
    case (.string(var vector), .bytes(let new)):
      values = .string(ChunkedVector())
      vector[row] = dictionary.intern(Base64.encode(new))
      values = .string(vector)
    case (.strings(var vector), .array(let new)):
      values = .strings(ChunkedVector())
      vector[row] = new.map { element in
        guard case .string(let string) = element else { Column.mismatch(type, value) }
        return dictionary.intern(string)
      }
      values = .strings(vector)
    case (.ints(var vector), .array(let new)):
      values = .ints(ChunkedVector())
      vector[row] = new.map { element in
        guard case .int(let int) = element else { Column.mismatch(type, value) }
        return int
      }
      values = .ints(vector)
    case (.doubles(var vector), .array(let new)):
      values = .doubles(ChunkedVector())
      vector[row] = new.map { element in
        guard case .double(let double) = element else { Column.mismatch(type, value) }
        return double
      }
      values = .doubles(vector)
    default: Column.mismatch(type, value)
    }
  }

  private static func mismatch(_ type: ColumnType, _ value: Value) -> Never {
    preconditionFailure("a \(type.rawValue) column was given \(value)")
  }

  /// Adds a null row.
  private mutating func grow() {
    present.append(0)
    switch values {
    case .bool(var vector):
      values = .int(ChunkedVector())
      vector.append(false)
      values = .bool(vector)
    case .int(var vector):
      values = .bool(ChunkedVector())
      vector.append(0)
      values = .int(vector)
    case .double(var vector):
      values = .bool(ChunkedVector())
      vector.append(0)
      values = .double(vector)
    case .timestamp(var vector):
      values = .bool(ChunkedVector())
      vector.append(0)
      values = .timestamp(vector)
    case .string(var vector):
      values = .bool(ChunkedVector())
      vector.append(0)
      values = .string(vector)
    case .strings(var vector):
      values = .bool(ChunkedVector())
      vector.append([])
      values = .strings(vector)
    case .ints(var vector):
      values = .bool(ChunkedVector())
      vector.append([])
      values = .ints(vector)
    case .doubles(var vector):
      values = .bool(ChunkedVector())
      vector.append([])
      values = .doubles(vector)
    }
  }
}

/// Columns of equal length under their names.
package struct ColumnTable: Sendable {
  /// In the order of declaration.
  package private(set) var names: [String]
  private var columns: [Column]
  private let places: [String: Int]
  package private(set) var rowCount = 0

  package init(_ definitions: [ColumnDefinition]) {
    names = definitions.map(\.name)
    columns = definitions.map { Column(type: $0.type) }
    places = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
  }

  package subscript(name: String) -> Column? { places[name].map { columns[$0] } }

  package func column(at place: Int) -> Column { columns[place] }

  /// The column at a place, lent and not copied: for single look-ups.
  package subscript(lending place: Int) -> Column {
    _read { yield columns[place] }
  }

  /// Appends a row of nulls and returns its number.
  package mutating func appendEmptyRow() -> Int {
    for i in columns.indices { columns[i].append(.null) }
    rowCount += 1
    return rowCount - 1
  }

  /// Replaces one cell; `column` is the place of its name in `names`.
  package mutating func set(_ value: Value, row: Int, column: Int) {
    columns[column].set(value, at: row)
  }

  /// Replaces the cells of a row; `values` stand in the order of `names`.
  package mutating func setRow(_ row: Int, to values: [Value]) {
    precondition(values.count == columns.count, "\(values.count) cells, \(columns.count) columns")
    for i in columns.indices { columns[i].set(values[i], at: row) }
  }
}
