import Kernels

extension TransformerPass {
  /// In the last block only keys and values are needed for the older inputs, so queries, attention and
  /// the feed-forward layer run for one row of each sequence.
  package func encodeLast(
    _ batch: PackedBatch, _ weights: PackedWeights
  ) -> UnsafeMutablePointer<Float> {
    precondition(weights.precision == .float32, "histories are encoded in single precision")
    let t = batch.tokenCount
    let d = shape.width
    let f = shape.innerWidth
    let sequences = batch.sequenceCount
    let wide = t * max(3 * d, f)
    arena.reset(
      count: 4 * t * d + wide + t * (4 + shape.heads) + 2 * scratchCount(batch)
        + sequences * (6 * d + 2 * f) + batch.longest + 16,
      pieces: 32)
    let x = arena.take(t * d)
    let normed = arena.take(t * d)
    let attended = arena.take(t * d)
    let inner = arena.take(wide)
    let mean = arena.take(t)
    let inverse = arena.take(t)
    let logSumExp = arena.take(t * shape.heads)
    let scratch = arena.take(scratchCount(batch))
    kernels.embed(
      count: t, columns: d, tokens: batch.tokens, places: batch.places,
      items: weights.parameter(layout.items), positions: weights.parameter(layout.positions),
      .none, into: x)

    /// Output projection and feed-forward layer of block `i`, in place on `rows` rows of `x`.
    func finish(
      _ i: Int, rows: Int, x: UnsafeMutablePointer<Float>, attended: UnsafePointer<Float>,
      normed: UnsafeMutablePointer<Float>,
      inner: UnsafeMutablePointer<Float>
    ) {
      let block = layout.blocks[i]
      kernels.multiplyPacked(
        rows: rows, columns: d, depth: d, attended, rowStride: d,
        weights.packed(block.out, .forward),
        .residual(x, bias: weights.bias(block.out), .none), into: x)
      norm(weights, block.norm2Gamma, block.norm2Beta, rows, x, normed, mean, inverse)
      kernels.multiplyPacked(
        rows: rows, columns: f, depth: d, normed, rowStride: d,
        weights.packed(block.up, .forward),
        .activation(
          shape.activation, bias: weights.bias(block.up), .none, slopes: nil), into: inner)
      kernels.multiplyPacked(
        rows: rows, columns: d, depth: f, inner, rowStride: f,
        weights.packed(block.down, .forward),
        .residual(x, bias: weights.bias(block.down), .none), into: x)
    }

    for i in 0..<shape.blocks {
      let block = layout.blocks[i]
      norm(weights, block.norm1Gamma, block.norm1Beta, t, x, normed, mean, inverse)
      if i == shape.blocks - 1, kernels.canMultiply(from: d) {
        keysAndValues(block, batch, weights, normed, into: inner)
      } else {
        kernels.multiplyPacked(
          rows: t, columns: 3 * d, depth: d, normed, rowStride: d,
          weights.packed(block.qkv, .forward), .bias(weights.bias(block.qkv)),
          into: inner)
      }
      guard i == shape.blocks - 1 else {
        kernels.attention(
          inner, heads: shape.heads, headWidth: shape.headWidth, causal: !shape.isBidirectional,
          offsets: batch.offsets, sequences: sequences, into: attended, logSumExp: logSumExp,
          scratch: scratch)
        finish(i, rows: t, x: x, attended: attended, normed: normed, inner: inner)
        continue
      }
      let lastX = arena.take(sequences * d)
      let lastAttended = arena.take(sequences * d)
      for s in 0..<sequences {
        let first = Int(batch.offsets[s])
        let newest = Int(batch.offsets[s + 1]) - 1
        precondition(newest >= first, "sequence \(s) is empty")
        (lastX + s * d).update(from: x + newest * d, count: d)
        attendNewest(
          first: first, newest: newest, qkv: inner, scores: scratch, into: lastAttended + s * d)
      }
      finish(
        i, rows: sequences, x: lastX, attended: lastAttended, normed: arena.take(sequences * d),
        inner: arena.take(sequences * f))
      let hidden = arena.take(sequences * d)
      norm(weights, layout.finalGamma, layout.finalBeta, sequences, lastX, hidden, mean, inverse)
      return hidden
    }
    preconditionFailure("a transformer without blocks")
  }

  /// Keys and values of all inputs, and the query of each sequence's newest, where they stand in
  /// `[T, 3d]`; the other queries are not written.
  private func keysAndValues(
    _ block: TransformerLayout.Block, _ batch: PackedBatch, _ weights: PackedWeights,
    _ normed: UnsafePointer<Float>, into qkv: UnsafeMutablePointer<Float>
  ) {
    let d = shape.width
    let packed = weights.packed(block.qkv, .forward)
    let bias = weights.bias(block.qkv)
    kernels.multiplyPacked(
      rows: batch.tokenCount, from: d, columns: 2 * d, depth: d, normed, rowStride: d, packed,
      .bias(bias + d), into: qkv + d, stride: 3 * d)
    for s in 0..<batch.sequenceCount {
      let newest = Int(batch.offsets[s + 1]) - 1
      kernels.multiplyPacked(
        rows: 1, from: 0, columns: d, depth: d, normed + newest * d, rowStride: d, packed,
        .bias(bias), into: qkv + newest * 3 * d, stride: 3 * d)
    }
  }

  /// Attention of one row over its own sequence, all heads.
  private func attendNewest(
    first: Int, newest: Int, qkv: UnsafePointer<Float>, scores: UnsafeMutablePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) {
    let d = shape.width
    let width = shape.headWidth
    let scale = 1 / Float(width).squareRoot()
    let count = newest - first + 1
    for head in 0..<shape.heads {
      let query = qkv + newest * 3 * d + head * width
      let key = qkv + first * 3 * d + d + head * width
      for j in 0..<count {
        scores[j] = scale * kernels.dot(query, key + j * 3 * d, count: width)
      }
      var greatest: Float = 0
      var sum: Float = 0
      kernels.expRows(
        rows: 1, columns: count, scores, stride: count, rowMax: &greatest, rowSums: &sum)
      let result = out + head * width
      result.update(repeating: 0, count: width)
      for j in 0..<count {
        kernels.add(scores[j] / sum, times: key + d + j * 3 * d, to: result, count: width)
      }
    }
  }
}
