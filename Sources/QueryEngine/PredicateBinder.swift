import Columns
import Domain
import QueryLanguage

/// Turns an expression whose parameters are filled in into a checked one.
struct PredicateBinder {
  let finder: ColumnFinder
  private(set) var columns: [Column] = []
  private var places: [String: Int] = [:]

  init(_ finder: ColumnFinder) { self.finder = finder }

  private var problems: QueryProblems { finder.problems }
  private typealias Bound = (scalar: Scalar, type: ScalarType)

  /// A condition, or nil after its problems were recorded.
  mutating func condition(_ expression: Expression) -> Scalar? {
    guard let bound = bind(expression) else { return nil }
    return asCondition(bound, expression.span)
  }

  private func asCondition(_ bound: Bound, _ span: SourceSpan) -> Scalar? {
    if bound.type == .bool { return bound.scalar }
    if bound.type == .null { return .constant(.null) }
    problems.add(
      "type_mismatch", "a condition must be true or false; this is \(bound.type.name)", span,
      help: "Compare it with something: `= 1`, `IS NOT NULL`.")
    return nil
  }

  /// A value of any type, or nil after its problems were recorded.
  mutating func scalar(_ expression: Expression) -> (scalar: Scalar, type: ScalarType)? {
    bind(expression)
  }

  private mutating func choice(
    _ branches: [CaseBranch], _ otherwise: Expression?, _ span: SourceSpan
  ) -> Bound? {
    var conditions: [Scalar] = []
    var values: [(bound: Bound, expression: Expression)] = []
    var isGood = true
    for branch in branches {
      if let test = condition(branch.condition) { conditions.append(test) } else { isGood = false }
      if let value = bind(branch.value) {
        values.append((value, branch.value))
      } else {
        isGood = false
      }
    }
    let last = otherwise ?? Expression(.null, span)
    guard let final = bind(last), isGood else { return nil }
    values.append((final, last))
    var type = ScalarType.null
    for (bound, expression) in values where bound.type != .null {
      if type == .null || (type == .int && bound.type == .double) { type = bound.type }
      guard bound.type == type || (type == .double && bound.type == .int) else {
        return mismatch(
          "the values of CASE need one type; this is \(bound.type.name) after \(type.name)",
          expression.span)
      }
    }
    let scalars = values.map { type == .double ? asDouble($0.bound) : $0.bound.scalar }
    return (
      .choice(
        zip(conditions, scalars).map { (condition: $0, value: $1) },
        otherwise: scalars[scalars.count - 1]), type
    )
  }

  private mutating func bind(_ expression: Expression) -> Bound? {
    switch expression.kind {
    case .null: return (.constant(.null), .null)
    case .bool(let value): return (.constant(.bool(value)), .bool)
    case .int(let value): return (.constant(.int(value)), .int)
    case .double(let value): return (.constant(.double(value)), .double)
    case .string(let value): return (.constant(.string(value)), .string)
    case .parameter: preconditionFailure("parameters are filled in before binding")
    case .list(let elements): return list(elements, expression.span)
    case .column(let reference):
      guard let column = finder.column(reference) else { return nil }
      let name = reference.name.text
      let place = places[name] ?? columns.count
      if place == columns.count {
        columns.append(column)
        places[name] = place
      }
      return (.column(place), ScalarType(column.type))
    case .not(let operand): return condition(operand).map { (.not($0), .bool) }
    case .negate(let operand):
      guard let bound = bind(operand) else { return nil }
      if case .constant(.int(let value)) = bound.scalar, value != .min {
        return (.constant(.int(-value)), .int)
      }
      if case .constant(.double(let value)) = bound.scalar {
        return (.constant(.double(-value)), .double)
      }
      guard bound.type.isNumber || bound.type == .null else {
        return mismatch("`-` needs a number, not \(bound.type.name)", operand.span)
      }
      return (.negate(bound.scalar), bound.type)
    case .binary(let op, let left, let right): return binary(op, left, right)
    case .isTest(let operand, let test, let negated):
      let scalar: Scalar
      switch test {
      case .null:
        guard let bound = bind(operand) else { return nil }
        scalar = .isNull(bound.scalar)
      case .isTrue:
        guard let bound = condition(operand) else { return nil }
        scalar = .isTrue(bound)
      case .isFalse:
        guard let bound = condition(operand) else { return nil }
        scalar = .isFalse(bound)
      }
      return (negated ? .not(scalar) : scalar, .bool)
    case .isIn(let operand, let list, let negated):
      guard let scalar = membership(operand, list) else { return nil }
      return (negated ? .not(scalar) : scalar, .bool)
    case .like(let operand, let pattern, let ignoresCase, let negated):
      let (bound, text) = (bind(operand), bind(pattern))
      guard let bound, let text else { return nil }
      guard bound.type == .string || bound.type == .null else {
        return mismatch("LIKE needs a text, not \(bound.type.name)", operand.span)
      }
      if case .constant(.null) = text.scalar { return (.constant(.null), .bool) }
      guard case .constant(.string(let written)) = text.scalar else {
        return mismatch(
          "the pattern of LIKE must be a text that is written out or a parameter", pattern.span)
      }
      let scalar = Scalar.like(
        bound.scalar, LikePattern(written, ignoresCase: ignoresCase))
      return (negated ? .not(scalar) : scalar, .bool)
    case .between(let operand, let low, let high, let negated):
      let lower = compare(.greaterOrEqual, operand, low)
      let upper = compare(.lessOrEqual, operand, high)
      guard let lower, let upper else { return nil }
      let scalar = Scalar.and(lower, upper)
      return (negated ? .not(scalar) : scalar, .bool)
    case .call(let name, let arguments): return call(name, arguments, expression.span)
    case .conditional(let branches, let otherwise):
      return choice(branches, otherwise, expression.span)
    case .cast(let operand, let type): return cast(operand, type)
    case .prebuilt(let name, let user):
      guard let call = prebuilt(name, user, expression.span) else { return nil }
      do {
        var left = Bitmap(count: finder.items.rowCount, repeating: true)
        let rows = try finder.source.forbidden(filter: call.name, user: call.user)
        for row in rows where row.index < left.count { left[row.index] = false }
        return (.rows(left), .bool)
      } catch {
        problems.record(error, expression.span)
        return nil
      }
    case .truncate:
      problems.add(
        "misplaced_function", "truncate() stands alone or beside AND, not inside a condition",
        expression.span)
      return nil
    }
  }

  private func mismatch(_ message: String, _ span: SourceSpan, help: String? = nil) -> Bound? {
    problems.add("type_mismatch", message, span, help: help)
    return nil
  }

  /// The filter's name and the user of a `prebuilt(...)` whose parameters are filled in.
  func prebuilt(
    _ name: Expression, _ user: Expression?, _ span: SourceSpan
  ) -> (name: String, user: UserID?)? {
    guard case .string(let written) = name.kind else {
      problems.add("type_mismatch", "the name of a filter is a text", name.span)
      return nil
    }
    let filter = Binder.referred(written)
    guard finder.source.filterNames.contains(filter) else {
      problems.unknown(
        "filter", filter, name.span, among: finder.source.filterNames, plural: "filters")
      return nil
    }
    guard let user else { return (filter, nil) }
    switch user.kind {
    case .string(let id): return (filter, UserID(id))
    case .int(let id): return (filter, UserID(String(id)))
    case .null: return (filter, nil)
    default:
      problems.add("type_mismatch", "`input_user_id` is a text", user.span)
      return nil
    }
  }

  private mutating func list(_ elements: [Expression], _ span: SourceSpan) -> Bound? {
    let bound = elements.map { bind($0) }
    var values: [Value] = []
    var type = ScalarType.null
    for (element, expression) in zip(bound, elements) {
      guard let element else { return nil }
      guard case .constant(let value) = element.scalar, !value.isNull else {
        return mismatch("a list holds plain values", expression.span)
      }
      if type == .null { type = element.type }
      if type == .int, element.type == .double { type = .double }
      guard element.type == type || (type == .double && element.type == .int) else {
        return mismatch(
          "a list holds values of one type; this is \(element.type.name) after \(type.name)",
          expression.span)
      }
      values.append(value)
    }
    switch type {
    case .string: return (.constant(.array(values)), .strings)
    case .int: return (.constant(.array(values)), .ints)
    case .double:
      return (.constant(.array(values.map { Scalar.converted($0, to: .double) })), .doubles)
    case .null: return (.constant(.array([])), .strings)
    default: return mismatch("a list of \(type.name) values cannot stand here", span)
    }
  }

  // MARK: Comparisons

  private mutating func binary(
    _ op: Expression.BinaryOperator, _ left: Expression, _ right: Expression
  ) -> Bound? {
    switch op {
    case .and, .or:
      let (l, r) = (condition(left), condition(right))
      guard let l, let r else { return nil }
      return (op == .and ? .and(l, r) : .or(l, r), .bool)
    case _ where op.isComparison: return compare(op, left, right).map { ($0, .bool) }
    case .concatenate:
      let (l, r) = (bind(left), bind(right))
      guard let l, let r else { return nil }
      for (bound, expression) in [(l, left), (r, right)] where bound.type.isArray {
        return mismatch("`||` joins texts, not \(bound.type.name)", expression.span)
      }
      // Unlike concat(), `||` is NULL where a side is.
      let both = Scalar.call(.concat, [asText(l), asText(r)])
      return (
        .call(.nullIfAny, [both, asText(l), asText(r)]), .string
      )
    default:
      let (l, r) = (bind(left), bind(right))
      guard let l, let r else { return nil }
      guard let (x, y, type) = numbers(op.rawValue, (l, left), (r, right)) else { return nil }
      return (.arithmetic(op, x, y), type)
    }
  }

  private func asText(_ bound: Bound) -> Scalar {
    bound.type == .string ? bound.scalar : .cast(bound.scalar, to: .string)
  }

  /// Both sides as whole numbers, or both as decimals.
  private func numbers(
    _ what: String, _ l: (bound: Bound, expression: Expression),
    _ r: (bound: Bound, expression: Expression)
  ) -> (Scalar, Scalar, ScalarType)? {
    for side in [l, r] where !side.bound.type.isNumber && side.bound.type != .null {
      _ = mismatch("`\(what)` needs numbers, not \(side.bound.type.name)", side.expression.span)
      return nil
    }
    if l.bound.type == .double || r.bound.type == .double {
      return (asDouble(l.bound), asDouble(r.bound), .double)
    }
    return (l.bound.scalar, r.bound.scalar, .int)
  }

  private func asDouble(_ bound: Bound) -> Scalar {
    guard bound.type == .int else { return bound.scalar }
    if case .constant(.int(let value)) = bound.scalar { return .constant(.double(Double(value))) }
    return .toDouble(bound.scalar)
  }

  private mutating func compare(
    _ op: Expression.BinaryOperator, _ left: Expression, _ right: Expression
  ) -> Scalar? {
    let (l, r) = (bind(left), bind(right))
    guard let l, let r else { return nil }
    if l.type == .null || r.type == .null { return .constant(.null) }
    if l.type == r.type {
      if l.type.isArray, op != .equal, op != .notEqual {
        return mismatch("lists can be compared with = and != only", left.span)?.scalar
      }
      return .compare(op, l.scalar, r.scalar)
    }
    if l.type.isNumber, r.type.isNumber { return .compare(op, asDouble(l), asDouble(r)) }
    for (text, number) in [(l, r), (r, l)] where op != .equal && op != .notEqual {
      // Ids may be written as numbers, so a text can equal one; an order of texts is no order of numbers.
      guard text.type == .string, number.type.isNumber || number.type == .bool else { continue }
      problems.add(
        "type_mismatch", "a text is not more or less than a number",
        left.span.through(right.span),
        help:
          "Compare numbers: CAST(… AS DOUBLE) \(op.rawValue) …; or texts, with the number in quotes."
      )
      return nil
    }
    if let constant = constant(r, as: l.type) { return compareConstant(op, l, constant, false) }
    if let constant = constant(l, as: r.type) { return compareConstant(op, r, constant, true) }
    var help: String?
    if l.type == .timestamp || r.type == .timestamp {
      help = "Write a time as '2026-01-05' or '2026-01-05T10:00:00Z'."
    } else if l.type.isArray || r.type.isArray {
      help = "Use array_has(column, value)."
    } else if l.type == .string || r.type == .string {
      help = "Turn one side into the other's type: CAST(… AS DOUBLE)."
    }
    problems.add(
      "type_mismatch", "\(l.type.name) cannot be compared with \(r.type.name)",
      left.span.through(right.span), help: help)
    return nil
  }

  /// A comparison with a constant that already has a fitting type.
  private func compareConstant(
    _ op: Expression.BinaryOperator, _ bound: Bound, _ constant: Value, _ isFlipped: Bool
  ) -> Scalar {
    var scalar = bound.scalar
    if bound.type == .int, case .double = constant { scalar = asDouble(bound) }
    return isFlipped
      ? .compare(op, .constant(constant), scalar) : .compare(op, scalar, .constant(constant))
  }

  /// A constant of another type as one of this type: '5' beside a number, '2026-01-05' beside a time.
  private func constant(_ bound: Bound, as type: ScalarType) -> Value? {
    guard case .constant(let value) = bound.scalar else { return nil }
    switch (value, type) {
    case (.string(let text), .int):
      if let int = Int64(text) { return .int(int) }
      return Double(text).flatMap { $0.isFinite ? .double($0) : nil }
    case (.string(let text), .double):
      return Double(text).flatMap { $0.isFinite ? .double($0) : nil }
    case (.string, .timestamp), (.string, .bool), (.int, .string), (.bool, .string):
      let cast = Scalar.converted(value, to: type)
      return cast.isNull ? nil : cast
    case (.int(let int), .bool): return int == 0 || int == 1 ? .bool(int == 1) : nil
    case (.int(let int), .double): return .double(Double(int))
    default: return nil
    }
  }

  private mutating func membership(_ operand: Expression, _ list: Expression) -> Scalar? {
    guard case .list(let elements) = list.kind else {
      preconditionFailure("IN has a list once its parameters are filled in")
    }
    guard let bound = bind(operand) else { return nil }
    if bound.type == .null { return .constant(.null) }
    if bound.type.isArray {
      return mismatch(
        "IN needs a plain value, not \(bound.type.name)", operand.span,
        help: "Use array_has_any(column, ['a', 'b']).")?.scalar
    }
    var values: [Value] = []
    var hasNull = false
    var isDouble = bound.type == .double
    var others: [Scalar] = []
    var isGood = true
    values.reserveCapacity(elements.count)
    for element in elements {
      if bound.type == .string, case .string(let text) = element.kind {
        values.append(.string(text))
        continue
      }
      guard let one = bind(element) else {
        isGood = false
        continue
      }
      if case .constant(.null) = one.scalar {
        hasNull = true
        continue
      }
      if case .constant(let value) = one.scalar {
        let fitting =
          one.type == bound.type || (bound.type == .int && one.type == .double)
          ? value : constant(one, as: bound.type)
        if let fitting {
          if case .double = fitting { isDouble = true }
          values.append(fitting)
          continue
        }
      } else if let other = compare(.equal, operand, element) {
        others.append(other)
        continue
      }
      problems.add(
        "type_mismatch", "\(one.type.name) cannot be among \(bound.type.name) values",
        element.span)
      isGood = false
    }
    guard isGood else { return nil }
    // Nothing is in an empty list, not even NULL.
    if elements.isEmpty { return .constant(.bool(false)) }
    var scalar = bound.scalar
    if isDouble {
      scalar = asDouble(bound)
      values = values.map { Scalar.converted($0, to: .double) }
    }
    return others.reduce(.member(scalar, ValueList(values), hasNull: hasNull)) { .or($0, $1) }
  }

  // MARK: Functions

  private static let types: [String: ScalarType] = [
    "int": .int, "integer": .int, "bigint": .int, "int64": .int, "int32": .int, "smallint": .int,
    "double": .double, "float": .double, "real": .double, "float64": .double, "string": .string,
    "varchar": .string, "text": .string, "char": .string, "boolean": .bool, "bool": .bool,
    "timestamp": .timestamp, "datetime": .timestamp, "date": .timestamp,
  ]

  private mutating func cast(_ operand: Expression, _ name: Name) -> Bound? {
    guard let type = Self.types[name.text] else {
      problems.unknown(
        "type", name.text, name.span,
        among: ["bigint", "boolean", "double", "timestamp", "varchar"],
        plural: "types")
      return nil
    }
    guard let bound = bind(operand) else { return nil }
    if bound.type.isArray {
      return mismatch("\(bound.type.name) cannot be turned into \(type.name)", operand.span)
    }
    if case .constant(let value) = bound.scalar {
      return (.constant(Scalar.converted(value, to: type)), type)
    }
    return (.cast(bound.scalar, to: type), type)
  }

  private static let functionNames =
    ScalarFunction.allCases.filter { $0 != .nullIfAny }.map(\.rawValue)
    + ["cast", "now", "prebuilt", "regexp_like", "regexp_match", "truncate"]

  private mutating func call(
    _ name: Name, _ arguments: [Expression], _ span: SourceSpan
  ) -> Bound? {
    if name.text == "now" || name.text == "current_timestamp", arguments.isEmpty {
      return (.constant(.timestamp(finder.source.now)), .timestamp)
    }
    if ["regexp_match", "regexp_like", "regexp_matches"].contains(name.text) {
      return search(name, arguments, span)
    }
    guard let function = ScalarFunction(name: name.text) else {
      let near = nearestName(to: name.text, among: Self.functionNames)
      problems.add(
        "unknown_function",
        "Unknown function: '\(name.text)'. Supported: "
          + "\(Self.functionNames.sorted().joined(separator: ", "))."
          + (near.map { " Did you mean: \($0)?" } ?? ""), name.span)
      return nil
    }
    var bound: [Bound] = []
    for argument in arguments {
      guard let one = bind(argument) else { return nil }
      bound.append(one)
    }
    let allowed = function.argumentCounts
    guard allowed.contains(bound.count) else {
      let count =
        allowed.count == 1
        ? "\(allowed.lowerBound)" : "\(allowed.lowerBound) or more"
      problems.add(
        "wrong_argument_count",
        "\(name.text)() takes \(count) \(allowed == 1...1 ? "argument" : "arguments"), "
          + "not \(bound.count)", span)
      return nil
    }
    return typed(function, name, zip(bound, arguments).map { ($0, $1) }, span)
  }

  /// `regexp_match(text, pattern, flags)`: here a condition, true where the pattern is found.
  private mutating func search(
    _ name: Name, _ arguments: [Expression], _ span: SourceSpan
  ) -> Bound? {
    guard arguments.count == 2 || arguments.count == 3 else {
      problems.add(
        "wrong_argument_count",
        "\(name.text)() takes 2 or 3 arguments, not \(arguments.count)", span,
        help: "\(name.text)(title, '^The ', 'i')")
      return nil
    }
    guard let text = bind(arguments[0]) else { return nil }
    guard text.type == .string || text.type == .null else {
      return mismatch(
        "\(name.text)() needs a text here, not \(text.type.name)", arguments[0].span)
    }
    guard case .string(let pattern) = arguments[1].kind else {
      return mismatch(
        "the pattern of \(name.text)() is a text that is written out or a parameter",
        arguments[1].span)
    }
    var ignoresCase = false
    if arguments.count == 3 {
      guard case .string(let flags) = arguments[2].kind, flags.isEmpty || flags == "i" else {
        return mismatch("the flags of \(name.text)() are 'i' or nothing", arguments[2].span)
      }
      ignoresCase = flags == "i"
    }
    do throws(RegularExpression.Fault) {
      let expression = try RegularExpression(pattern, ignoresCase: ignoresCase)
      // Every row may hold a text of its own, of some 64 characters.
      let cost = finder.items.rowCount * 64 * expression.instructionCount
      guard cost <= Self.mostSearchSteps else {
        problems.add(
          "too_costly",
          "\(name.text)() would take up to \(cost) steps over \(finder.items.rowCount) rows; at "
            + "most \(Self.mostSearchSteps) are allowed", arguments[1].span,
          help: "Use a shorter pattern, LIKE, or ILIKE.")
        return nil
      }
      return (.search(text.scalar, expression), .bool)
    } catch {
      problems.add(
        "bad_pattern", "this regular expression cannot be used: \(error.message)",
        arguments[1].span)
      return nil
    }
  }

  private static let mostSearchSteps = 2_000_000_000

  private func typed(
    _ function: ScalarFunction, _ name: Name, _ arguments: [(bound: Bound, expression: Expression)],
    _ span: SourceSpan
  ) -> Bound? {
    var scalars: [Scalar] = []
    func need(_ index: Int, _ wanted: ScalarType) -> Bool {
      guard index < arguments.count else { return true }
      let (bound, expression) = arguments[index]
      if bound.type == wanted || bound.type == .null {
        scalars.append(bound.scalar)
        return true
      }
      if wanted == .double, bound.type == .int {
        scalars.append(asDouble(bound))
        return true
      }
      problems.add(
        "type_mismatch", "\(name.text)() needs \(wanted.name) here, not \(bound.type.name)",
        expression.span)
      return false
    }
    let first = arguments[0].bound.type
    switch function {
    case .lower, .upper, .trim, .ltrim, .rtrim:
      return need(0, .string) ? (.call(function, scalars), .string) : nil
    case .length:
      if first.isArray { return (.call(.arrayLength, [arguments[0].bound.scalar]), .int) }
      return need(0, .string) ? (.call(function, scalars), .int) : nil
    case .concat:
      for (bound, expression) in arguments {
        if bound.type.isArray {
          return mismatch("concat() joins texts, not \(bound.type.name)", expression.span)
        }
        scalars.append(asText(bound))
      }
      return (.call(.concat, scalars), .string)
    case .substr:
      return need(0, .string) && need(1, .int) && need(2, .int)
        ? (.call(function, scalars), .string) : nil
    case .replace:
      return need(0, .string) && need(1, .string) && need(2, .string)
        ? (.call(function, scalars), .string) : nil
    case .strpos:
      return need(0, .string) && need(1, .string) ? (.call(function, scalars), .int) : nil
    case .startsWith, .endsWith, .contains:
      return need(0, .string) && need(1, .string) ? (.call(function, scalars), .bool) : nil
    case .coalesce, .nullif:
      var type = ScalarType.null
      for (bound, expression) in arguments where bound.type != .null {
        if type == .null || (type == .int && bound.type == .double) { type = bound.type }
        guard bound.type == type || (type == .double && bound.type == .int) else {
          return mismatch(
            "\(name.text)() needs values of one type; this is \(bound.type.name) after "
              + "\(type.name)", expression.span)
        }
      }
      return (
        .call(function, arguments.map { type == .double ? asDouble($0.bound) : $0.bound.scalar }),
        type
      )
    case .abs, .floor, .ceil, .round:
      if first == .int {
        scalars = arguments.map(\.bound.scalar)
        return (.call(function, scalars), .int)
      }
      return need(0, .double) && (function != .round || need(1, .int))
        ? (.call(function, scalars), .double) : nil
    case .sqrt, .exp, .ln, .log10:
      return need(0, .double) ? (.call(function, scalars), .double) : nil
    case .power:
      return need(0, .double) && need(1, .double) ? (.call(function, scalars), .double) : nil
    case .arrayLength:
      guard first.isArray || first == .null else {
        return mismatch(
          "array_length() needs a list, not \(first.name)", arguments[0].expression.span)
      }
      return (.call(function, [arguments[0].bound.scalar]), .int)
    case .arrayHas, .arrayHasAny, .arrayHasAll:
      guard let element = first.element else {
        return mismatch(
          "\(name.text)() needs a column that holds lists, not \(first.name)",
          arguments[0].expression.span, help: "For a plain column write `column IN ['a', 'b']`.")
      }
      let second = arguments[1]
      if function == .arrayHas {
        if let constant = constant(second.bound, as: element) {
          return (.call(function, [arguments[0].bound.scalar, .constant(constant)]), .bool)
        }
        scalars.append(arguments[0].bound.scalar)
        return need(1, element) ? (.call(function, scalars), .bool) : nil
      }
      var wanted = second.bound.scalar
      var wantedType = second.bound.type
      if case .constant(.array(let values)) = wanted, wantedType != first {
        if values.isEmpty {
          wantedType = first
        } else if first == .doubles, wantedType == .ints {
          wanted = .constant(.array(values.map { Scalar.converted($0, to: .double) }))
          wantedType = first
        }
      }
      guard wantedType == first || wantedType == .null else {
        return mismatch(
          "\(name.text)() needs \(first.name) here, not \(wantedType.name)",
          second.expression.span, help: "\(name.text)(column, ['a', 'b'])")
      }
      return (.call(function, [arguments[0].bound.scalar, wanted]), .bool)
    case .nullIfAny: preconditionFailure("nullIfAny has no name in a query")
    }
  }
}
