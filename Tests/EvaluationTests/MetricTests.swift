import Domain
import Evaluation
import Testing

@Suite struct `Figures of several right items` {
  @Test func `follow their formulas`() {
    // Right items on places 1, 3 and 12 of three.
    let ranks: [Int32] = [2, 0, 11]
    #expect(Metric.recall.value(ranks, at: 10) == 2.0 / 3)
    #expect(Metric.precision.value(ranks, at: 10) == 0.2)
    #expect(Metric.hitRate.value(ranks, at: 10) == 1)
    #expect(Metric.mrr.value([4, 11], at: 10) == 0.2)
    #expect(abs(Metric.map.value(ranks, at: 10) - (1 + 2.0 / 3) / 3) < 1e-12)
    // 1 + 1/log2(4) over 1 + 1/log2(3) + 1/log2(4)
    #expect(abs(Metric.ndcg.value(ranks, at: 10) - 1.5 / 2.130_929_753_571_457) < 1e-12)
  }

  @Test func `are those of a single right item where there is one`() {
    for rank in Int32(0)..<30 {
      let single = RankingResult(ranks: [Int(rank)])
      #expect(Metric.recall.value([rank], at: 10) == single.recall(at: 10))
      #expect(abs(Metric.ndcg.value([rank], at: 10) - single.ndcg(at: 10)) < 1e-12)
      #expect(Metric.map.value([rank], at: 10) == Metric.mrr.value([rank], at: 10))
    }
  }

  @Test func `never leave 0 to 1, tied ranks included`() {
    var random = EvaluationRandom(seed: 11)
    for _ in 0..<500 {
      let ranks = (0..<1 + random.next(below: 6)).map { _ in Int32(random.next(below: 15)) }
      for metric in Metric.allCases {
        let value = metric.value(ranks, at: 5)
        #expect((0...1).contains(value), "\(metric) of \(ranks) is \(value)")
      }
    }
  }

  @Test func `describe whole lists`() {
    let training = SequenceDataset(
      itemCount: 4, sequences: [[0, 1], [0, 1], [0, 2]].map { $0.map { ItemToken($0) } })
    let popularity = ItemPopularity(training)
    #expect(popularity.users == [3, 2, 1, 0])
    #expect(popularity.isHead(ItemToken(0)) && !popularity.isHead(ItemToken(2)))
    #expect(popularity.isCold(ItemToken(3)))
    let figures = ListFigures(
      [[0, 1], [0, 2], [1, 2]].map { $0.map { ItemToken($0) } }, at: 2, popularity: popularity)
    #expect(figures.coverage == 0.75)
    // Each pair of lists shares one of two items.
    #expect(abs(figures.personalisation - 0.5) < 1e-12)
    #expect(abs(figures.popularity - (1 + 1 + 2.0 / 3 * 2 + 1.0 / 3 * 2) / 6) < 1e-12)
    #expect(abs(figures.tenths.reduce(0, +) - 1) < 1e-12)
    let same = ListFigures(
      [[0, 1], [0, 1]].map { $0.map { ItemToken($0) } }, at: 2, popularity: popularity)
    #expect(same.personalisation == 0)
  }
}

@Suite struct `Judging a contender` {
  static func cases(_ random: inout EvaluationRandom, items: Int, count: Int) -> [EvaluationCase] {
    (0..<count).map { user in
      let history = (0..<1 + random.next(below: 8)).map { _ in ItemToken(random.next(below: items))
      }
      let targets = Set(
        (0..<1 + random.next(below: 3)).map { _ in ItemToken(random.next(below: items)) })
      return EvaluationCase(user: user, history: history[...], targets: targets.sorted())
    }
  }

  @Test(arguments: [UInt64(1), 2, 3]) func `agrees with ranking by sorting`(seed: UInt64) {
    var random = EvaluationRandom(seed: seed)
    let items = 40
    let cases = Self.cases(&random, items: items, count: 70)
    let scores = cases.map { _ in (0..<items).map { _ in Float(random.next(below: 12)) } }
    let contender = Contender("few values", .model) { scores[$0.user] }
    let result = judge(contender, on: cases, itemCount: items, topCount: 10, threads: 3)
    for one in cases {
      let row = scores[one.user]
      let candidates = (0..<items).filter { item in
        one.targets.contains(ItemToken(item)) || !one.history.contains(ItemToken(item))
      }
      for (target, rank) in zip(one.targets, result.ranks[one.user]) {
        let ahead = candidates.count { $0 != target.index && row[$0] >= row[target.index] }
        #expect(Int(rank) == ahead, "seed \(seed), case \(one.user)")
      }
      let sorted = candidates.sorted { (-row[$0], $0) < (-row[$1], $1) }
      #expect(result.top[one.user] == sorted.prefix(10).map { ItemToken($0) }, "seed \(seed)")
    }
    let alone = judge(contender, on: cases, itemCount: items, topCount: 10, threads: 1)
    #expect(alone.ranks == result.ranks && alone.top == result.top)
  }

  @Test func `puts a contender without opinion and one of no numbers last`() {
    let cases = [EvaluationCase(user: 0, history: [ItemToken(0)], targets: [ItemToken(2)])]
    for value in [Float(1), .nan, -.infinity] {
      let result = judge(
        Contender("flat", .model) { _ in [Float](repeating: value, count: 5) }, on: cases,
        itemCount: 5)
      #expect(result.ranks == [[3]])
    }
  }
}

@Suite struct `Splitting by time` {
  static let day: Int64 = 86_400_000_000
  static func dataset(_ users: [[(item: Int, day: Int64)]]) -> SequenceDataset {
    SequenceDataset(
      itemCount: 10, sequences: users.map { $0.map { ItemToken($0.item) } },
      times: users.map { $0.map { Timestamp(microsecondsSinceEpoch: $0.day * day) } })
  }

  @Test func `asks only about what comes after everything that trains`() throws {
    let dataset = Self.dataset([
      [(0, 0), (1, 5), (2, 22), (3, 29)],
      [(4, 1), (4, 28), (5, 29), (5, 30)],
      [(6, 30)],
      [(0, 2), (7, 23)],
      [(1, 3), (1, 29)],
    ])
    let split = try #require(GlobalTimeSplit(dataset, windowSeconds: 7 * 86_400))
    #expect(split.trainingSet.sequences.map { $0.map(\.index) } == [[0, 1], [4], [0], [1]])
    let known = split.trainingAndValidationSet.sequences.map { $0.map(\.index) }
    #expect(known == [[0, 1, 2], [4], [0, 7], [1]])
    let test = split.cases(.test)
    #expect(test.map(\.user) == [0, 1])
    #expect(test[0].history.map(\.index) == [0, 1, 2])
    #expect(test[0].targets == [ItemToken(3)])
    // The item that the user came back to is no new item; each new one counts once.
    #expect(test[1].history.map(\.index) == [4] && test[1].targets == [ItemToken(5)])
    let validation = split.cases(.validation)
    #expect(validation.map(\.user) == [0, 3])
    #expect(validation[1].targets == [ItemToken(7)])
    for stage in EvaluationStage.allCases {
      for one in split.cases(stage) {
        let moment = try #require(one.moment)
        #expect(one.times.count == one.history.count && one.times.allSatisfy { $0 < moment })
      }
    }
    let omissions = split.omissions(.test)
    #expect(omissions.map(\.count) == [1, 1, 2])
  }

  @Test func `can leave cold items out`() throws {
    let dataset = Self.dataset([[(0, 0), (1, 5), (2, 29)], [(0, 1), (1, 30)]])
    let all = try #require(GlobalTimeSplit(dataset, windowSeconds: 7 * 86_400))
    #expect(all.cases(.test).count == 2)
    let warm = try #require(
      GlobalTimeSplit(dataset, windowSeconds: 7 * 86_400, countsColdItems: false))
    #expect(warm.cases(.test).map(\.targets) == [[ItemToken(1)]])
  }

  @Test func `needs times`() {
    let dataset = SequenceDataset(itemCount: 1, sequences: [[ItemToken(0)]])
    #expect(GlobalTimeSplit(dataset, windowSeconds: 60) == nil)
  }

  @Test func `counts ties, and another order is another fingerprint`() {
    let a = Self.dataset([[(0, 1), (1, 1), (2, 3)]])
    let b = Self.dataset([[(1, 1), (0, 1), (2, 3)]])
    let c = Self.dataset([[(0, 1), (1, 2), (2, 3)]])
    #expect(a.tieCount == 1 && b.tieCount == 1 && c.tieCount == 0)
    #expect(Set([a.fingerprint, b.fingerprint, c.fingerprint]).count == 3)
  }
}
