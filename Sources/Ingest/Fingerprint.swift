/// A quick digest that tells one request from another. It is no proof against a client that wants
/// two requests to look alike: such a client only harms its own rows.
///
/// Two FNV-1a sums over eight bytes at a time, from different starts, and the length (Fowler, Noll,
/// Vo; the public-domain constants).
package enum Fingerprint {
  package static func hexadecimal(_ bytes: some Collection<UInt8>) -> String {
    var a: UInt64 = 0xCBF2_9CE4_8422_2325
    var b: UInt64 = 0x9E37_79B9_7F4A_7C15
    func mix(_ word: UInt64) {
      a = (a ^ word) &* 0x100_0000_01B3
      a ^= a >> 29
      b = (b ^ word) &* 0x9FB2_1C65_1E98_DF25
      b ^= b >> 32
    }
    var word: UInt64 = 0
    var count: UInt64 = 0
    for byte in bytes {
      word = word << 8 | UInt64(byte)
      count += 1
      if count & 7 == 0 {
        mix(word)
        word = 0
      }
    }
    mix(word)
    mix(count)
    return String(a, radix: 16) + "-" + String(b, radix: 16)
  }
}
