package import Domain

/// The baselines that stand beside every result: what needs no training at all.
package struct Baselines: Sendable {
  package let itemCount: Int
  /// How often each item occurs in training.
  package let popularity: [Float]
  /// For each item, the items that followed it directly, with how often.
  private let transitions: [[Int32: Float]]

  /// - Parameter training: every user's training events, oldest first.
  package init(training: [[ItemToken]], itemCount: Int) {
    self.itemCount = itemCount
    var popularity = [Float](repeating: 0, count: itemCount)
    var transitions = [[Int32: Float]](repeating: [:], count: itemCount)
    for sequence in training {
      for token in sequence { popularity[token.index] += 1 }
      for (before, after) in zip(sequence, sequence.dropFirst()) {
        transitions[before.index][after.rawValue, default: 0] += 1
      }
    }
    self.popularity = popularity
    self.transitions = transitions
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
}
