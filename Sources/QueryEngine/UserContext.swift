package import Domain
import QueryLanguage

/// The user of a query and what the caller gives about the user.
struct UserContext {
  var id: UserID?
  /// These take the place of stored cells.
  var features: [String: JSON] = [:]
  /// Whether the query names several users.
  var isAmbiguous = false

  /// The user that a query names wherever it takes one.
  init(_ query: Query, _ parameters: [String: JSON]) {
    var ids: [UserID] = []
    func read(_ argument: Argument) {
      var value: JSON?
      switch argument.kind {
      case .string(let text): value = .string(text)
      case .int(let number): value = .int(number)
      case .parameter(let name): value = parameters[name]
      default: break
      }
      switch value {
      case .string(let text): ids.append(UserID(text))
      case .int(let number): ids.append(UserID(String(number)))
      default: break
      }
    }
    func visit(_ call: Call) {
      for argument in call.arguments {
        if argument.name?.text == "input_user_id" { read(argument.value) }
        if case .call(let inner) = argument.value.kind { visit(inner) }
      }
      // What score() is told of the user holds for the conditions too.
      if call.name.text == "score", case .parameter(let name)? = call["input_user_features"]?.kind,
        let members = parameters[name]?.object
      {
        for member in members { features[member.name] = member.value }
      }
    }
    func visit(_ from: From?) {
      switch from {
      case .retrievers(let calls): calls.forEach(visit)
      case .engine(_, let inner): visit(inner)
      case .entity, .table, nil: break
      }
    }
    func visit(_ expression: Expression) {
      for term in expression.conjuncts {
        guard case .prebuilt(_, let user?) = term.kind else { continue }
        switch user.kind {
        case .string(let text): ids.append(UserID(text))
        case .int(let number): ids.append(UserID(String(number)))
        case .parameter(let name): read(Argument(.parameter(name)))
        default: break
        }
      }
    }
    for item in query.select {
      if case .call(let call, _) = item { visit(call) }
    }
    for term in query.order {
      if case .call(let call) = term.key { visit(call) }
    }
    visit(query.from)
    query.reorder.forEach(visit)
    if let predicate = query.predicate { visit(predicate) }
    let distinct = Set(ids)
    id = distinct.count == 1 ? ids.first : nil
    isAmbiguous = distinct.count > 1
  }

  /// A cell of the user, or nil after the problem was recorded.
  func value(
    _ reference: ColumnReference, _ source: any QuerySource, _ problems: QueryProblems
  ) -> Value? {
    let name = reference.name.text
    if let given = features[name] { return Value(given) }
    if name == "user_id" || name == "id", let id { return .string(id.rawValue) }
    let known = source.userColumns.map(\.name)
    guard known.contains(name) else {
      problems.unknown(
        "user column", name, reference.name.span, among: known + features.keys.sorted(),
        plural: "columns of users",
        help: "Values of the moment can be sent along: input_user_features=$features.")
      return nil
    }
    guard let id else {
      problems.add(
        "missing_argument",
        isAmbiguous
          ? "the query names several users; `user.\(name)` could be any's"
          : "`user.\(name)` needs a user", reference.span,
        help: "Give one user: input_user_id=$user_id")
      return nil
    }
    return source.userCell(name, of: id)
  }

  /// A cell of the user as a literal of a condition.
  func cell(
    _ reference: ColumnReference, _ source: any QuerySource, _ problems: QueryProblems
  ) -> Expression? {
    value(reference, source, problems).map { literal($0, reference.span) }
  }

  private func literal(_ value: Value, _ span: SourceSpan) -> Expression {
    switch value {
    case .null, .bytes: Expression(.null, span)
    case .bool(let value): Expression(.bool(value), span)
    case .int(let value): Expression(.int(value), span)
    case .double(let value): Expression(.double(value), span)
    case .string(let value): Expression(.string(value), span)
    case .timestamp(let value):
      Expression(
        .cast(Expression(.string(value.iso8601), span), to: Name("timestamp", span)), span)
    case .array(let elements): Expression(.list(elements.map { literal($0, span) }), span)
    }
  }
}

extension Value {
  /// A plain value of a document; objects are null.
  package init(_ json: JSON) {
    switch json {
    case .null, .object: self = .null
    case .bool(let value): self = .bool(value)
    case .int(let value): self = .int(value)
    case .double(let value): self = .double(value)
    case .string(let value): self = .string(value)
    case .array(let elements): self = .array(elements.map { Value($0) })
    }
  }

  /// The cell as a document: times in ISO 8601.
  package var json: JSON {
    switch self {
    case .null, .bytes: .null
    case .bool(let value): .bool(value)
    case .int(let value): .int(value)
    case .double(let value): .double(value)
    case .string(let value): .string(value)
    case .timestamp(let value): .string(value.iso8601)
    case .array(let elements): .array(elements.map(\.json))
    }
  }
}
