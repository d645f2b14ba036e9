import Domain
import Models
import Storage
import Training

/// Keeps the state of one training on the disk, so that a killed process goes on where it stopped.
///
/// A state is taken up again only by a training of the same policy, on the same events, with the same
/// threads and kernels: then the result is the one of a training without a stop.
final class CheckpointKeeper {
  /// Epochs shorter than this together are not worth a file.
  private static let secondsBetween = 10.0

  private let queue: TrainingQueue
  private let name: String
  private let key: String
  private let clock = ContinuousClock()
  private var lastSaved: ContinuousClock.Instant
  private var artifact: String?

  init(
    _ queue: TrainingQueue, name: String, policy: PolicySettings,
    circumstances: TrainingCircumstances
  ) {
    self.queue = queue
    self.name = name
    key =
      "\(policy.key) \(circumstances.threads) \(circumstances.kernels) \(circumstances.fingerprint)"
    lastSaved = clock.now
  }

  /// The state that an earlier process left for this very training; anything else is cleared away.
  func load() -> TrainingCheckpoint? {
    guard let entry = try? queue.log.entry(kind: RegistryKind.checkpoint, name: name),
      let json = try? JSON(parsing: entry.json), let artifact = json["artifact"]?.string
    else { return nil }
    self.artifact = artifact
    if json["key"]?.string == key, let bytes = try? queue.artifacts.read(artifact),
      let file = try? Safetensors(parsing: bytes, path: artifact),
      let checkpoint = try? TrainingCheckpoint(file, path: artifact)
    {
      return checkpoint
    }
    remove()
    return nil
  }

  /// Writes a state where enough time has passed. A disk that cannot take it costs the checkpoint,
  /// not the training.
  func save(_ checkpoint: TrainingCheckpoint) {
    let elapsed = clock.now - lastSaved
    guard elapsed >= .seconds(Self.secondsBetween) else { return }
    let artifact = try? queue.naming { [queue, log = queue.log, name, key] in
      let artifact = try queue.keep(checkpoint.bytes, suffix: "checkpoint")
      let entry: JSON = ["key": .string(key), "artifact": .string(artifact)]
      try log.setEntryAndWait(
        RegistryEntry(kind: RegistryKind.checkpoint, name: name, json: entry.text))
      return artifact
    }
    guard let artifact else { return }
    if let old = self.artifact, old != artifact { queue.artifacts.remove(old) }
    self.artifact = artifact
    lastSaved = clock.now
  }

  /// Clears the state away: the training has ended, or is another one now.
  func remove() {
    guard let artifact else { return }
    try? queue.log.removeEntryAndWait(kind: RegistryKind.checkpoint, name: name)
    queue.artifacts.remove(artifact)
    self.artifact = nil
  }
}
