import Domain

/// Cells as bytes, each with its kind, for rows that are kept outside their table.
///
/// Little-endian: one byte for the kind, then 8 bytes for a number or a time, one for a boolean,
/// a 4-byte count and the content for text, bytes and arrays.
enum BinaryCells {
  private enum Kind: UInt8 {
    case null, bool, int, double, string, timestamp, bytes, array
  }

  static func encode(_ cells: [Value]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(cells.count * 16)
    for cell in cells { encode(cell, into: &out) }
    return out
  }

  private static func encode(_ cell: Value, into out: inout [UInt8]) {
    func start(_ kind: Kind) { out.append(kind.rawValue) }
    func append(_ number: UInt64) {
      for i in 0..<8 { out.append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(i)))) }
    }
    func append(count: Int) {
      let number = UInt32(count)
      for i in 0..<4 { out.append(UInt8(truncatingIfNeeded: number >> (8 * UInt32(i)))) }
    }
    switch cell {
    case .null: start(.null)
    case .bool(let flag):
      start(.bool)
      out.append(flag ? 1 : 0)
    case .int(let number):
      start(.int)
      append(UInt64(bitPattern: number))
    case .double(let number):
      start(.double)
      append(number.bitPattern)
    case .timestamp(let time):
      start(.timestamp)
      append(UInt64(bitPattern: time.microsecondsSinceEpoch))
    case .string(let text):
      start(.string)
      append(count: text.utf8.count)
      out += text.utf8
    case .bytes(let bytes):
      start(.bytes)
      append(count: bytes.count)
      out += bytes
    case .array(let elements):
      start(.array)
      append(count: elements.count)
      for element in elements { encode(element, into: &out) }
    }
  }

  /// Reads what `encode` wrote; nil where the bytes are no such cells.
  static func decode(_ bytes: [UInt8]) -> [Value]? {
    var at = 0
    var cells: [Value] = []
    while at < bytes.count {
      guard let cell = decode(bytes, &at) else { return nil }
      cells.append(cell)
    }
    return cells
  }

  private static func decode(_ bytes: [UInt8], _ at: inout Int) -> Value? {
    func number() -> UInt64? {
      guard at + 8 <= bytes.count else { return nil }
      defer { at += 8 }
      return (0..<8).reduce(0) { $0 | UInt64(bytes[at + $1]) << (8 * UInt64($1)) }
    }
    func content() -> ArraySlice<UInt8>? {
      guard at + 4 <= bytes.count else { return nil }
      let count = (0..<4).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
      guard at + 4 + count <= bytes.count else { return nil }
      defer { at += 4 + count }
      return bytes[at + 4..<at + 4 + count]
    }
    guard at < bytes.count, let kind = Kind(rawValue: bytes[at]) else { return nil }
    at += 1
    switch kind {
    case .null: return .null
    case .bool:
      guard at < bytes.count else { return nil }
      at += 1
      return .bool(bytes[at - 1] != 0)
    case .int: return number().map { .int(Int64(bitPattern: $0)) }
    case .double: return number().map { .double(Double(bitPattern: $0)) }
    case .timestamp:
      return number().map {
        .timestamp(Timestamp(microsecondsSinceEpoch: Int64(bitPattern: $0)))
      }
    case .string: return content().map { .string(String(decoding: $0, as: UTF8.self)) }
    case .bytes: return content().map { .bytes(Array($0)) }
    case .array:
      guard at + 4 <= bytes.count else { return nil }
      let count = (0..<4).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
      at += 4
      var elements: [Value] = []
      for _ in 0..<count {
        guard let element = decode(bytes, &at) else { return nil }
        elements.append(element)
      }
      return .array(elements)
    }
  }
}
