package import Domain

/// Turns rows of JSON into rows of cells that fit a table.
///
/// A batch passes or is refused as a whole (`decode`), or each record for itself
/// (`decode(records:)`). What is coerced, beyond each type's own form:
/// - text columns (`String`, `LowCardinality(String)`, `ImageUrl`, `Unknown`): numbers and
///   booleans, as JSON writes them; `Unknown` also arrays and objects, as JSON text.
/// - `Int32`, `Int64`: whole numbers however written (`3.0`, `"3"`), booleans as 0 and 1.
/// - `Float`, `Double`: any number, also as text; booleans as 0 and 1. Both are kept in double
///   precision.
/// - `Bool`: 0 and 1, and `true`, `false`, `1`, `0` as text, in any case.
/// - `DateTime`: a number is milliseconds since 1970, always (seconds are not guessed at, for small
///   times would change their meaning); text is ISO 8601, UTC where it names no offset, or such a
///   number.
/// - arrays: each element as above but never null; text that holds a JSON array.
/// - `Json`: any value but null; text that holds an object or an array is taken as that document.
/// - `Bytes`: text in Base64.
///
/// A column that a row leaves out is null. Columns of the unique key may not be null: such a row
/// could not be told from its repetition, and a client that sends it again would count it twice.
package struct RowDecoder: Sendable {
  package let schema: TableSchema
  private let places: [String: Int]
  private let keyPlaces: [Int]
  /// What single columns ask for, by their place.
  private let rules: [(column: Int, rule: TableRules.ColumnRule)]

  /// Problems are listed up to this number; the rest is counted.
  package static let maximumProblems = 20

  package init(_ schema: TableSchema) {
    self.schema = schema
    places = Dictionary(
      schema.columns.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
    keyPlaces = schema.uniqueKeys.compactMap { schema.index(of: $0) }
    rules = schema.rules.columns.compactMap { name, rule in
      schema.index(of: name).map { ($0, rule) }
    }.sorted { $0.column < $1.column }
  }

  /// Reads the body of `POST /v2/tables/{table}/insert`: `{"data": [{column: value}, …]}`.
  package func decodeInsert(_ body: JSON) throws(Diagnostics) -> [[Value]] {
    try decode(try InsertBody.rows(body))
  }

  /// Reads rows, each an object of columns.
  ///
  /// - Parameter place: the name of the list in messages, as in `data[3].user_id`.
  /// - Throws: every problem of every row, up to `maximumProblems`.
  package func decode(_ rows: [JSON], at place: String = "data") throws(Diagnostics) -> [[Value]] {
    var out: [[Value]] = []
    out.reserveCapacity(rows.count)
    var problems: [Diagnostic] = []
    var problemCount = 0
    var hint = MemberOrder()
    for (r, row) in rows.enumerated() {
      var found: [Diagnostic] = []
      out.append(decode(row, &hint, place: { "\(place)[\(r)]" }, &found))
      problemCount += found.count
      problems += found.prefix(RowDecoder.maximumProblems - problems.count)
    }
    if problemCount > problems.count {
      problems.append(
        Diagnostic(
          code: "more_problems", "\(problemCount - problems.count) more problems are not listed.",
          help: "Mend these first. Nothing of the request was stored."))
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    return out
  }

  /// Reads records one by one: those that fit become rows, the others are kept with their problems.
  ///
  /// - Parameter place: the name of the list in messages.
  package func decode(records: [SourceRecord], at place: String = "data") -> DecodedRecords {
    var out = DecodedRecords(schema)
    out.rows.reserveCapacity(records.count)
    var hint = MemberOrder()
    for (index, record) in records.enumerated() {
      var problems: [Diagnostic] = []
      var json = JSON.null
      switch record.content {
      case .json(let value): json = value
      case .bytes(let bytes):
        do throws(Diagnostic) { json = try JSON(parsing: bytes) } catch {
          var problem = error
          problem.place = "\(place)[\(index)]" + (error.place.map { ", \($0)" } ?? "")
          problems.append(problem)
        }
      case .unreadable(_, let problem): problems.append(problem)
      }
      out.tally.recordCount += 1
      if problems.isEmpty {
        let row = decode(
          json, &hint, place: { "\(place)[\(index)]" }, &problems, tally: &out.tally)
        if problems.isEmpty {
          out.rows.append(row)
          continue
        }
      }
      out.tally.misfitCount += 1
      out.misfits.append(
        DecodedRecords.Misfit(
          index: index, raw: record.raw, position: record.position, problems: problems))
    }
    return out
  }

  /// Where each member of a record stands among the columns. Clients write every record's members in
  /// one order, so the place of a member is nearly always that of the member before it in the last
  /// record, and no look-up is needed.
  struct MemberOrder {
    var members: [(name: String, place: Int)] = []
  }

  private func decode(
    _ row: JSON, _ hint: inout MemberOrder, place: () -> String, _ problems: inout [Diagnostic]
  ) -> [Value] {
    var tally = RecordTally(columnCount: 0)
    return decode(row, &hint, place: place, &problems, tally: &tally, counts: false)
  }

  /// Reads one record; what is wrong with it is added to the problems.
  func decode(
    _ row: JSON, _ hint: inout MemberOrder, place: () -> String, _ problems: inout [Diagnostic],
    tally: inout RecordTally, counts: Bool = true
  ) -> [Value] {
    guard let members = row.object else {
      problems.append(
        Diagnostic(
          code: "invalid_row", "A row must be an object, not \(row.kindName).",
          at: place(), help: #"Write {"column": "value"}."#))
      return []
    }
    var cells = [Value](repeating: .null, count: schema.columns.count)
    // Bits of columns whose cell is in error, not missing.
    var faulty: Set<Int> = []
    for (m, member) in members.enumerated() {
      let column: Int
      if m < hint.members.count, hint.members[m].name == member.name {
        column = hint.members[m].place
      } else if let found = places[member.name] {
        column = found
        if m < hint.members.count {
          hint.members[m] = (member.name, found)
        } else if m == hint.members.count {
          hint.members.append((member.name, found))
        }
      } else {
        if counts { tally.countUnknown(member.name) }
        if !schema.rules.ignoresUnknownColumns {
          problems.append(unknownColumn(member.name, at: "\(place()).\(member.name)"))
        }
        continue
      }
      if counts { tally.count(ValueKind(member.value), column: column) }
      switch coerce(member.value, to: schema.columns[column].type) {
      case .value(let value): cells[column] = value
      case .problem(let why, let help):
        problems.append(
          Diagnostic(
            code: "type_mismatch",
            "The column `\(member.name)` is of type \(schema.columns[column].type.rawValue) and cannot "
              + "hold \(why).", at: "\(place()).\(member.name)", help: help))
        faulty.insert(column)
      }
    }
    checkRules(cells, except: faulty, place: place, &problems)
    return cells
  }

  /// The place of a column in a row, or nil.
  func place(of column: String) -> Int? { places[column] }

  /// Whether a row fits what the table asks of its rows beyond their types.
  func keepsToRules(_ cells: [Value]) -> Bool {
    for key in keyPlaces where cells[key].isNull { return false }
    for (column, rule) in rules where rule.fault(cells[column]) != nil { return false }
    return true
  }

  /// Checks what the table asks of its rows beyond their types.
  func checkRules(
    _ cells: [Value], except faulty: Set<Int> = [], place: () -> String,
    _ problems: inout [Diagnostic]
  ) {
    for key in keyPlaces where cells[key].isNull && !faulty.contains(key) {
      let name = schema.columns[key].name
      problems.append(
        Diagnostic(
          code: "missing_unique_key",
          "The row has no `\(name)`, which is part of the unique key.",
          at: "\(place()).\(name)",
          help: "Give every row a value for it; without one a repetition could not be told apart."
        ))
    }
    for (column, rule) in rules where !faulty.contains(column) {
      let name = schema.columns[column].name
      if let (code, words) = rule.fault(cells[column]) {
        problems.append(
          Diagnostic(
            code: code, "The column `\(name)` \(words)", at: "\(place()).\(name)",
            help: "Mend the source, or change the table's rules: PATCH /v2/tables."))
      }
    }
  }

  private func unknownColumn(_ name: String, at place: String) -> Diagnostic {
    let names = schema.columns.map(\.name)
    return Diagnostic(
      code: "unknown_column", "The table `\(schema.name)` has no column `\(name)`.", at: place,
      help: nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
        ?? "Its columns are \(names.map { "`\($0)`" }.joined(separator: ", ")).")
  }
}

extension TableRules.ColumnRule {
  /// What the rule has against a value of its column, as a code and the end of a sentence.
  fileprivate func fault(_ value: Value) -> (code: String, words: String)? {
    if value.isNull {
      return isRequired ? ("missing_value", "must have a value in every row.") : nil
    }
    if let allowed {
      let text = value.ruleText
      if !allowed.contains(text) {
        let near = nearestName(to: text, among: allowed)
        let some = allowed.prefix(20).map { "`\($0)`" }.joined(separator: ", ")
        return (
          "value_not_allowed",
          "may not hold `\(text.prefix(60))`. "
            + (near.map { "Did you mean `\($0)`?" } ?? "It may hold \(some).")
        )
      }
    }
    guard minimum != nil || maximum != nil, let number = value.ruleNumber else { return nil }
    if let minimum, number < minimum {
      return ("value_out_of_range", "must be at least \(minimum) and holds \(number).")
    }
    if let maximum, number > maximum {
      return ("value_out_of_range", "must be at most \(maximum) and holds \(number).")
    }
    return nil
  }
}

extension Value {
  /// The value as the rule of allowed values names it.
  package var ruleText: String {
    switch self {
    case .string(let text): text
    case .int(let number): String(number)
    case .double(let number): number.description
    case .bool(let flag): flag ? "true" : "false"
    case .timestamp(let time): time.iso8601
    case .null, .bytes, .array: ""
    }
  }

  /// The number that bounds apply to; a time counts in milliseconds since 1970.
  package var ruleNumber: Double? {
    switch self {
    case .int(let number): Double(number)
    case .double(let number): number
    case .timestamp(let time): Double(time.microsecondsSinceEpoch) / 1000
    default: nil
    }
  }
}
