import Domain
import Storage

extension ViewDefinition {
  private static let members = [
    "name", "transform_type", "sql_query", "sql_transform_type", "description", "column_schema",
    "refresh_seconds",
  ]

  /// Reads a definition as clients write it: the body of `POST /v2/views`.
  ///
  /// - Throws: every problem at once.
  init(_ json: JSON) throws(Diagnostics) {
    guard let given = json.object else {
      throw Diagnostics(
        Diagnostic(
          code: "invalid_view", "A view's definition must be an object, not \(json.kindName).",
          help: #"Write {"name": "labels", "transform_type": "SQL", "sql_query": "SELECT …"}."#))
    }
    var problems: [Diagnostic] = []
    for member in given where !Self.members.contains(member.name) {
      problems.append(
        Diagnostic(
          code: "unknown_member", "A view's definition has no `\(member.name)`.", at: member.name,
          help: nearestName(to: member.name, among: Self.members).map { "Did you mean `\($0)`?" }
            ?? "It may hold \(Self.members.map { "`\($0)`" }.joined(separator: ", "))."))
    }
    func text(_ name: String, required help: String? = nil) -> String? {
      switch json[name] {
      case .string(let text)?: return text
      case nil, .null?:
        if let help {
          problems.append(
            Diagnostic(
              code: "missing_member", "The view has no `\(name)`.", at: name, help: help))
        }
      case let other?:
        problems.append(
          Diagnostic(
            code: "wrong_type", "`\(name)` must be a string, not \(other.kindName).", at: name))
      }
      return nil
    }
    if let type = text("transform_type"), type != "SQL" {
      problems.append(
        Diagnostic(
          code: "not_available", "Views of the kind `\(type)` are not available.",
          at: "transform_type", help: "Write `transform_type: SQL` with a `sql_query`."))
    }
    let name = text("name", required: "Give the view a name.")
    let sql = text("sql_query", required: "Write the view's SELECT.")
    let kind = text("sql_transform_type") ?? ViewDefinition.Kind.plain.rawValue
    if ViewDefinition.Kind(rawValue: kind) == nil {
      problems.append(
        Diagnostic(
          code: "invalid_view", "`\(kind)` is no kind of SQL view.", at: "sql_transform_type",
          help: "Write `VIEW` or `MATERIALIZED_VIEW`."))
    }
    var types: [String: ColumnType] = [:]
    switch json["column_schema"] {
    case nil, .null?: break
    case .object(let columns)?:
      for column in columns {
        guard let type = column.value.string.flatMap(ColumnType.init) else {
          problems.append(
            Diagnostic(
              code: "unknown_type", "`\(column.value.text)` is no column type.",
              at: "column_schema.\(column.name)",
              help: "The types are "
                + ColumnType.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ") + "."))
          continue
        }
        types[column.name] = type
      }
    case let other?:
      problems.append(
        Diagnostic(
          code: "wrong_type", "`column_schema` must be an object, not \(other.kindName).",
          at: "column_schema"))
    }
    var refresh: Int64 = 60
    switch json["refresh_seconds"] {
    case nil, .null?: break
    case .int(let seconds)? where (1...31_536_000).contains(seconds): refresh = seconds
    case let other?:
      problems.append(
        Diagnostic(
          code: "invalid_view", "`refresh_seconds` is \(other.text).", at: "refresh_seconds",
          help: "Give whole seconds, at least 1."))
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    self.init(
      name: name ?? "", sql: sql ?? "", kind: ViewDefinition.Kind(rawValue: kind) ?? .plain,
      description: json["description"]?.string, types: types, refreshSeconds: Int(refresh))
  }
}
