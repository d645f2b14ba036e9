package import Kernels

/// A causal transformer of gated blocks.
///
/// - SeeAlso: Borisyuk et al., *From Features to Transformers: Redefining Ranking for Scalable
///   Impact* (LiGR), 2025, as Tikhonovich et al., *eSASRec*, RecSys 2025, use it:
///   `x + σ(W₁x) · attention(norm(x))`, then `x + σ(W₂x) · SwiGLU(norm(x))`; the gates see the stream
///   before it is normalised, the feed-forward layer has no biases, and no norm follows the last
///   block. Positions are learned and counted from the end. This variant drops elements of the
///   embeddings, of both sub-layers' outputs and inside the feed-forward layer, none of the attention
///   probabilities.
package struct GatedNetwork: SequenceNetwork, Hashable {
  package var itemCount: Int
  package var width: Int
  package var heads: Int
  package var blocks: Int
  /// The width inside the feed-forward layer.
  package var innerWidth: Int
  package var maximumLength: Int
  package var epsilon: Float

  package init(
    itemCount: Int, width: Int, heads: Int, blocks: Int, innerWidth: Int, maximumLength: Int,
    epsilon: Float = 1e-5
  ) {
    precondition(itemCount > 0 && width > 0 && heads > 0 && blocks > 0, "an empty model")
    precondition(innerWidth > 0 && maximumLength > 0, "an empty model")
    precondition(width % heads == 0, "a width of \(width) cannot be split over \(heads) heads")
    self.itemCount = itemCount
    self.width = width
    self.heads = heads
    self.blocks = blocks
    self.innerWidth = innerWidth
    self.maximumLength = maximumLength
    self.epsilon = epsilon
  }

  package var layout: ParameterLayout { Layout(self).table }

  package func furtherOperations(length: Double) -> Double {
    Double(blocks) * 2 * Double(width) * length / 2 * 3.5
  }

  package func makePass(kernels: Kernels) -> any NetworkPass {
    GatedPass(self, kernels: kernels)
  }

  struct Layout {
    struct Block {
      var norm1Gamma, norm1Beta: Int
      var qkv, out, gate1: ParameterLayout.Linear
      var norm2Gamma, norm2Beta: Int
      var up, down, gate2: ParameterLayout.Linear
    }

    var table: ParameterLayout
    var positions: Int
    var blocks: [Block] = []

    init(_ network: GatedNetwork) {
      let d = network.width
      let f = network.innerWidth
      var table = ParameterLayout(itemCount: network.itemCount, width: d)
      positions = table.add("pos.weight", [network.maximumLength, d])
      for i in 0..<network.blocks {
        let name = "blocks.\(i)"
        blocks.append(
          Block(
            norm1Gamma: table.add("\(name).ln1.weight", [d]),
            norm1Beta: table.add("\(name).ln1.bias", [d]),
            qkv: table.addLinear("\(name).qkv", inputs: d, outputs: 3 * d),
            out: table.addLinear("\(name).o", inputs: d, outputs: d),
            gate1: table.addLinear("\(name).gate1", inputs: d, outputs: d),
            norm2Gamma: table.add("\(name).ln2.weight", [d]),
            norm2Beta: table.add("\(name).ln2.bias", [d]),
            up: table.addLinear("\(name).f1", inputs: d, outputs: 2 * f, bias: false),
            down: table.addLinear("\(name).f2", inputs: f, outputs: d, bias: false),
            gate2: table.addLinear("\(name).gate2", inputs: d, outputs: d)))
      }
      self.table = table
    }
  }
}

/// A pass of a `GatedNetwork`.
final class GatedPass: NetworkPass {
  private struct BlockState {
    var input, normed, qkv, attended, projected, gate1: UnsafeMutablePointer<Float>
    var middle, normedMiddle, inner, activated, down, gate2: UnsafeMutablePointer<Float>
    var mean1, inverse1, mean2, inverse2, logSumExp: UnsafeMutablePointer<Float>
  }

  private let kernels: Kernels
  private let network: GatedNetwork
  private let layout: GatedNetwork.Layout
  private let arena = Arena()
  private var states: [BlockState] = []
  private var site = DropoutSites()
  private var products: LinearProducts?

  init(_ network: GatedNetwork, kernels: Kernels) {
    self.network = network
    self.kernels = kernels
    layout = GatedNetwork.Layout(network)
  }

  private func scratchCount(_ batch: PackedBatch) -> Int {
    max(
      kernels.attentionScratch(headWidth: network.width / network.heads, longest: batch.longest),
      kernels.multiplyScratch(depth: 4096))
  }

  func forward(
    _ batch: PackedBatch, _ weights: PackedWeights, dropout: Float, seed: UInt32
  ) -> UnsafeMutablePointer<Float> {
    let t = batch.tokenCount
    let d = network.width
    let f = network.innerWidth
    let heads = network.heads
    site = DropoutSites(probability: dropout, seed: seed)
    let scratchCount = scratchCount(batch)
    let perBlock = t * (13 * d + 3 * f + 4 + heads)
    let backward = t * (9 * d + 3 * f)
    arena.reset(
      count: t * d + network.blocks * perBlock + backward + 2 * scratchCount
        + LinearProducts.count(rows: t, widest: layout.table.widest, scratch: scratchCount),
      pieces: 20 * (network.blocks + 2))
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
    for (i, block) in layout.blocks.enumerated() {
      let state = BlockState(
        input: x, normed: arena.take(t * d), qkv: arena.take(t * 3 * d),
        attended: arena.take(t * d), projected: arena.take(t * d), gate1: arena.take(t * d),
        middle: arena.take(t * d), normedMiddle: arena.take(t * d), inner: arena.take(t * 2 * f),
        activated: arena.take(t * f), down: arena.take(t * d), gate2: arena.take(t * d),
        mean1: arena.take(t), inverse1: arena.take(t), mean2: arena.take(t),
        inverse2: arena.take(t), logSumExp: arena.take(t * heads))
      states.append(state)
      kernels.layerNorm(
        rows: t, columns: d, epsilon: network.epsilon, x,
        gamma: weights.parameter(block.norm1Gamma), beta: weights.parameter(block.norm1Beta),
        into: state.normed, mean: state.mean1, inverseDeviation: state.inverse1)
      products.apply(block.qkv, to: state.normed, rows: t, weights, into: state.qkv)
      kernels.attention(
        state.qkv, heads: heads, headWidth: d / heads, offsets: batch.offsets,
        sequences: batch.sequenceCount, into: state.attended, logSumExp: state.logSumExp,
        scratch: scratch)
      products.apply(block.out, to: state.attended, rows: t, weights, into: state.projected)
      products.apply(block.gate1, to: x, rows: t, weights, into: state.gate1)
      kernels.gate(
        count: t * d, x, gate: state.gate1, state.projected, site[3 * i + 1], into: state.middle)
      kernels.layerNorm(
        rows: t, columns: d, epsilon: network.epsilon, state.middle,
        gamma: weights.parameter(block.norm2Gamma), beta: weights.parameter(block.norm2Beta),
        into: state.normedMiddle, mean: state.mean2, inverseDeviation: state.inverse2)
      products.apply(block.up, to: state.normedMiddle, rows: t, weights, into: state.inner)
      kernels.swiglu(rows: t, columns: f, state.inner, site[3 * i + 2], into: state.activated)
      products.apply(block.down, to: state.activated, rows: t, weights, into: state.down)
      products.apply(block.gate2, to: state.middle, rows: t, weights, into: state.gate2)
      x = arena.take(t * d)
      kernels.gate(
        count: t * d, state.middle, gate: state.gate2, state.down, site[3 * i + 3], into: x)
    }
    return x
  }

  func backward(
    _ batch: PackedBatch, _ weights: PackedWeights, dhidden: UnsafePointer<Float>,
    into gradients: Buffer
  ) {
    guard let products else { preconditionFailure("a backward pass without a forward pass") }
    let t = batch.tokenCount
    let d = network.width
    let f = network.innerWidth
    let g = gradients.pointer
    let dx = arena.take(t * d)
    let dgate = arena.take(t * d)
    let dproduct = arena.take(t * d)
    let dnormed = arena.take(t * d)
    let dactivated = arena.take(t * f)
    let dinner = arena.take(t * 2 * f)
    let dattended = arena.take(t * d)
    let dqkv = arena.take(t * 3 * d)
    let scratch = arena.take(scratchCount(batch))
    dx.update(from: dhidden, count: t * d)

    /// Through a gate and the layer that makes it: `dproduct` becomes the gated branch's gradient, and
    /// what goes back through the gate is added to `dx`.
    func gateBackward(
      _ layer: ParameterLayout.Linear, gate: UnsafePointer<Float>, branch: UnsafePointer<Float>,
      stream: UnsafePointer<Float>, _ dropout: Dropout
    ) {
      kernels.gateBackward(
        count: t * d, dx, gate: gate, y: branch, dropout, dgate: dgate, dy: dproduct)
      products.addGradients(of: layer, rows: t, x: stream, dy: dgate, weights, into: g)
      products.applyBackward(layer, to: dgate, rows: t, weights, into: dnormed)
      kernels.add(1, times: dnormed, to: dx, count: t * d)
    }

    for (i, block) in layout.blocks.enumerated().reversed() {
      let state = states[i]
      gateBackward(
        block.gate2, gate: state.gate2, branch: state.down, stream: state.middle, site[3 * i + 3])
      products.addGradients(
        of: block.down, rows: t, x: state.activated, dy: dproduct, weights, into: g)
      products.applyBackward(block.down, to: dproduct, rows: t, weights, into: dactivated)
      kernels.swigluBackward(
        rows: t, columns: f, dactivated, ab: state.inner, site[3 * i + 2], dab: dinner)
      products.addGradients(
        of: block.up, rows: t, x: state.normedMiddle, dy: dinner, weights, into: g)
      products.applyBackward(block.up, to: dinner, rows: t, weights, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.middle, gamma: weights.parameter(block.norm2Gamma),
        mean: state.mean2, inverseDeviation: state.inverse2, accumulate: true, dx: dx,
        dgamma: g + block.norm2Gamma, dbeta: g + block.norm2Beta)

      gateBackward(
        block.gate1, gate: state.gate1, branch: state.projected, stream: state.input,
        site[3 * i + 1])
      products.addGradients(
        of: block.out, rows: t, x: state.attended, dy: dproduct, weights, into: g)
      products.applyBackward(block.out, to: dproduct, rows: t, weights, into: dattended)
      kernels.attentionBackward(
        state.qkv, out: state.attended, dout: dattended, logSumExp: state.logSumExp,
        heads: network.heads, headWidth: d / network.heads, offsets: batch.offsets,
        sequences: batch.sequenceCount, dqkv: dqkv, scratch: scratch)
      products.addGradients(of: block.qkv, rows: t, x: state.normed, dy: dqkv, weights, into: g)
      products.applyBackward(block.qkv, to: dqkv, rows: t, weights, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.input, gamma: weights.parameter(block.norm1Gamma),
        mean: state.mean1, inverseDeviation: state.inverse1, accumulate: true, dx: dx,
        dgamma: g + block.norm1Gamma, dbeta: g + block.norm1Beta)
    }
    kernels.embedBackward(
      count: t, columns: d, tokens: batch.tokens, places: batch.places, dx, site[0],
      ditems: g + layout.table.items, dpositions: g + layout.positions)
  }
}
