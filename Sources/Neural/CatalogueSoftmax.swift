package import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Softmax cross-entropy over the whole catalogue with the item table, or another, as output layer.
///
/// Scores are made for a chunk of tokens at a time and never for all: memory is
/// `chunk × N`, with the chunk chosen so that this stays near 2 MB.
///
/// The gradient needs no pass over the probabilities: with `e = exp(s)` and row sums `z`,
/// `dh = diag(1/z) · (e · E) − E[target]` and `dE += eᵀ · (diag(1/z) · h)`, so the division is done on
/// rows of width `d`. Where the scores are known to lie within ±60 (Cauchy-Schwarz on the norms), the
/// exponentials are taken as the products come out of the registers, without a maximum; else the row
/// maximum is subtracted in a second pass.
package final class CatalogueSoftmax {
  private let kernels: Kernels
  private let layout: ParameterLayout
  private let arena = Arena()
  /// Tokens scored at a time.
  private let chunk: Int
  private let scoreStride: Int

  package init(_ layout: some NetworkLayout, kernels: Kernels, chunk: Int? = nil) {
    let layout = layout.table
    self.layout = layout
    self.kernels = kernels
    // Not a multiple of 4 KiB, so that rows of a chunk do not fall on the same cache sets.
    scoreStride = (layout.itemCount + 31) / 32 * 32 + 16
    // 156 is a whole number of register tiles in both precisions (12 of 13 rows, 13 of 12).
    let stride = scoreStride
    let fitting = [156, 78, 52, 26].first { $0 * stride <= 600_000 } ?? 12
    self.chunk = ((chunk ?? fitting) + 1) / 2 * 2
  }

  package var bytesHeld: Int { arena.capacity * 4 }

  /// Adds up the loss and its gradients.
  ///
  /// - Parameters:
  ///   - hidden: `[T, d]`.
  ///   - targets: the right item for each row, `[T]`.
  ///   - weight: multiplied into every gradient, for instance one over the tokens of the step.
  ///   - dhidden: overwritten, `[T, d]`.
  ///   - gradients: laid out as the parameters are; the output table's part is added to.
  /// - Returns: the sum over rows of `−log softmax(hidden · Eᵀ)[target]`, unweighted.
  package func lossAndGradients(
    hidden: UnsafePointer<Float>, targets: [Int32], weight: Float, _ weights: PackedWeights,
    dhidden: UnsafeMutablePointer<Float>, into gradients: Buffer
  ) -> Double {
    let d = layout.width
    let n = layout.itemCount
    let items = weights.outputs
    let ditems = gradients.pointer + layout.outputs
    let rounded = weights.precision == .bfloat16
    let right = kernels.packedPairCount(columns: d, depth: chunk)
    arena.reset(
      count: chunk * (2 * scoreStride + 2 * d + 3) + kernels.multiplyScratch(depth: chunk) + right,
      pieces: 10)
    let scores = arena.take(chunk * scoreStride)
    let scaled = arena.take(chunk * d)
    let sums = arena.take(chunk)
    let maxima = arena.take(chunk)
    let factors = arena.take(chunk)
    let scratch = arena.take(kernels.multiplyScratch(depth: chunk))
    // In bfloat16 the exponentials are kept twice in the room of the floats: by rows in the first
    // half, by pairs of rows in the second.
    let pairStride = scoreStride
    let byRows = pairs(scores)
    let byPairs = pairs(scores + chunk * scoreStride / 2)
    let left = pairs(arena.take(chunk * d))
    let packedRight = pairs(arena.take(right))
    let exact = rounded ? arena.take(chunk * scoreStride) : scores
    var loss = 0.0
    var start = 0
    while start < targets.count {
      let rows = min(chunk, targets.count - start)
      let h = hidden + start * d
      var longest: Float = 0
      for i in 0..<rows { longest = max(longest, kernels.dot(h + i * d, h + i * d, count: d)) }
      let bounded = longest.squareRoot() * weights.longestItem <= 60
      if rounded {
        kernels.roundRows(
          rows: rows, columns: d, h, xStride: d, into: left, stride: (d + 1) / 2)
      }
      switch (rounded, bounded) {
      case (false, true):
        kernels.multiplyExp(
          rows: rows, columns: n, depth: d, h, rowStride: d, weights.itemsForScores, into: scores,
          stride: scoreStride, rowSums: sums)
      case (false, false):
        kernels.multiplyPacked(
          rows: rows, columns: n, depth: d, h, rowStride: d, weights.itemsForScores, into: scores,
          stride: scoreStride)
      case (true, true):
        kernels.multiplyPairsExp(
          rows: rows, columns: n, pairs: (d + 1) / 2, left, rowStride: (d + 1) / 2,
          pairs(weights.itemsForScores), intoRows: byRows, stride: scoreStride / 2,
          intoRowPairs: byPairs, pairStride: pairStride, rowSums: sums)
      case (true, false):
        kernels.multiplyPairs(
          rows: rows, columns: n, pairs: (d + 1) / 2, left, rowStride: (d + 1) / 2,
          pairs(weights.itemsForScores), into: exact, stride: scoreStride)
      }
      if bounded {
        maxima.update(repeating: 0, count: rows)
      } else {
        kernels.expRows(
          rows: rows, columns: n, exact, stride: scoreStride, rowMax: maxima, rowSums: sums)
        if rounded {
          kernels.roundRows(
            rows: rows, columns: n, exact, xStride: scoreStride, into: byRows,
            stride: scoreStride / 2)
          kernels.roundRowPairs(
            rows: rows, columns: n, exact, xStride: scoreStride, into: byPairs,
            stride: pairStride)
        }
      }
      for i in 0..<rows {
        let target = Int(targets[start + i])
        precondition(target >= 0 && target < n, "target \(target) of \(n) items")
        let score = kernels.dot(h + i * d, items + target * d, count: d)
        loss += Double(maxima[i] + logf(sums[i]) - score)
        factors[i] = weight / sums[i]
      }
      let dh = dhidden + start * d
      if rounded {
        kernels.multiplyPairs(
          rows: rows, columns: d, pairs: (n + 1) / 2, byRows, rowStride: scoreStride / 2,
          pairs(weights.itemsForGradients), into: dh, stride: d)
      } else {
        kernels.multiplyPacked(
          rows: rows, columns: d, depth: n, scores, rowStride: scoreStride,
          weights.itemsForGradients, into: dh, stride: d)
      }
      kernels.scaleRows(rows: rows, columns: d, by: factors, dh, into: dh)
      kernels.scaleRows(rows: rows, columns: d, by: factors, h, into: scaled)
      if rounded {
        kernels.packPairs(
          scaled, stride: d, transposed: false, columns: d, depth: rows, into: packedRight)
        kernels.multiplyPairs(
          rows: n, columns: d, pairs: (rows + 1) / 2, byPairs, rowStride: 1,
          columnStride: pairStride, packedRight, accumulate: true, into: ditems, stride: d)
      } else {
        kernels.multiply(
          rows: n, columns: d, depth: rows, scores, rowStride: 1, columnStride: scoreStride, scaled,
          bStride: d, accumulate: true, into: ditems, stride: d, scratch: scratch)
      }
      for i in 0..<rows {
        let target = Int(targets[start + i])
        kernels.add(-weight, times: items + target * d, to: dh + i * d, count: d)
        kernels.add(-weight, times: h + i * d, to: ditems + target * d, count: d)
      }
      start += rows
    }
    return loss
  }
}
