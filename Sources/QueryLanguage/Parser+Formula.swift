import Domain

extension TextParser {
  /// Reads a value expression that is the whole of its text.
  mutating func wholeFormula() -> Formula? {
    do throws(Abort) {
      if peek.kind == .end, tokens.count == 1 {
        isBroken = true
        problems.add(
          "empty_expression", "The expression is empty.", source.span(0..<source.bytes.count),
          help: "Name a model, or write a formula: 0.7*sasrec + 0.3*popularity")
        return nil
      }
      let formula = try conditional()
      if peek.kind != .end { throw fail("an operator or the end of the expression") }
      return formula
    } catch {
      return nil
    }
  }

  private mutating func conditional() throws(Abort) -> Formula {
    try nested { parser throws(Abort) in
      let then = try parser.disjunctionFormula()
      guard parser.skip(word: "if") else { return then }
      let condition = try parser.disjunctionFormula()
      if !parser.skip(word: "else") {
        throw parser.fail("else", help: "Write `value if condition else other`.")
      }
      let otherwise = try parser.conditional()
      return Formula(
        .conditional(then: then, condition: condition, otherwise: otherwise),
        then.span.through(otherwise.span))
    }
  }

  private func joined(_ op: Formula.Operator, _ left: Formula, _ right: Formula) -> Formula {
    Formula(.binary(op, left, right), left.span.through(right.span))
  }

  private mutating func disjunctionFormula() throws(Abort) -> Formula {
    var left = try conjunctionFormula()
    while skip(word: "or") {
      try countOperator()
      left = joined(.or, left, try conjunctionFormula())
    }
    return left
  }

  private mutating func conjunctionFormula() throws(Abort) -> Formula {
    var left = try negationFormula()
    while skip(word: "and") {
      try countOperator()
      left = joined(.and, left, try negationFormula())
    }
    return left
  }

  private mutating func negationFormula() throws(Abort) -> Formula {
    let start = peek
    guard skip(word: "not") else { return try comparisonFormula() }
    let operand = try nested { parser throws(Abort) in try parser.negationFormula() }
    return Formula(.not(operand), span(start).through(operand.span))
  }

  private static func comparisonOperator(_ kind: TokenKind) -> Formula.Operator? {
    switch kind {
    case .equal: .equal
    case .notEqual: .notEqual
    case .less: .less
    case .lessOrEqual: .lessOrEqual
    case .greater: .greater
    case .greaterOrEqual: .greaterOrEqual
    default: nil
    }
  }

  private mutating func comparisonFormula() throws(Abort) -> Formula {
    let left = try sumFormula(0)
    guard let op = Self.comparisonOperator(peek.kind) else { return left }
    advance()
    let right = try sumFormula(0)
    if Self.comparisonOperator(peek.kind) != nil {
      isBroken = true
      problems.add(
        "chained_comparison", "Comparisons cannot be chained.", span(peek),
        help: "Write `a < b and b < c`.")
      throw Abort()
    }
    return joined(op, left, right)
  }

  private static func arithmeticOperator(
    _ kind: TokenKind
  ) -> (op: Formula.Operator, level: Int)? {
    switch kind {
    case .plus: (.add, 0)
    case .minus: (.subtract, 0)
    case .star: (.multiply, 1)
    case .slash: (.divide, 1)
    case .percent: (.remainder, 1)
    default: nil
    }
  }

  private mutating func sumFormula(_ level: Int) throws(Abort) -> Formula {
    var left = try unaryFormula()
    while let (op, opLevel) = Self.arithmeticOperator(peek.kind), opLevel >= level {
      advance()
      try countOperator()
      left = joined(op, left, try sumFormula(opLevel + 1))
    }
    return left
  }

  /// A sign binds weaker than `**`: `-x**2` is `-(x**2)`, and `2**-1` is read too.
  private mutating func unaryFormula() throws(Abort) -> Formula {
    let start = peek
    if skip(.minus) {
      let operand = try nested { parser throws(Abort) in try parser.unaryFormula() }
      return Formula(.negate(operand), span(start).through(operand.span))
    }
    if skip(.plus) { return try nested { parser throws(Abort) in try parser.unaryFormula() } }
    let base = try primaryFormula()
    guard skip(.power) else { return base }
    let exponent = try nested { parser throws(Abort) in try parser.unaryFormula() }
    return joined(.power, base, exponent)
  }

  private mutating func primaryFormula() throws(Abort) -> Formula {
    let token = peek
    switch token.kind {
    case .integer, .decimal:
      let value = try number(advance())
      return Formula(value.int.map { .int($0) } ?? .double(value.double), span(token))
    case .string:
      advance()
      let contents = Lexer.contents(of: token, in: source)
      if let parameter = TextParser.parameterName(contents.bytes[...]) {
        return Formula(.parameter(parameter), span(token))
      }
      return Formula(.string(String(decoding: contents.bytes, as: UTF8.self)), span(token))
    case .parameter:
      advance()
      return Formula(.parameter(parameterName(token)), span(token))
    case .leftParenthesis:
      advance()
      let inner = try conditional()
      try expect(.rightParenthesis, "`)`")
      return Formula(inner.kind, span(since: token))
    case .identifier, .quotedIdentifier:
      if skip(word: "true") { return Formula(.bool(true), span(token)) }
      if skip(word: "false") { return Formula(.bool(false), span(token)) }
      if skip(word: "none") || skip(word: "null") { return Formula(.null, span(token)) }
      return try nameOrCall()
    default: throw fail("a name, a number or `(`")
    }
  }

  private func isFormulaKeyword(_ token: Token) -> Bool {
    isWord(token, "and") || isWord(token, "or") || isWord(token, "not") || isWord(token, "if")
      || isWord(token, "else")
  }

  private mutating func nameOrCall() throws(Abort) -> Formula {
    let start = peek
    var parts: [Name] = []
    repeat {
      let token = peek
      guard
        token.kind == .quotedIdentifier || (token.kind == .identifier && !isFormulaKeyword(token))
      else { throw fail("a name") }
      advance()
      parts.append(Name(text(token), span(token)))
    } while skip(.dot)
    guard peek.kind == .leftParenthesis else {
      return Formula(.name(parts), span(since: start))
    }
    let name = Name(
      parts.map { $0.text.lowercased() }.joined(separator: "."), span(since: start))
    advance()
    var arguments: [FormulaArgument] = []
    while peek.kind != .rightParenthesis {
      let token = peek
      var label: Name?
      // `=` alone names an argument; `==` compares.
      if token.kind == .identifier, self.token(ahead: 1).kind == .equal,
        self.token(ahead: 1).range.count == 1
      {
        advance()
        advance()
        label = Name(text(token).lowercased(), span(token))
      }
      arguments.append(FormulaArgument(name: label, value: try conditional()))
      if !skip(.comma) { break }
    }
    try expect(.rightParenthesis, "`)` or `,`")
    return Formula(.call(name, arguments), span(since: start))
  }
}
