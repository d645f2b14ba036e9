import Columns
import Domain
import QueryLanguage

/// The type of an expression over rows.
enum ScalarType: Hashable, Sendable {
  case null, bool, int, double, timestamp, string, strings, ints, doubles

  init(_ type: ColumnType) {
    self =
      switch type {
      case .bool: .bool
      case .int32, .int64: .int
      case .float, .double: .double
      case .dateTime: .timestamp
      case .stringArray: .strings
      case .int64Array: .ints
      case .float64Array: .doubles
      case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL: .string
      }
  }

  var isNumber: Bool { self == .int || self == .double }
  var isArray: Bool { element != nil }
  var element: ScalarType? {
    switch self {
    case .strings: .string
    case .ints: .int
    case .doubles: .double
    default: nil
    }
  }

  /// The type in words, for messages.
  var name: String {
    switch self {
    case .null: "NULL"
    case .bool: "a boolean"
    case .int: "a whole number"
    case .double: "a number"
    case .timestamp: "a time"
    case .string: "a text"
    case .strings: "a list of texts"
    case .ints: "a list of whole numbers"
    case .doubles: "a list of numbers"
    }
  }
}

/// A bound expression over one row: types are checked, columns are found, constants are folded in.
///
/// NULL follows SQL: a comparison with NULL is NULL, `FALSE AND NULL` is false, `TRUE OR NULL` is true.
/// What has no value (a division by zero, a number too large, a text that is no number in CAST) is NULL.
indirect enum Scalar: Sendable {
  case constant(Value)
  /// A place in the list of columns.
  case column(Int)
  case and(Scalar, Scalar)
  case or(Scalar, Scalar)
  case not(Scalar)
  case isNull(Scalar)
  case isTrue(Scalar)
  case isFalse(Scalar)
  /// Both sides have one type.
  case compare(Expression.BinaryOperator, Scalar, Scalar)
  /// Whether the value is one of constants of its type.
  case member(Scalar, ValueList, hasNull: Bool)
  case like(Scalar, LikePattern)
  case search(Scalar, RegularExpression)
  /// Both sides whole numbers, or both decimals.
  case arithmetic(Expression.BinaryOperator, Scalar, Scalar)
  case negate(Scalar)
  case toDouble(Scalar)
  case cast(Scalar, to: ScalarType)
  case call(ScalarFunction, [Scalar])
  /// The value of the first branch whose condition is true.
  case choice([(condition: Scalar, value: Scalar)], otherwise: Scalar)
  /// The rows that a prebuilt filter leaves.
  case rows(Bitmap)
}

/// A function of one row's values. All but `coalesce` and `concat` are NULL where an argument is.
enum ScalarFunction: String, Sendable, CaseIterable {
  case lower, upper, trim, ltrim, rtrim, length, concat, substr, replace, strpos
  case startsWith = "starts_with"
  case endsWith = "ends_with"
  case contains
  case coalesce, nullif
  case abs, round, floor, ceil, sqrt, exp, ln, log10, power
  case arrayHas = "array_has"
  case arrayHasAny = "array_has_any"
  case arrayHasAll = "array_has_all"
  case arrayLength = "array_length"
  /// The first argument, or NULL where any argument is: what `||` needs. Not to be called by name.
  case nullIfAny = "||"

  /// The function of a name in lower case, with the other names that SQL dialects use.
  init?(name: String) {
    let aliases: [String: ScalarFunction] = [
      "btrim": .trim, "char_length": .length, "character_length": .length, "substring": .substr,
      "ceiling": .ceil, "pow": .power, "array_contains": .arrayHas, "list_has": .arrayHas,
      "list_contains": .arrayHas, "list_has_any": .arrayHasAny, "list_has_all": .arrayHasAll,
      "cardinality": .arrayLength, "log": .log10,
    ]
    guard let function = ScalarFunction(rawValue: name) ?? aliases[name] else { return nil }
    self = function
  }
}

extension ScalarFunction {
  /// How many arguments the function takes.
  var argumentCounts: ClosedRange<Int> {
    switch self {
    case .lower, .upper, .trim, .ltrim, .rtrim, .length, .abs, .floor, .ceil, .sqrt, .exp, .ln,
      .log10, .arrayLength:
      1...1
    case .round: 1...2
    case .strpos, .startsWith, .endsWith, .contains, .nullif, .power, .arrayHas, .arrayHasAny,
      .arrayHasAll:
      2...2
    case .substr: 2...3
    case .replace: 3...3
    case .concat, .coalesce, .nullIfAny: 1...64
    }
  }
}

/// A pattern of LIKE: `%` is any text, `_` any one character, a backslash takes the next as it is.
struct LikePattern: Sendable {
  private enum Part: Hashable { case one(Unicode.Scalar), any, rest }
  private let parts: [Part]
  private let ignoresCase: Bool

  init(_ pattern: String, ignoresCase: Bool) {
    self.ignoresCase = ignoresCase
    var parts: [Part] = []
    var isEscaped = false
    for scalar in (ignoresCase ? pattern.lowercased() : pattern).unicodeScalars {
      switch scalar {
      case _ where isEscaped:
        parts.append(.one(scalar))
        isEscaped = false
      case "\\": isEscaped = true
      case "%": if parts.last != .rest { parts.append(.rest) }
      case "_": parts.append(.any)
      default: parts.append(.one(scalar))
      }
    }
    if isEscaped { parts.append(.one("\\")) }
    self.parts = parts
  }

  /// - Complexity: the product of both lengths at most; there is no exponential case.
  func matches(_ string: String) -> Bool {
    let text = Array((ignoresCase ? string.lowercased() : string).unicodeScalars)
    var (at, part) = (0, 0)
    var restart: (at: Int, part: Int)?
    while at < text.count {
      if part < parts.count {
        switch parts[part] {
        case .rest:
          restart = (at, part + 1)
          part += 1
          continue
        case .any:
          at += 1
          part += 1
          continue
        case .one(let scalar) where scalar == text[at]:
          at += 1
          part += 1
          continue
        case .one: break
        }
      }
      guard let last = restart else { return false }
      restart = (last.at + 1, last.part)
      (at, part) = (last.at + 1, last.part)
    }
    return parts[part...].allSatisfy { $0 == .rest }
  }
}
