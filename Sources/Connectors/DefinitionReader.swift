import Domain

/// Reads typed values out of a definition and collects every problem on the way.
///
/// Each key that is asked for is a known key; `finish` reports the rest.
final class DefinitionReader {
  let json: JSON
  let path: String
  private let problemBox: ProblemBox
  private var known: [String] = []

  /// The problems of a definition and all its parts.
  final class ProblemBox {
    var problems: [Diagnostic] = []
  }

  init(_ json: JSON, path: String = "", problems: ProblemBox = ProblemBox()) {
    self.json = json
    self.path = path
    problemBox = problems
  }

  var problems: [Diagnostic] { problemBox.problems }

  func place(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  func report(_ code: String, _ message: String, at key: String, help: String? = nil) {
    problemBox.problems.append(Diagnostic(code: code, message, at: place(key), help: help))
  }

  func add(_ problem: Diagnostic) { problemBox.problems.append(problem) }

  /// The value under the first of some names that has one; null counts as absent.
  func take(_ keys: String...) -> JSON? { take(keys) }

  func take(_ keys: [String]) -> JSON? {
    known += keys
    for key in keys { if let value = json[key], value != .null { return value } }
    return nil
  }

  func string(_ keys: String...) -> String? {
    guard let value = take(keys) else { return nil }
    switch value {
    case .string(let text): return text
    case .int, .double: return value.text
    default:
      wrongType(keys, value, "text")
      return nil
    }
  }

  func required(_ keys: String..., help: String) -> String? {
    let value = take(keys)
    if value == nil {
      report("missing_key", "`\(place(keys[0]))` is missing.", at: keys[0], help: help)
      return nil
    }
    if case .string(let text)? = value {
      if !text.isEmpty { return text }
      report("missing_key", "`\(place(keys[0]))` is empty.", at: keys[0], help: help)
    } else if let value {
      wrongType(keys, value, "text")
    }
    return nil
  }

  func bool(_ key: String) -> Bool? {
    guard let value = take(key) else { return nil }
    if let flag = value.bool { return flag }
    wrongType([key], value, "true or false")
    return nil
  }

  func int(_ key: String, in allowed: ClosedRange<Int>) -> Int? {
    guard let value = take(key) else { return nil }
    if let number = value.int.flatMap({ Int(exactly: $0) }), allowed.contains(number) {
      return number
    }
    wrongType([key], value, "a whole number from \(allowed.lowerBound) to \(allowed.upperBound)")
    return nil
  }

  func seconds(_ key: String, in allowed: ClosedRange<Double>) -> Duration? {
    guard let value = take(key) else { return nil }
    if let number = value.number, allowed.contains(number) { return .seconds(number) }
    wrongType([key], value, "seconds from \(allowed.lowerBound) to \(allowed.upperBound)")
    return nil
  }

  func choice(_ keys: String..., of allowed: [String]) -> String? {
    guard let value = take(keys) else { return nil }
    if let text = value.string, allowed.contains(text) { return text }
    let names = allowed.map { "`\($0)`" }.joined(separator: ", ")
    let near = value.string.flatMap { nearestName(to: $0, among: allowed) }
    report(
      "unknown_value", "`\(place(keys[0]))` is \(Self.words(value)); it must be one of \(names).",
      at: keys[0], help: near.map { "Did you mean `\($0)`?" })
    return nil
  }

  func object(_ key: String) -> [JSON.Member]? {
    guard let value = take(key) else { return nil }
    if let members = value.object { return members }
    wrongType([key], value, "a map")
    return nil
  }

  func list(_ key: String) -> [JSON]? {
    guard let value = take(key) else { return nil }
    if let elements = value.array { return elements }
    wrongType([key], value, "a list")
    return nil
  }

  func secret(_ keys: String...) -> Secret? {
    guard let value = take(keys) else { return nil }
    if let text = value.string { return Secret(text) }
    // The value itself stays out of the message.
    report(
      "wrong_type", "`\(place(keys[0]))` is \(value.kindName); it must be text.", at: keys[0],
      help: "Write ${NAME} for an environment variable, or file:/path for a file.")
    return nil
  }

  /// A reader of a part, whose problems go to the same list.
  func part(_ json: JSON, _ key: String) -> DefinitionReader {
    DefinitionReader(json, path: place(key), problems: problemBox)
  }

  private func wrongType(_ keys: [String], _ value: JSON, _ wanted: String) {
    report(
      "wrong_type", "`\(place(keys[0]))` is \(Self.words(value)); it must be \(wanted).",
      at: keys[0])
  }

  static func words(_ value: JSON) -> String {
    switch value {
    case .string(let text): text.count <= 40 ? "`\(text)`" : "`\(text.prefix(40))…`"
    case .int, .double, .bool: "`\(value.text)`"
    default: value.kindName
    }
  }

  /// Reports every key that nobody asked for.
  func finish() {
    for member in json.object ?? [] where !known.contains(member.name) {
      let near = nearestName(to: member.name, among: known)
      report(
        "unknown_key", "Unknown key `\(member.name)`\(path.isEmpty ? "" : " in `\(path)`").",
        at: member.name,
        help: near.map { "Did you mean `\($0)`?" }
          ?? "Known keys: \(known.map { "`\($0)`" }.joined(separator: ", ")).")
    }
  }
}
