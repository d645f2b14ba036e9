import Domain

/// Reads typed values out of a settings tree and collects every problem on the way.
///
/// A read of a bad value notes the problem and gives nil or the default, so that the reader goes on
/// to the next key and all problems come out at once.
final class SettingReader {
  private let text: String?
  private let origin: String
  private(set) var problems: [Diagnostic] = []
  private(set) var warnings: [Diagnostic] = []

  init(text: String?, origin: String) {
    self.text = text
    self.origin = origin
  }

  func report(
    _ code: String, _ message: String, at path: String, _ range: Range<Int>?, label: String = "",
    help: String? = nil
  ) {
    problems.append(diagnostic(code, message, at: path, range, label: label, help: help))
  }

  func add(_ problem: Diagnostic) { problems.append(problem) }

  func warn(_ code: String, _ message: String, at path: String, _ range: Range<Int>?) {
    warnings.append(diagnostic(code, message, at: path, range))
  }

  private func diagnostic(
    _ code: String, _ message: String, at path: String, _ range: Range<Int>?, label: String = "",
    help: String? = nil
  ) -> Diagnostic {
    var span: Diagnostic.Span?
    if let text, let range {
      span = .init(text: text, range: range, origin: origin, label: label)
    }
    return Diagnostic(code: code, message, at: path.isEmpty ? origin : path, span: span, help: help)
  }

  /// Opens a map; nil and a problem where the node is something else.
  func map(_ node: SettingNode, at path: String) -> SettingMap? {
    guard case .map(let entries) = node.content else {
      report(
        "wrong_type", "`\(path.isEmpty ? origin : path)` is \(node.kindName); it must be a map.",
        at: path, node.range)
      return nil
    }
    return SettingMap(entries: entries, path: path, range: node.range, reader: self)
  }

  func string(_ node: SettingNode, at path: String) -> String? {
    switch node.content {
    case .string(let value): return value
    case .int(let value): return String(value)
    default:
      report(
        "wrong_type", "`\(path)` is \(node.kindName); it must be text.", at: path, node.range)
      return nil
    }
  }

  func strings(_ node: SettingNode, at path: String) -> [String]? {
    guard case .list(let elements) = node.content else {
      report(
        "wrong_type", "`\(path)` is \(node.kindName); it must be a list of names.", at: path,
        node.range)
      return nil
    }
    return elements.enumerated().compactMap { string($1, at: "\(path)[\($0)]") }
  }
}

/// One map of a settings tree. Every key that is asked for is a known key; `finish` reports the rest.
struct SettingMap {
  let entries: [SettingNode.Entry]
  let path: String
  let range: Range<Int>?
  let reader: SettingReader
  private var known: [String] = []

  init(
    entries: [SettingNode.Entry], path: String, range: Range<Int>?, reader: SettingReader
  ) {
    self.entries = entries
    self.path = path
    self.range = range
    self.reader = reader
  }

  func path(of key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// The value of a key, nil where it is missing or null.
  mutating func take(_ key: String) -> SettingNode? {
    known.append(key)
    guard let node = entries.first(where: { $0.key == key })?.value, !node.isNull else {
      return nil
    }
    return node
  }

  mutating func map(_ key: String) -> SettingMap? {
    take(key).flatMap { reader.map($0, at: path(of: key)) }
  }

  mutating func list(_ key: String) -> [SettingNode]? {
    guard let node = take(key) else { return nil }
    guard case .list(let elements) = node.content else {
      reader.report(
        "wrong_type", "`\(path(of: key))` is \(node.kindName); it must be a list.",
        at: path(of: key), node.range)
      return nil
    }
    return elements
  }

  mutating func string(_ key: String) -> String? {
    take(key).flatMap { reader.string($0, at: path(of: key)) }
  }

  mutating func strings(_ key: String) -> [String]? {
    take(key).flatMap { reader.strings($0, at: path(of: key)) }
  }

  mutating func required(_ key: String, help: String? = nil) -> SettingNode? {
    if let node = take(key) { return node }
    reader.report(
      "missing_key", "`\(path(of: key))` is missing.", at: path(of: key), range, help: help)
    return nil
  }

  mutating func requiredString(_ key: String, help: String? = nil) -> String? {
    required(key, help: help).flatMap { reader.string($0, at: path(of: key)) }
  }

  mutating func bool(_ key: String) -> Bool? {
    guard let node = take(key) else { return nil }
    if case .bool(let value) = node.content { return value }
    reader.report(
      "wrong_type", "`\(path(of: key))` is \(node.kindName); it must be true or false.",
      at: path(of: key), node.range)
    return nil
  }

  mutating func int(_ key: String, in allowed: ClosedRange<Int>) -> Int? {
    guard let node = take(key) else { return nil }
    if case .int(let value) = node.content, let int = Int(exactly: value), allowed.contains(int) {
      return int
    }
    if reportTunable(node, key) { return nil }
    reader.report(
      "out_of_range",
      "`\(path(of: key))` is \(node.kindName); it must be a whole number from "
        + "\(allowed.lowerBound) to \(allowed.upperBound).",
      at: path(of: key), node.range)
    return nil
  }

  mutating func double(_ key: String, in allowed: ClosedRange<Double>) -> Double? {
    guard let node = take(key) else { return nil }
    switch node.content {
    case .double(let value) where allowed.contains(value): return value
    case .int(let value) where allowed.contains(Double(value)): return Double(value)
    default: break
    }
    if reportTunable(node, key) { return nil }
    reader.report(
      "out_of_range",
      "`\(path(of: key))` is \(node.kindName); it must be a number from \(allowed.lowerBound) to "
        + "\(allowed.upperBound).",
      at: path(of: key), node.range)
    return nil
  }

  /// One of some names; anything else is a problem that lists them.
  mutating func choice(_ key: String, of allowed: [String]) -> String? {
    guard let node = take(key) else { return nil }
    if case .string(let value) = node.content, allowed.contains(value) { return value }
    if reportTunable(node, key) { return nil }
    var label = ""
    if case .string(let value) = node.content, let near = nearestName(to: value, among: allowed) {
      label = "did you mean `\(near)`?"
    }
    let names = allowed.map { "`\($0)`" }.joined(separator: ", ")
    reader.report(
      "unknown_value",
      "`\(path(of: key))` is \(node.kindName); it must be \(allowed.count == 1 ? "" : "one of ")\(names).",
      at: path(of: key), node.range, label: label)
    return nil
  }

  private func reportTunable(_ node: SettingNode, _ key: String) -> Bool {
    guard let type = node["type"], case .string(let name) = type.content,
      name.hasPrefix("tunable_")
    else { return false }
    reader.report(
      "not_available",
      "`\(path(of: key))` asks for a search over values (`\(name)`), which is not available yet.",
      at: path(of: key), type.range ?? node.range,
      help: "Write one value, for example the middle of the range, or leave the key out.")
    return true
  }

  /// Reports every key that nobody asked for.
  func finish() {
    for entry in entries where !known.contains(entry.key) {
      let near = nearestName(to: entry.key, among: known)
      let names = known.map { "`\($0)`" }.joined(separator: ", ")
      reader.report(
        "unknown_key", "Unknown key `\(entry.key)`\(path.isEmpty ? "" : " in `\(path)`").",
        at: path(of: entry.key), entry.keyRange,
        label: near.map { "did you mean `\($0)`?" } ?? "",
        help: near.map { "Did you mean `\($0)`?" } ?? "Known keys: \(names).")
    }
  }
}
