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
func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }

extension Timestamp {
  /// Whole seconds, as networks count time.
  var seconds: Int64 { microsecondsSinceEpoch / 1_000_000 }
}

/// The ranks that weights give to the right items: histories are encoded in packed batches, scored
/// against the whole catalogue in tiles of matrix products, and ranked with seen items taken out.
///
/// The rule is that of `Evaluation.rank(of:scores:seen:)`, tile by tile; a test compares the two.
func rankings(
  _ split: LeaveOneOut, _ stage: LeaveOneOut.Stage, weights: PackedWeights,
  network: any SequenceNetwork, kernels: Kernels, pool: WorkerPool
) -> RankingResult {
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
    let pass = network.makePass(kernels: kernels)
    let ranker = TiledRanker(weights.layout, kernels: kernels, users: batchUsers)
    for b in stride(from: worker, to: batches.count, by: pool.count) {
      let users = batches[b].map { split.users[$0] }
      var batch = PackedBatch()
      for user in users {
        let history = split.history(of: user, stage)
        let times = network.usesTimes ? split.dataset.times?[user] ?? [] : []
        network.append(
          history: history.suffix(network.maximumLength).map(\.rawValue),
          times: times.prefix(history.count).suffix(network.maximumLength).map(\.seconds),
          moment: times.isEmpty ? 0 : times[history.count].seconds, to: &batch)
      }
      let found = ranker.ranks(
        hidden: pass.encodeLast(batch, weights), items: weights.outputs,
        targets: users.map { split.target(of: $0, stage) },
        seen: users.map { split.history(of: $0, stage) })
      for (place, rank) in zip(batches[b], found) { ranks.values[place] = rank }
    }
    withExtendedLifetime(pass) {}
  }
  return RankingResult(ranks: ranks.array)
}

/// Ranks right items against the whole catalogue, a tile of items at a time: memory does not depend
/// on the number of items.
private final class TiledRanker {
  private static let tile = 1024
  private let kernels: Kernels
  private let layout: ParameterLayout
  private let packed: Buffer
  private let scores: Buffer

  init(_ layout: ParameterLayout, kernels: Kernels, users: Int) {
    self.kernels = kernels
    self.layout = layout
    packed = Buffer(count: kernels.packedCount(columns: Self.tile, depth: layout.width))
    scores = Buffer(count: users * Self.tile)
  }

  func ranks(
    hidden: UnsafePointer<Float>, items: UnsafePointer<Float>, targets: [ItemToken],
    seen: [ArraySlice<ItemToken>]
  ) -> [Int] {
    let d = layout.width
    let n = layout.itemCount
    // The same kernel scores the right item alone and among the others, so equal vectors tie.
    let thresholds = targets.indices.map { i in
      var score: Float = 0
      kernels.pack(
        items + targets[i].index * d, stride: d, transposed: true, columns: 1, depth: d,
        into: packed.pointer)
      kernels.multiplyPacked(
        rows: 1, columns: 1, depth: d, hidden + i * d, rowStride: d, packed.pointer, into: &score,
        stride: 1)
      return score
    }
    let removed = targets.indices.map { i in Set(seen[i]).subtracting([targets[i]]).sorted() }
    var cursors = targets.map { _ in 0 }
    // The right item itself is at least its own score.
    var ahead = targets.map { _ in -1 }
    for start in stride(from: 0, to: n, by: Self.tile) {
      let count = min(Self.tile, n - start)
      kernels.pack(
        items + start * d, stride: d, transposed: true, columns: count, depth: d,
        into: packed.pointer)
      kernels.multiplyPacked(
        rows: targets.count, columns: count, depth: d, hidden, rowStride: d, packed.pointer,
        into: scores.pointer, stride: Self.tile)
      for i in targets.indices {
        let row = scores.pointer + i * Self.tile
        ahead[i] += kernels.count(row, count: count, atLeast: thresholds[i])
        while cursors[i] < removed[i].count, removed[i][cursors[i]].index < start + count {
          if row[removed[i][cursors[i]].index - start] >= thresholds[i] { ahead[i] -= 1 }
          cursors[i] += 1
        }
      }
    }
    return targets.indices.map { thresholds[$0].isNaN ? n - 1 : ahead[$0] }
  }
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
