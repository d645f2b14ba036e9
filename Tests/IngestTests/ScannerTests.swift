import Domain
import Foundation
import Ingest
import Testing

private let schema = TableSchema(
  name: "all",
  columns: ColumnType.allCases.enumerated().map {
    ColumnDefinition(name: "c\($0.offset)", type: $0.element)
  } + [ColumnDefinition(name: "id", type: .string)], uniqueKeys: ["id"])

private struct Random: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Values as clients write them, right and wrong, in their own spelling.
private let spellings = [
  "null", "true", "false", "0", "1", "-1", "-0", "12", "3.0", "0.5", "-2.25", "1e3", "1E-2",
  "123456789012345678", "1234567890123456789", "99999999999999999999", "1700000000000",
  "1700000000", "-86400000000000", "0.1234567890123456", "4294967296", "\"\"", "\"text\"",
  "\"a\\nb\"", "\"\\u00fc\"", "\"ü\"", "\"3\"", "\"true\"", "\"2026-01-05T10:00:00Z\"",
  "\"2026-01-05T10:00:00.123456Z\"", "\"2026-02-30T10:00:00Z\"", "\"1969-07-20\"",
  "\"2026-01-05T10:00:00+02:00\"", "[]", "[1,2]", "[\"a\"]", "[1.5,null]", "{}", "{\"a\":[1]}",
  "\"AQID\"", "\"[1,2]\"", "01", "1.", "nan", "NaN", "-", "\"\u{01}\"", "tru", "[1", "{\"a\":}",
  "\"\\ud800\"", "1700000000000.5",
]

private func describe(_ decoded: DecodedRecords) -> String {
  "\(decoded.rows) \(decoded.misfits.map { "\($0.index): \($0.problems.map(\.message))" }) "
    + "\(decoded.tally.recordCount) \(decoded.tally.misfitCount)"
}

@Suite struct `Row scanner` {
  private func both(_ body: [UInt8]) -> (fast: String, slow: String) {
    let decoder = RowDecoder(schema)
    var scanner = RowScanner(decoder)
    let fast: String
    do throws(Diagnostics) {
      fast = try body.withUnsafeBufferPointer { bytes throws(Diagnostics) in
        describe(try scanner.insertBody(bytes).records)
      }
    } catch { fast = "\(error.all.map { [$0.code, $0.message, $0.place ?? ""] })" }
    let slow: String
    do {
      slow = describe(decoder.decode(records: try InsertBody.records(try JSON(parsing: body))))
    } catch let problems as Diagnostics {
      slow = "\(problems.all.map { [$0.code, $0.message, $0.place ?? ""] })"
    } catch let problem as Diagnostic {
      slow = "\([[problem.code, problem.message, problem.place ?? ""]])"
    } catch { slow = "\(error)" }
    return (fast, slow)
  }

  @Test(arguments: 0..<UInt64(ProcessInfo.processInfo.environment["RIFFLE_FULL"] == nil ? 8 : 400))
  func `agrees with the parser and the decoder on any body`(seed: UInt64) {
    var random = Random(state: seed)
    for _ in 0..<60 {
      let rows = (0..<Int.random(in: 0...4, using: &random)).map { row in
        var members = ["\"id\": \"\(row)\""]
        for _ in 0..<Int.random(in: 0...4, using: &random) {
          let column = Int.random(in: 0...(schema.columns.count), using: &random)
          let space = Bool.random(using: &random) ? " " : ""
          let value = spellings.randomElement(using: &random) ?? "1"
          members.append("\(space)\"c\(column)\"\(space):\(space)\(value)\(space)")
        }
        return "{\(members.shuffled(using: &random).joined(separator: ","))}"
      }
      var text = "{\"data\": [\(rows.joined(separator: ","))]}"
      if Int.random(in: 0..<5, using: &random) == 0 {
        // A byte is lost or changed.
        var bytes = Array(text.utf8)
        let place = Int.random(in: 0..<bytes.count, using: &random)
        if Bool.random(using: &random) {
          bytes.remove(at: place)
        } else {
          bytes[place] = UInt8.random(in: 0...255, using: &random)
        }
        let (fast, slow) = both(bytes)
        #expect(fast == slow, "seed \(seed): \(String(decoding: bytes, as: UTF8.self))")
        continue
      }
      if Int.random(in: 0..<6, using: &random) == 0 { text = text.replacing(":", with: " :\n") }
      let (fast, slow) = both(Array(text.utf8))
      #expect(fast == slow, "seed \(seed): \(text)")
    }
  }

  @Test func `reads a zero with a sign as the parser does`() {
    let number = schema.columns.first { $0.type == .double }?.name ?? ""
    for text in ["-0", "0", "-0.0", "0.0", "-0e0", "-1", "-00"] {
      let (fast, slow) = both(Array("{\"data\":[{\"id\":\"1\",\"\(number)\":\(text)}]}".utf8))
      #expect(fast == slow, "\(text)")
    }
  }

  @Test func `gives the members beside the rows`() throws {
    var scanner = RowScanner(RowDecoder(schema))
    let body = Array(#"{"parameters":{"user_id":"u"},"data":[{"id":"1"}],"x":1}"#.utf8)
    let (records, others) = try body.withUnsafeBufferPointer { bytes throws(Diagnostics) in
      try scanner.insertBody(bytes)
    }
    #expect(records.rows.count == 1)
    #expect(others.map(\.name) == ["parameters", "x"])
  }

  @Test func `keeps bad lines with their numbers and goes on`() {
    var scanner = RowScanner(RowDecoder(schema))
    let text =
      "{\"id\":\"1\"}\n\n{\"id\": }\r\n{\"id\":\"2\"} x\n[3]\n{\"id\":\"4\"}\r\n{\"id\":\"5\"}"
    let (records, count) = Array(text.utf8).withUnsafeBufferPointer {
      scanner.lines($0, firstLine: 1)
    }
    #expect(count == 7)
    #expect(
      records.rows.map { $0[schema.columns.count - 1] } == ["1", "4", "5"].map { .string($0) })
    #expect(records.misfits.map(\.position) == [3, 4, 5].map { ["line": .int($0)] })
    #expect(
      records.misfits.map { $0.problems[0].code } == [
        "invalid_json", "invalid_json", "invalid_row",
      ])
    #expect(records.tally.recordCount == 6 && records.tally.misfitCount == 3)
  }
}

@Suite struct `Record stream` {
  static let events = TableSchema(
    name: "events",
    columns: [
      ColumnDefinition(name: "id", type: .string), ColumnDefinition(name: "n", type: .int64),
      ColumnDefinition(name: "x", type: .double), ColumnDefinition(name: "at", type: .dateTime),
    ])

  private func run(
    _ format: RowFormat, _ bytes: [UInt8], chunk: (Int) -> Int
  ) throws -> [RecordStream.Piece] {
    var stream = RecordStream(format, RowDecoder(Self.events), digests: true)
    var pieces: [RecordStream.Piece] = []
    var at = 0
    while at < bytes.count {
      let end = min(bytes.count, at + chunk(at))
      stream.append(Array(bytes[at..<end]))
      at = end
      while let piece = try stream.next(isLast: false) { pieces.append(piece) }
    }
    while let piece = try stream.next(isLast: true) { pieces.append(piece) }
    return pieces
  }

  @Test(arguments: [RowFormat.csv, .tsv, .jsonl])
  func `is cut in the same places however it arrives`(format: RowFormat) throws {
    var text = ""
    let separator = format == .tsv ? "\t" : ","
    if format != .jsonl { text += ["id", "n", "x", "at"].joined(separator: separator) + "\n" }
    var random = Random(state: 7)
    for i in 0..<40_000 {
      let name = "e\(i)" + String(repeating: "y", count: Int.random(in: 0..<90, using: &random))
      text +=
        format == .jsonl
        ? "{\"id\":\"\(name)\",\"n\":\(i),\"x\":0.5,\"at\":\(1_700_000_000_000 + i)}\n"
        : ["\"\(name)\n\(separator)\"\"\"", "\(i)", "0.5", "2026-01-05T10:00:00Z"].joined(
          separator: separator) + "\r\n"
    }
    let bytes = Array(text.utf8)
    let whole = try run(format, bytes) { _ in bytes.count }
    let parts = try run(format, bytes) { at in 1 + at % 70_001 }
    #expect(whole.count > 2)
    #expect(whole.map(\.fingerprint) == parts.map(\.fingerprint))
    #expect(whole.map(\.byteCount).reduce(0, +) == bytes.count)
    #expect(parts.reduce(0) { $0 + $1.records.rows.count } == 40_000)
    #expect(parts.allSatisfy { $0.records.misfits.isEmpty })
    if format != .jsonl {
      let first = try #require(parts.first?.records.rows.first?[0])
      if case .string(let id) = first { #expect(id.hasSuffix("\n\(separator)\"")) }
    }
  }

  @Test func `reads fields of every form`() throws {
    let text = "at,id,x,n\n\"2026-01-05\",,\"\",\"7\"\n1700000000000,\"\",1e3,08\n,ü,nan,1\n"
    let pieces = try run(.csv, Array(text.utf8)) { _ in 3 }
    let records = try #require(pieces.first?.records)
    #expect(records.rows.count == 1)
    #expect(records.rows[0][0] == .string("") && records.rows[0][2] == .double(1000))
    #expect(records.rows[0][1] == .int(8))
    #expect(records.misfits.map { $0.problems[0].code } == ["type_mismatch", "type_mismatch"])
    #expect(
      String(decoding: records.misfits[1].raw, as: UTF8.self)
        == #"{"at":null,"id":"ü","x":"nan","n":"1"}"#)
  }

  @Test func `keeps lines that are no record`() throws {
    let text = Array("id,n,x,at\na,1,2\nb,\"1\"x,2,\nc,1,2,\n".utf8)
    let broken = text + [0x64, 0xFF, 0x2C, 0x31, 0x2C, 0x32, 0x2C, 0x0A] + Array("e,\"2".utf8)
    let pieces = try run(.csv, broken) { _ in 1000 }
    let records = try #require(pieces.first?.records)
    #expect(records.rows.count == 1)
    #expect(
      records.misfits.map { $0.problems[0].code } == [
        "wrong_field_count", "invalid_csv", "invalid_utf8", "invalid_csv",
      ])
    #expect(records.misfits.map(\.position) == [2, 3, 5, 6].map { ["line": .int($0)] })
  }

  @Test func `names the columns that the table lacks`() {
    let problems = #expect(throws: Diagnostics.self) {
      try run(.csv, Array("id,nn,id,\n1,2,3,4\n".utf8)) { _ in 5 }
    }
    #expect(
      problems?.all.map(\.code) == ["unknown_column", "invalid_header", "invalid_header"])
  }

  @Test func `refuses a record without an end`() {
    let problems = #expect(throws: Diagnostics.self) {
      try run(.jsonl, [UInt8](repeating: 65, count: RecordStream.mostRecordBytes + 10)) { _ in
        1 << 20
      }
    }
    #expect(problems?.all.map(\.code) == ["record_too_large"])
  }

  /// Random bytes, and real lines with some bytes changed, must never stop the reader.
  @Test(arguments: 0..<UInt64(ProcessInfo.processInfo.environment["RIFFLE_FULL"] == nil ? 6 : 2000))
  func `survives any bytes`(seed: UInt64) throws {
    var random = Random(state: seed)
    for format in [RowFormat.csv, .tsv, .jsonl] {
      var text = format == .jsonl ? "" : "id,n,x,at\n"
      for i in 0..<50 {
        text += format == .jsonl ? "{\"id\":\"\(i)\",\"n\":\(i),\"x\":1.5}\n" : "\(i),\"\(i)\",,\n"
      }
      if format == .tsv { text = text.replacing(",", with: "\t") }
      var bytes = Array(text.utf8)
      let start = format == .jsonl ? 0 : 10
      for _ in 0..<Int.random(in: 1...30, using: &random) {
        let place = Int.random(in: start..<bytes.count, using: &random)
        bytes[place] = UInt8.random(in: 0...255, using: &random)
      }
      let pieces = try run(format, bytes) { _ in Int.random(in: 1...200, using: &random) }
      let total = pieces.reduce(0) {
        $0 + $1.records.rows.count + $1.records.misfits.count
      }
      #expect(total > 0, "seed \(seed)")
      for piece in pieces {
        #expect(
          piece.records.tally.recordCount
            == piece.records.rows.count + piece.records.misfits.count, "seed \(seed)")
      }
    }
  }

  @Test func `can be cut into files that stand alone`() throws {
    var pieces = RecordPieces(.csv, pieceBytes: 100)
    var out: [[UInt8]] = []
    for i in 0..<60 {
      pieces.append(Array((i == 0 ? "id,n\n" : "\"a\n\(i)\",\(i)\n").utf8))
      while let piece = try pieces.next(isLast: false) { out.append(piece) }
    }
    while let piece = try pieces.next(isLast: true) { out.append(piece) }
    var count = 0
    for piece in out {
      var file = try RowFile(.csv, piece, origin: "piece")
      count += try file.next(1000).count
    }
    #expect(out.count > 3 && count == 59)
  }
}

@Suite struct `Unpacking` {
  /// Made by `gzip.compress(b"riffle\n" * 3, mtime=0)` and once more with another text.
  private static let packed: [UInt8] = [
    31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 43, 202, 76, 75, 203, 73, 229, 42, 66, 161, 0, 242, 171, 159,
    211, 21, 0, 0, 0,
  ]

  private func unpack(
    _ bytes: [UInt8], step: Int, limit: Int = 1 << 20
  ) async throws -> [UInt8] {
    let inflater = try Inflater(limit: limit)
    var out: [UInt8] = []
    var at = 0
    while at < bytes.count {
      let end = min(bytes.count, at + step)
      try await inflater.unpack(Array(bytes[at..<end])) { out += $0 }
      at = end
    }
    try inflater.finish()
    return out
  }

  @Test(arguments: [1, 7, 1000]) func `gives the same whatever the pieces`(step: Int) async throws {
    let text = Array("riffle\nriffle\nriffle\n".utf8)
    #expect(try await unpack(Self.packed, step: step) == text)
    #expect(try await unpack(Self.packed + Self.packed, step: step) == text + text)
  }

  @Test func `refuses what is cut off, damaged or too large`() async throws {
    let codes = await [
      code { try await unpack(Self.packed.dropLast(9), step: 5) },
      code { try await unpack([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], step: 50) },
      code { try await unpack(Self.packed, step: 50, limit: 20) },
    ]
    #expect(codes == ["invalid_gzip", "invalid_gzip", "unpacked_too_large"])
  }

  private func code(_ body: () async throws -> [UInt8]) async -> String {
    do {
      _ = try await body()
      return "none"
    } catch { return (error as? Diagnostic)?.code ?? "\(error)" }
  }
}
