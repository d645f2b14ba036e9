import Domain

/// Whether the order of events carries a signal: the same contender on histories in their order
/// and on the same histories shuffled (Klenitskiy et al. 2024, arXiv:2408.12008).
package struct Sequentiality: Hashable, Sendable {
  package var inOrder: Estimate
  package var shuffled: Estimate
  /// In order minus shuffled, of NDCG@10 case by case.
  package var loss: PairedDifference

  /// The share of NDCG@10 that is lost by shuffling; negative where shuffling helps.
  package var drop: Double { inOrder.value > 0 ? loss.difference.value / inOrder.value : 0 }

  package enum Verdict: String, Hashable, Sendable {
    case strong, weak, none
  }

  /// Strong from a tenth on; none where the difference is luck or shuffling helps.
  package var verdict: Verdict {
    guard loss.isSignificant, loss.difference.value > 0 else { return .none }
    return drop >= 0.1 ? .strong : .weak
  }

  package var text: String {
    let percent = Int((drop * 100).rounded())
    return switch verdict {
    case .strong:
      "The order of events matters: with shuffled histories NDCG@10 falls by \(percent) %."
    case .weak:
      "The order of events matters a little: with shuffled histories NDCG@10 falls by \(percent) %. "
        + "A model without order may do as well."
    case .none:
      "The order of events carries no signal that this model uses: shuffled histories change "
        + "NDCG@10 by \(-percent) %, which may be luck. Prefer a model without order; it is cheaper."
    }
  }

  init(inOrder: Estimate, shuffled: Estimate, loss: PairedDifference) {
    self.inOrder = inOrder
    self.shuffled = shuffled
    self.loss = loss
  }

  /// - Parameter judgement: of the same contender on the same cases, in order.
  package init(
    _ contender: Contender, inOrder judgement: Judgement, on cases: [EvaluationCase],
    itemCount: Int, seed: UInt64 = 1, threads: Int = 1
  ) {
    var random = EvaluationRandom(seed: seed)
    let mixed = cases.map { one in
      var one = one
      // The items move, the times stay: a model of gaps in time sees the same gaps.
      var items = Array(one.history)
      for i in stride(from: items.count - 1, to: 0, by: -1) {
        items.swapAt(i, random.next(below: i + 1))
      }
      one.history = items[...]
      return one
    }
    let other = judge(contender, on: mixed, itemCount: itemCount, topCount: 0, threads: threads)
    inOrder = judgement.estimate(.ndcg, at: 10)
    shuffled = other.estimate(.ndcg, at: 10)
    loss = PairedDifference(
      judgement.values(.ndcg, at: 10), other.values(.ndcg, at: 10), seed: seed)
  }
}
