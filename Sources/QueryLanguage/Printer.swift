/// Writes a tree as canonical text, which reads back as the same tree.
///
/// Keywords are in upper case, retrievers stand in `retrieve(...)`, parameters are bare, texts stand
/// between single quotes, and parentheses only where they are needed.
package enum Printer {
  package static func text(_ query: Query) -> String {
    var parts: [String] = []
    if !query.select.isEmpty { parts.append("SELECT " + commas(query.select.map(text))) }
    if let from = query.from { parts.append("FROM " + text(from)) }
    if let predicate = query.predicate { parts.append("WHERE " + text(predicate)) }
    if !query.order.isEmpty { parts.append("ORDER BY " + commas(query.order.map(text))) }
    if !query.reorder.isEmpty { parts.append("REORDER BY " + commas(query.reorder.map(text))) }
    if let limit = query.limit { parts.append("LIMIT " + text(limit)) }
    if let offset = query.offset { parts.append("OFFSET " + text(offset)) }
    return parts.joined(separator: " ")
  }

  private static func commas(_ parts: [String]) -> String { parts.joined(separator: ", ") }

  private static func text(_ item: SelectItem) -> String {
    func alias(_ name: Name?) -> String { name.map { " AS " + word($0.text) } ?? "" }
    return switch item {
    case .all: "*"
    case .column(let reference, let name): text(reference) + alias(name)
    case .call(let call, let name): text(call) + alias(name)
    }
  }

  private static func text(_ from: From) -> String {
    switch from {
    case .retrievers(let calls): "retrieve(" + commas(calls.map(text)) + ")"
    case .entity(let name): name.text
    case .table(let namespace, let name): namespace.text + "." + word(name.text)
    case .engine(let name, let inner): "engine." + word(name.text) + "." + text(inner)
    }
  }

  package static func text(_ call: Call) -> String {
    let arguments = call.arguments.map { argument in
      (argument.name.map { $0.text + "=" } ?? "") + text(argument.value)
    }
    return word(call.name.text) + "(" + commas(arguments) + ")"
  }

  package static func text(_ reference: ColumnReference) -> String {
    (reference.qualifier.map { word($0.text) + "." } ?? "") + word(reference.name.text)
  }

  private static func text(_ term: OrderTerm) -> String {
    let key =
      switch term.key {
      case .name(let reference): text(reference)
      case .call(let call): text(call)
      }
    return key + (term.isDescending.map { $0 ? " DESC" : " ASC" } ?? "")
      + (term.nullsFirst ? " NULLS FIRST" : "")
  }

  package static func text(_ column: SortColumn) -> String {
    text(column.column) + (column.isDescending ? " DESC" : " ASC")
      + (column.nullsFirst ? " NULLS FIRST" : "")
  }

  package static func text(_ argument: Argument) -> String {
    switch argument.kind {
    case .null: "NULL"
    case .bool(let value): value ? "TRUE" : "FALSE"
    case .int(let value): String(value)
    case .double(let value): String(value)
    case .string(let value): quoted(value)
    case .parameter(let name): "$" + name
    case .list(let elements): "[" + commas(elements.map(text)) + "]"
    case .name(let name): word(name)
    case .call(let call): text(call)
    case .formula(let formula): quoted(text(formula))
    case .predicate(let predicate): quoted(text(predicate))
    case .columns(let columns): quoted(commas(columns.map(text)))
    }
  }

  /// A text between single quotes.
  package static func quoted(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
  }

  /// A name, between backquotes where it would not be read as one.
  package static func word(_ name: String) -> String {
    let bytes = name.utf8
    if let first = bytes.first, Lexer.isWordStart(first), bytes.allSatisfy(Lexer.isWord),
      !ReservedWords.all.contains(name.lowercased())
    {
      return name
    }
    return "`"
      + name.split(separator: "`", omittingEmptySubsequences: false).joined(separator: "``") + "`"
  }

  // MARK: Predicates

  package static func text(_ expression: Expression) -> String { text(expression, above: 0) }

  /// How tight an expression binds; an operand that binds less gets parentheses.
  private static func level(_ kind: Expression.Kind) -> Int {
    switch kind {
    case .binary(.or, _, _): 1
    case .binary(.and, _, _): 2
    case .not: 3
    case .isTest, .isIn, .like, .between: 4
    case .binary(let op, _, _):
      switch op {
      case .concatenate: 5
      case .add, .subtract: 6
      case .multiply, .divide, .remainder: 7
      default: 4
      }
    case .negate: 8
    default: 9
    }
  }

  private static func text(_ expression: Expression, above: Int) -> String {
    let level = level(expression.kind)
    func not(_ negated: Bool) -> String { negated ? "NOT " : "" }
    let plain =
      switch expression.kind {
      case .null: "NULL"
      case .bool(let value): value ? "TRUE" : "FALSE"
      case .int(let value): String(value)
      case .double(let value): String(value)
      case .string(let value): quoted(value)
      case .parameter(let name): "$" + name
      case .list(let elements): "[" + commas(elements.map(text)) + "]"
      case .column(let reference): text(reference)
      case .not(let operand): "NOT " + text(operand, above: 3)
      // A space keeps two signs from opening a comment.
      case .negate(let operand): "- " + text(operand, above: 8)
      case .binary(let op, let left, let right):
        text(left, above: level) + " \(op.rawValue) " + text(right, above: level + 1)
      case .isTest(let operand, let test, let negated):
        text(operand, above: 4) + " IS " + not(negated) + test.rawValue
      case .isIn(let operand, let list, let negated):
        text(operand, above: 4) + " \(not(negated))IN " + text(list)
      case .like(let operand, let pattern, let ignoresCase, let negated):
        text(operand, above: 4) + " \(not(negated))\(ignoresCase ? "ILIKE" : "LIKE") "
          + text(pattern, above: 5)
      case .between(let operand, let low, let high, let negated):
        text(operand, above: 4) + " \(not(negated))BETWEEN " + text(low, above: 5) + " AND "
          + text(high, above: 5)
      case .call(let name, let arguments):
        word(name.text) + "(" + commas(arguments.map(text)) + ")"
      case .cast(let operand, let type): "CAST(" + text(operand) + " AS " + word(type.text) + ")"
      case .prebuilt(let name, let user):
        "prebuilt(" + text(name) + (user.map { ", input_user_id=" + text($0) } ?? "") + ")"
      case .truncate(let count): "truncate(" + text(count) + ")"
      }
    return level < above ? "(" + plain + ")" : plain
  }

  // MARK: Value expressions

  package static func text(_ formula: Formula) -> String { text(formula, above: 0) }

  private static func level(_ kind: Formula.Kind) -> Int {
    switch kind {
    case .conditional: 0
    case .binary(let op, _, _):
      switch op {
      case .or: 1
      case .and: 2
      case .add, .subtract: 5
      case .multiply, .divide, .remainder: 6
      case .power: 8
      default: 4
      }
    case .not: 3
    case .negate: 7
    default: 9
    }
  }

  private static func text(_ formula: Formula, above: Int) -> String {
    let level = level(formula.kind)
    let plain: String
    switch formula.kind {
    case .null: plain = "None"
    case .bool(let value): plain = value ? "True" : "False"
    case .int(let value): plain = String(value)
    case .double(let value): plain = String(value)
    case .string(let value): plain = quoted(value)
    case .parameter(let name): plain = "$" + name
    case .name(let parts): plain = parts.map { formulaWord($0.text) }.joined(separator: ".")
    case .not(let operand): plain = "not " + text(operand, above: 3)
    case .negate(let operand): plain = "-" + text(operand, above: 7)
    case .binary(.power, let left, let right):
      plain = text(left, above: 9) + " ** " + text(right, above: 7)
    case .binary(let op, let left, let right):
      // Comparisons do not chain, so a comparison on the left needs parentheses as well.
      let leftLevel = level == 4 ? 5 : level
      plain = text(left, above: leftLevel) + " \(op.rawValue) " + text(right, above: level + 1)
    case .conditional(let then, let condition, let otherwise):
      plain =
        text(then, above: 1) + " if " + text(condition, above: 1) + " else " + text(otherwise)
    case .call(let name, let arguments):
      let list = arguments.map { ($0.name.map { $0.text + "=" } ?? "") + text($0.value) }
      plain = name.text + "(" + commas(list) + ")"
    }
    return level < above ? "(" + plain + ")" : plain
  }

  private static func formulaWord(_ name: String) -> String {
    let keywords = ["and", "or", "not", "if", "else", "true", "false", "none", "null"]
    let bytes = name.utf8
    if let first = bytes.first, Lexer.isWordStart(first), bytes.allSatisfy(Lexer.isWord),
      !keywords.contains(name.lowercased())
    {
      return name
    }
    return "`"
      + name.split(separator: "`", omittingEmptySubsequences: false).joined(separator: "``") + "`"
  }
}
