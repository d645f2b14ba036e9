package import Domain
package import Evaluation
package import Models

/// What each stage of a two-stage model contributes: retriever, ranker and both, judged side by side.
package struct Ablation: Sendable {
  package struct Line: Sendable {
    package var name: String
    package var explanation: String
    package var judgement: Judgement
  }

  /// The retriever, the ranker, the plain combination, the united one that `retrieve-rank` is by
  /// default and, where the validation events favour a weight of the retriever's scores, that of
  /// `reweight: true`.
  package let lines: [Line]
  /// What the last line was made with.
  package let stages: RetrieveRank.Stages
  package let protocolText: String
  package let caseCount: Int
  package let itemCount: Int

  /// Judges on the test events; what is not given is found on the validation events before.
  ///
  /// - Parameter candidates: items that the retriever names in the plain combination.
  package init(
    retriever: (name: String, model: any Recommender),
    ranker: (name: String, model: any Recommender),
    candidates: Int, on split: some EvaluationSplit, pool: WorkerPool
  ) {
    let cases = split.cases(.test)
    let plain = RetrieveRank(
      retriever: retriever.model, ranker: ranker.model,
      stages: .init(candidates: candidates, isUnited: false, retrieverWeight: 0))
    let found = RetrieveRankTraining.combination(
      retriever: retriever.model, ranker: ranker.model, candidates: nil, isUnited: true,
      weight: .found(), on: split.cases(.validation), pool: pool)
    stages = found.stages
    let united = RetrieveRank(
      retriever: retriever.model, ranker: ranker.model,
      stages: .init(candidates: stages.candidates, isUnited: true, retrieverWeight: 0))
    func line(_ name: String, _ explanation: String, _ model: any Recommender) -> Line {
      Line(
        name: name, explanation: explanation,
        judgement: rankings(cases, by: model, name: name, pool: pool))
    }
    var lines = [
      line(retriever.name, "retriever alone", retriever.model),
      line(ranker.name, "ranker alone", ranker.model),
      line(
        "\(retriever.name) > \(ranker.name)",
        "the retriever's \(candidates) best, ordered by the ranker", plain),
      line(
        "\(retriever.name) + \(ranker.name)",
        "both models' \(stages.candidates) best, ordered by the ranker", united),
    ]
    if stages.retrieverWeight > 0 {
      let weight = rounded(stages.retrieverWeight)
      lines.append(
        line(
          "\(weight) \(retriever.name) + \(ranker.name)",
          "the same with \(weight) of the retriever's score (`reweight: true`)", found))
    }
    self.lines = lines
    protocolText = split.protocolText
    caseCount = cases.count
    itemCount = split.dataset.itemCount
  }

  /// The classic table, and what it was made of, for programs.
  package func json(depths: [Int] = [5, 10, 20]) -> JSON {
    func figure(_ estimate: Estimate) -> JSON {
      [
        "value": .double(estimate.value), "low": .double(estimate.low),
        "high": .double(estimate.high),
      ]
    }
    let described = lines.map { line -> JSON in
      var members = [
        JSON.Member("name", .string(line.name)),
        JSON.Member("explanation", .string(line.explanation)),
      ]
      for k in depths {
        let recall = line.judgement.estimate(.recall, at: k)
        let ndcg = line.judgement.estimate(.ndcg, at: k)
        members.append(JSON.Member("recall_at_\(k)", figure(recall)))
        members.append(JSON.Member("ndcg_at_\(k)", figure(ndcg)))
      }
      return .object(members)
    }
    let found: JSON = [
      "candidates": .int(Int64(stages.candidates)), "unite": .bool(stages.isUnited),
      "retriever_weight": .double(Double(stages.retrieverWeight)),
    ]
    return [
      "protocol": .string(protocolText), "cases": .int(Int64(caseCount)),
      "items": .int(Int64(itemCount)), "stages": found, "lines": .array(described),
    ]
  }
}
