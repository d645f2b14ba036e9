import Domain
import Evaluation
import Kernels
import Models
import Neural

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

func cosine(_ x: Double) -> Double { cos(x) }

/// The ranks that weights give to the right items: histories are encoded in packed batches, scored
/// against the whole catalogue by matrix products, and ranked with seen items taken out.
func rankings(
  _ split: LeaveOneOut, _ stage: LeaveOneOut.Stage, weights: PackedWeights,
  layout: TransformerLayout, kernels: Kernels, pool: WorkerPool
) -> RankingResult {
  let shape = layout.shape
  let n = shape.itemCount
  let d = shape.width
  // Users by falling history length keep the batches' token counts even.
  let order = split.users.indices.sorted {
    let (a, b) = (split.users[$0], split.users[$1])
    let (x, y) = (split.dataset.sequences[a].count, split.dataset.sequences[b].count)
    return (x, b) > (y, a)
  }
  let batchUsers = 32
  let batches = stride(from: 0, to: order.count, by: batchUsers).map {
    Array(order[$0..<min(order.count, $0 + batchUsers)])
  }
  let ranks = SharedRanks(count: order.count)
  pool.run { worker in
    let pass = TransformerPass(layout, kernels: kernels)
    let scores = Buffer(count: batchUsers * (n + 48))
    for b in stride(from: worker, to: batches.count, by: pool.count) {
      var batch = PackedBatch()
      for place in batches[b] {
        batch.append(
          history: split.history(of: split.users[place], stage).suffix(shape.maximumLength)
            .map(\.rawValue), maximumLength: shape.maximumLength)
      }
      let hidden = pass.encodeLast(batch, weights)
      kernels.multiplyPacked(
        rows: batches[b].count, columns: n, depth: d, hidden, rowStride: d, weights.itemsForScores,
        into: scores.pointer, stride: n + 48)
      for (i, place) in batches[b].enumerated() {
        let user = split.users[place]
        ranks.values[place] = rank(
          of: split.target(of: user, stage),
          scores: UnsafeBufferPointer(start: scores.pointer + i * (n + 48), count: n),
          seen: split.history(of: user, stage))
      }
    }
  }
  return RankingResult(ranks: ranks.array)
}

/// Unchecked Sendable: every worker writes its own places.
private final class SharedRanks: @unchecked Sendable {
  let values: UnsafeMutablePointer<Int>
  private let count: Int
  init(count: Int) {
    values = .allocate(capacity: max(1, count))
    values.initialize(repeating: 0, count: count)
    self.count = count
  }
  deinit { values.deallocate() }
  var array: [Int] { Array(UnsafeBufferPointer(start: values, count: count)) }
}
