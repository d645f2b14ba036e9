import Domain
package import Evaluation
package import Kernels
package import Models
import Neural

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
  _ model: SASRec, name: String = "sasrec", on split: LeaveOneOut, kernels: Kernels, threads: Int,
  others: [(name: String, scores: (_ user: Int) -> [Float])] = []
) -> EvaluationReport {
  evaluate(
    weights: model.weights, network: model.configuration.shape, name: name, on: split,
    kernels: kernels, threads: threads, others: others)
}

/// Judges a model of any kind of network.
package func evaluate(
  _ model: NeuralModel, on split: LeaveOneOut, kernels: Kernels, threads: Int
) -> EvaluationReport {
  evaluate(
    weights: model.weights, network: model.network, name: model.configuration.kind.rawValue,
    on: split, kernels: kernels, threads: threads, others: [])
}

private func evaluate(
  weights: PackedWeights, network: any SequenceNetwork, name: String, on split: LeaveOneOut,
  kernels: Kernels, threads: Int, others: [(name: String, scores: (_ user: Int) -> [Float])]
) -> EvaluationReport {
  let pool = WorkerPool(count: threads)
  defer { pool.shutDown() }
  var lines = [
    EvaluationReport.Line(
      name: name,
      result: rankings(
        split, .test, weights: weights, network: network, kernels: kernels, pool: pool))
  ]
  func line(_ name: String, _ scores: (Int) -> [Float]) {
    let ranks = split.users.map { user in
      scores(user).withUnsafeBufferPointer {
        rank(of: split.target(of: user, .test), scores: $0, seen: split.history(of: user, .test))
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
