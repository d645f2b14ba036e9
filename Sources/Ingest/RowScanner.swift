package import Domain

/// Reads many records straight from bytes: the body of an insert, or JSON lines.
///
/// Records of a plain form become rows on the way; every other record goes through `RowDecoder`,
/// which says what is wrong with it. So both ways agree on what fits, by test.
package struct RowScanner {
  private let decoder: RowDecoder
  private let types: [ColumnType]
  /// Where each member of the last record stood: its name's bytes and its column.
  private var order: [(name: [UInt8], column: Int)] = []
  private var hint = RowDecoder.MemberOrder()
  private let empty: [Value]
  /// The kinds of the record's values, kept to be used again.
  private var kinds: [(column: Int, kind: ValueKind)] = []
  /// The number of the record that last gave each column a value.
  private var lastGiven: [Int]
  private var recordNumber = 0

  package init(_ decoder: RowDecoder) {
    self.decoder = decoder
    types = decoder.schema.columns.map(\.type)
    empty = [Value](repeating: .null, count: types.count)
    lastGiven = [Int](repeating: 0, count: types.count)
  }

  // MARK: The body of an insert

  /// Reads `{"data": [{column: value}, …], …}`.
  ///
  /// - Returns: the records, and the members beside `data`.
  /// - Throws: what is wrong with the body as a whole; then nothing of it can be read.
  package mutating func insertBody(
    _ bytes: UnsafeBufferPointer<UInt8>
  ) throws(Diagnostics) -> (records: DecodedRecords, others: [JSON.Member]) {
    if let result = scanBody(bytes) { return result }
    // Something is out of the plain form. The tree's parser says what and where.
    let body: JSON
    do throws(Diagnostic) { body = try JSON(parsing: bytes) } catch { throw Diagnostics(error) }
    let records = decoder.decode(records: try InsertBody.records(body))
    return (records, (body.object ?? []).filter { $0.name != "data" })
  }

  private mutating func scanBody(
    _ bytes: UnsafeBufferPointer<UInt8>
  ) -> (records: DecodedRecords, others: [JSON.Member])? {
    var scanner = CellScanner(bytes, from: 0, to: bytes.count)
    var out: DecodedRecords?
    var others: [JSON.Member] = []
    scanner.skipSpace()
    guard scanner.take(UInt8(ascii: "{")) else { return nil }
    while true {
      scanner.skipSpace()
      guard let name = scanner.plainText() else { return nil }
      scanner.skipSpace()
      guard scanner.take(UInt8(ascii: ":")) else { return nil }
      scanner.skipSpace()
      if UnsafeBufferPointer(rebasing: bytes[name]).elementsEqual("data".utf8) {
        guard out == nil, let records = scanRows(&scanner) else { return nil }
        out = records
      } else {
        let start = scanner.at
        guard JSONSkipper.skip(bytes, &scanner.at, scanner.end),
          let value = try? JSON(parsing: UnsafeBufferPointer(rebasing: bytes[start..<scanner.at])),
          let text = scanner.text(name)
        else { return nil }
        guard !others.contains(where: { $0.name == text }) else { return nil }
        others.append(JSON.Member(text, value))
      }
      scanner.skipSpace()
      if scanner.take(UInt8(ascii: ",")) { continue }
      guard scanner.take(UInt8(ascii: "}")) else { return nil }
      break
    }
    scanner.skipSpace()
    guard scanner.at == scanner.end, let out else { return nil }
    return (out, others)
  }

  private mutating func scanRows(_ scanner: inout CellScanner) -> DecodedRecords? {
    guard scanner.take(UInt8(ascii: "[")) else { return nil }
    var out = DecodedRecords(decoder.schema)
    scanner.skipSpace()
    if scanner.take(UInt8(ascii: "]")) { return out }
    var index = 0
    while true {
      scanner.skipSpace()
      let start = scanner.at
      if !scanRow(&scanner, into: &out) {
        scanner.at = start
        guard JSONSkipper.skip(scanner.bytes, &scanner.at, scanner.end), scanner.at > start,
          let json = try? JSON(
            parsing: UnsafeBufferPointer(rebasing: scanner.bytes[start..<scanner.at]),
            // The body and its list are two levels of what is allowed.
            maximumDepth: 62)
        else { return nil }
        decode(
          json, raw: UnsafeBufferPointer(rebasing: scanner.bytes[start..<scanner.at]),
          index: index, position: .int(Int64(index)), into: &out)
      }
      index += 1
      scanner.skipSpace()
      if scanner.take(UInt8(ascii: ",")) { continue }
      guard scanner.take(UInt8(ascii: "]")) else { return nil }
      return out
    }
  }

  // MARK: JSON lines

  /// Reads an object on each line; the last line may lack its end. Empty lines are passed over.
  ///
  /// - Parameter firstLine: the number of the first line, for the records' positions.
  /// - Returns: the records, and the number of lines.
  package mutating func lines(
    _ bytes: UnsafeBufferPointer<UInt8>, firstLine: Int
  ) -> (records: DecodedRecords, lineCount: Int) {
    var out = DecodedRecords(decoder.schema)
    var start = 0
    var line = firstLine
    while start < bytes.count {
      var end = start
      while end < bytes.count, bytes[end] != 10 { end += 1 }
      var scanner = CellScanner(bytes, from: start, to: end)
      scanner.skipSpace()
      if scanner.at < end {
        let first = scanner.at
        var isPlain = scanRow(&scanner, into: &out)
        if isPlain {
          scanner.skipSpace()
          if scanner.at < end {
            // Something follows the object; the parser will say so.
            isPlain = false
            out.rows.removeLast()
            out.tally.recordCount -= 1
          }
        }
        if !isPlain {
          let raw = UnsafeBufferPointer(rebasing: bytes[first..<end])
          do throws(Diagnostic) {
            decode(
              try JSON(parsing: raw), raw: raw, index: line, position: ["line": .int(Int64(line))],
              into: &out)
          } catch {
            var problem = error
            problem.place = "line \(line)" + (error.place.map { ", \($0)" } ?? "")
            problem.help = "Write one JSON object on each line."
            out.refuse(
              raw, index: line, position: ["line": .int(Int64(line))], problems: [problem])
          }
        }
      }
      line += 1
      start = end + 1
    }
    return (out, line - firstLine)
  }

  private mutating func decode(
    _ json: JSON, raw: UnsafeBufferPointer<UInt8>, index: Int, position: JSON,
    into out: inout DecodedRecords
  ) {
    var problems: [Diagnostic] = []
    let row = decoder.decode(
      json, &hint, place: { position.int == nil ? "line \(index)" : "data[\(index)]" }, &problems,
      tally: &out.tally)
    if problems.isEmpty {
      out.tally.recordCount += 1
      out.rows.append(row)
    } else {
      out.refuse(raw, index: index, position: position, problems: problems)
    }
  }

  // MARK: One record

  /// Reads an object of plain values.
  ///
  /// - Returns: false where something is not plain or does not fit; then nothing was added.
  private mutating func scanRow(
    _ scanner: inout CellScanner, into out: inout DecodedRecords
  ) -> Bool {
    guard scanner.take(UInt8(ascii: "{")) else { return false }
    var cells = empty
    kinds.removeAll(keepingCapacity: true)
    recordNumber += 1
    var member = 0
    scanner.skipSpace()
    guard !scanner.take(UInt8(ascii: "}")) else { return false }
    while true {
      scanner.skipSpace()
      guard let name = scanner.plainText(), let column = column(scanner.bytes, name, member) else {
        return false
      }
      // A name that stands twice is for the parser to refuse.
      guard lastGiven[column] != recordNumber else { return false }
      lastGiven[column] = recordNumber
      scanner.skipSpace()
      guard scanner.take(UInt8(ascii: ":")) else { return false }
      scanner.skipSpace()
      guard let cell = scanner.cell(types[column]) else { return false }
      cells[column] = cell.value
      kinds.append((column, cell.kind))
      member += 1
      scanner.skipSpace()
      if scanner.take(UInt8(ascii: ",")) { continue }
      guard scanner.take(UInt8(ascii: "}")) else { return false }
      break
    }
    guard decoder.keepsToRules(cells) else { return false }
    for (column, kind) in kinds { out.tally.count(kind, column: column) }
    out.tally.recordCount += 1
    out.rows.append(cells)
    return true
  }

  /// The column of a member's name.
  @inline(__always)
  private mutating func column(
    _ bytes: UnsafeBufferPointer<UInt8>, _ name: Range<Int>, _ member: Int
  ) -> Int? {
    if member < order.count {
      let known = order[member]
      if known.name.count == name.count {
        var place = name.lowerBound
        var isSame = true
        for byte in known.name {
          if bytes[place] != byte {
            isSame = false
            break
          }
          place += 1
        }
        if isSame { return known.column }
      }
    }
    let slice = UnsafeBufferPointer(rebasing: bytes[name])
    guard let text = String(validating: slice, as: UTF8.self),
      let column = decoder.place(of: text)
    else { return nil }
    if member < order.count {
      order[member] = (Array(slice), column)
    } else if member == order.count, order.count < 2000 {
      order.append((Array(slice), column))
    }
    return column
  }
}

extension DecodedRecords {
  /// Adds a record that does not fit.
  mutating func refuse(
    _ raw: UnsafeBufferPointer<UInt8>, index: Int, position: JSON, problems: [Diagnostic]
  ) {
    tally.recordCount += 1
    tally.misfitCount += 1
    misfits.append(
      Misfit(index: index, raw: Array(raw), position: position, problems: problems))
  }
}
