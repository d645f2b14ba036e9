import Connectors
import Domain
import Testing

/// Goal: however the bytes arrive, the same records come out, and reading goes on from any record's
/// end. Method: whole reading is the reference; pieces and resumption are drawn from a seed.
@Suite struct `A splitter` {
  struct Case: Sendable, CustomStringConvertible {
    var description: String
    var form: RecordSplitter.Form
    var text: String
    var records: [String]
  }

  static let cases = [
    Case(
      description: "lines", form: .lines, text: "{\"a\":1}\n\n  \r\n{\"a\":2}\r\n{\"a\":3}",
      records: ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]),
    Case(
      description: "values with breaks, quotes and separators in quotes",
      form: .separated(delimiter: 44),
      text: "a,b\r\n\"x\ny\",\"he said \"\"no\"\"\n\"\n,\"q\"\nm\"n,2\n\n\"last\",\"\"",
      records: [
        "a,b", "\"x\ny\",\"he said \"\"no\"\"\n\"", ",\"q\"", "m\"n,2", "\"last\",\"\"",
      ]),
    Case(
      description: "an array", form: .array,
      text: " [ {\"a\":[1,{\"b\":\"]},\\\"\"}]} ,\n2, \"x,y\" , [3] ]\n",
      records: ["{\"a\":[1,{\"b\":\"]},\\\"\"}]} ", "2", "\"x,y\" ", "[3] "]),
    Case(description: "an empty array", form: .array, text: "[]", records: []),
    Case(
      description: "an array that is cut", form: .array, text: "[1,{\"a\":",
      records: ["1", "{\"a\":"]),
  ]

  private func all(
    _ form: RecordSplitter.Form, _ bytes: [UInt8], pieces: [Int] = [], maximum: Int = 1000,
    offset: Int = 0
  ) -> [RecordSplitter.Piece] {
    var splitter = RecordSplitter(form, offset: offset, maximumBytes: maximum)
    var out: [RecordSplitter.Piece] = []
    var at = offset
    var sizes = pieces[...]
    while at < bytes.count {
      let size = max(1, sizes.popFirst() ?? bytes.count)
      splitter.append(bytes[at..<min(at + size, bytes.count)])
      at += size
      while let piece = splitter.next() { out.append(piece) }
    }
    while let piece = splitter.next(atEnd: true) { out.append(piece) }
    return out
  }

  @Test(arguments: cases) func `finds each record`(one: Case) {
    let found = all(one.form, Array(one.text.utf8))
    #expect(found.map { String(decoding: $0.bytes, as: UTF8.self) } == one.records)
  }

  @Test(arguments: cases, runSeeds)
  func `finds the same in pieces, and from each record's end`(one: Case, seed: UInt64) {
    var generator = Generator(state: seed)
    let bytes = Array(one.text.utf8)
    let whole = all(one.form, bytes)
    for _ in 0..<30 {
      let sizes = (0..<bytes.count).map { _ in Int.random(in: 1...7, using: &generator) }
      #expect(all(one.form, bytes, pieces: sizes) == whole, "seed \(seed)")
    }
    for (i, piece) in whole.enumerated() {
      let rest = all(one.form, bytes, offset: piece.range.upperBound)
      #expect(rest == Array(whole[(i + 1)...]), "seed \(seed), after record \(i)")
    }
  }

  @Test func `gives up a record that is too long, and goes on behind it`() {
    let long = String(repeating: "x", count: 3000)
    let lines = all(.lines, Array("a\n\(long)\nb\n".utf8), pieces: Array(repeating: 100, count: 99))
    #expect(lines.map(\.isOversize) == [false, true, false])
    #expect(lines[1].range == 2..<3003 && lines[2].bytes == [UInt8(ascii: "b")])
    // A quote that is never closed takes its own line only.
    let values = all(
      .separated(delimiter: 44), Array("\"\(long)\nb,c\n".utf8),
      pieces: Array(repeating: 100, count: 99))
    #expect(values.map(\.isOversize) == [true, false])
    let array = all(
      .array, Array("[1,\"\(long)\",2]".utf8), pieces: Array(repeating: 100, count: 99))
    #expect(array.map(\.isOversize) == [false, true, false])
    #expect(array[2].bytes == [UInt8(ascii: "2")])
  }

  @Test(arguments: runSeeds) func `ends on any bytes, with records that lie in order`(seed: UInt64)
  {
    var generator = Generator(state: seed)
    let alphabet = Array("[]{},\"\\\n\r\t ab1:".utf8) + [0, 0xFF, 0xEF]
    for form in [RecordSplitter.Form.lines, .separated(delimiter: 44), .array] {
      for _ in 0..<300 {
        let bytes = (0..<Int.random(in: 0...200, using: &generator)).map { _ in
          alphabet.randomElement(using: &generator) ?? 0
        }
        let sizes = (0..<bytes.count).map { _ in Int.random(in: 1...20, using: &generator) }
        let found = all(form, bytes, pieces: sizes, maximum: 50)
        var end = 0
        for piece in found {
          #expect(piece.range.lowerBound >= end, "seed \(seed): \(bytes)")
          end = piece.range.upperBound
        }
        #expect(end <= bytes.count, "seed \(seed): \(bytes)")
      }
    }
  }
}
