package import Domain

/// The forms of a file of rows.
package enum RowFormat: String, Hashable, Sendable, CaseIterable {
  case csv
  case tsv
  /// One array of objects, or an object on each line.
  case json
  /// An object on each line.
  case jsonl
}

/// Reads a file of rows piece by piece, each row as the JSON object that an insert carries.
///
/// CSV and TSV follow RFC 4180 and begin with a line of column names. A field is text, and the
/// table's types say what becomes of it; an empty field without quotes is null, `""` is empty text.
package struct RowFile: Sendable {
  private enum Body {
    case separated(SeparatedValues, names: [String])
    case lines
    /// Rows that are parsed already; the next one's number.
    case parsed([JSON], next: Int)
  }

  private let bytes: [UInt8]
  /// The file's name in messages.
  private let origin: String
  private var body: Body
  private var at = 0
  private var line = 1

  /// - Throws: what is wrong with the line of names, or with a JSON file as a whole.
  package init(_ format: RowFormat, _ bytes: [UInt8], origin: String) throws(Diagnostic) {
    self.bytes = bytes
    self.origin = origin
    let start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    at = start
    switch format {
    case .csv, .tsv:
      var reader = SeparatedValues(
        delimiter: UInt8(ascii: format == .csv ? "," : "\t"), at: start, origin: origin)
      guard let header = try reader.next(bytes) else {
        throw Diagnostic(
          code: "empty_file", "The file has no line of column names.", at: origin,
          help: "Write the names of the columns in its first line.")
      }
      let names = header.map { $0 ?? "" }
      if let empty = names.firstIndex(of: "") {
        throw Diagnostic(
          code: "invalid_header", "Column \(empty + 1) has no name.", at: "\(origin):1",
          help: "Name every column in the first line.")
      }
      if Set(names).count < names.count {
        throw Diagnostic(
          code: "invalid_header", "Two columns have the same name.", at: "\(origin):1",
          help: "Name every column differently.")
      }
      body = .separated(reader, names: names)
    case .jsonl:
      body = .lines
    case .json:
      let first = bytes[start...].first { ![32, 9, 10, 13].contains($0) }
      if first == UInt8(ascii: "[") {
        do throws(Diagnostic) {
          body = .parsed(try JSON(parsing: bytes[start...]).array ?? [], next: 0)
        } catch {
          var problem = error
          problem.place = error.place.map { "\(origin), \($0)" } ?? origin
          throw problem
        }
      } else {
        body = .lines
      }
    }
  }

  /// The next rows, at most so many; empty at the end.
  package mutating func next(_ limit: Int) throws(Diagnostic) -> [JSON] {
    switch body {
    case .parsed(let rows, let next):
      let end = min(next + limit, rows.count)
      body = .parsed(rows, next: end)
      return Array(rows[next..<end])
    case .lines:
      return try nextLines(limit)
    case .separated(var reader, let names):
      var rows: [JSON] = []
      while rows.count < limit {
        let line = reader.line
        guard let fields = try reader.next(bytes) else { break }
        guard fields.count == names.count else {
          throw Diagnostic(
            code: "wrong_field_count",
            "The line has \(fields.count) fields; the first line names \(names.count) columns.",
            at: "\(origin):\(line)", help: "Put a field that holds the separator in double quotes.")
        }
        rows.append(
          .object(
            zip(names, fields).map { JSON.Member($0, $1.map { .string($0) } ?? .null) }))
      }
      body = .separated(reader, names: names)
      return rows
    }
  }

  private mutating func nextLines(_ limit: Int) throws(Diagnostic) -> [JSON] {
    var rows: [JSON] = []
    while rows.count < limit, at < bytes.count {
      let end = bytes[at...].firstIndex(of: 10) ?? bytes.count
      let text = bytes[at..<end]
      let number = line
      at = min(end + 1, bytes.count)
      line += 1
      if text.allSatisfy({ [32, 9, 13].contains($0) }) { continue }
      do throws(Diagnostic) {
        rows.append(try JSON(parsing: text))
      } catch {
        var problem = error
        problem.place = "\(origin):\(number)"
        problem.help = "Write one JSON object on each line."
        throw problem
      }
    }
    return rows
  }
}
