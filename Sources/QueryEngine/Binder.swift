import Columns
import Domain
import QueryLanguage

/// Binds a query to a source: finds every name, checks every type, and makes the plan.
struct Binder {
  let source: any QuerySource
  let problems: QueryProblems
  let parameters: Parameters
  let finder: ColumnFinder
  let cache: PredicateCache
  private let version: UInt64
  private var plan = Plan()

  init(
    _ source: any QuerySource, parameters: [String: JSON], problems: QueryProblems,
    cache: PredicateCache
  ) {
    self.source = source
    self.problems = problems
    self.parameters = Parameters(values: parameters, problems: problems)
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

  private func count(_ argument: Argument, _ name: String, most: Int) -> Int? {
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

  private func truncation(_ expression: Expression) -> Int? {
    guard case .int(let number) = parameters.filled(expression).kind, number > 0 else {
      problems.add(
        "not_a_count", "truncate() takes a whole number from 1", expression.span,
        help: "truncate(500)")
      return nil
    }
    return Int(min(number, Int64(Int32.max)))
  }

  private func text(_ call: Call, _ name: String) -> (text: String, span: SourceSpan)? {
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
  private func id(_ call: Call, _ name: String) -> String? {
    guard let argument = call[name], let value = parameters.value(of: argument) else { return nil }
    if let id = Binder.id(value) { return id }
    problems.add(
      "type_mismatch", "`\(name)` is an id, not \(value.kindName)", argument.span,
      help: "Ids are texts or whole numbers.")
    return nil
  }

  private static func id(_ value: JSON) -> String? {
    switch value {
    case .string(let text): text
    case .int(let number): String(number)
    default: nil
    }
  }

  private func fraction(_ call: Call, _ name: String, default fallback: Double) -> Double {
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

  private func limit(_ call: Call) -> Int {
    guard let argument = call["limit"] else { return QueryLimits.candidates }
    return count(argument, "limit", most: QueryLimits.mostCandidates) ?? QueryLimits.candidates
  }

  // MARK: Conditions

  private func condition(_ expression: Expression) -> Plan.Condition? {
    let before = problems.all.count
    let filled = parameters.filled(expression)
    guard problems.all.count == before else { return nil }
    if case .prebuilt(let name, let user) = filled.kind {
      return PredicateBinder(finder).prebuilt(name, user, expression.span).map {
        .prebuilt(name: $0.name, user: $0.user, span: expression.span)
      }
    }
    let isCacheable = isCacheable(filled)
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
  private func isCacheable(_ expression: Expression) -> Bool {
    switch expression.kind {
    case .null, .bool, .int, .double, .string, .parameter: true
    case .list(let elements): elements.allSatisfy(isCacheable)
    case .column(let reference): !finder.isDerived(reference.name.text)
    case .not(let a), .negate(let a), .isTest(let a, _, _), .cast(let a, _): isCacheable(a)
    case .binary(_, let a, let b), .isIn(let a, let b, _), .like(let a, let b, _, _):
      isCacheable(a) && isCacheable(b)
    case .between(let a, let b, let c, _): isCacheable(a) && isCacheable(b) && isCacheable(c)
    case .call(let name, let arguments):
      name.text != "now" && name.text != "current_timestamp"
        && arguments.allSatisfy(isCacheable)
    case .prebuilt, .truncate: false
    }
  }

  // MARK: FROM

  private mutating func bindFrom(_ from: From?) {
    switch from {
    case nil:
      plan.retrievers = [Plan.Retriever(operation: .rows, span: .none)]
    case .entity(let name):
      if name.text.hasPrefix("user") {
        problems.unavailable("FROM \(name.text)", name.span, help: "Rank items: FROM items.")
      }
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
    case .engine(let name, let inner):
      problems.add(
        "wrong_endpoint", "`engine.\(name.text)` belongs to the global query endpoint", name.span,
        help: "The engine stands in the path of this request already.")
      bindFrom(inner)
    }
  }

  private func entityType(_ call: Call) -> String? {
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

  private func checkEntityTypes(_ calls: [Call]) {
    let types = calls.map { entityType($0) }
    let other = zip(types, calls).first { $0.0 == "users" }
    guard let other else { return }
    let span = other.1["entity_type"]?.span ?? other.1.span
    if types.contains("items") {
      problems.add(
        "mixed_entity_types",
        "All retrievers must use the same entity_type. Found: items and users", span)
    } else {
      problems.unavailable("entity_type='users'", span, help: "Rank items: entity_type='items'.")
    }
  }

  private mutating func retriever(_ call: Call) -> Plan.Retriever? {
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
      let encoder = encoder(call)
      guard let embedding, let encoder else { return nil }
      retriever.operation = .nearest(embedding: embedding, encoder)
      switch encoder {
      case .precomputedUser(let user), .interactionPooling(let user, _, _): retriever.user = user
      case .precomputedItem: break
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
      problems.unavailable(
        "text_search()", call.name.span,
        help: "Use similarity(), column_order(), or filter(where='title ILIKE ''%word%''').")
      return nil
    case "candidate_attributes":
      problems.unavailable(
        "candidate_attributes()", call.name.span,
        help: "Send the ids of items in the catalog: ids($item_ids).")
      return nil
    default: return nil
    }
    return retriever
  }

  private func embedding(_ call: Call) -> String? {
    guard let given = text(call, "embedding_ref") else { return nil }
    let name = Binder.referred(given.text)
    if source.embeddingNames.contains(name) { return name }
    problems.unknown(
      "embedding", name, given.span, among: source.embeddingNames, plural: "embeddings")
    return nil
  }

  private func encoder(_ call: Call) -> Encoder? {
    var name: (text: String, span: SourceSpan)?
    var arguments = call
    if case .call(let inner)? = call["encoder"]?.kind {
      name = (inner.name.text, inner.name.span)
      arguments = inner
    } else if call["encoder"] != nil {
      guard let given = text(call, "encoder") else { return nil }
      name = given
    } else if call["input_user_id"] != nil {
      name = ("precomputed_user", call.span)
    } else if call["input_item_id"] != nil {
      name = ("precomputed_item", call.span)
    }
    guard let name else {
      problems.add(
        "missing_argument", "similarity() needs to know what to search for", call.name.span,
        help:
          "Give input_user_id=$user_id, or encoder='precomputed_item' and input_item_id=$item_id.")
      return nil
    }
    func need(_ argument: String) -> String? {
      if arguments[argument] == nil {
        problems.add(
          "missing_argument", "the encoder `\(name.text)` needs `\(argument)`", name.span,
          help: "\(argument)=$\(argument.dropFirst("input_".count))")
      }
      return id(arguments, argument)
    }
    switch name.text {
    case "precomputed_user": return need("input_user_id").map { .precomputedUser(UserID($0)) }
    case "precomputed_item": return need("input_item_id").map { .precomputedItem(ItemID($0)) }
    case "interaction_pooling":
      let user = need("input_user_id")
      var pooling = Encoder.Pooling.mean
      if let given = text(arguments, "pooling_function") {
        if let known = Encoder.Pooling(rawValue: given.text.lowercased()) {
          pooling = known
        } else {
          problems.unknown(
            "pooling function", given.text, given.span,
            among: Encoder.Pooling.allCases.map(\.rawValue), plural: "pooling functions")
        }
      }
      var interactions = 10
      if let argument = arguments["truncate_interactions"] {
        interactions = max(1, count(argument, "truncate_interactions", most: 10_000) ?? 10)
      }
      return user.map { .interactionPooling(UserID($0), pooling, interactions: interactions) }
    case "interaction_round_robin", "user_attribute_pooling", "item_attribute_pooling":
      problems.unavailable(
        "the encoder `\(name.text)`", name.span,
        help: "Use precomputed_user, precomputed_item or interaction_pooling.")
      return nil
    default:
      problems.unknown(
        "encoder", name.text, name.span,
        among: ["precomputed_user", "precomputed_item", "interaction_pooling"], plural: "encoders")
      return nil
    }
  }

  private func ids(_ call: Call) -> (rows: [CatalogRow], unknown: Int)? {
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

  private func sortKey(
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

  // MARK: ORDER BY

  private struct Aliases {
    var scores: [String: Call] = [:]
    var rerankers: [String: Call] = [:]
    var columns: [String: ColumnReference] = [:]
  }

  private mutating func bindOrder(_ query: Query) {
    var aliases = Aliases()
    var scores: [Call] = []
    for item in query.select {
      switch item {
      case .call(let call, let alias) where call.name.text == "score":
        scores.append(call)
        if let alias { aliases.scores[alias.text] = call }
      case .call(let call, let alias): if let alias { aliases.rerankers[alias.text] = call }
      case .column(let reference, let alias?): aliases.columns[alias.text] = reference
      case .column, .all: break
      }
    }
    for term in query.order {
      if case .call(let call) = term.key, call.name.text == "score" { scores.append(call) }
    }
    if scores.count > 1, scores.contains(where: { $0 != scores[0] }) {
      problems.add(
        "several_scores", "A query has one score() at most", scores[1].span,
        help: "Join both expressions into one, or name the first by AS and use the name.")
    }
    if let score = scores.first { bindScore(score) }
    for term in query.order {
      switch term.key {
      case .call(let call) where call.name.text == "score": orderByScore(term)
      case .call(let call):
        rerankers(from: call, aliases)
      case .name(let reference):
        let name = reference.name.text
        let isPlain = reference.qualifier == nil
        if isPlain, aliases.scores[name] != nil {
          orderByScore(term)
        } else if isPlain, let call = aliases.rerankers[name] {
          if query.order.count > 1 {
            problems.add(
              "not_supported", "an order by a re-ranker stands alone", term.span,
              help: "ORDER BY \(name) DESC")
          }
          rerankers(from: call, aliases)
        } else if isPlain, let column = aliases.columns[name] {
          orderByColumn(column, term)
        } else if finder.items[name] == nil, !finder.isDerived(name), isPlain,
          source.modelNames.contains(name)
        {
          bindModelScore(name, reference)
          orderByScore(term)
        } else if isPlain, finder.items[name] == nil, !finder.isDerived(name), name != "id" {
          let known =
            aliases.scores.keys.sorted() + aliases.rerankers.keys.sorted() + source.modelNames
            + finder.items.names + source.derivedColumnNames
          problems.unknown(
            "name", name, reference.span, among: known, plural: "aliases, models and columns")
        } else {
          orderByColumn(reference, term)
        }
      }
    }
    for call in query.reorder { bindReranker(call) }
  }

  private mutating func orderByScore(_ term: OrderTerm) {
    plan.order.append(
      Plan.SortKey(
        value: .score, name: "score", isDescending: term.isDescending ?? true,
        nullsFirst: term.nullsFirst))
  }

  private mutating func orderByColumn(_ reference: ColumnReference, _ term: OrderTerm) {
    if let key = sortKey(
      reference, isDescending: term.isDescending ?? false, nullsFirst: term.nullsFirst)
    {
      plan.order.append(key)
    }
  }

  /// The re-rankers that lead to this one, by their `score=`, and the score that they start from.
  private mutating func rerankers(from last: Call, _ aliases: Aliases) {
    var chain = [last]
    while let argument = chain[chain.count - 1]["score"] {
      let name: String
      switch argument.kind {
      case .name(let text), .string(let text): name = text
      default:
        problems.add("type_mismatch", "`score` is the alias of a score or re-ranker", argument.span)
        return
      }
      if aliases.scores[name] != nil { break }
      guard let next = aliases.rerankers[name] else {
        problems.unknown(
          "alias", name, argument.span,
          among: aliases.scores.keys.sorted() + aliases.rerankers.keys.sorted(), plural: "aliases")
        return
      }
      if chain.contains(next) {
        problems.add("circular_alias", "`\(name)` leads back to itself", argument.span)
        return
      }
      chain.append(next)
    }
    if plan.score != nil {
      plan.order = [
        Plan.SortKey(value: .score, name: "score", isDescending: true, nullsFirst: false)
      ]
    }
    for call in chain.reversed() { bindReranker(call) }
  }

  private mutating func bindReranker(_ call: Call) {
    guard call.name.text == "diversity" else {
      problems.unavailable(
        "\(call.name.text)()", call.name.span,
        help: "Use diversity(diversity_attributes=['column']), or add to the score's expression.")
      return
    }
    if let embedding = call["text_encoding_embedding_ref"] {
      problems.unavailable(
        "diversity() over an embedding", embedding.span,
        help: "Use diversity_attributes=['column'].")
      return
    }
    guard let argument = call["diversity_attributes"] else {
      problems.add(
        "missing_argument", "diversity() needs `diversity_attributes`", call.name.span,
        help: "diversity(0.3, diversity_attributes=['creator_id'])")
      return
    }
    guard let names = parameters.value(of: argument)?.array else {
      problems.add(
        "type_mismatch", "`diversity_attributes` is a list of columns", argument.span,
        help: "diversity_attributes=['creator_id']")
      return
    }
    var step = Plan.Diversity(
      strength: fraction(call, "strength", default: 0.5), lookback: 30, lookforward: 30,
      mostCandidates: 1000, attributes: [], names: [])
    for name in names {
      guard case .string(let name) = name else {
        problems.add("type_mismatch", "`diversity_attributes` is a list of columns", argument.span)
        continue
      }
      let written = name.hasPrefix("item.") ? String(name.dropFirst(5)) : name
      if let column = finder.column(ColumnReference(name: Name(written, argument.span))) {
        step.attributes.append(column)
        step.names.append(written)
      }
    }
    if let lookback = call["diversity_lookback_window"] {
      step.lookback = count(lookback, "diversity_lookback_window", most: 1000) ?? 30
    }
    if let lookforward = call["diversity_lookforward_window"] {
      step.lookforward =
        max(1, count(lookforward, "diversity_lookforward_window", most: 1000) ?? 30)
    }
    if let most = call["max_diversity_candidates"] {
      step.mostCandidates = count(most, "max_diversity_candidates", most: 10_000) ?? 1000
    }
    plan.diversity.append(step)
  }

  // MARK: score()

  /// The user that every retriever with a user was given, where it is one.
  private var retrievalUser: UserID? {
    let users = Set(plan.retrievers.compactMap(\.user))
    return users.count == 1 ? users.first : nil
  }

  private mutating func bindScore(_ call: Call) {
    for name in ["input_user_features", "signal_overrides"] {
      if let argument = call[name] {
        problems.unavailable(
          "`\(name)` of score()", argument.span,
          help: "Put the values into the expression as parameters: $params.name.")
      }
    }
    var user = id(call, "input_user_id").map { UserInput.user(UserID($0)) }
    if let argument = call["input_interactions_item_ids"],
      let value = parameters.value(of: argument), value != .null
    {
      if let items = value.array?.compactMap(Binder.id), items.count == value.array?.count {
        var known: UserID?
        if case .user(let id)? = user { known = id }
        user = .session(items.map { ItemID($0) }, user: known)
      } else {
        problems.add(
          "type_mismatch", "`input_interactions_item_ids` is a list of ids, oldest first",
          argument.span)
      }
    }
    guard case .formula(let formula)? = call["expression"]?.kind else { return }
    var binder = FormulaBinder(finder, parameters, retrievers: plan.retrievers.map(\.name))
    guard let program = binder.program(formula) else { return }
    if call["input_user_id"] == nil, user == nil { user = retrievalUser.map { .user($0) } }
    if let model = program.models.first, user == nil, call["input_user_id"] == nil {
      problems.add(
        "missing_argument", "score() needs a user for the model `\(model)`", call.name.span,
        help: "input_user_id=$user_id, or input_interactions_item_ids=$items for a session")
    }
    plan.score = Plan.Score(program: program, formula: formula, user: user, span: call.span)
  }

  private mutating func bindModelScore(_ model: String, _ reference: ColumnReference) {
    guard let user = retrievalUser else {
      problems.add(
        "missing_argument", "ORDER BY \(model) needs a user", reference.span,
        help: "ORDER BY score(expression='\(model)', input_user_id=$user_id)")
      return
    }
    plan.score = Plan.Score(
      program: FormulaProgram(root: .input(0), inputs: [.model(model)], columns: []),
      formula: Formula(.name([Name(model)])), user: .user(user), span: reference.span)
  }

  // MARK: SELECT

  private mutating func bindSelect(_ items: [SelectItem]) {
    var taken: Set<String> = []
    func take(_ name: String) -> Bool { taken.insert(name).inserted }
    for item in items {
      switch item {
      case .all:
        for (place, name) in finder.items.names.enumerated() where take(name) {
          plan.output.append(.column(name, finder.items.column(at: place)))
        }
      case .column(let reference, let alias):
        let name = alias?.text ?? reference.name.text
        let isID = reference.name.text == "item_id" || reference.name.text == "id"
        if isID, finder.items[reference.name.text] == nil {
          if take(name) { plan.output.append(.ids(name)) }
        } else if let column = finder.column(reference), take(name) {
          plan.output.append(.column(name, column))
        }
      case .call(let call, let alias):
        if let alias, call.name.text == "score", take(alias.text) {
          plan.output.append(.score(alias.text))
        }
      }
    }
  }
}
