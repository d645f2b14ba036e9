package import Domain

/// The baselines that stand beside every result: what needs no training to speak of.
package struct Baselines: Sendable {
  package let itemCount: Int
  /// How often each item occurs in training.
  package let popularity: [Float]
  /// How often each item occurs in the last seven days of training; nil without times.
  package let recentPopularity: [Float]?
  /// For each item, the items that followed it directly, with how often.
  private let transitions: [[Int32: Float]]

  /// - Parameter training: every user's training events, oldest first.
  package init(training: [[ItemToken]], itemCount: Int) {
    self.init(SequenceDataset(itemCount: itemCount, sequences: training))
  }

  package init(_ training: SequenceDataset) {
    itemCount = training.itemCount
    var popularity = [Float](repeating: 0, count: itemCount)
    var transitions = [[Int32: Float]](repeating: [:], count: itemCount)
    for sequence in training.sequences {
      for token in sequence { popularity[token.index] += 1 }
      for (before, after) in zip(sequence, sequence.dropFirst()) {
        transitions[before.index][after.rawValue, default: 0] += 1
      }
    }
    self.popularity = popularity
    self.transitions = transitions
    recentPopularity = Self.recentPopularity(training)
  }

  private static func recentPopularity(_ training: SequenceDataset) -> [Float]? {
    guard let times = training.times, let last = times.compactMap(\.last).max() else { return nil }
    let start = Timestamp(
      microsecondsSinceEpoch: last.microsecondsSinceEpoch - 7 * 86_400 * 1_000_000)
    var recent = [Float](repeating: 0, count: training.itemCount)
    for (sequence, times) in zip(training.sequences, times) {
      for (token, time) in zip(sequence, times).reversed() {
        if time <= start { break }
        recent[token.index] += 1
      }
    }
    // All events decide among items that were equally often seen in those days.
    var all = [Float](repeating: 0, count: training.itemCount)
    for sequence in training.sequences { for token in sequence { all[token.index] += 1 } }
    let most = all.max() ?? 0
    return most > 0 ? zip(recent, all).map { $0 + $1 / (2 * most) } : recent
  }

  /// Scores by what most often followed the last event in training; popularity decides among items
  /// that followed it equally often, those that never did included.
  package func lastItemTransition(after history: some BidirectionalCollection<ItemToken>) -> [Float]
  {
    let most = popularity.max() ?? 0
    var scores = most > 0 ? popularity.map { $0 / (2 * most) } : popularity
    if let last = history.last {
      for (item, count) in transitions[last.index] { scores[Int(item)] += count }
    }
    return scores
  }

  /// The baselines as contenders; popularity of the last days only where events have times.
  package var contenders: [Contender] {
    var list = [
      Contender("popularity", .baseline) { _ in popularity },
      Contender("last-item transition", .baseline) { lastItemTransition(after: $0.history) },
    ]
    if let recentPopularity {
      list.insert(Contender("popularity, last 7 days", .baseline) { _ in recentPopularity }, at: 1)
    }
    return list
  }
}
