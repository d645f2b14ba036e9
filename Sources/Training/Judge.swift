package import Domain
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
  _ cases: [EvaluationCase], weights: PackedWeights, network: any SequenceNetwork,
  kernels: Kernels, pool: WorkerPool
) -> Judgement {
  let width = weights.layout.width
  let most = cases.map(\.targets.count).max() ?? 1
  return ranked(cases, batchSize: 32, pool: pool) {
    // What one thread keeps from batch to batch.
    let pass = network.makePass(kernels: kernels)
    let ranker = TiledRanker(weights.layout, kernels: kernels, users: 32 * most)
    let rows = Buffer(count: 32 * most * width)
    return { cases in
      var batch = PackedBatch()
      for one in cases { network.append(one.question, to: &batch) }
      let hidden = pass.encodeLast(batch, weights)
      var targets: [ItemToken] = []
      var seen: [ArraySlice<ItemToken>] = []
      for (row, one) in cases.enumerated() {
        let others = one.history.filter { !one.targets.contains($0) }[...]
        for target in one.targets {
          (rows.pointer + targets.count * width).update(
            from: hidden + row * width, count: width)
          targets.append(target)
          seen.append(others)
        }
      }
      withExtendedLifetime(pass) {}
      var found = ranker.ranks(
        hidden: rows.pointer, items: weights.outputs, targets: targets, seen: seen)[...]
      return cases.map { one in
        defer { found = found.dropFirst(one.targets.count) }
        return found.prefix(one.targets.count).map { Int32($0) }
      }
    }
  }
}

/// The ranks that a model gives to the right items among its whole vocabulary, seen ones taken out.
package func rankings(
  _ cases: [EvaluationCase], by model: any Recommender, name: String = "", pool: WorkerPool
) -> Judgement {
  let itemCount = model.itemCount
  let batchSize = max(1, min(32, 8_000_000 / max(1, itemCount)))
  return ranked(cases, name: name, batchSize: batchSize, pool: pool) {
    let scores = Buffer(count: batchSize * itemCount)
    return { cases in
      model.score(cases.map(\.question), into: scores.pointer)
      return cases.enumerated().map { i, one in
        let row = UnsafeBufferPointer(start: scores.pointer + i * itemCount, count: itemCount)
        let seen = one.history.filter { !one.targets.contains($0) }
        return one.targets.map { Int32(rank(of: $0, scores: row, seen: seen)) }
      }
    }
  }
}

extension EvaluationCase {
  /// The case as a model sees it.
  package var question: History {
    History(history, times: times.isEmpty ? nil : times, moment: moment)
  }
}

extension Contender {
  /// A trained model that is to be judged.
  package init(_ model: any Recommender, name: String) {
    self.init(name, .model) { cases, scores in
      model.score(cases.map(\.question), into: scores)
    }
  }
}

extension Judgement {
  /// The mean over cases.
  package func mean(_ metric: Metric, at k: Int) -> Double {
    let values = values(metric, at: k)
    return values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
  }
}

/// Divides cases into batches of like lengths and gathers their ranks.
private func ranked(
  _ cases: [EvaluationCase], name: String = "", batchSize: Int, pool: WorkerPool,
  each worker: @Sendable () -> (ArraySlice<EvaluationCase>) -> [[Int32]]
) -> Judgement {
  // By falling history length, so that batches have even token counts.
  let order = cases.indices.sorted {
    (cases[$0].history.count, $1) > (cases[$1].history.count, $0)
  }
  let sorted = order.map { cases[$0] }
  let found = WorkerResults<[(Int, [Int32])]>(count: pool.count)
  pool.run { index in
    let rank = worker()
    var own: [(Int, [Int32])] = []
    for start in stride(from: index * batchSize, to: sorted.count, by: pool.count * batchSize) {
      let end = min(sorted.count, start + batchSize)
      for (i, ranks) in zip(start..<end, rank(sorted[start..<end])) {
        own.append((order[i], ranks))
      }
    }
    found.set(own, index)
  }
  var ranks = [[Int32]](repeating: [], count: cases.count)
  for (place, own) in found.all.joined() { ranks[place] = own }
  return Judgement(name: name, role: .model, ranks: ranks, top: [])
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
