import Domain

/// A part of the cases whose figures stand alone.
package struct Segment: Sendable {
  package var name: String
  /// What belongs to it, in words.
  package var explanation: String
  /// The cases, as places in the list of all.
  package var cases: [Int]
  /// Which of a case's right items count; nil for all.
  private var counts: (@Sendable (ItemToken) -> Bool)?

  /// The ranks that count, for each case of the segment.
  package func ranks(_ judgement: Judgement, _ all: [EvaluationCase]) -> [[Int32]] {
    guard let counts else { return cases.map { judgement.ranks[$0] } }
    return cases.map { place in
      zip(all[place].targets, judgement.ranks[place]).filter { counts($0.0) }.map(\.1)
    }
  }

  /// Users by the length of their history, and right items by their popularity. Empty ones are left
  /// out.
  ///
  /// New users have at most five events, heavy ones are the longest fifth of the others.
  package static func standard(
    _ cases: [EvaluationCase], popularity: ItemPopularity
  ) -> [Segment] {
    let lengths = cases.map(\.history.count)
    let known = lengths.filter { $0 > newUserEvents }.sorted()
    let heavy =
      known.isEmpty ? newUserEvents + 1 : max(newUserEvents + 1, known[known.count * 4 / 5])
    func users(_ name: String, _ explanation: String, _ isIn: (Int) -> Bool) -> Segment {
      Segment(
        name: name, explanation: explanation, cases: lengths.indices.filter { isIn(lengths[$0]) })
    }
    func items(
      _ name: String, _ explanation: String, _ counts: @escaping @Sendable (ItemToken) -> Bool
    ) -> Segment {
      Segment(
        name: name, explanation: explanation,
        cases: cases.indices.filter { cases[$0].targets.contains(where: counts) }, counts: counts)
    }
    return [
      users("new users", "at most \(newUserEvents) events") { $0 <= newUserEvents },
      users("light users", "\(newUserEvents + 1) to \(heavy - 1) events") {
        $0 > newUserEvents && $0 < heavy
      },
      users("heavy users", "\(heavy) events or more") { $0 >= heavy && $0 > newUserEvents },
      items("head items", "the most popular items, which make up half of the training events") {
        popularity.isHead($0)
      },
      items("tail items", "all other items with a training event") {
        !popularity.isHead($0) && !popularity.isCold($0)
      },
      items("cold items", "items without a training event") { popularity.isCold($0) },
    ].filter { !$0.cases.isEmpty }
  }

  private static let newUserEvents = 5

  private init(
    name: String, explanation: String, cases: [Int],
    counts: (@Sendable (ItemToken) -> Bool)? = nil
  ) {
    self.name = name
    self.explanation = explanation
    self.cases = cases
    self.counts = counts
  }
}
