package import Domain
package import QueryEngine
import QueryLanguage

/// A query and the values of its parameters.
package struct QueryCall: Sendable {
  package var text: String
  package var parameters: [String: JSON]
  /// The saved query's name, where it is one.
  package var queryName: String?
  /// `return_explanation`
  package var explains = false
  /// `return_journey_explanations`
  package var showsJourneys = false
  /// `return_influences`: how many past events are left out, each once.
  package var influenceCount = 0
  package var paginationKey: String?
  package var ignoresPagination = false
  /// `at_least`: the answer's state must have come so far.
  package var atLeast: LogPosition?
  /// What exploration starts from; nil: another for each call.
  package var seed: UInt64?

  /// - Parameter document: the JSON form of a query.
  /// - Throws: every problem of the document at once.
  package init(document: JSON, parameters: [String: JSON] = [:]) throws(Diagnostics) {
    self.init(text: try QueryConfig.text(document), parameters: parameters)
  }

  /// The engine whose `retrieve(…)` a query of the global endpoint names, or nil.
  package static func rankingEngine(_ text: String) -> String? {
    for parsed in Parser.script(text) {
      if case .query(let query) = parsed.statement, case .engine(let name, _)? = query.from {
        return name.text
      }
    }
    return nil
  }

  package init(text: String, parameters: [String: JSON] = [:]) {
    self.text = text
    self.parameters = parameters
  }
}

/// An answer and where it comes from: every answer says what it was made of.
package struct EngineAnswer: Sendable {
  package var engine: String
  /// The answer to each statement, at least one.
  package var statements: [StatementAnswer]
  /// The rows of the first statement; none where it does not rank.
  package var result: QueryResult {
    switch statements[0] {
    case .rows(let result), .analysis(let result), .influence(let result): result
    case .table, .plan, .whyNot:
      QueryResult(rows: [], ids: [], scores: [], columns: [], notes: [], stages: [])
    }
  }
  /// The log position of the state that was read.
  package var asOf: LogPosition
  /// nil before the first training has ended.
  package var generation: Generation?
  package var now: Timestamp
  package var duration: Duration
}

extension StatementAnswer {
  /// The answer with the saved query's name in its explanation.
  func named(_ name: String) -> StatementAnswer {
    func named(_ result: QueryResult) -> QueryResult {
      var result = result
      result.explanation?.queryName = name
      return result
    }
    return switch self {
    case .rows(let result): .rows(named(result))
    case .analysis(let result): .analysis(named(result))
    case .influence(let result): .influence(named(result))
    case .table, .plan, .whyNot: self
    }
  }
}

extension EngineConfiguration.SavedQuery {
  /// The call of the query with the given parameters, and the declared defaults for the others.
  ///
  /// - Throws: every parameter that is required and missing, and every one that the query does not have.
  package func call(with given: [String: JSON]) throws(Diagnostics) -> QueryCall {
    var problems: [Diagnostic] = []
    var values: [String: JSON] = [:]
    for parameter in parameters {
      if let value = given[parameter.name] ?? parameter.defaultValue {
        values[parameter.name] = value
      } else if parameter.required {
        problems.append(
          Diagnostic(
            code: "missing_parameter", "Missing required field: 'parameters.\(parameter.name)'.",
            at: "parameters.\(parameter.name)",
            help: "The saved query `\(name)` has no default for it."))
      }
    }
    if !parameters.isEmpty {
      let names = parameters.map(\.name)
      for name in given.keys.sorted() where !names.contains(name) {
        problems.append(
          Diagnostic(
            code: "unknown_parameter", "The saved query `\(self.name)` has no parameter `\(name)`.",
            at: "parameters.\(name)",
            help: nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
              ?? "Its parameters are \(names.map { "`\($0)`" }.joined(separator: ", "))."))
      }
    } else {
      // A query that declares nothing takes what it is given.
      values = given
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    var call = QueryCall(text: text, parameters: values)
    call.queryName = name
    return call
  }
}
