import Domain

/// Reads cells of a known type straight from bytes, without a tree of JSON values between.
///
/// It knows the plain forms only, which are nearly all that comes: text without escapes, whole
/// numbers, short decimals, times as milliseconds or RFC 3339. Whatever else it leaves to the
/// parser and to `coerce`, so that there is one place that says what is allowed.
struct CellScanner {
  let bytes: UnsafeBufferPointer<UInt8>
  var at: Int
  let end: Int

  init(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int, to end: Int) {
    self.bytes = bytes
    at = start
    self.end = end
  }

  @inline(__always)
  mutating func skipSpace() {
    while at < end {
      let byte = bytes[at]
      guard byte == 32 || byte == 10 || byte == 13 || byte == 9 else { return }
      at += 1
    }
  }

  /// Takes one byte where it is the next.
  @inline(__always)
  mutating func take(_ byte: UInt8) -> Bool {
    guard at < end, bytes[at] == byte else { return false }
    at += 1
    return true
  }

  /// Reads a text in quotes that holds no escape, and leaves what is behind its closing quote.
  ///
  /// - Returns: the range of its bytes, nil where it is of another form.
  @inline(__always)
  mutating func plainText() -> Range<Int>? {
    guard take(UInt8(ascii: "\"")) else { return nil }
    let start = at
    while at < end {
      let byte = bytes[at]
      if byte == UInt8(ascii: "\"") {
        at += 1
        return start..<(at - 1)
      }
      if byte == UInt8(ascii: "\\") || byte < 32 { return nil }
      at += 1
    }
    return nil
  }

  /// Reads a JSON value into a column's type.
  ///
  /// - Returns: the cell and the value's kind; nil where the value is of no plain form, and then
  ///   the place is undefined.
  mutating func cell(_ type: ColumnType) -> (value: Value, kind: ValueKind)? {
    guard at < end else { return nil }
    let first = bytes[at]
    if first == UInt8(ascii: "n") {
      return word("null") ? (.null, .null) : nil
    }
    switch type {
    case .string, .lowCardinalityString, .imageURL, .unknown:
      guard first == UInt8(ascii: "\""), let range = plainText(), let text = text(range) else {
        return nil
      }
      return (.string(text), .string)
    case .int64, .int32:
      guard let number = wholeNumber(), isDelimited else { return nil }
      if type == .int32, Int32(exactly: number) == nil { return nil }
      return (.int(number), .number)
    case .double, .float:
      let start = at
      guard let number = decimal(), isDelimited else { return nil }
      // `-0` is a whole number, which has no sign when it is zero; `-0.0` has one.
      return (.double(number == 0 && at - start == 2 ? 0 : number), .number)
    case .bool:
      if first == UInt8(ascii: "t") { return word("true") ? (.bool(true), .bool) : nil }
      if first == UInt8(ascii: "f") { return word("false") ? (.bool(false), .bool) : nil }
      return nil
    case .dateTime:
      if first == UInt8(ascii: "\"") {
        guard let range = plainText(),
          let time = Timestamp(fixedForm: UnsafeBufferPointer(rebasing: bytes[range]))
        else { return nil }
        return (.timestamp(time), .string)
      }
      guard let number = wholeNumber(), isDelimited, let time = Self.time(milliseconds: number)
      else { return nil }
      return (.timestamp(time), .number)
    case .json, .bytes, .stringArray, .int64Array, .float64Array:
      let start = at
      guard JSONSkipper.skip(bytes, &at, end) else { return nil }
      guard
        let json = try? JSON(
          parsing: UnsafeBufferPointer(rebasing: bytes[start..<at]), maximumDepth: 60),
        case .value(let value) = coerce(json, to: type)
      else { return nil }
      return (value, ValueKind(json))
    }
  }

  /// Reads a field of separated values, which has no quotes around it, into a column's type.
  static func field(
    _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ type: ColumnType
  ) -> Value? {
    var scanner = CellScanner(bytes, from: range.lowerBound, to: range.upperBound)
    switch type {
    case .string, .lowCardinalityString, .imageURL, .unknown:
      return scanner.text(range).map { .string($0) }
    case .int64, .int32:
      guard let number = scanner.wholeNumber(), scanner.at == scanner.end else { return nil }
      if type == .int32, Int32(exactly: number) == nil { return nil }
      return .int(number)
    case .double, .float:
      guard let number = scanner.decimal(), scanner.at == scanner.end else { return nil }
      return .double(number)
    case .dateTime:
      if let time = Timestamp(fixedForm: UnsafeBufferPointer(rebasing: bytes[range])) {
        return .timestamp(time)
      }
      guard let number = scanner.wholeNumber(), scanner.at == scanner.end,
        let time = time(milliseconds: number)
      else { return nil }
      return .timestamp(time)
    default: return nil
    }
  }

  /// Milliseconds as a time, without those that look like seconds; see `coerce`.
  private static func time(milliseconds: Int64) -> Timestamp? {
    let size = milliseconds.magnitude
    if size >= 100_000_000, size < 100_000_000_000 { return nil }
    let (microseconds, overflow) = milliseconds.multipliedReportingOverflow(by: 1000)
    return overflow ? nil : Timestamp(microsecondsSinceEpoch: microseconds)
  }

  // MARK: Plain forms

  /// Whether what follows ends a value.
  @inline(__always)
  private var isDelimited: Bool {
    guard at < end else { return true }
    switch bytes[at] {
    case UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"), 32, 9, 10, 13: return true
    default: return false
    }
  }

  private mutating func word(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard at + count <= end else { return false }
    for i in 0..<count where bytes[at + i] != text.utf8Start[i] { return false }
    at += count
    return isDelimited
  }

  /// A whole number of at most 18 digits, as JSON writes it.
  private mutating func wholeNumber() -> Int64? {
    let isNegative = take(UInt8(ascii: "-"))
    let start = at
    var value: Int64 = 0
    while at < end, at - start < 19 {
      let digit = bytes[at] &- 48
      guard digit < 10 else { break }
      value = value &* 10 &+ Int64(digit)
      at += 1
    }
    let count = at - start
    guard count > 0, count < 19, count == 1 || bytes[start] != 48 else { return nil }
    return isNegative ? -value : value
  }

  /// A number whose digits fit a double exactly, and whose value is then right to the last bit:
  /// fewer than 16 digits, at most 22 of them behind the point (Clinger, *How to Read Floating
  /// Point Numbers Accurately*, 1990).
  private mutating func decimal() -> Double? {
    let isNegative = take(UInt8(ascii: "-"))
    let start = at
    var value: Int64 = 0
    while at < end {
      let digit = bytes[at] &- 48
      guard digit < 10 else { break }
      value = value &* 10 &+ Int64(digit)
      at += 1
      if at - start > 15 { return nil }
    }
    let whole = at - start
    guard whole > 0, whole == 1 || bytes[start] != 48 else { return nil }
    var fraction = 0
    if take(UInt8(ascii: ".")) {
      let point = at
      while at < end {
        let digit = bytes[at] &- 48
        guard digit < 10 else { break }
        value = value &* 10 &+ Int64(digit)
        at += 1
        if whole + at - point > 15 { return nil }
      }
      fraction = at - point
      guard fraction > 0 else { return nil }
    }
    let number = Double(value) / Self.powersOfTen[fraction]
    return isNegative ? -number : number
  }

  private static let powersOfTen: [Double] = [
    1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
  ]

  /// The bytes as text; nil where they are no valid UTF-8.
  @inline(__always)
  func text(_ range: Range<Int>) -> String? {
    String(validating: UnsafeBufferPointer(rebasing: bytes[range]), as: UTF8.self)
  }
}

/// Finds the end of a JSON value without reading it.
enum JSONSkipper {
  /// Moves behind the value that begins at `at`.
  ///
  /// - Returns: false where the value has no end. What is between its brackets may still be wrong.
  static func skip(
    _ bytes: UnsafeBufferPointer<UInt8>, _ at: inout Int, _ end: Int
  ) -> Bool {
    var depth = 0
    while at < end {
      switch bytes[at] {
      case UInt8(ascii: "\""):
        at += 1
        while at < end, bytes[at] != UInt8(ascii: "\"") {
          at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard at < end else { return false }
        at += 1
        if depth == 0 { return true }
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        depth += 1
        at += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        // A bracket that was not opened ends a bare word.
        if depth == 0 { return true }
        depth -= 1
        at += 1
        if depth == 0 { return true }
      case UInt8(ascii: ","), 32, 9, 10, 13:
        if depth == 0 { return true }
        at += 1
      default: at += 1
      }
    }
    return depth == 0
  }
}
