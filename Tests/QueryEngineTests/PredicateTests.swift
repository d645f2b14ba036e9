import Columns
import Domain
import QueryEngine
import QueryLanguage
import Testing

/// All rows that a condition leaves, by as many pages as it takes.
private func rows(_ condition: String, _ source: FakeSource, _ engine: QueryEngine) throws -> [Int]
{
  var out: [Int] = []
  while true {
    let page = try engine.run(
      QueryRequest(
        text: "SELECT item_id FROM items WHERE \(condition) LIMIT 1000 OFFSET \(out.count)"),
      on: source)
    out += page.rows.map(\.index)
    if page.rows.count < 1000 { return out }
  }
}

@Suite struct `Conditions` {
  /// The goal: the column scans agree with SQL's three-valued logic. Random conditions of good types
  /// are printed, run, and compared with an evaluator that follows the definitions row by row.
  @Test(arguments: 0..<60 as Range<UInt64>)
  func `leave the rows for which they are true`(seed: UInt64) throws {
    let source = FakeSource(rows: [0, 1, 64, 200, 2100][Int(seed % 5)], seed: seed)
    let engine = QueryEngine()
    var maker = ConditionMaker(seed)
    for _ in 0..<12 {
      let condition = maker.condition(3)
      let text = Printer.text(condition)
      let expected = source.listed.rows.filter {
        Reference(source: source).truth(condition, $0) == true
      }
      let first = try rows("(\(text))", source, engine)
      #expect(first == expected, "seed \(seed): \(text)")
      let cached = try rows("(\(text))", source, engine)
      #expect(cached == expected, "seed \(seed), from the cache: \(text)")
    }
  }

  @Test(
    arguments: [
      ("language = 'en' AND NOT year > 2000", 200),
      ("item.year = '2001'", 200), ("substr(item_id, 2) = 17", 200), ("kids", 200),
      ("kids = 1", 200),
      ("CAST(price AS INT) = 3", 200), ("substr(title, 1, 3) = 'red'", 200),
      ("concat(language, '-', region) = 'en-de'", 200),
      ("language || '-' || region = 'en-de'", 200),
      ("published > '2023-11-20' AND published < now()", 200), ("1 = 1", 200), ("NULL", 200),
      ("language IN (region, 'fr')", 200), ("array_length(tags) = 2", 200),
    ] as [(String, Int)])
  func `of every kind run`(condition: String, count: Int) throws {
    let source = FakeSource(rows: count, seed: 7)
    let left = try rows(condition, source, QueryEngine())
    func cell(_ name: String, _ row: Int) -> Value { Reference(source: source).cell(name, row) }
    func number(_ value: Value) -> Int64? {
      if case .int(let number) = value { number } else { nil }
    }
    func text(_ value: Value) -> String? { if case .string(let text) = value { text } else { nil } }
    let expected = source.listed.rows.filter { row in
      let (language, region) = (text(cell("language", row)), text(cell("region", row)))
      switch condition {
      case "language = 'en' AND NOT year > 2000":
        return language == "en" && number(cell("year", row)).map { $0 <= 2000 } == true
      case "item.year = '2001'": return number(cell("year", row)) == 2001
      case "substr(item_id, 2) = 17": return row == 17
      case "kids", "kids = 1": return cell("kids", row) == .bool(true)
      case "CAST(price AS INT) = 3":
        if case .double(let price) = cell("price", row) { return price >= 3 && price < 4 }
        return false
      case "substr(title, 1, 3) = 'red'": return text(cell("title", row))?.hasPrefix("red") == true
      case "concat(language, '-', region) = 'en-de'", "language || '-' || region = 'en-de'":
        return language == "en" && region == "de"
      case "published > '2023-11-20' AND published < now()":
        if case .timestamp(let time) = cell("published", row) {
          return time.secondsSinceEpoch > 1_700_438_400
        }
        return false
      case "1 = 1": return true
      case "NULL": return false
      case "language IN (region, 'fr')":
        return language != nil && (language == region || language == "fr")
      default:
        if case .array(let tags) = cell("tags", row) { return tags.count == 2 }
        return false
      }
    }
    #expect(left == expected)
  }

  @Test func `take parameters as values and never as text`() throws {
    let source = FakeSource(rows: 200, seed: 3)
    let engine = QueryEngine()
    func count(_ condition: String, _ value: JSON) throws -> Int {
      try engine.run(
        QueryRequest(
          text: "SELECT * FROM items WHERE \(condition) LIMIT 1000", parameters: ["p": value]),
        on: source
      ).rows.count
    }
    #expect(try count("title = $p", "x' OR '1' = '1") == 0)
    #expect(try count("title = '$p'", "x' OR 1 = 1 --") == 0)
    #expect(
      try count("language IN $p", ["en", "de"]) == count("language IN ('$p', 'de')", "en"))
    #expect(try count("language IN ($p)", ["en"]) == count("language = $p", "en"))
    #expect(try count("language = $p", nil) == 0)
    #expect(try count("array_has_any(tags, $p)", ["a"]) == count("array_has(tags, $p)", "a"))
  }

  @Test(
    arguments: [
      ("^red", "", ["red", "red fox"]), ("fox$", "", ["red fox"]),
      ("RED", "i", ["red", "red fox"]),
      ("(?i)RED", "", ["red", "red fox"]), ("r.*x|blue", "", ["red fox", "blue%"]),
      ("[a-c]l+u?e{1,2}", "", ["blue%"]), ("^(re|Gr)(e|d)+n?$", "", ["red", "Green"]),
      (#"\bfox\b"#, "", ["red fox"]), (#"\w+_\w+"#, "", ["deep_sea"]), ("^$", "", [""]),
      ("[^a-zA-Z]", "", ["blue%", "deep_sea", "red fox", "Ünder"]), ("", "", nil),
      ("(a*)*b", "", ["blue%"]), ("ü", "i", ["Ünder"]),
    ] as [(String, String, [String]?)])
  func `search by regular expressions`(pattern: String, flags: String, expected: [String]?) throws {
    let words = ["red", "Green", "blue%", "deep_sea", "", "Ünder", "red fox"]
    var source = FakeSource(rows: words.count, seed: 1)
    source.listed = Bitmap(count: words.count, repeating: true)
    for (row, word) in words.enumerated() {
      source.cells[row][1] = .string(word)
      source.items.setRow(row, to: source.cells[row])
    }
    let found = try QueryEngine().run(
      QueryRequest(
        text: "SELECT title FROM items WHERE regexp_match(title, $p, $f)",
        parameters: ["p": .string(pattern), "f": .string(flags)]), on: source)
    #expect(Set(found.rows.map { words[$0.index] }) == Set(expected ?? words))
  }

  @Test func `search in linear time and refuse what costs too much`() throws {
    var source = FakeSource(rows: 64, seed: 1)
    for row in 0..<64 {
      source.cells[row][1] = .string(String(repeating: "a", count: 2000))
      source.items.setRow(row, to: source.cells[row])
    }
    // With backtracking this would outlive the sun.
    let text = "SELECT * FROM items WHERE regexp_match(title, '$p')"
    let none = try QueryEngine().run(
      QueryRequest(text: text, parameters: ["p": "(a|a)*(a|aa)*b"]), on: source)
    #expect(none.rows.isEmpty)
    for (pattern, message) in [
      ("(a{100}){100}", "it needs more than 1000 steps; repeat less"),
      ("((){9999}){9999}", "it needs more than 1000 steps; repeat less"),
      (#"(a)\1"#, "back references are not supported"),
      ("(?=a)", "look-around and named groups are not supported; (?: ) is"),
      ("[b-a]", "the range b-a is the wrong way round"),
      ("*", "`*` has nothing before it to repeat"),
    ] {
      do {
        _ = try QueryEngine().run(
          QueryRequest(text: text, parameters: ["p": .string(pattern)]), on: source)
        Issue.record("\(pattern) was accepted")
      } catch let problems as Diagnostics {
        #expect(
          problems.all.map(\.message) == ["this regular expression cannot be used: \(message)"])
      }
    }
  }

  @Test func `survive extreme values and the longest chains`() throws {
    let source = FakeSource(rows: 100, seed: 3)
    let engine = QueryEngine()
    for text in [
      "substr(title, $p) = 'x'", "substr(title, $p, $q) = 'x'", "abs($p) = 1", "-year = $p",
      "CAST($p AS TIMESTAMP) > now()", "year + $q > 3", "year * $p = 1", "year / $p = 1",
      "round(price, $q) > 1", "year IN ($p, $q)", "power(price, $q) > 2", "year = $d",
      "CAST($d AS INT) = 1", "truncate($q)",
    ] {
      _ = try engine.run(
        QueryRequest(
          text: "SELECT * FROM items WHERE \(text) LIMIT 5",
          parameters: ["p": .int(.min), "q": .int(.max), "d": 1e308]), on: source)
    }
    let sums = Array(repeating: "year", count: 495).joined(separator: " + ")
    let either = Array(repeating: "year = 2000", count: 250).joined(separator: " OR ")
    for condition in ["\(sums) > 5", "(\(either))", "NOT (\(either))"] {
      _ = try rows(condition, source, engine)
    }
    let formula = Array(repeating: "item.year", count: 500).joined(separator: " + ")
    _ = try engine.run(
      QueryRequest(text: "SELECT * FROM items ORDER BY score(expression='\(formula)')"), on: source)
  }

  @Test func `see a new version of the catalog`() throws {
    var source = FakeSource(rows: 100, seed: 5)
    let engine = QueryEngine()
    let before = try rows("language = 'en'", source, engine)
    guard let row = before.first else { return }
    source.cells[row][2] = .string("de")
    source.items.setRow(row, to: source.cells[row])
    source.catalogVersion = 2
    #expect(try rows("language = 'en'", source, engine) == Array(before.dropFirst()))
    source.catalogVersion = 1
    source.cells[row][2] = .string("en")
    source.items.setRow(row, to: source.cells[row])
    #expect(try rows("language = 'en'", source, engine) == before)
  }
}
