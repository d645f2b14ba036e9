package import Domain

extension TableSchema {
  /// The form in which a schema stands in the database.
  var stored: JSON {
    var members: [JSON.Member] = [
      JSON.Member("name", .string(name)),
      JSON.Member(
        "columns",
        .array(columns.map { ["name": .string($0.name), "type": .string($0.type.rawValue)] })),
      JSON.Member("unique_keys", .array(uniqueKeys.map { .string($0) })),
    ]
    if let description { members.append(JSON.Member("description", .string(description))) }
    if rules != TableRules() { members.append(JSON.Member("rules", rules.json)) }
    return .object(members)
  }

  /// Reads what `stored` wrote, or gives nil.
  init?(stored: JSON) {
    guard let name = stored["name"]?.string, let columns = stored["columns"]?.array,
      let keys = stored["unique_keys"]?.array
    else { return nil }
    var definitions: [ColumnDefinition] = []
    for column in columns {
      guard let name = column["name"]?.string,
        let type = column["type"]?.string.flatMap(ColumnType.init(rawValue:))
      else { return nil }
      definitions.append(ColumnDefinition(name: name, type: type))
    }
    self.init(
      name: name, columns: definitions, uniqueKeys: keys.compactMap(\.string),
      description: stored["description"]?.string,
      rules: stored["rules"].map { TableRules(stored: $0) } ?? TableRules())
  }

  /// The problems that keep the table from being made, all of them; empty where there is none.
  ///
  /// SQLite takes `User` and `user` for one name, so names that differ only in case are refused.
  package var problems: [Diagnostic] {
    var faults: [Diagnostic] = []
    if let fault = TableSchema.nameFault(name) {
      faults.append(
        Diagnostic(
          code: "invalid_table_name", "The table name `\(name)` \(fault).", at: "name",
          help: TableSchema.nameRule))
    }
    if columns.isEmpty {
      faults.append(
        Diagnostic(
          code: "empty_schema", "The table `\(name)` declares no columns.", at: "column_schema",
          help: "Name at least one column and its type."))
    }
    if columns.count > TableSchema.maximumColumns {
      faults.append(
        Diagnostic(
          code: "too_many_columns",
          "The table `\(name)` declares \(columns.count) columns; "
            + "\(TableSchema.maximumColumns) are allowed.", at: "column_schema"))
    }
    var seen: [String: String] = [:]
    for column in columns {
      if let fault = TableSchema.nameFault(column.name) {
        faults.append(
          Diagnostic(
            code: "invalid_column_name", "The column name `\(column.name)` \(fault).",
            at: "column_schema", help: TableSchema.nameRule))
      }
      if let other = seen.updateValue(column.name, forKey: column.name.lowercased()) {
        faults.append(
          Diagnostic(
            code: "duplicate_column",
            "The columns `\(other)` and `\(column.name)` have one name; case makes no difference.",
            at: "column_schema", help: "Rename one of them."))
      }
    }
    var keys: Set<String> = []
    for (i, key) in uniqueKeys.enumerated() {
      if index(of: key) == nil {
        let near = nearestName(to: key, among: columns.map(\.name))
        faults.append(
          Diagnostic(
            code: "unknown_unique_key", "The unique key `\(key)` is not a column of the table.",
            at: "unique_keys[\(i)]",
            help: (near.map { "Did you mean `\($0)`? " } ?? "")
              + "The columns are \(columns.map { "`\($0.name)`" }.joined(separator: ", "))."))
      }
      if !keys.insert(key).inserted {
        faults.append(
          Diagnostic(
            code: "duplicate_unique_key", "The unique key `\(key)` is named twice.",
            at: "unique_keys[\(i)]", help: "Name it once."))
      }
    }
    return faults
  }

  static let maximumColumns = 1000
  static let nameRule =
    "Names hold letters, digits, `_` and `-`, begin with a letter or a digit, "
    + "and are at most 128 characters long."

  private static func nameFault(_ name: String) -> String? {
    let bytes = name.utf8
    if bytes.isEmpty { return "is empty" }
    if bytes.count > 128 { return "is longer than 128 characters" }
    if name.hasPrefix("_") { return "begins with `_`, which is reserved" }
    if name.lowercased().hasPrefix("sqlite_") { return "begins with `sqlite_`, which is reserved" }
    if name.hasPrefix("-") { return "begins with `-`" }
    let isPlain = bytes.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
    return isPlain ? nil : "holds a character that is not allowed"
  }
}
