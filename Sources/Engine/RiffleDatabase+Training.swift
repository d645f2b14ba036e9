import Domain
import Models
import State
import Storage
import Training

/// What came of training a published model again.
package struct TrainingVerification: Sendable {
  package var model: String
  /// Whether the new weights are the published ones, bit for bit.
  package var isSame: Bool
  /// Why they cannot be expected to be, where something they depend on is different now.
  package var difference: String?
  package var seconds: Double
}

extension RiffleDatabase {
  /// Trains an engine again on the newest events and publishes the result, in the background; follow
  /// it by `ServedEngine.status`.
  package func retrain(_ engine: ServedEngine) { trainer.schedule(engine) }

  /// Trains the published generation's models again, on the events that they learned from, and
  /// compares the weights. Nothing is published.
  ///
  /// - Throws: `no_generation` where none is published; `TrainingCancelled`.
  package func verifyTraining(
    of engine: ServedEngine, progress: @escaping (EngineProgress) -> Bool
  ) throws -> [TrainingVerification] {
    guard let entry = try log.entry(kind: RegistryKind.generation, name: engine.name),
      let record = try? JSON(parsing: entry.json), let through = record["through"]?.int
    else {
      throw Diagnostic(
        .unavailable, code: "no_generation",
        "The engine `\(engine.name)` has no published generation to compare with.",
        help: "Let it train first: riffle train --engine-name \(engine.name) --data-dir \(path)")
    }
    let artifacts = ArtifactStore(log.directory)
    let state = try state(of: engine, through: LogPosition(through))
    let kernels = try chosenKernels()
    var trained: [String: (model: any Recommender, vocabulary: [ItemID])] = [:]
    return try (record["models"]?.array ?? []).compactMap(\.string).map { name in
      let document = try JSON(parsing: try artifacts.read(name))
      guard let policy = engine.configuration.model(named: document["name"]?.string ?? ""),
        let weights = document["weights"]?.string, let was = TrainingCircumstances(document)
      else {
        throw Diagnostic(
          .internalError, code: "registry_damaged",
          "The artifact `\(name)` does not say how its model was trained.",
          help: "Train the engine again; its model is then one that can be verified.")
      }
      let data = TrainingData(state, policy)
      var training = ModelTraining(
        policy: policy, threads: was.threads, niceness: 0, kernels: kernels)
      training.parts = trained.filter { $0.value.vocabulary == data.vocabulary }
        .mapValues { $0.model }
      training.isPart = engine.configuration.isPart(policy.name)
      training.tuning = engine.configuration.tuning ?? TuningSettings()
      let now = training.circumstances(data)
      let clock = ContinuousClock()
      let started = clock.now
      let outcome = try training.run(data, progress: progress)
      let elapsed = clock.now - started
      trained[policy.name] = (outcome.model, data.vocabulary)
      let isSame = outcome.model.safetensors().bytes == (try artifacts.read(weights))
      var difference: String?
      if now.fingerprint != was.fingerprint {
        difference =
          "the events up to position \(through) are not those of the training: rows with a unique key"
          + " were replaced since"
      } else if now.kernels != was.kernels {
        difference =
          "the published model was trained with the kernels `\(was.kernels)`, these are "
          + "`\(now.kernels)`, which add up in another order"
      }
      return TrainingVerification(
        model: policy.name, isSame: isSame, difference: difference,
        seconds: Double(elapsed.components.seconds)
          + Double(elapsed.components.attoseconds) * 1e-18)
    }
  }

  /// An engine's state as it was at a log position, from the rows that are still there.
  private func state(of engine: ServedEngine, through: LogPosition) throws -> StateSnapshot {
    let fold = StateFold(engine.mapping)
    var tables = [engine.mapping.interactionTable.name]
    if let items = engine.mapping.itemTable { tables.append(items.name) }
    _ = try log.replay(tables: tables) { batches, position in
      let earlier = batches.map { batch in
        CommittedBatch(
          table: batch.table, inserted: batch.inserted.filter { $0.position <= through },
          replaced: batch.replaced)
      }
      fold.apply(earlier, through: min(position, through))
    }
    return fold.snapshot()
  }
}
