import Domain

/// Reads the members of a table's definition that say what its rows must keep to: `contract`,
/// `strict`, `unknown_columns` and `retention`.
struct TableRulesReader {
  static let members = ["contract", "strict", "unknown_columns", "retention"]

  private(set) var problems: [Diagnostic] = []

  /// The rules of a definition, laid over those that are there.
  ///
  /// `contract` names columns; what it says of a column takes the place of what was said before, and
  /// null takes it back. A member that is left out changes nothing.
  mutating func rules(
    _ json: JSON, over earlier: TableRules, columns: [ColumnDefinition]
  ) -> TableRules {
    var rules = earlier
    switch json["contract"] {
    case nil, .null?: break
    case .object(let members)?:
      for member in members { read(member, columns, &rules) }
    case let other?: wrongType("contract", "an object of columns", other)
    }
    switch json["strict"] {
    case nil, .null?: break
    case .bool(let flag)?: rules.isStrict = flag
    case let other?: wrongType("strict", "true or false", other)
    }
    switch json["unknown_columns"] {
    case nil, .null?: break
    case .string("ignore")?: rules.ignoresUnknownColumns = true
    case .string("refuse")?: rules.ignoresUnknownColumns = false
    case let other?:
      problems.append(
        Diagnostic(
          code: "invalid_value", "`unknown_columns` is \(other.text).", at: "unknown_columns",
          help: #"Write "ignore" or "refuse"."#))
    }
    switch json["retention"] {
    case nil: break
    case .null?: rules.retention = nil
    case .object(let members)?: rules.retention = retention(members, columns)
    case let other?: wrongType("retention", "an object", other)
    }
    return rules
  }

  private mutating func wrongType(_ name: String, _ wanted: String, _ found: JSON) {
    problems.append(
      Diagnostic(
        code: "wrong_type", "`\(name)` must be \(wanted), not \(found.kindName).", at: name))
  }

  private mutating func unknownColumn(_ name: String, _ columns: [ColumnDefinition], at: String) {
    let names = columns.map(\.name)
    problems.append(
      Diagnostic(
        code: "unknown_column", "The table has no column `\(name)`.", at: at,
        help: nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
          ?? "Its columns are \(names.map { "`\($0)`" }.joined(separator: ", "))."))
  }

  // MARK: Contract

  private mutating func read(
    _ member: JSON.Member, _ columns: [ColumnDefinition], _ rules: inout TableRules
  ) {
    let place = "contract.\(member.name)"
    guard columns.contains(where: { $0.name == member.name }) else {
      unknownColumn(member.name, columns, at: place)
      return
    }
    if member.value == .null {
      rules.columns[member.name] = nil
      return
    }
    guard let asked = member.value.object else {
      wrongType(place, "an object", member.value)
      return
    }
    var rule = TableRules.ColumnRule()
    let known = ["required", "allowed", "min", "max"]
    for ask in asked {
      switch (ask.name, ask.value) {
      case (_, .null): break
      case ("required", .bool(let flag)): rule.isRequired = flag
      case ("required", let other): wrongType("\(place).required", "true or false", other)
      case ("allowed", .array(let values)):
        rule.allowed = values.compactMap { value in
          switch value {
          case .string(let text): text
          case .int, .double, .bool: value.text
          default: nil
          }
        }
        if rule.allowed?.count != values.count {
          wrongType("\(place).allowed", "a list of texts, numbers or booleans", ask.value)
        }
      case ("allowed", let other): wrongType("\(place).allowed", "a list of values", other)
      case ("min", let value):
        rule.minimum = value.number
        if value.number == nil { wrongType("\(place).min", "a number", value) }
      case ("max", let value):
        rule.maximum = value.number
        if value.number == nil { wrongType("\(place).max", "a number", value) }
      default:
        problems.append(
          Diagnostic(
            code: "unknown_member", "A column's contract has no `\(ask.name)`.",
            at: "\(place).\(ask.name)",
            help: nearestName(to: ask.name, among: known).map { "Did you mean `\($0)`?" }
              ?? "It may hold `required`, `allowed`, `min` and `max`."))
      }
    }
    if let low = rule.minimum, let high = rule.maximum, low > high {
      problems.append(
        Diagnostic(
          code: "invalid_value", "`min` is \(low) and above `max`, \(high).", at: place,
          help: "Give the smaller one as `min`."))
    }
    rules.columns[member.name] = rule
  }

  // MARK: Retention

  private mutating func retention(
    _ members: [JSON.Member], _ columns: [ColumnDefinition]
  ) -> TableRules.Retention {
    var retention = TableRules.Retention()
    for member in members {
      let place = "retention.\(member.name)"
      switch (member.name, member.value) {
      case (_, .null): break
      case ("max_age", .string(let text)):
        retention.maximumAgeSeconds = TableRulesReader.seconds(text)
        if retention.maximumAgeSeconds == nil {
          problems.append(
            Diagnostic(
              code: "invalid_value", "`max_age` is \"\(text)\".", at: place,
              help: "Write a number and s, m, h or d, such as \"90d\"."))
        }
      case ("max_age_seconds", .int(let seconds)) where seconds > 0:
        retention.maximumAgeSeconds = seconds
      case ("time_column", .string(let name)):
        retention.timeColumn = name
        if let column = columns.first(where: { $0.name == name }) {
          if column.type != .dateTime {
            problems.append(
              Diagnostic(
                code: "wrong_column_type",
                "`time_column` names `\(name)`, which is of type \(column.type.rawValue).",
                at: place, help: "Name a DateTime column."))
          }
        } else {
          unknownColumn(name, columns, at: place)
        }
      case ("max_rows", .int(let rows)) where rows > 0: retention.maximumRows = Int(rows)
      case ("max_age", let other), ("max_age_seconds", let other), ("time_column", let other),
        ("max_rows", let other):
        problems.append(
          Diagnostic(
            code: "invalid_value", "`\(member.name)` is \(other.text).", at: place,
            help: #"Write {"max_age": "90d", "time_column": "created_at", "max_rows": 10000000}."#))
      default:
        let known = ["max_age", "max_age_seconds", "time_column", "max_rows"]
        problems.append(
          Diagnostic(
            code: "unknown_member", "`retention` has no `\(member.name)`.", at: place,
            help: nearestName(to: member.name, among: known).map { "Did you mean `\($0)`?" }
              ?? "It may hold \(known.map { "`\($0)`" }.joined(separator: ", "))."))
      }
    }
    if retention.maximumAgeSeconds != nil, retention.timeColumn == nil {
      let times = columns.filter { $0.type == .dateTime }.map(\.name)
      if times.count == 1 {
        retention.timeColumn = times[0]
      } else {
        problems.append(
          Diagnostic(
            code: "missing_member", "`retention` has a `max_age` and no `time_column`.",
            at: "retention.time_column",
            help: times.isEmpty
              ? "The table has no DateTime column; limit `max_rows` instead."
              : "Name one of \(times.map { "`\($0)`" }.joined(separator: ", "))."))
      }
    }
    return retention
  }

  /// `90d`, `12h`, `30m` or `45s` in seconds; nil where it is none of these.
  static func seconds(_ text: String) -> Int64? {
    guard let unit = text.last, let number = Int64(text.dropLast()), number > 0 else { return nil }
    let factor: Int64
    switch unit {
    case "s": factor = 1
    case "m": factor = 60
    case "h": factor = 3600
    case "d": factor = 86_400
    default: return nil
    }
    let (seconds, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow ? nil : seconds
  }
}
