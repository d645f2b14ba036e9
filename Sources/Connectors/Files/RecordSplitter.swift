/// Cuts a stream of bytes that arrives in pieces into records: lines, separated values, or the
/// elements of a JSON array. It reads no more of a record than where it ends.
///
/// What stands behind the last end is kept until more bytes come; its beginning is the position from
/// which a later reading goes on.
package struct RecordSplitter: Sendable {
  package enum Form: Hashable, Sendable {
    case lines
    /// RFC 4180: a line break between quotes is part of its field.
    case separated(delimiter: UInt8)
    case array
  }

  package struct Piece: Hashable, Sendable {
    package var bytes: [UInt8]
    /// Where the record begins and ends in the stream; the end is behind its separator.
    package var range: Range<Int>
    /// The record is longer than allowed; `bytes` holds its beginning.
    package var isOversize = false
  }

  private enum Mode {
    case fieldStart, unquoted, quoted, quoteInQuoted
    // What stands behind the array's end is read like elements, whether reading goes on or begins there.
    case beforeArray, betweenElements, inElement, inString, inEscape
  }

  private let form: Form
  private let maximumBytes: Int
  private var buffer: [UInt8] = []
  /// Where in the buffer the current record begins, and up to where it was looked at.
  private var begin = 0
  private var scan = 0
  /// The stream's offset of `buffer[0]`.
  private var base: Int
  private var mode: Mode
  private var depth = 0
  /// The beginning of a record that has grown too long, and where in the stream it began.
  private var oversize: (bytes: [UInt8], start: Int)?

  /// Bytes of an oversize record that are kept.
  package static let keptBytes = 64 << 10

  /// - Parameter offset: where in the stream the first byte stands: 0, or the end of a record.
  package init(_ form: Form, offset: Int = 0, maximumBytes: Int) {
    self.form = form
    self.maximumBytes = maximumBytes
    base = offset
    switch form {
    case .lines, .separated: mode = .fieldStart
    case .array: mode = offset == 0 ? .beforeArray : .betweenElements
    }
  }

  /// The stream's offset of the first byte that belongs to no record yet.
  package var offset: Int { oversize?.start ?? base + begin }

  /// The bytes that wait for the end of their record.
  package var waiting: ArraySlice<UInt8> { buffer[begin...] }

  package mutating func append(_ bytes: some Collection<UInt8>) {
    if begin > 0 {
      buffer.removeSubrange(..<begin)
      base += begin
      scan -= begin
      begin = 0
    }
    buffer += bytes
  }

  /// The next whole record; nil where more bytes are needed.
  ///
  /// - Parameter atEnd: no more bytes will come, so that what is left is a record. A JSON array that
  ///   is not closed gives what is left of it as well, and the parser says what is wrong.
  package mutating func next(atEnd: Bool = false) -> Piece? {
    while scan < buffer.count {
      let ends: Bool
      switch form {
      case .lines: ends = scanLine()
      case .separated(let delimiter): ends = scanSeparated(delimiter)
      case .array: ends = scanArray()
      }
      if ends {
        if let piece = finish(at: scan) { return piece }
      } else {
        shedOversize()
      }
    }
    guard atEnd, begin < buffer.count || oversize != nil else { return nil }
    return finish(at: buffer.count)
  }

  /// Ends the record; nil where it is empty.
  private mutating func finish(at end: Int) -> Piece? {
    var bytes = buffer[begin..<end]
    var piece: Piece?
    if let kept = oversize {
      piece = Piece(bytes: kept.bytes, range: kept.start..<(base + end), isOversize: true)
    } else {
      let range = (base + begin)..<(base + end)
      switch form {
      case .lines, .separated:
        if bytes.last == 10 { bytes = bytes.dropLast() }
        if bytes.last == 13 { bytes = bytes.dropLast() }
      case .array:
        if let last = bytes.last, last == UInt8(ascii: ",") || last == UInt8(ascii: "]"),
          mode != .inElement, mode != .inString, mode != .inEscape
        {
          bytes = bytes.dropLast()
        }
      }
      let isBlank = bytes.allSatisfy { $0 == 32 || $0 == 9 || $0 == 13 || $0 == 10 }
      if !isBlank || (isSeparated && bytes.contains(9)) {
        // A record that came in one piece with its end may be too long as well.
        let isOversize = bytes.count > maximumBytes
        piece = Piece(
          bytes: Array(isOversize ? bytes.prefix(Self.keptBytes) : bytes), range: range,
          isOversize: isOversize)
      }
    }
    oversize = nil
    begin = end
    scan = end
    if form != .array { mode = .fieldStart }
    return piece
  }

  private var isSeparated: Bool { if case .separated(9) = form { true } else { false } }

  /// Gives up the bytes of a record that has grown too long.
  private mutating func shedOversize() {
    guard scan - begin > maximumBytes || oversize != nil, scan > begin else { return }
    if oversize == nil {
      oversize = (Array(buffer[begin..<min(scan, begin + Self.keptBytes)]), base + begin)
      // The rest of it is a line: a quote that is never closed must not take the file with it.
      if mode == .quoted || mode == .quoteInQuoted { mode = .unquoted }
    }
    begin = scan
  }

  // MARK: scanning, each up to the end of a record or of the buffer

  private mutating func scanLine() -> Bool {
    let start = scan
    let found = buffer.withUnsafeBufferPointer { bytes in
      var at = start
      while at < bytes.count, bytes[at] != 10 { at += 1 }
      return at
    }
    scan = min(found + 1, buffer.count)
    return found < buffer.count
  }

  private mutating func scanSeparated(_ delimiter: UInt8) -> Bool {
    // A second reference to the same bytes, because the closure changes the scanner beside them.
    let buffer = buffer
    return buffer.withUnsafeBufferPointer { bytes in
      // An oversize record is over at the next line break.
      let quotesCount = oversize == nil
      while scan < bytes.count {
        if quotesCount, scan - begin > maximumBytes { return false }
        let byte = bytes[scan]
        scan += 1
        switch mode {
        case .quoted:
          if byte == UInt8(ascii: "\"") { mode = .quoteInQuoted }
          continue
        case .quoteInQuoted where byte == UInt8(ascii: "\""):
          mode = .quoted
          continue
        case .fieldStart where byte == UInt8(ascii: "\"") && quotesCount:
          mode = .quoted
          continue
        default: break
        }
        if byte == 10 { return true }
        mode = byte == delimiter ? .fieldStart : .unquoted
      }
      return false
    }
  }

  private mutating func scanArray() -> Bool {
    let buffer = buffer
    return buffer.withUnsafeBufferPointer { bytes in
      while scan < bytes.count {
        if oversize == nil, scan - begin > maximumBytes { return false }
        let byte = bytes[scan]
        scan += 1
        switch mode {
        case .beforeArray:
          if byte == UInt8(ascii: "[") {
            mode = .betweenElements
            begin = scan
          }
        case .betweenElements:
          switch byte {
          case 32, 9, 10, 13, UInt8(ascii: ","), UInt8(ascii: "]"): begin = scan
          default:
            begin = scan - 1
            scan -= 1
            depth = 0
            mode = .inElement
          }
        case .inElement:
          switch byte {
          case UInt8(ascii: "\""): mode = .inString
          case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
          case UInt8(ascii: "}"): depth -= 1
          case UInt8(ascii: "]"):
            depth -= 1
            if depth < 0 {
              mode = .betweenElements
              return true
            }
          case UInt8(ascii: ",") where depth <= 0:
            mode = .betweenElements
            return true
          default: break
          }
        case .inString:
          if byte == UInt8(ascii: "\\") {
            mode = .inEscape
          } else if byte == UInt8(ascii: "\"") {
            mode = .inElement
          }
        case .inEscape: mode = .inString
        default: preconditionFailure("a mode of another form")
        }
      }
      return false
    }
  }
}
