package import Kernels

/// A pre-norm transformer over packed sequences, forward and backward.
///
/// - SeeAlso: Kang & McAuley, *Self-Attentive Sequential Recommendation*, ICDM 2018. This variant
///   normalises before each sub-layer (queries, keys and values alike), has learned positions
///   counted from the end, a feed-forward layer of any width with GELU or ReLU, dropout on the
///   embeddings, on the attention output and twice in the feed-forward layer (none on attention
///   probabilities), and a final layer norm. Both ways instead of causally: Sun et al., *BERT4Rec*,
///   CIKM 2019.
package final class TransformerPass: NetworkPass {
  private struct BlockState {
    var input, normed, qkv, attended, middle, normedMiddle, slopes,
      activated: UnsafeMutablePointer<Float>
    var mean1, inverse1, mean2, inverse2, logSumExp: UnsafeMutablePointer<Float>
  }

  let kernels: Kernels
  let shape: TransformerShape
  let layout: TransformerLayout
  let arena = Arena()
  private var states: [BlockState] = []
  private var site = DropoutSites()
  private var products: LinearProducts?
  private var last: UnsafeMutablePointer<Float>?
  private var finalMean: UnsafeMutablePointer<Float>?
  private var finalInverse: UnsafeMutablePointer<Float>?
  /// Vectors that `forward` adds to the first input of each sequence, `[sequences, d]`: what the
  /// sequence is told beside its items; nil adds nothing.
  var contexts: UnsafePointer<Float>?
  /// Where `backward` writes the gradients by the contexts.
  var dcontexts: UnsafeMutablePointer<Float>?

  package init(_ layout: TransformerLayout, kernels: Kernels) {
    self.layout = layout
    self.shape = layout.shape
    self.kernels = kernels
  }

  /// Bytes that the passes so far have needed at most.
  package var bytesHeld: Int { arena.capacity * 4 }

  func scratchCount(_ batch: PackedBatch) -> Int {
    max(
      kernels.attentionScratch(headWidth: shape.headWidth, longest: batch.longest),
      max(kernels.multiplyScratch(depth: 4096), batch.longest))
  }

  package func forward(
    _ batch: PackedBatch, _ weights: PackedWeights, dropout: Float = 0, seed: UInt32 = 0
  ) -> UnsafeMutablePointer<Float> {
    let t = batch.tokenCount
    let d = shape.width
    let f = shape.innerWidth
    site = DropoutSites(probability: dropout, seed: seed)
    let perBlock = t * (8 * d + 2 * f + 4 + shape.heads)
    let backward = t * (8 * d + f)
    arena.reset(
      count: (shape.blocks + 1) * perBlock + backward + 2 * scratchCount(batch)
        + LinearProducts.count(rows: t, widest: layout.table.widest, scratch: scratchCount(batch)),
      pieces: 16 * (shape.blocks + 2))
    states.removeAll(keepingCapacity: true)
    var x = arena.take(t * d)
    kernels.embed(
      count: t, columns: d, tokens: batch.tokens, places: batch.places,
      items: weights.parameter(layout.items), positions: weights.parameter(layout.positions),
      site[0], into: x)
    if let contexts {
      for s in 0..<batch.sequenceCount {
        kernels.add(1, times: contexts + s * d, to: x + Int(batch.offsets[s]) * d, count: d)
      }
    }
    let scratch = arena.take(scratchCount(batch))
    let products = LinearProducts(
      rows: t, widest: layout.table.widest, scratch: scratchCount(batch), from: arena, kernels)
    self.products = products
    for i in 0..<shape.blocks {
      let block = layout.blocks[i]
      let state = BlockState(
        input: x, normed: arena.take(t * d), qkv: arena.take(t * 3 * d),
        attended: arena.take(t * d), middle: arena.take(t * d), normedMiddle: arena.take(t * d),
        slopes: arena.take(t * f), activated: arena.take(t * f), mean1: arena.take(t),
        inverse1: arena.take(t), mean2: arena.take(t), inverse2: arena.take(t),
        logSumExp: arena.take(t * shape.heads))
      states.append(state)
      norm(
        weights, block.norm1Gamma, block.norm1Beta, t, x, state.normed, state.mean1, state.inverse1)
      products.apply(block.qkv, to: state.normed, rows: t, weights, into: state.qkv)
      kernels.attention(
        state.qkv, heads: shape.heads, headWidth: shape.headWidth,
        causal: !shape.isBidirectional, offsets: batch.offsets, sequences: batch.sequenceCount,
        into: state.attended, logSumExp: state.logSumExp,
        scratch: scratch)
      products.apply(
        block.out, to: state.attended, rows: t, weights,
        .residual(x, bias: weights.bias(block.out), site[3 * i + 1]), into: state.middle)
      norm(
        weights, block.norm2Gamma, block.norm2Beta, t, state.middle, state.normedMiddle,
        state.mean2, state.inverse2)
      products.apply(
        block.up, to: state.normedMiddle, rows: t, weights,
        .activation(
          shape.activation, bias: weights.bias(block.up), site[3 * i + 2], slopes: state.slopes),
        into: state.activated)
      x = arena.take(t * d)
      products.apply(
        block.down, to: state.activated, rows: t, weights,
        .residual(state.middle, bias: weights.bias(block.down), site[3 * i + 3]), into: x)
    }
    let hidden = arena.take(t * d)
    let mean = arena.take(t)
    let inverse = arena.take(t)
    norm(weights, layout.finalGamma, layout.finalBeta, t, x, hidden, mean, inverse)
    last = x
    finalMean = mean
    finalInverse = inverse
    return hidden
  }

  func norm(
    _ weights: PackedWeights, _ gamma: Int, _ beta: Int, _ t: Int, _ x: UnsafePointer<Float>,
    _ y: UnsafeMutablePointer<Float>, _ mean: UnsafeMutablePointer<Float>,
    _ inverse: UnsafeMutablePointer<Float>
  ) {
    kernels.layerNorm(
      rows: t, columns: shape.width, epsilon: shape.epsilon, x, gamma: weights.parameter(gamma),
      beta: weights.parameter(beta), into: y, mean: mean, inverseDeviation: inverse)
  }

  package func backward(
    _ batch: PackedBatch, _ weights: PackedWeights, dhidden: UnsafePointer<Float>,
    into gradients: Buffer
  ) {
    guard let last, let finalMean, let finalInverse, let products else {
      preconditionFailure("a backward pass without a forward pass")
    }
    let t = batch.tokenCount
    let d = shape.width
    let f = shape.innerWidth
    let g = gradients.pointer
    let dx = arena.take(t * d)
    let dproduct = arena.take(t * d)
    let dinner = arena.take(t * f)
    let dnormed = arena.take(t * d)
    let dattended = arena.take(t * d)
    let dqkv = arena.take(t * 3 * d)
    let scratch = arena.take(scratchCount(batch))
    kernels.layerNormBackward(
      rows: t, columns: d, dhidden, x: last, gamma: weights.parameter(layout.finalGamma),
      mean: finalMean, inverseDeviation: finalInverse, accumulate: false, dx: dx,
      dgamma: g + layout.finalGamma, dbeta: g + layout.finalBeta)

    for i in (0..<shape.blocks).reversed() {
      let block = layout.blocks[i]
      let state = states[i]
      kernels.apply(site[3 * i + 3], to: dx, count: t * d, into: dproduct)
      products.addGradients(
        of: block.down, rows: t, x: state.activated, dy: dproduct, weights, into: g)
      products.applyBackward(block.down, to: dproduct, rows: t, weights, into: dinner)
      kernels.multiply(count: t * f, dinner, state.slopes, into: dinner)
      products.addGradients(
        of: block.up, rows: t, x: state.normedMiddle, dy: dinner, weights, into: g)
      products.applyBackward(block.up, to: dinner, rows: t, weights, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.middle, gamma: weights.parameter(block.norm2Gamma),
        mean: state.mean2, inverseDeviation: state.inverse2, accumulate: true, dx: dx,
        dgamma: g + block.norm2Gamma, dbeta: g + block.norm2Beta)

      kernels.apply(site[3 * i + 1], to: dx, count: t * d, into: dproduct)
      products.addGradients(
        of: block.out, rows: t, x: state.attended, dy: dproduct, weights, into: g)
      products.applyBackward(block.out, to: dproduct, rows: t, weights, into: dattended)
      kernels.attentionBackward(
        state.qkv, out: state.attended, dout: dattended, logSumExp: state.logSumExp,
        heads: shape.heads, headWidth: shape.headWidth, causal: !shape.isBidirectional,
        offsets: batch.offsets, sequences: batch.sequenceCount, dqkv: dqkv, scratch: scratch)
      products.addGradients(of: block.qkv, rows: t, x: state.normed, dy: dqkv, weights, into: g)
      products.applyBackward(block.qkv, to: dqkv, rows: t, weights, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.input, gamma: weights.parameter(block.norm1Gamma),
        mean: state.mean1, inverseDeviation: state.inverse1, accumulate: true, dx: dx,
        dgamma: g + block.norm1Gamma, dbeta: g + block.norm1Beta)
    }
    if let dcontexts {
      for s in 0..<batch.sequenceCount {
        (dcontexts + s * d).update(from: dx + Int(batch.offsets[s]) * d, count: d)
      }
    }
    kernels.embedBackward(
      count: t, columns: d, tokens: batch.tokens, places: batch.places, dx, site[0],
      ditems: g + layout.items, dpositions: g + layout.positions)
  }
}
