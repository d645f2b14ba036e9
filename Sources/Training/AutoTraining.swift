import Domain
import Evaluation
package import Models

/// The `auto` policy: searches policies and their settings within a time budget, and blends what is
/// better together.
///
/// `AutoSearch` tries; here models are taken into a blend one by one, as long as the blend gets better
/// on validation events that its weights have not seen (five folds). On small data a blend of simple
/// models usually wins, on large data a transformer with some help. When all is chosen, the parts learn
/// the validation events too (`AutoRefit`). The test events are never looked at, and the model that
/// is served is the one that is judged by them.
package enum AutoTraining: Policy {
  package static let description = PolicyDescription(
    name: "auto",
    summary: "Searches policies and blends of them within a time budget, and says what it found.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "minutes", .number(0.01...10_000), default: .number(10),
        "The time for everything. A slower machine tries less, and says what it passed over."),
      Hyperparameter(
        "blends", .flag, default: .flag(true),
        "Whether several models may be taken; otherwise the best one alone."),
      Hyperparameter(
        "refit", .flag, default: .flag(true),
        "Whether what was chosen learns the validation events too, once they have nothing more to "
          + "decide. Not where other models are made of this one."),
      Hyperparameter(
        "seed", aliases: ["sample_seed"], .integer(0...Int(Int32.max)), default: .integer(42),
        "The seed of every model."),
    ])

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.histories.contains(where: { $0.items.count >= 2 }), !data.validation.isEmpty else {
      throw nothingToLearn(settings, data)
    }
    var data = data
    // So many questions settle what is better; all of a large log would take the time of training.
    let most = max(3000, 400_000_000 / max(1, data.itemCount))
    if data.validation.count > most {
      let step = (data.validation.count + most - 1) / most
      data.validation = stride(from: 0, to: data.validation.count, by: step).map {
        data.validation[$0]
      }
    }
    var budget = settings.number("minutes") * 60
    if let limit = context.secondsAtMost { budget = min(budget, limit) }
    return try context.withPool { pool in
      try context.report()
      let search = AutoSearch(
        data, budget: budget, seed: settings.integer("seed"), context: context, pool: pool,
        refits: settings.flag("refit") && !context.isPart)
      try search.run()
      guard !search.trials.isEmpty else { throw nothingToLearn(settings, data) }
      return try conclude(search, blends: settings.flag("blends"), on: data.validation, pool: pool)
    }
  }

  // MARK: The choice

  /// A model in the final choice.
  private struct Choice {
    var place: Int
    var settings: PolicySettings
    var model: any Recommender
    var ndcg: Double
  }

  /// A blend that has grown, and how.
  private struct Growth {
    var parts: [(choice: Choice, weight: Double)]
    var quality: BlendFit.Quality
    /// The best model alone, judged in the same way.
    var alone: BlendFit.Quality
    var standing: Standing
    /// The models in the order in which they came in, with the NDCG@10 that the blend then reached.
    var steps: [(name: String, ndcg: Double)]

    /// Whether it is to be taken. The best model was chosen for its figure among many and owes some of
    /// it to luck, so a blend that makes the right items likelier wins unless it is surely worse.
    var isBetter: Bool {
      guard parts.count > 1 else { return false }
      let (mean, error) = meanAndError(zip(quality.gains, alone.gains).map { $0 - $1 })
      return mean > -error
    }
  }

  private static func conclude(
    _ search: AutoSearch, blends: Bool, on cases: [EvaluationCase], pool: WorkerPool
  ) throws -> TrainedModel {
    let begun = search.spent
    let order = search.trials.indices.sorted {
      (search.trials[$1].record.ndcg, $0) < (search.trials[$0].record.ndcg, $1)
    }
    var choices: [Choice] = []
    var perPolicy: [String: Int] = [:]
    // A blend looks at every score of each in both ways, for 50 ns or less; a twentieth of the budget
    // is for that.
    let each = 5e-8 * Double(min(2000, cases.count)) * Double(search.data.itemCount)
    let affordable = 0.05 * search.budget * Double(pool.count) / max(each, 1e-9)
    let most = Int(min(16, max(5, affordable)))
    for place in order where choices.count < (blends ? most : 1) {
      let trial = search.trials[place]
      let policy = trial.settings.policy.name
      if perPolicy[policy, default: 0] >= 3 { continue }
      // What has to be trained or read again takes time; what is there does not.
      if trial.model == nil, !choices.isEmpty, search.isSpent(beyond: search.triesUntil + 0.03)() {
        continue
      }
      guard let model = try search.model(place) else { continue }
      perPolicy[policy, default: 0] += 1
      choices.append(
        Choice(place: place, settings: trial.settings, model: model, ndcg: trial.record.ndcg))
    }
    guard let best = choices.first else {
      throw Diagnostic(
        .unavailable, code: "no_time", "No model could be trained in the time that there was.",
        at: "training.models", help: "Give `minutes` a larger value.")
    }
    var why = ["`\(best.settings.name)` alone has the best NDCG@10 on the validation events."]
    var sentence = "`\(best.settings.name)` alone was best"
    var quality = best.ndcg
    var chosen = [best]
    var assembled = { (models: [any Recommender]) in models[0] }
    var yaml: [String] = []
    if blends, choices.count > 1 {
      var found: [Growth] = []
      let isLate = search.isSpent(beyond: 0.97)
      for standing in [Standing.logRank, .standard] where !isLate() {
        if let growth = grown(choices, standing, on: cases, pool: pool, isLate: isLate) {
          found.append(growth)
        }
      }
      if let growth = found.filter(\.isBetter).max(by: { $0.quality.ndcg < $1.quality.ndcg }) {
        quality = growth.quality.ndcg
        assembled = { models in
          Blend(
            parts: zip(growth.parts, models).map { part, model in
              Blend.Part(
                name: part.choice.settings.name, model: model, weight: Float(part.weight))
            }, standing: growth.standing)
        }
        let parts = growth.parts.map { "\(rounded(Float($0.1))) `\($0.0.settings.name)`" }
        sentence =
          "the blend \(parts.joined(separator: " + ")) by \(growth.standing.rawValue) was best"
        chosen = growth.parts.map(\.choice)
        yaml = [blendYAML(growth)]
        let steps = growth.steps.enumerated().map { place, step in
          (place == 0 ? "`\(step.name)` alone" : "with `\(step.name)`")
            + " \(fixed(step.ndcg, 4))"
        }
        why = [
          "The blend took in, one by one, the models that make the validation events' items "
            + "likeliest; NDCG@10 on folds that its weights had not seen: "
            + steps.joined(separator: ", ") + "."
        ]
      } else {
        why.append(
          found.isEmpty
            ? "There was no time to try blends."
            : "No blend with another was as good on folds that its weights had not seen.")
      }
    }
    let choosing = search.spent - begun
    var models = chosen.map(\.model)
    var refit = search.refits ? AutoRefit(search) : nil
    if refit != nil {
      models =
        try refit?.learn(
          chosen.map { ($0.place, $0.model) }, until: search.budget * 0.995) ?? models
    }
    let elapsed = search.spent
    var trained = TrainedModel(
      assembled(models), secondsTraining: elapsed,
      summary:
        "Tried \(search.trials.count) models in \(text(seconds: elapsed)): \(sentence), with "
        + "validation NDCG@10 \(fixed(quality, 4)).")
    trained.hasLearnedValidation = refit?.count ?? 0 > 0
    trained.trials = search.trials.map(\.record)
    var lines: [String: Int] = [:]
    let shown = order.filter { place in
      lines[search.trials[place].record.policy, default: 0] += 1
      return lines[search.trials[place].record.policy, default: 0] <= linesPerPolicy
    }
    trained.notes =
      ["NDCG@10, Recall@10 on the validation events, seconds, trained, model and settings:"]
      + shown.map { line(search.trials[$0].record) }
      + (order.count > shown.count
        ? ["  and \(order.count - shown.count) more, worse or much like these"] : [])
      + ["How the time went:"] + search.course.map { "  \($0)" }
      + ["  Choosing among them took \(text(seconds: choosing))."]
      + (refit?.course ?? []).map { "  \($0)" }
      + (search.passedOver.isEmpty
        ? [] : ["Passed over:"] + search.passedOver.map { "  \($0)" })
      + ["Why:"] + why.map { "  \($0)" }
      + [
        "The same without a search, as YAML"
          + (trained.hasLearnedValidation ? " (which leaves the validation events out):" : ":")
      ]
      + (chosen.map(\.settings.json.text) + yaml).map { "  - \($0)" }
    return trained
  }

  /// Trials of a policy that the table shows; the rest stand in the JSON and in the report.
  private static let linesPerPolicy = 6

  /// A trial as a line of the table.
  private static func line(_ record: TrialRecord) -> String {
    let values = record.values.sorted { $0.key < $1.key }
      .filter { !["seed", "sample_seed"].contains($0.key) }
      .map { "\($0.key)=\($0.value.json.string ?? $0.value.json.text)" }
    let words = [
      fixed(record.ndcg, 4), fixed(record.recall, 4), "\(fixed(record.seconds, 1)) s",
      "\(fixed(record.share * 100, 0)) %", record.name,
    ]
    return "  " + (words + values).joined(separator: "  ") + (record.isKept ? "  (kept)" : "")
  }

  private static func blendYAML(_ growth: Growth) -> String {
    let weights = growth.parts.map { choice, weight in
      JSON.Member(choice.settings.name, .double((weight * 1e4).rounded() / 1e4))
    }
    return
      ([
        "policy_type": "blend", "models": .object(weights),
        "standing": .string(growth.standing.rawValue),
      ] as JSON).text
  }

  /// Takes models into a blend, each time the one that makes the right items likeliest on folds that
  /// the weights have not seen, while that is more than luck and there is time; of the blends on the
  /// way the one with the best NDCG@10 counts.
  ///
  /// The likelihood uses the whole of a case, NDCG@10 only whether it comes among ten: with some
  /// hundred cases the former tells models apart that the latter cannot.
  private static func grown(
    _ choices: [Choice], _ standing: Standing, on cases: [EvaluationCase], pool: WorkerPool,
    isLate: @Sendable () -> Bool
  ) -> Growth? {
    let fit = BlendFit(choices.map(\.model), standing, on: cases, pool: pool)
    guard let alone = fit.crossValidated([0], isLate: isLate) else { return nil }
    var path: [(models: [Int], quality: BlendFit.Quality)] = [([0], alone)]
    while let last = path.last, last.models.count < 6, !isLate() {
      // A fit for the three that promise most; the others would have to be very unlike their promise.
      let promise = fit.promise(beside: fit.weights(of: last.models))
      let others = choices.indices.filter { !last.models.contains($0) && promise[$0] > 0 }
        .sorted { (promise[$1], $0) < (promise[$0], $1) }.prefix(3)
      let results = WorkerResults<[(Int, BlendFit.Quality)]>(count: pool.count)
      pool.run { worker in
        var own: [(Int, BlendFit.Quality)] = []
        for (number, place) in others.enumerated() where number % pool.count == worker {
          if let quality = fit.crossValidated(last.models + [place], isLate: isLate) {
            own.append((place, quality))
          }
        }
        results.set(own, worker)
      }
      var next: (model: Int, quality: BlendFit.Quality, gain: Double)?
      for (model, quality) in results.all.joined().sorted(by: { $0.0 < $1.0 }) {
        let (gain, error) = meanAndError(
          zip(quality.logLikelihoods, last.quality.logLikelihoods).map { $0 - $1 })
        // A thousandth of a nat is not worth another model to train and to ask.
        if gain > max(error, 0.001), gain > next?.gain ?? 0 { next = (model, quality, gain) }
      }
      guard let next else { break }
      path.append((last.models + [next.model], next.quality))
    }
    let taken =
      path.dropFirst().max(by: { $0.quality.ndcg < $1.quality.ndcg }) ?? ([0], alone)
    let weights = fit.weights(of: taken.models)
    return Growth(
      parts: taken.models.filter { weights[$0] > 0 }.map { (choices[$0], weights[$0]) },
      quality: taken.quality, alone: alone, standing: standing,
      steps: path.prefix(taken.models.count).map { step in
        (choices[step.models[step.models.count - 1]].settings.name, step.quality.ndcg)
      })
  }
}
