import Domain
import Models

/// Trained models on their way into or out of the artifact files.
struct StoredGeneration {
  var number: Int
  var through: LogPosition
  var trainedAt: Timestamp
  var models: [StoredModel]
}

/// One trained model with the items that its tokens mean.
struct StoredModel {
  var policy: PolicySettings
  var model: any Recommender
  var vocabulary: [ItemID]
  var evaluation: JSON
  /// What the weights depend on beside policy and events.
  var circumstances: TrainingCircumstances

  /// The document beside the weights.
  func json(weights: String, through: LogPosition) -> JSON {
    [
      "format": 1, "name": .string(policy.name), "policy_type": .string(policy.policy.name),
      "weights": .string(weights), "trained_through": .int(through.rawValue),
      "seed": policy.seed.map { .int(Int64($0)) } ?? .null,
      "threads": .int(Int64(circumstances.threads)),
      "kernels": .string(circumstances.kernels),
      "data_fingerprint": .string(circumstances.fingerprint), "evaluation": evaluation,
      "vocabulary": .array(vocabulary.map { .string($0.rawValue) }),
    ]
  }
}

extension PolicySettings {
  /// The seed of everything random in training, where anything is.
  var seed: Int? { policy.parameter("seed").flatMap { optionalInteger($0.name) } }
}

/// What a training's weights depend on, to the bit, beside the policy and its seed.
struct TrainingCircumstances: Hashable, Sendable {
  var threads: Int
  var kernels: String
  /// Of the sequences, in hexadecimal.
  var fingerprint: String

  init(threads: Int, kernels: String, fingerprint: UInt64) {
    self.threads = threads
    self.kernels = kernels
    self.fingerprint = String(fingerprint, radix: 16)
  }

  /// Reads them from a model's document; nil where it has none.
  init?(_ document: JSON) {
    guard let threads = document["threads"]?.int, let kernels = document["kernels"]?.string,
      let fingerprint = document["data_fingerprint"]?.string
    else { return nil }
    self.threads = Int(threads)
    self.kernels = kernels
    self.fingerprint = fingerprint
  }
}
