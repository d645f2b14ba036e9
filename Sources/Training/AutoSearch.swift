import Domain
import Evaluation
package import Models
import Neural

/// The course of an `auto` training: what is tried, in what order and for how long.
///
/// Everything goes by one budget and one clock. Policies that are trained in one go come first with
/// their defaults, then a first look at a network; what these show decides how the rest of the time
/// is shared. Settings are searched within each family, networks by successive halving over seconds
/// of training, each going on from where it stood. What an earlier search has kept counts with the
/// seconds that it took then, so that a search that was killed ends as if it had not been.
package final class AutoSearch {
  /// One model that was tried.
  package struct Trial {
    package var settings: PolicySettings
    package var record: TrialRecord
    /// Nil where it is only known by its figures, or was let go for its size.
    package var model: (any Recommender)?
    /// Where a network can go on.
    var checkpoint: TrainingCheckpoint?
    /// Whether more time would bring nothing.
    package var isComplete = true
    var key: String
    /// The epoch whose weights the model has, and the epochs that were trained; of networks only.
    var bestEpoch: Int?
    var epochCount = 0
    /// What a network had reached each time that it was left, oldest first.
    var stages: [TrialRecord] = []
    /// Stages that an earlier search has kept and this one has not come to.
    var ahead: [TrialRecord] = []
  }

  /// How a model is trained; tests put something else here.
  package typealias Training = (PolicySettings, TrainingSet, TrainingContext) throws -> TrainedModel

  let data: TrainingSet
  let context: TrainingContext
  let pool: WorkerPool
  package let budget: Double
  let seed: Int
  let training: Training
  let keys: TrialKeys
  let started: Double
  /// Seconds of earlier searches whose trials were found.
  var keptSeconds = 0.0
  package internal(set) var trials: [Trial] = []
  /// What was not tried, and why.
  package internal(set) var passedOver: [String] = []
  /// How the time was shared, for people.
  package internal(set) var course: [String] = []
  var networks: [Int] = []
  var hopeless: [PolicySettings] = []

  /// Bytes of models that are kept at a time, beyond those in use.
  static let modelBytesAtMost = 1_000_000_000

  package init(
    _ data: TrainingSet, budget: Double, seed: Int, context: TrainingContext, pool: WorkerPool,
    refits: Bool = true, training: Training? = nil
  ) {
    self.data = data
    self.refits = refits && data.further != nil
    triesUntil = self.refits ? 0.91 - AutoRefit.reserved : 0.91
    self.budget = budget
    self.seed = seed
    self.context = context
    self.pool = pool
    self.training =
      training ?? { settings, data, context in
        guard let policy = Policies.named(settings.policy.name) else {
          throw nothingToLearn(settings, data)
        }
        return try policy.train(data, settings, context)
      }
    keys = TrialKeys(data, context)
    started = context.now()
  }

  /// Seconds of the budget that are gone.
  package var spent: Double { context.now() - started + keptSeconds }

  /// Whether more than a share of the budget is gone; may be asked by any worker.
  func isSpent(beyond share: Double) -> @Sendable () -> Bool {
    let end = started + budget * share - keptSeconds
    let now = UncheckedSendable(context.now)
    return { now.value() > end }
  }

  var best: Double { trials.map(\.record.ndcg).max() ?? 0 }

  // MARK: The course

  /// The share of the budget after which nothing more is tried; the rest is for the blend, and for
  /// learning the validation events.
  let triesUntil: Double
  /// Whether what is chosen learns the validation events in the end.
  let refits: Bool

  /// Tries until the time for trying is over.
  package func run() throws {
    let candidates = AutoCandidates(data, seed: seed)
    let end = budget * triesUntil
    for tried in candidates.defaults {
      try attempt(tried, until: min(end, budget * 0.2), most: budget * 0.08)
    }
    let quickest = best
    let from = spent
    let probe = try advance(candidates.firstNetwork, nil, to: budget * 0.06, until: end)
    let probed = probe.map { trials[$0].record.ndcg } ?? 0
    // What a network already reaches, and whether it is on its way to more, says how much the others
    // are worth a search.
    let isNear = probed >= 0.6 * quickest || probe.map { trials[$0].record.isRising } ?? false
    let share = probed >= quickest ? 0.06 : isNear ? 0.15 : 0.35
    course.append(
      "Policies with their defaults reached \(fixed(quickest, 4)) in \(text(seconds: from)), "
        + "`\(candidates.firstNetwork.name)` \(fixed(probed, 4)) after "
        + "\(text(seconds: max(0, spent - from))): \(fixed(share * 100, 0)) % of the time for "
        + "searching the former, what is left for networks.")
    let searchEnd = min(end, spent + budget * share)
    var refinements = candidates.refinements[...]
    func refine(until end: Double) throws {
      while let tried = refinements.first, spent < end {
        refinements = refinements.dropFirst()
        if isHopeless(tried.policy.name) {
          hopeless.append(tried)
        } else {
          try attempt(candidates.improved(tried, trials), until: end, most: budget * 0.08)
        }
      }
    }
    try refine(until: searchEnd)
    try searchNetworks(candidates, first: probe, until: end)
    // Networks that stop early leave time.
    try refine(until: end * 0.97)
    note(hopeless, "because others of their policy were far behind")
    note(Array(refinements), "for lack of time")
  }

  /// Whether a policy was tried twice and stayed far behind: in a blend one of it is enough.
  func isHopeless(_ policy: String) -> Bool {
    let own = trials.filter { $0.settings.policy.name == policy }.map(\.record.ndcg)
    return own.count >= 2 && (own.max() ?? 0) < 0.7 * best
  }

  func note(_ settings: [PolicySettings], _ cause: String) {
    guard !settings.isEmpty else { return }
    var counts: [(policy: String, count: Int)] = []
    for one in settings {
      if let i = counts.firstIndex(where: { $0.policy == one.policy.name }) {
        counts[i].count += 1
      } else {
        counts.append((one.policy.name, 1))
      }
    }
    passedOver.append(
      "\(cause): "
        + counts.map { "\($0.count) of `\($0.policy)`" }.joined(separator: ", "))
  }

  // MARK: One trial

  /// What surrounds a trial: its own limit, and an end where it does not keep to it.
  func surroundings(
    _ limit: Double, hardLimit: Double, isLate: @escaping (Bool) -> Void
  ) -> TrainingContext {
    var own = context
    own.secondsAtMost = limit
    own.checkpoint = nil
    own.saving = nil
    own.estimated = nil
    own.trials = nil
    let begun = context.now()
    own.progress = { [self] state in
      let ndcg = trials.map(\.record.ndcg).max()
      let goesOn = context.progress(
        TrainingProgress(
          epoch: 1, epochs: 1, step: min(999, Int(1000 * spent / budget)), steps: 1000,
          loss: state.loss, tokensPerSecond: state.tokensPerSecond, secondsElapsed: spent,
          secondsLeft: max(0, budget - spent), validationNDCG: ndcg, bestValidationNDCG: ndcg))
      if goesOn, context.now() - begun > hardLimit {
        isLate(true)
        return false
      }
      return goesOn
    }
    return own
  }

  /// Tries a policy that is trained in one go, within `most` seconds and before `end`; where its
  /// models weigh a history by recency, that is searched too, because it needs no training.
  func attempt(_ tried: PolicySettings, until end: Double, most: Double) throws {
    let key = keys.key(tried, "auto")
    if trials.contains(where: { $0.key == key }) { return }
    if let kept = context.trials?.trial(key), let list = kept["trials"]?.array {
      for (place, json) in list.enumerated() {
        var settings = tried
        if place > 0 { settings = Self.settings(tried, recency: json["values"]) }
        guard let record = TrialRecord(json, values: settings.values) else { continue }
        keptSeconds += record.seconds
        trials.append(Trial(settings: settings, record: record, key: key))
      }
      return
    }
    let limit = min(most, end - spent)
    let needed = AutoCandidates.secondsNeeded(tried, data, context)
    guard limit > 0, needed <= limit else {
      if trials.isEmpty, tried.policy.name == "popular" { return try attemptNow(tried, key, 1) }
      passedOver.append(
        "`\(tried.name)`: needs about \(text(seconds: needed)), "
          + "\(text(seconds: max(0, limit))) were left for it")
      return
    }
    try attemptNow(tried, key, limit)
  }

  func attemptNow(_ tried: PolicySettings, _ key: String, _ limit: Double) throws {
    var isLate = false
    let own = surroundings(limit, hardLimit: limit * 1.25) { isLate = $0 }
    let before = spent
    let trained: TrainedModel
    do {
      trained = try training(tried, data, own)
    } catch let problem as Diagnostic {
      return passedOver.append("`\(tried.name)`: \(problem.message)")
    } catch is TrainingCancelled where isLate {
      return passedOver.append(
        "`\(tried.name)`: had not ended after \(text(seconds: spent - before))")
    }
    let first = Judged(judge(trained.model, data.validation))
    var kept = [add(tried, trained.model, first, key, seconds: spent - before)]
    if let neighbours = trained.model as? ItemNeighbours, tried.policy.parameter("decay") != nil {
      let begun = spent
      let recency = try searchRecency(neighbours, first, until: before + limit)
      if recency != neighbours.recency {
        let model = neighbours.with(recency)
        var settings = tried
        settings.values["history_length"] = .integer(min(recency.last, 100_000))
        settings.values["decay"] = .number((Double(recency.decay) * 1e4).rounded() / 1e4)
        settings.name += "_recency"
        kept.append(
          add(
            settings, model, Judged(judge(model, data.validation)), key, seconds: spent - begun))
      }
    }
    if let store = context.trials {
      let bytes = Self.bytes(of: trained.model)
      if bytes <= 64_000_000 { store.keep(weights: trained.model.safetensors().bytes, key) }
      store.keep(["trials": .array(kept.map { trials[$0].record.json })], key)
    }
    letGo()
  }

  struct Judged {
    var ndcg: Double
    var recall: Double
    init(_ judgement: Judgement) {
      ndcg = judgement.mean(.ndcg, at: 10)
      recall = judgement.mean(.recall, at: 10)
    }
  }

  func judge(_ model: any Recommender, _ cases: [EvaluationCase]) -> Judgement {
    rankings(cases, by: model, pool: pool)
  }

  func add(
    _ settings: PolicySettings, _ model: any Recommender, _ judged: Judged, _ key: String,
    seconds: Double
  ) -> Int {
    var record = TrialRecord(
      values: settings.values, share: 1, ndcg: judged.ndcg, recall: judged.recall, seconds: seconds)
    record.policy = settings.policy.name
    record.name = settings.name
    record.at = spent
    trials.append(Trial(settings: settings, record: record, model: model, key: key))
    return trials.count - 1
  }

  /// The recency under which neighbours are best: a search along one setting after the other, on some
  /// of the cases where there are many.
  func searchRecency(
    _ model: ItemNeighbours, _ first: Judged, until end: Double
  ) throws -> Recency {
    let step = max(1, data.validation.count / 1500)
    let cases =
      step == 1
      ? data.validation
      : stride(from: 0, to: data.validation.count, by: step).map { data.validation[$0] }
    var best = (model.recency, step == 1 ? first.ndcg : Judged(judge(model, cases)).ndcg)
    // Not worth a search: even a good recency does not bring it to the others.
    if first.ndcg < 0.6 * self.best { return best.0 }
    func look(_ recency: Recency) throws {
      guard recency != best.0, spent < end else { return }
      let ndcg = Judged(judge(model.with(recency), cases)).ndcg
      if ndcg > best.1 { best = (recency, ndcg) }
      try context.report()
    }
    for last in [1, 2, 3, 5, 10, 20, 50] { try look(Recency(last: last, decay: best.0.decay)) }
    for decay: Float in [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1] {
      try look(Recency(last: best.0.last, decay: decay))
    }
    for factor in [0.5, 2] where best.0.last < 1000 {
      let last = max(1, Int(Double(best.0.last) * factor))
      try look(Recency(last: last, decay: best.0.decay))
    }
    return best.0
  }

  static func settings(_ tried: PolicySettings, recency json: JSON?) -> PolicySettings {
    var settings = tried
    settings.name += "_recency"
    if let last = json?["history_length"]?.int {
      settings.values["history_length"] = .integer(Int(last))
    }
    if let decay = json?["decay"]?.number { settings.values["decay"] = .number(decay) }
    return settings
  }

  // MARK: Models

  /// The model of a trial: as it is, from the store, or trained again.
  package func model(_ place: Int) throws -> (any Recommender)? {
    let trial = trials[place]
    if let model = trial.model { return model }
    var own = surroundings(max(1, budget - spent), hardLimit: .infinity) { _ in }
    var model: (any Recommender)?
    if networks.contains(place) {
      guard let checkpoint = trial.checkpoint ?? storedCheckpoint(trial.key) else { return nil }
      own.checkpoint = checkpoint
      own.secondsAtMost = 0
      let trained = try training(trial.settings, data, own)
      model = trained.model
      trials[place].bestEpoch = trained.bestEpoch
      trials[place].epochCount = trained.epochs.count
    } else if let bytes = context.trials?.weights(trial.key),
      let file = try? Safetensors(parsing: bytes, path: trial.key)
    {
      model = try? RecommenderFiles.restore(file, path: trial.key, kernels: context.kernels)
    }
    if model == nil, !networks.contains(place),
      AutoCandidates.secondsNeeded(trial.settings, data, context) < (budget - spent) / 4
    {
      own.secondsAtMost = nil
      model = try training(trial.settings, data, own).model
    }
    if let neighbours = model as? ItemNeighbours {
      model = neighbours.with(recency(trial.settings))
    }
    trials[place].model = model
    return model
  }

  /// Lets models go that will hardly be wanted, where they take much memory.
  func letGo() {
    var bytes = 0
    var perPolicy: [String: Int] = [:]
    for place in trials.indices.sorted(by: { trials[$0].record.ndcg > trials[$1].record.ndcg }) {
      guard let model = trials[place].model else { continue }
      let size = Self.bytes(of: model)
      let policy = trials[place].settings.policy.name
      perPolicy[policy, default: 0] += 1
      if bytes + size > Self.modelBytesAtMost || perPolicy[policy, default: 0] > 4, bytes > 0 {
        trials[place].model = nil
      } else {
        bytes += size
      }
    }
  }

  /// About what a model takes; those that are not neighbours are small beside them.
  static func bytes(of model: any Recommender) -> Int {
    if let neighbours = model as? ItemNeighbours { return neighbours.columns.count * 8 }
    return model.itemCount * 4 * 128
  }
}

extension ItemNeighbours {
  /// The same neighbours, looked up for other parts of a history.
  func with(_ recency: Recency) -> ItemNeighbours {
    ItemNeighbours(
      itemCount: itemCount, recency: recency, offsets: offsets, columns: columns, weights: weights)
  }
}
