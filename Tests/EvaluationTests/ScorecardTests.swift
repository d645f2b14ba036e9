import Domain
import Evaluation
import Testing

/// Users who walk around a ring of items with steps of their own: what comes next follows from the
/// last two items, and from the last alone only half of the time.
struct Ring {
  let dataset: SequenceDataset
  let split: LeaveOneOut

  init(items: Int = 60, users: Int = 200, seed: UInt64 = 5) {
    var random = EvaluationRandom(seed: seed)
    let sequences = (0..<users).map { _ in
      let start = random.next(below: items)
      let step = random.next(below: 2) == 0 ? 1 : 7
      return (0..<3 + random.next(below: 5)).map { ItemToken((start + $0 * step) % items) }
    }
    let times = sequences.map { sequence in
      sequence.indices.map { Timestamp(secondsSinceEpoch: Double($0 * 3600)) }
    }
    dataset = SequenceDataset(itemCount: items, sequences: sequences, times: times)
    split = LeaveOneOut(dataset)
  }

  /// Knows the ring; with `noise`, only for some users.
  func walker(_ name: String, knowing share: Double = 1) -> Contender {
    let items = dataset.itemCount
    return Contender(name, .model) { one in
      var scores = [Float](repeating: 0, count: items)
      let knows = Double(one.user % 100) < share * 100
      if knows, one.history.count > 1 {
        let (before, last) = (one.history.dropLast().last, one.history.last)
        let step = (last?.index ?? 0) - (before?.index ?? 0)
        scores[((last?.index ?? 0) + step + items) % items] = 1
      }
      return scores
    }
  }

  /// Knows which items a history holds and not in which order.
  var bag: Contender {
    let items = dataset.itemCount
    return Contender("bag", .model) { one in
      var scores = [Float](repeating: 0, count: items)
      let known = Set(one.history)
      for item in known { scores[(item.index + 1) % items] += 1 }
      return scores
    }
  }
}

@Suite struct `Comparing on the same cases` {
  @Test func `finds a real difference and none where there is none`() {
    var random = EvaluationRandom(seed: 9)
    let base = (0..<400).map { _ in Double(random.next(below: 100)) / 100 }
    let better = base.map { $0 + Double(random.next(below: 21)) / 100 - 0.05 }
    let alike = base.map { $0 + Double(random.next(below: 21)) / 100 - 0.10 }
    let real = PairedDifference(better, base)
    #expect(real.isSignificant && real.difference.low > 0)
    let none = PairedDifference(alike, base)
    #expect(!none.isSignificant && none.difference.low < 0 && none.difference.high > 0)
    let same = PairedDifference(base, base)
    #expect(same.pValue == 1 && same.difference.value == 0)
    #expect(PairedDifference(base, better).difference.value == -real.difference.value)
  }

  @Test func `calls luck significant about as often as it promises`() {
    var random = EvaluationRandom(seed: 21)
    let found = (0..<200).count { _ in
      let a = (0..<60).map { _ in Double(random.next(below: 1000)) }
      let b = (0..<60).map { _ in Double(random.next(below: 1000)) }
      return PairedDifference(a, b, resamples: 400).isSignificant
    }
    // 10 expected; a binomial of 200 at 5 % leaves 2...20 once in a thousand times.
    #expect((2...20).contains(found), "\(found) of 200")
  }
}

@Suite struct `A scorecard` {
  let ring = Ring()

  func card(_ contenders: [Contender], learned: SequenceDataset? = nil) -> Scorecard {
    var options = EvaluationOptions()
    options.threads = 2
    return Scorecard(
      contenders, on: ring.split, dataset: "ring", learned: learned, options: options)
  }

  @Test func `holds every figure of every line`() throws {
    let card = card([ring.walker("walker")])
    #expect(
      card.lines.map(\.name) == [
        "walker", "popularity", "popularity, last 7 days", "last-item transition",
      ])
    for line in card.lines {
      #expect(line.figures.count == Metric.allCases.count * card.depths.count)
      #expect(!line.segments.isEmpty && line.lists.count == card.depths.count)
    }
    #expect(card.lines[0].estimate(.recall, at: 10)?.value == 1)
    #expect(card.caseCount == ring.split.users.count)
    let tail = card.lines[0].segments.filter { $0.segment.hasSuffix("items") }
    #expect(tail.reduce(0) { $0 + $1.cases } == card.caseCount)
    let users = card.lines[0].segments.filter { $0.segment.hasSuffix("users") }
    #expect(users.reduce(0) { $0 + $1.cases } == card.caseCount)
  }

  @Test func `says so when a model is not worth having`() {
    #expect(card([ring.walker("walker")]).verdict?.kind == .ahead)
    let poor = card([ring.walker("poor", knowing: 0.1)])
    #expect(poor.verdict?.kind == .behind)
    #expect(poor.verdict?.text.contains("last-item transition") == true)
  }

  @Test func `tells order from no order`() {
    let walker = card([ring.walker("walker")]).sequentiality
    #expect(walker?.verdict == .strong)
    #expect((walker?.drop ?? 0) > 0.5)
    let bag = card([ring.bag]).sequentiality
    #expect(bag?.verdict == Sequentiality.Verdict.none)
    #expect(bag?.drop == 0)
  }

  @Test func `finds a model that learned the answers`() {
    let fair = card([ring.walker("walker")], learned: ring.split.trainingSet)
    #expect(fair.leaks?.isSound == true)
    #expect(fair.leaks?.findings.first?.gravity == .fine)
    let unfair = card([ring.walker("walker")], learned: ring.dataset)
    #expect(unfair.leaks?.isSound == false)
    let more = card([ring.walker("walker")], learned: ring.split.trainingAndValidationSet)
    #expect(more.leaks?.isSound == true && more.leaks?.findings.first?.gravity == .caution)
    #expect(more.leaks?.findings.first?.text.contains("validation events too") == true)
    let other = SequenceDataset(itemCount: 60, sequences: [[ItemToken(1)]])
    let odd = card([ring.walker("walker")], learned: other)
    #expect(odd.leaks?.isSound == true && odd.leaks?.findings.first?.gravity == .caution)
  }

  @Test func `comes back from JSON as it was`() throws {
    var card = card([ring.walker("walker", knowing: 0.7), ring.bag], learned: ring.dataset)
    card.curves = [
      Scorecard.Curve(
        name: "walker",
        points: [
          .init(epoch: 1, loss: 4.5, validationNDCG: nil),
          .init(epoch: 2, loss: 4.25, validationNDCG: 0.5),
        ])
    ]
    card.notes = ["A \"note\"."]
    let text = card.json.text
    let read = try #require(Scorecard(try JSON(parsing: text)))
    #expect(read == card)
    #expect(read.json.text == text)
    #expect(Scorecard(["format": 2]) == nil)
  }
}
