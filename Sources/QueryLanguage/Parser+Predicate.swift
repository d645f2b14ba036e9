import Domain

extension TextParser {
  /// Reads a predicate that is the whole of its text.
  mutating func wholePredicate() -> Expression? {
    do throws(Abort) {
      let expression = try predicate()
      if peek.kind != .end { throw fail("AND, OR or the end of the condition") }
      return expression
    } catch {
      return nil
    }
  }

  /// Reads a predicate and goes on after a bad term of it.
  mutating func predicate() throws(Abort) -> Expression {
    try nested { parser throws(Abort) in try parser.disjunction() }
  }

  private mutating func disjunction() throws(Abort) -> Expression {
    var left = try conjunction()
    while skip(word: "or") {
      try countOperator()
      let right = try conjunction()
      left = Expression(.binary(.or, left, right), left.span.through(right.span))
    }
    return left
  }

  private mutating func conjunction() throws(Abort) -> Expression {
    var left = term()
    while skip(word: "and") {
      try countOperator()
      let right = term()
      left = Expression(.binary(.and, left, right), left.span.through(right.span))
    }
    return left
  }

  /// One term of AND and OR. After a problem the rest of the term is skipped, so that problems of later
  /// terms are found too.
  private mutating func term() -> Expression {
    let start = peek
    do throws(Abort) {
      return try negation()
    } catch {
      var open = 0
      skipping: while peek.kind != .end, peek.kind != .semicolon {
        switch peek.kind {
        case .leftParenthesis, .leftBracket: open += 1
        case .rightParenthesis, .rightBracket:
          if open == 0 { break skipping }
          open -= 1
        default:
          if open == 0, isNext("and") || isNext("or") { break skipping }
          if isNext("order") || isNext("reorder") || isNext("limit") || isNext("offset") {
            break skipping
          }
        }
        advance()
      }
      return Expression(.null, span(start))
    }
  }

  private mutating func negation() throws(Abort) -> Expression {
    let start = peek
    guard skip(word: "not") else { return try comparison() }
    let operand = try nested { parser throws(Abort) in try parser.negation() }
    return Expression(.not(operand), span(start).through(operand.span))
  }

  private static func comparison(_ kind: TokenKind) -> Expression.BinaryOperator? {
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

  private mutating func comparison() throws(Abort) -> Expression {
    var left = try sum(0)
    // Postfix tests may follow each other: `a IN (…) IS NULL`.
    while true {
      if let op = Self.comparison(peek.kind) {
        advance()
        try countOperator()
        let right = try sum(0)
        left = Expression(.binary(op, left, right), left.span.through(right.span))
        continue
      }
      if skip(word: "is") {
        try countOperator()
        let negated = skip(word: "not")
        let test: Expression.IsTest
        if skip(word: "null") {
          test = .null
        } else if skip(word: "true") {
          test = .isTrue
        } else if skip(word: "false") {
          test = .isFalse
        } else {
          throw fail("NULL, TRUE or FALSE")
        }
        left = postfix(left, .isTest(left, test, negated: negated))
        continue
      }
      let negated =
        isNext("not")
        && ["in", "like", "ilike", "between"].contains(text(token(ahead: 1)).lowercased())
      if negated { advance() }
      if skip(word: "in") {
        try countOperator()
        let list = try inList()
        left = postfix(left, .isIn(left, list: list, negated: negated))
      } else if isNext("like") || isNext("ilike") {
        let ignoresCase = isNext("ilike")
        advance()
        try countOperator()
        let pattern = try sum(0)
        left = postfix(
          left, .like(left, pattern: pattern, ignoresCase: ignoresCase, negated: negated))
      } else if skip(word: "between") {
        try countOperator()
        let low = try sum(0)
        if !skip(word: "and") { throw fail("AND", help: "BETWEEN low AND high") }
        let high = try sum(0)
        left = postfix(left, .between(left, low: low, high: high, negated: negated))
      } else {
        return left
      }
    }
  }

  private func postfix(_ operand: Expression, _ kind: Expression.Kind) -> Expression {
    Expression(kind, operand.span.through(span(tokens[max(0, at - 1)])))
  }

  private mutating func inList() throws(Abort) -> Expression {
    let start = peek
    switch start.kind {
    case .leftParenthesis, .leftBracket:
      return try nested { parser throws(Abort) in
        if parser.isWord(parser.token(ahead: 1), "select") {
          parser.isBroken = true
          parser.problems.add(
            "not_supported", "Sub-queries are not supported.", parser.span(parser.peek))
          throw Abort()
        }
        let elements = try parser.elements()
        // `IN (['a', 'b'])` and `IN ($list)` mean the list itself.
        if start.kind == .leftParenthesis, elements.count == 1, let only = elements.first {
          switch only.kind {
          case .list, .parameter: return only
          default: break
          }
        }
        return Expression(.list(elements), parser.span(since: start))
      }
    case .parameter, .string:
      let value = try primary()
      if case .parameter = value.kind { return value }
      at -= 1
      throw fail("a list", help: "IN takes a list: IN ('a', 'b'), IN ['a', 'b'] or IN $ids.")
    default:
      throw fail("a list", help: "IN takes a list: IN ('a', 'b'), IN ['a', 'b'] or IN $ids.")
    }
  }

  /// The elements between two brackets.
  private mutating func elements() throws(Abort) -> [Expression] {
    let close: TokenKind = peek.kind == .leftBracket ? .rightBracket : .rightParenthesis
    advance()
    var out: [Expression] = []
    while peek.kind != close {
      out.append(try disjunction())
      if !skip(.comma) { break }
    }
    try expect(close, close == .rightBracket ? "`]` or `,`" : "`)` or `,`")
    return out
  }

  private static func arithmetic(
    _ kind: TokenKind
  ) -> (op: Expression.BinaryOperator, level: Int)? {
    switch kind {
    case .concatenate: (.concatenate, 0)
    case .plus: (.add, 1)
    case .minus: (.subtract, 1)
    case .star: (.multiply, 2)
    case .slash: (.divide, 2)
    case .percent: (.remainder, 2)
    default: nil
    }
  }

  /// `||`, then `+ -`, then `* / %`, each from the left.
  private mutating func sum(_ level: Int) throws(Abort) -> Expression {
    var left = try unary()
    while let (op, opLevel) = Self.arithmetic(peek.kind), opLevel >= level {
      advance()
      try countOperator()
      let right = try sum(opLevel + 1)
      left = Expression(.binary(op, left, right), left.span.through(right.span))
    }
    return left
  }

  private mutating func unary() throws(Abort) -> Expression {
    let start = peek
    if skip(.minus) {
      let operand = try nested { parser throws(Abort) in try parser.unary() }
      return Expression(.negate(operand), span(start).through(operand.span))
    }
    if skip(.plus) { return try nested { parser throws(Abort) in try parser.unary() } }
    return try primary()
  }

  private mutating func primary() throws(Abort) -> Expression {
    let token = peek
    switch token.kind {
    case .string:
      advance()
      let contents = Lexer.contents(of: token, in: source)
      if let parameter = TextParser.parameterName(contents.bytes[...]) {
        return Expression(.parameter(parameter), span(token))
      }
      return Expression(.string(String(decoding: contents.bytes, as: UTF8.self)), span(token))
    case .parameter:
      advance()
      return Expression(.parameter(parameterName(token)), span(token))
    case .integer, .decimal:
      let value = try number(advance())
      return Expression(value.int.map { .int($0) } ?? .double(value.double), span(token))
    case .leftBracket:
      return try nested { parser throws(Abort) in
        let elements = try parser.elements()
        return Expression(.list(elements), parser.span(since: token))
      }
    case .leftParenthesis:
      return try nested { parser throws(Abort) in
        parser.advance()
        if parser.isNext("select") {
          parser.isBroken = true
          parser.problems.add(
            "not_supported", "Sub-queries are not supported.", parser.span(parser.peek))
          throw Abort()
        }
        let inner = try parser.disjunction()
        try parser.expect(.rightParenthesis, "`)`")
        return Expression(inner.kind, parser.span(since: token))
      }
    case .identifier:
      if skip(word: "true") { return Expression(.bool(true), span(token)) }
      if skip(word: "false") { return Expression(.bool(false), span(token)) }
      if skip(word: "null") { return Expression(.null, span(token)) }
      if isNext("case") {
        isBroken = true
        problems.add(
          "not_supported", "CASE is not supported in a condition.", span(token),
          help: "Write it with AND, OR and COALESCE.")
        throw Abort()
      }
      if self.token(ahead: 1).kind == .leftParenthesis { return try function() }
      if isReserved(token) { throw fail("a column or a value") }
      let reference = try columnReference()
      return Expression(.column(reference), reference.span)
    case .quotedIdentifier:
      let reference = try columnReference()
      return Expression(.column(reference), reference.span)
    default: throw fail("a column or a value")
    }
  }

  private mutating func function() throws(Abort) -> Expression {
    try nested { parser throws(Abort) in
      let start = parser.advance()
      let name = Name(parser.text(start).lowercased(), parser.span(start))
      switch name.text {
      case "cast":
        parser.advance()
        let operand = try parser.disjunction()
        if !parser.skip(word: "as") { throw parser.fail("AS", help: "CAST(price AS DOUBLE)") }
        let type = try parser.name("a type")
        try parser.expect(.rightParenthesis, "`)`")
        return Expression(
          .cast(operand, to: Name(type.text.lowercased(), type.span)), parser.span(since: start))
      case "prebuilt": return try parser.prebuilt(start)
      case "truncate":
        let arguments = try parser.elements()
        guard arguments.count == 1, let count = arguments.first else {
          parser.isBroken = true
          parser.problems.add(
            "wrong_argument_count", "truncate() takes one number.", parser.span(since: start))
          throw Abort()
        }
        return Expression(.truncate(count), parser.span(since: start))
      default:
        let arguments = try parser.elements()
        return Expression(.call(name, arguments), parser.span(since: start))
      }
    }
  }

  private mutating func prebuilt(_ start: Token) throws(Abort) -> Expression {
    advance()
    var name: Expression?
    var user: Expression?
    while peek.kind != .rightParenthesis, peek.kind != .end {
      let token = peek
      if token.kind == .identifier, self.token(ahead: 1).kind == .equal {
        advance()
        advance()
        switch text(token).lowercased() {
        case "input_user_id": user = try unary()
        case "name", "filter_ref": name = try unary()
        default:
          let near = nearestName(to: text(token), among: ["input_user_id"])
          problems.add(
            "unknown_argument", "prebuilt() has no argument `\(text(token))`.", span(token),
            label: near.map { "did you mean `\($0)`?" } ?? "",
            help: "prebuilt('filter', input_user_id=$user_id)")
          _ = try unary()
        }
      } else if name == nil {
        name = try unary()
      } else {
        throw fail("input_user_id=…", help: "prebuilt('filter', input_user_id=$user_id)")
      }
      if !skip(.comma) { break }
    }
    try expect(.rightParenthesis, "`)` or `,`")
    guard let name else {
      problems.add(
        "missing_argument", "prebuilt() needs the name of a filter.", span(since: start),
        help: "prebuilt('filter', input_user_id=$user_id)")
      throw Abort()
    }
    return Expression(.prebuilt(name: name, user: user), span(since: start))
  }
}
