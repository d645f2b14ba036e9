import Columns
import Domain
import QueryLanguage

/// A value expression that is checked and ready to run over the columns of the candidates.
///
/// Numbers are `Double`; a value that is missing is NaN and counts as 0 in arithmetic and comparisons,
/// while `coalesce`, `if` and a name that stands alone see that it is missing. Times are seconds since
/// the epoch, booleans 1 and 0. What has no finite value (a division by zero, the logarithm of 0)
/// is missing.
struct FormulaProgram: Sendable {
  /// What is read for each candidate before the formula runs.
  enum Input: Hashable, Sendable {
    case model(String)
    /// A place in the list of columns.
    case column(Int)
    /// The score or the rank in a retriever of the plan; the fallback where it did not find the item.
    case retrievalScore(Int, fallback: Double)
    case retrievalRank(Int, fallback: Double)
  }

  indirect enum Node: Sendable {
    case number(Double)
    case text(String)
    case input(Int)
    case textInput(Int)
    case not(Node)
    case negate(Node)
    case arithmetic(Formula.Operator, Node, Node)
    case compare(Formula.Operator, Node, Node)
    case compareTexts(Formula.Operator, Node, Node)
    case and(Node, Node)
    case or(Node, Node)
    case conditional(then: Node, condition: Node, otherwise: Node)
    case call(FormulaFunction, [Node])
  }

  var root: Node
  var inputs: [Input]
  var columns: [Column]
  /// The models that the expression names.
  var models: [String] {
    inputs.compactMap { if case .model(let name) = $0 { name } else { nil } }
  }

  /// Values of a node for all candidates: one number for all, or one each.
  private enum Numbers {
    case one(Double)
    case each([Double])

    func mapped(_ body: (Double) -> Double) -> Numbers {
      switch self {
      case .one(let value): .one(body(value))
      case .each(let values): .each(values.map(body))
      }
    }

    func array(_ count: Int) -> [Double] {
      switch self {
      case .one(let value): Array(repeating: value, count: count)
      case .each(let values): values
      }
    }
  }

  private static func joined(
    _ l: Numbers, _ r: Numbers, _ body: (Double, Double) -> Double
  ) -> Numbers {
    switch (l, r) {
    case (.one(let x), .one(let y)): return .one(body(x, y))
    case (.each(let x), .one(let y)): return .each(x.map { body($0, y) })
    case (.one(let x), .each(let y)): return .each(y.map { body(x, $0) })
    case (.each(var x), .each(let y)):
      for i in x.indices { x[i] = body(x[i], y[i]) }
      return .each(x)
    }
  }

  /// Runs the formula.
  ///
  /// - Parameters:
  ///   - values: for each input its value for each candidate; NaN where there is none. Inputs that are
  ///     texts are read from `rows`.
  /// - Returns: a number for each candidate, nil where there is none.
  func run(_ values: [[Double]], rows: [CatalogRow]) -> [Double?] {
    let result = numbers(root, values, rows).array(rows.count)
    // A name that stands alone stays unknown; anything worked out from unknown values is worked out
    // from zeros, and so unknown only where it has no finite value.
    return result.map { $0.isFinite ? $0 : nil }
  }

  private func numbers(_ node: Node, _ values: [[Double]], _ rows: [CatalogRow]) -> Numbers {
    func known(_ node: Node) -> Numbers {
      numbers(node, values, rows).mapped { $0.isNaN ? 0 : $0 }
    }
    switch node {
    case .number(let number): return .one(number)
    case .input(let place): return .each(values[place])
    case .text, .textInput: preconditionFailure("a text where a number was checked for")
    case .not(let operand): return known(operand).mapped { $0 == 0 ? 1 : 0 }
    case .negate(let operand): return known(operand).mapped { -$0 }
    case .arithmetic(let op, let left, let right):
      let (l, r) = (known(left), known(right))
      switch op {
      case .add: return Self.joined(l, r) { $0 + $1 }
      case .subtract: return Self.joined(l, r) { $0 - $1 }
      case .multiply: return Self.joined(l, r) { $0 * $1 }
      case .divide: return Self.joined(l, r) { $1 == 0 ? .nan : $0 / $1 }
      case .remainder:
        // As in Python: the result has the sign of the divisor.
        return Self.joined(l, r) { $1 == 0 ? .nan : $0 - ($0 / $1).rounded(.down) * $1 }
      case .power: return Self.joined(l, r) { raised($0, to: $1) }
      default: preconditionFailure("\(op) is no arithmetic")
      }
    case .compare(let op, let left, let right):
      return Self.joined(known(left), known(right)) { Self.holds(op, $0, $1) ? 1 : 0 }
    case .compareTexts(let op, let left, let right):
      let (l, r) = (texts(left, rows), texts(right, rows))
      return .each(
        zip(l, r).map { x, y in
          guard let x, let y else { return op == .notEqual && x != y ? 1 : 0 }
          return Self.holds(op, x, y) ? 1 : 0
        })
    case .and(let left, let right):
      // As in Python: the operand that decided, not merely true or false.
      return Self.joined(numbers(left, values, rows), numbers(right, values, rows)) {
        $0 == 0 || $0.isNaN ? $0 : $1
      }
    case .or(let left, let right):
      return Self.joined(numbers(left, values, rows), numbers(right, values, rows)) {
        $0 == 0 || $0.isNaN ? $1 : $0
      }
    case .conditional(let then, let condition, let otherwise):
      let test = known(condition)
      let (t, o) = (numbers(then, values, rows), numbers(otherwise, values, rows))
      switch test {
      case .one(let value): return value != 0 ? t : o
      case .each(let tests):
        let (t, o) = (t.array(rows.count), o.array(rows.count))
        return .each(tests.indices.map { tests[$0] != 0 ? t[$0] : o[$0] })
      }
    case .call(let function, let arguments):
      if function == .coalesce {
        return arguments.dropFirst().reduce(numbers(arguments[0], values, rows)) { sofar, next in
          Self.joined(sofar, numbers(next, values, rows)) { $0.isNaN ? $1 : $0 }
        }
      }
      return function.apply(arguments.map(known), Self.joined) { $0.mapped($1) }
    }
  }

  private func texts(_ node: Node, _ rows: [CatalogRow]) -> [String?] {
    switch node {
    case .text(let text): return Array(repeating: text, count: rows.count)
    case .textInput(let place):
      let column = columns[place]
      return rows.map { row in
        if case .string(let text) = column.value(at: row.index) { text } else { nil }
      }
    default: preconditionFailure("a number where a text was checked for")
    }
  }

  private static func holds<T: Comparable>(_ op: Formula.Operator, _ x: T, _ y: T) -> Bool {
    switch op {
    case .equal: x == y
    case .notEqual: x != y
    case .less: x < y
    case .lessOrEqual: x <= y
    case .greater: x > y
    case .greaterOrEqual: x >= y
    default: preconditionFailure("\(op) is no comparison")
    }
  }
}

/// A function of a value expression.
enum FormulaFunction: String, Sendable, CaseIterable {
  case coalesce, abs, sqrt, log, exp, min, max, pow, round
  case haversineDistance = "haversine_distance"

  var argumentCounts: ClosedRange<Int> {
    switch self {
    case .abs, .sqrt, .log, .exp: 1...1
    case .pow: 2...2
    case .round: 1...2
    case .haversineDistance: 4...4
    case .coalesce, .min, .max: 1...64
    }
  }

  fileprivate func apply<Numbers>(
    _ arguments: [Numbers], _ join: (Numbers, Numbers, (Double, Double) -> Double) -> Numbers,
    _ map: (Numbers, (Double) -> Double) -> Numbers
  ) -> Numbers {
    let first = arguments[0]
    let rest = arguments.dropFirst()
    switch self {
    case .abs: return map(first) { Swift.abs($0) }
    case .sqrt: return map(first) { $0 < 0 ? .nan : $0.squareRoot() }
    case .log: return map(first) { $0 <= 0 ? .nan : naturalLogarithm($0) }
    case .exp: return map(first) { exponential($0) }
    case .min: return rest.reduce(first) { join($0, $1) { Swift.min($0, $1) } }
    case .max: return rest.reduce(first) { join($0, $1) { Swift.max($0, $1) } }
    case .pow: return join(first, arguments[1]) { raised($0, to: $1) }
    case .round:
      guard arguments.count > 1 else { return map(first) { $0.rounded(.toNearestOrEven) } }
      return join(first, arguments[1]) {
        let scale = raised(10, to: $1.rounded())
        return ($0 * scale).rounded(.toNearestOrEven) / scale
      }
    case .haversineDistance:
      // Latitude and longitude of one point, then of the other; kilometres on a sphere of 6371 km.
      let radians = arguments.map { map($0) { $0 * .pi / 180 } }
      let halfLatitude = join(radians[2], radians[0]) { square(sine(($0 - $1) / 2)) }
      let halfLongitude = join(radians[3], radians[1]) { square(sine(($0 - $1) / 2)) }
      let cosines = join(radians[0], radians[2]) { cosine($0) * cosine($1) }
      let chord = join(halfLatitude, join(cosines, halfLongitude) { $0 * $1 }) { $0 + $1 }
      return map(chord) { 2 * 6371 * arcsine(Swift.min(1, $0.squareRoot())) }
    case .coalesce: preconditionFailure("coalesce is worked out where unknown values are seen")
    }
  }
}
