import Domain
import QueryEngine
import QueryLanguage
import State

/// `data.filters`: declared beside the tables, folded from the log like histories.
extension EngineConfiguration {
  static func readFilters(_ nodes: [SettingNode], _ reader: SettingReader) -> [Filter] {
    var filters: [Filter] = []
    for (i, node) in nodes.enumerated() {
      let path = "data.filters[\(i)]"
      guard var entry = reader.map(node, at: path) else { continue }
      let name = entry.requiredString("name", help: "Queries write prebuilt('NAME').")
      if let name {
        if name == EngineSource.alreadySeen || filters.contains(where: { $0.name == name }) {
          reader.report(
            "duplicate_name", "Two filters are called `\(name)`.", at: "\(path).name", node.range,
            help: name == EngineSource.alreadySeen
              ? "Every engine has `already_seen`: it leaves out what the user has an event with."
              : "Give each its own name.")
        } else if name.isEmpty || name.utf8.count > 64
          || name.contains(where: { ":'\"".contains($0) })
        {
          reader.report(
            "invalid_name", "`\(name)` cannot name a filter.", at: "\(path).name", node.range,
            help: "Use letters, digits, `_` and `-`, at most 64.")
        }
      }
      let type = readType(&entry, reader)
      let tablePath = entry.path(of: "filter_table")
      var filter: Filter?
      if let table = entry.required(
        "filter_table", help: "Name the table of the rows: `filter_table: {type: table, name: T}`."),
        let name, let type
      {
        filter = readFilterTable(table, at: tablePath, name, type, reader)
      }
      entry.finish()
      if let filter { filters.append(filter) }
    }
    return filters
  }

  private struct FilterType {
    var userColumn: String?
    var itemColumn: String
  }

  /// `filter_type`, a map or one word.
  private static func readType(
    _ entry: inout SettingMap, _ reader: SettingReader
  ) -> FilterType? {
    let path = entry.path(of: "filter_type")
    let names = ["personal", "global", "personal_filter", "global_filter"]
    func isPersonal(_ text: String, _ node: SettingNode) -> Bool? {
      if names.contains(text) { return text.hasPrefix("personal") }
      let near = nearestName(to: text, among: names)
      reader.report(
        "unknown_value", "`\(path)` is `\(text)`; it must be personal or global.", at: path,
        node.range, label: near.map { "did you mean `\($0)`?" } ?? "",
        help: "personal: rows are pairs of a user and an item; global: rows are items.")
      return nil
    }
    let help =
      "Write `filter_type: {type: personal, user_id_column: user_id, item_id_column: item_id}`."
    guard let node = entry.required("filter_type", help: help) else { return nil }
    if case .string(let text) = node.content {
      return isPersonal(text, node).map {
        FilterType(userColumn: $0 ? "user_id" : nil, itemColumn: "item_id")
      }
    }
    guard var map = reader.map(node, at: path) else { return nil }
    let kind = map.requiredString("type", help: help).flatMap { isPersonal($0, node) }
    let user = map.string("user_id_column")
    let item = map.string("item_id_column") ?? "item_id"
    // Filters are exact; the kind of index that the documented service makes of them changes nothing.
    _ = map.string("index_type")
    map.finish()
    guard let kind else { return nil }
    if !kind, user != nil {
      reader.report(
        "not_supported", "A global filter has no `user_id_column`.", at: path, node.range,
        help: "Write `type: personal`, or leave the column out.")
    }
    return FilterType(userColumn: kind ? user ?? "user_id" : nil, itemColumn: item)
  }

  /// `filter_table`: a table, with or without a condition, or a query over one table.
  private static func readFilterTable(
    _ node: SettingNode, at path: String, _ name: String, _ type: FilterType,
    _ reader: SettingReader
  ) -> Filter? {
    func filter(_ table: String, _ condition: String?, user: String?, item: String) -> Filter {
      Filter(
        name: name, table: TableReference(name: table, columns: nil, query: nil, path: path),
        condition: condition,
        userColumn: user, itemColumn: item)
    }
    if case .string(let table) = node.content {
      return filter(table, nil, user: type.userColumn, item: type.itemColumn)
    }
    guard var map = reader.map(node, at: path) else { return nil }
    let kind = map.take("type")
    let query = map.take("query")
    if let query, kind == nil || kind?.content == .string("query") {
      map.finish()
      guard let text = reader.string(query, at: "\(path).query") else { return nil }
      do throws(Diagnostics) {
        let parsed = try Parser.tableQuery(text)
        let source = try FilterQuery(parsed, text: text)
        return filter(
          source.table, source.condition,
          user: try type.userColumn.map { name throws(Diagnostics) in
            try source.column(name, text: text)
          }, item: try source.column(type.itemColumn, text: text))
      } catch {
        for var problem in error.all {
          problem.place = "\(path).query"
          if problem.span?.origin == "query" { problem.span?.origin = "\(path).query" }
          reader.add(problem)
        }
        return nil
      }
    }
    if let kind, kind.content != .string("table") {
      reader.report(
        "not_available", "A filter's table of type \(kind.kindName) is not available.",
        at: "\(path).type", kind.range,
        help: "Write `{type: table, name: TABLE}`, or `{type: query, query: \"SELECT …\"}`.")
      return nil
    }
    let table = map.requiredString("name", help: "Name the table: `{type: table, name: blocked}`.")
    let columns = map.strings("columns")
    let condition = map.string("where")
    map.finish()
    var result = table.map {
      filter($0, condition, user: type.userColumn, item: type.itemColumn)
    }
    result?.table.columns = columns
    return result
  }
}

/// What a filter takes of a query: one table, the rows of a condition, and names for its columns.
private struct FilterQuery {
  var table: String
  var condition: String?
  /// Nil: all columns under their own names.
  private var columns: [String: String]? = [:]

  init(_ query: DataQuery, text: String) throws(Diagnostics) {
    var problems: [Diagnostic] = []
    func refuse(_ what: String, _ span: SourceSpan) {
      problems.append(
        Diagnostic(
          code: "not_supported", "\(what) cannot stand in the query of a filter.",
          span: Diagnostic.Span(text: text, range: span.range, origin: "query"),
          help: "A filter follows each inserted row by itself: SELECT user_id, video_id AS item_id "
            + "FROM watched WHERE label > 0."))
    }
    switch query.from {
    case .table(let namespace, let name) where namespace.text == "data": table = name.text
    case .table(_, let name):
      table = name.text
      refuse("A view", name.span)
    default:
      table = ""
      refuse("What is no table", query.span)
    }
    if !query.groups.isEmpty || query.having != nil { refuse("GROUP BY", query.span) }
    if let term = query.order.first { refuse("ORDER BY", term.expression.span) }
    if let limit = query.limit ?? query.offset { refuse("LIMIT", limit.span) }
    for column in query.select {
      guard let expression = column.expression else {
        columns = nil
        break
      }
      if case .column(let reference) = expression.kind, reference.qualifier == nil {
        columns?[column.name] = reference.name.text
      } else {
        refuse("An expression in SELECT", expression.span)
      }
    }
    condition = query.predicate.map { Printer.text($0) }
    if !problems.isEmpty { throw Diagnostics(problems) }
  }

  /// The table's column behind a name of the query.
  func column(_ name: String, text: String) throws(Diagnostics) -> String {
    guard let columns else { return name }
    if let column = columns[name] { return column }
    let names = columns.keys.sorted()
    throw Diagnostics(
      Diagnostic(
        code: "unknown_column", "The filter's query has no column `\(name)`.",
        help: nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
          ?? "It has \(names.map { "`\($0)`" }.joined(separator: ", ")); write `… AS \(name)`, or "
          + "name the column in `filter_type`."))
  }
}

extension FilterMapping {
  /// Finds a filter's columns in its table and checks its condition.
  ///
  /// - Throws: every problem at once.
  init(_ filter: EngineConfiguration.Filter, of table: TableSchema) throws(Diagnostics) {
    var problems: [Diagnostic] = []
    let ids: [ColumnType] = [.string, .lowCardinalityString, .int32, .int64]
    func place(of name: String) -> Int? {
      guard let place = table.index(of: name) else {
        let names = table.columns.map(\.name)
        problems.append(
          Diagnostic(
            code: "unknown_column",
            "The filter `\(filter.name)` reads a column `\(name)`, which the table "
              + "`\(table.name)` does not have.", at: filter.table.path,
            help: nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
              ?? "Its columns are \(names.map { "`\($0)`" }.joined(separator: ", ")); `filter_type` "
              + "names those of the ids."))
        return nil
      }
      let type = table.columns[place].type
      if !ids.contains(type) {
        problems.append(
          Diagnostic(
            code: "wrong_column_type",
            "The filter `\(filter.name)` reads ids from `\(name)`, which is of type "
              + "\(type.rawValue).", at: filter.table.path,
            help: "It must be one of \(ids.map(\.rawValue).joined(separator: ", "))."))
      }
      return place
    }
    let user = filter.userColumn.flatMap { place(of: $0) }
    let item = place(of: filter.itemColumn)
    var condition: RowCondition?
    if let text = filter.condition {
      do throws(Diagnostics) {
        condition = try RowCondition(text, columns: table.columns)
      } catch {
        for var problem in error.all {
          problem.place = filter.table.path
          if problem.span?.origin == "query" { problem.span?.origin = "\(filter.table.path) WHERE" }
          problems.append(problem)
        }
      }
    }
    guard problems.isEmpty, let item else { throw Diagnostics(problems) }
    var holds: (@Sendable ([LoggedRow]) -> [Bool])?
    if let condition { holds = { rows in condition.holds(rows.map(\.values)) } }
    self.init(
      table: table.name, userPlace: user, itemPlace: item, condition: holds,
      conditionText: filter.condition)
  }
}
