package import Domain
import Storage

/// `Ingest` is the edge where outside data becomes rows: table definitions, and rows as JSON, CSV,
/// TSV or JSON lines, checked against the table's schema and coerced to its types.
///
/// What passes here fits the table; everything behind may rely on it. Every refusal names the row
/// and the column, and lists all the problems at once.

/// A table's definition as clients write it: the body of `POST /v2/tables`.
package struct TableDefinition: Hashable, Sendable {
  package var schema: TableSchema

  package init(_ schema: TableSchema) { self.schema = schema }

  /// Reads a definition. A member that is null counts as absent.
  ///
  /// - Throws: every problem: a missing name, an unknown type, a unique key that is no column, and
  ///   so on.
  package init(_ json: JSON) throws(Diagnostics) {
    guard let members = json.object else {
      throw Diagnostics(
        Diagnostic(
          code: "invalid_table", "A table definition must be an object, not \(json.kindName).",
          help: #"Write {"name": "events", "schema_type": "CUSTOM", "column_schema": {…}}."#))
    }
    var problems: [Diagnostic] = []
    for member in members where !TableDefinition.members.contains(member.name) {
      let near = nearestName(to: member.name, among: TableDefinition.members)
      problems.append(
        Diagnostic(
          code: "unknown_member", "A table definition has no `\(member.name)`.", at: member.name,
          help: near.map { "Did you mean `\($0)`?" }
            ?? "It may hold \(TableDefinition.members.map { "`\($0)`" }.joined(separator: ", "))."))
    }
    func text(_ name: String) -> String? {
      switch json[name] {
      case nil, .null: return nil
      case .string(let text): return text
      case .some(let other):
        problems.append(
          Diagnostic(
            code: "wrong_type", "`\(name)` must be a string, not \(other.kindName).", at: name))
        return nil
      }
    }
    let name = text("name")
    if name == nil, json["name"] == nil || json["name"] == .null {
      problems.append(
        Diagnostic(
          code: "missing_member", "The table has no `name`.", at: "name",
          help: "Name the table, for example \"events\"."))
    }
    if let type = text("schema_type"), type != "CUSTOM" {
      problems.append(
        Diagnostic(
          code: "unsupported_schema_type",
          "Tables of the schema type `\(type)` are not supported.", at: "schema_type",
          help: "Use `CUSTOM`, and insert rows by `table-insert` or POST /v2/tables/{table}/insert."
        ))
    }
    var schema = TableSchema(
      name: name ?? "", columns: TableDefinition.columns(json["column_schema"], &problems),
      uniqueKeys: TableDefinition.uniqueKeys(json["unique_keys"], &problems),
      description: text("description"))
    // Faults of the whole are worth telling only where the parts could be read.
    var echoes: Set<String> = []
    if name == nil { echoes.insert("invalid_table_name") }
    if schema.columns.isEmpty { echoes.formUnion(["empty_schema", "unknown_unique_key"]) }
    if problems.contains(where: { $0.code == "unknown_column_type" }) {
      echoes.insert("unknown_unique_key")
    }
    schema.description = schema.description.flatMap { $0.isEmpty ? nil : $0 }
    var reader = TableRulesReader()
    schema.rules = reader.rules(json, over: TableRules(), columns: schema.columns)
    // Rules about columns say nothing where the columns could not be read.
    if !schema.columns.isEmpty { problems += reader.problems }
    problems += schema.problems.filter { !echoes.contains($0.code) }
    if !problems.isEmpty { throw Diagnostics(problems) }
    self.schema = schema
  }

  /// The definition as clients write it.
  package var json: JSON {
    var members: [JSON.Member] = [
      JSON.Member("name", .string(schema.name)), JSON.Member("schema_type", "CUSTOM"),
      JSON.Member("column_schema", columnSchema),
      JSON.Member("unique_keys", .array(schema.uniqueKeys.map { .string($0) })),
    ]
    if let description = schema.description {
      members.append(JSON.Member("description", .string(description)))
    }
    return .object(members)
  }

  /// The columns and their types, as `column_schema` and the details of a table show them.
  package var columnSchema: JSON {
    .object(schema.columns.map { JSON.Member($0.name, .string($0.type.rawValue)) })
  }

  private static let members =
    [
      "name", "schema_type", "column_schema", "unique_keys", "description", "s3_path", "s3_format",
    ] + TableRulesReader.members

  static func columns(
    _ json: JSON?, _ problems: inout [Diagnostic]
  ) -> [ColumnDefinition] {
    guard let json, json != .null, json != .object([]) else {
      problems.append(
        Diagnostic(
          code: "empty_schema", "The table declares no columns.", at: "column_schema",
          help: #"Name them with their types, for example {"user_id": "String"}."#))
      return []
    }
    guard let members = json.object else {
      problems.append(
        Diagnostic(
          code: "wrong_type", "`column_schema` must be an object, not \(json.kindName).",
          at: "column_schema", help: #"Write {"user_id": "String", "created_at": "DateTime"}."#))
      return []
    }
    var columns: [ColumnDefinition] = []
    for member in members {
      guard let typeName = member.value.string else {
        problems.append(
          Diagnostic(
            code: "unknown_column_type",
            "The type of `\(member.name)` must be a string, not \(member.value.kindName).",
            at: "column_schema.\(member.name)"))
        continue
      }
      guard let type = ColumnType(rawValue: typeName) else {
        let names = ColumnType.allCases.map(\.rawValue)
        let near = nearestName(to: typeName, among: names)
        problems.append(
          Diagnostic(
            code: "unknown_column_type",
            "The column `\(member.name)` has the unknown type `\(typeName)`.",
            at: "column_schema.\(member.name)",
            help: near.map { "Did you mean `\($0)`?" }
              ?? "The types are \(names.joined(separator: ", "))."))
        continue
      }
      columns.append(ColumnDefinition(name: member.name, type: type))
    }
    return columns
  }

  private static func uniqueKeys(_ json: JSON?, _ problems: inout [Diagnostic]) -> [String] {
    guard let json, json != .null else { return [] }
    guard let elements = json.array else {
      problems.append(
        Diagnostic(
          code: "wrong_type", "`unique_keys` must be an array, not \(json.kindName).",
          at: "unique_keys", help: #"Write ["event_id"]."#))
      return []
    }
    var keys: [String] = []
    for (i, element) in elements.enumerated() {
      if let key = element.string {
        keys.append(key)
      } else {
        problems.append(
          Diagnostic(
            code: "wrong_type", "A unique key must be a column's name, not \(element.kindName).",
            at: "unique_keys[\(i)]"))
      }
    }
    return keys
  }
}
