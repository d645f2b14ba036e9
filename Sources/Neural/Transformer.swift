package import Kernels

/// A pre-norm causal transformer over packed sequences, forward and backward.
///
/// One object serves one thread: it keeps the activations of the latest forward pass.
///
/// - SeeAlso: Kang & McAuley, *Self-Attentive Sequential Recommendation*, ICDM 2018. This variant
///   normalises before each sub-layer (queries, keys and values alike), has learned positions
///   counted from the end, a feed-forward layer of any width with GELU or ReLU, dropout on the
///   embeddings, on the attention output and twice in the feed-forward layer (none on attention
///   probabilities), and a final layer norm.
package final class TransformerPass {
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
  private var dropout: Float = 0
  private var seed: UInt32 = 0
  private var last: UnsafeMutablePointer<Float>?
  /// Room for a product's left operand in bfloat16.
  private var rounded = UnsafeMutablePointer<Float>(bitPattern: 64).unsafelyUnwrapped
  private var finalMean: UnsafeMutablePointer<Float>?
  private var finalInverse: UnsafeMutablePointer<Float>?

  package init(_ layout: TransformerLayout, kernels: Kernels) {
    self.layout = layout
    self.shape = layout.shape
    self.kernels = kernels
  }

  /// Bytes that the passes so far have needed at most.
  package var bytesHeld: Int { arena.capacity * 4 }

  /// A dropout site's own stream: sites of one pass must not share masks.
  private func site(_ number: Int) -> Dropout {
    dropout == 0
      ? .none
      : Dropout(
        probability: dropout,
        seed: (seed &+ UInt32(truncatingIfNeeded: number) &* 0x0100_0193) &* 0x9E37_79B1 ^ seed)
  }

  func scratchCount(_ batch: PackedBatch) -> Int {
    max(
      kernels.attentionScratch(headWidth: shape.headWidth, longest: batch.longest),
      max(kernels.multiplyScratch(depth: 4096), batch.longest))
  }

  /// Pairs that the widest operand of a product takes, with room for packing.
  private func roundedCount(_ rows: Int) -> Int {
    let widest = max(3 * shape.width, shape.innerWidth)
    return (rows + 2) * (widest + 64) / 2
  }

  /// `into = x · Wᵀ` or `x · W` for a linear layer, in the weights' precision.
  private func multiply(
    _ x: UnsafePointer<Float>, rows: Int, inputs: Int, outputs: Int, _ weights: PackedWeights,
    _ layer: PackedWeights.Layer, _ block: Int, _ direction: PackedWeights.Direction,
    _ epilogue: Epilogue? = nil, into out: UnsafeMutablePointer<Float>
  ) {
    let right = weights.layer(layer, block: block, direction)
    switch weights.precision {
    case .float32:
      if let epilogue {
        return kernels.multiplyPacked(
          rows: rows, columns: outputs, depth: inputs, x, rowStride: inputs, right, epilogue,
          into: out)
      }
      kernels.multiplyPacked(
        rows: rows, columns: outputs, depth: inputs, x, rowStride: inputs, right, into: out,
        stride: outputs)
    case .bfloat16:
      let count = (inputs + 1) / 2
      let left = pairs(rounded)
      kernels.roundRows(
        rows: rows, columns: inputs, x, xStride: inputs, into: left, stride: count)
      if let epilogue {
        return kernels.multiplyPairs(
          rows: rows, columns: outputs, pairs: count, left, rowStride: count, pairs(right),
          epilogue, into: out)
      }
      kernels.multiplyPairs(
        rows: rows, columns: outputs, pairs: count, left, rowStride: count, pairs(right), into: out,
        stride: outputs)
    }
  }

  /// Encodes a batch.
  ///
  /// - Parameters:
  ///   - dropout: the probability of dropping an element; 0 outside of training.
  ///   - seed: the dropout's stream for this pass.
  /// - Returns: hidden states after the final layer norm, `[T, d]`, valid until the next pass.
  package func forward(
    _ batch: PackedBatch, _ weights: PackedWeights, dropout: Float = 0, seed: UInt32 = 0
  ) -> UnsafeMutablePointer<Float> {
    let t = batch.tokenCount
    let d = shape.width
    let f = shape.innerWidth
    self.dropout = dropout
    self.seed = seed
    let perBlock = t * (8 * d + 2 * f + 4 + shape.heads)
    let backward = t * (8 * d + f)
    arena.reset(
      count: (shape.blocks + 1) * perBlock + backward + 2 * scratchCount(batch)
        + 2 * roundedCount(t), pieces: 16 * (shape.blocks + 2))
    states.removeAll(keepingCapacity: true)
    var x = arena.take(t * d)
    kernels.embed(
      count: t, columns: d, tokens: batch.tokens, places: batch.places,
      items: weights.parameter(layout.items), positions: weights.parameter(layout.positions),
      site(0), into: x)
    let scratch = arena.take(scratchCount(batch))
    rounded = arena.take(roundedCount(t))
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
      multiply(
        state.normed, rows: t, inputs: d, outputs: 3 * d, weights, .qkv, i, .forward,
        .bias(weights.parameter(block.qkvBias)), into: state.qkv)
      kernels.attention(
        state.qkv, heads: shape.heads, headWidth: shape.headWidth, offsets: batch.offsets,
        sequences: batch.sequenceCount, into: state.attended, logSumExp: state.logSumExp,
        scratch: scratch)
      multiply(
        state.attended, rows: t, inputs: d, outputs: d, weights, .out, i, .forward,
        .residual(x, bias: weights.parameter(block.outBias), site(3 * i + 1)), into: state.middle)
      norm(
        weights, block.norm2Gamma, block.norm2Beta, t, state.middle, state.normedMiddle,
        state.mean2, state.inverse2)
      multiply(
        state.normedMiddle, rows: t, inputs: d, outputs: f, weights, .up, i, .forward,
        .activation(
          shape.activation, bias: weights.parameter(block.upBias), site(3 * i + 2),
          slopes: state.slopes), into: state.activated)
      x = arena.take(t * d)
      multiply(
        state.activated, rows: t, inputs: f, outputs: d, weights, .down, i, .forward,
        .residual(state.middle, bias: weights.parameter(block.downBias), site(3 * i + 3)),
        into: x)
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

  /// Adds the gradients of the latest forward pass to `gradients`.
  ///
  /// - Parameters:
  ///   - dhidden: the loss's gradient by the hidden states, `[T, d]`.
  ///   - gradients: laid out as the parameters are.
  package func backward(
    _ batch: PackedBatch, _ weights: PackedWeights, dhidden: UnsafePointer<Float>,
    into gradients: Buffer
  ) {
    guard let last, let finalMean, let finalInverse else {
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
    let roundedRight = arena.take(roundedCount(t))
    kernels.layerNormBackward(
      rows: t, columns: d, dhidden, x: last, gamma: weights.parameter(layout.finalGamma),
      mean: finalMean, inverseDeviation: finalInverse, accumulate: false, dx: dx,
      dgamma: g + layout.finalGamma, dbeta: g + layout.finalBeta)

    /// dW `[outputs, inputs]` += dyᵀ · x, and db += the column sums of dy.
    func linearGradients(
      weight: Int, bias: Int, inputs: Int, outputs: Int, x: UnsafePointer<Float>,
      dy: UnsafePointer<Float>
    ) {
      switch weights.precision {
      case .float32:
        kernels.multiply(
          rows: outputs, columns: inputs, depth: t, dy, rowStride: 1, columnStride: outputs, x,
          bStride: inputs, accumulate: true, into: g + weight, stride: inputs, scratch: scratch)
      case .bfloat16:
        let left = pairs(rounded)
        let right = pairs(roundedRight)
        kernels.roundRowPairs(
          rows: t, columns: outputs, dy, xStride: outputs, into: left, stride: outputs)
        kernels.packPairs(
          x, stride: inputs, transposed: false, columns: inputs, depth: t, into: right)
        kernels.multiplyPairs(
          rows: outputs, columns: inputs, pairs: (t + 1) / 2, left, rowStride: 1,
          columnStride: outputs, right, accumulate: true, into: g + weight, stride: inputs)
      }
      kernels.addColumnSums(rows: t, columns: outputs, dy, to: g + bias)
    }

    for i in (0..<shape.blocks).reversed() {
      let block = layout.blocks[i]
      let state = states[i]
      kernels.apply(site(3 * i + 3), to: dx, count: t * d, into: dproduct)
      linearGradients(
        weight: block.downWeight, bias: block.downBias, inputs: f, outputs: d, x: state.activated,
        dy: dproduct)
      multiply(
        dproduct, rows: t, inputs: d, outputs: f, weights, .down, i, .backward, into: dinner)
      kernels.multiply(count: t * f, dinner, state.slopes, into: dinner)
      linearGradients(
        weight: block.upWeight, bias: block.upBias, inputs: d, outputs: f, x: state.normedMiddle,
        dy: dinner)
      multiply(
        dinner, rows: t, inputs: f, outputs: d, weights, .up, i, .backward, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.middle, gamma: weights.parameter(block.norm2Gamma),
        mean: state.mean2, inverseDeviation: state.inverse2, accumulate: true, dx: dx,
        dgamma: g + block.norm2Gamma, dbeta: g + block.norm2Beta)

      kernels.apply(site(3 * i + 1), to: dx, count: t * d, into: dproduct)
      linearGradients(
        weight: block.outWeight, bias: block.outBias, inputs: d, outputs: d, x: state.attended,
        dy: dproduct)
      multiply(
        dproduct, rows: t, inputs: d, outputs: d, weights, .out, i, .backward, into: dattended)
      kernels.attentionBackward(
        state.qkv, out: state.attended, dout: dattended, logSumExp: state.logSumExp,
        heads: shape.heads, headWidth: shape.headWidth, offsets: batch.offsets,
        sequences: batch.sequenceCount, dqkv: dqkv, scratch: scratch)
      linearGradients(
        weight: block.qkvWeight, bias: block.qkvBias, inputs: d, outputs: 3 * d, x: state.normed,
        dy: dqkv)
      multiply(
        dqkv, rows: t, inputs: 3 * d, outputs: d, weights, .qkv, i, .backward, into: dnormed)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.input, gamma: weights.parameter(block.norm1Gamma),
        mean: state.mean1, inverseDeviation: state.inverse1, accumulate: true, dx: dx,
        dgamma: g + block.norm1Gamma, dbeta: g + block.norm1Beta)
    }
    kernels.embedBackward(
      count: t, columns: d, tokens: batch.tokens, places: batch.places, dx, site(0),
      ditems: g + layout.items, dpositions: g + layout.positions)
  }
}
