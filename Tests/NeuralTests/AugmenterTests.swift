import Kernels
import Neural
import Testing

@Suite struct `An augmenter of histories` {
  static let network = LACLNetwork(
    itemCount: 12, width: 6, heads: 2, blocks: 1, innerWidth: 8, maximumLength: 9)

  static func parameters(_ network: LACLNetwork, deviation: Float, seed: UInt64) -> Buffer {
    var generator = SplitMix64(seed: seed)
    let parameters = Buffer(count: network.layout.count)
    network.layout.initialise(parameters, deviation: deviation, using: &generator)
    return parameters
  }

  @Test func `corrupts so that mending gives the history back`() {
    var generator = SplitMix64(seed: 3)
    var counts = [LACLNetwork.Operation: Int]()
    for length in [1, 2, 3, 9, 40] {
      for _ in 0..<200 {
        let history = (0..<length).map { Int32($0 % 11) }
        let corruption = Corruption(history, itemCount: 100, using: &generator)
        var mended: [Int32] = []
        for (i, token) in corruption.tokens.enumerated() {
          counts[corruption.operations[i], default: 0] += 1
          let missing = corruption.missing[i]
          #expect((corruption.operations[i] == .insert) == !missing.isEmpty)
          #expect(missing.count <= LACLNetwork.insertedAtMost)
          if corruption.operations[i] == .delete {
            #expect(!history.contains(token))
          } else {
            mended += missing.reversed() + [token]
          }
        }
        #expect(mended == history)
      }
    }
    #expect(counts.values.allSatisfy { $0 > 500 })
  }

  @Test func `a history of every item is never given a foreign one`() {
    var generator = SplitMix64(seed: 3)
    let corruption = Corruption([0, 1, 2] as [Int32], itemCount: 3, using: &generator)
    #expect(!corruption.operations.contains(.delete))
  }

  @Test func `random alterations keep what they should`() {
    var generator = SplitMix64(seed: 5)
    let history = (0..<20).map { Int32($0) }
    var kinds = Set<String>()
    for _ in 0..<100 {
      let view = randomView(of: history, hidden: 99, using: &generator)
      if view.count == 12 {
        kinds.insert("run")
        #expect(zip(view, view.dropFirst()).allSatisfy { $1 == $0 + 1 })
      } else if view.contains(99) {
        kinds.insert("hidden")
        #expect(zip(view, history).allSatisfy { $0 == $1 || $0 == 99 })
      } else {
        kinds.insert("reordered")
        #expect(view.sorted() == history)
      }
    }
    #expect(kinds.count == 3)
    #expect(randomView(of: [4] as [Int32], hidden: 99, using: &generator) == [4])
  }

  @Test(arguments: Kernels.available)
  func `has gradients that agree with finite differences`(version: String) throws {
    let kernels = try #require(Kernels(named: version))
    let network = Self.network
    let parameters = Self.parameters(network, deviation: 0.5, seed: 8)
    let weights = PackedWeights(network.layout, parameters: parameters, kernels: kernels)
    let augmenter = Augmenter(network, negatives: 6, kernels: kernels)
    var generator = SplitMix64(seed: 9)
    let corruptions = [5, 12, 1, 8].map { length in
      Corruption((0..<length).map { Int32($0 * 5 % 12) }, itemCount: 12, using: &generator)
    }
    func run(_ gradients: Buffer) -> Double {
      weights.update()
      var random = SplitMix64(seed: 77)
      var touched: [Int32] = []
      let losses = augmenter.lossAndGradients(
        corruptions, weights, weight: 1, dropout: 0.2, into: gradients, touched: &touched,
        using: &random)
      return losses.operations + losses.insertions
    }
    let gradients = Buffer(count: network.layout.count)
    _ = run(gradients)
    let unused = Buffer(count: network.layout.count)
    for entry in network.layout.entries {
      for _ in 0..<2 {
        let direction = (0..<entry.count).map { _ in generator.normal() }
        let length = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let step: Float = 8e-3 * max(1, Float(entry.count).squareRoot() * 0.1)
        let start = parameters.pointer + entry.offset
        let kept = (0..<entry.count).map { start[$0] }
        func moved(_ sign: Float) -> Double {
          for i in 0..<entry.count { start[i] = kept[i] + sign * step * direction[i] / length }
          return run(unused)
        }
        let numeric = (moved(1) - moved(-1)) / Double(2 * step)
        for i in 0..<entry.count { start[i] = kept[i] }
        let exact = direction.indices.reduce(0.0) {
          $0 + Double(gradients.pointer[entry.offset + $1] * direction[$1] / length)
        }
        let scale = (0..<entry.count).reduce(0.0) {
          $0 + Double(gradients.pointer[entry.offset + $1] * gradients.pointer[entry.offset + $1])
        }.squareRoot()
        #expect(
          abs(numeric - exact) < 0.02 * max(scale, 0.05), "\(entry.name): \(numeric) and \(exact)")
      }
    }
  }

  @Test(arguments: Kernels.available)
  func `contrasts with gradients that agree with finite differences`(version: String) throws {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: 10)
    let (g, d) = (4, 5)
    let vectors = Buffer((0..<3 * g * d).map { _ in generator.normal() })
    let dvectors = Buffer(count: vectors.count)
    let unused = Buffer(count: vectors.count)
    func run(_ into: Buffer) -> Double {
      let losses = ContrastiveLoss.lossAndGradients(
        vectors.pointer, groupCount: g, width: d, contrast: 0.7, triplet: 0.3,
        dvectors: into.pointer, kernels: kernels)
      return 0.7 * losses.contrast + 0.3 * losses.triplet
    }
    _ = run(dvectors)
    for i in 0..<vectors.count {
      let kept = vectors.pointer[i]
      vectors.pointer[i] = kept + 0.01
      let above = run(unused)
      vectors.pointer[i] = kept - 0.01
      let below = run(unused)
      vectors.pointer[i] = kept
      #expect(abs((above - below) / 0.02 - Double(dvectors.pointer[i])) < 2e-3, "\(i)")
    }
  }

  /// Items stand on a ring, so what is foreign and what is missing is certain.
  @Test func `learns to take out what does not belong and to put back what is missing`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    let items = 24
    let network = LACLNetwork(
      itemCount: items, width: 24, heads: 2, blocks: 1, innerWidth: 48, maximumLength: 12)
    let count = network.layout.count
    let parameters = Self.parameters(network, deviation: 0.1, seed: 2)
    let weights = PackedWeights(network.layout, parameters: parameters, kernels: kernels)
    let augmenter = Augmenter(network, negatives: 24, kernels: kernels)
    var generator = SplitMix64(seed: 4)
    let gradients = Buffer(count: count)
    let (first, second) = (Buffer(count: count), Buffer(count: count))
    func ring(_ length: Int) -> [Int32] {
      let start = Int.random(in: 0..<items, using: &generator)
      return (0..<length).map { Int32((start + $0) % items) }
    }
    for step in 1...500 {
      gradients.clear()
      var touched: [Int32] = []
      let corruptions = (0..<16).map { _ in
        Corruption(ring(8), itemCount: items, using: &generator)
      }
      _ = augmenter.lossAndGradients(
        corruptions, weights, weight: 1, dropout: 0, into: gradients, touched: &touched,
        using: &generator)
      let beta = (Float(0.9), Float(0.98))
      var powers = (Float(1), Float(1))
      for _ in 0..<step { powers = (powers.0 * beta.0, powers.1 * beta.1) }
      kernels.adam(
        count: count, parameters.pointer, gradients: gradients.pointer, first: first.pointer,
        second: second.pointer, AdamStep(rate: 5e-3, number: step),
        correction1: 1 / (1 - powers.0), correction2: 1 / (1 - powers.1))
      weights.update()
    }
    // Item 3 is missing before 4; 20 does not belong.
    let history: [Int32] = [0, 1, 2, 4, 5, 20, 6, 7]
    let view = augmenter.views(
      of: [history], weights, using: &generator, isRandom: false)[0]
    #expect(view == [0, 1, 2, 3, 4, 5, 6, 7], "\(view)")
    // By chance alterations differ, are never empty, hold known items and keep their order.
    var views = Set<[Int32]>()
    for _ in 0..<30 {
      let view = augmenter.views(of: [history], weights, using: &generator)[0]
      views.insert(view)
      #expect(!view.isEmpty && view.allSatisfy { (0..<Int32(items)).contains($0) })
    }
    #expect(views.count > 1)
    let sorted = Augmenter(network, keepsOrder: false, negatives: 24, kernels: kernels)
      .views(of: [[7, 6, 5, 6]], weights, using: &generator)[0]
    #expect(sorted == Set(sorted).sorted())
  }
}
