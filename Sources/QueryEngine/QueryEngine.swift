package import Domain
package import QueryLanguage

/// A query that has been parsed and checked as far as that goes without a catalog.
package struct PreparedQuery: Sendable {
  package let text: String
  package let query: Query

  /// - Throws: every problem of the text at once.
  package init(_ text: String) throws(Diagnostics) {
    let parsed = Parser.parse(text)
    if !parsed.problems.isEmpty { throw Diagnostics(parsed.problems) }
    self.text = text
    query = parsed.query
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

  /// - Parameter cacheBytes: what the cached bitmaps may take; 0 keeps none.
  package init(cacheBytes: Int = 64 << 20) { cache = PredicateCache(mostBytes: cacheBytes) }

  /// Parses, binds, plans and runs a query.
  ///
  /// - Throws: `Diagnostics` with every problem of the query at once. Errors of the source that are no
  ///   `Diagnostic` are passed on.
  package func run(_ request: QueryRequest, on source: any QuerySource) throws -> QueryResult {
    let (plan, problems) = try plan(request, source)
    var executor = Executor(plan, source, problems, cache)
    return try executor.run(excluded: request.options.excluded)
  }

  /// Binds, plans and runs a prepared query.
  ///
  /// - Throws: as `run(_:on:)`.
  package func run(
    _ prepared: PreparedQuery, parameters: [String: JSON] = [:],
    options: QueryOptions = QueryOptions(), on source: any QuerySource
  ) throws -> QueryResult {
    let problems = QueryProblems(text: prepared.text)
    let plan = try plan(prepared.query, parameters, problems, source)
    var executor = Executor(plan, source, problems, cache)
    return try executor.run(excluded: options.excluded)
  }

  /// The plan of a query as text, a line for each step; nothing runs.
  ///
  /// - Throws: `Diagnostics` with every problem of the query at once.
  package func explain(
    _ request: QueryRequest, on source: any QuerySource
  ) throws(Diagnostics) -> String {
    try plan(request, source).plan.description
  }

  private func plan(
    _ request: QueryRequest, _ source: any QuerySource
  ) throws(Diagnostics) -> (plan: Plan, problems: QueryProblems) {
    let parsed = Parser.parse(request.text)
    // Names are looked up only in a tree that holds all of the text: half a query would draw problems
    // that are none.
    if !parsed.isWhole { throw Diagnostics(parsed.problems) }
    let problems = QueryProblems(text: request.text, parsed.problems)
    let plan = try plan(parsed.query, request.parameters, problems, source)
    return (plan, problems)
  }

  private func plan(
    _ query: Query, _ parameters: [String: JSON], _ problems: QueryProblems,
    _ source: any QuerySource
  ) throws(Diagnostics) -> Plan {
    var binder = Binder(source, parameters: parameters, problems: problems, cache: cache)
    let plan = binder.plan(query)
    try problems.check()
    return plan
  }
}
