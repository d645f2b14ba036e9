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
  private let training: Training
  private let keys: TrialKeys
  private let started: Double
  /// Seconds of earlier searches whose trials were found.
  private var keptSeconds = 0.0
  package private(set) var trials: [Trial] = []
  /// What was not tried, and why.
  package private(set) var passedOver: [String] = []
  /// How the time was shared, for people.
  package private(set) var course: [String] = []
  private var networks: [Int] = []
  private var hopeless: [PolicySettings] = []

  /// Bytes of models that are kept at a time, beyond those in use.
  static let modelBytesAtMost = 1_000_000_000

  package init(
    _ data: TrainingSet, budget: Double, seed: Int, context: TrainingContext, pool: WorkerPool,
    training: Training? = nil
  ) {
    self.data = data
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

  private var best: Double { trials.map(\.record.ndcg).max() ?? 0 }

  // MARK: The course

  /// Tries until the time for trying is over; what is left of the budget is for the blend.
  package func run() throws {
    let candidates = AutoCandidates(data, seed: seed)
    let end = budget * 0.92
    for tried in candidates.defaults {
      try attempt(tried, until: min(end, budget * 0.2), most: budget * 0.08)
    }
    let quickest = best
    let from = spent
    let probe = try advance(candidates.firstNetwork, nil, to: budget * 0.06, until: end)
    let probed = probe.map { trials[$0].record.ndcg } ?? 0
    // What a network already reaches says how much the others are worth a search.
    let share = probed >= quickest ? 0.06 : probed >= 0.6 * quickest ? 0.15 : 0.35
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
  private func isHopeless(_ policy: String) -> Bool {
    let own = trials.filter { $0.settings.policy.name == policy }.map(\.record.ndcg)
    return own.count >= 2 && (own.max() ?? 0) < 0.7 * best
  }

  /// The default network to its end, then others by successive halving.
  private func searchNetworks(
    _ candidates: AutoCandidates, first: Int?, until end: Double
  ) throws {
    var waiting = candidates.networks[...]
    defer { note(Array(waiting), "for lack of time") }
    guard let first else { return }
    let begun = spent
    // Most of the time where it needs it: a network cut short is worth less than two of them.
    let most = trials[first].record.seconds + (end - begun) * 0.75
    _ = try advance(trials[first].settings, first, to: most, until: end)
    course.append(
      "`\(trials[first].settings.name)` was trained for "
        + "\(text(seconds: trials[first].record.seconds))"
        + (trials[first].isComplete ? ", to its end." : "; it had not come to its end."))
    let full = max(trials[first].record.seconds, 1e-3)
    var round = 0
    while !waiting.isEmpty, end - spent > 0.1 * full, end - spent > 0.02 * budget {
      round += 1
      // Nine at a ninth of the time, three at a third, one to the end cost 2.3 trainings.
      let count = max(1, min(9, Int((end - spent) / (0.26 * full))))
      var alive: [(settings: PolicySettings, place: Int?)] = waiting.prefix(count).map { ($0, nil) }
      waiting = waiting.dropFirst(count)
      for rung in [full / 9, full / 3, full] {
        var done: [(settings: PolicySettings, place: Int?)] = []
        for (settings, place) in alive {
          if let place = try advance(settings, place, to: rung, until: end) {
            done.append((settings, place))
          }
        }
        done.sort { ndcg($0.place) > ndcg($1.place) }
        alive = Array(done.prefix(max(1, (done.count + 2) / 3)))
      }
      let leading = networks.sorted { ndcg($0) > ndcg($1) }.prefix(2)
      for place in networks where !leading.contains(place) && trials[place].model != nil {
        trials[place].checkpoint = nil
      }
    }
    // What is left goes to the best one, where it can use it.
    if let place = networks.max(by: { ndcg($0) < ndcg($1) }), !trials[place].isComplete,
      trials[place].checkpoint != nil
    {
      _ = try advance(trials[place].settings, place, to: .infinity, until: end)
    }
  }

  private func ndcg(_ place: Int?) -> Double { place.map { trials[$0].record.ndcg } ?? -1 }

  private func note(_ settings: [PolicySettings], _ cause: String) {
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
  private func surroundings(
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

  private func attemptNow(_ tried: PolicySettings, _ key: String, _ limit: Double) throws {
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

  private struct Judged {
    var ndcg: Double
    var recall: Double
    init(_ judgement: Judgement) {
      ndcg = judgement.mean(.ndcg, at: 10)
      recall = judgement.mean(.recall, at: 10)
    }
  }

  private func judge(_ model: any Recommender, _ cases: [EvaluationCase]) -> Judgement {
    rankings(cases, by: model, pool: pool)
  }

  private func add(
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
  private func searchRecency(
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

  private static func settings(_ tried: PolicySettings, recency json: JSON?) -> PolicySettings {
    var settings = tried
    settings.name += "_recency"
    if let last = json?["history_length"]?.int {
      settings.values["history_length"] = .integer(Int(last))
    }
    if let decay = json?["decay"]?.number { settings.values["decay"] = .number(decay) }
    return settings
  }

  /// Trains a network, or goes on with one, until it has had so many seconds.
  ///
  /// What an earlier search has kept of it is taken stage by stage, so that this search takes the same
  /// course; training goes on where that ended.
  ///
  /// - Returns: its place among the trials; nil where it could not be trained.
  private func advance(
    _ tried: PolicySettings, _ known: Int?, to seconds: Double, until end: Double
  ) throws -> Int? {
    let key = keys.key(tried, "auto")
    var place = known
    var had = place.map { trials[$0].record.seconds } ?? 0
    if let place, trials[place].isComplete { return place }
    let limit = min(seconds - had, end - spent)
    // A few seconds more bring nothing to a network that has had minutes.
    guard limit > 0.05 * min(seconds, had + limit) else { return place }
    if place == nil { place = restored(tried, key) }
    if let place, let next = trials[place].ahead.first {
      take(next, place, after: had)
      // A longer search than the one that kept them takes several at once.
      while let further = trials[place].ahead.first, further.seconds <= seconds {
        take(further, place, after: trials[place].record.seconds)
      }
      had = trials[place].record.seconds
      let left = min(seconds - had, end - spent)
      if trials[place].isComplete || !trials[place].ahead.isEmpty || left < 0.1 * limit
        || !trials[place].record.isPartial
      {
        return place
      }
    }
    if let place, trials[place].checkpoint == nil { return place }
    return try train(
      tried, place, key, had: had, seconds: min(seconds - had, end - spent))
  }

  /// Takes over what an earlier search has reached.
  private func take(_ stage: TrialRecord, _ place: Int, after had: Double) {
    keptSeconds += stage.seconds - had
    trials[place].record = stage
    trials[place].ahead.removeFirst()
    if !stage.isPartial { trials[place].stages.append(stage) }
    trials[place].isComplete = trials[place].ahead.isEmpty && stage.share >= 1
    if !networks.contains(place) { networks.append(place) }
  }

  private func train(
    _ tried: PolicySettings, _ place: Int?, _ key: String, had: Double, seconds: Double
  ) throws -> Int? {
    // Networks look at the clock at every step and keep what they have reached.
    var own = surroundings(seconds, hardLimit: .infinity) { _ in }
    own.checkpoint = place.flatMap { trials[$0].checkpoint }
    let before = spent
    let stages = place.map { trials[$0].stages } ?? []
    var last = own.checkpoint
    var savedAt = before
    own.saving = { [self] checkpoint in
      last = checkpoint
      guard spent - savedAt > max(10, budget / 100) else { return }
      savedAt = spent
      var partial = checkpoint.record(tried, seconds: had + spent - before, at: spent)
      partial.isPartial = true
      keep(stages + [partial], checkpoint, key)
    }
    let trained: TrainedModel
    do {
      trained = try training(tried, data, own)
    } catch let problem as Diagnostic {
      passedOver.append("`\(tried.name)`: \(problem.message)")
      return place
    }
    let best = trained.epochs.first { $0.epoch == trained.bestEpoch }
    var record = TrialRecord(
      values: tried.values, share: 1, ndcg: best?.validationNDCG ?? 0,
      recall: best?.validationRecall ?? 0, seconds: had + spent - before)
    if best?.validationNDCG == nil {
      let judged = Judged(judge(trained.model, data.validation))
      (record.ndcg, record.recall) = (judged.ndcg, judged.recall)
    }
    let epochs = tried.optionalInteger("n_epochs") ?? max(1, trained.epochs.count)
    let isComplete = last?.isFinished ?? true || trained.epochs.count >= epochs
    record.share = isComplete ? 1 : Double(trained.epochs.count) / Double(epochs)
    record.policy = tried.policy.name
    record.name = tried.name
    record.at = spent
    let trial = Trial(
      settings: tried, record: record, model: trained.model, checkpoint: last,
      isComplete: isComplete, key: key, stages: stages + [record])
    if let place { trials[place] = trial } else { trials.append(trial) }
    let now = place ?? trials.count - 1
    if !networks.contains(now) { networks.append(now) }
    if let last { keep(trial.stages, last, key) }
    letGo()
    return now
  }

  private func keep(_ stages: [TrialRecord], _ checkpoint: TrainingCheckpoint, _ key: String) {
    guard let store = context.trials else { return }
    store.keep(weights: checkpoint.bytes, key)
    store.keep(["stages": .array(stages.map(\.json))], key)
  }

  /// A network that an earlier search has trained, before its first stage.
  private func restored(_ tried: PolicySettings, _ key: String) -> Int? {
    guard let list = context.trials?.trial(key)?["stages"]?.array,
      let checkpoint = storedCheckpoint(key)
    else { return nil }
    let stages = list.compactMap { TrialRecord($0, values: tried.values) }
    guard var record = stages.first else { return nil }
    record.seconds = 0
    trials.append(
      Trial(
        settings: tried, record: record, checkpoint: checkpoint, isComplete: false, key: key,
        ahead: stages))
    return trials.count - 1
  }

  private func storedCheckpoint(_ key: String) -> TrainingCheckpoint? {
    guard let bytes = context.trials?.weights(key),
      let file = try? Safetensors(parsing: bytes, path: key)
    else { return nil }
    return try? TrainingCheckpoint(file, path: key)
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
      model = try training(trial.settings, data, own).model
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
  private func letGo() {
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

extension TrainingCheckpoint {
  /// The figures of a network that has come this far.
  fileprivate func record(
    _ settings: PolicySettings, seconds: Double, at: Double
  ) -> TrialRecord {
    let epochs = settings.optionalInteger("n_epochs") ?? max(1, epoch)
    var record = TrialRecord(
      values: settings.values, share: Double(epoch) / Double(epochs), ndcg: bestNDCG, recall: 0,
      seconds: seconds)
    record.policy = settings.policy.name
    record.name = settings.name
    record.at = at
    return record
  }
}
