package import Domain

/// A statement and what is wrong with its text.
package struct ParsedStatement: Sendable {
  package var statement: Statement
  package var problems: [Diagnostic]
  /// Whether the tree holds all of the text.
  package var isWhole: Bool
}

extension Parser {
  /// More statements in one request are refused.
  package static let mostStatements = 16

  /// Parses the statements of a request, which semicolons part. Places are those of the whole text.
  ///
  /// - Returns: at least one statement.
  /// - Complexity: linear in the length of the text.
  package static func script(_ text: String) -> [ParsedStatement] {
    func refused(_ problems: [Diagnostic]) -> [ParsedStatement] {
      [ParsedStatement(statement: .query(Query(select: [])), problems: problems, isWhole: false)]
    }
    guard text.utf8.count <= mostBytes else { return refused(parse(text).problems) }
    let bytes = Array(text.utf8)
    var ignored = Problems(text: text)
    let whole = EmbeddedText(bytes: bytes, base: 0, places: nil)
    let tokens = Lexer(whole, allowsComments: true, problems: &ignored).tokens
    var ranges: [Range<Int>] = []
    var start = 0
    var isEmpty = true
    for token in tokens {
      if token.kind == .semicolon || token.kind == .end {
        if !isEmpty { ranges.append(start..<Int(token.lower)) }
        start = Int(token.upper)
        isEmpty = true
      } else {
        isEmpty = false
      }
    }
    if ranges.isEmpty { return refused(parse(text).problems) }
    if ranges.count > mostStatements {
      return refused([
        Diagnostic(
          code: "too_many_statements",
          "A request holds at most \(mostStatements) statements; this one has \(ranges.count).",
          help: "Send the others in a further request.")
      ])
    }
    return ranges.map { range in
      let source = EmbeddedText(bytes: Array(bytes[range]), base: range.lowerBound, places: nil)
      var parser = TextParser(source, allowsComments: true, problems: Problems(text: text))
      let statement = parser.statement()
      return ParsedStatement(
        statement: statement, problems: parser.problems.all, isWhole: !parser.isBroken)
    }
  }
}

extension Parser {
  /// Parses a query over one table, which `FROM` names with or without `data.` before it.
  package static func tableQuery(_ text: String) throws(Diagnostics) -> DataQuery {
    if text.utf8.count > mostBytes { throw Diagnostics(parse(text).problems) }
    var bytes = Array(text.utf8)
    while let last = bytes.last, last == UInt8(ascii: ";") || last <= UInt8(ascii: " ") {
      bytes.removeLast()
    }
    let source = EmbeddedText(bytes: bytes, base: 0, places: nil)
    var parser = TextParser(source, allowsComments: true, problems: Problems(text: text))
    if let token = parser.tokens.first(where: { $0.kind == .semicolon }) {
      parser.problems.add("not_supported", "One statement stands here.", parser.span(token))
      throw Diagnostics(parser.problems.all)
    }
    parser.takesBareTables = true
    let query = parser.tableQuery()
    if !parser.problems.all.isEmpty { throw Diagnostics(parser.problems.all) }
    return query
  }
}

extension TextParser {
  fileprivate mutating func tableQuery() -> DataQuery { dataQuery() }

  /// Reads one statement to the end of its text.
  mutating func statement() -> Statement {
    if isNext("explain") { return explain() }
    if isNext("recommend") { return .query(recommend()) }
    return isDataQuery ? .data(dataQuery()) : .query(query())
  }

  private mutating func explain() -> Statement {
    advance()
    var what = Statement.Explained.plan
    if skip(word: "analyze") || skip(word: "analyse") {
      what = .analysis
    } else if skip(word: "influence") {
      what = .influence
    } else if isNext("why") {
      advance()
      do throws(Abort) {
        guard skip(word: "not") else {
          throw fail("NOT", help: "EXPLAIN WHY NOT item 'x' SELECT …")
        }
        if !skip(word: "item") { _ = skip(word: "user") }
        what = .whyNot(try argumentValue())
      } catch {
        while peek.kind != .end, !isNext("select"), !isNext("recommend") { advance() }
      }
    }
    if isNext("recommend") { return .explain(what, recommend()) }
    if isDataQuery {
      unsupported("EXPLAIN tells of queries that rank; this one reads a table.")
      at = tokens.count - 1
      return .explain(what, Query(select: []))
    }
    return .explain(what, query())
  }

  /// `RECOMMEND FOR HISTORY ('a', 'b') | FOR USER 'u' [USING embedding] …`: short for a similarity
  /// search. The items of a given history are not recommended again.
  private mutating func recommend() -> Query {
    let start = advance()
    var call = Call(name: Name("similarity"))
    var given: Argument?
    func set(_ name: String, _ kind: Argument.Kind, _ span: SourceSpan) {
      call.arguments.append(CallArgument(name: Name(name, span), value: Argument(kind, span)))
    }
    do throws(Abort) {
      guard skip(word: "for") else { throw fail("FOR HISTORY or FOR USER") }
      if skip(word: "history") {
        let token = peek
        let items: Argument
        if skip(.leftParenthesis) {
          var elements: [Argument] = []
          while peek.kind != .rightParenthesis {
            elements.append(try argumentValue())
            if !skip(.comma) { break }
          }
          try expect(.rightParenthesis, "`)` or `,`")
          items = Argument(.list(elements), span(since: token))
        } else {
          items = try argumentValue()
        }
        given = items
        set("encoder", .string("session"), items.span)
        set("input_interactions_item_ids", items.kind, items.span)
      } else if skip(word: "user") {
        let user = try argumentValue()
        set("encoder", .string("precomputed_user"), user.span)
        set("input_user_id", user.kind, user.span)
      } else {
        throw fail("HISTORY or USER", help: "RECOMMEND FOR HISTORY ('a', 'b') LIMIT 10")
      }
      var embedding = Argument(.string("default"), span(start))
      if skip(word: "using") {
        let token = peek
        embedding =
          token.kind == .identifier
          ? Argument(.string(text(advance())), span(token)) : try argumentValue()
      }
      call.arguments.insert(
        CallArgument(name: Name("embedding_ref"), value: embedding), at: 0)
    } catch {
      toClause()
    }
    call.span = span(since: start)
    call.name.span = span(start)
    var query = Query(select: [.all(span(start))], from: .retrievers([call]))
    clauses(of: &query)
    if let given, let list = recommendedList(given) {
      let name = ColumnReference(name: Name("item_id", given.span))
      let fresh = Expression(
        .isIn(Expression(.column(name), given.span), list: list, negated: true), given.span)
      query.predicate =
        query.predicate.map { Expression(.binary(.and, fresh, $0)) } ?? fresh
    }
    query.span = span(start).through(span(peek))
    return query
  }

  private func recommendedList(_ argument: Argument) -> Expression? {
    switch argument.kind {
    case .parameter(let name): Expression(.parameter(name), argument.span)
    case .list(let elements):
      Expression(
        .list(
          elements.compactMap { element in
            switch element.kind {
            case .string(let text): Expression(.string(text), element.span)
            case .int(let number): Expression(.string(String(number)), element.span)
            case .parameter(let name): Expression(.parameter(name), element.span)
            default: nil
            }
          }), argument.span)
    default: nil
    }
  }

  // MARK: AS OF

  /// Whether `AS OF` and a value stand here, and not an alias.
  var isAsOf: Bool {
    guard isNext("as"), isWord(token(ahead: 1), "of") else { return false }
    switch token(ahead: 2).kind {
    case .integer, .string, .parameter: return true
    default: return false
    }
  }

  mutating func asOf() throws(Abort) -> Argument {
    advance()
    advance()
    return try argumentValue()
  }

  // MARK: Data queries

  /// Whether the statement reads a table: it groups, or FROM names a table.
  private var isDataQuery: Bool {
    var open = 0
    var beforeFrom = true
    for place in at..<tokens.count {
      let token = tokens[place]
      let next = tokens[min(place + 1, tokens.count - 1)]
      switch token.kind {
      case .leftParenthesis, .leftBracket: open += 1
      case .rightParenthesis, .rightBracket: open -= 1
      case .identifier where open == 0:
        if isWord(token, "group"), isWord(next, "by") { return true }
        if isWord(token, "having") { return true }
        if beforeFrom, next.kind == .leftParenthesis,
          Aggregate(rawValue: text(token).lowercased()) != nil
        {
          return true
        }
        if isWord(token, "from") {
          beforeFrom = false
          if isWord(next, "interactions") { return true }
          let dot = tokens[min(place + 2, tokens.count - 1)]
          if dot.kind == .dot, isWord(next, "data") || isWord(next, "view") { return true }
          if dot.kind == .dot, isWord(next, "engine") {
            let entity = tokens[min(place + 5, tokens.count - 1)]
            return !isWord(entity, "retrieve")
          }
        }
      default: break
      }
    }
    return false
  }

  private mutating func dataQuery() -> DataQuery {
    let first = peek
    var query = DataQuery(select: [], from: .entity(Name("items")))
    if skip(word: "select") {
      query.select = list { parser throws(Abort) in
        if parser.skip(.star) { return DataColumn(nil) }
        return DataColumn(try parser.disjunction(), alias: try parser.alias())
      }
    } else {
      _ = fail("SELECT")
      toClause()
    }
    var seen: Set<String> = []
    while peek.kind != .end {
      let start = peek
      do throws(Abort) {
        let clause: String
        if isNext("group"), isWord(token(ahead: 1), "by") {
          clause = "GROUP BY"
          advance()
          advance()
          query.groups = list { parser throws(Abort) in try parser.disjunction() }
        } else if skip(word: "having") {
          clause = "HAVING"
          query.having = try disjunction()
        } else {
          clause = clauseName() ?? ""
          switch clause {
          case "FROM":
            advance()
            query.from =
              skip(word: "interactions")
              ? .entity(Name("interactions", span(tokens[at - 1]))) : try from()
          case "WHERE":
            advance()
            query.predicate = try predicate()
          case "ORDER BY":
            advance()
            advance()
            query.order = list { parser throws(Abort) in
              let expression = try parser.disjunction()
              let isDescending = parser.sortDirection() ?? false
              return DataOrder(
                expression, isDescending: isDescending, nullsFirst: try parser.nullsFirst())
            }
          case "LIMIT":
            advance()
            query.limit = try count("LIMIT")
          case "OFFSET":
            advance()
            query.offset = try count("OFFSET")
          default: throw unexpected()
          }
        }
        if !seen.insert(clause).inserted {
          isBroken = true
          problems.add("duplicate_clause", "\(clause) stands twice.", span(start))
        }
      } catch {
        toClause()
      }
    }
    if case .retrievers(let calls) = query.from {
      isBroken = true
      problems.add(
        "not_supported", "Groups and aggregates work on tables, not on retrievers.",
        calls.first?.span ?? span(first),
        help: "FROM items, users, interactions, data.TABLE or view.VIEW")
    }
    query.span = span(first).through(span(peek))
    return query
  }
}
