/// Bytes as text (RFC 4648 §4), the form in which JSON carries them.
package enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  package static func encode(_ bytes: [UInt8]) -> String {
    var out: [UInt8] = []
    out.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      var word: UInt32 = 0
      for i in 0..<3 { word = word << 8 | (i < group.count ? UInt32(group[start + i]) : 0) }
      for i in 0..<4 {
        out.append(
          i <= group.count
            ? alphabet[Int(word >> UInt32(18 - 6 * i) & 63)] : UInt8(ascii: "="))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Reads padded Base64; nil where the text is nothing of the kind.
  package static func decode(_ text: String) -> [UInt8]? {
    let bytes = Array(text.utf8)
    guard bytes.count.isMultiple(of: 4) else { return nil }
    let padding = bytes.reversed().prefix(while: { $0 == UInt8(ascii: "=") }).count
    guard padding <= 2 else { return nil }
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count / 4 * 3)
    var word: UInt32 = 0
    for (i, byte) in bytes.dropLast(padding).enumerated() {
      guard let digit = digit(byte) else { return nil }
      word = word << 6 | digit
      switch i & 3 {
      case 1: out.append(UInt8(truncatingIfNeeded: word >> 4))
      case 2: out.append(UInt8(truncatingIfNeeded: word >> 2))
      case 3: out.append(UInt8(truncatingIfNeeded: word))
      default: break
      }
    }
    return out
  }

  private static func digit(_ byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte) - 65
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte) - 71
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte) + 4
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
