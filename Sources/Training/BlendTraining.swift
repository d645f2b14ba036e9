import Domain
package import Evaluation
package import Models

/// The `blend` policy: several models of the same engine in one score.
package enum BlendTraining: Policy {
  package static let description = PolicyDescription(
    name: "blend",
    summary: "Several models in one score, weighted on the validation events.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "models", .models,
        "The models: a list of names, whose weights are then found on the validation events, or a "
          + "map of names and weights."),
      Hyperparameter(
        "standing", aliases: ["normalisation", "normalization"],
        .choice(Standing.allCases.map(\.rawValue)),
        "How scores are made comparable: by the logarithm of ranks, reciprocal ranks or standard "
          + "scores; by default what is best on the validation events."),
    ])

  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    if case .weights(let weights) = settings["models"], !weights.isEmpty { return nil }
    return SettingsProblem(
      key: "models", "a blend needs models.", help: "Write `models: [item_knn, sasrec]`.")
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard case .weights(let wanted) = settings["models"], !wanted.isEmpty else {
      throw Diagnostic(
        code: "missing_key", "The blend `\(settings.name)` names no models.",
        at: "training.models", help: "Write `models: [item_knn, sasrec]`.")
    }
    let models = try wanted.map { try part($0.model, of: settings, context) }
    return try context.withPool { pool in
      try context.report()
      let (found, seconds) = timed {
        blend(
          zip(wanted, models).map { (name: $0.model, weight: $0.weight, model: $1) },
          standing: settings.optionalText("standing").flatMap(Standing.init(rawValue:)),
          on: data.validation, pool: pool)
      }
      let weights = found.parts.map { "\($0.name) \(rounded($0.weight))" }
      return TrainedModel(
        found, secondsTraining: seconds,
        summary: "Weighted \(weights.joined(separator: ", ")) by \(found.standing.rawValue) on "
          + "\(data.validation.count) validation events in \(text(seconds: seconds)).")
    }
  }

  /// The blend of some models, with what is not given found on questions.
  package static func blend(
    _ models: [(name: String, weight: Double?, model: any Recommender)], standing: Standing?,
    on cases: [EvaluationCase], pool: WorkerPool
  ) -> Blend {
    let standings = standing.map { [$0] } ?? [.logRank, .standard]
    let candidates = standings.map { standing in
      var weights = models.map { $0.weight ?? 1 }
      if models.contains(where: { $0.weight == nil }), !cases.isEmpty {
        let fitted = BlendFit(models.map(\.model), standing, on: cases, pool: pool).weights()
        for i in models.indices where models[i].weight == nil { weights[i] = fitted[i] }
      }
      return Blend(
        parts: zip(models, weights).map {
          Blend.Part(name: $0.name, model: $0.model, weight: Float($1))
        }, standing: standing)
    }
    guard candidates.count > 1, !cases.isEmpty else { return candidates[0] }
    let qualities = candidates.map { rankings(cases, by: $0, pool: pool).mean(.ndcg, at: 10) }
    var best = 0
    for i in qualities.indices where qualities[i] > qualities[best] { best = i }
    return candidates[best]
  }
}

/// A trained model that another is made of.
func part(
  _ name: String, of settings: PolicySettings, _ context: TrainingContext
) throws(Diagnostic) -> any Recommender {
  if let model = context.parts[name] { return model }
  throw Diagnostic(
    code: "unknown_model", "The model `\(settings.name)` is made of `\(name)`, which is not there.",
    at: "training.models",
    help: context.parts.isEmpty
      ? "Declare it in `training.models`, before this one."
      : "Models: \(context.parts.keys.sorted().map { "`\($0)`" }.joined(separator: ", ")).")
}

func rounded(_ value: Float) -> String {
  let hundredths = Int((value * 100).rounded())
  let rest = abs(hundredths) % 100
  return "\(hundredths < 0 ? "-" : "")\(abs(hundredths) / 100).\(rest < 10 ? "0" : "")\(rest)"
}
