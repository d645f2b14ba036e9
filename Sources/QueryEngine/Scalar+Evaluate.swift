import Columns
import Domain
import QueryLanguage

/// Where a row's cells come from: the columns themselves, or one text that stands for the only column
/// of the expression, so that an expression over a text column runs once for each distinct text.
struct Cells {
  let columns: [Column]
  var row = 0
  var text: Value?

  subscript(column: Int) -> Value { text ?? columns[column].value(at: row) }
}

extension Scalar {
  /// The value of the expression for one row.
  ///
  /// The plain way, which the scans of whole columns must agree with. It serves expressions over distinct
  /// texts and the few shapes that no scan covers.
  func evaluate(_ cells: Cells) -> Value {
    switch self {
    case .constant(let value): return value
    case .column(let place): return cells[place]
    case .and(let left, let right):
      let l = left.evaluate(cells)
      if l == .bool(false) { return l }
      let r = right.evaluate(cells)
      if r == .bool(false) { return r }
      return l.isNull || r.isNull ? .null : .bool(true)
    case .or(let left, let right):
      let l = left.evaluate(cells)
      if l == .bool(true) { return l }
      let r = right.evaluate(cells)
      if r == .bool(true) { return r }
      return l.isNull || r.isNull ? .null : .bool(false)
    case .not(let operand):
      guard case .bool(let value) = operand.evaluate(cells) else { return .null }
      return .bool(!value)
    case .isNull(let operand): return .bool(operand.evaluate(cells).isNull)
    case .isTrue(let operand): return .bool(operand.evaluate(cells) == .bool(true))
    case .isFalse(let operand): return .bool(operand.evaluate(cells) == .bool(false))
    case .compare(let op, let left, let right):
      let (l, r) = (left.evaluate(cells), right.evaluate(cells))
      if l.isNull || r.isNull { return .null }
      return .bool(Scalar.compared(op, l, r))
    case .member(let operand, let list, let hasNull):
      let value = operand.evaluate(cells)
      if value.isNull { return .null }
      if list.contains(value) { return .bool(true) }
      return hasNull ? .null : .bool(false)
    case .like(let operand, let pattern):
      guard case .string(let text) = operand.evaluate(cells) else { return .null }
      return .bool(pattern.matches(text))
    case .search(let operand, let expression):
      guard case .string(let text) = operand.evaluate(cells) else { return .null }
      return .bool(expression.isFound(in: text))
    case .arithmetic(let op, let left, let right):
      switch (left.evaluate(cells), right.evaluate(cells)) {
      case (.int(let l), .int(let r)): return Scalar.calculated(op, l, r).map { .int($0) } ?? .null
      case (.double(let l), .double(let r)):
        return Scalar.calculated(op, l, r).map { .double($0) } ?? .null
      default: return .null
      }
    case .negate(let operand):
      switch operand.evaluate(cells) {
      case .int(let value): return value == .min ? .null : .int(-value)
      case .double(let value): return .double(-value)
      default: return .null
      }
    case .toDouble(let operand):
      guard case .int(let value) = operand.evaluate(cells) else { return .null }
      return .double(Double(value))
    case .cast(let operand, let type): return Scalar.converted(operand.evaluate(cells), to: type)
    case .call(let function, let arguments):
      return function.apply(arguments.map { $0.evaluate(cells) })
    case .choice(let branches, let otherwise):
      for branch in branches where branch.condition.evaluate(cells) == .bool(true) {
        return branch.value.evaluate(cells)
      }
      return otherwise.evaluate(cells)
    case .rows(let bitmap): return .bool(bitmap[cells.row])
    }
  }

  static func compared(_ op: Expression.BinaryOperator, _ l: Value, _ r: Value) -> Bool {
    switch (l, r) {
    case (.bool(let l), .bool(let r)): holds(op, l ? 1 : 0, r ? 1 : 0)
    case (.int(let l), .int(let r)): holds(op, l, r)
    case (.double(let l), .double(let r)): holds(op, l, r)
    case (.timestamp(let l), .timestamp(let r)): holds(op, l, r)
    case (.string(let l), .string(let r)): holds(op, l, r)
    default: op == .equal ? l == r : op == .notEqual ? l != r : false
    }
  }

  static func holds<T: Comparable>(_ op: Expression.BinaryOperator, _ l: T, _ r: T) -> Bool {
    switch op {
    case .equal: l == r
    case .notEqual: l != r
    case .less: l < r
    case .lessOrEqual: l <= r
    case .greater: l > r
    case .greaterOrEqual: l >= r
    default: preconditionFailure("\(op) is no comparison")
    }
  }

  static func calculated(_ op: Expression.BinaryOperator, _ l: Int64, _ r: Int64) -> Int64? {
    let result: (partialValue: Int64, overflow: Bool)
    switch op {
    case .add: result = l.addingReportingOverflow(r)
    case .subtract: result = l.subtractingReportingOverflow(r)
    case .multiply: result = l.multipliedReportingOverflow(by: r)
    case .divide: result = l.dividedReportingOverflow(by: r)
    case .remainder: result = l.remainderReportingOverflow(dividingBy: r)
    default: preconditionFailure("\(op) is no arithmetic")
    }
    return result.overflow ? nil : result.partialValue
  }

  static func calculated(_ op: Expression.BinaryOperator, _ l: Double, _ r: Double) -> Double? {
    switch op {
    case .add: l + r
    case .subtract: l - r
    case .multiply: l * r
    case .divide: r == 0 ? nil : l / r
    case .remainder: r == 0 ? nil : l.truncatingRemainder(dividingBy: r)
    default: preconditionFailure("\(op) is no arithmetic")
    }
  }

  static func converted(_ value: Value, to type: ScalarType) -> Value {
    switch (value, type) {
    case (.null, _): .null
    case (.bool, .bool), (.int, .int), (.double, .double), (.string, .string),
      (.timestamp, .timestamp):
      value
    case (.bool(let value), .int): .int(value ? 1 : 0)
    case (.bool(let value), .double): .double(value ? 1 : 0)
    case (.bool(let value), .string): .string(value ? "true" : "false")
    case (.int(let value), .bool): .bool(value != 0)
    case (.int(let value), .double): .double(Double(value))
    case (.int(let value), .string): .string(String(value))
    case (.int(let value), .timestamp): timestamp(seconds: value)
    case (.double(let value), .int):
      Int64(exactly: value.rounded(.towardZero)).map { .int($0) } ?? .null
    case (.double(let value), .string): .string(String(value))
    case (.string(let value), .int): Int64(value).map { .int($0) } ?? .null
    case (.string(let value), .double): Double(value).map { .double($0) } ?? .null
    case (.string(let value), .bool):
      switch value.lowercased() {
      case "true", "t", "1": .bool(true)
      case "false", "f", "0": .bool(false)
      default: .null
      }
    case (.string(let value), .timestamp): Timestamp(iso8601: value).map { .timestamp($0) } ?? .null
    case (.timestamp(let value), .string): .string(value.iso8601)
    case (.timestamp(let value), .int): .int(Int64(value.secondsSinceEpoch.rounded(.down)))
    case (.timestamp(let value), .double): .double(value.secondsSinceEpoch)
    default: .null
    }
  }
}

extension Scalar {
  private static func timestamp(seconds: Int64) -> Value {
    let (microseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000)
    return overflow ? .null : .timestamp(Timestamp(microsecondsSinceEpoch: microseconds))
  }
}

extension ScalarFunction {
  func apply(_ arguments: [Value]) -> Value {
    if self == .coalesce { return arguments.first { !$0.isNull } ?? .null }
    if self == .concat {
      return .string(
        arguments.map { if case .string(let text) = $0 { text } else { "" } }.joined())
    }
    if arguments.contains(where: \.isNull) {
      return self == .nullif ? arguments[0] : .null
    }
    switch (self, arguments[0]) {
    case (.nullIfAny, let value): return value
    case (.nullif, let value): return value == arguments[1] ? .null : value
    case (.lower, .string(let text)): return .string(text.lowercased())
    case (.upper, .string(let text)): return .string(text.uppercased())
    case (.trim, .string(let text)): return .string(trimmed(text, leading: true, trailing: true))
    case (.ltrim, .string(let text)): return .string(trimmed(text, leading: true, trailing: false))
    case (.rtrim, .string(let text)): return .string(trimmed(text, leading: false, trailing: true))
    case (.length, .string(let text)): return .int(Int64(text.unicodeScalars.count))
    case (.substr, .string(let text)): return substring(text, arguments)
    case (.replace, .string(let text)):
      guard case .string(let old) = arguments[1], case .string(let new) = arguments[2] else {
        return .null
      }
      return .string(
        old.isEmpty
          ? text
          : text.split(separator: old, omittingEmptySubsequences: false).joined(separator: new))
    case (.strpos, .string(let text)):
      guard case .string(let part) = arguments[1] else { return .null }
      guard let range = text.firstRange(of: part) else { return .int(0) }
      return .int(
        Int64(text.unicodeScalars.distance(from: text.startIndex, to: range.lowerBound) + 1))
    case (.startsWith, .string(let text)):
      guard case .string(let part) = arguments[1] else { return .null }
      return .bool(text.hasPrefix(part))
    case (.endsWith, .string(let text)):
      guard case .string(let part) = arguments[1] else { return .null }
      return .bool(text.hasSuffix(part))
    case (.contains, .string(let text)):
      guard case .string(let part) = arguments[1] else { return .null }
      return .bool(part.isEmpty || text.contains(part))
    case (.abs, .int(let value)): return value == .min ? .null : .int(Swift.abs(value))
    case (.round, .int), (.floor, .int), (.ceil, .int): return arguments[0]
    case (.arrayLength, .array(let elements)): return .int(Int64(elements.count))
    case (.arrayHas, .array(let elements)): return .bool(elements.contains(arguments[1]))
    case (.arrayHasAny, .array(let elements)):
      guard case .array(let wanted) = arguments[1] else { return .null }
      return .bool(wanted.contains(where: elements.contains))
    case (.arrayHasAll, .array(let elements)):
      guard case .array(let wanted) = arguments[1] else { return .null }
      return .bool(wanted.allSatisfy(elements.contains))
    case (_, .double(let value)):
      let result = number(value, arguments)
      return result.isFinite ? .double(result) : .null
    default: return .null
    }
  }

  private func number(_ value: Double, _ arguments: [Value]) -> Double {
    switch self {
    case .abs: Swift.abs(value)
    case .round:
      if arguments.count > 1, case .int(let digits) = arguments[1] {
        ScalarFunction.rounded(value, digits: digits)
      } else {
        value.rounded()
      }
    case .floor: value.rounded(.down)
    case .ceil: value.rounded(.up)
    case .sqrt: value.squareRoot()
    case .exp: exponential(value)
    case .ln: naturalLogarithm(value)
    case .log10: decimalLogarithm(value)
    case .power:
      if case .double(let exponent) = arguments[1] { raised(value, to: exponent) } else { .nan }
    default: .nan
    }
  }

  private static func rounded(_ value: Double, digits: Int64) -> Double {
    let scale = raised(10, to: Double(digits))
    return (value * scale).rounded() / scale
  }

  private func trimmed(_ text: String, leading: Bool, trailing: Bool) -> String {
    var rest = Substring(text)
    if leading { rest = rest.drop { $0 == " " } }
    if trailing { while rest.last == " " { rest.removeLast() } }
    return String(rest)
  }

  /// `substr(text, start, length)`, characters from 1.
  private func substring(_ text: String, _ arguments: [Value]) -> Value {
    guard case .int(let first) = arguments[1] else { return .null }
    let scalars = Array(text.unicodeScalars)
    // Bounds beyond any text, so that nothing overflows.
    let start = min(max(first, -1 << 40), 1 << 40)
    var end = Int64(scalars.count)
    if arguments.count > 2 {
      guard case .int(let length) = arguments[2], length >= 0 else { return .null }
      end = min(end, start - 1 + min(length, 1 << 41))
    }
    let from = max(0, min(start - 1, Int64(scalars.count)))
    guard from < end else { return .string("") }
    var out = String.UnicodeScalarView()
    out.append(contentsOf: scalars[Int(from)..<Int(end)])
    return .string(String(out))
  }
}
