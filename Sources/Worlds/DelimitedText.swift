/// A reader of delimited text, one record at a time: CSV with quotes, tab-separated, or `::`.
///
/// Works on bytes and copies nothing until a field is asked for as text. CSV follows RFC 4180: a
/// quoted field may hold separators, line breaks and doubled quotes. Lines end in LF or CRLF; empty
/// lines are passed over.
struct DelimitedText {
  /// What stands between two fields.
  enum Separator {
    case comma, tab, doubleColon

    var bytes: [UInt8] {
      switch self {
      case .comma: [UInt8(ascii: ",")]
      case .tab: [UInt8(ascii: "\t")]
      case .doubleColon: [UInt8(ascii: ":"), UInt8(ascii: ":")]
      }
    }
  }

  /// Where a field's bytes lie, without its quotes.
  private struct Field {
    var range: Range<Int>
    var hasDoubledQuotes: Bool
  }

  private let bytes: [UInt8]
  private let separator: [UInt8]
  private let quotes: Bool
  private var at = 0
  private var fields: [Field] = []
  private var nextLine = 1
  /// The line on which the current record starts, from 1.
  private(set) var line = 0
  /// Whether the current record opens a quote that it never closes.
  private(set) var isQuoteOpen = false

  init(_ bytes: [UInt8], separator: Separator) {
    self.bytes = bytes
    self.separator = separator.bytes
    self.quotes = separator == .comma
    // Spreadsheets put a byte order mark before UTF-8.
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { at = 3 }
  }

  /// Fields of the current record.
  var count: Int { fields.count }

  /// Moves to the next record.
  ///
  /// - Returns: false at the end.
  mutating func advance() -> Bool {
    while at < bytes.count, bytes[at] == 10 || bytes[at] == 13 {
      if bytes[at] == 10 { nextLine += 1 }
      at += 1
    }
    guard at < bytes.count else { return false }
    line = nextLine
    fields.removeAll(keepingCapacity: true)
    isQuoteOpen = false
    while readField() {}
    return true
  }

  /// Reads one field.
  ///
  /// - Returns: whether another follows on this record.
  private mutating func readField() -> Bool {
    var doubled = false
    var range: Range<Int>
    if quotes, at < bytes.count, bytes[at] == UInt8(ascii: "\"") {
      let start = at + 1
      at = start
      while at < bytes.count {
        if bytes[at] == UInt8(ascii: "\"") {
          guard at + 1 < bytes.count, bytes[at + 1] == UInt8(ascii: "\"") else { break }
          doubled = true
          at += 1
        } else if bytes[at] == 10 {
          nextLine += 1
        }
        at += 1
      }
      range = start..<at
      isQuoteOpen = at == bytes.count
      at = min(at + 1, bytes.count)
      // What stands between the closing quote and the separator is dropped.
      while at < bytes.count, bytes[at] != 10, !isSeparator { at += 1 }
    } else {
      let start = at
      while at < bytes.count, bytes[at] != 10, !isSeparator { at += 1 }
      let atLineEnd = at == bytes.count || bytes[at] == 10
      let carriageReturn = atLineEnd && at > start && bytes[at - 1] == 13
      range = start..<(carriageReturn ? at - 1 : at)
    }
    fields.append(Field(range: range, hasDoubledQuotes: doubled))
    guard at < bytes.count else { return false }
    if bytes[at] == 10 {
      nextLine += 1
      at += 1
      return false
    }
    at += separator.count
    return true
  }

  private var isSeparator: Bool {
    guard bytes[at] == separator[0] else { return false }
    return separator.count == 1 || (at + 1 < bytes.count && bytes[at + 1] == separator[1])
  }

  /// A field as text; nil where it is not UTF-8 and `latin1` is not allowed.
  func text(_ index: Int, latin1: Bool = false) -> String? {
    let field = fields[index]
    var content = Array(bytes[field.range])
    if field.hasDoubledQuotes {
      var single: [UInt8] = []
      var i = 0
      while i < content.count {
        single.append(content[i])
        i += content[i] == UInt8(ascii: "\"") ? 2 : 1
      }
      content = single
    }
    if let text = String(validating: content, as: UTF8.self) { return text }
    return latin1 ? String(String.UnicodeScalarView(content.map { Unicode.Scalar($0) })) : nil
  }

  /// A field as a whole number that is not negative; nil where it is none.
  func wholeNumber(_ index: Int) -> Int? {
    let range = fields[index].range
    guard !range.isEmpty, range.count <= 18 else { return nil }
    var value = 0
    for byte in bytes[range] {
      guard byte >= 48, byte <= 57 else { return nil }
      value = value * 10 + Int(byte - 48)
    }
    return value
  }

  /// A field as a finite number; nil where it is none.
  func number(_ index: Int) -> Double? {
    guard let text = text(index), let value = Double(text), value.isFinite else { return nil }
    return value
  }
}
