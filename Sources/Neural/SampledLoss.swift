package import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Losses that compare the right item with a few drawn ones instead of the whole catalogue.
///
/// Memory is `tokens × negatives` for a pass and never depends on the number of items but for the
/// item table itself.
package enum SampledObjective: Hashable, Sendable {
  /// Cross-entropy over the right item and the drawn ones (Jean et al. 2015; for SASRec with shared
  /// negatives: Petrov & Macdonald and Klenitskiy & Vasilev, RecSys 2023).
  case softmax
  /// Generalised binary cross-entropy with calibration `t` in `0...1` (Petrov & Macdonald, *gSASRec*,
  /// RecSys 2023): the positive's probability is raised to
  /// `β = α(t(1 − 1/α) + 1/α)`, `α = negatives / (items − 1)`. `t = 0` is plain cross-entropy.
  case binary(calibration: Float)
  /// Bayesian personalised ranking (Rendle et al., UAI 2009): the mean over negatives of
  /// `−log σ(s⁺ − s⁻)`.
  case pairwise
}

/// Who shares a set of drawn items.
package enum NegativeSharing: String, Hashable, Sendable, CaseIterable {
  /// All positions of one sequence.
  case sequence
  /// All positions of one pass of the model.
  case pass
}

/// Draws items that are probably not the right one.
package struct NegativeSampler: Sendable {
  private let itemCount: Int
  /// Running sums of the items' weights; empty where items are drawn uniformly.
  private let cumulative: [Double]
  /// One cell for each item, all equally probable: below `share` of 2^64 the cell gives its own item,
  /// above it the other one.
  private let cells: [(share: UInt64, other: Int32)]

  /// Draws every item with the same probability.
  package init(uniformOver itemCount: Int) {
    self.itemCount = itemCount
    cumulative = []
    cells = []
  }

  /// Draws items in proportion to their weights, such as counts raised to a power.
  package init(weights: [Double]) {
    precondition(weights.allSatisfy { $0 >= 0 } && weights.contains { $0 > 0 }, "no weights")
    itemCount = weights.count
    var sum = 0.0
    cumulative = weights.map {
      sum += $0
      return sum
    }
    cells = Self.cells(weights.map { $0 / sum * Double(weights.count) })
  }

  /// The alias table of weights that are 1 on average (Vose, *A Linear Algorithm for Generating Random
  /// Numbers with a Given Distribution*, 1991).
  private static func cells(_ weights: [Double]) -> [(share: UInt64, other: Int32)] {
    var left = weights
    var cells = weights.indices.map { (share: UInt64.max, other: Int32($0)) }
    var small = weights.indices.filter { left[$0] < 1 }
    var large = weights.indices.filter { left[$0] >= 1 }
    while let poor = small.popLast(), let rich = large.last {
      // At most 1 - 2^-53.
      cells[poor] = (UInt64(left[poor] * 18_446_744_073_709_551_616), Int32(rich))
      left[rich] -= 1 - left[poor]
      if left[rich] < 1 {
        large.removeLast()
        small.append(rich)
      }
    }
    // What rounding has left over is 1 but for rounding; an item without weight never is.
    if let likely = weights.indices.max(by: { weights[$0] < weights[$1] }) {
      for item in weights.indices where weights[item] == 0 && cells[item].share == .max {
        cells[item] = (0, Int32(likely))
      }
    }
    return cells
  }

  /// One item.
  package func draw(using generator: inout SplitMix64) -> Int32 {
    let (cell, place) = generator.next().multipliedFullWidth(by: UInt64(itemCount))
    if cells.isEmpty { return Int32(truncatingIfNeeded: cell) }
    let (share, other) = cells[Int(cell)]
    return place < share ? Int32(truncatingIfNeeded: cell) : other
  }

  /// The logarithm of an item's probability to be drawn.
  func logProbability(of item: Int32) -> Float {
    guard let total = cumulative.last else { return -logf(Float(itemCount)) }
    let below = item == 0 ? 0 : cumulative[Int(item) - 1]
    return Float(log(max(1e-300, (cumulative[Int(item)] - below) / total)))
  }
}

/// A loss over drawn items, with its gradients.
package final class SampledLoss {
  private let kernels: Kernels
  private let layout: ParameterLayout
  private let objective: SampledObjective
  private let negatives: Int
  private let sharing: NegativeSharing
  private let sampler: NegativeSampler
  /// Whether scores are corrected by the logarithm of how often an item is drawn (Bengio & Senécal
  /// 2008), which makes sampled softmax unbiased.
  private let corrected: Bool
  private let arena = Arena()
  private var drawn: [Int32] = []

  package init(
    _ layout: some NetworkLayout, objective: SampledObjective, negatives: Int,
    sharing: NegativeSharing, sampler: NegativeSampler, corrected: Bool, kernels: Kernels
  ) {
    precondition(negatives > 0, "a sampled loss without negatives")
    self.layout = layout.table
    self.objective = objective
    self.negatives = negatives
    self.sharing = sharing
    self.sampler = sampler
    self.corrected = corrected
    self.kernels = kernels
  }

  package var bytesHeld: Int { arena.capacity * 4 }

  /// Adds up the loss and its gradients.
  ///
  /// - Parameters:
  ///   - hidden: a row for each target, `[targets, d]`; `batch` gives the targets and where the
  ///     sequences' targets end.
  ///   - weight: multiplied into every gradient.
  ///   - dhidden: overwritten, `[targets, d]`.
  ///   - touched: every item whose row of the gradient was added to is appended.
  /// - Returns: the sum of the positions' losses, unweighted.
  package func lossAndGradients(
    hidden: UnsafePointer<Float>, _ batch: PackedBatch, weight: Float, parameters: Buffer,
    dhidden: UnsafeMutablePointer<Float>, into gradients: Buffer, touched: inout [Int32],
    using generator: inout SplitMix64
  ) -> Double {
    let d = layout.width
    let items = parameters.pointer + layout.outputs
    let ditems = gradients.pointer + layout.outputs
    let groups: [Range<Int>] =
      sharing == .pass
      ? [0..<batch.targets.count]
      : zip(batch.targetOffsets, batch.targetOffsets.dropFirst()).map { Int($0)..<Int($1) }
    let longest = groups.map(\.count).max() ?? 0
    let packedCount = kernels.packedCount(columns: negatives, depth: d)
    let scratchCount = kernels.multiplyScratch(depth: max(negatives, longest))
    arena.reset(
      count: negatives * (2 * d + 1) + packedCount + longest * (negatives + 3) + scratchCount,
      pieces: 10)
    let vectors = arena.take(negatives * d)
    let dvectors = arena.take(negatives * d)
    let corrections = arena.take(negatives)
    let packed = arena.take(packedCount)
    let scores = arena.take(longest * negatives)
    let sums = arena.take(longest)
    let maxima = arena.take(longest)
    let positives = arena.take(longest)
    let scratch = arena.take(scratchCount)
    var loss = 0.0
    for group in groups where !group.isEmpty {
      let rows = group.count
      let h = hidden + group.lowerBound * d
      let dh = dhidden + group.lowerBound * d
      drawn.removeAll(keepingCapacity: true)
      for j in 0..<negatives {
        let item = sampler.draw(using: &generator)
        drawn.append(item)
        (vectors + j * d).update(from: items + Int(item) * d, count: d)
        // The expected number of times that the item is drawn.
        corrections[j] =
          corrected ? sampler.logProbability(of: item) + logf(Float(negatives)) : 0
      }
      kernels.pack(
        vectors, stride: d, transposed: true, columns: negatives, depth: d, into: packed)
      kernels.multiplyPacked(
        rows: rows, columns: negatives, depth: d, h, rowStride: d, packed, into: scores,
        stride: negatives)
      for i in 0..<rows {
        let target = batch.targets[group.lowerBound + i]
        positives[i] = kernels.dot(h + i * d, items + Int(target) * d, count: d)
        let row = scores + i * negatives
        if corrected { kernels.add(-1, times: corrections, to: row, count: negatives) }
        if objective == .pairwise { for j in 0..<negatives { row[j] -= positives[i] } }
        // A drawn item that is the right one is no negative.
        for j in 0..<negatives where drawn[j] == target { row[j] = -1e9 }
      }
      loss += derivatives(
        rows: rows, scores: scores, positives: positives, sums: sums, maxima: maxima, weight: weight
      )
      kernels.multiply(
        rows: rows, columns: d, depth: negatives, scores, rowStride: negatives, vectors, bStride: d,
        into: dh, stride: d, scratch: scratch)
      kernels.multiply(
        rows: negatives, columns: d, depth: rows, scores, rowStride: 1, columnStride: negatives, h,
        bStride: d, into: dvectors, stride: d, scratch: scratch)
      for j in 0..<negatives {
        kernels.add(1, times: dvectors + j * d, to: ditems + Int(drawn[j]) * d, count: d)
      }
      touched += drawn
      for i in 0..<rows {
        let target = Int(batch.targets[group.lowerBound + i])
        kernels.add(positives[i], times: items + target * d, to: dh + i * d, count: d)
        kernels.add(positives[i], times: h + i * d, to: ditems + target * d, count: d)
        touched.append(Int32(target))
      }
    }
    return loss
  }

  /// Replaces scores by the loss's derivatives, weighted; `positives` likewise. Returns the loss.
  private func derivatives(
    rows: Int, scores: UnsafeMutablePointer<Float>, positives: UnsafeMutablePointer<Float>,
    sums: UnsafeMutablePointer<Float>, maxima: UnsafeMutablePointer<Float>, weight: Float
  ) -> Double {
    let k = negatives
    var loss = 0.0
    switch objective {
    case .softmax:
      kernels.expRows(
        rows: rows, columns: k, scores, stride: k, rowMax: maxima, rowSums: sums)
      for i in 0..<rows {
        let top = max(maxima[i], positives[i])
        let others = sums[i] * expf(maxima[i] - top)
        let right = expf(positives[i] - top)
        let total = others + right
        loss += Double(logf(total) + top - positives[i])
        maxima[i] = weight * expf(maxima[i] - top) / total
        positives[i] = weight * (right / total - 1)
      }
      kernels.scaleRows(rows: rows, columns: k, by: maxima, scores, into: scores)
    case .binary(let calibration):
      let share = Float(k) / Float(max(1, layout.itemCount - 1))
      let beta = share * (calibration * (1 - 1 / share) + 1 / share)
      // A constant added to every score changes no order. With the one that is best where nothing is
      // known, training does not begin by moving all scores there, which takes many epochs of looking
      // like popularity (the authors of gSASRec describe it).
      let start = logf(beta / Float(k))
      for i in 0..<rows * k { scores[i] += start }
      kernels.logisticRows(rows: rows, columns: k, scores, stride: k, rowLosses: sums)
      for i in 0..<rows {
        let score = positives[i] + start
        let missing = 1 / (1 + expf(score))
        // -log σ(s) = max(−s, 0) + log(1 + e^−|s|)
        loss += Double(beta * (max(-score, 0) + log1pf(expf(-abs(score)))) + sums[i])
        positives[i] = -weight * beta * missing
        maxima[i] = weight
      }
      kernels.scaleRows(rows: rows, columns: k, by: maxima, scores, into: scores)
    case .pairwise:
      kernels.logisticRows(rows: rows, columns: k, scores, stride: k, rowLosses: sums)
      for i in 0..<rows {
        loss += Double(sums[i]) / Double(k)
        maxima[i] = weight / Float(k)
      }
      kernels.scaleRows(rows: rows, columns: k, by: maxima, scores, into: scores)
      for i in 0..<rows {
        var sum: Float = 0
        let row = scores + i * k
        for j in 0..<k { sum += row[j] }
        positives[i] = -sum
      }
    }
    return loss
  }
}
