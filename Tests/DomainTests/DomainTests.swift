import Domain
import Testing

@Suite struct `JSON text` {
  static let document = #"""
    {"name":"Zoë \"\\\/\b\f\n\r\t😀\u00e9","n":[0,-1,9223372036854775807,1.5,-2e-3,1E+2,[],{}],
     "t":true,"f":false,"z":null}
    """#

  @Test func `is read into a tree that keeps the order of members`() throws {
    let json = try JSON(parsing: Self.document)
    #expect(
      json == [
        "name": "Zoë \"\\/\u{8}\u{c}\n\r\t😀é",
        "n": [0, -1, .int(.max), 1.5, -0.002, .double(100), [], [:]], "t": true, "f": false,
        "z": nil,
      ])
    #expect(json["n"]?.array?.count == 8)
    #expect(json["none"] == nil)
  }

  @Test func `is read again as it was written`() throws {
    let json = try JSON(parsing: Self.document)
    #expect(try JSON(parsing: json.text) == json)
    #expect(try JSON(parsing: json.prettyText) == json)
    #expect(try JSON(parsing: json.utf8[...]) == json)
  }

  @Test func `cut short anywhere is refused`() throws {
    let bytes = Array(Self.document.utf8)
    let end = try #require(bytes.lastIndex(of: UInt8(ascii: "}")))
    for length in 0...end {
      #expect(throws: Diagnostic.self, "the first \(length) bytes") {
        try JSON(parsing: bytes.prefix(length))
      }
    }
    #expect(throws: Never.self) { try JSON(parsing: bytes.prefix(end + 1)) }
  }

  @Test(arguments: [
    ("", "line 1, column 1", "it ends where a value should stand"),
    ("[1,]", "line 1, column 4", "a value cannot start with this character"),
    ("{\"a\":1,}", "line 1, column 8", "expected the name of a member in double quotes"),
    ("[1 2]", "line 1, column 4", "expected `,` or `]`"),
    ("{\"é\"\n 1}", "line 2, column 2", "expected `:`"),
    ("01", "line 1, column 1", "this is not a number"),
    ("-", "line 1, column 1", "this is not a number"),
    ("1.", "line 1, column 3", "a digit must follow the decimal point"),
    ("1e", "line 1, column 3", "a digit must follow the exponent's sign"),
    ("1e999", "line 1, column 1", "the number `1e999` is out of range"),
    ("nul", "line 1, column 1", "expected `null`"),
    ("1 1", "line 1, column 3", "there is something after the end of the value"),
    ("\"a\nb\"", "line 1, column 3", "a control character in a string must be escaped"),
    ("\"\\x\"", "line 1, column 3", "`\\` cannot stand before this character"),
    ("\"\\u12g4\"", "line 1, column 4", "four hexadecimal digits must follow `\\u`"),
    ("\"\\u-001\"", "line 1, column 4", "four hexadecimal digits must follow `\\u`"),
    ("\"\\ud800\"", "line 1, column 8", "a high surrogate stands without its low one"),
    ("\"\\udc00\"", "line 1, column 8", "a low surrogate stands without its high one"),
    (
      String(repeating: "[", count: 65), "line 1, column 65",
      "it is nested more than 64 levels deep"
    ),
  ])
  func `with a fault is refused with its place`(text: String, place: String, words: String) {
    let problem = #expect(throws: Diagnostic.self) { try JSON(parsing: text) }
    #expect(problem?.message == "The text is not valid JSON: \(words).")
    #expect(problem?.place == place)
  }

  @Test func `of invalid UTF-8 is refused`() {
    #expect(throws: Diagnostic.self) { try JSON(parsing: [34, 0xC3, 0x28, 34]) }
    #expect(throws: Diagnostic.self) { try JSON(parsing: [34, 0xED, 0xA0, 0x80, 34]) }
  }

  @Test func `shows numbers so that they come back exactly`() throws {
    for number in [0.1, 1e300, -.leastNonzeroMagnitude, 1.0 / 3, 12_345_678.9, 1e16, .pi] {
      #expect(try JSON(parsing: JSON.double(number).text).number == number)
    }
    #expect(JSON.double(.infinity).text == "null")
    #expect(JSON.double(.nan).text == "null")
    #expect(try JSON(parsing: "9223372036854775808") == .double(9_223_372_036_854_775_808))
  }

  /// Readers differ in which of two members they take, so none is taken.
  @Test(arguments: [1, 15, 16, 17, 40])
  func `refuses an object with two members of one name`(count: Int) throws {
    let members = (0..<count).map { #""k\#($0)":1"# }.joined(separator: ",")
    #expect(throws: Never.self) { try JSON(parsing: "{\(members)}") }
    #expect(throws: Diagnostic.self) { try JSON(parsing: "{\(members),\"k0\":2}") }
    // The same name in another object is another member.
    #expect(throws: Never.self) { try JSON(parsing: "{\(members),\"b\":{\"k0\":2}}") }
  }
}

@Suite struct `Timestamps` {
  @Test(
    arguments: [
      ("1970-01-01", 0), ("1970-01-01T00:00:00Z", 0),
      ("2026-01-05T10:00:00Z", 1_767_607_200_000_000),
      ("2026-01-05 12:00:00+02:00", 1_767_607_200_000_000),
      ("2026-01-05t04:30:00-0530", 1_767_607_200_000_000),
      ("2026-01-05T10:00", 1_767_607_200_000_000), ("2026-01-05T12+02", nil),
      ("2026-01-05T12:00+02", 1_767_607_200_000_000),
      ("2026-01-05T10:00:00.123456789Z", 1_767_607_200_123_456),
      ("2026-01-05T10:00:00,5Z", 1_767_607_200_500_000), ("1969-12-31T23:59:59.999999Z", -1),
      ("2000-02-29", 951_782_400_000_000), ("1900-02-29", nil), ("2026-02-30", nil),
      ("2026-13-01", nil), ("2026-00-01", nil), ("2026-01-00", nil), ("2026-1-05", nil),
      ("2026-01-05T24:00:00Z", nil), ("2026-01-05T10:60:00Z", nil), ("2026-01-05T10:00:61Z", nil),
      ("2026-01-05T10:00:00.Z", nil), ("2026-01-05T10:00:00X", nil), ("2026-01-05T10:00:00Zx", nil),
      ("2026-01-05T10:00:00+02:", nil), ("2026-01-05T10:00:00+02:6", nil),
      ("2026-01-05T10:00:00+02:60", nil), ("", nil), ("yesterday", nil),
    ] as [(String, Int64?)])
  func `are read from ISO 8601`(text: String, microseconds: Int64?) {
    #expect(Timestamp(iso8601: text)?.microsecondsSinceEpoch == microseconds)
  }

  @Test(
    arguments: [
      (0, "1970-01-01T00:00:00Z"), (-1, "1969-12-31T23:59:59.999999Z"),
      (1_767_607_200_123_000, "2026-01-05T10:00:00.123Z"),
      (1_767_607_200_000_001, "2026-01-05T10:00:00.000001Z"),
      (951_868_799_000_000, "2000-02-29T23:59:59Z"),
    ] as [(Int64, String)])
  func `are shown in RFC 3339`(microseconds: Int64, text: String) {
    #expect(Timestamp(microsecondsSinceEpoch: microseconds).iso8601 == text)
  }

  @Test(arguments: [1, 2, 3] as [UInt64])
  func `are read as they were shown`(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      // Years 0 to 9999.
      let time = Timestamp(
        microsecondsSinceEpoch: Int64.random(
          in: -62_167_219_200_000_000..<253_402_300_800_000_000, using: &random))
      #expect(Timestamp(iso8601: time.iso8601) == time, "seed \(seed)")
    }
  }
}

@Suite struct `Diagnostics shown` {
  @Test func `quote the line and point at the place`() {
    let problem = Diagnostic(
      code: "unknown_column", "unknown column `titel`",
      span: .init(
        text: "SELECT id,\n\ttitel FROM ünknown", range: 12..<17, origin: "query",
        label: "did you mean `title`?"), notes: ["columns: id, title"], help: "Write `title`.")
    #expect(
      problem.description == """
        error: unknown column `titel`
         --> query:2:2
        2 | \ttitel FROM ünknown
          | \t^^^^^ did you mean `title`?
          note: columns: id, title
          help: Write `title`.
        """)
  }

  @Test func `point behind the end, and at characters of several bytes`() {
    let text = "ü = é"
    func shown(_ range: Range<Int>) -> String {
      Diagnostic(code: "c", "m", span: .init(text: text, range: range, origin: "f")).description
    }
    #expect(shown(5..<7) == "error: m\n --> f:1:5\n1 | ü = é\n  |     ^")
    #expect(shown(7..<7) == "error: m\n --> f:1:6\n1 | ü = é\n  |      ^")
    #expect(shown(90..<99) == "error: m\n --> f:1:6\n1 | ü = é\n  |      ^")
  }

  @Test func `name the place where there is no text`() {
    let problems = Diagnostics([
      Diagnostic(code: "a", "One.", at: "data[3].user_id"),
      Diagnostic(.notFound, code: "b", "Two.", help: "Mend it."),
    ])
    #expect(
      problems.description
        == "error: One.\n  at data[3].user_id\nerror: Two.\n  help: Mend it.")
    #expect(problems.kind == .invalid)
  }

  @Test(
    arguments: [
      ("titel", "title"), ("user-id", "user_id"), ("USER_ID", "user_id"), ("created", nil),
      ("x", nil), ("creatd_at", "created_at"), ("", nil),
    ] as [(String, String?)])
  func `suggest the nearest name, if it is near`(name: String, nearest: String?) {
    #expect(nearestName(to: name, among: ["title", "user_id", "created_at"]) == nearest)
  }
}

@Suite struct `Base64 text` {
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
    ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
  ])
  func `agrees with RFC 4648`(plain: String, text: String) {
    #expect(Base64.encode(Array(plain.utf8)) == text)
    #expect(Base64.decode(text) == Array(plain.utf8))
  }

  @Test(arguments: ["Z", "Zg", "Zg=", "Z===", "====", "Zm9v!A==", "Zg==Zg=="])
  func `of another form is refused`(text: String) { #expect(Base64.decode(text) == nil) }

  @Test func `carries every byte`() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    #expect(Base64.decode(Base64.encode(bytes)) == bytes)
  }
}

/// A small repeatable generator (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
