package import Domain

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// How the scores of different models are made comparable before they are added up.
///
/// The items of the history take no part in finding the scale, because they are seldom wanted again;
/// they get the value that another item with their score would have.
package enum Standing: String, Hashable, Sendable, CaseIterable {
  /// `-log(1 + rank)` with ranks from 0, all beyond the thousandth alike: weighted sums of it are
  /// products of powers of ranks.
  case logRank = "log-rank"
  /// `1 / (60 + rank)`, reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009), times 60.
  case reciprocalRank = "reciprocal-rank"
  /// The score less the catalogue's mean, over its standard deviation.
  case standard = "standard"

  /// Ranks are told apart up to this.
  package static let depth = 1000

  /// Replaces the scores of one history by their standing.
  ///
  /// - Parameter scores: `[N]`.
  package func apply(to scores: UnsafeMutableBufferPointer<Float>, history: History) {
    switch self {
    case .standard: standardise(scores, history)
    case .logRank: rank(scores, history) { -log(1 + Float($0)) }
    case .reciprocalRank: rank(scores, history) { 60 / (60 + Float($0)) }
    }
  }

  private func standardise(_ scores: UnsafeMutableBufferPointer<Float>, _ history: History) {
    var sum = 0.0
    var squares = 0.0
    var count = 0.0
    for score in scores where score.isFinite {
      sum += Double(score)
      squares += Double(score) * Double(score)
      count += 1
    }
    for item in Set(history.items) where scores[item.index].isFinite {
      let score = Double(scores[item.index])
      sum -= score
      squares -= score * score
      count -= 1
    }
    let mean = count > 0 ? sum / count : 0
    let deviation = count > 0 ? max(0, squares / count - mean * mean).squareRoot() : 0
    let scale = deviation > 1e-12 ? 1 / deviation : 0
    for i in scores.indices {
      scores[i] = scores[i].isFinite ? Float((Double(scores[i]) - mean) * scale) : -10
    }
  }

  private func rank(
    _ scores: UnsafeMutableBufferPointer<Float>, _ history: History, _ value: (Int) -> Float
  ) {
    let seen = Set(history.items.map(\.index))
    let best = Self.best(
      Self.depth, of: UnsafeBufferPointer(scores), excluding: { seen.contains($0) })
    let ordered = best.map { scores[$0] }
    let last = value(ordered.count)
    // A seen item stands where an unseen one with its score would.
    let places = seen.map { item -> (Int, Float) in
      var low = 0
      var high = ordered.count
      while low < high {
        let middle = (low + high) / 2
        if ordered[middle] > scores[item] { low = middle + 1 } else { high = middle }
      }
      return (item, value(low))
    }
    scores.update(repeating: last)
    for (rank, item) in best.enumerated() {
      // Equal scores have equal ranks: the first one's.
      var first = rank
      while first > 0, ordered[first - 1] == ordered[rank] { first -= 1 }
      scores[item] = value(first)
    }
    for (item, value) in places { scores[item] = value }
  }

  /// The places of the greatest scores, best first; of equals the first come first.
  package static func best(
    _ count: Int, of scores: UnsafeBufferPointer<Float>, excluding: (Int) -> Bool = { _ in false }
  ) -> [Int] {
    guard count > 0 else { return [] }
    // A bar below which nothing can be among the best, from a sample of the scores.
    var bar = -Float.infinity
    if scores.count > 4 * count {
      let step = max(1, scores.count / 1024)
      var sample = stride(from: 0, to: scores.count, by: step).map { scores[$0] }
      sample.sort(by: >)
      let share = Double(count) / Double(scores.count)
      let place = Int(share * Double(sample.count) * 1.5) + 16
      if place < sample.count { bar = sample[place] }
    }
    var found: [Int] = []
    func gather() {
      found.removeAll(keepingCapacity: true)
      for (i, score) in scores.enumerated() where score >= bar && !excluding(i) { found.append(i) }
    }
    gather()
    if found.count < count, bar > -.infinity {
      bar = -.infinity
      gather()
    }
    found.sort { (scores[$1], $0) < (scores[$0], $1) }
    return Array(found.prefix(count))
  }
}
