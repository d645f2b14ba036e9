import Columns
import Domain
import QueryLanguage

/// Turns a value expression into a checked program.
struct FormulaBinder {
  private enum Kind { case number, text }
  private typealias Bound = (node: FormulaProgram.Node, kind: Kind)

  let finder: ColumnFinder
  let parameters: Parameters
  /// The names of the plan's retrievers, in their order.
  let retrievers: [String?]
  private var inputs: [FormulaProgram.Input] = []
  private var columns: [Column] = []
  private var places: [String: Int] = [:]

  init(_ finder: ColumnFinder, _ parameters: Parameters, retrievers: [String?]) {
    self.finder = finder
    self.parameters = parameters
    self.retrievers = retrievers
  }

  private var problems: QueryProblems { finder.problems }
  private var source: any QuerySource { finder.source }

  /// The program, or nil after the problems were recorded.
  mutating func program(_ formula: Formula) -> FormulaProgram? {
    guard let bound = bind(formula) else { return nil }
    guard bound.kind == .number else {
      problems.add("type_mismatch", "a score must be a number; this is a text", formula.span)
      return nil
    }
    return FormulaProgram(root: bound.node, inputs: inputs, columns: columns)
  }

  private mutating func input(_ input: FormulaProgram.Input) -> FormulaProgram.Node {
    if let place = inputs.firstIndex(of: input) { return .input(place) }
    inputs.append(input)
    return .input(inputs.count - 1)
  }

  private mutating func number(_ formula: Formula) -> FormulaProgram.Node? {
    guard let bound = bind(formula) else { return nil }
    if bound.kind == .number { return bound.node }
    problems.add("type_mismatch", "a number is needed here; this is a text", formula.span)
    return nil
  }

  private mutating func bind(_ formula: Formula) -> Bound? {
    switch formula.kind {
    case .null: return (.number(.nan), .number)
    case .bool(let value): return (.number(value ? 1 : 0), .number)
    case .int(let value): return (.number(Double(value)), .number)
    case .double(let value): return (.number(value), .number)
    case .string(let text): return (.text(text), .text)
    case .parameter(let name):
      switch parameters.value(name, formula.span) {
      case nil: return nil
      case .null: return (.number(.nan), .number)
      case .bool(let value): return (.number(value ? 1 : 0), .number)
      case .int(let value): return (.number(Double(value)), .number)
      case .double(let value): return (.number(value), .number)
      case .string(let text): return (.text(text), .text)
      case .array, .object:
        problems.add(
          "parameter_type", "the parameter `\(name)` is no number and no text", formula.span)
        return nil
      }
    case .name(let parts): return name(parts, formula.span)
    case .not(let operand): return number(operand).map { (.not($0), .number) }
    case .negate(let operand): return number(operand).map { (.negate($0), .number) }
    case .binary(let op, let left, let right): return binary(op, left, right)
    case .conditional(let then, let condition, let otherwise):
      let (t, c, o) = (number(then), number(condition), number(otherwise))
      guard let t, let c, let o else { return nil }
      return (.conditional(then: t, condition: c, otherwise: o), .number)
    case .call(let name, let arguments): return call(name, arguments, formula.span)
    }
  }

  private mutating func binary(
    _ op: Formula.Operator, _ left: Formula, _ right: Formula
  ) -> Bound? {
    switch op {
    case .and, .or:
      let (l, r) = (number(left), number(right))
      guard let l, let r else { return nil }
      return (op == .and ? .and(l, r) : .or(l, r), .number)
    case .equal, .notEqual, .less, .lessOrEqual, .greater, .greaterOrEqual:
      let (l, r) = (bind(left), bind(right))
      guard let l, let r else { return nil }
      guard l.kind == r.kind else {
        problems.add(
          "type_mismatch", "a number cannot be compared with a text",
          left.span.through(right.span))
        return nil
      }
      return (
        l.kind == .text ? .compareTexts(op, l.node, r.node) : .compare(op, l.node, r.node), .number
      )
    case .add, .subtract, .multiply, .divide, .remainder, .power:
      let (l, r) = (number(left), number(right))
      guard let l, let r else { return nil }
      return (.arithmetic(op, l, r), .number)
    }
  }

  // MARK: Names

  private mutating func name(_ parts: [Name], _ span: SourceSpan) -> Bound? {
    let first = parts[0]
    if parts.count == 1 {
      if source.modelNames.contains(first.text) {
        return (input(.model(first.text)), .number)
      }
      if finder.items[first.text] != nil || finder.isDerived(first.text) {
        problems.add(
          "unknown_model", "unknown model `\(first.text)`", span,
          label: "did you mean `item.\(first.text)`?",
          help: "Columns of the catalog stand after `item.` in an expression.")
        return nil
      }
      problems.unknown(
        "model", first.text, span, among: source.modelNames, plural: "models",
        help: "Columns are written item.NAME, retrievers retrieval.NAME.")
      return nil
    }
    guard parts.count == 2 else {
      problems.add(
        "unknown_name", "unknown name `\(parts.map(\.text).joined(separator: "."))`", span)
      return nil
    }
    switch first.text.lowercased() {
    case "item": return column(parts[1], span)
    case "user":
      problems.unavailable(
        "`user.\(parts[1].text)`", span,
        help: "Use a model's score, item columns, and parameters ($params.name).")
      return nil
    case "retrieval":
      let name = parts[1].text
      if let place = retrievers.firstIndex(of: name) {
        return (input(.retrievalScore(place, fallback: 0)), .number)
      }
      if name.hasSuffix("_rank"), let place = retrievers.firstIndex(of: String(name.dropLast(5))) {
        return (input(.retrievalRank(place, fallback: 999)), .number)
      }
      unknownRetriever(name, parts[1].span)
      return nil
    default:
      problems.add(
        "unknown_name", "unknown name `\(parts.map(\.text).joined(separator: "."))`", span,
        help:
          "Names are a model, item.COLUMN, retrieval.NAME, retrieval.NAME_rank and $params.NAME.")
      return nil
    }
  }

  private func unknownRetriever(_ name: String, _ span: SourceSpan) {
    problems.unknown(
      "retriever", name, span, among: retrievers.compactMap { $0 }, plural: "named retrievers",
      help: "A retriever gets its name by name='…' among its arguments.")
  }

  private mutating func column(_ name: Name, _ span: SourceSpan) -> Bound? {
    guard let column = finder.column(ColumnReference(name: name)) else { return nil }
    let type = ScalarType(column.type)
    guard !type.isArray else {
      problems.add(
        "type_mismatch", "`item.\(name.text)` holds \(type.name); a score needs a number", span,
        help: "Test lists in WHERE: array_has(\(name.text), 'x').")
      return nil
    }
    let place = places[name.text] ?? columns.count
    if place == columns.count {
      columns.append(column)
      places[name.text] = place
    }
    if type == .string { return (.textInput(place), .text) }
    return (input(.column(place)), .number)
  }

  // MARK: Functions

  private static let unavailable: [String: String] = [
    "text_encoding": "Score with a trained model instead.",
    "pooled_text_encoding": "Score with a trained model instead.",
    "cosine_similarity":
      "Score with a trained model, or retrieve with similarity() and use its score.",
    "dot": "Score with a trained model, or retrieve with similarity() and use its score.",
    "colbert_v2": "Score with a trained model instead.",
    "cross_encoder": "Score with a trained model instead.",
  ]
  private static let names =
    FormulaFunction.allCases.map(\.rawValue)
    + ["now_seconds", "retrieval.get_score", "retrieval.get_rank"]

  private mutating func call(
    _ name: Name, _ arguments: [FormulaArgument], _ span: SourceSpan
  ) -> Bound? {
    if let help = Self.unavailable[name.text] {
      problems.unavailable("\(name.text)()", name.span, help: help)
      return nil
    }
    switch name.text {
    case "now_seconds":
      return (.number(source.now.secondsSinceEpoch), .number)
    case "retrieval.get_score", "get_score": return retrieval(name, arguments, isRank: false)
    case "retrieval.get_rank", "get_rank": return retrieval(name, arguments, isRank: true)
    default: break
    }
    guard let function = FormulaFunction(rawValue: name.text) else {
      let near = nearestName(to: name.text, among: Self.names)
      problems.add(
        "unknown_function",
        "Unknown function: '\(name.text)'. Supported: "
          + "\(Self.names.sorted().joined(separator: ", "))."
          + (near.map { " Did you mean: \($0)?" } ?? ""), name.span)
      return nil
    }
    var nodes: [FormulaProgram.Node] = []
    var isGood = true
    for argument in arguments {
      if let label = argument.name {
        problems.add(
          "unknown_argument", "\(name.text)() has no argument `\(label.text)`", label.span)
        isGood = false
        continue
      }
      guard let node = number(argument.value) else {
        isGood = false
        continue
      }
      nodes.append(node)
    }
    guard isGood else { return nil }
    let allowed = function.argumentCounts
    guard allowed.contains(nodes.count) else {
      problems.add(
        "wrong_argument_count",
        "\(name.text)() takes \(allowed.lowerBound)\(allowed.count > 1 ? " or more" : "") "
          + "\(allowed == 1...1 ? "argument" : "arguments"), not \(nodes.count)", span)
      return nil
    }
    return (.call(function, nodes), .number)
  }

  private mutating func retrieval(
    _ name: Name, _ arguments: [FormulaArgument], isRank: Bool
  ) -> Bound? {
    var retriever: (name: String, span: SourceSpan)?
    var fallback = isRank ? 999.0 : 0
    for (i, argument) in arguments.enumerated() {
      switch (argument.name?.text ?? (i == 0 ? "name" : "default"), argument.value.kind) {
      case ("name", .string(let text)): retriever = (text, argument.value.span)
      case ("default", .int(let value)): fallback = Double(value)
      case ("default", .double(let value)): fallback = value
      case ("default", .negate(let inner)):
        if case .int(let value) = inner.kind { fallback = -Double(value) }
        if case .double(let value) = inner.kind { fallback = -value }
      default:
        problems.add(
          "wrong_argument", "\(name.text)() takes a retriever's name and a default number",
          argument.value.span, help: "\(name.text)(\"name\", \(isRank ? "999" : "0.0"))")
        return nil
      }
    }
    guard let retriever else {
      problems.add(
        "missing_argument", "\(name.text)() needs the name of a retriever", name.span,
        help: "\(name.text)(\"name\", \(isRank ? "999" : "0.0"))")
      return nil
    }
    guard let place = retrievers.firstIndex(of: retriever.name) else {
      unknownRetriever(retriever.name, retriever.span)
      return nil
    }
    return (
      input(
        isRank
          ? .retrievalRank(place, fallback: fallback) : .retrievalScore(place, fallback: fallback)),
      .number
    )
  }
}
