import Columns
package import Domain
import QueryLanguage

/// A condition on the rows of a table that depends on their cells and on nothing else.
package struct RowCondition: Sendable {
  private let expression: Expression
  private let columns: [ColumnDefinition]
  /// The places of `columns` in a row.
  private let places: [Int]

  /// Checks a condition against the columns of a table.
  ///
  /// - Throws: every problem at once; a condition that needs a user, a parameter or the time is one.
  package init(_ text: String, columns all: [ColumnDefinition]) throws(Diagnostics) {
    let expression = try Parser.predicate(text)
    let problems = QueryProblems(text: text)
    func refuse(_ what: String, _ span: SourceSpan) {
      problems.add(
        "not_supported", "\(what) cannot stand in the condition of a table", span,
        help: "It is worked out once, when a row comes in, so it may use the row's columns alone.")
    }
    var names: Set<String> = []
    _ = expression.mapped { node in
      switch node.kind {
      case .parameter(let name): refuse("the parameter `$\(name)`", node.span)
      case .prebuilt: refuse("prebuilt()", node.span)
      case .truncate: refuse("truncate()", node.span)
      case .call(let name, _) where name.text == "now" || name.text == "current_timestamp":
        refuse("\(name.text)()", node.span)
      case .column(let reference):
        names.insert(reference.name.text == "id" ? "item_id" : reference.name.text)
        names.insert(reference.name.text)
      default: break
      }
      return nil
    }
    try problems.check()
    let used = all.indices.filter { names.contains(all[$0].name) }
    self.expression = expression
    places = used
    columns = used.map { all[$0] }
    var binder = PredicateBinder(
      ColumnFinder(
        items: ColumnTable(all), source: RowCondition.source(ColumnTable(all)), problems: problems))
    _ = binder.condition(expression)
    try problems.check()
  }

  private static func source(_ table: ColumnTable) -> TableSource {
    TableSource(items: table, now: Timestamp(microsecondsSinceEpoch: 0))
  }

  /// Whether the condition is true for each row; it is not where it is unknown.
  ///
  /// - Parameter rows: cells in the order of the table's columns.
  package func holds(_ rows: [[Value]]) -> [Bool] {
    var table = ColumnTable(columns)
    for row in rows { table.setRow(table.appendEmptyRow(), to: places.map { row[$0] }) }
    var binder = PredicateBinder(
      ColumnFinder(
        items: table, source: RowCondition.source(table), problems: QueryProblems(text: "")))
    guard let condition = binder.condition(expression) else {
      preconditionFailure("a condition was checked and does not bind")
    }
    let bitmap = PredicateScan(columns: binder.columns, rowCount: rows.count).rows(condition)
    return rows.indices.map { bitmap[$0] }
  }
}
