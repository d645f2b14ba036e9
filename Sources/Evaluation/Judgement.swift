import Dispatch
package import Domain

/// Something that gives a score to every item and so can be judged.
package struct Contender: Sendable {
  package enum Role: String, Hashable, Sendable {
    /// What is to be judged.
    case model
    /// What a model must beat to be worth its cost.
    case baseline
    /// What no model can know, such as a simulator's own ranking.
    case reference
  }

  /// Writes the scores of some cases: one row of `itemCount` for each.
  package typealias Scores =
    @Sendable (_ cases: ArraySlice<EvaluationCase>, _ scores: UnsafeMutablePointer<Float>) -> Void

  package var name: String
  package var role: Role
  package var scores: Scores

  package init(_ name: String, _ role: Role, scores: @escaping Scores) {
    self.name = name
    self.role = role
    self.scores = scores
  }

  /// A contender that scores one case at a time.
  package init(
    _ name: String, _ role: Role, oneAtATime: @escaping @Sendable (EvaluationCase) -> [Float]
  ) {
    self.init(name, role) { cases, scores in
      var row = scores
      for one in cases {
        let values = oneAtATime(one)
        row.update(from: values, count: values.count)
        row += values.count
      }
    }
  }
}

/// Where a contender put the right items, and what it put first.
package struct Judgement: Sendable {
  package let name: String
  package let role: Contender.Role
  /// For each case the rank of each right item, from 0, in the order of the case's targets.
  package let ranks: [[Int32]]
  /// For each case the first items, best first.
  package let top: [[ItemToken]]

  package init(name: String, role: Contender.Role, ranks: [[Int32]], top: [[ItemToken]]) {
    self.name = name
    self.role = role
    self.ranks = ranks
    self.top = top
  }
}

/// Ranks the whole catalogue for every case.
///
/// Items of the history are taken out, but for right ones. An item with an equal score ranks ahead
/// of a right one, so a contender that gives everything the same score comes last; among the first
/// items, equal scores stand in the order of their tokens. A score that is not a number is the
/// worst.
///
/// - Parameters:
///   - topCount: how many first items to keep, for what looks at whole lists.
///   - threads: cases are divided over this many; the result does not depend on it.
package func judge(
  _ contender: Contender, on cases: [EvaluationCase], itemCount: Int, topCount: Int = 20,
  threads: Int = 1
) -> Judgement {
  // A block's scores stay within 64 MB.
  let blockSize = max(1, min(32, (16 << 20) / max(1, itemCount)))
  let blocks = stride(from: 0, to: cases.count, by: blockSize).map {
    $0..<min(cases.count, $0 + blockSize)
  }
  let places = Places(count: cases.count)
  let workers = max(1, min(threads, blocks.count))
  DispatchQueue.concurrentPerform(iterations: workers) { worker in
    let scores = UnsafeMutablePointer<Float>.allocate(capacity: blockSize * max(1, itemCount))
    defer { scores.deallocate() }
    var ranker = CaseRanker(itemCount: itemCount, topCount: topCount)
    for block in stride(from: worker, to: blocks.count, by: workers) {
      contender.scores(cases[blocks[block]], scores)
      for (row, place) in blocks[block].enumerated() {
        places.values[place] = ranker.place(cases[place], scores + row * itemCount)
      }
    }
  }
  return Judgement(
    name: contender.name, role: contender.role,
    ranks: (0..<cases.count).map { places.values[$0].ranks },
    top: (0..<cases.count).map { places.values[$0].top })
}

/// Ranks one case after another and keeps its memory.
private struct CaseRanker {
  let itemCount: Int
  let topCount: Int
  private var isRemoved: [Bool]
  private var heap: [(score: Float, token: Int32)] = []

  init(itemCount: Int, topCount: Int) {
    self.itemCount = itemCount
    self.topCount = topCount
    isRemoved = [Bool](repeating: false, count: itemCount)
    heap.reserveCapacity(topCount + 1)
  }

  mutating func place(
    _ one: EvaluationCase, _ scores: UnsafeMutablePointer<Float>
  ) -> (ranks: [Int32], top: [ItemToken]) {
    for token in one.history { isRemoved[token.index] = true }
    for token in one.targets { isRemoved[token.index] = false }
    defer { for token in one.history { isRemoved[token.index] = false } }
    for i in 0..<itemCount where isRemoved[i] || scores[i].isNaN { scores[i] = -.infinity }
    let removed = isRemoved.withUnsafeBufferPointer { flags in
      flags.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    let ranks = one.targets.map { target -> Int32 in
      let score = scores[target.index]
      // Even what was given the worst score ranks ahead of nothing that was taken out.
      if score == -.infinity { return Int32(itemCount - removed - 1) }
      var ahead = -1
      for i in 0..<itemCount where scores[i] >= score { ahead += 1 }
      return Int32(ahead)
    }
    return (ranks, first(scores))
  }

  /// The first items by a heap whose root is the worst of those kept.
  private mutating func first(_ scores: UnsafeMutablePointer<Float>) -> [ItemToken] {
    heap.removeAll(keepingCapacity: true)
    guard topCount > 0 else { return [] }
    for i in 0..<itemCount where !isRemoved[i] {
      let entry = (score: scores[i], token: Int32(i))
      if heap.count < topCount {
        heap.append(entry)
        siftUp(heap.count - 1)
      } else if isWorse(heap[0], entry) {
        heap[0] = entry
        siftDown()
      }
    }
    return heap.sorted { isWorse($1, $0) }.map { ItemToken($0.token) }
  }

  private func isWorse(
    _ a: (score: Float, token: Int32), _ b: (score: Float, token: Int32)
  ) -> Bool {
    a.score < b.score || (a.score == b.score && a.token > b.token)
  }

  private mutating func siftUp(_ start: Int) {
    var child = start
    while child > 0 {
      let parent = (child - 1) / 2
      guard isWorse(heap[child], heap[parent]) else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func siftDown() {
    var parent = 0
    while true {
      var worst = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && isWorse(heap[child], heap[worst]) { worst = child }
      if worst == parent { return }
      heap.swapAt(worst, parent)
      parent = worst
    }
  }
}

/// Unchecked Sendable: every worker writes its own places.
private final class Places: @unchecked Sendable {
  let values: UnsafeMutablePointer<(ranks: [Int32], top: [ItemToken])>
  private let count: Int
  init(count: Int) {
    values = .allocate(capacity: max(1, count))
    values.initialize(repeating: ([], []), count: count)
    self.count = count
  }
  deinit {
    values.deinitialize(count: count)
    values.deallocate()
  }
}
