import Domain
import Evaluation
import Testing

@Suite struct `Ranking the whole catalogue` {
  static func place(_ scores: [Float], target: Int, seen: [Int] = []) -> Int {
    scores.withUnsafeBufferPointer {
      rank(of: ItemToken(target), scores: $0, seen: seen.map { ItemToken($0) })
    }
  }

  @Test func `counts the items ahead of the right one`() {
    #expect(Self.place([0.1, 0.9, 0.5, 0.7], target: 1) == 0)
    #expect(Self.place([0.1, 0.9, 0.5, 0.7], target: 2) == 2)
    #expect(Self.place([0.1, 0.9, 0.5, 0.7], target: 0) == 3)
  }

  @Test func `breaks ties against the model`() {
    #expect(Self.place([1, 1, 1, 1], target: 0) == 3)
    #expect(Self.place([1, 1, 2, 0], target: 1) == 2)
  }

  @Test func `takes seen items out, once each, but never the right one`() {
    #expect(Self.place([5, 4, 3, 2], target: 2, seen: [0, 0, 1, 1]) == 0)
    #expect(Self.place([5, 4, 3, 2], target: 2, seen: [2, 0]) == 1)
    #expect(Self.place([5, 4, 3, 2], target: 2, seen: [3]) == 2)
  }

  @Test func `puts a score that is no number last`() {
    #expect(Self.place([1, .nan, 0], target: 1) == 2)
    #expect(Self.place([.nan, 1, .nan], target: 1) == 0)
  }

  @Test func `agrees with sorting`() {
    var state: UInt64 = 3
    for _ in 0..<200 {
      let scores = (0..<20).map { _ -> Float in
        state = state &* 6_364_136_223_846_793_005 &+ 1
        return Float(state >> 61)
      }
      let target = Int(state >> 40 & 0xFFFF) % 20
      let seen = (0..<5).map { Int(state >> (8 * UInt64($0)) & 0xFF) % 20 }
      let rest = (0..<20).filter { $0 != target && !seen.contains($0) }
      #expect(
        Self.place(scores, target: target, seen: seen)
          == rest.count { scores[$0] >= scores[target] })
    }
  }

  @Test func `computes recall and NDCG by their formulas`() {
    let result = RankingResult(ranks: [0, 1, 9, 10, 300])
    #expect(result.recall(at: 10) == 0.6)
    #expect(abs(result.ndcg(at: 10) - (1 + 1 / 1.584_962_500_7 + 1 / 3.459_431_618_6) / 5) < 1e-9)
    #expect(RankingResult(ranks: []).recall(at: 10) == 0)
  }

  @Test func `gives intervals that repeat, hold the value and narrow with more users`() {
    let few = RankingResult(ranks: (0..<100).map { $0 % 20 })
    let many = RankingResult(ranks: (0..<10_000).map { $0 % 20 })
    let a = few.recallEstimate(at: 10)
    #expect(a == few.recallEstimate(at: 10))
    #expect(a.value == 0.5 && a.low < 0.5 && a.high > 0.5)
    // The binomial interval: 1.96 * sqrt(0.25 / n) to either side.
    #expect(abs((a.high - a.low) - 0.196) < 0.03)
    let b = many.recallEstimate(at: 10)
    #expect(abs((b.high - b.low) - 0.0196) < 0.003)
  }
}

@Suite struct `Splits and baselines` {
  static let dataset = SequenceDataset(
    itemCount: 6,
    sequences: [[0, 1, 2, 3], [0, 1, 2], [4, 5], [0, 1, 4, 5]].map { $0.map { ItemToken($0) } })

  @Test func `holds out the last two events of users with at least three`() {
    let split = LeaveOneOut(Self.dataset)
    #expect(split.users == [0, 1, 3])
    #expect(split.training.map { $0.map(\.index) } == [[0, 1], [0], [4, 5], [0, 1]])
    #expect(split.target(of: 0, .validation).index == 2)
    #expect(split.target(of: 0, .test).index == 3)
    #expect(split.history(of: 3, .validation).map(\.index) == [0, 1])
    #expect(split.history(of: 3, .test).map(\.index) == [0, 1, 4])
    let known = split.trainingAndValidationSet.sequences
    #expect(known.map { $0.map(\.index) } == [[0, 1, 2], [0, 1], [4, 5], [0, 1, 4]])
  }

  @Test func `the fingerprint follows content and order`() {
    var other = Self.dataset
    #expect(other.fingerprint == Self.dataset.fingerprint)
    other.sequences[0].swapAt(0, 1)
    #expect(other.fingerprint != Self.dataset.fingerprint)
  }

  @Test func `transitions count what followed, popularity decides the rest`() {
    let training = [[0, 1, 0, 1, 0, 2], [3, 3, 3]].map { $0.map { ItemToken($0) } }
    let baselines = Baselines(training: training, itemCount: 5)
    #expect(baselines.popularity == [3, 2, 1, 3, 0])
    let scores = baselines.lastItemTransition(after: [ItemToken(0)])
    #expect(scores.indices.sorted { (scores[$0], $1) > (scores[$1], $0) } == [1, 2, 0, 3, 4])
    #expect(baselines.lastItemTransition(after: [ItemToken]()).firstIndex { $0 == 0.5 } == 0)
  }
}
