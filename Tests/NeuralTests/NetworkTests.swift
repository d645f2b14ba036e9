import Kernels
import Neural
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A kind of network with sizes small enough for finite differences.
struct NetworkCase: CustomTestStringConvertible, Sendable {
  var name: String
  var network: any SequenceNetwork
  var dropout: Float = 0
  var testDescription: String { "\(name), dropout \(dropout)" }

  static let all: [NetworkCase] = [
    NetworkCase(
      name: "both ways",
      network: TransformerShape(
        itemCount: 11, width: 8, heads: 2, blocks: 2, innerWidth: 10, maximumLength: 7,
        isBidirectional: true), dropout: 0.2),
    NetworkCase(
      name: "separate output",
      network: TransformerShape(
        itemCount: 13, width: 6, heads: 1, blocks: 1, innerWidth: 6, maximumLength: 7,
        separatesOutput: true)),
    NetworkCase(
      name: "gated",
      network: GatedNetwork(
        itemCount: 11, width: 6, heads: 2, blocks: 2, innerWidth: 10, maximumLength: 7)),
    NetworkCase(
      name: "gated",
      network: GatedNetwork(
        itemCount: 20, width: 8, heads: 1, blocks: 1, innerWidth: 5, maximumLength: 9),
      dropout: 0.3),
    NetworkCase(
      name: "hstu",
      network: HSTUNetwork(
        itemCount: 11, width: 6, heads: 2, layers: 2, maximumLength: 7, usesTimes: false,
        temperature: 0.5)),
    NetworkCase(
      name: "hstu with times",
      network: HSTUNetwork(
        itemCount: 14, width: 8, heads: 1, layers: 2, maximumLength: 9, usesTimes: true,
        temperature: 0.3), dropout: 0.2),
    NetworkCase(
      name: "gru",
      network: GRUNetwork(
        itemCount: 11, width: 6, stateWidth: 5, layers: 1, maximumLength: 7)),
    NetworkCase(
      name: "gru",
      network: GRUNetwork(
        itemCount: 12, width: 5, stateWidth: 9, layers: 2, maximumLength: 9), dropout: 0.25),
  ]

  var layout: ParameterLayout { network.layout }

  /// Sequences of several lengths, with what the network needs beside the items.
  func batch(using generator: inout SplitMix64) -> PackedBatch {
    var batch = PackedBatch()
    for length in [2, 5, 11, 3] {
      let items = (0..<length).map { _ in
        Int32(Int.random(in: 0..<layout.itemCount, using: &generator))
      }
      if let mask = network.maskToken {
        let count = min(length, network.maximumLength)
        batch.append(
          masked: items, hidden: (0..<count).map { $0 % 2 == (length % 2) || $0 == count - 1 },
          mask: mask, maximumLength: network.maximumLength)
      } else if network.usesTimes {
        var time: Int64 = 1_000_000
        let times = items.map { _ in
          time += Int64.random(
            in: 0...1 << Int64.random(in: 1...24, using: &generator), using: &generator)
          return time
        }
        batch.append(training: items, maximumLength: network.maximumLength, times: times)
      } else {
        batch.append(training: items, maximumLength: network.maximumLength)
      }
    }
    return batch
  }

  func parameters(using generator: inout SplitMix64) -> Buffer {
    let parameters = Buffer(count: layout.count)
    layout.initialise(parameters, deviation: 0.5, using: &generator)
    for i in 0..<layout.trained { parameters.pointer[i] += 0.05 * generator.normal() }
    return parameters
  }
}

/// The loss and all gradients of a network, as training computes them.
func lossAndGradients(
  _ test: NetworkCase, _ batch: PackedBatch, _ weights: PackedWeights, _ pass: any NetworkPass,
  _ softmax: CatalogueSoftmax, into gradients: Buffer
) -> Double {
  let d = test.layout.width
  let hidden = pass.forward(batch, weights, dropout: test.dropout, seed: 77)
  let rows = batch.targetRows ?? (0..<Int32(batch.tokenCount)).map { $0 }
  let chosen = Buffer(rows.flatMap { row in (0..<d).map { hidden[Int(row) * d + $0] } })
  let dchosen = Buffer(count: chosen.count)
  let loss = softmax.lossAndGradients(
    hidden: chosen.pointer, targets: batch.targets, weight: 1, weights, dhidden: dchosen.pointer,
    into: gradients)
  let dhidden = Buffer(count: batch.tokenCount * d)
  for (i, row) in rows.enumerated() {
    (dhidden.pointer + Int(row) * d).update(from: dchosen.pointer + i * d, count: d)
  }
  pass.backward(batch, weights, dhidden: dhidden.pointer, into: gradients)
  weights.foldOutputGradients(gradients)
  withExtendedLifetime((chosen, dchosen, dhidden)) {}
  return loss
}

@Suite struct `Gradients of every network` {
  @Test(arguments: NetworkCase.all, Kernels.available)
  func `agree with finite differences`(test: NetworkCase, version: String) throws {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: 4)
    let layout = test.layout
    let parameters = test.parameters(using: &generator)
    let weights = PackedWeights(layout, parameters: parameters, kernels: kernels)
    let pass = test.network.makePass(kernels: kernels)
    let softmax = CatalogueSoftmax(layout, kernels: kernels, chunk: 4)
    let batch = test.batch(using: &generator)
    let gradients = Buffer(count: layout.count)
    _ = lossAndGradients(test, batch, weights, pass, softmax, into: gradients)
    let unused = Buffer(count: layout.count)
    for entry in layout.entries {
      let directions = entry.name.hasSuffix("time_bias") || entry.count < 4 ? 3 : 2
      for _ in 0..<directions {
        let direction = (0..<entry.count).map { _ in generator.normal() }
        let length = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let step: Float = 4e-3 * max(1, Float(entry.count).squareRoot() * 0.1)
        let start = parameters.pointer + entry.offset
        let kept = (0..<entry.count).map { start[$0] }
        func moved(_ sign: Float) -> Double {
          for i in 0..<entry.count { start[i] = kept[i] + sign * step * direction[i] / length }
          weights.update()
          return lossAndGradients(test, batch, weights, pass, softmax, into: unused)
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

  /// In bfloat16 every operand is off by up to 2^-9; whole gradients stay within 4 % of their length,
  /// and within 12 % where directions of length 1 are compared, because a temperature below 1
  /// multiplies what is off.
  @Test(arguments: NetworkCase.all, Kernels.available)
  func `in bfloat16 stay near those in single precision`(test: NetworkCase, version: String) throws
  {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: 14)
    let layout = test.layout
    let parameters = test.parameters(using: &generator)
    let batch = test.batch(using: &generator)
    func gradients(_ precision: Precision) -> (loss: Double, values: [Float]) {
      let weights = PackedWeights(
        layout, parameters: parameters, kernels: kernels, precision: precision)
      let result = Buffer(count: layout.count)
      let loss = lossAndGradients(
        test, batch, weights, test.network.makePass(kernels: kernels),
        CatalogueSoftmax(layout, kernels: kernels, chunk: 4), into: result)
      return (loss, result.array)
    }
    let exact = gradients(.float32)
    let rounded = gradients(.bfloat16)
    func length(_ x: [Float]) -> Float { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    let distance = length(zip(exact.values, rounded.values).map { $0 - $1 })
    #expect(distance > 0)
    let tolerance: Float = layout.output == .unit ? 0.12 : 0.04
    #expect(distance < tolerance * length(exact.values), "\(distance / length(exact.values))")
  }

  @Test(arguments: NetworkCase.all, Kernels.available)
  func `a history alone is encoded as it is among others, and as training sees it`(
    test: NetworkCase, version: String
  ) throws {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: 21)
    let parameters = test.parameters(using: &generator)
    let weights = PackedWeights(test.layout, parameters: parameters, kernels: kernels)
    let pass = test.network.makePass(kernels: kernels)
    let d = test.layout.width
    var histories: [(items: [Int32], times: [Int64])] = []
    for length in [3, 1, 12, 6] {
      let items = (0..<length).map { _ in
        Int32(Int.random(in: 0..<test.layout.itemCount, using: &generator))
      }
      histories.append((items, (0..<length).map { Int64($0 * $0 * 50_000) }))
    }
    func encode(_ places: [Int]) -> [Float] {
      var batch = PackedBatch()
      for i in places {
        test.network.append(
          history: histories[i].items, times: histories[i].times, moment: 9_000_000, to: &batch)
      }
      let vectors = pass.encodeLast(batch, weights)
      let found = (0..<places.count * d).map { vectors[$0] }
      // The same rows of a whole forward pass.
      let hidden = pass.forward(batch, weights, dropout: 0, seed: 0)
      for s in places.indices {
        for j in 0..<d {
          let row = Int(batch.offsets[s + 1]) - 1
          #expect(abs(hidden[row * d + j] - found[s * d + j]) < 1e-4 * (1 + abs(found[s * d + j])))
        }
      }
      return found
    }
    let together = encode([0, 1, 2, 3])
    for i in 0..<4 {
      for (a, b) in zip(encode([i]), together[i * d..<(i + 1) * d]) {
        #expect(abs(a - b) < 1e-4 * (1 + abs(b)), "history \(i): \(a) and \(b)")
      }
    }
  }

  /// Served histories are encoded in bfloat16 where the processor multiplies it.
  @Test(arguments: NetworkCase.all, Kernels.available)
  func `encodes in bfloat16 nearly as in single precision`(
    test: NetworkCase, version: String
  ) throws {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: 22)
    let parameters = test.parameters(using: &generator)
    let pass = test.network.makePass(kernels: kernels)
    let d = test.layout.width
    for lengths in [[1], [12], [3, 7]] {
      var batch = PackedBatch()
      for length in lengths {
        let items = (0..<length).map { _ in
          Int32(Int.random(in: 0..<test.layout.itemCount, using: &generator))
        }
        test.network.append(
          history: items, times: (0..<length).map { Int64($0 * 60_000) }, moment: 9_000_000,
          to: &batch)
      }
      func encode(_ precision: Precision) -> [Float] {
        let weights = PackedWeights(
          test.layout, parameters: parameters, kernels: kernels, precision: precision)
        let vectors = pass.encodeLast(batch, weights)
        return (0..<lengths.count * d).map { vectors[$0] }
      }
      let (exact, rounded) = (encode(.float32), encode(.bfloat16))
      for s in lengths.indices {
        // The error of the vector beside its length: a bfloat16 has 8 bits.
        var (error, size) = (Float(0), Float(0))
        for j in s * d..<(s + 1) * d {
          error += (exact[j] - rounded[j]) * (exact[j] - rounded[j])
          size += exact[j] * exact[j]
        }
        #expect(error.squareRoot() <= 0.04 * size.squareRoot(), "\(error) of \(size)")
        #expect(exact != rounded)
      }
    }
  }

  @Test func `buckets of time grow with the logarithm and end at the last`() {
    #expect(HSTUNetwork.bucket(0) == 0)
    #expect(HSTUNetwork.bucket(1) == 0)
    #expect(HSTUNetwork.bucket(2) == 2)
    #expect(HSTUNetwork.bucket(-100) == 15)
    #expect(HSTUNetwork.bucket(86_400) == 37)
    #expect(HSTUNetwork.bucket(.max) == 127)
    #expect(HSTUNetwork.bucket(.min) <= 127)
  }

  @Test func `a batch of hidden items keeps their rows and targets`() {
    var batch = PackedBatch()
    batch.append(
      masked: [5, 6, 7, 8] as [Int32], hidden: [false, true, true], mask: 9, maximumLength: 3)
    batch.append(masked: [1] as [Int32], hidden: [true], mask: 9, maximumLength: 3)
    #expect(batch.tokens == [6, 9, 9, 9])
    #expect(batch.targets == [7, 8, 1])
    #expect(batch.targetRows == [1, 2, 3])
    #expect(batch.offsets == [0, 3, 4])
    #expect(batch.targetOffsets == [0, 2, 3])
    #expect(batch.places == [0, 1, 2, 2])
  }

  @Test func `a batch with times knows when the next item came`() {
    var batch = PackedBatch()
    batch.append(
      training: [1, 2, 3, 4] as [Int32], maximumLength: 2, times: [10, 20, 30, 40] as [Int64])
    batch.append(
      history: [7, 8] as [Int32], maximumLength: 5, times: [50, 60] as [Int64], moment: 99)
    #expect(batch.tokens == [2, 3, 7, 8])
    #expect(batch.times == [20, 30, 50, 60])
    #expect(batch.nextTimes == [30, 40, 60, 99])
  }
}
