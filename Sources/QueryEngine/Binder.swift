import Columns
import Domain
import QueryLanguage

/// Binds a query to a source: finds every name, checks every type, and makes the plan.
struct Binder {
  let source: any QuerySource
  let problems: QueryProblems
  let parameters: Parameters
  var finder: ColumnFinder
  let cache: PredicateCache
  let version: UInt64
  var plan = Plan()
  let user: UserContext
  /// Computed columns that are only shown, by name.
  var shownColumns: [String: Plan.Output] = [:]

  init(
    _ source: any QuerySource, parameters: [String: JSON], problems: QueryProblems,
    cache: PredicateCache, user: UserContext
  ) {
    self.source = source
    self.problems = problems
    self.user = user
    self.parameters = Parameters(values: parameters, problems: problems) { reference in
      user.cell(reference, source, problems)
    }
    self.cache = cache
    finder = ColumnFinder(items: source.items, source: source, problems: problems)
    version = source.catalogVersion
  }

  /// The name in a reference such as `ref:data.filters:already_seen`.
  static func referred(_ name: String) -> String {
    guard name.hasPrefix("ref:"), let colon = name.lastIndex(of: ":") else { return name }
    return String(name[name.index(after: colon)...])
  }

  /// Makes the plan; it is good only if no problem was recorded.
  mutating func plan(_ query: Query) -> Plan {
    if let limit = query.limit {
      plan.limit = count(limit, "limit", most: QueryLimits.mostRows)
    }
    if let offset = query.offset {
      plan.offset = count(offset, "offset", most: QueryLimits.mostOffset) ?? 0
    }
    plan.user = user.id
    bindComputedColumns(query)
    bindFrom(query.from)
    if let predicate = query.predicate {
      for term in predicate.conjuncts {
        if case .truncate(let most) = term.kind {
          plan.truncation = truncation(most)
        } else if let condition = condition(term) {
          plan.conditions.append(condition)
        }
      }
    }
    bindOrder(query)
    bindSelect(query.select)
    return plan
  }

  // MARK: Values

  func count(_ argument: Argument, _ name: String, most: Int) -> Int? {
    guard let value = parameters.value(of: argument) else { return nil }
    var number = value.int
    if case .string(let text) = value { number = Int64(text) }
    if case .double(let double) = value { number = Int64(exactly: double) }
    guard let number, number >= 0 else {
      problems.add(
        "not_a_count",
        "Parameter '\(name)' must be a whole number from 0 to \(most). "
          + "Got: \(value.text)", argument.span)
      return nil
    }
    guard number <= most else {
      problems.add(
        "limit_exceeded",
        "Parameter '\(name)' exceeds maximum allowed value of \(most). Got: \(number)",
        argument.span,
        help: name == "limit" && most == QueryLimits.mostRows
          ? "Ask for further rows with OFFSET." : nil)
      return nil
    }
    return Int(number)
  }

  func truncation(_ expression: Expression) -> Int? {
    guard case .int(let number) = parameters.filled(expression).kind, number > 0 else {
      problems.add(
        "not_a_count", "truncate() takes a whole number from 1", expression.span,
        help: "truncate(500)")
      return nil
    }
    return Int(min(number, Int64(Int32.max)))
  }

  func text(_ call: Call, _ name: String) -> (text: String, span: SourceSpan)? {
    guard let argument = call[name], let value = parameters.value(of: argument) else { return nil }
    switch value {
    case .string(let text): return (text, argument.span)
    case .null: return nil
    default:
      problems.add("type_mismatch", "`\(name)` is a text, not \(value.kindName)", argument.span)
      return nil
    }
  }

  /// An id, which may be given as a number; null gives nil and a problem.
  func id(_ call: Call, _ name: String) -> String? {
    guard let argument = call[name], let value = parameters.value(of: argument) else { return nil }
    if let id = Binder.id(value) { return id }
    problems.add(
      "type_mismatch", "`\(name)` is an id, not \(value.kindName)", argument.span,
      help: "Ids are texts or whole numbers.")
    return nil
  }

  static func id(_ value: JSON) -> String? {
    switch value {
    case .string(let text): text
    case .int(let number): String(number)
    default: nil
    }
  }

  func fraction(_ call: Call, _ name: String, default fallback: Double) -> Double {
    guard let argument = call[name], let value = parameters.value(of: argument) else {
      return fallback
    }
    guard let number = value.number, (0...1).contains(number) else {
      problems.add(
        "type_mismatch", "`\(name)` is a number from 0 to 1. Got: \(value.text)", argument.span)
      return fallback
    }
    return number
  }

  func limit(_ call: Call) -> Int {
    guard let argument = call["limit"] else { return QueryLimits.candidates }
    return count(argument, "limit", most: QueryLimits.mostCandidates) ?? QueryLimits.candidates
  }

  // MARK: Conditions

  func condition(_ expression: Expression) -> Plan.Condition? {
    let before = problems.all.count
    let filled = parameters.filled(expression)
    guard problems.all.count == before else { return nil }
    if case .prebuilt(let name, let user) = filled.kind {
      return PredicateBinder(finder).prebuilt(name, user, expression.span).map {
        .prebuilt(name: $0.name, user: $0.user, span: expression.span)
      }
    }
    let isCacheable = !expression.takesList && isCacheable(filled)
    if isCacheable, let rows = cache.rows(filled, version: version),
      rows.count == finder.items.rowCount
    {
      return .known(rows, text: filled)
    }
    var binder = PredicateBinder(finder)
    guard let scalar = binder.condition(filled) else { return nil }
    return .scan(scalar, binder.columns, text: filled, key: isCacheable ? filled : nil)
  }

  /// Whether the rows depend on the catalog's cells alone.
  func isCacheable(_ expression: Expression) -> Bool {
    switch expression.kind {
    case .null, .bool, .int, .double, .string, .parameter: true
    case .list(let elements): elements.allSatisfy(isCacheable)
    case .column(let reference): !finder.isDerived(reference.name.text)
    case .not(let a), .negate(let a), .isTest(let a, _, _), .cast(let a, _): isCacheable(a)
    case .binary(_, let a, let b), .isIn(let a, let b, _), .like(let a, let b, _, _):
      isCacheable(a) && isCacheable(b)
    case .between(let a, let b, let c, _): isCacheable(a) && isCacheable(b) && isCacheable(c)
    case .conditional(let branches, let otherwise):
      branches.allSatisfy { isCacheable($0.condition) && isCacheable($0.value) }
        && (otherwise.map(isCacheable) ?? true)
    case .call(let name, let arguments):
      name.text != "now" && name.text != "current_timestamp"
        && arguments.allSatisfy(isCacheable)
    case .prebuilt, .truncate: false
    }
  }

  // MARK: FROM

  mutating func bindFrom(_ from: From?) {
    switch from {
    case nil:
      plan.retrievers = [Plan.Retriever(operation: .rows, span: .none)]
    case .entity(let name):
      plan.retrievers = [Plan.Retriever(operation: .rows, span: name.span)]
    case .retrievers(let calls):
      checkEntityTypes(calls)
      var retrievers: [Plan.Retriever] = []
      for call in calls {
        if let bound = retriever(call) { retrievers.append(bound) }
      }
      plan.retrievers = retrievers
      let names = plan.retrievers.compactMap(\.name)
      for (i, call) in calls.enumerated() {
        guard case .string(let name)? = call["name"]?.kind else { continue }
        if calls[..<i].contains(where: { $0["name"]?.kind == .string(name) }) {
          problems.add(
            "duplicate_name", "two retrievers are named `\(name)`",
            call["name"]?.span ?? call.span, notes: ["names: \(names.joined(separator: ", "))"])
        }
      }
    case .table(let namespace, let name):
      problems.unavailable(
        "FROM \(namespace.text).\(name.text)", namespace.span.through(name.span),
        help: "An engine's query ranks items: FROM items, or retrievers.")
    case .engine(let name, let inner) where name.text == source.engineName:
      bindFrom(inner)
    case .engine(let name, let inner):
      problems.add(
        "wrong_endpoint", "`engine.\(name.text)` belongs to the global query endpoint", name.span,
        help: "The engine stands in the path of this request already.")
      bindFrom(inner)
    }
  }

  func entityType(_ call: Call) -> String? {
    guard let given = text(call, "entity_type") else { return "items" }
    switch given.text.lowercased() {
    case "item", "items": return "items"
    case "user", "users": return "users"
    default:
      problems.unknown(
        "entity_type", given.text, given.span, among: ["items", "users"], plural: "entity types")
      return nil
    }
  }

  func checkEntityTypes(_ calls: [Call]) {
    let types = calls.map { entityType($0) }
    let other = zip(types, calls).first { $0.0 == "users" }
    guard let other else { return }
    let span = other.1["entity_type"]?.span ?? other.1.span
    if types.contains("items") {
      problems.add(
        "mixed_entity_types",
        "All retrievers must use the same entity_type. Found: items and users", span)
    }
  }

  mutating func retriever(_ call: Call) -> Plan.Retriever? {
    var retriever = Plan.Retriever(operation: .rows, span: call.name.span)
    retriever.name = text(call, "name")?.text
    retriever.limit = limit(call)
    if case .predicate(let predicate)? = call["where"]?.kind {
      for term in predicate.conjuncts {
        if case .truncate = term.kind {
          problems.add(
            "misplaced_function", "truncate() belongs to the query's WHERE", term.span,
            help: "A retriever has `limit=`.")
        } else if let condition = condition(term) {
          retriever.conditions.append(condition)
        }
      }
    }
    switch call.name.text {
    case "similarity":
      let embedding = embedding(call)
      let operation = similarity(call, embedding ?? "")
      guard embedding != nil, let operation else { return nil }
      retriever.operation = operation
      switch operation {
      case .nearest(_, .precomputedUser(let user)),
        .nearest(_, .interactionPooling(let user, _, _)), .nearestTo(_, .user(let user)),
        .roundRobin(_, let user, _, _, _):
        retriever.user = user
      default: break
      }
      if let exact = call["use_exact_search"], case .bool(true)? = parameters.value(of: exact) {
        retriever.isExact = true
      }
    case "column_order":
      guard case .columns(let columns)? = call["columns"]?.kind else { return nil }
      let keys = columns.compactMap { column in
        sortKey(
          column.column, isDescending: column.isDescending, nullsFirst: column.nullsFirst)
      }
      guard keys.count == columns.count else { return nil }
      retriever.operation = .columnOrder(keys)
    case "filter": retriever.operation = .rows
    case "ids":
      guard let found = ids(call) else { return nil }
      retriever.operation = .ids(found.rows)
      if found.unknown > 0 {
        plan.notes.append(
          "\(found.unknown) of \(found.rows.count + found.unknown) given items are not in the catalog"
        )
      }
      retriever.limit = call["limit"] == nil ? nil : retriever.limit
    case "text_search":
      guard let operation = textSearch(call) else { return nil }
      retriever.operation = operation
    case "candidate_attributes":
      // The source holds the given items and nothing else.
      retriever.operation = .rows
      retriever.limit = call["limit"] == nil ? nil : retriever.limit
    default: return nil
    }
    return retriever
  }

  func embedding(_ call: Call) -> String? {
    guard let given = text(call, "embedding_ref") else { return nil }
    let name = Binder.referred(given.text)
    if source.embeddingNames.contains(name) { return name }
    if name == "default", let first = source.embeddingNames.first { return first }
    problems.unknown(
      "embedding", name, given.span, among: source.embeddingNames, plural: "embeddings")
    return nil
  }

  func ids(_ call: Call) -> (rows: [CatalogRow], unknown: Int)? {
    guard let argument = call["item_ids"], let value = parameters.value(of: argument) else {
      return nil
    }
    guard let elements = value.array else {
      problems.add(
        "type_mismatch", "`item_ids` is a list of ids, not \(value.kindName)", argument.span,
        help: "ids(['a', 'b']) or ids($item_ids)")
      return nil
    }
    var rows: [CatalogRow] = []
    var unknown = 0
    for element in elements {
      guard let id = Binder.id(element) else {
        problems.add(
          "type_mismatch", "`item_ids` holds \(element.kindName); ids are texts", argument.span)
        return nil
      }
      // Ids that the catalog does not know cannot be returned.
      if let row = source.row(of: ItemID(id)) { rows.append(row) } else { unknown += 1 }
    }
    return (rows, unknown)
  }

  func sortKey(
    _ reference: ColumnReference, isDescending: Bool, nullsFirst: Bool
  ) -> Plan.SortKey? {
    guard let column = finder.column(reference) else { return nil }
    if ScalarType(column.type).isArray {
      problems.add(
        "type_mismatch", "rows cannot be ordered by `\(reference.name.text)`, which holds lists",
        reference.span)
      return nil
    }
    return Plan.SortKey(
      value: .column(column), name: reference.name.text, isDescending: isDescending,
      nullsFirst: nullsFirst)
  }
}

extension Expression {
  /// Whether a list comes as a parameter: such as a history, which no other request repeats. Its bitmap
  /// would only push others out of the cache.
  fileprivate var takesList: Bool {
    var takes = false
    _ = mapped { node in
      if case .isIn(_, let list, _) = node.kind, case .parameter = list.kind { takes = true }
      return nil
    }
    return takes
  }
}
