package import Domain

/// One column of a table in memory: typed values and a flag for each row that holds one.
package struct Column: Sendable {
  /// The values by type. A row without a value holds a filler (0, an empty list) and a cleared bit
  /// in `present`.
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
  package private(set) var dictionary = StringDictionary()
  /// 1 where the row holds a value, 0 where it is null.
  package private(set) var present = ChunkedVector<UInt8>()
  /// Rows that are null.
  package private(set) var nullCount = 0
  /// Whether each text stands in one row alone, whose number is its code, as with ids that name rows.
  package private(set) var codesAreRows = true

  // One of these holds the values and the others stay empty. Vectors inside an enum's cases could
  // not be changed in place: binding a case copies it, and the change would copy a chunk each time.
  private var bools = ChunkedVector<Bool>()
  private var integers = ChunkedVector<Int64>()
  private var numbers = ChunkedVector<Double>()
  private var codes = ChunkedVector<Int32>()
  private var codeLists = ChunkedVector<[Int32]>()
  private var integerLists = ChunkedVector<[Int64]>()
  private var numberLists = ChunkedVector<[Double]>()

  package init(type: ColumnType) { self.type = type }

  /// A column of values that are there already; they must be of the type, one for each row.
  package init(
    type: ColumnType, dictionary: StringDictionary, present: ChunkedVector<UInt8>, values: Values
  ) {
    self.type = type
    self.dictionary = dictionary
    self.present = present
    codesAreRows = false
    present.forEachChunk { _, chunk in nullCount += chunk.count { $0 == 0 } }
    switch values {
    case .bool(let vector): bools = vector
    case .int(let vector), .timestamp(let vector): integers = vector
    case .double(let vector): numbers = vector
    case .string(let vector):
      codes = vector
      codesAreRows = (0..<vector.count).allSatisfy { vector[$0] == $0 || present[$0] == 0 }
    case .strings(let vector): codeLists = vector
    case .ints(let vector): integerLists = vector
    case .doubles(let vector): numberLists = vector
    }
  }

  package var count: Int { present.count }

  package func isNull(_ row: Int) -> Bool { present[row] == 0 }

  /// The values of all rows. Shares their memory; to be asked for once per batch, not per row.
  package var values: Values {
    switch type {
    case .bool: .bool(bools)
    case .int32, .int64: .int(integers)
    case .float, .double: .double(numbers)
    case .dateTime: .timestamp(integers)
    case .stringArray: .strings(codeLists)
    case .int64Array: .ints(integerLists)
    case .float64Array: .doubles(numberLists)
    case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL: .string(codes)
    }
  }

  /// The cell of a row.
  package func value(at row: Int) -> Value {
    guard present[row] != 0 else { return .null }
    switch type {
    case .bool: return .bool(bools[row])
    case .int32, .int64: return .int(integers[row])
    case .float, .double: return .double(numbers[row])
    case .dateTime: return .timestamp(Timestamp(microsecondsSinceEpoch: integers[row]))
    case .stringArray: return .array(codeLists[row].map { .string(dictionary[$0]) })
    case .int64Array: return .array(integerLists[row].map { .int($0) })
    case .float64Array: return .array(numberLists[row].map { .double($0) })
    case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL:
      return .string(dictionary[codes[row]])
    }
  }

  /// Appends a row.
  ///
  /// Bytes are kept as text in Base64, which is how every answer shows them. A value of another
  /// type than the column's is a programmer's mistake: ingestion has coerced it already.
  package mutating func append(_ value: Value) {
    present.append(0)
    nullCount += 1
    switch type {
    case .bool: bools.append(false)
    case .int32, .int64, .dateTime: integers.append(0)
    case .float, .double: numbers.append(0)
    case .stringArray: codeLists.append([])
    case .int64Array: integerLists.append([])
    case .float64Array: numberLists.append([])
    case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL: codes.append(0)
    }
    if !value.isNull { set(value, at: count - 1) }
  }

  /// Replaces the cell of a row.
  package mutating func set(_ value: Value, at row: Int) {
    switch (type, value) {
    case (_, .null):
      if present[row] != 0 { nullCount += 1 }
      present[row] = 0
      return
    case (.bool, .bool(let new)): bools[row] = new
    case (.int32, .int(let new)), (.int64, .int(let new)): integers[row] = new
    case (.float, .double(let new)), (.double, .double(let new)): numbers[row] = new
    case (.dateTime, .timestamp(let new)): integers[row] = new.microsecondsSinceEpoch
    case (.bytes, .bytes(let new)): setCode(dictionary.intern(Base64.encode(new)), at: row)
    case (.unknown, .string(let new)), (.bytes, .string(let new)), (.string, .string(let new)),
      (.lowCardinalityString, .string(let new)), (.json, .string(let new)),
      (.imageURL, .string(let new)):
      setCode(dictionary.intern(new), at: row)
    case (.stringArray, .array(let new)):
      codeLists[row] = new.map { element in
        guard case .string(let string) = element else { Column.mismatch(type, value) }
        return dictionary.intern(string)
      }
    case (.int64Array, .array(let new)):
      integerLists[row] = new.map { element in
        guard case .int(let int) = element else { Column.mismatch(type, value) }
        return int
      }
    case (.float64Array, .array(let new)):
      numberLists[row] = new.map { element in
        guard case .double(let double) = element else { Column.mismatch(type, value) }
        return double
      }
    default: Column.mismatch(type, value)
    }
    if present[row] == 0 { nullCount -= 1 }
    present[row] = 1
  }

  private mutating func setCode(_ code: Int32, at row: Int) {
    codes[row] = code
    if Int(code) != row { codesAreRows = false }
  }

  private static func mismatch(_ type: ColumnType, _ value: Value) -> Never {
    preconditionFailure("a \(type.rawValue) column was given \(value)")
  }
}

/// Columns of equal length under their names.
package struct ColumnTable: Sendable {
  /// In the order of declaration.
  package private(set) var names: [String]
  private var columns: [Column]
  private var places: [String: Int]
  package private(set) var rowCount = 0

  package init(_ definitions: [ColumnDefinition]) {
    names = definitions.map(\.name)
    columns = definitions.map { Column(type: $0.type) }
    places = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
  }

  /// A table of columns that are there already, in the order of the definitions.
  package init(_ definitions: [ColumnDefinition], _ columns: [Column], rowCount: Int) {
    precondition(
      columns.count == definitions.count && columns.allSatisfy { $0.count == rowCount },
      "columns of unequal length")
    names = definitions.map(\.name)
    self.columns = columns
    self.rowCount = rowCount
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

  /// Takes a new form: columns that are new are null in every row, columns of a wider type hold their
  /// values in it. No column goes.
  package mutating func adopt(_ definitions: [ColumnDefinition]) {
    var adopted: [Column] = []
    adopted.reserveCapacity(definitions.count)
    for definition in definitions {
      let old = places[definition.name].map { columns[$0] }
      if let old, old.type == definition.type {
        adopted.append(old)
        continue
      }
      var column = Column(type: definition.type)
      for row in 0..<rowCount {
        column.append(old.map { $0.value(at: row).widened(to: definition.type) } ?? .null)
      }
      adopted.append(column)
    }
    columns = adopted
    names = definitions.map(\.name)
    places = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
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
