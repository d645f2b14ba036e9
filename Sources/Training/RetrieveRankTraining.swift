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
        "Items that the retriever names; by default as few, from 100 on, as do not cost NDCG@10 on "
          + "the validation events."),
      Hyperparameter(
        "unite", .flag, default: .flag(true),
        "Whether the ranker's own best items are candidates too. Then the combination is never "
          + "worse than its ranker by what retrieval leaves out: without a `retriever_weight` its "
          + "first hundred places are the ranker's own."),
      Hyperparameter(
        "retriever_weight", .number(0...10),
        "What the retriever's standard scores weigh in the order of candidates; by default what is "
          + "better than 0 on the validation events by more than two standard errors, else 0."),
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
        let model = combination(
          retriever: retriever, ranker: ranker,
          candidates: settings.optionalInteger("candidates"), isUnited: settings.flag("unite"),
          weight: settings.optionalNumber("retriever_weight"), on: data.validation, pool: pool)
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

  /// Finds what is not given on questions.
  package static func combination(
    retriever: any Recommender, ranker: any Recommender, candidates: Int?, isUnited: Bool,
    weight: Double?, on cases: [EvaluationCase], pool: WorkerPool
  ) -> RetrieveRank {
    func combined(_ candidates: Int, _ weight: Double) -> RetrieveRank {
      RetrieveRank(
        retriever: retriever, ranker: ranker,
        stages: .init(
          candidates: candidates, isUnited: isUnited, retrieverWeight: Float(weight)))
    }
    func gains(_ model: any Recommender) -> [Double] {
      rankings(cases, by: model, pool: pool).values(.ndcg, at: 10)
    }
    guard !cases.isEmpty else { return combined(candidates ?? 200, weight ?? 0) }
    var count = candidates ?? 100
    let alone = gains(ranker)
    if candidates == nil, !isUnited {
      while count < ranker.itemCount, isWorse(gains(combined(count, 0)), than: alone) { count *= 2 }
      count = min(count, ranker.itemCount)
    }
    if let weight { return combined(count, weight) }
    var best = (weight: 0.0, gain: 0.0)
    for weight in [0.1, 0.2, 0.35, 0.5, 0.75, 1] {
      let difference = zip(gains(combined(count, weight)), alone).map { $0 - $1 }
      let (mean, error) = meanAndError(difference)
      // Several weights are tried, and the best of several is better by luck: two standard errors.
      if mean > 2 * error, mean > best.gain { best = (weight, mean) }
    }
    return combined(count, best.weight)
  }

  private static func isWorse(_ gains: [Double], than other: [Double]) -> Bool {
    gains.reduce(0, +) < other.reduce(0, +) - 1e-9
  }
}

/// The mean of some values and its standard error.
func meanAndError(_ values: [Double]) -> (mean: Double, error: Double) {
  guard values.count > 1 else { return (values.first ?? 0, .infinity) }
  let mean = values.reduce(0, +) / Double(values.count)
  let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
  return (mean, (squares / Double(values.count - 1) / Double(values.count)).squareRoot())
}
