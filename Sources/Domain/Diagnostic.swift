/// A problem as people see it: what is wrong, where, and how to mend it.
///
/// Every error that reaches a person becomes one of these; the HTTP answer and the command line
/// render the same value.
package struct Diagnostic: Error, Hashable, Sendable {
  /// What kind of answer the problem calls for.
  package enum Kind: String, Hashable, Sendable {
    case invalid
    case notFound
    case conflict
    case unauthorized
    case unavailable
    case overloaded
    case internalError
  }

  /// A part of a text that the problem points at, as UTF-8 offsets.
  package struct Span: Hashable, Sendable {
    package var text: String
    package var range: Range<Int>
    /// What the text is: `query`, or a file's path.
    package var origin: String
    /// The words beside the caret.
    package var label: String
    package init(text: String, range: Range<Int>, origin: String, label: String = "") {
      self.text = text
      self.range = range
      self.origin = origin
      self.label = label
    }
  }

  package var kind: Kind
  /// A stable name that programs can test for, such as `unknown_column`.
  package var code: String
  package var message: String
  /// Where: a JSON path (`data[3].user_id`), a YAML path (`training.models[0].hidden_size`), a
  /// file.
  package var place: String?
  package var span: Span?
  package var notes: [String]
  package var help: String?

  package init(
    _ kind: Kind = .invalid, code: String, _ message: String, at place: String? = nil,
    span: Span? = nil, notes: [String] = [], help: String? = nil
  ) {
    self.kind = kind
    self.code = code
    self.message = message
    self.place = place
    self.span = span
    self.notes = notes
    self.help = help
  }
}

/// All the problems of one request or file at once.
package struct Diagnostics: Error, Hashable, Sendable {
  /// At least one.
  package var all: [Diagnostic]
  package init(_ all: [Diagnostic]) {
    precondition(!all.isEmpty, "Diagnostics without a problem")
    self.all = all
  }
  package init(_ one: Diagnostic) { all = [one] }
  /// The kind that decides the answer: the first problem's.
  package var kind: Diagnostic.Kind { all[0].kind }
}

extension Diagnostic: CustomStringConvertible {
  /// The problem as several lines of text, with the place quoted and a caret under it.
  package var description: String {
    var lines = ["error: \(message)"]
    if let span {
      let bytes = Array(span.text.utf8)
      let start = min(span.range.lowerBound, bytes.count)
      let lineStart = (bytes[..<start].lastIndex(of: 10) ?? -1) + 1
      let lineEnd = bytes[start...].firstIndex(of: 10) ?? bytes.count
      let lineNumber = bytes[..<start].count { $0 == 10 } + 1
      let line = String(decoding: bytes[lineStart..<lineEnd], as: UTF8.self)
      let before = String(decoding: bytes[lineStart..<start], as: UTF8.self)
      let end = min(max(span.range.upperBound, start), lineEnd)
      let marked = String(decoding: bytes[start..<end], as: UTF8.self)
      let gutter = String(repeating: " ", count: String(lineNumber).count)
      lines.append("\(gutter)--> \(span.origin):\(lineNumber):\(before.count + 1)")
      lines.append("\(lineNumber) | \(line)")
      let carets = String(repeating: "^", count: max(1, marked.count))
      let label = span.label.isEmpty ? "" : " \(span.label)"
      // A tab stays a tab, so that the caret stands under its place however wide tabs are.
      let indent = String(before.map { $0 == "\t" ? "\t" : " " })
      lines.append("\(gutter) | \(indent)\(carets)\(label)")
    } else if let place {
      lines.append("  at \(place)")
    }
    for note in notes { lines.append("  note: \(note)") }
    if let help { lines.append("  help: \(help)") }
    return lines.joined(separator: "\n")
  }
}

extension Diagnostics: CustomStringConvertible {
  package var description: String { all.map(\.description).joined(separator: "\n") }
}

/// The nearest of some names to a misspelt one, for "did you mean".
///
/// - Returns: the candidate with the least edit distance (optimal string alignment), if that is at
///   most a third of the name's length (at least 1, at most 3).
package func nearestName(to name: String, among candidates: some Sequence<String>) -> String? {
  let a = Array(name.lowercased())
  let allowed = max(1, min(3, a.count / 3))
  var best: (name: String, distance: Int)?
  for candidate in candidates {
    let distance = editDistance(a, Array(candidate.lowercased()))
    if distance <= allowed, distance < best?.distance ?? .max { best = (candidate, distance) }
  }
  return best?.name
}

private func editDistance(_ a: [Character], _ b: [Character]) -> Int {
  var beforeLast = [Int](repeating: 0, count: b.count + 1)
  var last = Array(0...b.count)
  for i in 0..<a.count {
    var row = [i + 1]
    for j in 0..<b.count {
      var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
        cost = min(cost, beforeLast[j - 1] + 1)
      }
      row.append(cost)
    }
    (beforeLast, last) = (last, row)
  }
  return last[b.count]
}
