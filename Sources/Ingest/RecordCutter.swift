/// Finds where records end in bytes that come piece by piece.
///
/// A record of lines ends at its line break; one of separated values as well, except inside a field
/// in quotes. Each byte is looked at about once.
struct RecordCutter: Sendable {
  /// nil for JSON lines.
  let delimiter: UInt8?
  private enum State {
    case fieldStart
    case inField
    case inQuotes
    /// Behind a quote inside quotes: the field's end, or the first of two.
    case afterQuote
  }
  private var state = State.fieldStart
  /// How far the bytes were looked at, from the buffer's start.
  private(set) var scanned = 0
  /// The end of the last whole record among them.
  private(set) var recordEnd = 0

  init(delimiter: UInt8?) { self.delimiter = delimiter }

  /// Looks on until a record ends behind `limit` or the bytes do.
  mutating func scan(_ bytes: UnsafeBufferPointer<UInt8>, upTo limit: Int) {
    guard let delimiter else {
      while scanned < bytes.count {
        let isEnd = bytes[scanned] == 10
        scanned += 1
        if isEnd {
          if scanned > limit, recordEnd > 0 { return }
          recordEnd = scanned
          if scanned >= limit { return }
        }
      }
      return
    }
    while scanned < bytes.count {
      let byte = bytes[scanned]
      scanned += 1
      switch state {
      case .fieldStart where byte == UInt8(ascii: "\""): state = .inQuotes
      case .inQuotes:
        if byte == UInt8(ascii: "\"") { state = .afterQuote }
      case .afterQuote where byte == UInt8(ascii: "\""): state = .inQuotes
      case .fieldStart, .inField, .afterQuote:
        if byte == 10 {
          state = .fieldStart
          if scanned > limit, recordEnd > 0 { return }
          recordEnd = scanned
          if scanned >= limit { return }
        } else {
          state = byte == delimiter ? .fieldStart : .inField
        }
      }
    }
  }

  /// Begins anew behind the last whole record, whose bytes are taken out of the buffer.
  mutating func restart() {
    state = .fieldStart
    scanned = 0
    recordEnd = 0
  }
}
