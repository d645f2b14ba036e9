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
  var policy: SASRecPolicy
  var model: SASRec
  var vocabulary: [ItemID]
  var evaluation: JSON

  /// The document beside the weights.
  func json(weights: String, through: LogPosition) -> JSON {
    [
      "format": 1, "name": .string(policy.name), "policy_type": "sasrec",
      "weights": .string(weights), "trained_through": .int(through.rawValue),
      "seed": .int(Int64(policy.seed)), "evaluation": evaluation,
      "vocabulary": .array(vocabulary.map { .string($0.rawValue) }),
    ]
  }
}
