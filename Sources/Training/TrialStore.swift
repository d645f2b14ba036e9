package import Domain
import Evaluation
import Kernels
package import Models

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
  /// The policy that was trained.
  package var policy = ""
  /// What the search calls it.
  package var name = ""
  /// Seconds from the search's begin to the trial's end.
  package var at = 0.0
  /// Whether a network was still getting much better when it was left.
  var isRising = false
  /// Whether it is a state on the way, from which a search that was killed can go on.
  var isPartial = false

  package var json: JSON {
    [
      "policy_type": .string(policy), "name": .string(name),
      "values": .object(
        values.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value.json) }),
      "share": .double(share), "ndcg_at_10": .double(ndcg), "recall_at_10": .double(recall),
      "seconds": .double(seconds), "at_seconds": .double(at), "kept": .bool(isKept),
      "partial": .bool(isPartial), "rising": .bool(isRising),
    ]
  }

  /// Reads figures that `json` wrote; the values are those of the search.
  init?(_ json: JSON, values: [String: Hyperparameter.Value]) {
    guard let share = json["share"]?.number, let ndcg = json["ndcg_at_10"]?.number,
      let recall = json["recall_at_10"]?.number, let seconds = json["seconds"]?.number
    else { return nil }
    self.init(values: values, share: share, ndcg: ndcg, recall: recall, seconds: seconds)
    policy = json["policy_type"]?.string ?? ""
    name = json["name"]?.string ?? ""
    at = json["at_seconds"]?.number ?? 0
    isPartial = json["partial"]?.bool ?? false
    isRising = json["rising"]?.bool ?? false
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

/// Names for trials on some data: hashes of everything that a trial depends on.
struct TrialKeys: Sendable {
  private let base: UInt64

  /// Reads all events once.
  init(_ data: TrainingSet, _ context: TrainingContext) {
    let events = SequenceDataset(
      itemCount: data.itemCount, sequences: data.sequences,
      times: data.histories.contains { $0.times != nil }
        ? data.histories.map { Array($0.times ?? []) } : nil)
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ byte: UInt8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    for byte in "\(context.threads) \(context.kernels.name)".utf8 { mix(byte) }
    for shift in stride(from: UInt64(0), to: 64, by: 8) {
      mix(UInt8(truncatingIfNeeded: events.fingerprint >> shift))
    }
    for one in data.validation {
      for target in one.targets {
        for shift in stride(from: 0, to: 32, by: 8) {
          mix(UInt8(truncatingIfNeeded: target.rawValue >> shift))
        }
      }
    }
    base = hash
  }

  /// The name of a training of these settings.
  ///
  /// - Parameter manner: how it is tried, where that is not by its settings alone.
  func key(_ settings: PolicySettings, _ manner: String = "") -> String {
    var hash = base
    for byte in "\(settings.key) \(manner)".utf8 {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
    }
    return String(hash, radix: 16)
  }
}
