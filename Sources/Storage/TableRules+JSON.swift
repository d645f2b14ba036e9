package import Domain

extension TableRules {
  /// The rules as a document: how they are stored, and how clients see them.
  package var json: JSON {
    var members: [JSON.Member] = []
    if !columns.isEmpty {
      members.append(
        JSON.Member(
          "columns",
          .object(columns.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value.json) })))
    }
    if isStrict { members.append(JSON.Member("strict", true)) }
    if ignoresUnknownColumns { members.append(JSON.Member("unknown_columns", "ignore")) }
    if let retention { members.append(JSON.Member("retention", retention.json)) }
    return .object(members)
  }

  /// Reads what `json` wrote.
  init(stored: JSON) {
    self.init()
    for member in stored["columns"]?.object ?? [] {
      var rule = ColumnRule()
      rule.isRequired = member.value["required"]?.bool ?? false
      rule.allowed = member.value["allowed"]?.array?.compactMap(\.string)
      rule.minimum = member.value["min"]?.number
      rule.maximum = member.value["max"]?.number
      columns[member.name] = rule
    }
    isStrict = stored["strict"]?.bool ?? false
    ignoresUnknownColumns = stored["unknown_columns"]?.string == "ignore"
    if let json = stored["retention"] {
      var retention = Retention()
      retention.maximumAgeSeconds = json["max_age_seconds"]?.int
      retention.timeColumn = json["time_column"]?.string
      retention.maximumRows = json["max_rows"]?.int.map { Int($0) }
      self.retention = retention
    }
  }
}

extension TableRules.ColumnRule {
  fileprivate var json: JSON {
    var members: [JSON.Member] = []
    if isRequired { members.append(JSON.Member("required", true)) }
    if let allowed { members.append(JSON.Member("allowed", .array(allowed.map { .string($0) }))) }
    if let minimum { members.append(JSON.Member("min", .double(minimum))) }
    if let maximum { members.append(JSON.Member("max", .double(maximum))) }
    return .object(members)
  }
}

extension TableRules.Retention {
  fileprivate var json: JSON {
    var members: [JSON.Member] = []
    if let maximumAgeSeconds {
      members.append(JSON.Member("max_age_seconds", .int(maximumAgeSeconds)))
    }
    if let timeColumn { members.append(JSON.Member("time_column", .string(timeColumn))) }
    if let maximumRows { members.append(JSON.Member("max_rows", .int(Int64(maximumRows)))) }
    return .object(members)
  }
}
