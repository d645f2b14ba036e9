import Domain

/// What a look for leaks found: answers that a model could have learned instead of predicted.
package struct LeakCheck: Hashable, Sendable {
  package struct Finding: Hashable, Sendable {
    package enum Gravity: String, Hashable, Sendable {
      /// The figures are worthless.
      case fault
      /// The figures flatter, as every figure of this protocol does.
      case caution
      /// Looked at and found in order.
      case fine
    }
    package var gravity: Gravity
    package var text: String
  }

  package var findings: [Finding]

  package var isSound: Bool { !findings.contains { $0.gravity == .fault } }

  init(findings: [Finding]) { self.findings = findings }

  /// - Parameters:
  ///   - learned: the sequences that the model was trained on.
  ///   - cases: the questions of the test.
  package init(learned: SequenceDataset, split: some EvaluationSplit, cases: [EvaluationCase]) {
    var findings: [Finding] = []
    func found(_ gravity: Finding.Gravity, _ text: String) {
      findings.append(Finding(gravity: gravity, text: text))
    }
    let expected = split.trainingSet
    if learned.sequences == expected.sequences {
      found(.fine, "The model has learned from the training events of this split and no others.")
    } else if learned.sequences == split.trainingAndValidationSet.sequences {
      found(
        .caution,
        "A model has learned the validation events too, once they had nothing more to decide; those "
          + "beside it that were not searched for have learned from the training events alone.")
    } else if Self.contains(split.dataset, answersOf: cases, learned) {
      found(
        .fault,
        "The model has learned from other events than the split's training events, right answers "
          + "among them.")
    } else {
      found(.caution, "The model has learned from other events than the split's training events.")
    }
    let again = cases.count { one in one.targets.contains { one.history.contains($0) } }
    if again > 0 {
      found(
        .caution,
        "\(again) of \(cases.count) cases ask for an item of the history again, which a feed that "
          + "removes seen items would never show.")
    }
    if let future = Self.shareLearnedAfter(cases, learned) {
      if future > 0 {
        found(
          .caution,
          "\(Self.percent(future)) of the training events are later than the median question: other "
            + "users' future is learned, as always with leave-one-out. A split by time has no such "
            + "leak.")
      } else {
        found(.fine, "No training event is later than a question.")
      }
    } else {
      found(.caution, "Events have no times, so learning from the future cannot be ruled out.")
    }
    self.findings = findings
  }

  private static func percent(_ share: Double) -> String {
    let tenths = (share * 1000).rounded() / 10
    return "\(tenths) %"
  }

  /// Whether some user's right answers stand behind that user's history in what was learned.
  private static func contains(
    _ dataset: SequenceDataset, answersOf cases: [EvaluationCase], _ learned: SequenceDataset
  ) -> Bool {
    let sequences = Set(learned.sequences)
    return cases.contains { one in
      sequences.contains(Array(one.history) + one.targets.prefix(1))
        || sequences.contains(dataset.sequences[one.user])
    }
  }

  private static func shareLearnedAfter(
    _ cases: [EvaluationCase], _ training: SequenceDataset
  ) -> Double? {
    let moments = cases.compactMap(\.moment).sorted()
    guard !moments.isEmpty, let times = training.times, training.eventCount > 0 else { return nil }
    let median = moments[moments.count / 2]
    let later = times.reduce(0) { sum, times in sum + times.count { $0 > median } }
    return Double(later) / Double(training.eventCount)
  }
}
