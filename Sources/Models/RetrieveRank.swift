package import Domain
package import Kernels
package import Neural

/// Two stages: a retriever names candidates, a ranker orders them.
///
/// What is not a candidate comes after all that are, in the same order, so that a filter never leaves
/// an answer short. Where the ranker's own best items are candidates too and the retriever's scores
/// weigh nothing, the first `candidates` places are the ranker's own, score by score.
package final class RetrieveRank: Recommender {
  package static let kind = "retrieve-rank"

  package struct Stages: Hashable, Sendable {
    /// Items that the retriever names, beside those of the history.
    package var candidates: Int
    /// Whether the ranker's own best items are candidates too, as many again.
    package var isUnited: Bool
    /// What the retriever's standard scores weigh beside the ranker's in the order of candidates.
    package var retrieverWeight: Float

    package init(candidates: Int, isUnited: Bool, retrieverWeight: Float) {
      self.candidates = candidates
      self.isUnited = isUnited
      self.retrieverWeight = retrieverWeight
    }
  }

  package let retriever: any Recommender
  package let ranker: any Recommender
  package let stages: Stages
  package let itemCount: Int

  /// - Parameters: models with the same vocabulary.
  package init(retriever: any Recommender, ranker: any Recommender, stages: Stages) {
    precondition(retriever.itemCount == ranker.itemCount, "vocabularies")
    self.retriever = retriever
    self.ranker = ranker
    self.stages = stages
    itemCount = ranker.itemCount
  }

  package var answersWithoutHistory: Bool { ranker.answersWithoutHistory }
  package var maximumLength: Int { max(retriever.maximumLength, ranker.maximumLength) }
  package var usesTimes: Bool { retriever.usesTimes || ranker.usesTimes }

  package func encoding(in precision: Precision) -> any Recommender {
    RetrieveRank(
      retriever: retriever.encoding(in: precision), ranker: ranker.encoding(in: precision),
      stages: stages)
  }

  package func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>) {
    let n = itemCount
    ranker.score(histories, into: scores)
    let first = Buffer(count: histories.count * n)
    retriever.score(histories, into: first.pointer)
    var isCandidate = [Bool](repeating: false, count: n)
    for (h, history) in histories.enumerated() {
      let out = UnsafeMutableBufferPointer(start: scores + h * n, count: n)
      let own = UnsafeMutableBufferPointer(start: first.pointer + h * n, count: n)
      let wanted = stages.candidates + history.items.count
      var candidates = Standing.best(wanted, of: UnsafeBufferPointer(own))
      if stages.isUnited { candidates += Standing.best(wanted, of: UnsafeBufferPointer(out)) }
      if stages.retrieverWeight != 0 {
        Standing.standard.apply(to: out, history: history)
        Standing.standard.apply(to: own, history: history)
        for i in 0..<n { out[i] += stages.retrieverWeight * own[i] }
      }
      for item in candidates { isCandidate[item] = true }
      let least = candidates.map { out[$0] }.min() ?? 0
      // Steps that a float near the last candidate's score can show.
      let step = (1 + abs(least)) / 1024
      for i in 0..<n where !isCandidate[i] {
        // Between one and three steps below the last candidate, in the same order.
        let score = out[i]
        let place = score.isFinite ? score / (1 + abs(score)) : score < 0 ? -1 : 1
        out[i] = least - step * (2 - place)
      }
      for item in candidates { isCandidate[item] = false }
    }
    withExtendedLifetime(first) {}
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind)
    file.metadata["candidates"] = String(stages.candidates)
    file.metadata["united"] = String(stages.isUnited)
    file.metadata["retriever_weight"] = String(stages.retrieverWeight)
    file.nest(retriever.safetensors(), under: "retriever.")
    file.nest(ranker.safetensors(), under: "ranker.")
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let candidates: Int = try file.number("candidates", path: path)
    let isUnited: Bool = try file.number("united", path: path)
    let weight: Float = try file.number("retriever_weight", path: path)
    let retriever = try RecommenderFiles.restore(
      file.nested(under: "retriever."), path: path, kernels: kernels)
    let ranker = try RecommenderFiles.restore(
      file.nested(under: "ranker."), path: path, kernels: kernels)
    guard retriever.itemCount == ranker.itemCount, candidates > 0 else {
      throw file.fault("its stages have different vocabularies, or no candidates", path: path)
    }
    self.init(
      retriever: retriever, ranker: ranker,
      stages: Stages(
        candidates: candidates, isUnited: isUnited, retrieverWeight: weight))
  }
}
