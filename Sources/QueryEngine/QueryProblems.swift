import Domain
import QueryLanguage

/// The problems found while a query is bound to a catalog.
final class QueryProblems {
  let text: String
  private(set) var all: [Diagnostic] = []
  /// More than these help nobody.
  private static let most = 20

  init(text: String, _ earlier: [Diagnostic] = []) {
    self.text = text
    all = earlier
  }

  func add(
    _ code: String, _ message: String, _ span: SourceSpan, label: String = "",
    kind: Diagnostic.Kind = .invalid, notes: [String] = [], help: String? = nil
  ) {
    guard all.count < QueryProblems.most else { return }
    let problem = Diagnostic(
      kind, code: code, message, span: place(span, label), notes: notes, help: help)
    if !all.contains(problem) { all.append(problem) }
  }

  /// A name that is none of those that exist.
  func unknown(
    _ what: String, _ name: String, _ span: SourceSpan, among known: [String], plural: String,
    help: String? = nil
  ) {
    let near = nearestName(to: name, among: known)
    let shown = known.prefix(20).joined(separator: ", ") + (known.count > 20 ? ", …" : "")
    add(
      "unknown_\(what.split(separator: " ").joined(separator: "_"))",
      "unknown \(what) `\(name)`", span, label: near.map { "did you mean `\($0)`?" } ?? "",
      notes: [known.isEmpty ? "there are no \(plural)" : "\(plural): \(shown)"], help: help)
  }

  /// Something that the language has and this build cannot run.
  func unavailable(_ what: String, _ span: SourceSpan, help: String) {
    add("not_available", "\(what) is not available in this build", span, help: help)
  }

  /// An error of the source, with the place of the call that asked.
  func rethrown(_ error: any Error, _ span: SourceSpan) -> any Error {
    switch error {
    case var problem as Diagnostic:
      if problem.span == nil { problem.span = place(span, "") }
      return Diagnostics(problem)
    case var problems as Diagnostics:
      for i in problems.all.indices where problems.all[i].span == nil {
        problems.all[i].span = place(span, "")
      }
      return problems
    default: return error
    }
  }

  func check() throws(Diagnostics) {
    if !all.isEmpty { throw Diagnostics(all) }
  }

  private func place(_ span: SourceSpan, _ label: String) -> Diagnostic.Span {
    Diagnostic.Span(text: text, range: span.range, origin: "query", label: label)
  }
}
