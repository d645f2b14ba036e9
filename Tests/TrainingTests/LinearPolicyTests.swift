import Domain
import Evaluation
import Kernels
import Models
import Neural
import Testing
import Training

/// Users who like one of two halves of the catalogue.
private func halves(items: Int = 30, users: Int = 120, seed: UInt64 = 5) -> TrainingSet {
  var generator = SplitMix64(seed: seed)
  return TrainingSet(
    itemCount: items,
    histories: (0..<users).map { user in
      let low = user % 2 == 0 ? 0 : items / 2
      return History(
        (0..<8).map { _ in
          ItemToken(low + Int.random(in: 0..<items / 2, using: &generator))
        }[...])
    }, validation: [])
}

private func train(
  _ policy: any Policy.Type, _ data: TrainingSet, threads: Int = 1,
  _ values: [String: Hyperparameter.Value] = [:]
) throws -> any Recommender {
  let context = TrainingContext(
    threads: threads, kernels: try #require(Kernels(environment: [:])))
  return try policy.train(
    data, PolicySettings(policy.description, values: values), context
  ).model
}

/// How much higher the own half scores than the other, on average.
private func contrast(_ model: any Recommender) -> Float {
  let n = model.itemCount
  var sum: Float = 0
  for item in 0..<n {
    let scores = model.scores(of: History([ItemToken(item)]))
    let own = item < n / 2 ? 0..<n / 2 : n / 2..<n
    for other in 0..<n where other != item {
      sum += own.contains(other) ? scores[other] : -scores[other]
    }
  }
  return sum / Float(n)
}

@Suite struct `Ease` {
  @Test(arguments: [(7, 1), (64, 2), (150, 2)])
  func `solves the regularised least squares without a diagonal`(items: Int, threads: Int) throws {
    let data = halves(items: items, users: 200)
    let lambda: Float = 10
    let model = try #require(
      train(
        EASETraining.self, data, threads: threads, ["regularization": .number(Double(lambda))])
        as? ItemNeighbours)
    var gram = [[Float]](repeating: [Float](repeating: 0, count: items), count: items)
    for history in data.histories {
      let own = Set(history.items.map(\.index))
      for i in own { for j in own { gram[i][j] += 1 } }
    }
    var weights = gram
    for i in 0..<items {
      for j in 0..<items { weights[i][j] = model.weight(of: ItemToken(j), in: ItemToken(i)) }
      #expect(weights[i][i] == 0)
    }
    // The gradient of |X - XB|² + λ|B|² vanishes off the diagonal: (G B - G + λ B)[i][j] = 0.
    for i in 0..<items {
      for j in 0..<items where i != j {
        var gradient = lambda * weights[i][j] - gram[i][j]
        for k in 0..<items { gradient += gram[i][k] * weights[k][j] }
        #expect(abs(gradient) < 0.02, "\(i) \(j)")
      }
    }
  }

  @Test func `refuses a catalogue that it cannot invert`() {
    #expect(throws: Diagnostic.self) {
      _ = try train(
        EASETraining.self,
        TrainingSet(
          itemCount: 40_000, histories: [History([ItemToken(0), ItemToken(1)])],
          validation: []))
    }
  }

  @Test func `does not begin what will not end in time`() throws {
    var context = TrainingContext(threads: 1, kernels: try #require(Kernels(environment: [:])))
    context.secondsAtMost = 0
    context.progress = { _ in
      Issue.record("it began")
      return true
    }
    #expect(throws: Diagnostic.self) {
      _ = try EASETraining.train(
        halves(), PolicySettings(EASETraining.description), context)
    }
    let large = TrainingSet(
      itemCount: 12_000, histories: [History([ItemToken(0), ItemToken(1)])], validation: [])
    let settings = PolicySettings(EASETraining.description)
    let estimate = EASETraining.estimate(large, settings, threads: 2, kernels: context.kernels)
    // The matrix, and 100 million weights of 8 bytes twice.
    #expect((2_100_000_000...2_300_000_000).contains(estimate.bytes))
    #expect(estimate.seconds > 0.1 && estimate.seconds.isFinite)
  }
}

@Suite struct `Als` {
  @Test func `folds a history in at the minimum of its loss`() throws {
    let data = halves()
    let model = try #require(
      train(ALSTraining.self, data, ["factors": .integer(8), "alpha": .number(3)]) as? Factors)
    let history = data.histories[0]
    let x = model.encode(history)
    let vectors = model.itemVectors
    func loss(_ x: [Float]) -> Double {
      var weights = [Double](repeating: 0, count: model.itemCount)
      for item in history.items { weights[item.index] += 1 }
      var loss = Double(model.regularization) * x.reduce(0) { $0 + Double($1 * $1) }
      for item in 0..<model.itemCount {
        var score = 0.0
        for k in 0..<8 { score += Double(x[k] * vectors[item * 8 + k]) }
        let confidence = 1 + Double(model.alpha) * weights[item]
        // An item that was done twice is folded in as two events.
        let target = weights[item] > 0 ? (weights[item] + 3 * weights[item]) / confidence : 0
        loss += confidence * (target - score) * (target - score)
      }
      return loss
    }
    let least = loss(x)
    for k in 0..<8 {
      for step: Float in [-0.05, 0.05] {
        var moved = x
        moved[k] += step
        #expect(loss(moved) > least)
      }
    }
  }

  @Test func `tells two tastes apart, also weighted by BM25`() throws {
    let values: [String: Hyperparameter.Value] = ["factors": .integer(8)]
    #expect(contrast(try train(ALSTraining.self, halves(), values)) > 0.5)
    let weighted = values.merging(["bm25": .flag(true), "alpha": .number(20)]) { $1 }
    #expect(contrast(try train(ALSTraining.self, halves(), weighted)) > 0.5)
  }
}

@Suite struct `Elsa` {
  @Test func `has the gradient of its loss`() throws {
    let data = halves(items: 9, users: 6)
    let kernels = try #require(Kernels(named: "reference"))
    let pool = WorkerPool(count: 1)
    defer { pool.shutDown() }
    let run = LinearRun(data, width: 4, seed: 1, kernels: kernels, pool: pool)
    let gradient = Buffer(count: 36)
    let users = Array(data.histories.indices)[...]
    _ = run.lossAndGradient(users, into: gradient)
    for i in 0..<36 {
      let kept = run.weights.pointer[i]
      let step: Float = 1e-2
      let losses = [step, -step].map { step -> Double in
        run.weights.pointer[i] = kept + step
        return run.lossAndGradient(users, into: Buffer(count: 36))
      }
      run.weights.pointer[i] = kept
      let expected = Float(losses[0] - losses[1]) / (2 * step)
      #expect(
        abs(gradient.pointer[i] - expected) < 0.02 * max(1, abs(expected)),
        "\(i): \(gradient.pointer[i]), \(expected)")
    }
  }

  @Test func `tells two tastes apart`() throws {
    let model = try train(ELSATraining.self, halves(), threads: 2, ["factors": .integer(8)])
    #expect(contrast(model) > 2)
  }
}

@Suite struct `Item2vec` {
  @Test(arguments: ["skip-gram", "cbow"], [1, 2])
  func `puts items of the same company together`(algorithm: String, threads: Int) throws {
    let model = try train(
      Item2VecTraining.self, halves(), threads: threads,
      [
        "algorithm": .text(algorithm), "embedding_size": .integer(16), "n_epochs": .integer(60),
        "learning_rate": .number(0.05),
      ])
    #expect(contrast(model) > 3, "\(contrast(model))")
  }

  @Test func `gives vectors of length 1, and zeros to items below min_count`() throws {
    let data = TrainingSet(
      itemCount: 3,
      histories: [History([0, 1, 0, 1, 2].map { ItemToken($0) })], validation: [])
    let model = try #require(
      train(Item2VecTraining.self, data, ["min_count": .integer(2)]) as? any VectorRecommender)
    let vectors = model.itemVectors
    for item in 0..<3 {
      let row = vectors[item * model.width..<(item + 1) * model.width]
      let length = row.reduce(0) { $0 + $1 * $1 }
      #expect(abs(length - (item < 2 ? 1 : 0)) < 1e-5)
    }
  }
}

@Suite struct `Combinations` {
  /// A model of given scores.
  private func fixed(_ scores: [Float]) -> any Recommender {
    Popularity(totals: scores, window: nil)
  }

  @Test func `rank candidates by the ranker and put the rest behind them`() {
    let retriever = fixed([9, 8, 7, 1, 2, 3])
    let ranker = fixed([1, 2, 3, 9, 8, 7])
    let two = RetrieveRank(
      retriever: retriever, ranker: ranker,
      stages: .init(candidates: 3, isUnited: false, retrieverWeight: 0))
    let scores = two.scores(of: History([]))
    #expect(scores.indices.sorted { scores[$0] > scores[$1] } == [2, 1, 0, 3, 4, 5])
    let united = RetrieveRank(
      retriever: retriever, ranker: ranker,
      stages: .init(candidates: 3, isUnited: true, retrieverWeight: 0))
    let all = united.scores(of: History([]))
    #expect(all.indices.sorted { all[$0] > all[$1] } == [3, 4, 5, 2, 1, 0])
  }

  @Test(arguments: 0..<10)
  func `have the ranker's own first places, score by score, where they unite`(seed: Int) {
    var generator = SplitMix64(seed: UInt64(seed))
    let n = 400
    // Scores of any size, some equal or nearly so: nothing may become equal that was not.
    let scale: Float = [1e-6, 1, 1e6][seed % 3]
    let scores = (0..<n).map { _ in
      (Float(Int.random(in: 0..<300, using: &generator)) / 7 + 40) * scale
    }
    let ranker = fixed(scores)
    let retriever = fixed((0..<n).map { _ in generator.unitFloat() })
    let united = RetrieveRank(
      retriever: retriever, ranker: ranker,
      stages: .init(candidates: 100, isUnited: true, retrieverWeight: 0))
    let found = united.scores(of: History([]))
    let cut = scores.sorted(by: >)[99]
    for item in 0..<n {
      let alone = scores.count { $0 >= scores[item] } - 1
      if scores[item] > cut {
        #expect(found.count { $0 >= found[item] } - 1 == alone, "seed \(seed), item \(item)")
      } else {
        #expect(
          found.count { $0 >= found[item] } > 100 - scores.count { $0 == cut }, "seed \(seed)")
      }
    }
  }

  @Test(arguments: 0..<6)
  func `are never worse than their ranker on the events that chose them`(seed: Int) throws {
    var generator = SplitMix64(seed: UInt64(seed))
    let n = 300
    let sequences = (0..<120).map { _ -> [ItemToken] in
      let start = Int.random(in: 0..<n, using: &generator)
      return (0..<8).map { step in
        generator.unitFloat() < 0.3
          ? ItemToken(Int.random(in: 0..<n, using: &generator)) : ItemToken((start + step) % n)
      }
    }
    let data = TrainingSet(LeaveOneOut(SequenceDataset(itemCount: n, sequences: sequences)))
    let ranker = try train(NGramTraining.self, data)
    let pool = WorkerPool(count: 2)
    defer { pool.shutDown() }
    let alone = rankings(data.validation, by: ranker, pool: pool)
    for retriever in [
      fixed((0..<n).map { _ in generator.unitFloat() }), try train(ItemKNNTraining.self, data),
    ] {
      for isUnited in [true, false] {
        let model = RetrieveRankTraining.combination(
          retriever: retriever, ranker: ranker, candidates: nil, isUnited: isUnited,
          weight: .found(),
          on: data.validation, pool: pool)
        let own = rankings(data.validation, by: model, pool: pool)
        for metric in [Metric.ndcg, .recall] {
          #expect(
            own.mean(metric, at: 10) >= alone.mean(metric, at: 10) - 1e-9,
            "seed \(seed), united \(isUnited), \(metric)")
        }
      }
    }
  }

  @Test(arguments: [0, 5, 40])
  func `are not reordered where that loses what is among the best ten`(lost: Int) {
    let (retriever, ranker, cases) = lifting(lost: lost)
    let pool = WorkerPool(count: 1)
    defer { pool.shutDown() }
    let model = RetrieveRankTraining.combination(
      retriever: retriever, ranker: ranker, candidates: nil, isUnited: true, weight: .found(),
      on: cases, pool: pool)
    #expect((model.stages.retrieverWeight > 0) == (lost == 0))
    let (own, alone) = (
      rankings(cases, by: model, pool: pool), rankings(cases, by: ranker, pool: pool)
    )
    #expect(own.mean(.recall, at: 10) == alone.mean(.recall, at: 10))
    #expect((own.mean(.ndcg, at: 10) > alone.mean(.ndcg, at: 10)) == (lost == 0))
  }

  /// A retriever that lifts the ranker's third item to the first place and its eleventh above its
  /// tenth, and questions: 200 whose answer is the third item, and `lost` whose answer is the tenth.
  private func lifting(
    lost: Int
  ) -> (retriever: any Recommender, ranker: any Recommender, cases: [EvaluationCase]) {
    (
      fixed((0..<30).map { $0 == 2 || $0 == 10 ? 10 : 0 }), fixed((0..<30).map { Float(30 - $0) }),
      (0..<200 + lost).map { user in
        EvaluationCase(
          user: user, history: [ItemToken(29)], targets: [ItemToken(user < 200 ? 2 : 9)])
      }
    )
  }

  @Test func `find a weight only where they are asked to`() throws {
    let (retriever, ranker, cases) = lifting(lost: 0)
    var data = TrainingSet(
      LeaveOneOut(
        SequenceDataset(
          itemCount: 30, sequences: [[1, 2, 3], [2, 3, 4]].map { $0.map(ItemToken.init) })))
    data.validation = cases
    var context = TrainingContext(threads: 1, kernels: try #require(Kernels(environment: [:])))
    context.parts = ["lifts": retriever, "orders": ranker]
    var settings = PolicySettings(RetrieveRankTraining.description)
    settings["retriever"] = .text("lifts")
    settings["ranker"] = .text("orders")
    func weight() throws -> Float? {
      let model = try RetrieveRankTraining.train(data, settings, context).model
      return (model as? RetrieveRank)?.stages.retrieverWeight
    }
    #expect(try weight() == 0)
    settings["reweight"] = .flag(true)
    #expect(try #require(try weight()) > 0)
    settings["retriever_weight"] = .number(0.7)
    #expect(try weight() == 0.7)
    context.parts["lifts"] = fixed((0..<30).map { $0 == 2 ? -10 : 0 })
    #expect(try weight() == 0)
  }

  @Test(arguments: [0, 40])
  func `are shown beside their parts`(lost: Int) throws {
    let (retriever, ranker, cases) = lifting(lost: lost)
    let split = LeaveOneOut(
      SequenceDataset(
        itemCount: 30, sequences: cases.map { Array($0.history) + $0.targets + [ItemToken(4)] }))
    let pool = WorkerPool(count: 1)
    defer { pool.shutDown() }
    let ablation = Ablation(
      retriever: ("lifts", retriever), ranker: ("orders", ranker), candidates: 3, on: split,
      pool: pool)
    let names = ["lifts", "orders", "lifts > orders", "lifts + orders"]
    #expect(ablation.lines.prefix(4).map(\.name) == names)
    #expect(ablation.lines.count == (lost == 0 ? 5 : 4))
    let (alone, united) = (ablation.lines[1].judgement, ablation.lines[3].judgement)
    #expect(united.values(.ndcg, at: 10) == alone.values(.ndcg, at: 10))
    #expect(united.values(.recall, at: 10) == alone.values(.recall, at: 10))
    // Item 4 is the ranker's fifth, and not among the retriever's three best.
    #expect(alone.mean(.recall, at: 5) == 1)
    #expect(ablation.lines[0].judgement.mean(.recall, at: 5) == 0)
    let lines = try #require(ablation.json()["lines"]?.array)
    #expect(lines.count == ablation.lines.count)
    #expect((ablation.json()["stages"]?["retriever_weight"] == .double(0)) == (lost > 0))
  }

  @Test func `say so where given settings make them worse`() throws {
    let data = TrainingSet(
      LeaveOneOut(
        SequenceDataset(
          itemCount: 40,
          sequences: (0..<60).map { user in (0..<6).map { ItemToken((user + $0) % 40) } })))
    var context = TrainingContext(threads: 1, kernels: try #require(Kernels(environment: [:])))
    context.parts = [
      "good": try train(NGramTraining.self, data), "bad": fixed((0..<40).map(Float.init)),
    ]
    var settings = PolicySettings(RetrieveRankTraining.description)
    settings["retriever"] = .text("bad")
    settings["ranker"] = .text("good")
    let found = try RetrieveRankTraining.train(data, settings, context)
    #expect(found.summary.contains("the ranker alone") && !found.summary.contains("worse"))
    settings["retriever_weight"] = .number(10)
    #expect(try RetrieveRankTraining.train(data, settings, context).summary.contains("worse"))
  }

  @Test func `blend by standing, where equal scores stand equal`() {
    let a = fixed([3, 2, 2, 1])
    for standing in Standing.allCases {
      let blend = Blend(parts: [.init(name: "a", model: a, weight: 2)], standing: standing)
      let scores = blend.scores(of: History([]))
      #expect(scores[0] > scores[1] && scores[1] == scores[2] && scores[2] > scores[3])
    }
  }

  @Test(arguments: 0..<20)
  func `find the same best items as a full sort`(seed: Int) {
    var generator = SplitMix64(seed: UInt64(seed))
    let count = Int.random(in: 1...5000, using: &generator)
    let scores = (0..<count).map { _ in Float(Int.random(in: 0..<300, using: &generator)) }
    let wanted = Int.random(in: 1...200, using: &generator)
    let found = scores.withUnsafeBufferPointer { Standing.best(wanted, of: $0) { $0 % 7 == 3 } }
    let expected = scores.indices.filter { $0 % 7 != 3 }
      .sorted { (scores[$1], $0) < (scores[$0], $1) }
    #expect(found == Array(expected.prefix(wanted)), "seed \(seed)")
  }

  @Test func `give weight to the model that knows, and little to noise`() throws {
    var generator = SplitMix64(seed: 9)
    let n = 50
    let sequences = (0..<400).map { _ -> [ItemToken] in
      let start = Int.random(in: 0..<n, using: &generator)
      return (0..<8).map { ItemToken((start + $0) % n) }
    }
    let split = LeaveOneOut(SequenceDataset(itemCount: n, sequences: sequences))
    let data = TrainingSet(split)
    let knows = try train(NGramTraining.self, data)
    let noise = fixed((0..<n).map { _ in generator.unitFloat() })
    let pool = WorkerPool(count: 2)
    defer { pool.shutDown() }
    let blend = BlendTraining.blend(
      [("noise", nil, noise), ("ngram", nil, knows)], standing: nil, on: data.validation,
      pool: pool)
    #expect(blend.parts[1].weight > 5 * blend.parts[0].weight)
    #expect(rankings(split.cases(.test), by: blend, pool: pool).mean(.recall, at: 1) > 0.95)
  }
}
