package import Kernels

/// The weights of a transformer as the matrix products read them: packed once for each version of
/// the parameters, shared by all threads.
package final class PackedWeights: @unchecked Sendable {
  // Unchecked: written by `update` only, while no pass runs; read by many after that.
  let shape: TransformerShape
  let layout: TransformerLayout
  package let parameters: Buffer
  private let kernels: Kernels
  private let packed: Buffer
  private var places: [Int] = []
  /// The greatest Euclidean norm of an item vector.
  package private(set) var longestItem: Float = 0

  /// For each block: forward and backward of qkv, out, up, down; then the item table both ways.
  private var plan: [(source: Int, stride: Int, transposed: Bool, columns: Int, depth: Int)] = []

  package init(_ layout: TransformerLayout, parameters: Buffer, kernels: Kernels) {
    precondition(parameters.count == layout.count, "parameters of another shape")
    self.shape = layout.shape
    self.layout = layout
    self.parameters = parameters
    self.kernels = kernels
    let d = shape.width
    let f = shape.innerWidth
    var plan: [(source: Int, stride: Int, transposed: Bool, columns: Int, depth: Int)] = []
    func linear(_ weight: Int, inputs: Int, outputs: Int) {
      plan.append((weight, inputs, true, outputs, inputs))
      plan.append((weight, inputs, false, inputs, outputs))
    }
    for block in layout.blocks {
      linear(block.qkvWeight, inputs: d, outputs: 3 * d)
      linear(block.outWeight, inputs: d, outputs: d)
      linear(block.upWeight, inputs: d, outputs: f)
      linear(block.downWeight, inputs: f, outputs: d)
    }
    plan.append((layout.items, d, true, shape.itemCount, d))
    plan.append((layout.items, d, false, d, shape.itemCount))
    self.plan = plan
    var total = 0
    for entry in plan {
      places.append(total)
      let count = kernels.packedCount(columns: entry.columns, depth: entry.depth)
      total += (count + 15) / 16 * 16
    }
    packed = Buffer(count: total)
    update()
  }

  /// Packs the parameters again after they changed. No pass may be running.
  package func update() {
    for i in plan.indices { pack(i) }
    measureItems()
  }

  private func pack(_ i: Int) {
    let entry = plan[i]
    kernels.pack(
      parameters.pointer + entry.source, stride: entry.stride, transposed: entry.transposed,
      columns: entry.columns, depth: entry.depth, into: packed.pointer + places[i])
  }

  private func measureItems() {
    let d = shape.width
    var longest: Float = 0
    for i in 0..<shape.itemCount {
      let row = parameters.pointer + layout.items + i * d
      longest = max(longest, kernels.dot(row, row, count: d))
    }
    longestItem = longest.squareRoot()
  }

  enum Layer: Int { case qkv = 0, out, up, down }

  func forward(_ layer: Layer, block: Int) -> UnsafePointer<Float> {
    UnsafePointer(packed.pointer + places[block * 8 + layer.rawValue * 2])
  }
  func backward(_ layer: Layer, block: Int) -> UnsafePointer<Float> {
    UnsafePointer(packed.pointer + places[block * 8 + layer.rawValue * 2 + 1])
  }
  /// The item table as `[d, N]`, for scores.
  package var itemsForScores: UnsafePointer<Float> {
    UnsafePointer(packed.pointer + places[shape.blocks * 8])
  }
  /// The item table as `[N, d]`, for gradients of hidden states.
  var itemsForGradients: UnsafePointer<Float> {
    UnsafePointer(packed.pointer + places[shape.blocks * 8 + 1])
  }

  /// A parameter's place in memory.
  func parameter(_ offset: Int) -> UnsafePointer<Float> {
    UnsafePointer(parameters.pointer + offset)
  }
}

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
      count: (shape.blocks + 1) * perBlock + backward + 2 * scratchCount(batch),
      pieces: 16 * (shape.blocks + 2))
    states.removeAll(keepingCapacity: true)
    var x = arena.take(t * d)
    kernels.embed(
      count: t, columns: d, tokens: batch.tokens, places: batch.places,
      items: weights.parameter(layout.items), positions: weights.parameter(layout.positions),
      site(0), into: x)
    let scratch = arena.take(scratchCount(batch))
    let product = arena.take(t * d)
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
      kernels.multiplyPacked(
        rows: t, columns: 3 * d, depth: d, state.normed, rowStride: d,
        weights.forward(.qkv, block: i), into: state.qkv, stride: 3 * d)
      kernels.addBias(rows: t, columns: 3 * d, weights.parameter(block.qkvBias), to: state.qkv)
      kernels.attention(
        state.qkv, heads: shape.heads, headWidth: shape.headWidth, offsets: batch.offsets,
        sequences: batch.sequenceCount, into: state.attended, logSumExp: state.logSumExp,
        scratch: scratch)
      kernels.multiplyPacked(
        rows: t, columns: d, depth: d, state.attended, rowStride: d,
        weights.forward(.out, block: i), into: product, stride: d)
      kernels.biasDropoutAdd(
        rows: t, columns: d, product, bias: weights.parameter(block.outBias), residual: x,
        site(3 * i + 1), into: state.middle)
      norm(
        weights, block.norm2Gamma, block.norm2Beta, t, state.middle, state.normedMiddle,
        state.mean2, state.inverse2)
      kernels.multiplyPacked(
        rows: t, columns: f, depth: d, state.normedMiddle, rowStride: d,
        weights.forward(.up, block: i), into: state.slopes, stride: f)
      kernels.biasActivation(
        rows: t, columns: f, shape.activation, state.slopes, bias: weights.parameter(block.upBias),
        site(3 * i + 2), into: state.activated, slopes: state.slopes)
      kernels.multiplyPacked(
        rows: t, columns: d, depth: f, state.activated, rowStride: f,
        weights.forward(.down, block: i), into: product, stride: d)
      x = arena.take(t * d)
      kernels.biasDropoutAdd(
        rows: t, columns: d, product, bias: weights.parameter(block.downBias),
        residual: state.middle, site(3 * i + 3), into: x)
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
    kernels.layerNormBackward(
      rows: t, columns: d, dhidden, x: last, gamma: weights.parameter(layout.finalGamma),
      mean: finalMean, inverseDeviation: finalInverse, accumulate: false, dx: dx,
      dgamma: g + layout.finalGamma, dbeta: g + layout.finalBeta)

    /// dW `[outputs, inputs]` += dyᵀ · x, and db += the column sums of dy.
    func linearGradients(
      weight: Int, bias: Int, inputs: Int, outputs: Int, x: UnsafePointer<Float>,
      dy: UnsafePointer<Float>
    ) {
      kernels.multiply(
        rows: outputs, columns: inputs, depth: t, dy, rowStride: 1, columnStride: outputs, x,
        bStride: inputs, accumulate: true, into: g + weight, stride: inputs, scratch: scratch)
      kernels.addColumnSums(rows: t, columns: outputs, dy, to: g + bias)
    }

    for i in (0..<shape.blocks).reversed() {
      let block = layout.blocks[i]
      let state = states[i]
      kernels.apply(site(3 * i + 3), to: dx, count: t * d, into: dproduct)
      linearGradients(
        weight: block.downWeight, bias: block.downBias, inputs: f, outputs: d, x: state.activated,
        dy: dproduct)
      kernels.multiplyPacked(
        rows: t, columns: f, depth: d, dproduct, rowStride: d, weights.backward(.down, block: i),
        into: dinner, stride: f)
      kernels.multiply(count: t * f, dinner, state.slopes, into: dinner)
      linearGradients(
        weight: block.upWeight, bias: block.upBias, inputs: d, outputs: f, x: state.normedMiddle,
        dy: dinner)
      kernels.multiplyPacked(
        rows: t, columns: d, depth: f, dinner, rowStride: f, weights.backward(.up, block: i),
        into: dnormed, stride: d)
      kernels.layerNormBackward(
        rows: t, columns: d, dnormed, x: state.middle, gamma: weights.parameter(block.norm2Gamma),
        mean: state.mean2, inverseDeviation: state.inverse2, accumulate: true, dx: dx,
        dgamma: g + block.norm2Gamma, dbeta: g + block.norm2Beta)

      kernels.apply(site(3 * i + 1), to: dx, count: t * d, into: dproduct)
      linearGradients(
        weight: block.outWeight, bias: block.outBias, inputs: d, outputs: d, x: state.attended,
        dy: dproduct)
      kernels.multiplyPacked(
        rows: t, columns: d, depth: d, dproduct, rowStride: d, weights.backward(.out, block: i),
        into: dattended, stride: d)
      kernels.attentionBackward(
        state.qkv, out: state.attended, dout: dattended, logSumExp: state.logSumExp,
        heads: shape.heads, headWidth: shape.headWidth, offsets: batch.offsets,
        sequences: batch.sequenceCount, dqkv: dqkv, scratch: scratch)
      linearGradients(
        weight: block.qkvWeight, bias: block.qkvBias, inputs: d, outputs: 3 * d, x: state.normed,
        dy: dqkv)
      kernels.multiplyPacked(
        rows: t, columns: d, depth: 3 * d, dqkv, rowStride: 3 * d, weights.backward(.qkv, block: i),
        into: dnormed, stride: d)
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
