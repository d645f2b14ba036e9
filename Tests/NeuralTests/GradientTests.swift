import Kernels
import Neural
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Every gradient against central differences of the loss.
@Suite struct `Gradients of the transformer and its loss` {
  struct Case: CustomTestStringConvertible, Sendable {
    var shape: TransformerShape
    var dropout: Float
    /// Widens the item vectors, so that scores leave the range in which no maximum is subtracted.
    var itemScale: Float
    var testDescription: String { "\(shape.activation), dropout \(dropout), scale \(itemScale)" }
  }

  static let cases: [Case] = [
    Case(
      shape: TransformerShape(
        itemCount: 11, width: 6, heads: 2, blocks: 2, innerWidth: 10, maximumLength: 7,
        activation: .gelu), dropout: 0, itemScale: 1),
    Case(
      shape: TransformerShape(
        itemCount: 40, width: 8, heads: 1, blocks: 1, innerWidth: 8, maximumLength: 5,
        activation: .gelu), dropout: 0.3, itemScale: 1),
    Case(
      shape: TransformerShape(
        itemCount: 9, width: 4, heads: 4, blocks: 1, innerWidth: 4, maximumLength: 6,
        activation: .relu), dropout: 0.2, itemScale: 1),
    Case(
      shape: TransformerShape(
        itemCount: 12, width: 8, heads: 2, blocks: 1, innerWidth: 8, maximumLength: 6,
        activation: .gelu), dropout: 0, itemScale: 60),
  ]

  @Test(arguments: cases, Kernels.available)
  func `agree with finite differences`(test: Case, version: String) throws {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: 4)
    let layout = TransformerLayout(test.shape)
    let parameters = Buffer(count: layout.count)
    layout.initialise(parameters, deviation: 0.5, using: &generator)
    for i in 0..<layout.count { parameters.pointer[i] += 0.05 * generator.normal() }
    let items = layout.entries[0]
    for i in 0..<items.count { parameters.pointer[i] *= test.itemScale }
    let weights = PackedWeights(layout, parameters: parameters, kernels: kernels)
    let pass = TransformerPass(layout, kernels: kernels)
    let softmax = CatalogueSoftmax(layout, kernels: kernels, chunk: 3)
    var batch = PackedBatch()
    for length in [2, 5, 9, 3] {
      batch.append(
        training: (0..<length).map { _ in
          Int32(Int.random(in: 0..<test.shape.itemCount, using: &generator))
        }, maximumLength: test.shape.maximumLength)
    }
    let d = test.shape.width
    let unused = Buffer(count: layout.count)
    let dhidden = Buffer(count: batch.tokenCount * d)
    func loss() -> Double {
      weights.update()
      let hidden = pass.forward(batch, weights, dropout: test.dropout, seed: 77)
      return softmax.lossAndGradients(
        hidden: hidden, targets: batch.targets, weight: 1, weights, dhidden: dhidden.pointer,
        into: unused)
    }
    let gradients = Buffer(count: layout.count)
    let hidden = pass.forward(batch, weights, dropout: test.dropout, seed: 77)
    _ = softmax.lossAndGradients(
      hidden: hidden, targets: batch.targets, weight: 1, weights, dhidden: dhidden.pointer,
      into: gradients)
    pass.backward(batch, weights, dhidden: dhidden.pointer, into: gradients)

    for entry in layout.entries {
      // Along a random direction, a whole tensor's gradient is one number: fewer, larger differences
      // than element by element, so single precision is enough.
      for _ in 0..<2 {
        let direction = (0..<entry.count).map { _ in generator.normal() }
        let length = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let step: Float =
          (entry.name == "item.weight" ? test.itemScale : 1) * 4e-3
          * max(1, Float(entry.count).squareRoot() * 0.1)
        let start = parameters.pointer + entry.offset
        let kept = (0..<entry.count).map { start[$0] }
        func moved(_ sign: Float) -> Double {
          for i in 0..<entry.count { start[i] = kept[i] + sign * step * direction[i] / length }
          return loss()
        }
        let numeric = (moved(1) - moved(-1)) / Double(2 * step)
        for i in 0..<entry.count { start[i] = kept[i] }
        let exact = direction.indices.reduce(0.0) {
          $0 + Double(gradients.pointer[entry.offset + $1] * direction[$1] / length)
        }
        let scale = (0..<entry.count).reduce(0.0) {
          $0 + Double(gradients.pointer[entry.offset + $1] * gradients.pointer[entry.offset + $1])
        }.squareRoot()
        // ReLU has kinks: a difference across one is off by its slope.
        let tolerance = (test.shape.activation == .relu ? 0.06 : 0.02) * max(scale, 0.05)
        #expect(abs(numeric - exact) < tolerance, "\(entry.name): \(numeric) and \(exact)")
      }
    }
  }

  /// In bfloat16 every operand is off by up to 2^-9, so gradients are compared with the exact ones as
  /// whole tensors: 3 % of their length (1 % was seen on real models, more on these tiny ones).
  @Test(arguments: cases, Kernels.available)
  func `in bfloat16 stay near those in single precision`(test: Case, version: String) throws {
    let kernels = try #require(Kernels(named: version))
    let layout = TransformerLayout(test.shape)
    var generator = SplitMix64(seed: 14)
    let parameters = Buffer(count: layout.count)
    layout.initialise(parameters, deviation: 0.5, using: &generator)
    for i in 0..<layout.entries[0].count { parameters.pointer[i] *= test.itemScale }
    var batch = PackedBatch()
    for length in [2, 5, 9, 3] {
      batch.append(
        training: (0..<length).map { _ in
          Int32(Int.random(in: 0..<test.shape.itemCount, using: &generator))
        }, maximumLength: test.shape.maximumLength)
    }
    func gradients(_ precision: Precision) -> (loss: Double, values: [Float]) {
      let weights = PackedWeights(
        layout, parameters: parameters, kernels: kernels, precision: precision)
      let pass = TransformerPass(layout, kernels: kernels)
      let result = Buffer(count: layout.count)
      let dhidden = Buffer(count: batch.tokenCount * test.shape.width)
      let hidden = pass.forward(batch, weights, dropout: test.dropout, seed: 5)
      let loss = CatalogueSoftmax(layout, kernels: kernels, chunk: 4).lossAndGradients(
        hidden: hidden, targets: batch.targets, weight: 1, weights, dhidden: dhidden.pointer,
        into: result)
      pass.backward(batch, weights, dhidden: dhidden.pointer, into: result)
      return (loss, result.array)
    }
    let exact = gradients(.float32)
    let rounded = gradients(.bfloat16)
    func length(_ x: [Float]) -> Float { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    let distance = length(zip(exact.values, rounded.values).map { $0 - $1 })
    #expect(distance > 0)
    #expect(distance < 0.03 * length(exact.values), "\(distance / length(exact.values))")
    #expect(abs(exact.loss - rounded.loss) < 0.02 * exact.loss + 0.02)
  }

  @Test func `the loss is the negative log-likelihood of a plain softmax`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    let shape = TransformerShape(
      itemCount: 50, width: 8, heads: 2, blocks: 1, innerWidth: 8, maximumLength: 6)
    let layout = TransformerLayout(shape)
    var generator = SplitMix64(seed: 8)
    for scale in [Float(0.1), 1, 30, 1000] {
      let parameters = Buffer(count: layout.count)
      layout.initialise(parameters, deviation: 1, using: &generator)
      for i in 0..<layout.entries[0].count { parameters.pointer[i] *= scale }
      let weights = PackedWeights(layout, parameters: parameters, kernels: kernels)
      let hidden = (0..<4 * 8).map { _ in generator.normal() }
      let targets: [Int32] = [3, 49, 0, 3]
      let dhidden = Buffer(count: 32)
      let found = CatalogueSoftmax(layout, kernels: kernels).lossAndGradients(
        hidden: hidden, targets: targets, weight: 1, weights, dhidden: dhidden.pointer,
        into: Buffer(count: layout.count))
      var expected = 0.0
      for (row, target) in targets.enumerated() {
        let scores = (0..<50).map { item in
          (0..<8).reduce(0.0) {
            $0 + Double(hidden[row * 8 + $1]) * Double(parameters.pointer[item * 8 + $1])
          }
        }
        let top = scores.max() ?? 0
        expected += top + log(scores.reduce(0) { $0 + exp($1 - top) }) - scores[Int(target)]
      }
      #expect(abs(found - expected) < 1e-5 * max(1, expected), "scale \(scale)")
    }
  }

  @Test func `a batch counts places from the end and cuts to the newest`() {
    var batch = PackedBatch()
    batch.append(training: [1, 2, 3, 4, 5] as [Int32], maximumLength: 3)
    batch.append(training: [7, 8] as [Int32], maximumLength: 3)
    #expect(batch.tokens == [2, 3, 4, 7])
    #expect(batch.targets == [3, 4, 5, 8])
    #expect(batch.places == [0, 1, 2, 2])
    #expect(batch.offsets == [0, 3, 4])
    #expect(batch.longest == 3)
  }
}

@Suite struct `Losses over drawn items` {
  static let shape = TransformerShape(
    itemCount: 15, width: 6, heads: 1, blocks: 1, innerWidth: 6, maximumLength: 6)

  static let objectives: [SampledObjective] = [
    .softmax, .binary(calibration: 0), .binary(calibration: 0.75), .pairwise,
  ]

  struct Setting {
    let layout = TransformerLayout(shape)
    let parameters: Buffer
    let hidden: Buffer
    let batch: PackedBatch
    let kernels: Kernels

    init() throws {
      kernels = try #require(Kernels(environment: [:]))
      var generator = SplitMix64(seed: 6)
      parameters = Buffer(count: layout.count)
      layout.initialise(parameters, deviation: 0.7, using: &generator)
      var batch = PackedBatch()
      for length in [3, 6, 2] {
        batch.append(
          training: (0..<length).map { _ in Int32(Int.random(in: 0..<15, using: &generator)) },
          maximumLength: 6)
      }
      self.batch = batch
      hidden = Buffer((0..<batch.tokenCount * 6).map { _ in generator.normal() })
    }

    func run(
      _ objective: SampledObjective, _ sharing: NegativeSharing, corrected: Bool,
      negatives: Int = 7
    ) -> (loss: Double, dhidden: Buffer, gradients: Buffer, touched: [Int32]) {
      let weights = (0..<15).map { 1 + Double($0) }
      let loss = SampledLoss(
        layout, objective: objective, negatives: negatives, sharing: sharing,
        sampler: corrected ? NegativeSampler(weights: weights) : NegativeSampler(uniformOver: 15),
        corrected: corrected, kernels: kernels)
      let dhidden = Buffer(count: hidden.count)
      let gradients = Buffer(count: layout.count)
      var touched: [Int32] = []
      var generator = SplitMix64(seed: 99)
      let value = loss.lossAndGradients(
        hidden: hidden.pointer, batch, weight: 1, parameters: parameters,
        dhidden: dhidden.pointer, into: gradients, touched: &touched, using: &generator)
      return (value, dhidden, gradients, touched)
    }
  }

  @Test(arguments: objectives, NegativeSharing.allCases)
  func `have gradients that agree with finite differences`(
    objective: SampledObjective, sharing: NegativeSharing
  ) throws {
    let setting = try Setting()
    for corrected in [false, true] {
      let result = setting.run(objective, sharing, corrected: corrected)
      func check(_ buffer: Buffer, _ range: Range<Int>, _ exact: Buffer, _ name: String) {
        for i in range {
          let kept = buffer.pointer[i]
          buffer.pointer[i] = kept + 0.01
          let above = setting.run(objective, sharing, corrected: corrected).loss
          buffer.pointer[i] = kept - 0.01
          let below = setting.run(objective, sharing, corrected: corrected).loss
          buffer.pointer[i] = kept
          let numeric = (above - below) / 0.02
          #expect(abs(numeric - Double(exact.pointer[i])) < 0.01, "\(name)[\(i)]")
        }
      }
      check(setting.hidden, 0..<setting.hidden.count, result.dhidden, "hidden")
      check(setting.parameters, 0..<15 * 6, result.gradients, "items")
      for item in 0..<15 where !result.touched.contains(Int32(item)) {
        #expect((0..<6).allSatisfy { result.gradients.pointer[item * 6 + $0] == 0 })
      }
    }
  }

  @Test func `sampled softmax with correction nears the full softmax as more is drawn`() throws {
    let setting = try Setting()
    let weights = PackedWeights(
      setting.layout, parameters: setting.parameters, kernels: setting.kernels)
    let dhidden = Buffer(count: setting.hidden.count)
    let full = CatalogueSoftmax(setting.layout, kernels: setting.kernels).lossAndGradients(
      hidden: setting.hidden.pointer, targets: setting.batch.targets, weight: 1, weights,
      dhidden: dhidden.pointer, into: Buffer(count: setting.layout.count))
    withExtendedLifetime(dhidden) {}
    let sampled = setting.run(.softmax, .pass, corrected: true, negatives: 20_000).loss
    #expect(abs(sampled - full) < 0.03 * full, "\(sampled) and \(full)")
  }
}
