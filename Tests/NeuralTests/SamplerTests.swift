import Neural
import Testing

@Suite struct `Negative sampler` {
  @Test(arguments: [1, 2, 3] as [UInt64])
  func `draws in proportion to the weights, and never what has none`(seed: UInt64) {
    var generator = SplitMix64(seed: seed)
    let weights: [Double] = (0..<200).map { item in
      item % 7 == 0 ? 0 : Double.random(in: 0.01...1, using: &generator) * (item == 50 ? 300 : 1)
    }
    let sampler = NegativeSampler(weights: weights)
    let draws = 400_000
    var counts = [Int](repeating: 0, count: weights.count)
    for _ in 0..<draws { counts[Int(sampler.draw(using: &generator))] += 1 }
    let sum = weights.reduce(0, +)
    for (item, weight) in weights.enumerated() {
      let expected = weight / sum * Double(draws)
      if weight == 0 {
        #expect(counts[item] == 0, "seed \(seed), item \(item)")
      } else {
        // Six standard deviations of a binomial count.
        let deviation = (expected * (1 - weight / sum)).squareRoot()
        #expect(
          abs(Double(counts[item]) - expected) < 6 * deviation + 1, "seed \(seed), item \(item)")
      }
    }
  }

  @Test func `draws every item alike where there are no weights, and the only one there is`() {
    var generator = SplitMix64(seed: 9)
    let uniform = NegativeSampler(uniformOver: 10)
    var counts = [Int](repeating: 0, count: 10)
    for _ in 0..<100_000 { counts[Int(uniform.draw(using: &generator))] += 1 }
    #expect(counts.allSatisfy { abs($0 - 10_000) < 600 }, "\(counts)")
    let single = NegativeSampler(weights: [0, 2, 0])
    #expect((0..<1000).allSatisfy { _ in single.draw(using: &generator) == 1 })
  }
}
