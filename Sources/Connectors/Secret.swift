package import Domain
import Foundation

/// A password or key that stands in a definition: the text itself, or where it is found.
///
/// `${NAME}` names an environment variable, `file:/path` a file. It is looked up each time a source
/// connects, so a rotated secret needs no restart of the server for a file. Its description never
/// holds the secret.
package struct Secret: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  private enum Origin: Hashable, Sendable {
    case literal(String)
    case environment(String)
    case file(String)
  }

  private let origin: Origin

  package init(_ text: String) {
    if text.hasPrefix("${"), text.hasSuffix("}") {
      origin = .environment(String(text.dropFirst(2).dropLast()))
    } else if text.hasPrefix("file:") {
      origin = .file(String(text.dropFirst(5)))
    } else {
      origin = .literal(text)
    }
  }

  /// Whether the secret itself stands in the definition, and so in the data directory.
  package var isLiteral: Bool { if case .literal = origin { true } else { false } }

  package var description: String {
    switch origin {
    case .literal: "***"
    case .environment(let name): "${\(name)}"
    case .file(let path): "file:\(path)"
    }
  }

  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(reflecting: description) }

  /// Looks the secret up.
  ///
  /// - Parameter place: the key of the definition, for the message.
  /// - Throws: `missing_secret`, which names the place and never the content.
  package func value(
    at place: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws(Diagnostic) -> String {
    switch origin {
    case .literal(let text): return text
    case .environment(let name):
      guard let value = environment[name], !value.isEmpty else {
        throw Diagnostic(
          code: "missing_secret", "The environment variable `\(name)` is not set.", at: place,
          help: "Set it before the server starts.")
      }
      return value
    case .file(let path):
      guard let data = FileManager.default.contents(atPath: path) else {
        throw Diagnostic(
          code: "missing_secret", "The file `\(path)` cannot be read.", at: place,
          help: "Put the secret there, readable by the server, and nothing else in it.")
      }
      let text = String(decoding: data, as: UTF8.self)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      guard !text.isEmpty else {
        throw Diagnostic(
          code: "missing_secret", "The file `\(path)` is empty.", at: place,
          help: "Put the secret there.")
      }
      return text
    }
  }
}

/// Keeps known secrets out of words that others wrote, such as a library's error text.
package struct Redactor: Sendable {
  private var secrets: [String] = []

  package init() {}

  package mutating func add(_ secret: String) {
    // Very short ones would blank out ordinary words.
    if secret.utf8.count >= 4 { secrets.append(secret) }
  }

  package func redact(_ text: String) -> String {
    var text = text
    for secret in secrets { text = text.replacing(secret, with: "***") }
    return text
  }

  package func redact(_ problem: Diagnostic) -> Diagnostic {
    var problem = problem
    problem.message = redact(problem.message)
    problem.notes = problem.notes.map { redact($0) }
    problem.help = problem.help.map { redact($0) }
    return problem
  }
}
