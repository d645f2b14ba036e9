import Domain
import QueryLanguage

/// The values of a query's parameters, put in the place of their names.
///
/// A value never becomes text that is read again: it takes the place of a node of the tree.
struct Parameters {
  let values: [String: JSON]
  let problems: QueryProblems

  /// The value of a parameter; a missing one is a problem, recorded once.
  func value(_ name: String, _ span: SourceSpan) -> JSON? {
    if let value = values[name] { return value }
    let near = nearestName(to: name, among: values.keys.sorted())
    problems.add(
      "missing_parameter",
      "Missing required field: 'parameters.\(name)'. The query uses $\(name) and the request does "
        + "not give it.", span,
      label: near.map { "the request gives `\($0)`" } ?? "",
      help: #"Send it beside the query: "parameters": {"\#(name)": …}"#)
    return nil
  }

  /// What an argument is set to, or nil where that is no plain value.
  func value(of argument: Argument) -> JSON? {
    switch argument.kind {
    case .null: return .null
    case .bool(let value): return .bool(value)
    case .int(let value): return .int(value)
    case .double(let value): return .double(value)
    case .string(let value): return .string(value)
    case .parameter(let name): return value(name, argument.span)
    case .list(let elements):
      var out: [JSON] = []
      for element in elements {
        guard let value = value(of: element) else { return nil }
        out.append(value)
      }
      return .array(out)
    case .name(let name):
      problems.add(
        "unquoted_text", "`\(name)` is not a value", argument.span,
        help: "Write a text between quotes ('\(name)') or a parameter ($\(name)).")
      return nil
    case .call, .formula, .predicate, .columns: return nil
    }
  }

  /// The expression with its parameters' values in their places.
  func filled(_ expression: Expression) -> Expression {
    func copy(_ kind: Expression.Kind) -> Expression { Expression(kind, expression.span) }
    switch expression.kind {
    case .null, .bool, .int, .double, .string, .column: return expression
    case .parameter(let name):
      guard let value = value(name, expression.span) else { return copy(.null) }
      return literal(value, name, expression.span)
    case .list(let elements):
      // A parameter that is a list gives its elements to the list around it.
      return copy(
        .list(
          elements.flatMap { element in
            let filled = filled(element)
            if case .parameter = element.kind, case .list(let inner) = filled.kind { return inner }
            return [filled]
          }))
    case .not(let operand): return copy(.not(filled(operand)))
    case .negate(let operand): return copy(.negate(filled(operand)))
    case .binary(let op, let left, let right):
      return copy(.binary(op, filled(left), filled(right)))
    case .isTest(let operand, let test, let negated):
      return copy(.isTest(filled(operand), test, negated: negated))
    case .isIn(let operand, let list, let negated):
      var list = filled(list)
      if case .list = list.kind {} else { list = Expression(.list([list]), list.span) }
      return copy(.isIn(filled(operand), list: list, negated: negated))
    case .like(let operand, let pattern, let ignoresCase, let negated):
      return copy(
        .like(
          filled(operand), pattern: filled(pattern), ignoresCase: ignoresCase, negated: negated))
    case .between(let operand, let low, let high, let negated):
      return copy(
        .between(filled(operand), low: filled(low), high: filled(high), negated: negated))
    case .call(let name, let arguments): return copy(.call(name, arguments.map(filled)))
    case .cast(let operand, let type): return copy(.cast(filled(operand), to: type))
    case .prebuilt(let name, let user):
      return copy(.prebuilt(name: filled(name), user: user.map(filled)))
    case .truncate(let count): return copy(.truncate(filled(count)))
    }
  }

  private func literal(_ value: JSON, _ name: String, _ span: SourceSpan) -> Expression {
    switch value {
    case .null: return Expression(.null, span)
    case .bool(let value): return Expression(.bool(value), span)
    case .int(let value): return Expression(.int(value), span)
    case .double(let value): return Expression(.double(value), span)
    case .string(let value): return Expression(.string(value), span)
    case .array(let elements):
      return Expression(.list(elements.map { literal($0, name, span) }), span)
    case .object:
      problems.add(
        "parameter_type", "The parameter `\(name)` is an object; a condition needs a plain value",
        span)
      return Expression(.null, span)
    }
  }
}
