/// How one contender's figures differ from another's on the same cases.
package struct PairedDifference: Hashable, Sendable {
  /// The mean of first minus second, with its bootstrap interval over cases.
  package var difference: Estimate
  /// The chance of a mean at least as far from zero if the two were alike: a two-sided
  /// randomisation test that swaps the two within each case (Smucker, Allan & Carterette 2007).
  package var pValue: Double

  /// Whether the difference is more than luck, at 5 %.
  package var isSignificant: Bool { pValue < 0.05 }

  init(difference: Estimate, pValue: Double) {
    self.difference = difference
    self.pValue = pValue
  }

  /// - Parameters:
  ///   - first: one figure for each case.
  ///   - second: of the same cases, in the same order.
  package init(_ first: [Double], _ second: [Double], seed: UInt64 = 1, resamples: Int = 2000) {
    precondition(first.count == second.count, "\(first.count) and \(second.count) cases")
    let differences = zip(first, second).map { $0 - $1 }
    difference = bootstrap(differences, seed: seed)
    let observed = abs(differences.reduce(0, +))
    // Cases in which both did the same change no sum.
    let moved = differences.filter { $0 != 0 }
    guard !moved.isEmpty else {
      pValue = 1
      return
    }
    var random = EvaluationRandom(seed: seed)
    var asFar = 0
    // Sums in another order differ in their last bits.
    let limit = observed * (1 - 1e-12)
    for _ in 0..<resamples {
      var sum = 0.0
      var bits: UInt64 = 0
      for (i, value) in moved.enumerated() {
        if i % 64 == 0 { bits = random.next() }
        sum += bits & 1 == 0 ? value : -value
        bits >>= 1
      }
      if abs(sum) >= limit { asFar += 1 }
    }
    pValue = Double(asFar + 1) / Double(resamples + 1)
  }
}

/// A small generator whose numbers are the same everywhere (Steele, Lea & Flood, OOPSLA 2014).
package struct EvaluationRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64
  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A whole number from 0 up to a bound, by the high half of a product: the same on every
  /// platform, and its bias is below one in 2^32 for bounds of this use.
  package mutating func next(below bound: Int) -> Int {
    Int(next().multipliedFullWidth(by: UInt64(bound)).high)
  }
}
