/// A node of a predicate: of `WHERE`, or of a retriever's `where`.
package struct Expression: Hashable, Sendable {
  package indirect enum Kind: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case parameter(String)
    case list([Expression])
    case column(ColumnReference)
    case not(Expression)
    case negate(Expression)
    case binary(BinaryOperator, Expression, Expression)
    case isTest(Expression, IsTest, negated: Bool)
    /// The list is a `.list` or a `.parameter`.
    case isIn(Expression, list: Expression, negated: Bool)
    case like(Expression, pattern: Expression, ignoresCase: Bool, negated: Bool)
    case between(Expression, low: Expression, high: Expression, negated: Bool)
    /// The function's name is in lower case.
    case call(Name, [Expression])
    /// The type's name is in lower case.
    case cast(Expression, to: Name)
    /// `prebuilt('name', input_user_id=…)`: true for the rows that the filter leaves.
    case prebuilt(name: Expression, user: Expression?)
    /// `truncate(n)`: at most n candidates are scored.
    case truncate(Expression)
  }

  package enum IsTest: String, Hashable, Sendable, CaseIterable {
    case null = "NULL"
    case isTrue = "TRUE"
    case isFalse = "FALSE"
  }

  package enum BinaryOperator: String, Hashable, Sendable, CaseIterable {
    case or = "OR"
    case and = "AND"
    case equal = "="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case concatenate = "||"
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case remainder = "%"

    package var isComparison: Bool {
      switch self {
      case .equal, .notEqual, .less, .lessOrEqual, .greater, .greaterOrEqual: true
      default: false
      }
    }
    package var isArithmetic: Bool {
      switch self {
      case .add, .subtract, .multiply, .divide, .remainder: true
      default: false
      }
    }
  }

  package var kind: Kind
  package var span: SourceSpan
  package init(_ kind: Kind, _ span: SourceSpan = .none) {
    self.kind = kind
    self.span = span
  }

  /// The terms of a conjunction, in order; the expression itself where it is none.
  package var conjuncts: [Expression] {
    guard case .binary(.and, let left, let right) = kind else { return [self] }
    return left.conjuncts + right.conjuncts
  }
}

/// A node of a value expression: what `score(expression='…')` computes for each candidate.
package struct Formula: Hashable, Sendable {
  package indirect enum Kind: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    /// `$name`, `$params.name`.
    case parameter(String)
    /// A dotted name: `sasrec`, `item.price`, `user.recent_interactions`, `retrieval.recent_rank`.
    case name([Name])
    case not(Formula)
    case negate(Formula)
    case binary(Operator, Formula, Formula)
    /// `then if condition else otherwise`
    case conditional(then: Formula, condition: Formula, otherwise: Formula)
    /// A function by its dotted name in lower case, with positional and named arguments.
    case call(Name, [FormulaArgument])
  }

  package enum Operator: String, Hashable, Sendable, CaseIterable {
    case or, and
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case remainder = "%"
    case power = "**"
  }

  package var kind: Kind
  package var span: SourceSpan
  package init(_ kind: Kind, _ span: SourceSpan = .none) {
    self.kind = kind
    self.span = span
  }
}

/// An argument of a function in a value expression.
package struct FormulaArgument: Hashable, Sendable {
  package var name: Name?
  package var value: Formula
  package init(name: Name? = nil, value: Formula) {
    self.name = name
    self.value = value
  }
}
