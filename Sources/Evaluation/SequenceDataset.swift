/// `Evaluation` says how good a ranking is: splits, metrics, segments, baselines, significance.
///
/// It ranks the whole catalogue always; there are no sampled candidates here. It knows item tokens
/// and nothing of models: whatever gives scores can be judged.
package import Domain

/// What each user did, in event order, as tokens of one vocabulary.
package struct SequenceDataset: Sendable {
  /// Tokens run from 0 up to this.
  package var itemCount: Int
  /// One sequence for each user, oldest event first.
  package var sequences: [[ItemToken]]
  /// When each event took place, never falling within a user; nil where only the order is known.
  package var times: [[Timestamp]]?

  package init(itemCount: Int, sequences: [[ItemToken]], times: [[Timestamp]]? = nil) {
    if let times {
      precondition(
        times.count == sequences.count && zip(times, sequences).allSatisfy { $0.count == $1.count },
        "each event has a time")
    }
    self.itemCount = itemCount
    self.sequences = sequences
    self.times = times
  }

  package var eventCount: Int { sequences.reduce(0) { $0 + $1.count } }

  /// A hash over every sequence in order: two data sets with the same fingerprint hold the same
  /// events in the same order, and at the same times where they have times (FNV-1a, 64 bits).
  package var fingerprint: UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ value: UInt64) {
      for shift in stride(from: UInt64(0), to: 64, by: 8) {
        hash = (hash ^ (value >> shift & 0xFF)) &* 0x100_0000_01B3
      }
    }
    mix(UInt64(itemCount))
    for sequence in sequences {
      mix(UInt64(sequence.count))
      for token in sequence { mix(UInt64(UInt32(bitPattern: token.rawValue))) }
    }
    for time in times ?? [] {
      for time in time { mix(UInt64(bitPattern: time.microsecondsSinceEpoch)) }
    }
    return hash
  }

  /// Events that share user and time with the event before them: their order is the order in which
  /// they arrived, and a different order would be a different data set.
  package var tieCount: Int {
    (times ?? []).reduce(0) { sum, times in
      sum + zip(times, times.dropFirst()).count { $0 == $1 }
    }
  }
}

/// The leave-one-out split: a user's last event is the test, the one before it the validation, and
/// the rest trains.
///
/// Users with fewer than three events train with all they have and are not judged.
package struct LeaveOneOut: Sendable {
  package let dataset: SequenceDataset
  /// The users that are judged, as places in `dataset.sequences`.
  package let users: [Int]

  package init(_ dataset: SequenceDataset) {
    self.dataset = dataset
    users = dataset.sequences.indices.filter { dataset.sequences[$0].count >= 3 }
  }

  package typealias Stage = EvaluationStage

  /// Every user's training events.
  package var training: [[ItemToken]] {
    dataset.sequences.map { $0.count >= 3 ? Array($0.dropLast(2)) : $0 }
  }

  /// What is known of a user before the event to predict.
  package func history(of user: Int, _ stage: Stage) -> ArraySlice<ItemToken> {
    dataset.sequences[user].dropLast(stage == .validation ? 2 : 1)
  }

  /// The event to predict.
  package func target(of user: Int, _ stage: Stage) -> ItemToken {
    let sequence = dataset.sequences[user]
    return sequence[sequence.count - (stage == .validation ? 2 : 1)]
  }
}
