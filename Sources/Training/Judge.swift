import Domain
package import Evaluation
import Kernels
package import Models
import Neural

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

func cosine(_ x: Double) -> Double { cos(x) }
func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }

/// The ranks that weights give to the right items: histories are encoded in packed batches, scored
/// against the whole catalogue in tiles of matrix products, and ranked with seen items taken out.
///
/// The rule is that of `Evaluation.rank(of:scores:seen:)`, tile by tile; a test compares the two.
func rankings(
  _ questions: [Question], weights: PackedWeights, layout: TransformerLayout, kernels: Kernels,
  pool: WorkerPool
) -> RankingResult {
  let shape = layout.shape
  return ranked(questions, batchSize: 32, pool: pool) {
    // What one thread keeps from batch to batch.
    let pass = TransformerPass(layout, kernels: kernels)
    let ranker = TiledRanker(layout, kernels: kernels, users: 32)
    return { questions in
      var batch = PackedBatch()
      for question in questions {
        batch.append(
          history: question.history.items.suffix(shape.maximumLength).map(\.rawValue),
          maximumLength: shape.maximumLength)
      }
      defer { withExtendedLifetime(pass) {} }
      return ranker.ranks(
        hidden: pass.encodeLast(batch, weights), items: weights.parameters.pointer + layout.items,
        targets: questions.map(\.target), seen: questions.map(\.history.items))
    }
  }
}

/// The ranks that a model gives to the right items among its whole vocabulary, seen ones taken out.
package func rankings(
  _ questions: [Question], by model: any Recommender, pool: WorkerPool
) -> RankingResult {
  let itemCount = model.itemCount
  let batchSize = max(1, min(32, 8_000_000 / max(1, itemCount)))
  return ranked(questions, batchSize: batchSize, pool: pool) {
    let scores = Buffer(count: batchSize * itemCount)
    return { questions in
      model.score(questions.map(\.history), into: scores.pointer)
      return questions.enumerated().map { i, question in
        rank(
          of: question.target,
          scores: UnsafeBufferPointer(start: scores.pointer + i * itemCount, count: itemCount),
          seen: question.history.items)
      }
    }
  }
}

/// Divides questions into batches of like lengths and gathers their ranks.
private func ranked(
  _ questions: [Question], batchSize: Int, pool: WorkerPool,
  each worker: @Sendable () -> (ArraySlice<Question>) -> [Int]
) -> RankingResult {
  // By falling history length, so that batches have even token counts.
  let order = questions.indices.sorted {
    (questions[$0].history.items.count, $1) > (questions[$1].history.items.count, $0)
  }
  let sorted = order.map { questions[$0] }
  let ranks = SharedRanks(count: questions.count)
  pool.run { index in
    let rank = worker()
    for start in stride(from: index * batchSize, to: sorted.count, by: pool.count * batchSize) {
      let end = min(sorted.count, start + batchSize)
      for (i, found) in zip(start..<end, rank(sorted[start..<end])) {
        ranks.values[order[i]] = found
      }
    }
  }
  return RankingResult(ranks: ranks.array)
}

/// Ranks right items against the whole catalogue, a tile of items at a time: memory does not depend
/// on the number of items.
private final class TiledRanker {
  private static let tile = 1024
  private let kernels: Kernels
  private let shape: TransformerShape
  private let packed: Buffer
  private let scores: Buffer

  init(_ layout: TransformerLayout, kernels: Kernels, users: Int) {
    self.kernels = kernels
    shape = layout.shape
    packed = Buffer(count: kernels.packedCount(columns: Self.tile, depth: shape.width))
    scores = Buffer(count: users * Self.tile)
  }

  func ranks(
    hidden: UnsafePointer<Float>, items: UnsafePointer<Float>, targets: [ItemToken],
    seen: [ArraySlice<ItemToken>]
  ) -> [Int] {
    let d = shape.width
    let n = shape.itemCount
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
