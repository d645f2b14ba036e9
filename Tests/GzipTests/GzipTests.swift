import Domain
import Gzip
import Testing

@Suite struct `Gzip data` {
  static let text = Array(String(repeating: "a swipe, then a like. ", count: 20_000).utf8)

  @Test(arguments: [1, 7, 1000, 1 << 20])
  func `comes out whole however it arrives`(piece: Int) throws {
    let packed = Gzip.deflated(Self.text)
    let inflater = try GzipReader()
    var out: [UInt8] = []
    var at = 0
    while at < packed.count {
      try inflater.inflate(packed[at..<min(at + piece, packed.count)]) { out += $0 }
      at += piece
    }
    #expect(out == Self.text)
    #expect(inflater.state == .atMemberEnd)
    #expect(inflater.producedCount == Self.text.count)
  }

  @Test func `may have several members and zeros behind them`() throws {
    let packed = Gzip.deflated([1, 2, 3]) + Gzip.deflated([4, 5]) + [0, 0, 0]
    #expect(try Gzip.inflated(packed, limit: 10) == [1, 2, 3, 4, 5])
  }

  @Test func `is refused beyond the limit, and where it is broken or cut`() throws {
    let packed = Gzip.deflated(Self.text)
    #expect(try Gzip.inflated(packed, limit: Self.text.count) == Self.text)
    func code(_ bytes: [UInt8], _ limit: Int) -> String? {
      do throws(Diagnostic) {
        _ = try Gzip.inflated(bytes, limit: limit)
        return nil
      } catch { return error.code }
    }
    #expect(code(packed, Self.text.count - 1) == "body_too_large")
    #expect(code(Array(packed.dropLast()), 1 << 20) == "invalid_gzip")
    #expect(code(Array("not gzip at all".utf8), 1 << 20) == "invalid_gzip")
    #expect(code([], 10) == "invalid_gzip")
    var broken = packed
    broken[packed.count / 2] ^= 0xFF
    #expect(code(broken, 1 << 20) == "invalid_gzip")
  }
}
