import Domain
import GRDB

/// What follows from a view's SQL: what it reads, and how it can be kept up to date.
struct ViewPlan: Hashable, Sendable {
  /// Tables and views that the query names, in the order of their names.
  var sources: [String]
  var upkeep: StoredView.Upkeep
  /// Why not with each row.
  var reason: String?
  private let sql: String
  private let tokens: [SQLToken]

  /// What a name in a query may mean.
  struct Catalogue {
    /// Every table, the materialised views among them.
    var tables: [String: TableSchema]
    var plainViews: [String: ViewPlan]

    /// The table or view of a name, case aside.
    func name(_ text: String) -> String? {
      if tables[text] != nil || plainViews[text] != nil { return text }
      let lower = text.lowercased()
      return tables.keys.first { $0.lowercased() == lower }
        ?? plainViews.keys.first { $0.lowercased() == lower }
    }
  }

  /// Looks at a query without running it.
  ///
  /// - Throws: `invalid_sql` where it is no single `SELECT`, or reads what is not the user's.
  init(_ sql: String, kind: ViewDefinition.Kind, _ catalogue: Catalogue) throws(Diagnostic) {
    // ISNULL is an operator in SQLite, so the functions go by other names.
    var text = sql
    for token in try SQLToken.all(in: sql).reversed()
    where token.isWord("ISNULL") || token.isWord("ISNOTNULL") {
      let start = text.utf8.index(text.startIndex, offsetBy: token.range.lowerBound)
      text.insert(contentsOf: "riffle_", at: start)
    }
    self.sql = text
    let written = try SQLToken.all(in: sql)
    try ViewPlan.check(written, sql)
    var tokens = try SQLToken.all(in: text)
    while tokens.last?.isSymbol(";") == true { tokens.removeLast() }
    self.tokens = tokens
    sources = Set(tokens.compactMap { $0.name.flatMap(catalogue.name) }).sorted()
    if kind == .plain {
      upkeep = .whenRead
      return
    }
    reason = ViewPlan.obstacle(tokens, catalogue)
    upkeep = reason == nil ? .withEachRow : .onSchedule
  }

  // MARK: What is allowed

  private static func check(_ tokens: [SQLToken], _ sql: String) throws(Diagnostic) {
    func fault(_ token: SQLToken?, _ message: String, _ help: String) -> Diagnostic {
      Diagnostic(
        code: "invalid_sql", message, at: "sql_query",
        span: token.map {
          Diagnostic.Span(text: sql, range: $0.range, origin: "sql_query")
        }, help: help)
    }
    guard let first = tokens.first, first.isWord("SELECT") || first.isWord("WITH") else {
      throw fault(
        tokens.first, "A view is one SELECT.", "Begin with SELECT, or with WITH ... SELECT.")
    }
    for (i, token) in tokens.enumerated() {
      if token.isSymbol(";") {
        // One at the very end is a habit, not a second statement.
        if tokens[i...].allSatisfy({ $0.isSymbol(";") }) { break }
        throw fault(token, "A view is one statement.", "Remove what follows the semicolon.")
      }
      if token.isSymbol("?") || token.isSymbol(":") || token.isSymbol("@") {
        throw fault(token, "A view has no parameters.", "Write the value itself.")
      }
      guard let name = token.name?.lowercased() else { continue }
      if ["_riffle_", "sqlite_", "pragma_"].contains(where: name.hasPrefix)
        || ["dbstat", "load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"]
          .contains(name)
      {
        throw fault(
          token, "A view cannot use `\(token.text)`.", "Views read tables and other views alone.")
      }
    }
  }

  // MARK: How it is kept up to date

  private static let aggregates: Set<String> = [
    "COUNT", "SUM", "AVG", "TOTAL", "GROUP_CONCAT", "STRING_AGG", "JSON_GROUP_ARRAY",
    "JSON_GROUP_OBJECT", "COUNTIF", "SUMIF", "AVGIF", "UNIQ", "UNIQEXACT", "ANY", "ANYLAST",
    "ARGMAX", "ARGMIN", "GROUPARRAY", "GROUPUNIQARRAY",
  ]
  private static let unsteady: Set<String> = [
    "NOW", "TODAY", "YESTERDAY", "RANDOM", "RANDOMBLOB", "RAND", "CURRENT_TIMESTAMP",
    "CURRENT_DATE", "CURRENT_TIME", "CHANGES", "TOTAL_CHANGES", "LAST_INSERT_ROWID",
    "SQLITE_VERSION",
  ]

  /// The first thing that keeps a view from following its table row by row; nil where nothing does.
  private static func obstacle(_ tokens: [SQLToken], _ catalogue: Catalogue) -> String? {
    if tokens.first?.isWord("WITH") == true { return "it begins with WITH" }
    if tokens.dropFirst().contains(where: { $0.isWord("SELECT") }) {
      return "it has a subquery or a union"
    }
    if tokens.count > 1, tokens[1].isWord("DISTINCT") || tokens[1].isWord("ALL") {
      return "it has \(tokens[1].text)"
    }
    for (word, what) in [
      ("JOIN", "a join"), ("GROUP", "GROUP BY"), ("HAVING", "HAVING"), ("ORDER", "ORDER BY"),
      ("LIMIT", "LIMIT"), ("OVER", "a window function"), ("WINDOW", "a window function"),
      ("VALUES", "VALUES"),
    ] where tokens.contains(where: { $0.isWord(word) }) {
      return "it has \(what)"
    }
    for (i, token) in tokens.enumerated() where token.kind == .word {
      let word = token.text.uppercased()
      let isCall = i + 1 < tokens.count && tokens[i + 1].isSymbol("(")
      if isCall, aggregates.contains(word) { return "it aggregates by \(token.text)" }
      if isCall, word == "MIN" || word == "MAX", !hasComma(tokens, after: i + 1) {
        return "it aggregates by \(token.text)"
      }
      if unsteady.contains(word), isCall || word.hasPrefix("CURRENT_") {
        return "`\(token.text)` gives another value each time"
      }
    }
    if tokens.contains(where: { $0.kind == .string && $0.text.lowercased() == "now" }) {
      return "'now' means another time each time"
    }
    guard let from = tokens.firstIndex(where: { $0.isWord("FROM") && $0.depth == 0 }),
      from + 1 < tokens.count, let name = tokens[from + 1].name.flatMap(catalogue.name)
    else { return "it reads no single table" }
    if catalogue.tables[name] == nil { return "it reads the view `\(name)`" }
    let where_ = tokens.firstIndex { $0.isWord("WHERE") && $0.depth == 0 } ?? tokens.count
    if tokens[from..<where_].contains(where: { $0.isSymbol(",") || $0.isSymbol("(") }) {
      return "it reads more than one table"
    }
    if tokens.contains(where: {
      guard let other = $0.name.flatMap(catalogue.name) else { return false }
      return other != name && $0.range.lowerBound > tokens[from].range.lowerBound
        && $0.range.lowerBound < (where_ < tokens.count ? tokens[where_].range.lowerBound : .max)
    }) {
      return "it reads more than one table"
    }
    return nil
  }

  /// Whether the brackets that open at a token hold a comma of their own.
  private static func hasComma(_ tokens: [SQLToken], after open: Int) -> Bool {
    let depth = tokens[open].depth
    for token in tokens[(open + 1)...] {
      if token.isSymbol(")"), token.depth == depth { return false }
      if token.isSymbol(","), token.depth == depth + 1 { return true }
    }
    return false
  }

  /// The one table of a view that follows it row by row.
  func table(_ catalogue: Catalogue) -> String? {
    guard upkeep == .withEachRow,
      let from = tokens.firstIndex(where: { $0.isWord("FROM") && $0.depth == 0 }),
      from + 1 < tokens.count
    else { return nil }
    return tokens[from + 1].name.flatMap(catalogue.name)
  }

  // MARK: Statements

  /// Where the rows of a table come from in a statement.
  enum Rows {
    case all
    /// Positions between two parameters, `?1` and `?2`.
    case between
    /// One made-up row, to see what types come out.
    case example
  }

  /// The query over the tables as it reads them: times as text, arrays as JSON.
  ///
  /// Every table and view that the query may mean is put before it as a common table expression of
  /// the same name, which hides the table itself.
  ///
  /// - Parameter marksSource: selects the position of the source's row first.
  func statement(
    _ catalogue: Catalogue, rows: Rows = .all, marksSource: Bool = false,
    withoutConditions: Bool = false
  ) -> String {
    var expressions: [String] = []
    var done: Set<String> = []
    ViewPlan.add(sources, to: &expressions, &done, catalogue, rows)
    var head = ""
    var body = tokens
    if !expressions.isEmpty {
      head = "WITH "
      if body.first?.isWord("WITH") == true {
        body.removeFirst()
        if body.first?.isWord("RECURSIVE") == true {
          body.removeFirst()
          head = "WITH RECURSIVE "
        }
        head += expressions.joined(separator: ", ") + ", "
      } else {
        head += expressions.joined(separator: ", ") + " "
      }
    }
    let bytes = Array(sql.utf8)
    var start = body.first?.range.lowerBound ?? 0
    if marksSource {
      head += "SELECT _position AS _riffle_source, "
      start = body.first?.range.upperBound ?? 0
    }
    var end = body.last?.range.upperBound ?? bytes.count
    if withoutConditions, let place = body.first(where: { $0.isWord("WHERE") && $0.depth == 0 }) {
      end = place.range.lowerBound
      if let group = body.first(where: { $0.isWord("GROUP") && $0.depth == 0 }) {
        let text = String(decoding: bytes[start..<end], as: UTF8.self)
        let rest = bytes[group.range.lowerBound..<(body.last?.range.upperBound ?? bytes.count)]
        return head + text + String(decoding: rest, as: UTF8.self)
      }
    }
    let text = String(decoding: bytes[start..<max(start, end)], as: UTF8.self)
    return head + text
  }

  private static func add(
    _ names: [String], to expressions: inout [String], _ done: inout Set<String>,
    _ catalogue: Catalogue, _ rows: Rows
  ) {
    for name in names where done.insert(name).inserted {
      if let schema = catalogue.tables[name] {
        expressions.append("\(quoted(name)) AS (\(select(schema, rows)))")
      } else if let view = catalogue.plainViews[name] {
        add(view.sources, to: &expressions, &done, catalogue, rows)
        expressions.append("\(quoted(name)) AS (\(view.text))")
      }
    }
  }

  /// The user's text without what stands around it.
  private var text: String {
    let bytes = Array(sql.utf8)
    let start = tokens.first?.range.lowerBound ?? 0
    return String(
      decoding: bytes[start..<(tokens.last?.range.upperBound ?? bytes.count)], as: UTF8.self)
  }

  /// A table's columns as views see them.
  private static func select(_ schema: TableSchema, _ rows: Rows) -> String {
    if case .example = rows {
      let cells = schema.columns.map { ", \($0.type.example) AS \(quoted($0.name))" }
      return "SELECT 1 AS _position" + cells.joined()
    }
    let columns = schema.columns.map { column in
      column.type == .dateTime
        ? ", riffle_time(\(quoted(column.name))) AS \(quoted(column.name))"
        : ", \(quoted(column.name))"
    }
    var sql = "SELECT _position\(columns.joined()) FROM main.\(quoted(schema.name))"
    if case .between = rows { sql += " WHERE _position BETWEEN ?1 AND ?2" }
    return sql
  }
}

extension ColumnType {
  /// A cell as a view sees it, as SQL.
  fileprivate var example: String {
    switch self {
    case .bool, .int32, .int64: "1"
    case .float, .double: "1.5"
    case .dateTime: "'2024-01-02 03:04:05'"
    case .bytes: "x'61'"
    case .stringArray: "'[\"a\"]'"
    case .int64Array: "'[1]'"
    case .float64Array: "'[1.5]'"
    case .json: "'{\"a\":1}'"
    case .unknown, .string, .lowCardinalityString, .imageURL: "'a'"
    }
  }
}
