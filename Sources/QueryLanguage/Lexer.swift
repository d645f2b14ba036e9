import Domain

/// What a token is.
package enum TokenKind: UInt8, Sendable {
  case end, identifier, quotedIdentifier, integer, decimal, string, parameter
  case leftParenthesis, rightParenthesis, leftBracket, rightBracket
  case comma, dot, semicolon, star, power, plus, minus, slash, percent, concatenate
  case equal, notEqual, less, lessOrEqual, greater, greaterOrEqual
}

/// A token and its place in the bytes that were read.
package struct Token: Sendable {
  package var kind: TokenKind
  package var lower: Int32
  package var upper: Int32
  package var range: Range<Int> { Int(lower)..<Int(upper) }
}

/// A piece of text inside the query: the whole of it, or what a string of it stands for.
///
/// A string's own text differs from what is written (`''` stands for `'`), so each byte knows where it
/// was written.
struct EmbeddedText: Sendable {
  var bytes: [UInt8]
  /// The place of the first byte where nothing is escaped.
  var base: Int
  /// The place of each byte, and of the end, where something is.
  var places: [Int32]?

  func span(_ range: Range<Int>) -> SourceSpan {
    guard let places else { return SourceSpan(range.lowerBound + base..<range.upperBound + base) }
    return SourceSpan(places[range.lowerBound], places[range.upperBound])
  }
}

/// The problems found in a text so far.
struct Problems {
  let text: String
  private(set) var all: [Diagnostic] = []
  /// More than these help nobody.
  static let most = 20

  init(text: String) { self.text = text }

  mutating func add(
    _ code: String, _ message: String, _ span: SourceSpan, label: String = "",
    notes: [String] = [], help: String? = nil
  ) {
    guard all.count < Problems.most else { return }
    // A second problem at the same place is an echo of the first.
    if all.contains(where: { $0.span?.range.lowerBound == span.range.lowerBound }) { return }
    all.append(
      Diagnostic(
        code: code, message,
        span: Diagnostic.Span(text: text, range: span.range, origin: "query", label: label),
        notes: notes, help: help))
  }
}

/// Splits bytes into tokens.
struct Lexer {
  /// `--` opens a comment in a query; in a value expression it is two minus signs.
  let allowsComments: Bool
  private let source: EmbeddedText
  private(set) var tokens: [Token] = []

  init(_ source: EmbeddedText, allowsComments: Bool, problems: inout Problems) {
    self.source = source
    self.allowsComments = allowsComments
    tokens.reserveCapacity(source.bytes.count / 4 + 4)
    read(&problems)
  }

  private mutating func read(_ problems: inout Problems) {
    let bytes = source.bytes
    var at = 0
    func byte(_ offset: Int) -> UInt8 { offset < bytes.count ? bytes[offset] : 0 }
    while at < bytes.count {
      let start = at
      let first = bytes[at]
      var kind: TokenKind?
      switch first {
      case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"), UInt8(ascii: "\r"):
        at += 1
        continue
      case UInt8(ascii: "\\"):
        if let end = Lexer.lineJoin(bytes, at) {
          at = end
          continue
        }
        at += 1
        problems.add(
          "unexpected_character", "A backslash may only stand at the end of a line.",
          source.span(start..<at), help: "Delete it; a backslash joins two lines.")
        continue
      case UInt8(ascii: "-"):
        if allowsComments, byte(at + 1) == UInt8(ascii: "-") {
          while at < bytes.count, bytes[at] != UInt8(ascii: "\n") { at += 1 }
          continue
        }
        (kind, at) = (.minus, at + 1)
      case UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "`"):
        at = closing(of: first, from: at + 1)
        if at > bytes.count {
          at = bytes.count
          problems.add(
            "unclosed_string", "This text is not closed.", source.span(start..<start + 1),
            label: "opened here",
            help:
              "Close it with `\(Character(Unicode.Scalar(first)))`; write a quote inside it twice.")
        }
        kind = first == UInt8(ascii: "`") ? .quotedIdentifier : .string
      case UInt8(ascii: "$"):
        at += 1
        while at < bytes.count, Lexer.isWord(bytes[at]) { at += 1 }
        let prefix = bytes[start + 1..<at]
        if byte(at) == UInt8(ascii: "."), Lexer.isWordStart(byte(at + 1)),
          Lexer.parameterPrefixes.contains(where: { prefix.elementsEqual($0) })
        {
          at += 1
          while at < bytes.count, Lexer.isWord(bytes[at]) { at += 1 }
        }
        if at == start + 1 {
          problems.add(
            "unexpected_character", "A parameter's name must follow `$`.",
            source.span(start..<at), help: "Write `$user_id`, for example.")
        }
        kind = .parameter
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        (kind, at) = number(at)
      case UInt8(ascii: "."):
        if byte(at + 1) >= 48, byte(at + 1) <= 57 {
          (kind, at) = number(at)
        } else {
          (kind, at) = (.dot, at + 1)
        }
      case UInt8(ascii: "*"):
        let isPower = byte(at + 1) == first && !allowsComments
        (kind, at) = (isPower ? .power : .star, at + (isPower ? 2 : 1))
      case UInt8(ascii: "="):
        (kind, at) = (.equal, at + (byte(at + 1) == first ? 2 : 1))
      case UInt8(ascii: "<"):
        switch byte(at + 1) {
        case UInt8(ascii: "="): (kind, at) = (.lessOrEqual, at + 2)
        case UInt8(ascii: ">"): (kind, at) = (.notEqual, at + 2)
        default: (kind, at) = (.less, at + 1)
        }
      case UInt8(ascii: ">"):
        let isOrEqual = byte(at + 1) == UInt8(ascii: "=")
        (kind, at) = (isOrEqual ? .greaterOrEqual : .greater, at + (isOrEqual ? 2 : 1))
      case UInt8(ascii: "!") where byte(at + 1) == UInt8(ascii: "="):
        (kind, at) = (.notEqual, at + 2)
      case UInt8(ascii: "|") where byte(at + 1) == UInt8(ascii: "|"):
        (kind, at) = (.concatenate, at + 2)
      case UInt8(ascii: "("): (kind, at) = (.leftParenthesis, at + 1)
      case UInt8(ascii: ")"): (kind, at) = (.rightParenthesis, at + 1)
      case UInt8(ascii: "["): (kind, at) = (.leftBracket, at + 1)
      case UInt8(ascii: "]"): (kind, at) = (.rightBracket, at + 1)
      case UInt8(ascii: ","): (kind, at) = (.comma, at + 1)
      case UInt8(ascii: ";"): (kind, at) = (.semicolon, at + 1)
      case UInt8(ascii: "+"): (kind, at) = (.plus, at + 1)
      case UInt8(ascii: "/"): (kind, at) = (.slash, at + 1)
      case UInt8(ascii: "%"): (kind, at) = (.percent, at + 1)
      default:
        if Lexer.isWordStart(first) {
          while at < bytes.count, Lexer.isWord(bytes[at]) { at += 1 }
          kind = .identifier
        } else {
          at += 1
          problems.add(
            "unexpected_character",
            "`\(String(decoding: [first], as: UTF8.self))` has no meaning here.",
            source.span(start..<at))
          continue
        }
      }
      if let kind { tokens.append(Token(kind: kind, lower: Int32(start), upper: Int32(at))) }
    }
    let end = Int32(bytes.count)
    tokens.append(Token(kind: .end, lower: end, upper: end))
  }

  static let parameterPrefixes = ["param", "params", "parameter", "parameters"].map {
    Array($0.utf8)
  }

  static func isWordStart(_ byte: UInt8) -> Bool {
    (byte | 32 >= 97 && byte | 32 <= 122) || byte == UInt8(ascii: "_") || byte >= 128
  }

  static func isWord(_ byte: UInt8) -> Bool { isWordStart(byte) || (byte >= 48 && byte <= 57) }

  /// Where the text goes on after a backslash at the end of a line, or nil where there is none.
  static func lineJoin(_ bytes: [UInt8], _ at: Int) -> Int? {
    guard bytes[at] == UInt8(ascii: "\\") else { return nil }
    var end = at + 1
    while end < bytes.count,
      bytes[end] == UInt8(ascii: " ") || bytes[end] == UInt8(ascii: "\t")
        || bytes[end] == UInt8(ascii: "\r")
    { end += 1 }
    return end < bytes.count && bytes[end] == UInt8(ascii: "\n") ? end + 1 : nil
  }

  /// The place after the quote that closes a text, or past the end where none does.
  private func closing(of quote: UInt8, from start: Int) -> Int {
    let bytes = source.bytes
    var at = start
    while at < bytes.count {
      if bytes[at] == quote {
        if at + 1 < bytes.count, bytes[at + 1] == quote { at += 2 } else { return at + 1 }
      } else {
        at += 1
      }
    }
    return bytes.count + 1
  }

  private func number(_ start: Int) -> (TokenKind, Int) {
    let bytes = source.bytes
    var at = start
    var kind = TokenKind.integer
    func digits() { while at < bytes.count, bytes[at] >= 48, bytes[at] <= 57 { at += 1 } }
    digits()
    if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
      kind = .decimal
      at += 1
      digits()
    }
    if at < bytes.count, bytes[at] | 32 == UInt8(ascii: "e") {
      var exponent = at + 1
      if exponent < bytes.count,
        bytes[exponent] == UInt8(ascii: "+") || bytes[exponent] == UInt8(ascii: "-")
      {
        exponent += 1
      }
      if exponent < bytes.count, bytes[exponent] >= 48, bytes[exponent] <= 57 {
        kind = .decimal
        at = exponent
        digits()
      }
    }
    return (kind, at)
  }

  /// What the text between quotes stands for, each byte with its place.
  static func contents(of token: Token, in source: EmbeddedText) -> EmbeddedText {
    let bytes = source.bytes
    let quote = bytes[Int(token.lower)]
    let start = Int(token.lower) + 1
    let isClosed = token.upper - token.lower > 1 && bytes[Int(token.upper) - 1] == quote
    let end = Int(token.upper) - (isClosed ? 1 : 0)
    let raw = bytes[start..<max(start, end)]
    let needsCare = raw.contains { $0 == quote || $0 == UInt8(ascii: "\\") }
    if !needsCare, source.places == nil {
      return EmbeddedText(bytes: Array(raw), base: source.base + start, places: nil)
    }
    var out: [UInt8] = []
    var places: [Int32] = []
    func place(_ offset: Int) -> Int32 { source.places?[offset] ?? Int32(offset + source.base) }
    var at = start
    while at < end {
      if bytes[at] == UInt8(ascii: "\\"), let next = lineJoin(bytes, at), next <= end {
        at = next
        continue
      }
      out.append(bytes[at])
      places.append(place(at))
      at += bytes[at] == quote ? 2 : 1
    }
    places.append(place(max(start, end)))
    return EmbeddedText(bytes: out, base: 0, places: places)
  }
}
