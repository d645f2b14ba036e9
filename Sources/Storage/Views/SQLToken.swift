import Domain

/// A word of a view's SQL, with its place. Enough of SQLite's lexical rules to see which tables a
/// query names and what kind of query it is; SQLite itself parses it.
struct SQLToken: Hashable, Sendable {
  enum Kind: Hashable, Sendable {
    case word, quotedName, string, number, symbol
  }

  var kind: Kind
  /// As written, but names without their quotes.
  var text: String
  /// UTF-8 offsets in the query.
  var range: Range<Int>
  /// How many brackets are open around it.
  var depth: Int

  /// Whether this is the keyword or unquoted name.
  func isWord(_ word: String) -> Bool { kind == .word && text.uppercased() == word }

  func isSymbol(_ symbol: String) -> Bool { kind == .symbol && text == symbol }

  /// The name that this may stand for; nil where it is none.
  var name: String? { kind == .word || kind == .quotedName ? text : nil }

  /// Cuts a query into tokens; comments and space fall away.
  ///
  /// - Throws: `invalid_sql` for a quote or comment without an end.
  static func all(in query: String) throws(Diagnostic) -> [SQLToken] {
    var reader = Reader(bytes: Array(query.utf8))
    return try reader.tokens(query)
  }

  private struct Reader {
    let bytes: [UInt8]
    var at = 0
    var depth = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func tokens(_ query: String) throws(Diagnostic) -> [SQLToken] {
      var tokens: [SQLToken] = []
      while at < bytes.count {
        let start = at
        let byte = bytes[at]
        if byte <= 32 {
          at += 1
        } else if byte == UInt8(ascii: "-"), peek == UInt8(ascii: "-") {
          while at < bytes.count, bytes[at] != 10 { at += 1 }
        } else if byte == UInt8(ascii: "/"), peek == UInt8(ascii: "*") {
          try skipComment(query)
        } else if let kind = SQLToken.quote(byte) {
          let text = try quoted(query, until: kind.end)
          tokens.append(SQLToken(kind: kind.kind, text: text, range: start..<at, depth: depth))
        } else if SQLToken.isNamePart(byte), !SQLToken.isDigit(byte) {
          while at < bytes.count, SQLToken.isNamePart(bytes[at]) { at += 1 }
          tokens.append(
            SQLToken(kind: .word, text: text(start), range: start..<at, depth: depth))
        } else if SQLToken.isDigit(byte) {
          while at < bytes.count, SQLToken.isNamePart(bytes[at]) || bytes[at] == UInt8(ascii: ".") {
            at += 1
          }
          tokens.append(
            SQLToken(kind: .number, text: text(start), range: start..<at, depth: depth))
        } else {
          at += 1
          if byte == UInt8(ascii: ")") { depth = max(0, depth - 1) }
          tokens.append(
            SQLToken(kind: .symbol, text: text(start), range: start..<at, depth: depth))
          if byte == UInt8(ascii: "(") { depth += 1 }
        }
      }
      return tokens
    }

    private var peek: UInt8? { at + 1 < bytes.count ? bytes[at + 1] : nil }

    private func text(_ start: Int) -> String {
      String(decoding: bytes[start..<at], as: UTF8.self)
    }

    private mutating func skipComment(_ query: String) throws(Diagnostic) {
      let start = at
      at += 2
      while at + 1 < bytes.count {
        if bytes[at] == UInt8(ascii: "*"), bytes[at + 1] == UInt8(ascii: "/") {
          at += 2
          return
        }
        at += 1
      }
      throw SQLToken.unended("comment", query, start)
    }

    private mutating func quoted(
      _ query: String, until end: UInt8
    ) throws(Diagnostic) -> String {
      let start = at
      at += 1
      var content: [UInt8] = []
      while at < bytes.count {
        if bytes[at] == end {
          at += 1
          // A doubled quote stands for itself.
          guard at < bytes.count, bytes[at] == end, end != UInt8(ascii: "]") else {
            return String(decoding: content, as: UTF8.self)
          }
        }
        content.append(bytes[at])
        at += 1
      }
      throw SQLToken.unended("quote", query, start)
    }
  }

  private static func unended(_ what: String, _ query: String, _ start: Int) -> Diagnostic {
    Diagnostic(
      code: "invalid_sql", "A \(what) has no end.", at: "sql_query",
      span: Diagnostic.Span(
        text: query, range: start..<start + 1, origin: "sql_query", label: "begins here"))
  }

  private static func quote(_ byte: UInt8) -> (kind: Kind, end: UInt8)? {
    switch byte {
    case UInt8(ascii: "'"): (.string, byte)
    case UInt8(ascii: "\""), UInt8(ascii: "`"): (.quotedName, byte)
    case UInt8(ascii: "["): (.quotedName, UInt8(ascii: "]"))
    default: nil
    }
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }

  private static func isNamePart(_ byte: UInt8) -> Bool {
    isDigit(byte) || (byte | 32 >= 97 && byte | 32 <= 122) || byte == 95 || byte == 36
      || byte >= 128
  }
}
