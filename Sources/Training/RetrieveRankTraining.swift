import Domain
package import Evaluation
package import Models

/// The `retrieve-rank` policy: one model names candidates, another orders them; nothing is trained.
package enum RetrieveRankTraining: Policy {
  package static let description = PolicyDescription(
    name: "retrieve-rank",
    summary: "One model names candidates, another orders them, without extra training.",
    gives: .scores,
    parameters: [
      Hyperparameter("retriever", .model, "The model that names candidates."),
      Hyperparameter("ranker", .model, "The model that orders them."),
      Hyperparameter(
        "candidates", aliases: ["limit"], .integer(1...1_000_000),
        "Items that the retriever names; by default as few, from 100 on, as cost neither NDCG@10 nor "
          + "Recall@10 on the validation events."),
      Hyperparameter(
        "unite", .flag, default: .flag(true),
        "Whether the ranker's own best items are candidates too. Then the combination is never "
          + "worse than its ranker: without a `retriever_weight` its first `candidates` places (a "
          + "hundred by default) are the ranker's own."),
      Hyperparameter(
        "retriever_weight", .number(0...10),
        "What the retriever's standard scores weigh in the order of candidates; 0 by default."),
      Hyperparameter(
        "reweight", .flag, default: .flag(false),
        "Whether the retriever's scores weigh only where that is better on the validation events, in "
          + "NDCG@10 and Recall@10, by more than two standard errors: with `retriever_weight` where "
          + "it is given, else with the best of several up to 1. Usually better than the ranker, but "
          + "not by construction."),
    ])

  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    for key in ["retriever", "ranker"] where settings.optionalText(key) == nil {
      return SettingsProblem(
        key: key, "two stages need a retriever and a ranker.",
        help: "Write `retriever: item2vec` and `ranker: sasrec`.")
    }
    return nil
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard let retrieverName = settings.optionalText("retriever"),
      let rankerName = settings.optionalText("ranker")
    else {
      throw Diagnostic(
        code: "missing_key", "The model `\(settings.name)` names no retriever or no ranker.",
        at: "training.models", help: "Write `retriever: item2vec` and `ranker: sasrec`.")
    }
    let retriever = try part(retrieverName, of: settings, context)
    let ranker = try part(rankerName, of: settings, context)
    return try context.withPool { pool in
      try context.report()
      let ((model, check), seconds) = timed {
        let given = settings.optionalNumber("retriever_weight")
        let model = combination(
          retriever: retriever, ranker: ranker,
          candidates: settings.optionalInteger("candidates"), isUnited: settings.flag("unite"),
          weight: settings.flag("reweight")
            ? given.map { .found(among: [$0]) } ?? .found() : .given(given ?? 0),
          on: data.validation, pool: pool)
        return (model, comparison(model, on: data.validation, pool: pool))
      }
      return TrainedModel(
        model, secondsTraining: seconds,
        summary: "`\(retrieverName)` names \(model.stages.candidates) candidates"
          + (model.stages.isUnited ? ", `\(rankerName)` as many" : "")
          + "; its scores weigh \(rounded(model.stages.retrieverWeight)) in the order. \(check)")
    }
  }

  /// The combination beside its ranker on the validation events, as a sentence. Settings that were
  /// given may make it worse; what is found here does not.
  private static func comparison(
    _ model: RetrieveRank, on cases: [EvaluationCase], pool: WorkerPool
  ) -> String {
    guard !cases.isEmpty else { return "There were no validation events to compare it with." }
    let own = rankings(cases, by: model, pool: pool).mean(.ndcg, at: 10)
    let alone = rankings(cases, by: model.ranker, pool: pool).mean(.ndcg, at: 10)
    return "NDCG@10 on \(cases.count) validation events: \(fixed(own, 4)), the ranker alone "
      + "\(fixed(alone, 4))"
      + (own < alone - 1e-9
        ? "; worse, by the settings that were given: leave out `candidates`, `unite` and "
          + "`retriever_weight`." : ".")
  }

  /// What the retriever's scores weigh in the order of candidates.
  package enum Weight: Hashable, Sendable {
    case given(Double)
    /// The one of several that is best, where it is clearly better than 0.
    case found(among: [Double] = [0.1, 0.2, 0.35, 0.5, 0.75, 1])
  }

  /// Finds what is not given on questions.
  ///
  /// With `isUnited` and a weight of 0 the first hundred places are the ranker's on any question. A
  /// weight above 0 that is found here was better on these questions, and may be worse on others by
  /// chance.
  package static func combination(
    retriever: any Recommender, ranker: any Recommender, candidates: Int?, isUnited: Bool,
    weight: Weight, on cases: [EvaluationCase], pool: WorkerPool
  ) -> RetrieveRank {
    func combined(_ candidates: Int, _ weight: Double) -> RetrieveRank {
      RetrieveRank(
        retriever: retriever, ranker: ranker,
        stages: .init(
          candidates: candidates, isUnited: isUnited, retrieverWeight: Float(weight)))
    }
    func gains(_ model: any Recommender) -> Gains {
      Gains(rankings(cases, by: model, pool: pool))
    }
    guard !cases.isEmpty else {
      if case .given(let weight) = weight { return combined(candidates ?? 200, weight) }
      return combined(candidates ?? 200, 0)
    }
    var count = candidates ?? 100
    let alone = gains(ranker)
    if candidates == nil, !isUnited {
      while count < ranker.itemCount, gains(combined(count, 0)).areWorse(than: alone) { count *= 2 }
      count = min(count, ranker.itemCount)
    }
    let weights: [Double]
    switch weight {
    case .given(let weight): return combined(count, weight)
    case .found(let among): weights = among
    }
    var best = (weight: 0.0, gain: 0.0)
    for weight in weights {
      // Several weights are tried, and the best of several is better by luck: two standard errors.
      let found = gains(combined(count, weight))
      if let gain = found.clearGain(over: alone), gain > best.gain { best = (weight, gain) }
    }
    return combined(count, best.weight)
  }

  /// What a model gains from each question: a combination should lose neither the order of the best
  /// ten nor what is among them.
  private struct Gains {
    var ndcg: [Double]
    var recall: [Double]

    init(_ judgement: Judgement) {
      ndcg = judgement.values(.ndcg, at: 10)
      recall = judgement.values(.recall, at: 10)
    }

    /// Whether either figure is lower.
    func areWorse(than other: Gains) -> Bool {
      func sum(_ values: [Double]) -> Double { values.reduce(0, +) }
      return sum(ndcg) < sum(other.ndcg) - 1e-9 || sum(recall) < sum(other.recall) - 1e-9
    }

    /// How much higher NDCG@10 is, where it is so by more than two standard errors and Recall@10 is
    /// either the same for each question or higher by two standard errors.
    func clearGain(over other: Gains) -> Double? {
      func difference(_ own: [Double], _ theirs: [Double]) -> (mean: Double, error: Double) {
        meanAndError(zip(own, theirs).map { $0 - $1 })
      }
      let (found, order) = (difference(recall, other.recall), difference(ndcg, other.ndcg))
      return found.mean >= 2 * found.error && order.mean > 2 * order.error ? order.mean : nil
    }
  }
}

/// The mean of some values and its standard error.
func meanAndError(_ values: [Double]) -> (mean: Double, error: Double) {
  guard values.count > 1 else { return (values.first ?? 0, .infinity) }
  let mean = values.reduce(0, +) / Double(values.count)
  let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
  return (mean, (squares / Double(values.count - 1) / Double(values.count)).squareRoot())
}
