package import Domain

/// The way to a value inside a record: `properties.items[0].id`, `$key`, `context."app.version"`.
///
/// A name that begins with `$` is what the transport knows beside the record.
package struct RecordPath: Hashable, Sendable, CustomStringConvertible {
  package enum Step: Hashable, Sendable {
    case member(String)
    case element(Int)
  }

  package let steps: [Step]
  package let description: String

  /// - Throws: what is wrong with the path's form.
  package init(parsing text: String) throws(Diagnostic) {
    var steps: [Step] = []
    var rest = Array(text.unicodeScalars)[...]
    func problem(_ what: String) -> Diagnostic {
      Diagnostic(
        code: "invalid_path", "`\(text)` is no path into a record: \(what).",
        help: "Write it like `properties.video_id` or `items[0].id`; put a name that holds a dot "
          + "in double quotes.")
    }
    while true {
      if rest.first == "\"" {
        guard let end = rest.dropFirst().firstIndex(of: "\"") else {
          throw problem("a quote is not closed")
        }
        steps.append(.member(text: rest[(rest.startIndex + 1)..<end]))
        rest = rest[(end + 1)...]
      } else {
        let name = rest.prefix { $0 != "." && $0 != "[" }
        guard !name.isEmpty else { throw problem("a name is empty") }
        steps.append(.member(text: name))
        rest = rest[name.endIndex...]
      }
      while rest.first == "[" {
        guard let end = rest.firstIndex(of: "]"),
          let number = Int(Step.text(rest[(rest.startIndex + 1)..<end])), number >= 0
        else { throw problem("`[` must hold a number and be closed") }
        steps.append(.element(number))
        rest = rest[(end + 1)...]
      }
      if rest.isEmpty { break }
      guard rest.first == "." else { throw problem("a dot must stand between names") }
      rest = rest.dropFirst()
    }
    self.steps = steps
    description = text
  }

  /// The value there; nil where there is nothing or null.
  package func value(in record: JSON, extras: [JSON.Member] = []) -> JSON? {
    var value = record
    for (i, step) in steps.enumerated() {
      switch step {
      case .member(let name):
        if i == 0, name.utf8.first == UInt8(ascii: "$"),
          let extra = extras.first(where: { $0.name == name })
        {
          value = extra.value
        } else {
          guard let next = value[name] else { return nil }
          value = next
        }
      case .element(let number):
        guard let elements = value.array, number < elements.count else { return nil }
        value = elements[number]
      }
    }
    // Not as one expression: `nil` could be read as JSON's own null there.
    if value == .null { return nil }
    return value
  }
}

extension RecordPath.Step {
  fileprivate static func text(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
    var text = ""
    text.unicodeScalars.append(contentsOf: scalars)
    return text
  }

  fileprivate static func member(text: ArraySlice<Unicode.Scalar>) -> RecordPath.Step {
    .member(Self.text(text))
  }
}
