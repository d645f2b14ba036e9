package import Domain

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The rank of the right item among the whole catalogue, from 0.
///
/// Items of the history are taken out (not the right item itself, where the user did it before). An
/// item with an equal score ranks ahead of the right one, so a model that gives everything the same
/// score comes last. A score that is not a number counts as the worst.
///
/// - Parameter scores: one for each token.
package func rank(
  of target: ItemToken, scores: UnsafeBufferPointer<Float>, seen: some Sequence<ItemToken>
) -> Int {
  precondition(target.index < scores.count, "token \(target.index) of \(scores.count)")
  let score = scores[target.index]
  guard !score.isNaN else { return scores.count - 1 }
  var ahead = 0
  for other in scores where other >= score { ahead += 1 }
  ahead -= 1
  var removed = Set<ItemToken>()
  for token in seen where token != target && scores[token.index] >= score {
    if removed.insert(token).inserted { ahead -= 1 }
  }
  return ahead
}

/// A figure with its 95 % bootstrap interval.
package struct Estimate: Hashable, Sendable {
  package var value: Double
  package var low: Double
  package var high: Double
  package init(value: Double, low: Double, high: Double) {
    self.value = value
    self.low = low
    self.high = high
  }
}

/// The ranks that a scorer gave to the right items, and what follows from them.
package struct RankingResult: Sendable {
  /// One rank for each judged user, from 0.
  package let ranks: [Int]

  package init(ranks: [Int]) { self.ranks = ranks }

  /// The share of users whose right item is among the first `k`. With one right item for each user
  /// this is also the hit rate.
  package func recall(at k: Int) -> Double { mean { $0 < k ? 1 : 0 } }

  /// Normalised discounted cumulative gain: the mean of `1 / log2(rank + 2)` for ranks below `k`.
  package func ndcg(at k: Int) -> Double { mean { gain($0, k) } }

  private func mean(_ value: (Int) -> Double) -> Double {
    ranks.isEmpty ? 0 : ranks.reduce(0) { $0 + value($1) } / Double(ranks.count)
  }

  package func recallEstimate(at k: Int, seed: UInt64 = 1) -> Estimate {
    bootstrap(ranks.map { $0 < k ? 1 : 0 }, seed: seed)
  }

  package func ndcgEstimate(at k: Int, seed: UInt64 = 1) -> Estimate {
    bootstrap(ranks.map { gain($0, k) }, seed: seed)
  }
}

private func gain(_ rank: Int, _ k: Int) -> Double { rank < k ? 1 / log2(Double(rank) + 2) : 0 }

/// The mean of some values with a percentile bootstrap interval (Efron & Tibshirani 1993, §13.3):
/// 1,000 resamples with replacement, 2.5 % and 97.5 %.
package func bootstrap(_ values: [Double], seed: UInt64, resamples: Int = 1000) -> Estimate {
  guard !values.isEmpty else { return Estimate(value: 0, low: 0, high: 0) }
  var random = EvaluationRandom(seed: seed)
  var means: [Double] = []
  for _ in 0..<resamples {
    var sum = 0.0
    for _ in values.indices { sum += values[random.next(below: values.count)] }
    means.append(sum / Double(values.count))
  }
  means.sort()
  return Estimate(
    value: values.reduce(0, +) / Double(values.count), low: means[Int(Double(resamples) * 0.025)],
    high: means[min(resamples - 1, Int(Double(resamples) * 0.975))])
}
