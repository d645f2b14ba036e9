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
}

/// Runs queries over one catalog and keeps the bitmaps of their predicates.
///
/// Make one for each engine and keep it as long as the engine: versions of the catalog, under which
/// bitmaps are cached, belong to one catalog.
package final class QueryEngine: Sendable {
  package init() {}

  /// Parses, binds, plans and runs a query.
  ///
  /// - Throws: `Diagnostics` with every problem of the query at once.
  package func run(_ request: QueryRequest, on source: any QuerySource) throws -> QueryResult {
    let prepared = try PreparedQuery(request.text)
    return try run(
      prepared, parameters: request.parameters, options: request.options, on: source)
  }

  /// Binds, plans and runs a prepared query.
  ///
  /// - Throws: `Diagnostics` with every problem of the query at once.
  package func run(
    _ prepared: PreparedQuery, parameters: [String: JSON] = [:],
    options: QueryOptions = QueryOptions(), on source: any QuerySource
  ) throws -> QueryResult {
    throw Diagnostics(
      Diagnostic(.unavailable, code: "not_available", "Queries do not run yet."))
  }
}
