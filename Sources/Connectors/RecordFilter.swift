package import Domain

/// Which records become rows; the others are counted and passed over.
///
/// A list of conditions, all of which must hold. A condition names a `field` (a path) and one or more
/// tests: `equals`, `not_equals`, `in`, `not_in`, `exists`, `at_least`, `at_most`, `above`, `below`,
/// `starts_with`, `contains`; or it is `any: [conditions]`, `all: [conditions]`, or `not: condition`.
/// A test of a field that is not there fails, but for `exists: false`, `not_equals` and `not_in`.
package indirect enum RecordFilter: Hashable, Sendable {
  case all([RecordFilter])
  case any([RecordFilter])
  case not(RecordFilter)
  case test(RecordPath, Test)

  package enum Test: Hashable, Sendable {
    case isOne(of: [JSON])
    case isNone(of: [JSON])
    case exists(Bool)
    case atLeast(JSON)
    case atMost(JSON)
    case above(JSON)
    case below(JSON)
    case startsWith(String)
    case contains(String)
  }

  package func accepts(_ record: JSON, extras: [JSON.Member] = []) -> Bool {
    switch self {
    case .all(let filters): filters.allSatisfy { $0.accepts(record, extras: extras) }
    case .any(let filters): filters.contains { $0.accepts(record, extras: extras) }
    case .not(let filter): !filter.accepts(record, extras: extras)
    case .test(let path, let test): test.holds(path.value(in: record, extras: extras))
    }
  }
}

extension RecordFilter.Test {
  fileprivate func holds(_ value: JSON?) -> Bool {
    guard let value else {
      switch self {
      case .exists(let wanted): return !wanted
      case .isNone: return true
      default: return false
      }
    }
    switch self {
    case .isOne(let values): return values.contains { Self.equal(value, $0) }
    case .isNone(let values): return !values.contains { Self.equal(value, $0) }
    case .exists(let wanted): return wanted
    case .atLeast(let bound): return Self.compare(value, bound).map { $0 >= 0 } ?? false
    case .atMost(let bound): return Self.compare(value, bound).map { $0 <= 0 } ?? false
    case .above(let bound): return Self.compare(value, bound).map { $0 > 0 } ?? false
    case .below(let bound): return Self.compare(value, bound).map { $0 < 0 } ?? false
    case .startsWith(let text): return value.string?.hasPrefix(text) ?? false
    case .contains(let text):
      if let elements = value.array { return elements.contains { $0.string == text } }
      return value.string?.contains(text) ?? false
    }
  }

  private static func equal(_ a: JSON, _ b: JSON) -> Bool {
    if let x = a.number, let y = b.number { return x == y }
    return a == b
  }

  /// Below 0, 0 or above 0; nil where the two cannot be compared. Text compares by its scalars, so
  /// that times in ISO 8601 compare as times do.
  private static func compare(_ a: JSON, _ b: JSON) -> Int? {
    if let x = a.number, let y = b.number { return x < y ? -1 : x > y ? 1 : 0 }
    if let x = a.string, let y = b.string { return x < y ? -1 : x > y ? 1 : 0 }
    return nil
  }
}

extension RecordFilter {
  private static let tests = [
    "equals", "not_equals", "in", "not_in", "exists", "at_least", "at_most", "above", "below",
    "starts_with", "contains",
  ]

  /// Reads the value of the key `filter`.
  init?(_ json: JSON?, _ reader: DefinitionReader, key: String = "filter") {
    guard let json else { return nil }
    guard let elements = json.array else {
      guard let one = Self.condition(json, reader, key) else { return nil }
      self = one
      return
    }
    self = .all(
      elements.enumerated().compactMap { Self.condition($1, reader, "\(key)[\($0)]") })
  }

  private static func condition(
    _ json: JSON, _ reader: DefinitionReader, _ key: String
  ) -> RecordFilter? {
    guard json.object != nil else {
      reader.report(
        "wrong_type", "A condition is \(DefinitionReader.words(json)); it must be a map.", at: key,
        help: "Write {field: event, in: [view, like]}.")
      return nil
    }
    let part = reader.part(json, key)
    defer { part.finish() }
    var all: [RecordFilter] = []
    for name in ["any", "all"] {
      guard let elements = part.list(name) else { continue }
      let inner = elements.enumerated().compactMap {
        condition($1, reader, "\(key).\(name)[\($0)]")
      }
      all.append(name == "any" ? .any(inner) : .all(inner))
    }
    if let inner = part.take("not"), let filter = condition(inner, reader, "\(key).not") {
      all.append(.not(filter))
    }
    var path: RecordPath?
    if let text = part.string("field") {
      do throws(Diagnostic) { path = try RecordPath(parsing: text) } catch {
        var problem = error
        problem.place = part.place("field")
        part.add(problem)
      }
    }
    var tests: [Test] = []
    for name in Self.tests {
      guard let value = part.take(name) else { continue }
      if let test = test(name, value, part) { tests.append(test) }
    }
    if let path {
      if tests.isEmpty, part.problems.isEmpty { tests = [.exists(true)] }
      all += tests.map { .test(path, $0) }
    } else if !tests.isEmpty || all.isEmpty, json["field"] == nil {
      part.report(
        "missing_key", "`\(part.place("field"))` is missing.", at: "field",
        help: "Name the field that is tested: {field: event, in: [view, like]}.")
    }
    return all.count == 1 ? all[0] : .all(all)
  }

  private static func test(_ name: String, _ value: JSON, _ part: DefinitionReader) -> Test? {
    switch name {
    case "equals": return .isOne(of: [value])
    case "not_equals": return .isNone(of: [value])
    case "in", "not_in":
      guard let values = value.array else {
        part.report(
          "wrong_type",
          "`\(part.place(name))` is \(DefinitionReader.words(value)); it must be a list.",
          at: name, help: "Write \(name): [view, like].")
        return nil
      }
      return name == "in" ? .isOne(of: values) : .isNone(of: values)
    case "exists":
      guard let flag = value.bool else {
        part.report(
          "wrong_type",
          "`\(part.place(name))` is \(DefinitionReader.words(value)); it must be true or false.",
          at: name)
        return nil
      }
      return .exists(flag)
    case "at_least": return .atLeast(value)
    case "at_most": return .atMost(value)
    case "above": return .above(value)
    case "below": return .below(value)
    default:
      guard let text = value.string else {
        part.report(
          "wrong_type",
          "`\(part.place(name))` is \(DefinitionReader.words(value)); it must be text.",
          at: name)
        return nil
      }
      return name == "starts_with" ? .startsWith(text) : .contains(text)
    }
  }
}
