import Domain
package import Evaluation
package import Models

/// Test results of a model beside the baselines, on the same users and the same ranking.
package struct EvaluationReport: Sendable {
  package struct Line: Sendable {
    package var name: String
    package var result: RankingResult
    package init(name: String, result: RankingResult) {
      self.name = name
      self.result = result
    }
  }

  package var lines: [Line]
  package var userCount: Int
  package var itemCount: Int
  package var eventCount: Int
  package var fingerprint: UInt64
  /// How the figures came about, in words.
  package var protocolText: String {
    "leave-one-out; all \(itemCount) items ranked, seen ones removed, ties against the model; "
      + "\(userCount) users; 95 % bootstrap intervals over users"
  }
}

/// Judges a model on the test events, beside popularity, last-item transition and further scorers.
///
/// - Parameters:
///   - others: name and scores (one for each token) for a judged user, such as a simulator's own
///     best ranking.
package func evaluate(
  _ model: any Recommender, name: String = "sasrec", on split: LeaveOneOut, threads: Int,
  others: [(name: String, scores: (_ user: Int) -> [Float])] = []
) -> EvaluationReport {
  let pool = WorkerPool(count: threads)
  defer { pool.shutDown() }
  let cases = split.cases(.test)
  var lines = [
    EvaluationReport.Line(
      name: name,
      result: RankingResult(
        ranks: rankings(cases, by: model, pool: pool).ranks.map { Int($0[0]) }))
  ]
  func line(_ name: String, _ scores: (Int) -> [Float]) {
    let ranks = cases.map { one in
      scores(one.user).withUnsafeBufferPointer {
        rank(of: one.targets[0], scores: $0, seen: one.history)
      }
    }
    lines.append(EvaluationReport.Line(name: name, result: RankingResult(ranks: ranks)))
  }
  let baselines = Baselines(training: split.training, itemCount: split.dataset.itemCount)
  line("popularity") { _ in baselines.popularity }
  line("last-item transition") {
    baselines.lastItemTransition(after: split.history(of: $0, .test))
  }
  for other in others { line(other.name, other.scores) }
  return EvaluationReport(
    lines: lines, userCount: split.users.count, itemCount: split.dataset.itemCount,
    eventCount: split.dataset.eventCount, fingerprint: split.dataset.fingerprint)
}

extension Scorecard.Curve {
  /// The course of a training; nil where the policy knows no epochs.
  package init?(_ name: String, _ trained: TrainedModel) {
    guard trained.epochs.count > 1 else { return nil }
    self.init(
      name: name,
      points: trained.epochs.map {
        Scorecard.Curve.Point(
          epoch: $0.epoch, loss: $0.loss, validationNDCG: $0.validationNDCG)
      })
  }
}

extension SearchTrials {
  /// What a training tried; nil where it searched nothing.
  package init?(_ name: String, _ trained: TrainedModel) {
    guard !trained.trials.isEmpty else { return nil }
    self.init(
      name: name,
      trials: trained.trials.map { record in
        Trial(
          policy: record.policy.isEmpty ? trained.chosen?.policy.name ?? name : record.policy,
          name: record.name.isEmpty ? name : record.name, values: record.values.mapValues(\.json),
          share: record.share, ndcg: record.ndcg, recall: record.recall, seconds: record.seconds,
          at: record.at, isKept: record.isKept)
      })
  }
}
