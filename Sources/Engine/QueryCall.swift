package import Domain
package import QueryEngine

/// A query and the values of its parameters.
package struct QueryCall: Sendable {
  package var text: String
  package var parameters: [String: JSON]
  package init(text: String, parameters: [String: JSON] = [:]) {
    self.text = text
    self.parameters = parameters
  }
}

/// An answer and where it comes from: every answer says what it was made of.
package struct EngineAnswer: Sendable {
  package var engine: String
  package var result: QueryResult
  /// The log position of the state that was read.
  package var asOf: LogPosition
  /// nil before the first training has ended.
  package var generation: Generation?
  package var now: Timestamp
  package var duration: Duration
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
    return QueryCall(text: text, parameters: values)
  }
}
