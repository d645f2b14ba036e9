import Columns
import Domain
import QueryEngine
import QueryLanguage

/// A small generator of random numbers with a seed (SplitMix64).
struct Dice {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
}

/// A catalog of random items with an embedding, a model and two filters, all plain functions of numbers.
struct FakeSource: QuerySource {
  static let definitions = [
    ColumnDefinition(name: "item_id", type: .string),
    ColumnDefinition(name: "title", type: .string),
    ColumnDefinition(name: "language", type: .lowCardinalityString),
    ColumnDefinition(name: "region", type: .lowCardinalityString),
    ColumnDefinition(name: "year", type: .int32),
    ColumnDefinition(name: "price", type: .double),
    ColumnDefinition(name: "published", type: .dateTime),
    ColumnDefinition(name: "kids", type: .bool),
    ColumnDefinition(name: "tags", type: .stringArray),
    ColumnDefinition(name: "sizes", type: .int64Array),
  ]

  var items = ColumnTable(FakeSource.definitions)
  var cells: [[Value]] = []
  var listed: Bitmap
  var catalogVersion: UInt64 = 1
  var now = Timestamp(secondsSinceEpoch: 1_800_000_000)
  var embeddingNames = ["seq", "title_embedding"]
  var modelNames = ["sasrec", "clicks"]
  var filterNames = ["already_seen", "banned"]
  var derivedColumnNames = ["_derived_popular_rank"]
  var seenPercent = 20
  /// Rows that the index does not hold, against the contract of a source.
  var unindexed: Set<Int> = []
  /// Rows that the index returns without knowing how well they fit.
  var unscored: Set<Int> = []

  init(rows: Int, seed: UInt64) {
    var dice = Dice(seed)
    listed = Bitmap(count: rows, repeating: true)
    for row in 0..<rows {
      func maybe(_ value: Value, _ dice: inout Dice) -> Value { dice.chance(15) ? .null : value }
      let words = ["red", "Green", "blue%", "deep_sea", "", "Ünder", "red fox"]
      let tags = (0..<dice.below(4)).map { _ in Value.string(dice.pick(["a", "b", "c", "d"])) }
      let sizes = (0..<dice.below(3)).map { _ in Value.int(Int64(dice.below(5))) }
      let values: [Value] = [
        .string("i\(row)"),
        maybe(.string(dice.pick(words) + (dice.chance(30) ? " \(row % 7)" : "")), &dice),
        maybe(.string(dice.pick(["en", "de", "fr"])), &dice),
        maybe(.string(dice.pick(["en", "de", "xx"])), &dice),
        maybe(.int(Int64(1990 + dice.below(30))), &dice),
        maybe(.double(Double(dice.below(400)) / 8 - 10), &dice),
        maybe(
          .timestamp(Timestamp(secondsSinceEpoch: Double(1_700_000_000 + dice.below(1_000_000)))),
          &dice),
        maybe(.bool(dice.chance(50)), &dice),
        maybe(.array(tags), &dice),
        maybe(.array(sizes), &dice),
      ]
      items.setRow(items.appendEmptyRow(), to: values)
      cells.append(values)
      if dice.chance(5) { listed[row] = false }
    }
  }

  func itemID(of row: CatalogRow) -> ItemID { ItemID("i\(row.rawValue)") }

  func row(of id: ItemID) -> CatalogRow? {
    guard id.rawValue.hasPrefix("i"), let row = Int(id.rawValue.dropFirst()), row < items.rowCount
    else { return nil }
    return CatalogRow(row)
  }

  func derivedColumn(_ name: String) -> Column? {
    guard name == "_derived_popular_rank" else { return nil }
    var column = Column(type: .int64)
    for row in 0..<items.rowCount { column.append(.int(Int64(mixed("rank", row) % 1000))) }
    return column
  }

  /// A number that depends on a word and a row alone. Coarse on purpose: there are ties.
  func mixed(_ word: String, _ row: Int) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in word.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    var dice = Dice(hash &+ UInt64(row))
    return dice.next() >> 40
  }

  func similarity(_ embedding: String, _ encoder: Encoder, _ row: Int) -> Float {
    Float(mixed(embedding + encoder.description, row) % 500) / 100
  }

  func nearest(
    embedding: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    if case .precomputedItem(let id) = encoder, row(of: id) == nil {
      throw Diagnostic(.notFound, code: "unknown_item", "unknown item `\(id.rawValue)`")
    }
    let best = among.rows.filter { !unindexed.contains($0) }.map {
      (row: $0, score: similarity(embedding, encoder, $0))
    }
    .sorted { ($1.score, $0.row) < ($0.score, $1.row) }.prefix(count)
    var note: String?
    if case .precomputedUser(let user) = encoder, user.rawValue == "stranger" {
      note = "the user `stranger` is unknown: popular items were taken"
    }
    return Nearest(
      rows: best.map { CatalogRow($0.row) },
      scores: best.map { unscored.contains($0.row) ? -.infinity : $0.score }, note: note)
  }

  func modelScore(_ model: String, _ user: UserInput, _ row: Int) -> Float? {
    let value = mixed(model + "\(user)", row)
    return value % 10 == 0 ? nil : Float(value % 300) / 100 - 1
  }

  func scores(model: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?] {
    rows.map { modelScore(model, user, $0.index) }
  }

  func isForbidden(_ filter: String, _ user: UserID?, _ row: Int) -> Bool {
    Int(mixed(filter + (filter == "banned" ? "" : user?.rawValue ?? ""), row) % 100) < seenPercent
  }

  func forbidden(filter: String, user: UserID?) throws -> [CatalogRow] {
    if filter == "already_seen", user == nil {
      throw Diagnostic(
        code: "missing_user", "the filter `already_seen` is personal and needs `input_user_id`")
    }
    return (0..<items.rowCount).filter { isForbidden(filter, user, $0) }.map { CatalogRow($0) }
  }
}

/// Conditions evaluated the plain way, straight from the tree: what the scans are compared with.
struct Reference {
  let source: FakeSource

  func cell(_ name: String, _ row: Int) -> Value {
    guard let place = FakeSource.definitions.firstIndex(where: { $0.name == name }) else {
      return .null
    }
    return source.cells[row][place]
  }

  /// True, false, or nil for NULL.
  func truth(_ expression: Expression, _ row: Int) -> Bool? {
    switch expression.kind {
    case .binary(.and, let left, let right):
      switch (truth(left, row), truth(right, row)) {
      case (false, _), (_, false): return false
      case (true, true): return true
      default: return nil
      }
    case .binary(.or, let left, let right):
      switch (truth(left, row), truth(right, row)) {
      case (true, _), (_, true): return true
      case (false, false): return false
      default: return nil
      }
    case .not(let operand): return truth(operand, row).map { !$0 }
    default:
      if case .bool(let value) = value(expression, row) { return value }
      return nil
    }
  }

  func value(_ expression: Expression, _ row: Int) -> Value {
    func wrapped(_ truth: Bool?) -> Value { truth.map { .bool($0) } ?? .null }
    switch expression.kind {
    case .null: return .null
    case .bool(let value): return .bool(value)
    case .int(let value): return .int(value)
    case .double(let value): return .double(value)
    case .string(let value): return .string(value)
    case .column(let reference): return cell(reference.name.text, row)
    case .list(let elements): return .array(elements.map { value($0, row) })
    case .not, .binary(.and, _, _), .binary(.or, _, _): return wrapped(truth(expression, row))
    case .negate(let operand):
      switch value(operand, row) {
      case .int(let value): return .int(-value)
      case .double(let value): return .double(-value)
      default: return .null
      }
    case .binary(let op, let left, let right):
      let (l, r) = (value(left, row), value(right, row))
      return op.isComparison ? wrapped(compare(op, l, r)) : arithmetic(op, l, r)
    case .isTest(let operand, let test, let negated):
      let holds =
        switch test {
        case .null: value(operand, row) == .null
        case .isTrue: truth(operand, row) == true
        case .isFalse: truth(operand, row) == false
        }
      return .bool(holds != negated)
    case .isIn(let operand, let list, let negated):
      guard case .list(let elements) = list.kind else { return .null }
      let all = elements.map { compare(.equal, value(operand, row), value($0, row)) }
      let found: Bool? = all.contains(true) ? true : all.contains(nil) ? nil : false
      return wrapped(found.map { $0 != negated })
    case .between(let operand, let low, let high, let negated):
      let x = value(operand, row)
      let inside = [
        compare(.greaterOrEqual, x, value(low, row)), compare(.lessOrEqual, x, value(high, row)),
      ]
      let found: Bool? = inside.contains(false) ? false : inside.contains(nil) ? nil : true
      return wrapped(found.map { $0 != negated })
    case .like(let operand, let pattern, let ignoresCase, let negated):
      guard case .string(let text) = value(operand, row),
        case .string(let like) = value(pattern, row)
      else { return .null }
      let (x, y) = ignoresCase ? (text.lowercased(), like.lowercased()) : (text, like)
      return .bool(matches(Array(x), Array(y)) != negated)
    case .call(let name, let arguments): return call(name.text, arguments.map { value($0, row) })
    default: return .null
    }
  }

  /// LIKE by its definition, one character at a time.
  private func matches(_ text: [Character], _ pattern: [Character]) -> Bool {
    guard let first = pattern.first else { return text.isEmpty }
    let rest = Array(pattern.dropFirst())
    if first == "%" { return (0...text.count).contains { matches(Array(text[$0...]), rest) } }
    guard let letter = text.first, first == "_" || first == letter else { return false }
    return matches(Array(text.dropFirst()), rest)
  }

  private func call(_ name: String, _ arguments: [Value]) -> Value {
    if name == "coalesce" { return arguments.first { $0 != .null } ?? .null }
    if arguments.contains(.null) { return .null }
    switch (name, arguments[0]) {
    case ("length", .string(let text)): return .int(Int64(text.unicodeScalars.count))
    case ("lower", .string(let text)): return .string(text.lowercased())
    case ("upper", .string(let text)): return .string(text.uppercased())
    case ("array_has", .array(let elements)): return .bool(elements.contains(arguments[1]))
    case ("array_has_any", .array(let elements)):
      guard case .array(let wanted) = arguments[1] else { return .null }
      return .bool(elements.contains { wanted.contains($0) })
    case ("array_has_all", .array(let elements)):
      guard case .array(let wanted) = arguments[1] else { return .null }
      return .bool(wanted.allSatisfy { elements.contains($0) })
    default: return .null
    }
  }

  private func number(_ value: Value) -> Double? {
    switch value {
    case .int(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }

  private func compare(_ op: Expression.BinaryOperator, _ l: Value, _ r: Value) -> Bool? {
    func holds<T: Comparable>(_ x: T, _ y: T) -> Bool {
      switch op {
      case .equal: x == y
      case .notEqual: x != y
      case .less: x < y
      case .lessOrEqual: x <= y
      case .greater: x > y
      default: x >= y
      }
    }
    switch (l, r) {
    case (.null, _), (_, .null): return nil
    case (.string(let x), .string(let y)): return holds(x, y)
    case (.timestamp(let x), .timestamp(let y)): return holds(x, y)
    case (.timestamp(let x), .string(let y)): return Timestamp(iso8601: y).map { holds(x, $0) }
    case (.bool(let x), .bool(let y)): return holds(x ? 1 : 0, y ? 1 : 0)
    default:
      guard let x = number(l), let y = number(r) else { return nil }
      return holds(x, y)
    }
  }

  private func arithmetic(_ op: Expression.BinaryOperator, _ l: Value, _ r: Value) -> Value {
    if case .int(let x) = l, case .int(let y) = r {
      switch op {
      case .add: return .int(x + y)
      case .subtract: return .int(x - y)
      case .multiply: return .int(x * y)
      case .divide: return y == 0 ? .null : .int(x / y)
      default: return y == 0 ? .null : .int(x % y)
      }
    }
    guard let x = number(l), let y = number(r) else { return .null }
    switch op {
    case .add: return .double(x + y)
    case .subtract: return .double(x - y)
    case .multiply: return .double(x * y)
    case .divide: return y == 0 ? .null : .double(x / y)
    default: return y == 0 ? .null : .double(x.truncatingRemainder(dividingBy: y))
    }
  }
}

/// Makes random conditions of good types.
struct ConditionMaker {
  var dice: Dice
  init(_ seed: UInt64) { dice = Dice(seed) }

  private func column(_ name: String) -> Expression {
    Expression(.column(ColumnReference(name: Name(name))))
  }

  mutating func condition(_ depth: Int) -> Expression {
    if depth > 0, dice.chance(60) {
      switch dice.below(4) {
      case 0: return Expression(.not(condition(depth - 1)))
      case 1:
        return Expression(
          .isTest(
            condition(depth - 1), dice.pick([.isTrue, .isFalse, .null]), negated: dice.chance(50)))
      default:
        return Expression(
          .binary(dice.pick([.and, .or]), condition(depth - 1), condition(depth - 1)))
      }
    }
    let comparison = dice.pick(
      Expression.BinaryOperator.allCases.filter { $0.isComparison })
    let isNegated = dice.chance(40)
    switch dice.below(13) {
    case 0, 1: return Expression(.binary(comparison, number(2), number(2)))
    case 2: return Expression(.binary(comparison, text(), text()))
    case 3:
      return Expression(
        .binary(comparison, column("published"), Expression(.string("2023-11-20T00:00:00Z"))))
    case 4:
      return Expression(.binary(comparison, column("kids"), Expression(.bool(dice.chance(50)))))
    case 5:
      let isText = dice.chance(50)
      let elements = (0..<dice.below(4)).map { _ in
        dice.chance(15)
          ? Expression(.null)
          : isText
            ? Expression(.string(dice.pick(["en", "de", "zz"])))
            : Expression(.int(Int64(1990 + dice.below(30))))
      }
      return Expression(
        .isIn(
          column(isText ? "language" : "year"), list: Expression(.list(elements)),
          negated: isNegated))
    case 6:
      return Expression(
        .like(
          text(), pattern: Expression(.string(dice.pick(["%e%", "_e%", "red", "%", "", "R%_"]))),
          ignoresCase: dice.chance(50), negated: isNegated))
    case 7:
      return Expression(.between(number(1), low: number(0), high: number(0), negated: isNegated))
    case 8:
      let any = dice.pick(["title", "year", "price", "published", "kids", "tags", "sizes"])
      return Expression(.isTest(column(any), .null, negated: isNegated))
    case 9:
      return Expression(
        .call(
          Name("array_has"), [column("tags"), Expression(.string(dice.pick(["a", "b", "zz"])))]))
    case 10:
      let wanted = (0..<dice.below(3)).map { _ in Expression(.string(dice.pick(["a", "b", "zz"]))) }
      return Expression(
        .call(
          Name(dice.pick(["array_has_any", "array_has_all"])),
          [column("tags"), Expression(.list(wanted))]))
    case 11:
      let wanted = (0..<dice.below(3)).map { _ in Expression(.int(Int64(dice.below(6)))) }
      return Expression(
        .call(
          Name(dice.pick(["array_has_any", "array_has_all"])),
          [column("sizes"), Expression(.list(wanted))]))
    default: return column("kids")
    }
  }

  private mutating func text() -> Expression {
    switch dice.below(5) {
    case 0: return Expression(.string(dice.pick(["en", "red", "Green", ""])))
    case 1: return column("title")
    case 2: return column(dice.pick(["language", "region"]))
    case 3: return Expression(.call(Name(dice.pick(["lower", "upper"])), [column("title")]))
    default:
      return Expression(
        .call(Name("coalesce"), [column("language"), Expression(.string("none"))]))
    }
  }

  private mutating func number(_ depth: Int) -> Expression {
    if depth > 0, dice.chance(50) {
      if dice.chance(15) { return Expression(.negate(number(depth - 1))) }
      let op = dice.pick(Expression.BinaryOperator.allCases.filter { $0.isArithmetic })
      return Expression(.binary(op, number(depth - 1), number(depth - 1)))
    }
    switch dice.below(6) {
    case 0: return Expression(.int(Int64(dice.below(2020))))
    case 1: return Expression(.double(Double(dice.below(300)) / 8))
    case 2, 3: return column("year")
    case 4: return column("price")
    default: return Expression(.call(Name("length"), [column("title")]))
    }
  }
}
