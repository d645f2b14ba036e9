import Connectors
import Testing

@Suite struct `Back-off` {
  @Test func `doubles up to its limit, with some chance in it, and starts again after a success`() {
    var generator = SystemRandomNumberGenerator()
    var backOff = BackOff(first: .milliseconds(100), longest: .seconds(2))
    var wholes: [Duration] = [100, 200, 400, 800, 1600, 2000, 2000].map { .milliseconds($0) }
    wholes += Array(repeating: .seconds(2), count: 100)
    for (i, whole) in wholes.enumerated() {
      #expect(backOff.failures == i)
      let wait = backOff.failed(using: &generator)
      #expect(wait >= whole * 0.5 && wait <= whole, "failure \(i): \(wait)")
    }
    backOff.succeeded()
    #expect(backOff.failed(using: &generator) <= .milliseconds(100))
  }
}
