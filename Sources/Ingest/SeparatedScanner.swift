import Domain

/// Reads records of separated values straight into cells of a table's types.
///
/// The first record names the columns. A field is text, and the column's type says what becomes of
/// it; an empty field without quotes is null, `""` is empty text.
struct SeparatedScanner: Sendable {
  private let decoder: RowDecoder
  private let delimiter: UInt8
  /// The names of the first record; nil until it was read.
  private var names: [String]?
  /// For each field its column; nil where the table has none and lets it pass.
  private var columns: [Int?] = []
  private let origin: String

  init(_ decoder: RowDecoder, delimiter: UInt8, origin: String) {
    self.decoder = decoder
    self.delimiter = delimiter
    self.origin = origin
  }

  private struct Field {
    var range: Range<Int>
    var isQuoted = false
    /// Whether a quote is written twice in it.
    var hasQuotes = false
    var isFaulty = false
  }

  /// Reads whole records.
  ///
  /// - Parameter firstLine: the number of the first line.
  /// - Throws: what is wrong with the record of names.
  mutating func records(
    _ bytes: UnsafeBufferPointer<UInt8>, firstLine: Int
  ) throws(Diagnostics) -> (records: DecodedRecords, lineCount: Int) {
    var out = DecodedRecords(decoder.schema)
    var at = 0
    var line = firstLine
    var fields: [Field] = []
    while at < bytes.count {
      let start = at
      let startLine = line
      fields.removeAll(keepingCapacity: true)
      record(bytes, &at, &line, &fields)
      let isEmptyLine = fields.count == 1 && fields[0].range.isEmpty && !fields[0].isQuoted
      if isEmptyLine { continue }
      guard let names else {
        try readNames(bytes, fields)
        continue
      }
      let raw = UnsafeBufferPointer(rebasing: bytes[start..<at])
      read(bytes, fields, names, raw: raw, line: startLine, into: &out)
    }
    return (out, line - firstLine)
  }

  // MARK: Splitting

  private func record(
    _ bytes: UnsafeBufferPointer<UInt8>, _ at: inout Int, _ line: inout Int,
    _ fields: inout [Field]
  ) {
    while true {
      fields.append(field(bytes, &at, &line))
      guard at < bytes.count else { return }
      if bytes[at] == delimiter {
        at += 1
        if at == bytes.count { fields.append(Field(range: at..<at)) }
        continue
      }
      if bytes[at] == 13 { at += 1 }
      if at < bytes.count, bytes[at] == 10 { at += 1 }
      line += 1
      return
    }
  }

  private func isLineEnd(_ bytes: UnsafeBufferPointer<UInt8>, _ at: Int) -> Bool {
    bytes[at] == 10 || (bytes[at] == 13 && (at + 1 == bytes.count || bytes[at + 1] == 10))
  }

  private func field(
    _ bytes: UnsafeBufferPointer<UInt8>, _ at: inout Int, _ line: inout Int
  ) -> Field {
    let start = at
    guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else {
      while at < bytes.count, bytes[at] != delimiter, !isLineEnd(bytes, at) { at += 1 }
      return Field(range: start..<at)
    }
    var field = Field(range: start..<start, isQuoted: true)
    at += 1
    while at < bytes.count {
      let byte = bytes[at]
      if byte == UInt8(ascii: "\"") {
        if at + 1 < bytes.count, bytes[at + 1] == UInt8(ascii: "\"") {
          field.hasQuotes = true
          at += 2
          continue
        }
        field.range = (start + 1)..<at
        at += 1
        if at < bytes.count, bytes[at] != delimiter, !isLineEnd(bytes, at) {
          field.isFaulty = true
          while at < bytes.count, !isLineEnd(bytes, at) { at += 1 }
        }
        return field
      }
      if byte == 10 { line += 1 }
      at += 1
    }
    field.range = (start + 1)..<at
    field.isFaulty = true
    return field
  }

  private func text(_ bytes: UnsafeBufferPointer<UInt8>, _ field: Field) -> String? {
    let slice = UnsafeBufferPointer(rebasing: bytes[field.range])
    guard let text = String(validating: slice, as: UTF8.self) else { return nil }
    return field.hasQuotes ? text.replacing("\"\"", with: "\"") : text
  }

  // MARK: Names

  private mutating func readNames(
    _ bytes: UnsafeBufferPointer<UInt8>, _ fields: [Field]
  ) throws(Diagnostics) {
    var problems: [Diagnostic] = []
    var found: [String] = []
    var places: [Int?] = []
    let known = decoder.schema.columns.map(\.name)
    for (i, field) in fields.enumerated() {
      guard let name = text(bytes, field), !name.isEmpty, !field.isFaulty else {
        problems.append(
          Diagnostic(
            code: "invalid_header", "Column \(i + 1) has no name that can be read.",
            at: "\(origin):1", help: "Name every column in the first line, in UTF-8."))
        continue
      }
      if found.contains(name) {
        problems.append(
          Diagnostic(
            code: "invalid_header", "Two columns have the name `\(name)`.", at: "\(origin):1",
            help: "Name every column differently."))
      }
      found.append(name)
      let place = decoder.place(of: name)
      places.append(place)
      if place == nil, !decoder.schema.rules.ignoresUnknownColumns {
        problems.append(
          Diagnostic(
            code: "unknown_column",
            "The table `\(decoder.schema.name)` has no column `\(name)`.", at: "\(origin):1",
            help: nearestName(to: name, among: known).map { "Did you mean `\($0)`?" }
              ?? "Its columns are \(known.map { "`\($0)`" }.joined(separator: ", "))."))
      }
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    names = found
    columns = places
  }

  // MARK: Records

  private func read(
    _ bytes: UnsafeBufferPointer<UInt8>, _ fields: [Field], _ names: [String],
    raw: UnsafeBufferPointer<UInt8>, line: Int, into out: inout DecodedRecords
  ) {
    let position: JSON = ["line": .int(Int64(line))]
    let place = "\(origin):\(line)"
    if fields.contains(where: \.isFaulty) {
      out.refuse(
        raw, index: line, position: position,
        problems: [
          Diagnostic(
            code: "invalid_csv", "A field in quotes is not closed where it ends.", at: place,
            help: "Write a quote inside a quoted field twice, and close the field.")
        ])
      return
    }
    guard fields.count == names.count else {
      out.refuse(
        raw, index: line, position: position,
        problems: [
          Diagnostic(
            code: "wrong_field_count",
            "The line has \(fields.count) fields; the first line names \(names.count) columns.",
            at: place, help: "Put a field that holds the separator in double quotes.")
        ])
      return
    }
    var cells = [Value](repeating: .null, count: decoder.schema.columns.count)
    var problems: [Diagnostic] = []
    for (i, field) in fields.enumerated() {
      guard let column = columns[i], !field.range.isEmpty || field.isQuoted else { continue }
      let type = decoder.schema.columns[column].type
      if !field.hasQuotes, let value = CellScanner.field(bytes, field.range, type) {
        cells[column] = value
        out.tally.count(.string, column: column)
        continue
      }
      guard let text = text(bytes, field) else {
        problems.append(
          Diagnostic(
            code: "invalid_utf8", "The field `\(names[i])` is not valid UTF-8.", at: place,
            help: "Write the file in UTF-8."))
        continue
      }
      out.tally.count(.string, column: column)
      switch coerce(.string(text), to: type) {
      case .value(let value): cells[column] = value
      case .problem(let why, let help):
        problems.append(
          Diagnostic(
            code: "type_mismatch",
            "The column `\(names[i])` is of type \(type.rawValue) and cannot hold \(why).",
            at: place, help: help))
      }
    }
    if problems.isEmpty { decoder.checkRules(cells, place: { place }, &problems) }
    if problems.isEmpty {
      out.tally.recordCount += 1
      out.rows.append(cells)
      return
    }
    // Kept as an object of columns, a record can be sent in again without its file's first line.
    let object = JSON.object(
      zip(names, fields).map { name, field in
        let isNull = field.range.isEmpty && !field.isQuoted
        return JSON.Member(name, isNull ? .null : text(bytes, field).map { .string($0) } ?? .null)
      })
    let isText = fields.allSatisfy { text(bytes, $0) != nil }
    let kept = isText ? object.utf8 : Array(raw)
    kept.withUnsafeBufferPointer {
      out.refuse($0, index: line, position: position, problems: problems)
    }
  }
}
