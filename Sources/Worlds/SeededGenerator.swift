/// A seeded generator of random numbers: xoshiro256**, its state filled by SplitMix64.
///
/// The draws below use only exact operations (shifts, products, comparisons), so that one seed gives
/// the same world on every machine and with every release of the standard library.
///
/// - SeeAlso: Blackman & Vigna, *Scrambled Linear Pseudorandom Number Generators*, ACM TOMS 2021.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: (UInt64, UInt64, UInt64, UInt64)

  /// Starts one of many independent streams.
  ///
  /// - Parameters:
  ///   - seed: the same seed and stream give the same numbers.
  ///   - stream: which stream, such as a user's number; 0 where there is only one.
  package init(seed: UInt64, stream: UInt64 = 0) {
    var mixer = SplitMix64(state: seed)
    mixer.state = mixer.next() ^ (stream &* 0xD1B5_4A32_D192_ED03)
    state = (mixer.next(), mixer.next(), mixer.next(), mixer.next())
  }

  package mutating func next() -> UInt64 {
    let result = rotated(state.1 &* 5, by: 7) &* 9
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = rotated(state.3, by: 45)
    return result
  }

  /// Draws a number in `0 ..< 1`, a multiple of 2⁻⁵³.
  package mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// Draws a whole number in `0 ..< count`, each equally likely to within 2⁻⁶⁴ · count.
  package mutating func below(_ count: Int) -> Int {
    precondition(count > 0, "below: \(count) is not positive")
    return Int(next().multipliedFullWidth(by: UInt64(count)).high)
  }

  /// Draws a whole number of a closed range.
  package mutating func integer(in range: ClosedRange<Int>) -> Int {
    range.lowerBound + below(range.upperBound - range.lowerBound + 1)
  }

  /// Answers true with a probability.
  package mutating func chance(_ probability: Double) -> Bool { uniform() < probability }

  /// Draws an index with probability proportional to its weight.
  ///
  /// - Parameter weights: none negative.
  /// - Returns: nil where the weights sum to 0.
  /// - Complexity: O(n).
  package mutating func index(weights: [Double]) -> Int? {
    let total = weights.reduce(0, +)
    guard total > 0 else { return nil }
    var left = uniform() * total
    var last: Int?
    for (i, weight) in weights.enumerated() where weight > 0 {
      last = i
      if left < weight { return i }
      left -= weight
    }
    // Rounding can leave a little over after the last weight.
    return last
  }
}

private struct SplitMix64 {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

private func rotated(_ x: UInt64, by count: UInt64) -> UInt64 { x << count | x >> (64 - count) }
