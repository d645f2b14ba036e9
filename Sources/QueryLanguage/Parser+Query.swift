import Domain

extension TextParser {
  private static let clauses = [
    "FROM", "WHERE", "ORDER BY", "REORDER BY", "LIMIT", "OFFSET", "AS OF",
  ]

  /// Reads a whole query and goes on after each problem.
  mutating func query() -> Query {
    let first = peek
    var query = Query(select: [])
    if skip(word: "select") {
      if isNext("distinct") {
        unsupported("SELECT DISTINCT is not supported: an answer never holds an item twice.")
        advance()
      }
      query.select = list { parser throws(Abort) in try parser.selectItem() }
    } else if isNext("with") {
      unsupported("Common table expressions (WITH) are not supported.")
      toClause()
    } else {
      _ = fail(
        "SELECT",
        help: nearestName(to: text(peek), among: ["SELECT"]).map { "Did you mean \($0)?" }
          ?? "A query opens with SELECT: SELECT * FROM items LIMIT 10")
      toClause()
    }
    clauses(of: &query)
    query.span = span(first).through(span(peek))
    return query
  }

  /// Reads the clauses after `SELECT …` to the end of the text.
  mutating func clauses(of query: inout Query) {
    var seen: Set<String> = []
    while peek.kind != .end {
      let start = peek
      let clause = clauseName()
      if let clause, !seen.insert(clause).inserted {
        isBroken = true
        problems.add("duplicate_clause", "\(clause) stands twice.", span(start))
      }
      do throws(Abort) {
        switch clause {
        case "FROM":
          advance()
          query.from = try from()
        case "WHERE":
          advance()
          query.predicate = try predicate()
        case "ORDER BY":
          advance()
          advance()
          query.order = list { parser throws(Abort) in try parser.orderTerm() }
        case "REORDER BY":
          advance()
          advance()
          query.reorder = list { parser throws(Abort) in try parser.call([.reranker]) }
        case "LIMIT":
          advance()
          query.limit = try count("LIMIT")
        case "OFFSET":
          advance()
          query.offset = try count("OFFSET")
        case "AS OF":
          query.asOf = try asOf()
        default:
          if peek.kind == .semicolon {
            advance()
            if peek.kind != .end {
              isBroken = true
              problems.add(
                "several_statements", "A query is one statement; this text goes on after it.",
                span(peek), help: "Send each statement in a request of its own.")
              at = tokens.count - 1
            }
          } else {
            throw unexpected()
          }
        }
      } catch {
        toClause()
      }
    }
  }

  /// The clause that opens here, or nil.
  func clauseName() -> String? {
    if isNext("from") { return "FROM" }
    if isNext("where") { return "WHERE" }
    if isNext("order"), isWord(token(ahead: 1), "by") { return "ORDER BY" }
    if isNext("reorder"), isWord(token(ahead: 1), "by") { return "REORDER BY" }
    if isNext("limit") { return "LIMIT" }
    if isNext("offset") { return "OFFSET" }
    if isAsOf { return "AS OF" }
    return nil
  }

  /// Skips to the next clause. Always moves on unless a clause opens here.
  mutating func toClause() {
    while peek.kind != .end, peek.kind != .semicolon {
      // `limit=` and `where=` are arguments.
      if clauseName() != nil, token(ahead: 1).kind != .equal { return }
      advance()
    }
  }

  mutating func unexpected() -> Abort {
    let token = peek
    if isNext("join") || isNext("inner") || isNext("left") || isNext("cross") {
      unsupported("JOINs are not supported: the engine's tables are joined when it is set up.")
    } else if isNext("group") {
      unsupported("GROUP BY is not supported.")
    } else if isNext("having") {
      unsupported("HAVING is not supported.")
    } else if isNext("union") || isNext("intersect") || isNext("except") {
      unsupported(
        "Set operations are not supported. Several retrievers in FROM are united already.")
    } else {
      let near =
        token.kind == .identifier
        ? nearestName(to: text(token), among: ["WHERE", "ORDER", "REORDER", "LIMIT", "OFFSET"])
        : nil
      let nearClause = near.map { $0.hasSuffix("ORDER") ? $0 + " BY" : $0 }
      isBroken = true
      problems.add(
        "unexpected_token", "Expected a clause or the end, found \(quoted(token)).", span(token),
        label: nearClause.map { "did you mean `\($0)`?" } ?? "",
        help: "Clauses: \(Self.clauses.joined(separator: ", ")).")
    }
    advance()
    return Abort()
  }

  mutating func unsupported(_ message: String) {
    isBroken = true
    problems.add("not_supported", message, span(peek))
  }

  /// Elements between commas, to the end of the clause. A bad element is left out.
  mutating func list<Element>(
    _ element: (inout TextParser) throws(Abort) -> Element
  ) -> [Element] {
    var out: [Element] = []
    repeat {
      // A trailing comma before the next clause.
      if !out.isEmpty, clauseName() != nil { break }
      do throws(Abort) {
        out.append(try element(&self))
      } catch {
        toCommaOrClause()
      }
    } while skip(.comma)
    return out
  }

  /// Skips to the next comma of this list, or to the next clause, or before the bracket that closes.
  mutating func toCommaOrClause() {
    var open = 0
    while peek.kind != .end {
      switch peek.kind {
      case .leftParenthesis, .leftBracket: open += 1
      case .rightParenthesis, .rightBracket:
        if open == 0 { return }
        open -= 1
      case .comma where open == 0: return
      case .semicolon: return
      default:
        if clauseName() != nil, token(ahead: 1).kind != .equal { return }
      }
      advance()
    }
  }

  // MARK: SELECT

  private mutating func selectItem() throws(Abort) -> SelectItem {
    let token = peek
    if skip(.star) { return .all(span(token)) }
    if token.kind == .identifier, self.token(ahead: 1).kind == .leftParenthesis {
      let call = try call([.score, .reranker, .computed, .output])
      return .call(call, alias: try alias())
    }
    let reference = try columnReference()
    return .column(reference, alias: try alias())
  }

  mutating func alias() throws(Abort) -> Name? {
    !isAsOf && skip(word: "as") ? try name("an alias") : nil
  }

  // MARK: FROM

  mutating func from() throws(Abort) -> From {
    let token = peek
    if token.kind == .leftParenthesis {
      unsupported("Sub-queries are not supported.")
      throw Abort()
    }
    guard token.kind == .identifier else {
      throw fail("retrievers or `items`", help: "For example: FROM similarity(...)")
    }
    if self.token(ahead: 1).kind == .leftParenthesis {
      if isNext("retrieve") { return .retrievers(try retrieve()) }
      return .retrievers(list { parser throws(Abort) in try parser.call([.retriever]) })
    }
    if self.token(ahead: 1).kind == .dot {
      advance()
      advance()
      if isWord(token, "data") || isWord(token, "view") {
        return .table(
          namespace: Name(text(token).lowercased(), span(token)), name: try name("a table"))
      }
      if isWord(token, "engine") {
        let engine = try name("an engine")
        try expect(.dot, "`.`")
        if isNext("retrieve"), self.token(ahead: 1).kind == .leftParenthesis {
          return .engine(name: engine, .retrievers(try retrieve()))
        }
        return .engine(name: engine, .entity(try entity(["items", "users", "interactions"])))
      }
      isBroken = true
      problems.add(
        "unknown_source", "Unknown source: '\(text(token))'.", span(token),
        help: "Before the dot stands data, view or engine.")
      throw Abort()
    }
    if takesBareTables { return .table(namespace: Name("data"), name: try name("a table")) }
    return .entity(try entity(["items", "item", "users", "user"]))
  }

  private mutating func entity(_ known: [String]) throws(Abort) -> Name {
    let token = peek
    let name = try name("an entity")
    let lower = name.text.lowercased()
    if known.contains(lower) { return Name(lower, name.span) }
    let near = nearestName(to: lower, among: known + CallSignature.names(.retriever))
    isBroken = true
    problems.add(
      "unknown_source", "Unknown source: '\(name.text)'.", span(token),
      label: near.map { "did you mean `\($0)`?" } ?? "",
      help: "FROM takes \(known.joined(separator: ", ")), or retrievers: FROM similarity(...).")
    throw Abort()
  }

  private mutating func retrieve() throws(Abort) -> [Call] {
    advance()
    advance()
    var calls: [Call] = []
    while peek.kind != .rightParenthesis, peek.kind != .end {
      do throws(Abort) {
        calls.append(try call([.retriever]))
      } catch {
        toCommaOrClause()
      }
      if !skip(.comma) { break }
    }
    try expect(.rightParenthesis, "`)` or `,`")
    return calls
  }

  // MARK: ORDER BY, LIMIT

  private mutating func orderTerm() throws(Abort) -> OrderTerm {
    let token = peek
    let key: OrderTerm.Key
    if token.kind == .identifier, self.token(ahead: 1).kind == .leftParenthesis {
      key = .call(try call([.score, .reranker]))
    } else {
      key = .name(try columnReference())
    }
    let direction = sortDirection()
    let nulls = try nullsFirst()
    return OrderTerm(key: key, isDescending: direction, nullsFirst: nulls)
  }

  mutating func sortDirection() -> Bool? {
    if skip(word: "desc") { return true }
    return skip(word: "asc") ? false : nil
  }

  mutating func nullsFirst() throws(Abort) -> Bool {
    guard skip(word: "nulls") else { return false }
    if skip(word: "first") { return true }
    if skip(word: "last") { return false }
    throw fail("FIRST or LAST")
  }

  mutating func count(_ clause: String) throws(Abort) -> Argument {
    let value = try argumentValue()
    switch value.kind {
    case .int, .parameter: return value
    case .string(let text):
      if let number = Int64(text) { return Argument(.int(number), value.span) }
    default: break
    }
    isBroken = true
    problems.add(
      "not_a_count", "\(clause) takes a whole number or a parameter.", value.span,
      help: "For example: \(clause) 20, or \(clause) $page_size")
    return value
  }

  // MARK: Calls

  /// Reads a call and checks its name and arguments against what the function may be given.
  mutating func call(_ roles: [CallSignature.Role]) throws(Abort) -> Call {
    try nested { parser throws(Abort) in try parser.callBody(roles) }
  }

  private mutating func callBody(_ roles: [CallSignature.Role]) throws(Abort) -> Call {
    let start = peek
    let written = try name(roles == [.retriever] ? "a retriever" : "a function")
    let name = Name(CallSignature.canonicalName(written.text.lowercased()), written.span)
    try expect(.leftParenthesis, "`(`")
    let found = CallSignature.named(name.text)
    let signature = found.flatMap { roles.contains($0.role) ? $0 : nil }
    if signature == nil { unknownFunction(written, roles, found) }
    var call = Call(name: name)
    while peek.kind != .rightParenthesis, peek.kind != .end {
      do throws(Abort) {
        call.arguments.append(try argument(of: call, signature))
      } catch {
        toCommaOrClause()
      }
      if !skip(.comma) { break }
    }
    let close = peek
    if !skip(.rightParenthesis) { throw fail("`)` or `,`") }
    call.span = span(start).through(span(close))
    if let signature { checkRequired(call, signature) }
    return call
  }

  private mutating func unknownFunction(
    _ name: Name, _ roles: [CallSignature.Role], _ found: CallSignature?
  ) {
    let supported = roles.flatMap(CallSignature.names)
    let near = nearestName(to: name.text, among: supported)
    let kind =
      roles == [.retriever] ? "retriever function" : roles == [.reranker] ? "re-ranker" : "function"
    if let found {
      let place =
        switch found.role {
        case .retriever: "in FROM"
        case .score, .reranker: "in SELECT and ORDER BY"
        case .computed, .output: "in SELECT"
        case .encoder: "after `encoder=`"
        case .mode: "after `mode=`"
        }
      problems.add(
        "misplaced_function", "'\(name.text)' cannot stand here; it belongs \(place).", name.span)
      return
    }
    problems.add(
      "unknown_function",
      "Unknown \(kind): '\(name.text)'. Supported: \(supported.joined(separator: ", "))."
        + (near.map { " Did you mean: \($0)?" } ?? ""), name.span)
  }

  private mutating func checkRequired(_ call: Call, _ signature: CallSignature) {
    let missing = signature.required.filter { required in
      !call.arguments.contains { $0.name?.text == required }
    }
    guard !missing.isEmpty, !isBroken else { return }
    problems.add(
      "missing_argument",
      "\(call.name.text)() needs \(missing.map { "`\($0)`" }.joined(separator: " and ")).",
      call.name.span, help: "Arguments: \(signature.parameters.joined(separator: ", ")).")
  }

  private mutating func argument(
    of call: Call, _ signature: CallSignature?
  ) throws(Abort) -> CallArgument {
    let token = peek
    var name: Name?
    if token.kind == .identifier, self.token(ahead: 1).kind == .equal {
      advance()
      advance()
      name = Name(text(token).lowercased(), span(token))
    }
    if let signature {
      if let name {
        if !signature.parameters.contains(name.text) {
          let near = nearestName(to: name.text, among: signature.parameters)
          problems.add(
            "unknown_argument", "\(call.name.text)() has no argument `\(name.text)`.", name.span,
            label: near.map { "did you mean `\($0)`?" } ?? "",
            help: "Arguments: \(signature.parameters.joined(separator: ", ")).")
        } else if call.arguments.contains(where: { $0.name?.text == name.text }) {
          problems.add(
            "duplicate_argument", "`\(name.text)` is given twice.", name.span)
        }
      } else if let positional = signature.positional, call.arguments.isEmpty {
        name = Name(positional, span(token))
      } else {
        problems.add(
          "unnamed_argument", "This argument of \(call.name.text)() needs its name.", span(token),
          help: "Write `name=value`; names: \(signature.parameters.joined(separator: ", ")).")
      }
    }
    let value: Argument =
      switch (signature?.role, name?.text) {
      case (.score, "expression"), (.computed, "expression"): try formulaArgument()
      case (.retriever, "where"): try predicateArgument()
      case (.retriever, "columns"), (.reranker, "columns"): try columnsArgument()
      default: try argumentValue()
      }
    return CallArgument(name: name, value: value)
  }

  /// The string of an argument that is itself a text to read.
  private mutating func textArgument(_ what: String) throws(Abort) -> Token {
    let token = peek
    if token.kind == .parameter
      || (token.kind == .string
        && TextParser.parameterName(Lexer.contents(of: token, in: source).bytes[...]) != nil)
    {
      advance()
      isBroken = true
      problems.add(
        "parameter_as_text", "\(what) cannot come from a parameter: parameters are values.",
        span(token), help: "Write it out, and use parameters for the values in it.")
      throw Abort()
    }
    guard token.kind == .string else { throw fail("\(what.lowercased()) between quotes") }
    advance()
    return token
  }

  private mutating func formulaArgument() throws(Abort) -> Argument {
    let token = try textArgument("The expression")
    guard let formula = embedded(token, allowsComments: false, { $0.wholeFormula() }) else {
      throw Abort()
    }
    return Argument(.formula(formula), span(token))
  }

  private mutating func predicateArgument() throws(Abort) -> Argument {
    let token = try textArgument("The condition")
    guard let predicate = embedded(token, allowsComments: true, { $0.wholePredicate() }) else {
      throw Abort()
    }
    return Argument(.predicate(predicate), span(token))
  }

  private mutating func columnsArgument() throws(Abort) -> Argument {
    let token = try textArgument("The list of columns")
    guard let columns = embedded(token, allowsComments: true, { $0.wholeColumns() }) else {
      throw Abort()
    }
    return Argument(.columns(columns), span(token))
  }

  private mutating func wholeColumns() -> [SortColumn]? {
    do throws(Abort) {
      var out: [SortColumn] = []
      repeat {
        if !out.isEmpty, peek.kind == .end { break }
        let column = try columnReference()
        let direction = sortDirection()
        out.append(
          SortColumn(
            column: column, isDescending: direction ?? false, nullsFirst: try nullsFirst()))
      } while skip(.comma)
      if peek.kind != .end { throw fail("`,`, ASC or DESC") }
      return out
    } catch {
      return nil
    }
  }

  /// A value: a literal, a parameter, a list, a bare word, or a call.
  mutating func argumentValue() throws(Abort) -> Argument {
    let token = peek
    switch token.kind {
    case .string:
      advance()
      let contents = Lexer.contents(of: token, in: source)
      if let parameter = TextParser.parameterName(contents.bytes[...]) {
        return Argument(.parameter(parameter), span(token))
      }
      return Argument(.string(String(decoding: contents.bytes, as: UTF8.self)), span(token))
    case .parameter:
      advance()
      return Argument(.parameter(parameterName(token)), span(token))
    case .integer, .decimal: return try signedNumber(from: token, negated: false)
    case .minus, .plus:
      advance()
      guard peek.kind == .integer || peek.kind == .decimal else { throw fail("a number") }
      return try signedNumber(from: token, negated: token.kind == .minus)
    case .leftBracket:
      return try nested { parser throws(Abort) in
        parser.advance()
        var elements: [Argument] = []
        while parser.peek.kind != .rightBracket {
          elements.append(try parser.argumentValue())
          if !parser.skip(.comma) { break }
        }
        try parser.expect(.rightBracket, "`]` or `,`")
        return Argument(.list(elements), parser.span(since: token))
      }
    case .leftBrace: return try object()
    case .identifier:
      if skip(word: "true") { return Argument(.bool(true), span(token)) }
      if skip(word: "false") { return Argument(.bool(false), span(token)) }
      if skip(word: "null") { return Argument(.null, span(token)) }
      if self.token(ahead: 1).kind == .leftParenthesis {
        let call = try call([.retriever, .encoder, .mode])
        return Argument(.call(call), call.span)
      }
      let word = try name("a value")
      return Argument(.name(word.text), word.span)
    case .quotedIdentifier:
      let word = try name("a value")
      return Argument(.name(word.text), word.span)
    default: throw fail("a value")
    }
  }

  private mutating func object() throws(Abort) -> Argument {
    try nested { parser throws(Abort) in
      let start = parser.advance()
      var members: [ObjectMember] = []
      while parser.peek.kind != .rightBrace {
        let key = parser.peek
        guard [.string, .identifier, .quotedIdentifier].contains(key.kind) else {
          throw parser.fail("a name")
        }
        parser.advance()
        try parser.expect(.colon, "`:`")
        members.append(ObjectMember(name: parser.text(key), value: try parser.argumentValue()))
        if !parser.skip(.comma) { break }
      }
      try parser.expect(.rightBrace, "`}` or `,`")
      return Argument(.object(members), parser.span(since: start))
    }
  }

  private mutating func signedNumber(
    from start: Token, negated: Bool
  ) throws(Abort) -> Argument {
    let value = try number(advance())
    let place = span(since: start)
    if let int = value.int { return Argument(.int(negated ? -int : int), place) }
    return Argument(.double(negated ? -value.double : value.double), place)
  }
}
