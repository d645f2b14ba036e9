import Foundation

/// What the environment asks of the tests.
enum TestSettings {
  /// `RIFFLE_FULL`: the long runs of property tests.
  static let isFull = ProcessInfo.processInfo.environment["RIFFLE_FULL"] != nil
  /// `RIFFLE_GOLDEN=rewrite`: new answers are written into the golden scripts.
  static let rewritesGolden = ProcessInfo.processInfo.environment["RIFFLE_GOLDEN"] == "rewrite"
}
