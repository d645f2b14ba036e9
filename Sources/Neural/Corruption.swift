/// A history with mistakes, and what would mend them: the augmenter's training data.
package struct Corruption: Hashable, Sendable {
  package var tokens: [Int32] = []
  /// What each token needs.
  package var operations: [LACLNetwork.Operation] = []
  /// What was taken out before each token that needs an insertion, nearest first.
  package var missing: [[Int32]] = []

  /// Walks through a history: an event is kept with probability 0.40; with 0.45 a run of one to five
  /// events is left out before it; with 0.15 an item that the user never had is put in. The newest
  /// event always stays. The probabilities are those of the authors' code.
  package init(
    _ sequence: some RandomAccessCollection<Int32>, itemCount: Int,
    using generator: inout SplitMix64
  ) {
    let events = Array(sequence)
    let known = Set(events)
    var next = 0
    while next < events.count {
      let chance = generator.unitFloat()
      if chance >= 0.85, known.count < itemCount {
        var item = Int32(Int.random(in: 0..<itemCount, using: &generator))
        while known.contains(item) {
          item = Int32(Int.random(in: 0..<itemCount, using: &generator))
        }
        add(item, .delete)
        continue
      }
      // The newest event is never left out.
      let most = min(LACLNetwork.insertedAtMost, events.count - 1 - next)
      if chance >= 0.40, chance < 0.85, most > 0 {
        let count = Int.random(in: 1...most, using: &generator)
        let removed = events[next..<next + count]
        next += count
        add(events[next], .insert, missing: removed.reversed())
      } else {
        add(events[next], .keep)
      }
      next += 1
    }
  }

  private mutating func add(
    _ token: Int32, _ operation: LACLNetwork.Operation, missing: [Int32] = []
  ) {
    tokens.append(token)
    operations.append(operation)
    self.missing.append(missing)
  }

  /// The newest part.
  package func suffix(_ count: Int) -> Corruption {
    var result = self
    result.tokens = tokens.suffix(count)
    result.operations = operations.suffix(count)
    result.missing = missing.suffix(count)
    return result
  }
}

/// One of the three altered histories of CL4SRec (Xie et al., ICDE 2022): a run of 60 % of the events,
/// 30 % of the events hidden, or a run of 60 % in another order.
package func randomView(
  of sequence: some RandomAccessCollection<Int32>, hidden: Int32,
  using generator: inout SplitMix64
) -> [Int32] {
  var events = Array(sequence)
  guard events.count > 1 else { return events }
  let run = max(1, events.count * 6 / 10)
  let start = Int.random(in: 0...events.count - run, using: &generator)
  switch Int.random(in: 0..<3, using: &generator) {
  case 0: return Array(events[start..<start + run])
  case 1:
    for _ in 0..<max(1, events.count * 3 / 10) {
      events[Int.random(in: 0..<events.count, using: &generator)] = hidden
    }
    return events
  default:
    events[start..<start + run].shuffle(using: &generator)
    return events
  }
}
