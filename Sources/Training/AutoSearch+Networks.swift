import Domain
import Models

/// Networks: how long each is trained, and how one that an earlier search has left goes on.
extension AutoSearch {
  /// The default network to its end, then others by successive halving.
  func searchNetworks(
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
    var draws = 0
    // Each kind of network to its end where there is time: they learn at paces of their own, and one
    // that has the best end may look worst at first. One that reads times is tried sooner than others:
    // it knows what no other model of the search does.
    for settings in waiting.prefix(candidates.kindCount) {
      let readsTimes = settings.policy.name == HSTUTraining.description.name
      guard end - spent >= (readsTimes ? 2 : 4) * full else { break }
      _ = try advance(settings, nil, to: 4 * full, until: end)
      waiting = waiting.dropFirst()
    }
    while !waiting.isEmpty, end - spent > 0.1 * full, end - spent > 0.02 * budget {
      let left = end - spent
      let plan = HalvingPlan(full: full, left: left)
      let taken = waiting.prefix(plan.count)
      waiting = waiting.dropFirst(plan.count)
      var alive: [(settings: PolicySettings, place: Int?)] = taken.map { settings in
        draws += 1
        return (candidates.improved(network: settings, number: draws, trials, networks), nil)
      }
      for rung in plan.rungs {
        alive = Array(alive.prefix(rung.count))
        for i in alive.indices {
          alive[i].place = try advance(
            alive[i].settings, alive[i].place,
            to: rung.seconds * pace(of: alive[i].settings.policy.name, beside: full), until: end)
        }
        alive = alive.filter { $0.place != nil }.sorted { ndcg($0.place) > ndcg($1.place) }
      }
      let leading = networks.sorted { ndcg($0) > ndcg($1) }.prefix(4)
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

  /// How much longer networks of a policy take to their end than the first one, as far as is known.
  private func pace(of policy: String, beside full: Double) -> Double {
    let own = networks.filter {
      trials[$0].isComplete && trials[$0].settings.policy.name == policy
    }.map { trials[$0].record.seconds }
    return min(4, max(1, (own.max() ?? full) / full))
  }

  func ndcg(_ place: Int?) -> Double { place.map { trials[$0].record.ndcg } ?? -1 }

  // MARK: One network

  /// Trains a network, or goes on with one, until it has had so many seconds.
  ///
  /// What an earlier search has kept of it is taken stage by stage, so that this search takes the same
  /// course; training goes on where that ended.
  ///
  /// - Returns: its place among the trials; nil where it could not be trained.
  func advance(
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
  func take(_ stage: TrialRecord, _ place: Int, after had: Double) {
    keptSeconds += stage.seconds - had
    trials[place].record = stage
    trials[place].ahead.removeFirst()
    if !stage.isPartial { trials[place].stages.append(stage) }
    trials[place].isComplete = trials[place].ahead.isEmpty && stage.share >= 1
    if !networks.contains(place) { networks.append(place) }
  }

  func train(
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
    // A fifth better than at half the time.
    let half = trained.epochs.prefix((trained.epochs.count + 1) / 2).compactMap(\.validationNDCG)
    record.isRising =
      !isComplete && trained.epochs.count > 1 && (half.max() ?? 0) < 0.8 * record.ndcg
    record.share = isComplete ? 1 : Double(trained.epochs.count) / Double(epochs)
    record.policy = tried.policy.name
    record.name = tried.name
    record.at = spent
    var trial = Trial(
      settings: tried, record: record, model: trained.model, checkpoint: last,
      isComplete: isComplete, key: key, stages: stages + [record])
    trial.bestEpoch = trained.bestEpoch
    trial.epochCount = trained.epochs.count
    if let place { trials[place] = trial } else { trials.append(trial) }
    let now = place ?? trials.count - 1
    if !networks.contains(now) { networks.append(now) }
    if let last { keep(trial.stages, last, key) }
    letGo()
    return now
  }

  func keep(_ stages: [TrialRecord], _ checkpoint: TrainingCheckpoint, _ key: String) {
    guard let store = context.trials else { return }
    store.keep(weights: checkpoint.bytes, key)
    store.keep(["stages": .array(stages.map(\.json))], key)
  }

  /// A network that an earlier search has trained, before its first stage.
  func restored(_ tried: PolicySettings, _ key: String) -> Int? {
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

  func storedCheckpoint(_ key: String) -> TrainingCheckpoint? {
    guard let bytes = context.trials?.weights(key),
      let file = try? Safetensors(parsing: bytes, path: key)
    else { return nil }
    return try? TrainingCheckpoint(file, path: key)
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

/// How many networks start together, and how many go on for how long.
package struct HalvingPlan {
  /// Networks that start.
  package let count: Int
  /// The first ones of those that are left go on until they have had so many seconds.
  package let rungs: [(count: Int, seconds: Double)]

  /// - Parameters:
  ///   - full: seconds that the first network took to its end.
  ///   - left: seconds that there are.
  package init(full: Double, left: Double) {
    if left >= 20 * full {
      // Where there is time, nothing is dropped before it has had a fair part of a whole training.
      // This costs up to 16 of them.
      count = 9
      rungs = [(9, full / 2), (6, 1.5 * full), (3, 4 * full)]
    } else {
      // Nine at a ninth of the time, three at a third, one to the end cost 2.3 trainings.
      count = max(1, min(9, Int(left / (0.26 * full))))
      rungs = [(count, full / 9), ((count + 2) / 3, full / 3), (1, full)]
    }
  }
}
