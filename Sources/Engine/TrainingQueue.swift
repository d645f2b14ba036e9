import Dispatch
package import Domain
import Foundation
package import Kernels
import Logging
import Models
import State
import Storage
import Synchronization
import Training

/// Trains engines one after another on a thread of its own, below the priority of serving, and
/// publishes what comes out.
final class TrainingQueue: Sendable {
  private enum Job {
    case training(ServedEngine)
    /// Indexes of a published generation that are not there yet.
    case indexes(ServedEngine)
  }

  private struct Queue {
    var waiting: [Job] = []
    var isRunning = false
    var isStopped = false
  }

  /// Training stands back for serving by this much.
  private static let niceness: Int32 = 10

  let log: LogStore
  let artifacts: ArtifactStore
  private let threads: Int
  private let logger: Logger
  private let queue = Mutex(Queue())
  /// Held while files are written that nothing names yet, and while unnamed files are removed.
  private let artifactsInUse = Mutex(())
  private let idle = DispatchGroup()

  init(log: LogStore, threads: Int?, logger: Logger) {
    self.log = log
    self.logger = logger
    artifacts = ArtifactStore(log.directory)
    self.threads = threads ?? allowedCoreCount
  }

  /// Puts an engine's training at the end of the queue.
  func schedule(_ engine: ServedEngine) {
    engine.updateStatus { status in
      status.state = .scheduling
      status.error = nil
      status.note("Training waits for its turn.", component: "trainer", at: .now())
    }
    enqueue(.training(engine))
  }

  /// Makes the indexes that a published generation lacks, in the background.
  func scheduleIndexes(of engine: ServedEngine) {
    let models = engine.generation?.models ?? []
    guard models.contains(where: { keeper($0, of: engine).isNeeded }) else { return }
    enqueue(.indexes(engine))
  }

  private func enqueue(_ job: Job) {
    let mustStart = queue.withLock { queue in
      if queue.isStopped { return false }
      queue.waiting.append(job)
      defer { queue.isRunning = true }
      return !queue.isRunning
    }
    guard mustStart else { return }
    idle.enter()
    let thread = Thread { [self] in
      lowerPriority(by: Self.niceness)
      while let job = next() {
        switch job {
        case .training(let engine): run(engine)
        case .indexes(let engine): makeIndexes(of: engine)
        }
      }
      idle.leave()
    }
    thread.name = "riffle training"
    thread.stackSize = 8 << 20
    thread.start()
  }

  private func next() -> Job? {
    queue.withLock { queue in
      if queue.isStopped || queue.waiting.isEmpty {
        queue.isRunning = false
        return nil
      }
      return queue.waiting.removeFirst()
    }
  }

  /// Lets the running training end at its next step, and waits for that.
  func stop() {
    queue.withLock { queue in
      queue.isStopped = true
      queue.waiting = []
    }
    idle.wait()
  }

  private var isStopped: Bool { queue.withLock { $0.isStopped } }

  // MARK: training

  private struct Stopped: Error {}

  private func run(_ engine: ServedEngine) {
    do {
      try trainAndPublish(engine)
    } catch is Stopped {
      logger.info("Training was stopped", metadata: ["engine": "\(engine.name)"])
    } catch {
      let message = (error as? Diagnostics)?.description ?? "\(error)"
      logger.error(
        "Training failed", metadata: ["engine": "\(engine.name)", "error": "\(message)"])
      engine.updateStatus { status in
        // A generation that was published before goes on serving.
        status.state = engine.generation == nil ? .error : .active
        status.error = message
        status.progress = nil
        status.note(message, component: "trainer", at: .now(), level: "ERROR")
      }
    }
  }

  private func trainAndPublish(_ engine: ServedEngine) throws {
    let state = engine.snapshot
    engine.updateStatus { status in
      status.state = .training
      status.note(
        "Training on \(state.interactionCount) events of \(state.userCount) users, log position "
          + "\(state.through.rawValue).", component: "trainer", at: .now())
    }
    let kernels = try chosenKernels()
    var models: [StoredModel] = []
    for policy in engine.configuration.models {
      models.append(try train(policy, of: engine, on: state, after: models, kernels))
    }
    let stored = StoredGeneration(
      number: (engine.generation?.number ?? 0) + 1, through: state.through, trainedAt: .now(),
      models: models)
    if engine.isRetired { throw Stopped() }
    try naming { try store(stored, of: engine) }
    try removeUnusedArtifacts()
    publish(stored, of: engine, kernels: kernels)
    logger.info(
      "Published a generation",
      metadata: ["engine": "\(engine.name)", "generation": "\(stored.number)"])
    makeIndexes(of: engine)
  }

  private func keeper(_ model: ServedModel, of engine: ServedEngine) -> PartitionKeeper {
    PartitionKeeper(queue: self, engine: engine, model: model, logger: logger)
  }

  private func makeIndexes(of engine: ServedEngine) {
    for model in engine.generation?.models ?? [] {
      do {
        try keeper(model, of: engine).make(try chosenKernels()) { !isStopped && !engine.isRetired }
      } catch {
        logger.error(
          "An index was not made", metadata: ["engine": "\(engine.name)", "error": "\(error)"])
        engine.updateStatus { status in
          status.note(
            "The index of `\(model.name)` was not made, so searches stay exact: \(error)",
            component: "index", at: .now(), level: "ERROR")
        }
      }
    }
  }

  private func train(
    _ policy: PolicySettings, of engine: ServedEngine, on state: StateSnapshot,
    after earlier: [StoredModel], _ kernels: Kernels
  ) throws -> StoredModel {
    let data = TrainingData(state, policy)
    var training = ModelTraining(
      policy: policy, threads: threads, niceness: Self.niceness, kernels: kernels)
    training.parts = parts(of: policy, earlier, data.vocabulary)
    training.isPart = engine.configuration.isPart(policy.name)
    training.tuning = engine.configuration.tuning ?? TuningSettings()
    training.trials = TrialFolder(path: "\(log.directory.path)/trials")
    let circumstances = training.circumstances(data)
    let keeper = CheckpointKeeper(
      self, name: "\(engine.name)/\(policy.name)", policy: policy, circumstances: circumstances)
    let checkpoint = keeper.load()
    if let checkpoint {
      engine.updateStatus { status in
        status.note(
          "Training goes on after epoch \(checkpoint.epoch), where an earlier process left it.",
          component: policy.name, at: .now())
      }
    }
    let outcome: ModelTraining.Outcome
    do {
      outcome = try training.run(
        data,
        estimated: { estimate in
          engine.updateStatus { status in
            status.note(estimate.text, component: policy.name, at: .now())
          }
        }, from: checkpoint, saving: keeper.save
      ) { [self] progress in
        engine.updateStatus { $0.progress = progress }
        return !isStopped && !engine.isRetired
      }
    } catch is TrainingCancelled {
      throw Stopped()
    }
    keeper.remove()
    engine.updateStatus { status in
      for note in outcome.trained.notes {
        status.note(note, component: policy.name, at: .now())
      }
      status.note(outcome.summary, component: policy.name, at: .now())
    }
    return StoredModel(
      policy: policy, model: outcome.model, vocabulary: data.vocabulary,
      evaluation: outcome.evaluation.json, circumstances: circumstances)
  }

  /// The models that a policy may be made of: those with its vocabulary.
  private func parts(
    of policy: PolicySettings, _ earlier: [StoredModel], _ vocabulary: [ItemID]
  ) -> [String: any Recommender] {
    Dictionary(
      uniqueKeysWithValues: earlier.filter { $0.vocabulary == vocabulary }
        .map { ($0.policy.name, $0.model) })
  }

  // MARK: publication

  private func publish(
    _ stored: StoredGeneration, of engine: ServedEngine, kernels: Kernels
  ) {
    // Laid over the newest catalog, which may have grown since the training began.
    let state = engine.snapshot
    let catalog = ServedModel.CatalogView(rowCount: state.itemCount) { state.row(of: $0) }
    let generation = Generation(
      number: stored.number, through: stored.through, trainedAt: stored.trainedAt,
      models: stored.models.map { model in
        ServedModel(
          name: model.policy.name, policy: model.policy, model: model.model,
          vocabulary: model.vocabulary, evaluation: model.evaluation, catalog: catalog,
          kernels: kernels)
      })
    for model in generation.models { keeper(model, of: engine).load(kernels) }
    engine.publish(generation)
    engine.updateStatus { status in
      status.state = .active
      status.error = nil
      status.progress = nil
      status.note("Generation \(stored.number) serves.", component: "trainer", at: .now())
    }
  }

  /// Removes the artifacts that no engine's generation and no checkpoint names. Engines of equal
  /// settings and data share theirs.
  func removeUnusedArtifacts() throws {
    try artifactsInUse.withLock { _ in try removeUnnamed() }
  }

  /// Writes artifacts and the registry's entry that names them, as one for those who tidy up.
  func naming<Result>(_ body: () throws -> Result) rethrows -> Result {
    try artifactsInUse.withLock { _ in try body() }
  }

  private func removeUnnamed() throws {
    var used: Set<String> = []
    for entry in try log.entries(kind: RegistryKind.generation) {
      for name in (try? JSON(parsing: entry.json))?["models"]?.array?.compactMap(\.string) ?? [] {
        used.insert(name)
        let document = (try? artifacts.read(name)).flatMap { try? JSON(parsing: $0) }
        if let weights = document?["weights"]?.string { used.insert(weights) }
      }
    }
    for entry in try log.entries(kind: RegistryKind.checkpoint) {
      if let name = (try? JSON(parsing: entry.json))?["artifact"]?.string { used.insert(name) }
    }
    for entry in try log.entries(kind: RegistryKind.partition) {
      if let name = (try? JSON(parsing: entry.json))?["artifact"]?.string { used.insert(name) }
    }
    for name in artifacts.names() where !used.contains(name) { artifacts.remove(name) }
  }

  /// Writes the artifacts first and the entry that makes them valid last.
  private func store(_ generation: StoredGeneration, of engine: ServedEngine) throws {
    var names: [JSON] = []
    for model in generation.models {
      let weights = try keep(model.model.safetensors().bytes, suffix: "safetensors")
      let document = model.json(weights: weights, through: generation.through)
      names.append(.string(try keep(document.utf8, suffix: "json")))
    }
    let entry: JSON = [
      "number": .int(Int64(generation.number)),
      "through": .int(generation.through.rawValue),
      "trained_at_us": .int(generation.trainedAt.microsecondsSinceEpoch),
      "models": .array(names),
    ]
    try log.setEntryAndWait(
      RegistryEntry(kind: RegistryKind.generation, name: engine.name, json: entry.text))
  }

  /// Writes an artifact. A file that bears its name already but is damaged is written anew: equal
  /// training gives equal bytes, and with them the same name.
  func keep(_ bytes: [UInt8], suffix: String) throws(Diagnostic) -> String {
    let name = try artifacts.write(bytes, suffix: suffix)
    if (try? artifacts.read(name)) != nil { return name }
    artifacts.remove(name)
    return try artifacts.write(bytes, suffix: suffix)
  }

  /// Publishes the generation that an earlier process has stored.
  ///
  /// - Returns: false where there is none.
  func restore(_ engine: ServedEngine) throws -> Bool {
    guard let entry = try log.entry(kind: RegistryKind.generation, name: engine.name) else {
      return false
    }
    let json = try JSON(parsing: entry.json)
    guard let number = json["number"]?.int, let through = json["through"]?.int,
      let trainedAt = json["trained_at_us"]?.int, let names = json["models"]?.array
    else {
      throw Diagnostic(
        .internalError, code: "registry_damaged",
        "The record of the engine `\(engine.name)`'s generation cannot be read.",
        help: "Restore the last backup of the data directory.")
    }
    let kernels = try chosenKernels()
    var models: [StoredModel] = []
    for name in names.compactMap(\.string) {
      let document = try JSON(parsing: try artifacts.read(name))
      guard let policyName = document["name"]?.string,
        let policy = engine.configuration.model(named: policyName),
        let weights = document["weights"]?.string, let vocabulary = document["vocabulary"]?.array
      else {
        throw Diagnostic(
          .internalError, code: "registry_damaged", "The artifact `\(name)` describes no model.",
          help: "Restore the last backup of the data directory.")
      }
      let file = try Safetensors(parsing: try artifacts.read(weights), path: weights)
      models.append(
        StoredModel(
          policy: policy,
          model: try RecommenderFiles.restore(file, path: weights, kernels: kernels),
          vocabulary: vocabulary.compactMap { $0.string.map { ItemID($0) } },
          evaluation: document["evaluation"] ?? .null,
          circumstances: TrainingCircumstances(document)
            ?? TrainingCircumstances(threads: 0, kernels: "", fingerprint: 0)))
    }
    let stored = StoredGeneration(
      number: Int(number), through: LogPosition(through),
      trainedAt: Timestamp(microsecondsSinceEpoch: trainedAt), models: models)
    publish(stored, of: engine, kernels: kernels)
    return true
  }
}

/// The kernels for this processor, or those that `RIFFLE_KERNELS` names.
package func chosenKernels() throws(Diagnostic) -> Kernels {
  let environment = ProcessInfo.processInfo.environment
  if let kernels = Kernels(environment: environment) { return kernels }
  throw Diagnostic(
    code: "unknown_kernels",
    "RIFFLE_KERNELS names `\(environment["RIFFLE_KERNELS"] ?? "")`, which does not run here.",
    at: "RIFFLE_KERNELS",
    help: "It may be one of \(Kernels.available.map { "`\($0)`" }.joined(separator: ", ")).")
}
