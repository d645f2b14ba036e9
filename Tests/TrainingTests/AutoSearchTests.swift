import Domain
import Evaluation
import Kernels
import Models
import Synchronization
import Testing
import Training

/// Short histories with times, a few hundred events.
private func shop() -> TrainingSet {
  var generator = SeededWalk(state: 11)
  let sequences = (0..<80).map { _ in (0..<6).map { _ in ItemToken(generator.next(below: 25)) } }
  return TrainingSet(
    LeaveOneOut(
      SequenceDataset(
        itemCount: 25, sequences: sequences,
        times: sequences.map { one in
          one.indices.map { Timestamp(secondsSinceEpoch: Double($0) * 86_400) }
        })))
}

private struct SeededWalk {
  var state: UInt64
  mutating func next(below count: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int(state >> 33) % count
  }
}

/// Trainings that take no time but on a clock of their own.
private final class Workshop: TrialStore {
  let clock = Mutex(0.0)
  let figures = Mutex<[String: JSON]>([:])
  let files = Mutex<[String: [UInt8]]>([:])
  /// What was trained, by its settings, with the seconds that it took.
  let done = Mutex<[(settings: PolicySettings, seconds: Double, goesOn: Bool)]>([])
  let epochSeconds: Double
  /// Trainings before the process is killed.
  let killedAfter: Int

  init(epochSeconds: Double = 7, killedAfter: Int = .max) {
    self.epochSeconds = epochSeconds
    self.killedAfter = killedAfter
  }

  var now: Double { clock.withLock { $0 } }
  func pass(_ seconds: Double) { clock.withLock { $0 += seconds } }

  func trial(_ key: String) -> JSON? { figures.withLock { $0[key] } }
  func keep(_ trial: JSON, _ key: String) { figures.withLock { $0[key] = trial } }
  func weights(_ key: String) -> [UInt8]? { files.withLock { $0[key] } }
  func keep(weights: [UInt8], _ key: String) { files.withLock { $0[key] = weights } }

  /// A stand-in for every policy: networks have epochs, get better and can go on; the others take
  /// what they take, whatever is left.
  func train(
    _ settings: PolicySettings, _ data: TrainingSet, _ context: TrainingContext
  ) throws -> TrainedModel {
    if done.withLock({ $0.count }) >= killedAfter { throw TrainingCancelled() }
    let begun = now
    let popular = PolicySettings(PopularTraining.description)
    var trained = try PopularTraining.train(
      data, popular, TrainingContext(threads: 1, kernels: context.kernels))
    let isNetwork = settings.policy.parameter("early_stopping_step") != nil
    if isNetwork {
      var epoch = context.checkpoint?.epoch ?? 0
      let limit = context.secondsAtMost ?? .infinity
      while epoch < 60, epoch == 0 || now - begun + epochSeconds / 2 < limit {
        pass(epochSeconds)
        epoch += 1
        context.saving?(try Self.checkpoint(epoch))
      }
      let quality = 0.1 * Double(settings.key.utf8.reduce(0) { $0 &+ Int($1) } % 7 + 1)
      trained.epochs = (1...epoch).map {
        EpochRecord(
          epoch: $0, loss: 1, validationNDCG: quality * (1 - 1 / Double($0 + 1)),
          validationRecall: 0, seconds: epochSeconds)
      }
      trained.bestEpoch = epoch
    } else {
      pass(settings.policy.name == "elsa" ? 30 : 2)
    }
    done.withLock { $0.append((settings, now - begun, context.checkpoint != nil)) }
    return trained
  }

  static func checkpoint(_ epoch: Int) throws -> TrainingCheckpoint {
    var file = Safetensors()
    for name in ["parameters", "first", "second"] {
      file.tensors[name] = Safetensors.Tensor(shape: [1], values: .float32([0]))
    }
    file.metadata = ["checkpoint_version": "1", "epoch": String(epoch), "state": "{}"]
    return try TrainingCheckpoint(file, path: "test")
  }

  func search(minutes: Double, keepsTrials: Bool = true) throws -> AutoSearch {
    var context = TrainingContext(threads: 1, kernels: try #require(Kernels(environment: [:])))
    context.now = { self.now }
    if keepsTrials { context.trials = self }
    return AutoSearch(
      shop(), budget: minutes * 60, seed: 42, context: context, pool: WorkerPool(count: 1)
    ) { try self.train($0, $1, $2) }
  }
}

@Suite struct `The search of auto` {
  @Test(arguments: [0.5, 2, 10, 60, 600])
  func `keeps to its minutes, whatever an epoch takes`(minutes: Double) throws {
    for epochSeconds in [0.5, 7, 40] {
      let workshop = Workshop(epochSeconds: epochSeconds)
      let search = try workshop.search(minutes: minutes, keepsTrials: false)
      try search.run()
      let last = workshop.done.withLock { $0.map(\.seconds).max() ?? 0 }
      // Beyond the 91 % that are for trying, one training that knows no limit, or half an epoch.
      #expect(
        search.spent <= minutes * 60 * 0.91 + min(last, max(30, epochSeconds)),
        "\(epochSeconds) s an epoch: \(search.spent)")
      #expect(search.spent == workshop.now)
      #expect(!search.trials.isEmpty)
    }
  }

  @Test func `begins with the defaults, and gives a network most of the time`() throws {
    let workshop = Workshop()
    let search = try workshop.search(minutes: 10)
    try search.run()
    let done = workshop.done.withLock { $0 }
    #expect(done.first?.settings.policy.name == "popular")
    let networks = done.filter { $0.settings.policy.parameter("early_stopping_step") != nil }
    let first = try #require(networks.first?.settings)
    #expect(first.policy.name == "sasrec")
    #expect(
      Set(first.values.keys).isSubset(of: ["sample_seed", "max_seq_length"]), "the defaults first")
    let seconds = networks.filter { $0.settings == first }.reduce(0) { $0 + $1.seconds }
    #expect(seconds > 0.5 * 600)
    for policy in ["item-knn", "ease", "ngram"] {
      let own = done.first { $0.settings.policy.name == policy }?.settings
      #expect(own?.values.keys.allSatisfy { $0 == "neighbours" } == true, "\(policy)")
    }
  }

  @Test func `says what it passed over`() throws {
    let short = try Workshop().search(minutes: 2)
    try short.run()
    #expect(short.passedOver.contains { $0.contains("for lack of time") })
    #expect(!short.course.isEmpty)
  }

  @Test func `halves: many networks get little, few get all`() throws {
    let workshop = Workshop(epochSeconds: 1)
    try workshop.search(minutes: 20).run()
    var seconds: [String: Double] = [:]
    for one in workshop.done.withLock({ $0 })
    where one.settings.policy.parameter("early_stopping_step") != nil {
      seconds[one.settings.key, default: 0] += one.seconds
    }
    let most = seconds.values.max() ?? 0
    #expect(most == 60, "the default has all its epochs")
    #expect(seconds.values.filter { $0 < 10 }.count >= 6)
    #expect((2..<seconds.count / 2).contains(seconds.values.filter { $0 >= 55 }.count))
  }

  @Test(arguments: [1, 5, 10, 12, 15, 17])
  func `that was killed ends as the one that was not, and repeats nothing`(trainings: Int) throws {
    let whole = Workshop()
    let undisturbed = try whole.search(minutes: 10)
    try undisturbed.run()
    let killed = Workshop(killedAfter: trainings)
    let broken = try killed.search(minutes: 10)
    #expect(throws: TrainingCancelled.self) { try broken.run() }

    let after = Workshop()
    after.figures.withLock { $0 = killed.figures.withLock { $0 } }
    after.files.withLock { $0 = killed.files.withLock { $0 } }
    let resumed = try after.search(minutes: 10)
    try resumed.run()

    func figures(_ search: AutoSearch) -> [[String]] {
      search.trials.map { ["\($0.settings.key)", "\($0.record.ndcg)", "\($0.record.share)"] }
    }
    #expect(figures(resumed) == figures(undisturbed))
    let trained = killed.done.withLock { $0 } + after.done.withLock { $0 }
    #expect(trained.count == whole.done.withLock { $0.count })
    #expect(
      trained.reduce(0) { $0 + $1.seconds }
        == whole.done.withLock { $0.reduce(0) { $0 + $1.seconds } })
    #expect(resumed.trials.prefix(trainings / 2).allSatisfy { $0.record.isKept })
  }

  @Test func `gives the models of kept trials back`() throws {
    let first = Workshop()
    try first.search(minutes: 10).run()
    let again = Workshop()
    again.figures.withLock { $0 = first.figures.withLock { $0 } }
    again.files.withLock { $0 = first.files.withLock { $0 } }
    let search = try again.search(minutes: 10)
    try search.run()
    #expect(again.done.withLock { $0.isEmpty }, "all of it was kept")
    for place in search.trials.indices.prefix(12) { #expect(try search.model(place) != nil) }
    let networks = search.trials.indices.filter {
      search.trials[$0].settings.policy.name == "sasrec"
    }
    #expect(try search.model(try #require(networks.first)) != nil)
  }
}

@Suite struct `What auto chose` {
  /// A ring that everyone walks; the last two steps of each go to items that are nowhere else.
  private let data: TrainingSet = {
    var generator = SeededWalk(state: 5)
    let sequences = (0..<120).map { _ -> [ItemToken] in
      let start = generator.next(below: 60)
      return (0..<6).map { ItemToken((start + $0) % 60) } + [ItemToken(60), ItemToken(61)]
    }
    return TrainingSet(LeaveOneOut(SequenceDataset(itemCount: 62, sequences: sequences)))
  }()

  private func trained(refit: Bool = true, isPart: Bool = false) throws -> TrainedModel {
    var context = TrainingContext(threads: 2, kernels: try #require(Kernels(environment: [:])))
    context.isPart = isPart
    var settings = PolicySettings(AutoTraining.description, name: "auto", values: [:])
    settings.values["minutes"] = .number(0.05)
    settings.values["refit"] = .flag(refit)
    return try AutoTraining.train(data, settings, context)
  }

  private func ndcg(_ model: any Recommender) -> Double {
    let pool = WorkerPool(count: 1)
    defer { pool.shutDown() }
    return rankings(data.validation, by: model, pool: pool).mean(.ndcg, at: 10)
  }

  @Test func `learns the validation events last`() throws {
    let model = try trained()
    #expect(model.hasLearnedValidation)
    #expect(model.notes.contains { $0.contains("learned the validation events too") })
    // Item 60 is in no training event: only who has learned the validation events knows it.
    #expect(ndcg(model.model) > 0.3)
  }

  @Test func `leaves them alone where it is told to, and where others are made of it`() throws {
    for model in [try trained(refit: false), try trained(isPart: true)] {
      #expect(!model.hasLearnedValidation)
      #expect(ndcg(model.model) < 0.3)
    }
  }

  @Test func `leaves most of them out of a plan, and gives the rest their time`() {
    for (full, left) in [(1.0, 100.0), (10, 100), (100, 100), (1000, 100)] {
      let plan = HalvingPlan(full: full, left: left)
      #expect(plan.count >= 1 && plan.count <= 9 && plan.rungs[0].count == plan.count)
      var costs = 0.0
      var before = 0.0
      for (rung, next) in zip(plan.rungs, plan.rungs.dropFirst() + [(0, 0)]) {
        #expect(rung.count >= next.count)
        costs += Double(rung.count) * (rung.seconds - before)
        before = rung.seconds
      }
      #expect(costs <= max(left, 1.7 * full), "\(full) \(left)")
    }
  }
}

@Suite struct `Ranges of hyper-parameters` {
  @Test(arguments: Policies.names)
  func `hold the default and only what is allowed`(name: String) throws {
    let policy = try #require(Policies.named(name)).description
    for parameter in policy.parameters {
      guard let search = parameter.search else { continue }
      if let value = parameter.defaultValue {
        #expect(search.holds(value), "\(name).\(parameter.name) = \(value)")
      }
      switch search {
      case .integers(let range, _):
        #expect(
          parameter.allows(.integer(range.lowerBound))
            && parameter.allows(.integer(range.upperBound)), "\(name).\(parameter.name)")
      case .numbers(let range, _):
        #expect(
          parameter.allows(.number(range.lowerBound))
            && parameter.allows(.number(range.upperBound)),
          "\(name).\(parameter.name)")
      case .options(let options):
        #expect(options.allSatisfy(parameter.allows), "\(name).\(parameter.name)")
      }
    }
  }
}
