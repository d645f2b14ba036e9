package import Domain
import Evaluation
package import Models
import Neural

/// Where the training loop stands between two epochs.
struct LoopState {
  var records: [EpochRecord] = []
  var best: (epoch: Int, ndcg: Double, weights: Buffer)?
  /// Validations since the best one.
  var withoutGain = 0
  var isFinished = false
  var secondsTraining = 0.0
  var secondsValidating = 0.0
  /// Epochs that an earlier run did.
  var epochsBefore = 0

  mutating func judge(epoch: Int, ndcg: Double, weights: Buffer) {
    if ndcg > best?.ndcg ?? -1 {
      best = (epoch, ndcg, weights.copy())
      withoutGain = 0
    } else {
      withoutGain += 1
    }
  }
}

/// Everything that a training needs to go on as if it had never stopped.
///
/// A safetensors file with the parameters, the optimiser's moments, the best weights so far and the
/// average where there is one; counters, seed state and the epochs' records stand in its metadata.
package struct TrainingCheckpoint: Sendable {
  package static let currentVersion = 1
  package static let oldestReadable = 1
  let file: Safetensors

  package init(_ file: Safetensors, path: String) throws(Diagnostic) {
    guard let version = file.metadata["checkpoint_version"].flatMap({ Int($0) }),
      (Self.oldestReadable...Self.currentVersion).contains(version),
      file.floats("parameters") != nil, file.floats("first") != nil, file.floats("second") != nil,
      let state = file.metadata["state"], (try? JSON(parsing: state)) != nil
    else {
      throw Diagnostic(
        code: "invalid_checkpoint", "This is not a checkpoint that this build can go on from.",
        at: path, help: "Train from the start, or with the build that wrote it.")
    }
    self.file = file
  }

  init(written file: Safetensors) { self.file = file }

  package var bytes: [UInt8] { file.bytes }
  /// Epochs done.
  package var epoch: Int { file.metadata["epoch"].flatMap { Int($0) } ?? 0 }

  /// Whether validation had stopped to get better, so that more time would change nothing.
  var isFinished: Bool { state["finished"]?.bool ?? false }

  /// NDCG@10 on the validation events of the best epoch so far.
  var bestNDCG: Double { state["best_ndcg"]?.number ?? 0 }

  fileprivate var state: JSON {
    (try? JSON(parsing: file.metadata["state"] ?? "{}")) ?? .null
  }
}

extension Trainer {
  func checkpoint(_ state: LoopState) -> TrainingCheckpoint {
    var file = Safetensors()
    func put(_ name: String, _ buffer: Buffer) {
      file.tensors[name] = Safetensors.Tensor(
        shape: [buffer.count], values: .float32(buffer.array))
    }
    put("parameters", parameters)
    put("first", first)
    put("second", second)
    if let average { put("average", average) }
    if let best = state.best { put("best", best.weights) }
    let records = state.records.map { record -> JSON in
      [
        "epoch": .int(Int64(record.epoch)), "loss": .double(record.loss),
        "ndcg": record.validationNDCG.map { .double($0) } ?? .null,
        "recall": record.validationRecall.map { .double($0) } ?? .null,
        "seconds": .double(record.seconds),
      ]
    }
    let json: JSON = [
      "records": .array(records), "without_gain": .int(Int64(state.withoutGain)),
      "finished": .bool(state.isFinished), "seconds_training": .double(state.secondsTraining),
      "seconds_validating": .double(state.secondsValidating), "step": .int(Int64(stepNumber)),
      "generator": .int(Int64(bitPattern: generator.state)),
      "best_epoch": state.best.map { .int(Int64($0.epoch)) } ?? .null,
      "best_ndcg": state.best.map { .double($0.ndcg) } ?? .null,
    ]
    file.metadata = [
      "checkpoint_version": String(TrainingCheckpoint.currentVersion),
      "epoch": String(state.records.count), "state": json.text,
    ]
    return TrainingCheckpoint(written: file)
  }

  /// Takes over a state.
  ///
  /// - Precondition: it was written by a trainer of the same configuration and options.
  func restore(_ checkpoint: TrainingCheckpoint) -> LoopState {
    func get(_ name: String, into buffer: Buffer) {
      guard let values = checkpoint.file.floats(name) else { return }
      precondition(values.count == buffer.count, "a checkpoint of another model")
      for (i, value) in values.enumerated() { buffer.pointer[i] = value }
    }
    get("parameters", into: parameters)
    get("first", into: first)
    get("second", into: second)
    if let average { get("average", into: average) }
    let json = checkpoint.state
    var state = LoopState()
    state.records = (json["records"]?.array ?? []).map {
      EpochRecord(
        epoch: Int($0["epoch"]?.int ?? 0), loss: $0["loss"]?.number ?? 0,
        validationNDCG: $0["ndcg"]?.number, validationRecall: $0["recall"]?.number,
        seconds: $0["seconds"]?.number ?? 0)
    }
    state.withoutGain = Int(json["without_gain"]?.int ?? 0)
    state.isFinished = json["finished"]?.bool ?? false
    state.secondsTraining = json["seconds_training"]?.number ?? 0
    state.secondsValidating = json["seconds_validating"]?.number ?? 0
    state.epochsBefore = state.records.count
    stepNumber = Int(json["step"]?.int ?? 0)
    generator = SplitMix64(seed: UInt64(bitPattern: json["generator"]?.int ?? 0))
    if let epoch = json["best_epoch"]?.int, let ndcg = json["best_ndcg"]?.number {
      let weights = Buffer(count: layout.count)
      get("best", into: weights)
      state.best = (Int(epoch), ndcg, weights)
    }
    refreshWeights()
    return state
  }
}
