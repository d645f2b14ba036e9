package import Domain

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A figure of one case, from the ranks of its right items. The figure of a judgement is the mean
/// over cases. All lie between 0 and 1; higher is better.
package enum Metric: String, Hashable, Sendable, CaseIterable {
  /// Right items among the first k, over all right items.
  case recall
  /// Normalised discounted cumulative gain with gains of 0 and 1 (Järvelin & Kekäläinen 2002).
  case ndcg
  /// One over the place of the first right item, 0 where it is beyond k.
  case mrr
  /// Average precision over the first k, divided by the smaller of k and the number of right items.
  case map
  /// Right items among the first k, over k.
  case precision
  /// 1 where any of the first k is right.
  case hitRate = "hit_rate"

  package var title: String {
    switch self {
    case .recall: "Recall"
    case .ndcg: "NDCG"
    case .mrr: "MRR"
    case .map: "MAP"
    case .precision: "Precision"
    case .hitRate: "Hit rate"
    }
  }

  /// - Parameter ranks: of the right items, from 0, in any order; not empty.
  package func value(_ ranks: [Int32], at k: Int) -> Double {
    let hits = ranks.filter { $0 < k }.sorted()
    guard let first = hits.first else { return 0 }
    switch self {
    case .recall: return Double(hits.count) / Double(ranks.count)
    case .ndcg:
      let ideal = (0..<min(k, ranks.count)).reduce(0.0) { $0 + 1 / log2(Double($1) + 2) }
      return min(1, hits.reduce(0.0) { $0 + 1 / log2(Double($1) + 2) } / ideal)
    case .mrr: return 1 / (Double(first) + 1)
    case .map:
      // Tied right items may share a rank; the n-th of them still has n right items up to it.
      let sum = hits.enumerated().reduce(0.0) { sum, hit in
        sum + min(1, Double(hit.offset + 1) / (Double(hit.element) + 1))
      }
      return sum / Double(min(k, ranks.count))
    case .precision: return Double(hits.count) / Double(k)
    case .hitRate: return 1
    }
  }
}

extension Judgement {
  /// The figure of each case.
  package func values(_ metric: Metric, at k: Int) -> [Double] {
    ranks.map { metric.value($0, at: k) }
  }

  /// The mean over cases with its bootstrap interval.
  package func estimate(_ metric: Metric, at k: Int, seed: UInt64 = 1) -> Estimate {
    bootstrap(values(metric, at: k), seed: seed)
  }
}

/// What the first k items of all cases together say, whether right or not.
package struct ListFigures: Hashable, Sendable {
  /// Different items in any list, over all items.
  package var coverage: Double
  /// Mean surprise of a recommended item, in bits: `-log2` of the share of users who had it in
  /// training, counting one more user for every item (Zhou et al. 2010; Vargas & Castells 2011).
  package var novelty: Double
  /// Mean share of training users who had a recommended item.
  package var popularity: Double
  /// One less the mean share of items that two cases' lists have in common.
  package var personalisation: Double
  /// Recommendations that fall on each tenth of the catalogue, most popular tenth first, as shares.
  package var tenths: [Double]

  package init(_ top: [[ItemToken]], at k: Int, popularity: ItemPopularity) {
    let itemCount = popularity.users.count
    var counts = [Int](repeating: 0, count: itemCount)
    var (surprise, share) = (0.0, 0.0)
    var total = 0
    tenths = [Double](repeating: 0, count: 10)
    for list in top {
      for token in list.prefix(k) {
        counts[token.index] += 1
        total += 1
        surprise += popularity.surprise(token)
        share += popularity.share(token)
        tenths[popularity.tenth(token)] += 1
      }
    }
    let recommended = Double(max(1, total))
    coverage = Double(counts.count { $0 > 0 }) / Double(max(1, itemCount))
    novelty = surprise / recommended
    self.popularity = share / recommended
    tenths = tenths.map { $0 / recommended }
    // Every pair of lists that share an item is counted once by that item.
    let shared = counts.reduce(0.0) { $0 + Double($1) * Double($1 - 1) / 2 }
    let pairs = Double(top.count) * Double(top.count - 1) / 2
    let length = recommended / Double(max(1, top.count))
    personalisation = pairs > 0 && length > 0 ? 1 - shared / pairs / length : 0
  }
}

/// How many users had each item in training, and what follows from it.
package struct ItemPopularity: Sendable {
  /// Different users for each item.
  package let users: [Int]
  package let userCount: Int
  private let tenths: [UInt8]
  private let isHeadItem: [Bool]

  package init(_ training: SequenceDataset) {
    var users = [Int](repeating: 0, count: training.itemCount)
    var lastUser = [Int](repeating: -1, count: training.itemCount)
    for (user, sequence) in training.sequences.enumerated() {
      for token in sequence where lastUser[token.index] != user {
        lastUser[token.index] = user
        users[token.index] += 1
      }
    }
    self.users = users
    userCount = training.sequences.count
    let order = users.indices.sorted { (users[$1], $0) < (users[$0], $1) }
    var tenths = [UInt8](repeating: 0, count: users.count)
    var isHead = [Bool](repeating: false, count: users.count)
    let half = users.reduce(0, +) / 2
    var before = 0
    for (place, item) in order.enumerated() {
      tenths[item] = UInt8(place * 10 / max(1, users.count))
      isHead[item] = before < half
      before += users[item]
    }
    self.tenths = tenths
    isHeadItem = isHead
  }

  package func share(_ token: ItemToken) -> Double {
    Double(users[token.index]) / Double(max(1, userCount))
  }

  package func surprise(_ token: ItemToken) -> Double {
    -log2(Double(users[token.index] + 1) / Double(userCount + 1))
  }

  /// 0 for the most popular tenth of the catalogue, 9 for the least popular one.
  package func tenth(_ token: ItemToken) -> Int { Int(tenths[token.index]) }

  /// Whether an item is among the most popular ones that make up half of all training events.
  package func isHead(_ token: ItemToken) -> Bool { isHeadItem[token.index] }

  package func isCold(_ token: ItemToken) -> Bool { users[token.index] == 0 }
}
