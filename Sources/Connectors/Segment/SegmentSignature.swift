import Crypto

/// The signature with which a webhook proves that it knows the shared secret: HMAC-SHA1 in hexadecimal
/// digits.
///
/// `X-Segment-Signature` covers the whole body. The older `X-Signature` covers the event, and of a
/// batch its first event only (segmentio/action-destinations, `webhook/index.ts`).
enum SegmentSignature {
  static func isValid(
    body: [UInt8], whole: String?, event: String?, secret: String
  ) -> Bool {
    let key = SymmetricKey(data: Array(secret.utf8))
    if let whole, isCode(whole, of: body, key) { return true }
    guard let event else { return false }
    if isCode(event, of: body, key) { return true }
    var splitter = RecordSplitter(.array, maximumBytes: max(body.count, 1))
    splitter.append(body)
    guard body.first(where: { ![32, 9, 10, 13].contains($0) }) == UInt8(ascii: "["),
      let first = splitter.next()
    else { return false }
    return isCode(event, of: first.bytes, key)
  }

  static func code(of bytes: [UInt8], secret: String) -> String {
    let key = SymmetricKey(data: Array(secret.utf8))
    return HMAC<Insecure.SHA1>.authenticationCode(for: bytes, using: key).hexadecimal
  }

  /// Takes the same time whatever the given digits are.
  private static func isCode(_ digits: String, of bytes: [UInt8], _ key: SymmetricKey) -> Bool {
    guard let given = bytesOf(hexadecimal: digits) else { return false }
    return HMAC<Insecure.SHA1>.isValidAuthenticationCode(
      given, authenticating: bytes, using: key)
  }

  private static func bytesOf(hexadecimal text: String) -> [UInt8]? {
    let digits = text.lowercased().utf8.map { $0 }
    guard digits.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    for i in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[i...(i + 1)], as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(byte)
    }
    return bytes
  }
}

extension Sequence<UInt8> {
  /// The bytes as lower-case hexadecimal digits.
  var hexadecimal: String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in self {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }
}
