import Dispatch
import Domain
import Evaluation
import Kernels
package import Models
import Neural
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Searches the values of hyper-parameters by successive halving on the validation events.
///
/// The first try has the default of each searched setting, the others are drawn. Where training has
/// epochs, all start with a ninth of them, the best third goes on with a third, and the best third of
/// those with all.
///
/// - SeeAlso: Jamieson & Talwalkar, *Non-stochastic Best Arm Identification and Hyperparameter
///   Optimization*, AISTATS 2016. Each rung trains anew, so that learning-rate schedules fit it.
package struct Tuner {
  package var settings: PolicySettings
  package var jobs: Int
  package var parallelJobs: Int
  /// No training starts after this; those that run are told to end.
  package var secondsAtMost: Double?
  package var store: (any TrialStore)?

  package init(
    _ settings: PolicySettings, jobs: Int, parallelJobs: Int = 1, secondsAtMost: Double? = nil,
    store: (any TrialStore)? = nil
  ) {
    self.settings = settings
    self.jobs = jobs
    self.parallelJobs = parallelJobs
    self.secondsAtMost = secondsAtMost
    self.store = store
  }

  private struct Job: Sendable {
    var values: [String: Hyperparameter.Value]
    var share: Double
    var record: TrialRecord?
    var trained: TrainedModel?
  }

  /// Searches and gives the best model of the full number of epochs, or of as many as time allowed.
  package func train(_ data: TrainingSet, _ context: TrainingContext) throws -> TrainedModel {
    guard let policy = Policies.named(settings.policy.name), !data.validation.isEmpty else {
      throw nothingToLearn(settings, data)
    }
    let clock = ContinuousClock()
    let started = clock.now
    func spent() -> Double { seconds(clock.now - started) }
    let keys = TrialKeys(data, context)
    var records: [TrialRecord] = []
    var best: (record: TrialRecord, trained: TrainedModel)?
    var waiting = drawn()
    let rungs: [Double] = epochParameter == nil ? [1] : [1.0 / 9, 1.0 / 3, 1]
    for share in rungs {
      var done: [Job] = []
      for start in stride(from: 0, to: waiting.count, by: parallelJobs) {
        if let limit = secondsAtMost, spent() >= limit, best != nil { break }
        try context.report(
          epoch: 1, step: min(999, records.count * 1000 / max(1, jobs * 2)), steps: 1000)
        let batch = waiting[start..<min(waiting.count, start + parallelJobs)].map {
          Job(values: $0, share: share)
        }
        for job in try run(
          batch, policy, data, context, keys, left: secondsAtMost.map { $0 - spent() })
        {
          guard var record = job.record, let trained = job.trained else { continue }
          record.at = spent()
          records.append(record)
          done.append(job)
          if best.map({ record.share > $0.record.share || record.ndcg > $0.record.ndcg }) ?? true {
            best = (record, trained)
          }
        }
      }
      done.sort { ($0.record?.ndcg ?? 0) > ($1.record?.ndcg ?? 0) }
      waiting = done.prefix(max(1, (done.count + 2) / 3)).map(\.values)
    }
    guard let best else { throw nothingToLearn(settings, data) }
    var trained = best.trained
    trained.trials = records
    trained.chosen = settings
    trained.chosen?.searches = [:]
    trained.chosen?.values.merge(best.record.values) { $1 }
    trained.secondsTraining = spent()
    let values = best.record.values.sorted { $0.key < $1.key }.map {
      "\($0.key) \($0.value.json.text)"
    }
    trained.summary =
      "Tried \(records.count) trainings in \(text(seconds: spent())); best on the validation events "
      + "(NDCG@10 \(fixed(best.record.ndcg, 4))): \(values.joined(separator: ", "))."
    trained.notes = Self.table(records)
    return trained
  }

  /// The trials as lines of a table, best first.
  package static func table(_ records: [TrialRecord]) -> [String] {
    let sorted = records.sorted { ($1.share, $1.ndcg) < ($0.share, $0.ndcg) }
    return ["epochs  NDCG@10  Recall@10  seconds  values"]
      + sorted.map { record in
        let values = record.values.sorted { $0.key < $1.key }.map {
          "\($0.key)=\($0.value.json.text)"
        }
        return "\(fixed(record.share * 100, 0)) %  \(fixed(record.ndcg, 4))  "
          + "\(fixed(record.recall, 4))  \(fixed(record.seconds, 1))  "
          + values.joined(separator: " ") + (record.isKept ? "  (kept)" : "")
      }
  }

  /// The hyper-parameter that says how long training goes on, where it is not itself searched.
  private var epochParameter: Hyperparameter? {
    for name in ["n_epochs", "iterations"] {
      if let parameter = settings.policy.parameter(name), settings.searches[parameter.name] == nil {
        return parameter
      }
    }
    return nil
  }

  /// The values of each job: the defaults first, then draws without repetition.
  private func drawn() -> [[String: Hyperparameter.Value]] {
    var generator = SplitMix64(seed: 1)
    let searched = settings.searches.sorted { $0.key < $1.key }
    var values: [[String: Hyperparameter.Value]] = []
    // What has no default is left out, as the policy would do without a search.
    let defaults = searched.compactMap { name, search -> (String, Hyperparameter.Value, Bool)? in
      let value = settings.values[name] ?? settings.policy.parameter(name)?.defaultValue
      return value.map { (name, $0, search.holds($0)) }
    }
    if defaults.allSatisfy(\.2) {
      values.append(Dictionary(uniqueKeysWithValues: defaults.map { ($0.0, $0.1) }))
    }
    let policy = Policies.named(settings.policy.name)
    for _ in 0..<jobs * 20 where values.count < jobs {
      var next: [String: Hyperparameter.Value] = [:]
      for (name, search) in searched { next[name] = search.draw(using: &generator) }
      var tried = settings
      tried.values.merge(next) { $1 }
      if !values.contains(next), policy?.problem(tried) == nil { values.append(next) }
    }
    return values
  }

  private func run(
    _ jobs: [Job], _ policy: any Policy.Type, _ data: TrainingSet, _ context: TrainingContext,
    _ keys: TrialKeys, left: Double?
  ) throws -> [Job] {
    let threads = max(1, context.threads / max(1, jobs.count))
    let problem = Mutex<(any Error)?>(nil)
    let results = Mutex(jobs)
    let shared = UncheckedSendable(context)
    // Progress is asked by several threads at once; one after another gets its answer.
    let gate = Mutex(())
    DispatchQueue.concurrentPerform(iterations: jobs.count) { place in
      var own = shared.value
      own.threads = threads
      own.checkpoint = nil
      own.saving = nil
      own.estimated = nil
      own.secondsAtMost = left
      let progress = shared.value.progress
      own.progress = { state in gate.withLock { _ in progress(state) } }
      do {
        let done = try one(jobs[place], policy, data, own, keys)
        results.withLock { $0[place] = done }
      } catch {
        problem.withLock { $0 = $0 ?? error }
      }
    }
    if let problem = problem.withLock({ $0 }) { throw problem }
    return results.withLock { $0 }
  }

  private func one(
    _ job: Job, _ policy: any Policy.Type, _ data: TrainingSet, _ context: TrainingContext,
    _ keys: TrialKeys
  ) throws -> Job {
    var tried = settings
    tried.searches = [:]
    for (name, value) in job.values { tried.values[name] = value }
    if job.share < 1, let parameter = epochParameter,
      case .integer(let epochs) = tried[parameter.name]
    {
      tried.values[parameter.name] = .integer(max(1, Int(Double(epochs) * job.share)))
    }
    if policy.problem(tried) != nil { return job }
    var job = job
    let key = keys.key(tried)
    if let kept = store?.trial(key).flatMap({ TrialRecord($0, values: job.values) }),
      let bytes = store?.weights(key),
      let file = try? Safetensors(parsing: bytes, path: key),
      let model = try? RecommenderFiles.restore(file, path: key, kernels: context.kernels)
    {
      job.record = kept
      job.trained = TrainedModel(model, secondsTraining: kept.seconds, summary: "")
      return job
    }
    let trained = try policy.train(data, tried, context)
    let judged = context.withPool { rankings(data.validation, by: trained.model, pool: $0) }
    var record = TrialRecord(
      values: job.values, share: job.share, ndcg: judged.mean(.ndcg, at: 10),
      recall: judged.mean(.recall, at: 10), seconds: trained.secondsTraining)
    record.policy = tried.policy.name
    record.name = tried.name
    store?.keep(weights: trained.model.safetensors().bytes, key)
    store?.keep(record.json, key)
    job.record = record
    job.trained = trained
    return job
  }
}

extension Hyperparameter.Search {
  package func holds(_ value: Hyperparameter.Value) -> Bool {
    switch (self, value) {
    case (.integers(let range, _), .integer(let value)): range.contains(value)
    case (.numbers(let range, _), .number(let value)): range.contains(value)
    case (.options(let options), _): options.contains(value)
    default: false
    }
  }

  func draw(using generator: inout SplitMix64) -> Hyperparameter.Value {
    let place = Double(generator.unitFloat())
    switch self {
    case .integers(let range, let logarithmic):
      let (low, high) = (Double(range.lowerBound), Double(range.upperBound) + 1)
      let value =
        logarithmic && low > 0
        ? exp(log(low) + place * (log(high) - log(low))) : low + place * (high - low)
      return .integer(min(range.upperBound, max(range.lowerBound, Int(value))))
    case .numbers(let range, let logarithmic):
      let (low, high) = (range.lowerBound, range.upperBound)
      let value =
        logarithmic && low > 0
        ? exp(log(low) + place * (log(high) - log(low))) : low + place * (high - low)
      return .number(min(high, max(low, value)))
    case .options(let options):
      return options[min(options.count - 1, Int(place * Double(options.count)))]
    }
  }
}
