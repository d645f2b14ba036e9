/// How long to wait after one failure after another: twice as long each time, with some chance in it,
/// up to a limit. Holds no clock.
///
/// The chance keeps many sources that failed together from coming back together.
package struct BackOff: Hashable, Sendable {
  package let first: Duration
  package let longest: Duration
  /// Failures since the last success.
  package private(set) var failures = 0

  package init(first: Duration = .milliseconds(500), longest: Duration = .seconds(60)) {
    precondition(first > .zero && longest >= first, "back-off from \(first) to \(longest)")
    self.first = first
    self.longest = longest
  }

  package mutating func succeeded() { failures = 0 }

  /// The wait after one more failure: between half and the whole of the doubled time.
  package mutating func failed(using generator: inout some RandomNumberGenerator) -> Duration {
    let doublings = min(failures, 30)
    failures += 1
    let whole = min(longest, first * (1 << doublings))
    return whole * Double.random(in: 0.5...1, using: &generator)
  }
}
