package import Domain
import Storage

/// A change of a table as clients write it: the body of `PATCH /v2/tables`, which is a definition
/// that names what is new.
package enum TableChange {
  /// The table's new form.
  ///
  /// Columns that the change does not name stay. A new name is a new column, at the end; a known one
  /// with a wider type is widened; nothing is taken away.
  ///
  /// - Throws: every problem: an unknown member, a narrower type, other unique keys, and so on.
  package static func apply(_ json: JSON, to schema: TableSchema) throws(Diagnostics)
    -> TableSchema
  {
    var problems: [Diagnostic] = []
    var new = schema
    let known =
      [
        "name", "schema_type", "column_schema", "unique_keys", "description", "s3_path",
        "s3_format",
      ]
      + TableRulesReader.members
    for member in json.object ?? [] where !known.contains(member.name) {
      problems.append(
        Diagnostic(
          code: "unknown_member", "A table definition has no `\(member.name)`.", at: member.name,
          help: nearestName(to: member.name, among: known).map { "Did you mean `\($0)`?" }
            ?? "It may hold \(known.map { "`\($0)`" }.joined(separator: ", "))."))
    }
    switch json["description"] {
    case nil, .null?: break
    case .string(let text)?: new.description = text.isEmpty ? nil : text
    case let other?:
      problems.append(
        Diagnostic(
          code: "wrong_type", "`description` must be a string, not \(other.kindName).",
          at: "description"))
    }
    if let keys = json["unique_keys"]?.array, keys.compactMap(\.string) != schema.uniqueKeys {
      problems.append(
        Diagnostic(
          code: "unique_keys_fixed", "The unique keys of a table cannot be changed.",
          at: "unique_keys",
          help: "Leave them out, or make a new table and insert the rows there."))
    }
    if let columns = json["column_schema"], columns != .null {
      for column in TableDefinition.columns(columns, &problems) {
        apply(column, to: &new, &problems)
      }
    }
    var reader = TableRulesReader()
    new.rules = reader.rules(json, over: schema.rules, columns: new.columns)
    problems += reader.problems
    problems += new.problems
    if !problems.isEmpty { throw Diagnostics(problems) }
    return new
  }

  private static func apply(
    _ column: ColumnDefinition, to schema: inout TableSchema, _ problems: inout [Diagnostic]
  ) {
    guard let place = schema.index(of: column.name) else {
      schema.columns.append(column)
      return
    }
    let old = schema.columns[place].type
    if old == column.type { return }
    guard old.canWiden(to: column.type) else {
      let wider = ColumnType.allCases.filter { old.canWiden(to: $0) }.map(\.rawValue)
      problems.append(
        Diagnostic(
          code: "type_not_wider",
          "The column `\(column.name)` is of type \(old.rawValue) and cannot become "
            + "\(column.type.rawValue).", at: "column_schema.\(column.name)",
          help: wider.isEmpty
            ? "Add a column of another name."
            : "It can become \(wider.joined(separator: ", ")); or add a column of another name."))
      return
    }
    schema.columns[place].type = column.type
  }
}

extension ColumnType {
  /// Whether every value of this type is one of the other type as well.
  package func canWiden(to other: ColumnType) -> Bool {
    switch (self, other) {
    case (.int32, .int64), (.int32, .float), (.int32, .double), (.int64, .double),
      (.float, .double), (.int32, .string), (.int64, .string), (.int64Array, .float64Array),
      (.lowCardinalityString, .string), (.string, .lowCardinalityString), (.imageURL, .string),
      (.string, .unknown), (.lowCardinalityString, .unknown), (.imageURL, .unknown),
      (.json, .unknown):
      true
    default: false
    }
  }
}
