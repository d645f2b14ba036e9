package import Domain

/// How a record becomes a row: for each column, where its value comes from.
///
/// In a definition, under `mapping`, a column is one of
/// - a path: `item_id: properties.video_id`,
/// - several, of which the first that holds something counts: `user_id: [userId, anonymousId]`,
/// - a map: `{path, value, default, values, unit}`. `value` is a constant; `default` stands in where
///   the path holds nothing; `values` translates (`{"Video Liked": like}`), and what it does not name
///   becomes `default`, or stays as it is where there is none; `unit` says what a time's number counts
///   (`seconds`, `milliseconds`, `microseconds`).
///
/// Without a mapping the record's own members are the columns.
package struct RecordMapping: Hashable, Sendable {
  package struct Rule: Hashable, Sendable {
    package var column: String
    package var paths: [RecordPath] = []
    package var constant: JSON?
    package var fallback: JSON?
    package var values: [String: JSON] = [:]
    /// What a number is multiplied by to become milliseconds.
    package var timeScale: Double?
  }

  package var rules: [Rule]

  package init(_ rules: [Rule]) { self.rules = rules }

  /// The row of a record: an object of the columns that have a value.
  package func row(of record: JSON, extras: [JSON.Member] = []) -> JSON {
    var members: [JSON.Member] = []
    members.reserveCapacity(rules.count)
    for rule in rules {
      if let value = rule.value(in: record, extras) {
        members.append(JSON.Member(rule.column, value))
      }
    }
    return .object(members)
  }
}

extension RecordMapping.Rule {
  func value(in record: JSON, _ extras: [JSON.Member]) -> JSON? {
    if let constant { return constant }
    var found: JSON?
    for path in paths {
      found = path.value(in: record, extras: extras)
      if found != nil { break }
    }
    guard var value = found else { return fallback }
    if !values.isEmpty {
      let name = value.string ?? value.text
      value = values[name] ?? fallback ?? value
    }
    if let timeScale, let number = value.number ?? value.string.flatMap({ Double($0) }) {
      let milliseconds = number * timeScale
      value = Int64(exactly: milliseconds).map { .int($0) } ?? .double(milliseconds)
    }
    return value
  }

  init?(_ column: String, _ json: JSON, _ reader: DefinitionReader) {
    self.init(column: column)
    func path(_ json: JSON) -> RecordPath? {
      guard let text = json.string else {
        reader.report(
          "wrong_type",
          "The path of `\(column)` is \(DefinitionReader.words(json)); it must be text.",
          at: column, help: "Write `\(column): properties.name`, or `\(column): {value: constant}`."
        )
        return nil
      }
      do throws(Diagnostic) {
        return try RecordPath(parsing: text)
      } catch {
        var problem = error
        problem.place = reader.place(column)
        reader.add(problem)
        return nil
      }
    }
    switch json {
    case .array(let elements):
      paths = elements.compactMap(path)
      guard paths.count == elements.count, !paths.isEmpty else {
        if elements.isEmpty {
          reader.report("missing_key", "`\(reader.place(column))` names no path.", at: column)
        }
        return nil
      }
    case .object:
      let part = reader.part(json, column)
      switch part.take("path") {
      case nil: break
      case .array(let elements)?: paths = elements.compactMap(path)
      case .some(let one): paths = [path(one)].compactMap(\.self)
      }
      constant = part.take("value")
      fallback = part.take("default")
      values = Dictionary(
        (part.object("values") ?? []).map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
      if let unit = part.choice("unit", of: ["seconds", "milliseconds", "microseconds"]) {
        timeScale = unit == "seconds" ? 1000 : unit == "milliseconds" ? 1 : 0.001
      }
      part.finish()
      if paths.isEmpty, constant == nil {
        part.report(
          "missing_key", "`\(reader.place(column))` has neither `path` nor `value`.", at: "path",
          help: "Write {path: properties.name}, or {value: constant}.")
        return nil
      }
    default:
      guard let one = path(json) else { return nil }
      paths = [one]
    }
  }
}

extension RecordMapping {
  init?(_ members: [JSON.Member]?, _ reader: DefinitionReader) {
    guard let members else { return nil }
    let part = reader.part(.object(members), "mapping")
    rules = members.compactMap { Rule($0.name, $0.value, part) }
    if members.isEmpty {
      reader.report(
        "missing_key", "`mapping` names no column.", at: "mapping",
        help: "Write `column: path`, or leave `mapping` out.")
    }
  }
}
