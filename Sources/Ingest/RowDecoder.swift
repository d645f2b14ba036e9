package import Domain

/// Turns rows of JSON into rows of cells that fit a table.
///
/// A batch passes or is refused as a whole. What is coerced, beyond each type's own form:
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

  /// Problems are listed up to this number; the rest is counted.
  package static let maximumProblems = 20

  package init(_ schema: TableSchema) {
    self.schema = schema
    places = Dictionary(
      schema.columns.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
    keyPlaces = schema.uniqueKeys.compactMap { schema.index(of: $0) }
  }

  /// Reads the body of `POST /v2/tables/{table}/insert`: `{"data": [{column: value}, …]}`.
  package func decodeInsert(_ body: JSON) throws(Diagnostics) -> [[Value]] {
    let help = #"Write {"data": [{"column": "value"}, …]}."#
    guard body.object != nil else {
      throw Diagnostics(
        Diagnostic(
          code: "invalid_body", "The body must be an object, not \(body.kindName).", help: help))
    }
    guard let data = body["data"], data != .null else {
      throw Diagnostics(
        Diagnostic(code: "missing_member", "The body has no `data`.", at: "data", help: help))
    }
    guard let rows = data.array else {
      throw Diagnostics(
        Diagnostic(
          code: "wrong_type", "`data` must be an array of rows, not \(data.kindName).", at: "data",
          help: help))
    }
    return try decode(rows)
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
    func report(_ problem: @autoclosure () -> Diagnostic) {
      problemCount += 1
      if problems.count < RowDecoder.maximumProblems { problems.append(problem()) }
    }
    // Clients write every row's columns in one order, so the place of a member is nearly always
    // that of the member before it in the last row, and no look-up is needed.
    var order: [(name: String, place: Int)] = []
    let empty = [Value](repeating: .null, count: schema.columns.count)
    for (r, row) in rows.enumerated() {
      guard let members = row.object else {
        report(
          Diagnostic(
            code: "invalid_row", "A row must be an object, not \(row.kindName).",
            at: "\(place)[\(r)]", help: #"Write {"column": "value"}."#))
        continue
      }
      var cells = empty
      for (m, member) in members.enumerated() {
        let column: Int
        if m < order.count, order[m].name == member.name {
          column = order[m].place
        } else if let found = places[member.name] {
          column = found
          if m < order.count {
            order[m] = (member.name, found)
          } else if m == order.count {
            order.append((member.name, found))
          }
        } else {
          report(unknownColumn(member.name, at: "\(place)[\(r)].\(member.name)"))
          continue
        }
        switch coerce(member.value, to: schema.columns[column].type) {
        case .value(let value): cells[column] = value
        case .problem(let why, let help):
          report(
            Diagnostic(
              code: "type_mismatch",
              "The column `\(member.name)` is of type \(schema.columns[column].type.rawValue) and cannot "
                + "hold \(why).", at: "\(place)[\(r)].\(member.name)", help: help))
          // The cell is in error, not missing.
          cells[column] = .bool(false)
        }
      }
      for key in keyPlaces where cells[key].isNull {
        let name = schema.columns[key].name
        report(
          Diagnostic(
            code: "missing_unique_key",
            "The row has no `\(name)`, which is part of the unique key.",
            at: "\(place)[\(r)].\(name)",
            help: "Give every row a value for it; without one a repetition could not be told apart."
          ))
      }
      out.append(cells)
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

  private func unknownColumn(_ name: String, at place: String) -> Diagnostic {
    let names = schema.columns.map(\.name)
    return Diagnostic(
      code: "unknown_column", "The table `\(schema.name)` has no column `\(name)`.", at: place,
      help: nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
        ?? "Its columns are \(names.map { "`\($0)`" }.joined(separator: ", ")).")
  }
}
