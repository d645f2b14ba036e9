import Columns
import Domain
import QueryLanguage

/// A data query with its aggregates taken out of the expressions around them.
///
/// Where the query groups, every expression of SELECT, HAVING and ORDER BY reads a table of groups:
/// a column for each expression of GROUP BY, and one for each aggregate.
struct DataPlan {
  struct Problem {
    var code: String
    var message: String
    var span: SourceSpan
    var help: String?
  }

  var outputs: [(name: String, expression: Expression)] = []
  var groups: [Expression] = []
  var aggregates: [(kind: Aggregate, argument: Expression?)] = []
  var having: Expression?
  var order: [DataOrder] = []
  var isGrouped = false
  private(set) var problems: [Problem] = []

  /// Names that no query can write.
  static func groupName(_ place: Int) -> String { "\u{1}group \(place)" }
  static func aggregateName(_ place: Int) -> String { "\u{1}aggregate \(place)" }

  /// - Parameter parameters: fills in the values of parameters.
  init(_ query: DataQuery, _ table: ColumnTable, _ parameters: Parameters) {
    var aliases: [String: Expression] = [:]
    var select: [(name: String, expression: Expression)] = []
    for column in query.select {
      guard let expression = column.expression else {
        for name in table.names {
          select.append((name, Expression(.column(ColumnReference(name: Name(name))))))
        }
        continue
      }
      let filled = parameters.filled(expression)
      select.append((column.name, filled))
      if let alias = column.alias, table[alias.text] == nil { aliases[alias.text] = filled }
    }
    /// An alias or a number of the SELECT list as its expression.
    func resolved(_ expression: Expression) -> Expression {
      switch expression.kind {
      case .column(let reference) where reference.qualifier == nil:
        aliases[reference.name.text] ?? expression
      case .int(let number) where number >= 1 && number <= Int64(select.count):
        select[Int(number) - 1].expression
      default: expression
      }
    }
    groups = query.groups.map { resolved(parameters.filled($0)) }
    let having = query.having.map { expression in
      parameters.filled(expression).mapped { node in
        if case .column(let reference) = node.kind, reference.qualifier == nil {
          return aliases[reference.name.text]
        }
        return nil
      }
    }
    let order = query.order.map { term in
      DataOrder(
        resolved(parameters.filled(term.expression)), isDescending: term.isDescending,
        nullsFirst: term.nullsFirst)
    }
    isGrouped =
      !groups.isEmpty || having != nil
      || select.contains { DataPlan.hasAggregate($0.expression) }
      || order.contains { DataPlan.hasAggregate($0.expression) }
    outputs = select
    self.having = having
    self.order = order
    guard isGrouped else { return }
    outputs = select.map { ($0.name, split($0.expression)) }
    self.having = having.map { split($0) }
    self.order = order.map { term in
      DataOrder(
        split(term.expression), isDescending: term.isDescending, nullsFirst: term.nullsFirst)
    }
    for group in groups where DataPlan.hasAggregate(group) {
      problems.append(
        Problem(
          code: "misplaced_function", message: "an aggregate cannot stand in GROUP BY",
          span: group.span, help: "Conditions on aggregates belong in HAVING."))
    }
  }

  private static func hasAggregate(_ expression: Expression) -> Bool {
    aggregate(in: expression) != nil
  }

  /// Where the expression calls an aggregate, or nil.
  static func aggregate(in expression: Expression) -> SourceSpan? {
    var found: SourceSpan?
    _ = expression.mapped { node in
      if case .call(let name, _) = node.kind, Aggregate(rawValue: name.text) != nil {
        found = found ?? name.span
      }
      return nil
    }
    return found
  }

  /// The expression over the table of groups.
  private mutating func split(_ expression: Expression) -> Expression {
    var found: [(kind: Aggregate, argument: Expression?)] = aggregates
    var wrong: [Problem] = []
    let groups = groups
    let out = expression.mapped { node in
      func column(_ name: String) -> Expression {
        Expression(.column(ColumnReference(name: Name(name, node.span))), node.span)
      }
      if let place = groups.firstIndex(of: node) { return column(DataPlan.groupName(place)) }
      switch node.kind {
      case .call(let name, let arguments):
        guard let kind = Aggregate(rawValue: name.text) else { return nil }
        guard arguments.count == 1 || (kind == .count && arguments.isEmpty) else {
          wrong.append(
            Problem(
              code: "wrong_argument_count",
              message: "\(name.text)() takes 1 argument, not \(arguments.count)", span: node.span))
          return node
        }
        if let inner = arguments.first, DataPlan.hasAggregate(inner) {
          wrong.append(
            Problem(
              code: "misplaced_function", message: "an aggregate cannot stand inside another",
              span: inner.span))
        }
        let place =
          found.firstIndex { $0.kind == kind && $0.argument == arguments.first } ?? found.count
        if place == found.count { found.append((kind, arguments.first)) }
        return column(DataPlan.aggregateName(place))
      case .column(let reference):
        wrong.append(
          Problem(
            code: "not_grouped",
            message: "`\(reference.name.text)` is neither grouped by nor inside an aggregate",
            span: node.span, help: "GROUP BY \(reference.name.text), or max(\(reference.name.text))"
          ))
        return node
      default: return nil
      }
    }
    aggregates = found
    problems += wrong
    return out
  }
}

extension Expression {
  /// The expression with nodes replaced from the top: where `replace` gives a node it takes the place of
  /// the old one and is not looked into.
  func mapped(_ replace: (Expression) -> Expression?) -> Expression {
    if let new = replace(self) { return new }
    func inner(_ expression: Expression) -> Expression { expression.mapped(replace) }
    let new: Kind
    switch kind {
    case .null, .bool, .int, .double, .string, .parameter, .column, .prebuilt, .truncate:
      return self
    case .list(let elements): new = .list(elements.map(inner))
    case .not(let a): new = .not(inner(a))
    case .negate(let a): new = .negate(inner(a))
    case .binary(let op, let a, let b): new = .binary(op, inner(a), inner(b))
    case .isTest(let a, let test, let negated): new = .isTest(inner(a), test, negated: negated)
    case .isIn(let a, let list, let negated):
      new = .isIn(inner(a), list: inner(list), negated: negated)
    case .like(let a, let pattern, let ignoresCase, let negated):
      new = .like(
        inner(a), pattern: inner(pattern), ignoresCase: ignoresCase, negated: negated)
    case .between(let a, let low, let high, let negated):
      new = .between(inner(a), low: inner(low), high: inner(high), negated: negated)
    case .call(let name, let arguments): new = .call(name, arguments.map(inner))
    case .conditional(let branches, let otherwise):
      new = .conditional(
        branches.map { CaseBranch(condition: inner($0.condition), value: inner($0.value)) },
        otherwise: otherwise.map(inner))
    case .cast(let a, let type): new = .cast(inner(a), to: type)
    }
    return Expression(new, span)
  }
}
