import Columns
import Domain
import QueryEngine
import QueryLanguage
import Testing

/// Random conditions are put to the engine and to SQLite over the same rows. Both must leave the same
/// rows: so NULL, comparison, LIKE, IN, BETWEEN, CASE, arithmetic and functions mean what SQL says.
/// Lists lie in SQLite as JSON and are taken apart by json_each; times lie there as microseconds;
/// what a regular expression matches is told by Swift's.
@Suite struct `Conditions beside SQLite` {
  static let isFull = TestSettings.isFull

  private static func literal(_ value: Value) -> String {
    switch value {
    case .null, .bytes: "NULL"
    case .array: Printer.quoted(value.json.text)
    case .bool(let value): value ? "1" : "0"
    case .int(let value): String(value)
    case .double(let value): String(value)
    case .string(let value): Printer.quoted(value)
    case .timestamp(let value): String(value.microsecondsSinceEpoch)
    }
  }

  /// The condition in SQLite's words. A boolean column holds 0 and 1 there, a time its microseconds.
  private static func sql(_ expression: Expression) -> String {
    func not(_ negated: Bool) -> String { negated ? "NOT " : "" }
    switch expression.kind {
    case .null: return "NULL"
    case .bool(let value): return value ? "1" : "0"
    case .int(let value): return String(value)
    case .double(let value): return String(value)
    case .string(let value):
      // No text of these tests but a time looks like one.
      if let time = Timestamp(iso8601: value) { return String(time.microsecondsSinceEpoch) }
      return Printer.quoted(value)
    case .column(let reference): return reference.name.text
    case .list(let elements): return "(" + elements.map(sql).joined(separator: ", ") + ")"
    case .not(let a): return "(NOT \(sql(a)))"
    case .negate(let a): return "(- \(sql(a)))"
    case .binary(let op, let a, let b): return "(\(sql(a)) \(op.rawValue) \(sql(b)))"
    case .isTest(let a, let test, let negated):
      return "(\(sql(a)) IS \(not(negated))\(test.rawValue))"
    case .isIn(let a, let list, let negated): return "(\(sql(a)) \(not(negated))IN \(sql(list)))"
    case .like(let a, let pattern, _, let negated):
      return "(\(sql(a)) \(not(negated))LIKE \(sql(pattern)) ESCAPE '\\')"
    case .between(let a, let low, let high, let negated):
      return "(\(sql(a)) \(not(negated))BETWEEN \(sql(low)) AND \(sql(high)))"
    case .call(let name, let arguments) where name.text.hasPrefix("array_"):
      return array(name.text, arguments)
    case .call(let name, let arguments) where name.text == "regexp_like":
      guard case .string(let pattern) = arguments[1].kind else { return "?" }
      let matching = titles.filter { Self.matches($0, pattern) }.map(Printer.quoted)
      let column = sql(arguments[0])
      return
        "(CASE WHEN \(column) IS NULL THEN NULL ELSE \(column) IN (\(matching.joined(separator: ", "))) END)"
    case .call(let name, let arguments):
      return name.text + "(" + arguments.map(sql).joined(separator: ", ") + ")"
    case .conditional(let branches, let otherwise):
      let whens = branches.map { "WHEN \(sql($0.condition)) THEN \(sql($0.value))" }
      return "(CASE \(whens.joined(separator: " ")) ELSE \(otherwise.map(sql) ?? "NULL") END)"
    case .cast(let a, let type):
      return "CAST(\(sql(a)) AS \(type.text == "varchar" ? "TEXT" : type.text))"
    case .parameter, .prebuilt, .truncate: preconditionFailure("not made here")
    }
  }

  /// What Swift's regular expressions say.
  private static func matches(_ text: String, _ pattern: String) -> Bool {
    guard let expression = try? Regex(pattern) else { return false }
    return text.firstMatch(of: expression) != nil
  }

  /// A condition on a list, which lies as JSON in a column.
  private static func array(_ name: String, _ arguments: [Expression]) -> String {
    let column = sql(arguments[0])
    if name == "array_length" { return "json_array_length(\(column))" }
    var wanted = [arguments[1]]
    if case .list(let elements) = arguments[1].kind { wanted = elements }
    let tests = wanted.map { element in
      "EXISTS (SELECT 1 FROM json_each(\(column)) AS e WHERE e.value = \(sql(element)))"
    }
    let all = tests.isEmpty ? [name == "array_has_all" ? "1" : "0"] : tests
    return "(CASE WHEN \(column) IS NULL THEN NULL ELSE ("
      + all.joined(separator: name == "array_has_all" ? " AND " : " OR ") + ") END)"
  }

  /// A time as a query writes it and as SQLite holds it.
  private static func moment(_ hour: Int) -> (text: String, value: Value) {
    let time = Timestamp(
      microsecondsSinceEpoch: 1_767_225_600_000_000 + Int64(hour) * 3_600_000_000)
    return (time.iso8601, .timestamp(time))
  }

  /// Makes conditions that mean the same in both dialects.
  private struct Maker {
    var dice: Dice

    func column(_ name: String) -> Expression {
      Expression(.column(ColumnReference(name: Name(name))))
    }

    mutating func whole(_ depth: Int) -> Expression {
      if depth == 0 || dice.chance(30) {
        return dice.chance(50)
          ? column(dice.pick(["year", "stock"])) : Expression(.int(Int64(dice.below(12))))
      }
      switch dice.below(8) {
      case 0: return Expression(.negate(whole(depth - 1)))
      case 1: return Expression(.call(Name("abs"), [whole(depth - 1)]))
      case 2: return Expression(.call(Name("length"), [text(depth - 1)]))
      case 3:
        return Expression(.call(Name("coalesce"), [column("stock"), whole(depth - 1)]))
      case 4:
        return Expression(
          .conditional(
            [CaseBranch(condition: condition(depth - 1), value: whole(depth - 1))],
            otherwise: dice.chance(50) ? whole(depth - 1) : nil))
      case 5: return Expression(.call(Name("nullif"), [whole(depth - 1), whole(0)]))
      default:
        return Expression(
          .binary(
            dice.pick([.add, .subtract, .multiply, .divide, .remainder]), whole(depth - 1),
            whole(0)))
      }
    }

    mutating func decimal(_ depth: Int) -> Expression {
      if depth == 0 || dice.chance(40) {
        return dice.chance(60)
          ? column("price") : Expression(.double(Double(dice.below(80)) / 8))
      }
      switch dice.below(4) {
      case 0: return Expression(.call(Name("abs"), [decimal(depth - 1)]))
      case 1: return Expression(.cast(whole(depth - 1), to: Name("double")))
      default:
        return Expression(
          .binary(dice.pick([.add, .subtract, .multiply, .divide]), decimal(depth - 1), decimal(0)))
      }
    }

    mutating func text(_ depth: Int) -> Expression {
      if depth == 0 || dice.chance(50) {
        return dice.chance(70)
          ? column(dice.pick(["title", "language"]))
          : Expression(.string(dice.pick(["red", "en", "", "Green 3", "it's"])))
      }
      switch dice.below(5) {
      case 0: return Expression(.call(Name("lower"), [text(depth - 1)]))
      case 1: return Expression(.call(Name("upper"), [text(depth - 1)]))
      case 2: return Expression(.call(Name("trim"), [text(depth - 1)]))
      case 3: return Expression(.binary(.concatenate, text(depth - 1), text(0)))
      default:
        return Expression(
          .call(
            Name("replace"),
            [text(depth - 1), Expression(.string("e")), Expression(.string("EE"))]))
      }
    }

    mutating func condition(_ depth: Int) -> Expression {
      if depth > 0, dice.chance(55) {
        switch dice.below(5) {
        case 0: return Expression(.not(condition(depth - 1)))
        case 1:
          return Expression(
            .isTest(
              condition(depth - 1), dice.pick([.isTrue, .isFalse, .null]), negated: dice.chance(50))
          )
        default:
          return Expression(
            .binary(dice.pick([.and, .or]), condition(depth - 1), condition(depth - 1)))
        }
      }
      let comparison = dice.pick(Expression.BinaryOperator.allCases.filter(\.isComparison))
      let negated = dice.chance(40)
      switch dice.below(13) {
      case 9:
        // A list of texts or of whole numbers.
        let isText = dice.chance(50)
        let list = column(isText ? "tags" : "sizes")
        func element(_ maker: inout Maker) -> Expression {
          isText
            ? Expression(.string(maker.dice.pick(["a", "b", "it's", "no"])))
            : Expression(.int(Int64(maker.dice.below(6))))
        }
        let name = dice.pick(["array_has", "array_has_any", "array_has_all"])
        if name == "array_has" {
          return Expression(.call(Name(name), [list, element(&self)]))
        }
        let elements = (0..<dice.below(3) + 1).map { _ in element(&self) }
        return Expression(.call(Name(name), [list, Expression(.list(elements))]))
      case 10:
        return Expression(
          .binary(
            comparison,
            Expression(.call(Name("array_length"), [column(dice.pick(["tags", "sizes"]))])),
            whole(1)))
      case 11:
        func time(_ maker: inout Maker) -> Expression {
          Expression(.string(moment(maker.dice.below(40)).text))
        }
        let at = column("at")
        switch dice.below(3) {
        case 0: return Expression(.binary(comparison, at, time(&self)))
        case 1:
          return Expression(.between(at, low: time(&self), high: time(&self), negated: negated))
        default:
          let times = (0..<dice.below(3) + 1).map { _ in time(&self) }
          return Expression(.isIn(at, list: Expression(.list(times)), negated: negated))
        }
      case 12:
        let pattern = dice.pick(["^r", "e+", "[A-Z]", "x$", "d.p", "(red|50)", "^$", "\\d", " .* "])
        return Expression(
          .call(Name("regexp_like"), [column("title"), Expression(.string(pattern))]))
      case 0: return Expression(.binary(comparison, whole(2), whole(2)))
      case 1: return Expression(.binary(comparison, decimal(2), decimal(1)))
      case 2: return Expression(.binary(comparison, whole(1), decimal(1)))
      case 3: return Expression(.binary(comparison, text(2), text(1)))
      case 4:
        return Expression(
          .like(
            text(1),
            pattern: Expression(.string(dice.pick(["%e%", "r_d", "%", "", "Gr%3", "%\\%%", "_"]))),
            ignoresCase: false, negated: negated))
      case 5:
        let elements = (0..<dice.below(4)).map { _ in
          dice.chance(15)
            ? Expression(.null) : Expression(.string(dice.pick(["en", "de", "red", ""])))
        }
        return Expression(.isIn(text(1), list: Expression(.list(elements)), negated: negated))
      case 6:
        let elements = (0..<dice.below(4)).map { _ in
          dice.chance(15) ? Expression(.null) : Expression(.int(Int64(dice.below(12))))
        }
        return Expression(.isIn(whole(1), list: Expression(.list(elements)), negated: negated))
      case 7: return Expression(.between(whole(1), low: whole(0), high: whole(0), negated: negated))
      default:
        let name = dice.pick([
          "title", "language", "year", "stock", "price", "kids", "tags", "sizes", "at",
        ])
        return Expression(.isTest(column(name), .null, negated: negated))
      }
    }
  }

  private static let definitions = [
    ColumnDefinition(name: "item_id", type: .string),
    ColumnDefinition(name: "title", type: .string),
    ColumnDefinition(name: "language", type: .lowCardinalityString),
    ColumnDefinition(name: "year", type: .int32),
    ColumnDefinition(name: "stock", type: .int64),
    ColumnDefinition(name: "price", type: .double),
    ColumnDefinition(name: "kids", type: .bool),
    ColumnDefinition(name: "tags", type: .stringArray),
    ColumnDefinition(name: "sizes", type: .int64Array),
    ColumnDefinition(name: "at", type: .dateTime),
  ]

  private static let titles = ["red", "Green", "50%", "deep_sea", "", " x ", "red fox"]

  private static func table(_ dice: inout Dice, rows: Int) -> (ColumnTable, [[Value]]) {
    var table = ColumnTable(definitions)
    var cells: [[Value]] = []
    for row in 0..<rows {
      func maybe(_ value: Value) -> Value { dice.chance(18) ? .null : value }
      let values: [Value] = [
        .string("i\(row)"),
        maybe(.string(dice.pick(titles))),
        maybe(.string(dice.pick(["en", "de", "fr"]))),
        maybe(.int(Int64(dice.below(12)) - 2)),
        maybe(.int(Int64(dice.below(6)))),
        maybe(.double(Double(dice.below(80)) / 8 - 3)),
        maybe(.bool(dice.chance(50))),
        maybe(.array((0..<dice.below(4)).map { _ in .string(dice.pick(["a", "b", "it's"])) })),
        maybe(.array((0..<dice.below(4)).map { _ in .int(Int64(dice.below(5))) })),
        maybe(moment(dice.below(40)).value),
      ]
      table.setRow(table.appendEmptyRow(), to: values)
      cells.append(values)
    }
    return (table, cells)
  }

  @Test(
    .enabled(if: SQLite() != nil, "The system has no SQLite"),
    arguments: 0..<(isFull ? 40 : 4) as Range<UInt64>)
  func `leave the same rows`(seed: UInt64) throws {
    let database = try #require(SQLite())
    try database.rows("PRAGMA case_sensitive_like = ON")
    var dice = Dice(seed &+ 1000)
    let (table, cells) = Self.table(&dice, rows: 120)
    try database.rows(
      """
      CREATE TABLE t (title TEXT, language TEXT, year INT, stock INT, price REAL, kids INT, tags TEXT,
                      sizes TEXT, at INT)
      """)
    for row in cells {
      let values = row.dropFirst().map(Self.literal).joined(separator: ", ")
      try database.rows("INSERT INTO t VALUES (\(values))")
    }
    var source = FakeSource(rows: 0, seed: 0)
    source.items = table
    source.listed = Bitmap(count: table.rowCount, repeating: true)
    let engine = QueryEngine(cacheBytes: 0)
    var maker = Maker(dice: dice)
    var checked = 0
    for _ in 0..<(Self.isFull ? 2600 : 400) {
      let condition = maker.condition(3)
      let text = Printer.text(condition)
      let expected = try database.rows(
        "SELECT rowid - 1 FROM t WHERE \(Self.sql(condition)) ORDER BY 1")
      let result: QueryResult
      do {
        result = try engine.run(
          QueryRequest(text: "SELECT item_id FROM items WHERE \(text) LIMIT 1000"), on: source)
      } catch let problems as Diagnostics where problems.all[0].code == "type_mismatch" {
        // `coalesce(x, NULL)` and the like have no type here.
        continue
      }
      checked += 1
      #expect(result.rows.map { Int64($0.rawValue) } == expected, "seed \(seed): \(text)")
      if result.rows.map({ Int64($0.rawValue) }) != expected { return }
    }
    #expect(checked > (Self.isFull ? 2500 : 380), "seed \(seed): only \(checked) were compared")
  }
}
