package import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Hierarchical sequential transduction units: attention without a softmax, gated element by element,
/// with biases for distance in places and in time.
///
/// A layer: `u, q, k, v = silu(W norm(x) + b)`; `a = silu(q·kᵀ + places + times) / L` over the inputs up
/// to itself; `x + W₂ dropout(norm(a·v) · u) + b₂`. The bias of time is one number for each bucket of
/// `ln(max(1, seconds from the key's event to the event after the query's)) / 0.301`, so a position
/// knows when the item to guess comes; at serving that is the moment of the question. Hidden states
/// and item vectors are compared at length 1, divided by a temperature.
///
/// - SeeAlso: Zhai et al., *Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers
///   for Generative Recommendations*, ICML 2024, §3.2. The authors' code has norms without gains and
///   no bias in the first product; both are here. Their biases are shared by the heads of a layer, as
///   here. Learned positions, counted from the end, are added to the item vectors.
package struct HSTUNetwork: SequenceNetwork, Hashable {
  package static let bucketCount = 128

  package var itemCount: Int
  package var width: Int
  package var heads: Int
  package var layers: Int
  package var maximumLength: Int
  /// Whether it has biases of time; histories then come with times.
  package var usesTimes: Bool
  package var temperature: Float
  package var epsilon: Float

  package init(
    itemCount: Int, width: Int, heads: Int, layers: Int, maximumLength: Int, usesTimes: Bool,
    temperature: Float = 0.05, epsilon: Float = 1e-6
  ) {
    precondition(itemCount > 0 && width > 0 && heads > 0 && layers > 0, "an empty model")
    precondition(maximumLength > 0 && temperature > 0, "an empty model")
    precondition(width % heads == 0, "a width of \(width) cannot be split over \(heads) heads")
    self.itemCount = itemCount
    self.width = width
    self.heads = heads
    self.layers = layers
    self.maximumLength = maximumLength
    self.usesTimes = usesTimes
    self.temperature = temperature
    self.epsilon = epsilon
  }

  package var layout: ParameterLayout { Layout(self).table }

  package func furtherOperations(length: Double) -> Double {
    Double(layers) * 2 * Double(width) * length / 2 * 3.5
  }

  package func makePass(kernels: Kernels) -> any NetworkPass { HSTUPass(self, kernels: kernels) }

  /// The bucket of a difference in seconds.
  package static func bucket(_ seconds: Int64) -> UInt8 {
    let distance = Float(max(1, seconds.magnitude))
    return UInt8(min(Float(bucketCount - 1), logf(distance) / 0.301))
  }

  struct Layout {
    struct Layer {
      var norm1Gamma, norm1Beta: Int
      /// u, q, k, v, in this order.
      var inputs: ParameterLayout.Linear
      var distances: Int
      var times: Int?
      var norm2Gamma, norm2Beta: Int
      var out: ParameterLayout.Linear
    }

    var table: ParameterLayout
    var positions: Int
    var layers: [Layer] = []

    init(_ network: HSTUNetwork) {
      let d = network.width
      var table = ParameterLayout(itemCount: network.itemCount, width: d, output: .unit)
      positions = table.add("pos.weight", [network.maximumLength, d])
      for i in 0..<network.layers {
        let name = "layers.\(i)"
        layers.append(
          Layer(
            norm1Gamma: table.add("\(name).ln1.weight", [d]),
            norm1Beta: table.add("\(name).ln1.bias", [d]),
            inputs: table.addLinear("\(name).uqkv", inputs: d, outputs: 4 * d),
            distances: table.add("\(name).position_bias", [network.maximumLength]),
            times: network.usesTimes ? table.add("\(name).time_bias", [bucketCount]) : nil,
            norm2Gamma: table.add("\(name).ln2.weight", [d]),
            norm2Beta: table.add("\(name).ln2.bias", [d]),
            out: table.addLinear("\(name).o", inputs: d, outputs: d)))
      }
      self.table = table
    }
  }
}

/// A pass of an `HSTUNetwork`.
final class HSTUPass: NetworkPass {
  private struct LayerState {
    var input, normed, uqkv, slopes, attended, normedAttended, gated: UnsafeMutablePointer<Float>
    var mean1, inverse1, mean2, inverse2: UnsafeMutablePointer<Float>
  }

  private let kernels: Kernels
  private let network: HSTUNetwork
  private let layout: HSTUNetwork.Layout
  private let arena = Arena()
  private var states: [LayerState] = []
  private var buckets: [UInt8] = []
  private var site = DropoutSites()
  private var products: LinearProducts?
  private var last: (x: UnsafeMutablePointer<Float>, inverse: UnsafeMutablePointer<Float>)?

  init(_ network: HSTUNetwork, kernels: Kernels) {
    self.network = network
    self.kernels = kernels
    layout = HSTUNetwork.Layout(network)
  }

  private func scratchCount(_ batch: PackedBatch) -> Int {
    max(
      kernels.attentionScratch(headWidth: network.width / network.heads, longest: batch.longest),
      kernels.multiplyScratch(depth: 4096))
  }

  /// The bucket of every query and key up to it, a square for each sequence.
  private func fillBuckets(_ batch: PackedBatch) {
    buckets.removeAll(keepingCapacity: true)
    guard network.usesTimes else { return }
    precondition(batch.times.count == batch.tokenCount, "a batch without times")
    for s in 0..<batch.sequenceCount {
      let rows = Int(batch.offsets[s])..<Int(batch.offsets[s + 1])
      for i in rows {
        let next = batch.nextTimes[i]
        for j in rows {
          buckets.append(j <= i ? HSTUNetwork.bucket(next - batch.times[j]) : 0)
        }
      }
    }
  }

  /// Lends a layer's biases.
  private func withBias(
    _ layer: HSTUNetwork.Layout.Layer, _ weights: PackedWeights, _ body: (RelativeBias) -> Void
  ) {
    buckets.withUnsafeBufferPointer { buckets in
      body(
        RelativeBias(
          distances: weights.parameter(layer.distances), limit: network.maximumLength,
          times: buckets.isEmpty ? nil : layer.times.map { weights.parameter($0) },
          buckets: buckets.isEmpty ? nil : buckets.baseAddress))
    }
  }

  func forward(
    _ batch: PackedBatch, _ weights: PackedWeights, dropout: Float, seed: UInt32
  ) -> UnsafeMutablePointer<Float> {
    let t = batch.tokenCount
    let d = network.width
    site = DropoutSites(probability: dropout, seed: seed)
    let scratchCount = scratchCount(batch)
    arena.reset(
      count: 2 * t * d + t + network.layers * t * (13 * d + 4) + t * 12 * d + 2 * scratchCount
        + LinearProducts.count(rows: t, widest: layout.table.widest, scratch: scratchCount),
      pieces: 16 * (network.layers + 2))
    fillBuckets(batch)
    states.removeAll(keepingCapacity: true)
    var x = arena.take(t * d)
    kernels.embed(
      count: t, columns: d, tokens: batch.tokens, places: batch.places,
      items: weights.parameter(layout.table.items), positions: weights.parameter(layout.positions),
      site[0], into: x)
    let scratch = arena.take(scratchCount)
    let products = LinearProducts(
      rows: t, widest: layout.table.widest, scratch: scratchCount, from: arena, kernels)
    self.products = products
    for (i, layer) in layout.layers.enumerated() {
      let state = LayerState(
        input: x, normed: arena.take(t * d), uqkv: arena.take(t * 4 * d),
        slopes: arena.take(t * 4 * d), attended: arena.take(t * d),
        normedAttended: arena.take(t * d), gated: arena.take(t * d), mean1: arena.take(t),
        inverse1: arena.take(t), mean2: arena.take(t), inverse2: arena.take(t))
      states.append(state)
      kernels.layerNorm(
        rows: t, columns: d, epsilon: network.epsilon, x,
        gamma: weights.parameter(layer.norm1Gamma), beta: weights.parameter(layer.norm1Beta),
        into: state.normed, mean: state.mean1, inverseDeviation: state.inverse1)
      products.apply(
        layer.inputs, to: state.normed, rows: t, weights,
        .activation(.silu, bias: weights.bias(layer.inputs), .none, slopes: state.slopes),
        into: state.uqkv)
      withBias(layer, weights) { bias in
        kernels.siluAttention(
          state.uqkv + d, stride: 4 * d, heads: network.heads, headWidth: d / network.heads,
          offsets: batch.offsets, sequences: batch.sequenceCount, bias: bias,
          into: state.attended, scratch: scratch)
      }
      kernels.layerNorm(
        rows: t, columns: d, epsilon: network.epsilon, state.attended,
        gamma: weights.parameter(layer.norm2Gamma), beta: weights.parameter(layer.norm2Beta),
        into: state.normedAttended, mean: state.mean2, inverseDeviation: state.inverse2)
      for row in 0..<t {
        kernels.multiply(
          count: d, state.uqkv + row * 4 * d, state.normedAttended + row * d,
          into: state.gated + row * d)
      }
      kernels.apply(site[i + 1], to: state.gated, count: t * d, into: state.gated)
      let input = x
      x = arena.take(t * d)
      products.apply(
        layer.out, to: state.gated, rows: t, weights,
        .residual(input, bias: weights.bias(layer.out), .none), into: x)
    }
    let hidden = arena.take(t * d)
    let inverse = arena.take(t)
    kernels.unitRows(
      rows: t, columns: d, scale: 1 / network.temperature, x, into: hidden, inverse: inverse)
    last = (x, inverse)
    return hidden
  }

  func backward(
    _ batch: PackedBatch, _ weights: PackedWeights, dhidden: UnsafePointer<Float>,
    into gradients: Buffer
  ) {
    guard let products, let last else {
      preconditionFailure("a backward pass without a forward pass")
    }
    let t = batch.tokenCount
    let d = network.width
    let g = gradients.pointer
    let dx = arena.take(t * d)
    let dgated = arena.take(t * d)
    let dnormed = arena.take(t * d)
    let dattended = arena.take(t * d)
    let duqkv = arena.take(t * 4 * d)
    let scratch = arena.take(scratchCount(batch))
    kernels.unitRowsBackward(
      rows: t, columns: d, scale: 1 / network.temperature, dhidden, x: last.x,
      inverse: last.inverse, accumulate: false, dx: dx)
    for (i, layer) in layout.layers.enumerated().reversed() {
      let state = states[i]
      products.addGradients(of: layer.out, rows: t, x: state.gated, dy: dx, weights, into: g)
      products.applyBackward(layer.out, to: dx, rows: t, weights, into: dgated)
      kernels.apply(site[i + 1], to: dgated, count: t * d, into: dgated)
      for row in 0..<t {
        let (u, a) = (row * 4 * d, row * d)
        kernels.multiply(
          count: d, dgated + a, state.normedAttended + a, into: duqkv + u)
        kernels.multiply(count: d, dgated + a, state.uqkv + u, into: dnormed + a)
      }
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.attended,
        gamma: weights.parameter(layer.norm2Gamma), mean: state.mean2,
        inverseDeviation: state.inverse2, accumulate: false, dx: dattended,
        dgamma: g + layer.norm2Gamma, dbeta: g + layer.norm2Beta)
      withBias(layer, weights) { bias in
        kernels.siluAttentionBackward(
          state.uqkv + d, stride: 4 * d, dout: dattended, heads: network.heads,
          headWidth: d / network.heads, offsets: batch.offsets, sequences: batch.sequenceCount,
          bias: bias, dqkv: duqkv + d, ddistances: g + layer.distances,
          dtimes: layer.times.map { g + $0 }, scratch: scratch)
      }
      kernels.multiply(count: t * 4 * d, duqkv, state.slopes, into: duqkv)
      products.addGradients(of: layer.inputs, rows: t, x: state.normed, dy: duqkv, weights, into: g)
      products.applyBackward(layer.inputs, to: duqkv, rows: t, weights, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.input, gamma: weights.parameter(layer.norm1Gamma),
        mean: state.mean1, inverseDeviation: state.inverse1, accumulate: true, dx: dx,
        dgamma: g + layer.norm1Gamma, dbeta: g + layer.norm1Beta)
    }
    kernels.embedBackward(
      count: t, columns: d, tokens: batch.tokens, places: batch.places, dx, site[0],
      ditems: g + layout.table.items, dpositions: g + layout.positions)
  }
}
