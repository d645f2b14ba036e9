/// One cell of a table.
package enum Value: Hashable, Sendable {
  case null
  case bool(Bool)
  case int(Int64)
  case double(Double)
  case string(String)
  case timestamp(Timestamp)
  case bytes([UInt8])
  case array([Value])

  package var isNull: Bool { if case .null = self { true } else { false } }
}

/// The type of a column, by the names that table definitions use.
package enum ColumnType: String, Hashable, Sendable, CaseIterable {
  case unknown = "Unknown"
  case bytes = "Bytes"
  case string = "String"
  case lowCardinalityString = "LowCardinality(String)"
  case stringArray = "Array(String)"
  case int64Array = "Array(Int64)"
  case float64Array = "Array(Float64)"
  case int32 = "Int32"
  case int64 = "Int64"
  case float = "Float"
  case double = "Double"
  case bool = "Bool"
  case dateTime = "DateTime"
  case json = "Json"
  case imageURL = "ImageUrl"
}

/// A column of a table: its name and its type.
package struct ColumnDefinition: Hashable, Sendable {
  package var name: String
  package var type: ColumnType
  package init(name: String, type: ColumnType) {
    self.name = name
    self.type = type
  }
}

/// The declared shape of a table.
package struct TableSchema: Hashable, Sendable {
  package var name: String
  package var columns: [ColumnDefinition]
  /// Columns whose values together name a row: a later row with the same values replaces the
  /// earlier one. Empty where every row stands for itself.
  package var uniqueKeys: [String]
  package var description: String?
  /// What rows must keep to beyond their types, and how long they stay.
  package var rules: TableRules

  package init(
    name: String, columns: [ColumnDefinition], uniqueKeys: [String] = [],
    description: String? = nil, rules: TableRules = TableRules()
  ) {
    self.name = name
    self.columns = columns
    self.uniqueKeys = uniqueKeys
    self.description = description
    self.rules = rules
  }

  /// The place of the column in a row, or nil.
  package func index(of column: String) -> Int? { columns.firstIndex { $0.name == column } }
}

/// A row that the log has acknowledged: its position and its cells in the schema's column order.
package struct LoggedRow: Hashable, Sendable {
  package var position: LogPosition
  package var values: [Value]
  package init(position: LogPosition, values: [Value]) {
    self.position = position
    self.values = values
  }
}

/// What one durable commit did to one table.
package struct CommittedBatch: Sendable {
  package var table: String
  /// New rows, positions growing.
  package var inserted: [LoggedRow]
  /// Rows of earlier commits that a new row with the same unique key replaced: their old positions
  /// and cells. A row that a later row of the same commit replaced was never visible and is in
  /// neither list.
  package var replaced: [LoggedRow]

  package init(table: String, inserted: [LoggedRow], replaced: [LoggedRow] = []) {
    self.table = table
    self.inserted = inserted
    self.replaced = replaced
  }
}
