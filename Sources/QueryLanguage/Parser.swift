package import Domain

/// A query's tree and what is wrong with its text.
package struct ParsedQuery: Sendable {
  package var query: Query
  package var problems: [Diagnostic]
  /// Whether the tree holds all of the text. It may, and still call functions that do not exist.
  package var isWhole: Bool
}

/// Reads queries, predicates and value expressions.
package enum Parser {
  /// A longer text is refused, in bytes.
  package static let mostBytes = 64 * 1024
  /// Deeper nesting is refused, so that no text can exhaust the stack.
  package static let mostNesting = 64
  /// More operators in one expression are refused: a chain of them is a tree as deep as it is long.
  package static let mostOperators = 500

  /// Parses a query of either dialect, as far as it can be read.
  ///
  /// - Complexity: linear in the length of the text.
  package static func parse(_ text: String) -> ParsedQuery {
    var problems = Problems(text: text)
    var empty = ParsedQuery(query: Query(select: []), problems: [], isWhole: false)
    let count = text.utf8.count
    if count > mostBytes {
      empty.problems = [
        Diagnostic(
          code: "query_too_long",
          "The query is \(count) bytes long; at most \(mostBytes) are read.",
          help: "Send long lists as parameters: `item_id IN $ids`.")
      ]
      return empty
    }
    let source = EmbeddedText(bytes: Array(text.utf8), base: 0, places: nil)
    var parser = TextParser(source, allowsComments: true, problems: problems)
    if parser.peek.kind == .end, parser.problems.all.isEmpty {
      problems.add(
        "empty_query", "SQL query cannot be empty", SourceSpan(0, 0),
        help: "For example: SELECT * FROM items LIMIT 10")
      empty.problems = problems.all
      return empty
    }
    let query = parser.query()
    return ParsedQuery(
      query: query, problems: parser.problems.all, isWhole: !parser.isBroken)
  }

  /// Parses a predicate alone.
  package static func predicate(_ text: String) throws(Diagnostics) -> Expression {
    try alone(text, allowsComments: true) { parser in parser.wholePredicate() }
  }

  /// Parses a value expression alone.
  package static func formula(_ text: String) throws(Diagnostics) -> Formula {
    try alone(text, allowsComments: false) { parser in parser.wholeFormula() }
  }

  private static func alone<Tree>(
    _ text: String, allowsComments: Bool, _ read: (inout TextParser) -> Tree?
  ) throws(Diagnostics) -> Tree {
    guard text.utf8.count <= mostBytes else {
      throw Diagnostics(
        Diagnostic(
          code: "query_too_long",
          "The expression is \(text.utf8.count) bytes long; at most \(mostBytes) are read."))
    }
    let source = EmbeddedText(bytes: Array(text.utf8), base: 0, places: nil)
    var parser = TextParser(
      source, allowsComments: allowsComments, problems: Problems(text: text))
    let tree = read(&parser)
    if !parser.problems.all.isEmpty { throw Diagnostics(parser.problems.all) }
    guard let tree else { preconditionFailure("no tree and no problem") }
    return tree
  }
}

/// Reads the tokens of one text. Facets: the query, predicates, value expressions.
struct TextParser {
  /// Thrown after a problem was recorded; caught where reading can go on.
  struct Abort: Error {}

  let source: EmbeddedText
  let tokens: [Token]
  var at = 0
  var depth = 0
  private var operators = 0
  var problems: Problems
  /// Whether a part of the text is missing from the tree.
  var isBroken: Bool
  /// Whether a name alone after FROM is a table.
  var takesBareTables = false

  init(_ source: EmbeddedText, allowsComments: Bool, problems: Problems) {
    self.source = source
    var problems = problems
    let before = problems.all.count
    tokens = Lexer(source, allowsComments: allowsComments, problems: &problems).tokens
    self.problems = problems
    isBroken = problems.all.count > before
  }

  // MARK: Tokens

  var peek: Token { tokens[at] }

  func token(ahead count: Int) -> Token { tokens[min(at + count, tokens.count - 1)] }

  @discardableResult mutating func advance() -> Token {
    let token = tokens[at]
    if at < tokens.count - 1 { at += 1 }
    return token
  }

  mutating func skip(_ kind: TokenKind) -> Bool {
    guard peek.kind == kind else { return false }
    advance()
    return true
  }

  /// Whether the token is this word, in any case. `word` is in lower case.
  func isWord(_ token: Token, _ word: StaticString) -> Bool {
    guard token.kind == .identifier, token.range.count == word.utf8CodeUnitCount else {
      return false
    }
    let start = word.utf8Start
    for i in 0..<word.utf8CodeUnitCount {
      let byte = source.bytes[Int(token.lower) + i]
      let lower = byte >= 65 && byte <= 90 ? byte | 32 : byte
      if lower != start[i] { return false }
    }
    return true
  }

  func isNext(_ word: StaticString) -> Bool { isWord(peek, word) }

  mutating func skip(word: StaticString) -> Bool {
    guard isNext(word) else { return false }
    advance()
    return true
  }

  func span(_ token: Token) -> SourceSpan { source.span(token.range) }

  /// The span of everything since a token, without what comes next.
  func span(since token: Token) -> SourceSpan {
    span(token).through(span(tokens[max(0, at - 1)]))
  }

  /// What the token says: the word, or the text between its quotes.
  func text(_ token: Token) -> String {
    switch token.kind {
    case .string, .quotedIdentifier:
      String(decoding: Lexer.contents(of: token, in: source).bytes, as: UTF8.self)
    default: String(decoding: source.bytes[token.range], as: UTF8.self)
    }
  }

  /// The token as it is written, for messages.
  func quoted(_ token: Token) -> String {
    if token.kind == .end { return "the end" }
    let written = String(decoding: source.bytes[token.range], as: UTF8.self)
    return "`\(written.count > 40 ? written.prefix(40) + "…" : written)`"
  }

  /// The name of a parameter token, without what stands before it.
  func parameterName(_ token: Token) -> String {
    TextParser.parameterName(source.bytes[token.range]) ?? ""
  }

  /// The parameter that a text is the name of (`$user_id`, `$params.user_id`), or nil.
  static func parameterName(_ bytes: ArraySlice<UInt8>) -> String? {
    guard bytes.first == UInt8(ascii: "$"), bytes.count > 1 else { return nil }
    var rest = bytes.dropFirst()
    if let dot = rest.firstIndex(of: UInt8(ascii: ".")) {
      guard Lexer.parameterPrefixes.contains(where: { rest[..<dot].elementsEqual($0) }) else {
        return nil
      }
      rest = rest[(dot + 1)...]
    }
    guard let first = rest.first, Lexer.isWordStart(first), rest.allSatisfy(Lexer.isWord) else {
      return nil
    }
    return String(decoding: rest, as: UTF8.self)
  }

  // MARK: Problems

  /// Records that something else was expected here.
  mutating func fail(_ expected: String, help: String? = nil) -> Abort {
    let token = peek
    isBroken = true
    var place = span(token)
    if token.kind == .end, at > 0 {
      // The caret under the last word that is there, not under nothing.
      place = span(tokens[at - 1])
      problems.add(
        "unexpected_end", "The text ends where \(expected) should stand.", place,
        label: "\(expected) must follow", help: help)
    } else {
      problems.add(
        "unexpected_token", "Expected \(expected), found \(quoted(token)).", place, help: help)
    }
    return Abort()
  }

  mutating func expect(_ kind: TokenKind, _ what: String) throws(Abort) {
    if !skip(kind) { throw fail(what) }
  }

  /// Runs a part that nests, and refuses to nest too deep.
  mutating func nested<Tree>(
    _ read: (inout TextParser) throws(Abort) -> Tree
  ) throws(Abort) -> Tree {
    depth += 1
    defer { depth -= 1 }
    if depth > Parser.mostNesting {
      isBroken = true
      problems.add(
        "nested_too_deep", "The query nests deeper than \(Parser.mostNesting) levels.",
        span(peek), help: "Join conditions with AND and OR without parentheses, or use IN.")
      at = tokens.count - 1
      throw Abort()
    }
    return try read(&self)
  }

  /// Counts an operator that was just read, and refuses too many of them.
  mutating func countOperator() throws(Abort) {
    operators += 1
    if operators > Parser.mostOperators {
      isBroken = true
      problems.add(
        "too_many_operators",
        "An expression holds at most \(Parser.mostOperators) operators; this one goes on.",
        span(tokens[max(0, at - 1)]),
        help: "Use IN ('a', 'b', …) or a list as a parameter: IN $ids.")
      at = tokens.count - 1
      throw Abort()
    }
  }

  /// Reads a text inside a string with its own tokens and the same list of problems.
  mutating func embedded<Tree>(
    _ token: Token, allowsComments: Bool, _ read: (inout TextParser) -> Tree?
  ) -> Tree? {
    var inner = TextParser(
      Lexer.contents(of: token, in: source), allowsComments: allowsComments, problems: problems)
    inner.depth = depth
    let tree = read(&inner)
    problems = inner.problems
    isBroken = isBroken || inner.isBroken
    return tree
  }

  // MARK: Words

  /// A name: a word that is no keyword, or anything between backquotes.
  mutating func name(_ what: String) throws(Abort) -> Name {
    let token = peek
    if token.kind == .quotedIdentifier || (token.kind == .identifier && !isReserved(token)) {
      advance()
      return Name(text(token), span(token))
    }
    let isKeyword = token.kind == .identifier && isReserved(token)
    throw fail(
      what,
      help: isKeyword
        ? "\(quoted(token)) is a reserved keyword; as a name it stands between backquotes." : nil)
  }

  mutating func columnReference() throws(Abort) -> ColumnReference {
    let first = try name("a column")
    if skip(.dot) { return ColumnReference(qualifier: first, name: try name("a column")) }
    return ColumnReference(name: first)
  }

  func isReserved(_ token: Token) -> Bool {
    guard token.range.count <= 7 else { return false }
    return ReservedWords.all.contains(text(token).lowercased())
  }

  /// The value of a number token; a whole number that does not fit becomes a decimal.
  mutating func number(_ token: Token) throws(Abort) -> (int: Int64?, double: Double) {
    let written = text(token)
    if token.kind == .integer, let value = Int64(written) { return (value, Double(value)) }
    guard let value = Double(written.hasSuffix(".") ? written + "0" : written), value.isFinite
    else {
      isBroken = true
      problems.add(
        "number_out_of_range", "The number \(quoted(token)) is out of range.", span(token))
      throw Abort()
    }
    return (nil, value)
  }
}

/// Words that mean something of their own and stand between backquotes as names.
enum ReservedWords {
  static let all: Set<String> = [
    "select", "from", "where", "order", "reorder", "by", "limit", "offset", "and", "or", "not",
    "in", "like", "ilike", "between", "is", "null", "true", "false", "as", "asc", "desc", "nulls",
    "join", "group", "having", "union", "distinct", "cast", "case",
  ]
}
