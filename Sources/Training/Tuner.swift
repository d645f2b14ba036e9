import Dispatch
package import Domain
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

/// One training of a search.
package struct TrialRecord: Hashable, Sendable {
  /// The values that were drawn, by the hyper-parameter's name.
  package var values: [String: Hyperparameter.Value]
  /// The share of the full number of epochs, in `0...1`.
  package var share: Double
  package var ndcg: Double
  package var recall: Double
  package var seconds: Double
  /// Whether an earlier search had done it.
  package var isKept = false

  package var json: JSON {
    [
      "values": .object(
        values.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value.json) }),
      "share": .double(share), "ndcg_at_10": .double(ndcg), "recall_at_10": .double(recall),
      "seconds": .double(seconds), "kept": .bool(isKept),
    ]
  }

  /// Reads figures that `json` wrote; the values are those of the search.
  init?(_ json: JSON, values: [String: Hyperparameter.Value]) {
    guard let share = json["share"]?.number, let ndcg = json["ndcg_at_10"]?.number,
      let recall = json["recall_at_10"]?.number, let seconds = json["seconds"]?.number
    else { return nil }
    self.init(values: values, share: share, ndcg: ndcg, recall: recall, seconds: seconds)
    isKept = true
  }

  package init(
    values: [String: Hyperparameter.Value], share: Double, ndcg: Double, recall: Double,
    seconds: Double
  ) {
    self.values = values
    self.share = share
    self.ndcg = ndcg
    self.recall = recall
    self.seconds = seconds
  }
}

/// Where a search keeps what it has done, by the hash of all that it depends on. A search that was
/// killed finds its trials here and goes on.
package protocol TrialStore: Sendable {
  func trial(_ key: String) -> JSON?
  func keep(_ trial: JSON, _ key: String)
  func weights(_ key: String) -> [UInt8]?
  func keep(weights: [UInt8], _ key: String)
}

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
        for job in try run(batch, policy, data, context, left: secondsAtMost.map { $0 - spent() }) {
          guard let record = job.record, let trained = job.trained else { continue }
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
    let defaults = searched.compactMap { name, search -> (String, Hyperparameter.Value)? in
      let value = settings.values[name] ?? settings.policy.parameter(name)?.defaultValue
      return value.flatMap { search.holds($0) ? (name, $0) : nil }
    }
    if defaults.count == searched.count {
      values.append(Dictionary(uniqueKeysWithValues: defaults))
    }
    for _ in 0..<jobs * 20 where values.count < jobs {
      var next: [String: Hyperparameter.Value] = [:]
      for (name, search) in searched { next[name] = search.draw(using: &generator) }
      if !values.contains(next) { values.append(next) }
    }
    return values
  }

  private func run(
    _ jobs: [Job], _ policy: any Policy.Type, _ data: TrainingSet, _ context: TrainingContext,
    left: Double?
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
        let done = try one(jobs[place], policy, data, own)
        results.withLock { $0[place] = done }
      } catch {
        problem.withLock { $0 = $0 ?? error }
      }
    }
    if let problem = problem.withLock({ $0 }) { throw problem }
    return results.withLock { $0 }
  }

  private func one(
    _ job: Job, _ policy: any Policy.Type, _ data: TrainingSet, _ context: TrainingContext
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
    let key = Self.key(tried, data, context)
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
    let record = TrialRecord(
      values: job.values, share: job.share, ndcg: judged.mean(.ndcg, at: 10),
      recall: judged.mean(.recall, at: 10), seconds: trained.secondsTraining)
    store?.keep(weights: trained.model.safetensors().bytes, key)
    store?.keep(record.json, key)
    job.record = record
    job.trained = trained
    return job
  }

  /// A name for everything that a trial depends on: settings, events, threads and kernels.
  private static func key(
    _ settings: PolicySettings, _ data: TrainingSet, _ context: TrainingContext
  ) -> String {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    for byte in "\(settings.key) \(context.threads) \(context.kernels.name)".utf8 { mix(byte) }
    let events = SequenceDataset(
      itemCount: data.itemCount, sequences: data.sequences,
      times: data.histories.contains { $0.times != nil }
        ? data.histories.map { Array($0.times ?? []) } : nil)
    for shift in stride(from: UInt64(0), to: 64, by: 8) {
      mix(UInt8(truncatingIfNeeded: events.fingerprint >> shift))
    }
    for one in data.validation { for target in one.targets { mix(UInt8(target.rawValue & 255)) } }
    return String(hash, radix: 16)
  }
}

extension Hyperparameter.Search {
  func holds(_ value: Hyperparameter.Value) -> Bool {
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
