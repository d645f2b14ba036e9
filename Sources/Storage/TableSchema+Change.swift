import Domain

extension TableSchema {
  /// The cells of a row that was made for an earlier form of the table: columns that came since are
  /// null, and values of widened columns take their new type.
  func widening(_ row: [Value], from earlier: TableSchema) throws(Diagnostic) -> [Value] {
    var cells = [Value](repeating: .null, count: columns.count)
    for (place, column) in columns.enumerated() {
      guard let old = earlier.index(of: column.name), old < row.count else { continue }
      cells[place] = row[old].widened(to: column.type)
      guard column.type.holds(cells[place]) else {
        throw Diagnostic(
          .conflict, code: "table_changed",
          "The table `\(name)` was changed while the rows were on their way.",
          at: "table", help: "Send the request again.")
      }
    }
    return cells
  }
}
