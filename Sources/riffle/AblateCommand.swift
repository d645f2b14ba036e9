import ArgumentParser
import Domain
import Engine
import Evaluation
import Models
import Training

struct Ablate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what each stage of retrieve-then-rank contributes.",
    discussion: """
      Trains a retriever and a ranker and judges each alone and both together on the test events, all \
      items ranked: the plain combination, whose candidates come from the retriever alone, the one \
      that `policy_type: retrieve-rank` makes, which loses nothing of the ranker's, and, where the \
      validation events clearly favour it, the one of `reweight: true`, in whose order the \
      retriever's scores count.

        riffle ablate --movielens PATH --retriever item2vec --ranker sasrec
        riffle ablate --data-dir DIR --engine-name for_you --retriever als --ranker sasrec
      """)

  @OptionGroup var source: ModelSource

  @Option(help: "A model of the engine, or a policy with its defaults, that names candidates.")
  var retriever: String

  @Option(help: "A model of the engine, or a policy with its defaults, that orders them.")
  var ranker: String

  @Option(help: "Items that the retriever names in the plain combination.")
  var candidates = 200

  func validate() throws {
    if candidates < 1 { throw ValidationError("--candidates is \(candidates).") }
  }

  func run() throws {
    let opened = try source.open()
    let threads = source.threadCount
    var trained: [String: any Recommender] = [:]
    let first = try opened.train(
      try opened.settings(named: retriever), threads: threads, trained: &trained, isPart: true)
    let second = try opened.train(
      try opened.settings(named: ranker), threads: threads, trained: &trained, isPart: true)
    let pool = WorkerPool(count: threads)
    defer { pool.shutDown() }
    let ablation = Ablation(
      retriever: (retriever, first), ranker: (ranker, second), candidates: candidates,
      on: opened.data.split, pool: pool)
    if source.json {
      print(ablation.json().text)
    } else {
      show(ablation)
    }
  }

  private func show(_ ablation: Ablation) {
    let width = (ablation.lines.map(\.name.count).max() ?? 0) + 2
    printLine(
      Terminal.bold(
        Terminal.padded("", width)
          + ["Recall@10", "NDCG@10"].map { Terminal.padded($0, 26) }.joined()
          + ["Recall@20", "NDCG@20"].map { Terminal.padded($0, 11) }.joined()))
    for line in ablation.lines {
      func interval(_ metric: Metric) -> String {
        let estimate = line.judgement.estimate(metric, at: 10)
        return Terminal.padded(
          "\(fixed(estimate.value, 4)) [\(fixed(estimate.low, 4)), \(fixed(estimate.high, 4))]", 26)
      }
      func plain(_ metric: Metric) -> String {
        Terminal.padded(fixed(line.judgement.mean(metric, at: 20), 4), 11)
      }
      printLine(
        Terminal.padded(line.name, width) + interval(.recall) + interval(.ndcg) + plain(.recall)
          + plain(.ndcg) + line.explanation)
    }
    if ablation.stages.retrieverWeight == 0 {
      printLine(
        "(No weight of the retriever's scores is clearly better than 0 on the validation events.)")
    }
    printLine(
      "(\(ablation.protocolText); all \(ablation.itemCount) items ranked, seen ones removed; "
        + "\(ablation.caseCount) users; 95 % bootstrap intervals)")
  }
}
