import Domain
import Evaluation
package import Models

/// The `auto` policy: trains what fits into a time budget, and blends what is better together.
///
/// It starts with what takes seconds, gives the rest of the time to sequence models, and then takes
/// models into a blend one by one, as long as the blend gets better on validation events that its
/// weights have not seen (five folds). On small data a blend of simple models usually wins, on large
/// data a transformer with some help. The test events are never looked at.
package enum AutoTraining: Policy {
  package static let description = PolicyDescription(
    name: "auto",
    summary: "Searches policies and blends of them within a time budget, and says what it found.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "minutes", .number(0.01...10_000), default: .number(10),
        "The time for everything. A slower machine tries less."),
      Hyperparameter(
        "blends", .flag, default: .flag(true),
        "Whether several models may be taken; otherwise the best one alone."),
      Hyperparameter(
        "seed", aliases: ["sample_seed"], .integer(0...Int(Int32.max)), default: .integer(42),
        "The seed of every model."),
    ])

  /// One model that was tried.
  private struct Trial {
    var settings: PolicySettings
    var model: any Recommender
    var ndcg: Double
    var recall: Double
    var seconds: Double
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.histories.contains(where: { $0.items.count >= 2 }), !data.validation.isEmpty else {
      throw nothingToLearn(settings, data)
    }
    let clock = ContinuousClock()
    let started = clock.now
    var budget = settings.number("minutes") * 60
    if let limit = context.secondsAtMost { budget = min(budget, limit) }
    func spent() -> Double { seconds(clock.now - started) }
    return try context.withPool { pool in
      var trials: [Trial] = []
      var passedOver: [String] = []
      func attempt(_ tried: PolicySettings, secondsAtMost: Double) throws {
        guard let policy = Policies.named(tried.policy.name) else { return }
        var own = context
        own.secondsAtMost = secondsAtMost
        own.checkpoint = nil
        own.saving = nil
        own.estimated = nil
        own.progress = { state in
          context.progress(
            TrainingProgress(
              epoch: 1, epochs: 1, step: min(999, Int(1000 * spent() / budget)), steps: 1000,
              loss: state.loss, tokensPerSecond: state.tokensPerSecond, secondsElapsed: spent(),
              secondsLeft: max(0, budget - spent()), validationNDCG: trials.map(\.ndcg).max(),
              bestValidationNDCG: trials.map(\.ndcg).max()))
        }
        do {
          let trained = try policy.train(data, tried, own)
          let judged = rankings(data.validation, by: trained.model, pool: pool)
          trials.append(
            Trial(
              settings: tried, model: trained.model, ndcg: judged.mean(.ndcg, at: 10),
              recall: judged.mean(.recall, at: 10), seconds: trained.secondsTraining))
        } catch let problem as Diagnostic {
          passedOver.append("\(tried.policy.name): \(problem.message)")
        }
      }
      try context.report()
      for tried in quick(data, seed: settings.integer("seed")) {
        if spent() > budget * 0.35, !trials.isEmpty { break }
        try attempt(tried, secondsAtMost: max(1, budget * 0.1))
      }
      let long = sequenceModels(data, seed: settings.integer("seed"))
      for (place, tried) in long.enumerated() {
        let left = budget * 0.93 - spent()
        if left < budget * 0.05 { break }
        // The first sequence model is the one to count on; those after it share what it leaves.
        let share = place == 0 ? 0.6 : 1 / Double(long.count - place)
        try attempt(tried, secondsAtMost: left * share)
      }
      guard !trials.isEmpty else { throw nothingToLearn(settings, data) }
      return conclude(
        trials, passedOver, blends: settings.flag("blends"), on: data.validation, pool: pool,
        seconds: spent)
    }
  }

  // MARK: what is tried

  private static func settings(
    _ policy: any Policy.Type, _ name: String, _ values: [String: Hyperparameter.Value], seed: Int
  ) -> PolicySettings {
    var settings = PolicySettings(policy.description, name: name, values: values)
    if let parameter = policy.description.parameter("seed") {
      settings.values[parameter.name] = .integer(seed)
    }
    return settings
  }

  /// What takes seconds, the surest first.
  private static func quick(_ data: TrainingSet, seed: Int) -> [PolicySettings] {
    func made(
      _ policy: any Policy.Type, _ name: String, _ values: [String: Hyperparameter.Value] = [:]
    ) -> PolicySettings { settings(policy, name, values, seed: seed) }
    var list = [made(PopularTraining.self, "popular")]
    func knn(
      _ last: Int, _ decay: Double, _ name: String, _ more: [String: Hyperparameter.Value] = [:]
    )
      -> PolicySettings
    {
      made(
        ItemKNNTraining.self, name,
        ["history_length": .integer(last), "decay": .number(decay)].merging(more) { $1 })
    }
    list.append(knn(5, 0.8, "item_knn_5"))
    list.append(knn(10, 0.9, "item_knn_10"))
    list.append(
      knn(5, 0.8, "item_knn_near", ["window": .integer(5), "direction": .text("forward")]))
    list.append(made(NGramTraining.self, "ngram"))
    list.append(made(NGramTraining.self, "markov", ["n": .integer(2)]))
    if data.histories.contains(where: { $0.times != nil }) {
      list.append(made(PopularTraining.self, "popular_7_days", ["time_window": .number(7)]))
      list.append(made(PopularTraining.self, "popular_30_days", ["time_window": .number(30)]))
      list.append(made(RisingPopularTraining.self, "rising"))
    }
    list.append(knn(1, 1, "item_knn_1"))
    list.append(knn(50, 0.95, "item_knn_50"))
    list.append(knn(5, 0.8, "item_knn_conditional", ["similarity": .text("conditional")]))
    if data.itemCount <= 12_000 {
      list.append(made(EASETraining.self, "ease", ["decay": .number(0.9)]))
      list.append(
        made(
          EASETraining.self, "ease_near", ["history_length": .integer(10), "decay": .number(0.8)]))
    }
    list.append(
      made(ELSATraining.self, "elsa", ["decay": .number(0.9), "history_length": .integer(50)]))
    list.append(made(Item2VecTraining.self, "item2vec"))
    list.append(
      made(ALSTraining.self, "als", ["decay": .number(0.9), "alpha": .number(5)]))
    return list
  }

  /// Models of sequences, which get the most time.
  private static func sequenceModels(_ data: TrainingSet, seed: Int) -> [PolicySettings] {
    let wanted = ["sasrec", "hstu", "esasrec", "gru4rec"]
    let longest = data.histories.map(\.items.count).max() ?? 1
    return wanted.compactMap { name in
      guard let policy = Policies.named(name) else { return nil }
      if name == "hstu", !data.histories.contains(where: { $0.times != nil }) { return nil }
      var made = settings(policy, name, [:], seed: seed)
      if let parameter = policy.description.parameter("max_seq_length"), longest <= 50 {
        made.values[parameter.name] = .integer(50)
      }
      return made
    }
  }

  // MARK: the choice

  private static func conclude(
    _ trials: [Trial], _ passedOver: [String], blends: Bool, on cases: [EvaluationCase],
    pool: WorkerPool, seconds: () -> Double
  ) -> TrainedModel {
    let order = trials.indices.sorted { (trials[$1].ndcg, $0) < (trials[$0].ndcg, $1) }
    let best = trials[order[0]]
    var model: any Recommender = best.model
    var sentence = "`\(best.settings.name)` alone was best"
    var quality = best.ndcg
    if blends, trials.count > 1 {
      for standing in [Standing.logRank, .standard] {
        let found = grown(order.prefix(12).map { trials[$0] }, standing, on: cases, pool: pool)
        guard found.ndcg > quality else { continue }
        quality = found.ndcg
        model = Blend(
          parts: found.parts.map { trial, weight in
            Blend.Part(name: trial.settings.name, model: trial.model, weight: Float(weight))
          }, standing: standing)
        let parts = found.parts.map { "\(rounded(Float($0.1))) `\($0.0.settings.name)`" }
        sentence = "the blend \(parts.joined(separator: " + ")) by \(standing.rawValue) was best"
      }
    }
    let table = order.map { place in
      let trial = trials[place]
      return "  \(fixed(trial.ndcg, 4))  \(fixed(trial.recall, 4))  "
        + "\(fixed(trial.seconds, 1)) s  \(trial.settings.name)"
    }
    let elapsed = seconds()
    var trained = TrainedModel(
      model, secondsTraining: elapsed,
      summary: "Tried \(trials.count) models in \(text(seconds: elapsed)): \(sentence), with "
        + "validation NDCG@10 \(fixed(quality, 4)).")
    trained.notes =
      ["NDCG@10, Recall@10 on the validation events, training time, model:"] + table
      + passedOver.map { "  passed over: \($0)" }
    return trained
  }

  /// Takes models into a blend, each time the one that makes it best, while it gets better.
  private static func grown(
    _ trials: [Trial], _ standing: Standing, on cases: [EvaluationCase], pool: WorkerPool
  ) -> (parts: [(Trial, Double)], ndcg: Double) {
    let fit = BlendFit(trials.map(\.model), standing, on: cases, pool: pool)
    var taken = [0]
    var quality = fit.crossValidatedNDCG(of: taken)
    while taken.count < 6 {
      var next: (model: Int, ndcg: Double)?
      for model in trials.indices where !taken.contains(model) {
        let ndcg = fit.crossValidatedNDCG(of: taken + [model])
        if ndcg > next?.ndcg ?? -1 { next = (model, ndcg) }
      }
      // Less than half a percent more is not worth another model to train and to ask.
      guard let next, next.ndcg > quality * 1.005 else { break }
      taken.append(next.model)
      quality = next.ndcg
    }
    let weights = fit.weights(of: taken)
    let parts = taken.filter { weights[$0] > 0 }.map { (trials[$0], weights[$0]) }
    return (parts, quality)
  }
}
