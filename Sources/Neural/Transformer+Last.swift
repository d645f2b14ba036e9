import Kernels

extension TransformerPass {
  /// In the last block only keys and values are needed for the older inputs, so queries, attention and
  /// the feed-forward layer run for one row of each sequence. Products are in the weights' precision.
  package func encodeLast(
    _ batch: PackedBatch, _ weights: PackedWeights
  ) -> UnsafeMutablePointer<Float> {
    let t = batch.tokenCount
    let d = shape.width
    let f = shape.innerWidth
    let sequences = batch.sequenceCount
    let wide = t * max(3 * d, f)
    arena.reset(
      count: 4 * t * d + wide + t * (4 + shape.heads) + 2 * scratchCount(batch)
        + sequences * (6 * d + 2 * f) + batch.longest + 16
        + LinearProducts.count(rows: t, widest: layout.table.widest, scratch: 0),
      pieces: 32)
    let x = arena.take(t * d)
    let normed = arena.take(t * d)
    let attended = arena.take(t * d)
    let inner = arena.take(wide)
    let mean = arena.take(t)
    let inverse = arena.take(t)
    let logSumExp = arena.take(t * shape.heads)
    let scratch = arena.take(scratchCount(batch))
    let products = LinearProducts(
      rows: t, widest: layout.table.widest, scratch: 0, from: arena, kernels)
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
      products.apply(
        block.out, to: attended, rows: rows, weights,
        .residual(x, bias: weights.bias(block.out), .none), into: x)
      norm(weights, block.norm2Gamma, block.norm2Beta, rows, x, normed, mean, inverse)
      products.apply(
        block.up, to: normed, rows: rows, weights,
        .activation(
          shape.activation, bias: weights.bias(block.up), .none, slopes: nil), into: inner)
      products.apply(
        block.down, to: inner, rows: rows, weights,
        .residual(x, bias: weights.bias(block.down), .none), into: x)
    }

    for i in 0..<shape.blocks {
      let block = layout.blocks[i]
      norm(weights, block.norm1Gamma, block.norm1Beta, t, x, normed, mean, inverse)
      if i == shape.blocks - 1, kernels.canMultiply(from: d) {
        keysAndValues(block, batch, weights, products, normed, into: inner)
      } else {
        products.apply(block.qkv, to: normed, rows: t, weights, into: inner)
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
    _ products: LinearProducts, _ normed: UnsafePointer<Float>,
    into qkv: UnsafeMutablePointer<Float>
  ) {
    let d = shape.width
    products.apply(
      block.qkv, columns: d..<3 * d, to: normed, rows: batch.tokenCount, weights, into: qkv + d,
      stride: 3 * d)
    for s in 0..<batch.sequenceCount {
      let newest = Int(batch.offsets[s + 1]) - 1
      products.apply(
        block.qkv, columns: 0..<d, to: normed + newest * d, rows: 1, weights,
        into: qkv + newest * 3 * d, stride: 3 * d)
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
