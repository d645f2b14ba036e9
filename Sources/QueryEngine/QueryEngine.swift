package import Domain
package import QueryLanguage

/// Statements that have been parsed and checked as far as that goes without a catalog.
package struct PreparedQuery: Sendable {
  package let text: String
  /// At least one.
  package let statements: [Statement]

  /// - Throws: every problem of the text at once.
  package init(_ text: String) throws(Diagnostics) {
    let parsed = Parser.script(text)
    let problems = parsed.flatMap(\.problems)
    if !problems.isEmpty { throw Diagnostics(problems) }
    self.text = text
    statements = parsed.map(\.statement)
  }

  /// Whether a statement reads a table and not the catalog.
  package var readsTables: Bool {
    statements.contains { statement in
      guard case .data(let query) = statement else { return false }
      if case .entity(let name) = query.from { return name.text == "interactions" }
      return true
    }
  }

  /// Prepares the JSON form of a query. Its problems point into the query's canonical text.
  ///
  /// - Throws: every problem of the document at once.
  package init(config: JSON) throws(Diagnostics) {
    try self.init(try QueryConfig.text(config))
  }
}

/// Runs queries over one catalog and keeps the bitmaps of their predicates.
///
/// Make one for each engine and keep it as long as the engine: versions of the catalog, under which
/// bitmaps are cached, belong to one catalog.
package final class QueryEngine: Sendable {
  private let cache: PredicateCache
  /// Users have versions of their own.
  private let userCache: PredicateCache
  private let noCache = PredicateCache(mostBytes: 0)
  private let lexical = LexicalCache()
  private let userLexical = LexicalCache()

  /// - Parameter cacheBytes: what the cached bitmaps may take; 0 keeps none.
  package init(cacheBytes: Int = 64 << 20) {
    cache = PredicateCache(mostBytes: cacheBytes)
    userCache = PredicateCache(mostBytes: cacheBytes / 8)
  }

  /// Parses, binds, plans and runs one query.
  ///
  /// - Throws: `Diagnostics` with every problem of the query at once. Errors of the source that are no
  ///   `Diagnostic` are passed on.
  package func run(_ request: QueryRequest, on source: any QuerySource) throws -> QueryResult {
    let parsed = try whole(request.text)
    guard parsed.count == 1, case .query(let query) = parsed[0].statement else {
      throw Diagnostics(QueryEngine.notOneQuery(request.text))
    }
    let problems = QueryProblems(text: request.text, parsed[0].problems)
    return try execute(query, request.parameters, request.options, problems, source).result
  }

  /// Binds, plans and runs a prepared query.
  ///
  /// - Throws: as `run(_:on:)`.
  package func run(
    _ prepared: PreparedQuery, parameters: [String: JSON] = [:],
    options: QueryOptions = QueryOptions(), on source: any QuerySource
  ) throws -> QueryResult {
    guard prepared.statements.count == 1, case .query(let query) = prepared.statements[0] else {
      throw Diagnostics(QueryEngine.notOneQuery(prepared.text))
    }
    let problems = QueryProblems(text: prepared.text)
    return try execute(query, parameters, options, problems, source).result
  }

  private static func notOneQuery(_ text: String) -> Diagnostic {
    Diagnostic(
      code: "not_one_query", "One query that ranks is needed here.",
      span: Diagnostic.Span(text: text, range: 0..<text.utf8.count, origin: "query"))
  }

  /// Answers every statement of a request, in order.
  ///
  /// - Throws: as `run(_:on:)`; the problems of all statements' texts come at once.
  package func answers(
    _ request: QueryRequest, on source: any QuerySource
  ) throws -> [StatementAnswer] {
    let parsed = try whole(request.text)
    return try parsed.map { one in
      let problems = QueryProblems(text: request.text, one.problems)
      return try answer(one.statement, request.parameters, request.options, problems, source)
    }
  }

  /// Answers every statement of a prepared request, in order.
  package func answers(
    _ prepared: PreparedQuery, parameters: [String: JSON] = [:],
    options: QueryOptions = QueryOptions(), on source: any QuerySource
  ) throws -> [StatementAnswer] {
    try prepared.statements.map { statement in
      try answer(statement, parameters, options, QueryProblems(text: prepared.text), source)
    }
  }

  /// The plan of a query as text, a line for each step; nothing runs.
  ///
  /// - Throws: `Diagnostics` with every problem of the query at once.
  package func explain(_ request: QueryRequest, on source: any QuerySource) throws -> String {
    let parsed = try whole(request.text)
    guard parsed.count == 1 else { throw Diagnostics(QueryEngine.notOneQuery(request.text)) }
    let query: Query
    switch parsed[0].statement {
    case .query(let one), .explain(_, let one): query = one
    case .data: throw Diagnostics(QueryEngine.notOneQuery(request.text))
    }
    let problems = QueryProblems(text: request.text, parsed[0].problems)
    return try bound(query, request.parameters, problems, source).plan.description
  }

  /// The statements of a text. Names are looked up only in trees that hold all of their text: half a
  /// query would draw problems that are none.
  private func whole(_ text: String) throws(Diagnostics) -> [ParsedStatement] {
    let parsed = Parser.script(text)
    if parsed.contains(where: { !$0.isWhole }) || parsed.count > 1 {
      let problems = parsed.flatMap(\.problems)
      if !problems.isEmpty { throw Diagnostics(problems) }
    }
    return parsed
  }

  private func answer(
    _ statement: Statement, _ parameters: [String: JSON], _ options: QueryOptions,
    _ problems: QueryProblems, _ source: any QuerySource
  ) throws -> StatementAnswer {
    switch statement {
    case .query(let query):
      return .rows(try execute(query, parameters, options, problems, source).result)
    case .data(let query):
      return .table(
        try DataQueryRunner(source, parameters: parameters, problems: problems).run(query))
    case .explain(.plan, let query):
      return .plan(try bound(query, parameters, problems, source).plan.description)
    case .explain(.analysis, let query):
      var options = options
      options.explains = true
      return .analysis(try execute(query, parameters, options, problems, source).result)
    case .explain(.influence, let query):
      var options = options
      options.influenceCount = max(options.influenceCount, QueryLimits.influencingEvents)
      return .influence(try execute(query, parameters, options, problems, source).result)
    case .explain(.whyNot(let argument), let query):
      let value = Parameters(values: parameters, problems: problems, userCell: { _ in nil })
        .value(of: argument)
      guard let id = value?.string ?? value?.int.map({ String($0) }) else {
        problems.add(
          "type_mismatch", "WHY NOT asks about an item by its id", argument.span,
          help: "EXPLAIN WHY NOT item 'x' SELECT …")
        throw Diagnostics(problems.all)
      }
      var run = try execute(query, parameters, options, problems, source)
      return .whyNot(
        try run.executor.whyNot(id, excluded: run.excluded, answer: run.result))
    }
  }

  // MARK: Checking

  /// What is wrong with a query before it is ever asked: names that do not exist, whatever values its
  /// parameters will have; and everything else too, where all of its parameters have values already.
  ///
  /// - Parameter source: has the columns and names of the engine; its rows are not looked at.
  package func problems(
    of prepared: PreparedQuery, parameters: [String: JSON], on source: any QuerySource
  ) -> [Diagnostic] {
    var values = parameters
    var isComplete = true
    for name in QueryEngine.parameterNames(prepared.text) where values[name] == nil {
      isComplete = false
      values[name] = .null
    }
    var found: [Diagnostic] = []
    for statement in prepared.statements {
      let problems = QueryProblems(text: prepared.text)
      do {
        switch statement {
        case .query(let query), .explain(_, let query):
          _ = try bound(query, values, problems, source)
        case .data(let query):
          _ = try DataQueryRunner(source, parameters: values, problems: problems).run(query)
        }
      } catch let all as Diagnostics {
        found += all.all
      } catch let one as Diagnostic {
        found.append(one)
      } catch {}
    }
    return found.filter { problem in
      // A null stands for what is not known yet, so its type says nothing.
      if !isComplete, !problem.code.hasPrefix("unknown_") { return false }
      return problem.kind == .invalid || problem.kind == .notFound
    }
  }

  /// The names after each `$` of a text, also of those inside quotes.
  private static func parameterNames(_ text: String) -> Set<String> {
    var names: Set<String> = []
    for part in text.split(separator: "$", omittingEmptySubsequences: false).dropFirst() {
      let path = part.prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
      let words = path.split(separator: ".")
      guard let first = words.first else { continue }
      let isPrefix = ["param", "params", "parameter", "parameters"].contains(first)
      names.insert(String(isPrefix && words.count > 1 ? words[1] : first))
    }
    return names
  }

  // MARK: One query

  private struct Run {
    var result: QueryResult
    var executor: Executor
    var excluded: [CatalogRow]
  }

  private struct Bound {
    var plan: Plan
    var source: any QuerySource
    var cache: PredicateCache
    var lexical: LexicalCache
    var entityType: QueryResult.EntityType
  }

  private func execute(
    _ query: Query, _ parameters: [String: JSON], _ options: QueryOptions,
    _ problems: QueryProblems, _ source: any QuerySource
  ) throws -> Run {
    let bound = try bound(query, parameters, problems, source)
    func run(_ shown: Set<ItemID>) throws -> Run {
      let excluded = options.excluded + shown.compactMap { bound.source.row(of: $0) }
      var executor = Executor(
        bound.plan, bound.source, problems, bound.cache, bound.lexical, options)
      var result = try executor.run(excluded: excluded)
      result.entityType = bound.entityType
      result.explanation?.parameters = parameters
      result.explanation?.paginationID = options.page?.key
      return Run(result: result, executor: executor, excluded: excluded)
    }
    guard let page = options.page else { return try run([]) }
    // The executor stays outside of the store's lock: only what it shows goes through.
    var made: Run?
    _ = try page.store.next(page.key, now: source.now, restarts: page.restarts) { shown in
      let one = try run(shown)
      made = one
      return (answer: true, shown: one.result.ids)
    }
    guard let made else { preconditionFailure("a page was made without an answer") }
    return made
  }

  private func bound(
    _ query: Query, _ parameters: [String: JSON], _ problems: QueryProblems,
    _ given: any QuerySource
  ) throws -> Bound {
    var source = given
    var (cache, lexical) = (cache, lexical)
    var entityType = QueryResult.EntityType.item
    let plain = Parameters(values: parameters, problems: problems, userCell: { _ in nil })
    if let argument = query.asOf {
      do {
        if let moment = asOf(argument, plain) { source = try source.source(asOf: moment) }
      } catch {
        throw problems.rethrown(error, argument.span)
      }
      cache = noCache
    }
    if let span = query.ranksUsers(plain) {
      if let users = source.users {
        source = users
        (cache, lexical) = (query.asOf == nil ? userCache : noCache, userLexical)
        entityType = .user
      } else {
        problems.unavailable(
          "ranking users", span,
          help: "The engine has no users to rank; rank items: FROM items, entity_type='items'.")
      }
    }
    if let attributes = givenItems(query, plain) {
      source = AttributeSource(attributes, on: source)
      (cache, lexical) = (noCache, LexicalCache())
    }
    var binder = Binder(
      source, parameters: parameters, problems: problems, cache: cache,
      user: UserContext(query, parameters))
    let plan = binder.plan(query)
    try problems.check()
    return Bound(
      plan: plan, source: source, cache: cache, lexical: lexical, entityType: entityType)
  }

  private func asOf(_ argument: Argument, _ parameters: Parameters) -> AsOf? {
    switch parameters.value(of: argument) {
    case nil: return nil
    case .int(let position)? where position >= 0: return .position(LogPosition(position))
    case .string(let text)?:
      if let time = Timestamp(iso8601: text) { return .time(time) }
      if let position = Int64(text), position >= 0 { return .position(LogPosition(position)) }
      fallthrough
    default:
      parameters.problems.add(
        "type_mismatch", "AS OF takes a position of the log or a time", argument.span,
        help: "AS OF 120345, or AS OF '2026-01-05T10:00:00Z'")
      return nil
    }
  }

  /// The items of `candidate_attributes(…)`, or nil where the query has none.
  private func givenItems(_ query: Query, _ parameters: Parameters) -> [[JSON.Member]]? {
    let calls = query.from?.calls ?? []
    guard let call = calls.first(where: { $0.name.text == "candidate_attributes" }) else {
      return nil
    }
    let problems = parameters.problems
    if calls.count > 1 {
      problems.add(
        "not_supported",
        "candidate_attributes() stands alone: its items need not be in the catalog",
        call.name.span, help: "Rank items of the catalog with ids($item_ids), or in a second query."
      )
      return nil
    }
    guard let argument = call["item_attributes"], let value = parameters.value(of: argument) else {
      return nil
    }
    guard let elements = value.array, elements.count <= QueryLimits.mostCandidates else {
      problems.add(
        "type_mismatch",
        "`item_attributes` is a list of at most \(QueryLimits.mostCandidates) objects",
        argument.span, help: "$item_attributes, such as [{\"item_id\": \"a\", \"price\": 3}]")
      return nil
    }
    let objects = elements.compactMap(\.object)
    if objects.count < elements.count {
      problems.add(
        "type_mismatch", "`item_attributes` is a list of objects", argument.span)
      return nil
    }
    return objects
  }
}

extension From {
  /// The retrievers, on either endpoint.
  fileprivate var calls: [Call] {
    switch self {
    case .retrievers(let calls): calls
    case .engine(_, let inner): inner.calls
    case .entity, .table: []
    }
  }
}

extension Query {
  /// Where the query says that it ranks users, or nil.
  fileprivate func ranksUsers(_ parameters: Parameters) -> SourceSpan? {
    switch from {
    case .entity(let name) where name.text.hasPrefix("user"): return name.span
    case .engine(_, .entity(let name)) where name.text.hasPrefix("user"): return name.span
    default: break
    }
    let calls = from?.calls ?? []
    let types = calls.map { call -> Bool in
      guard let argument = call["entity_type"], case .string(let text) = argument.kind else {
        return false
      }
      return text.lowercased().hasPrefix("user")
    }
    guard let first = zip(types, calls).first(where: \.0)?.1, types.allSatisfy({ $0 }) else {
      return nil
    }
    return first["entity_type"]?.span ?? first.span
  }
}
