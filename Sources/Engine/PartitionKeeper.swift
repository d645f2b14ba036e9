import Domain
import Kernels
import Logging
import State
import Storage
import VectorIndex

/// Keeps the partition of a model's vectors: reads the one that is stored, or makes and stores one.
///
/// Searches are exact until it is there, and go on being exact where it cannot be made or stored: a
/// partition makes a large catalogue quicker and is never needed.
struct PartitionKeeper {
  let queue: TrainingQueue
  let engine: ServedEngine
  let model: ServedModel
  let logger: Logger

  private var settings: VectorSearchSettings { engine.serving.vectorSearch }
  private var name: String { "\(engine.name)/\(model.name)" }

  /// Whether searches are to go by a partition that is not there yet.
  var isNeeded: Bool {
    settings.partitions(model.vocabulary.count) && model.index?.isFinite ?? false
      && model.partition == nil
  }

  /// Takes up the stored partition, where there is one that fits the model.
  ///
  /// What is damaged or made for other vectors is reported and left to be made again.
  func load(_ kernels: Kernels) {
    guard isNeeded, let vectors = model.tokenIndex(SearchKernels(kernels)),
      let entry = try? queue.log.entry(kind: RegistryKind.partition, name: name),
      let artifact = (try? JSON(parsing: entry.json))?["artifact"]?.string
    else { return }
    do {
      let bytes = try queue.artifacts.read(artifact)
      let partition = try Partition(
        parsing: bytes, rows: vectors, path: artifact)
      guard partition.rowCount == model.vocabulary.count, partition.target == settings.recall else {
        return
      }
      if model.use(partition) { tell("is read", partition, seconds: nil) }
    } catch {
      let problem = (error as? FormatError)?.diagnostic ?? (error as? Diagnostic)
      let message = problem?.description ?? "\(error)"
      logger.warning(
        "An index is made again", metadata: ["engine": "\(name)", "error": "\(message)"])
      engine.updateStatus { status in
        status.note(
          "The index of `\(model.name)` cannot be read and is made again; searches are exact until "
            + "then. \(message)", component: "index", at: .now(), level: "WARNING")
      }
    }
  }

  /// Makes the partition and stores it, on a thread that may take its time.
  func make(_ kernels: Kernels, goesOn: () -> Bool) throws {
    guard isNeeded, let vectors = model.tokenIndex(SearchKernels(kernels)) else { return }
    let clock = ContinuousClock()
    let started = clock.now
    var made = Partition.Settings()
    made.recall = settings.recall
    let state = engine.snapshot
    let partition = Partition.make(
      of: vectors, kernels: kernels,
      queries: model.sampleQueries(made.sampledQueries, of: state), settings: made,
      goesOn: { _ in goesOn() })
    guard let partition, goesOn() else { return }
    try queue.naming {
      let artifact = try queue.keep(partition.bytes, suffix: "riffleiv")
      let entry: JSON = ["artifact": .string(artifact)]
      try queue.log.setEntryAndWait(
        RegistryEntry(kind: RegistryKind.partition, name: name, json: entry.text))
    }
    try queue.removeUnusedArtifacts()
    let elapsed = (clock.now - started).components
    if model.use(partition) {
      tell(
        "is made", partition, seconds: Double(elapsed.seconds) + Double(elapsed.attoseconds) / 1e18)
    }
  }

  private func tell(_ what: String, _ partition: Partition, seconds: Double?) {
    let recall = partition.steps.first?.recall ?? 1
    let took = seconds.map { " in \(($0 * 10).rounded() / 10) s" } ?? ""
    engine.updateStatus { status in
      status.note(
        "The index of `\(model.name)` \(what)\(took): \(partition.listCount) lists of "
          + "\(partition.rowCount) vectors, measured recall \((recall * 10_000).rounded() / 10_000).",
        component: "index", at: .now())
    }
    logger.info("An index \(what)", metadata: ["engine": "\(name)", "recall": "\(recall)"])
  }
}

extension FormatError {
  /// The problem as a person is told of it.
  var diagnostic: Diagnostic {
    Diagnostic(
      .internalError, code: "index_damaged", description, at: path,
      help: "It is made again by itself; until then searches are exact.")
  }
}
