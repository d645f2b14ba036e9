import Columns
import Domain
import QueryLanguage

/// Finds columns by name, in the catalog or among the columns computed from events.
struct ColumnFinder {
  let items: ColumnTable
  let source: any QuerySource
  let problems: QueryProblems
  /// The query's computed columns, with a cell for each row.
  var computed: [String: Column] = [:]

  init(items: ColumnTable, source: any QuerySource, problems: QueryProblems) {
    self.items = items
    self.source = source
    self.problems = problems
  }

  func isDerived(_ name: String) -> Bool {
    items[name] == nil
      && (computed[name] != nil || source.derivedColumnNames.contains(name))
  }

  /// The column, or nil after the problem was recorded.
  func column(_ reference: ColumnReference) -> Column? {
    if let qualifier = reference.qualifier {
      switch qualifier.text.lowercased() {
      case "item", "items": break
      case "user", "users":
        problems.add(
          "misplaced_name", "`user.\(reference.name.text)` is a value and no column of the rows",
          reference.span,
          help: "It can stand in conditions (WHERE) and in expressions of score().")
        return nil
      default:
        problems.add(
          "unknown_entity", "unknown entity `\(qualifier.text)`", qualifier.span,
          help: "Write `item.\(reference.name.text)`, or the column alone.")
        return nil
      }
    }
    let name = reference.name.text
    if let column = find(name) { return column }
    problems.unknown(
      "column", name, reference.name.span, among: items.names + source.derivedColumnNames,
      plural: "columns")
    return nil
  }

  private func find(_ name: String) -> Column? {
    if let column = items[name] { return column }
    if name == "id", let column = items["item_id"] { return column }
    // Where users are ranked, their id comes first.
    if name == "id", items.names.first == "user_id" { return items["user_id"] }
    if let column = computed[name] { return column }
    guard source.derivedColumnNames.contains(name), let column = source.derivedColumn(name) else {
      return nil
    }
    precondition(
      column.count == items.rowCount, "`\(name)`: \(column.count) of \(items.rowCount) rows")
    return column
  }
}
