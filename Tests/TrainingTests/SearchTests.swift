import Domain
import Evaluation
import Kernels
import Models
import Neural
import Synchronization
import Testing
import Training

/// Users who walk along a ring of items, with jumps.
private func walks(seed: UInt64 = 4) -> LeaveOneOut {
  var generator = SplitMix64(seed: seed)
  let n = 60
  return LeaveOneOut(
    SequenceDataset(
      itemCount: n,
      sequences: (0..<150).map { _ in
        var place = Int.random(in: 0..<n, using: &generator)
        return (0..<10).map { _ in
          place =
            generator.unitFloat() < 0.2
            ? Int.random(in: 0..<n, using: &generator) : (place + 1) % n
          return ItemToken(place)
        }
      }))
}

private func context() throws -> TrainingContext {
  TrainingContext(threads: 2, kernels: try #require(Kernels(environment: [:])))
}

/// Trials in memory, which counts what is asked for.
private final class Trials: TrialStore {
  let figures = Mutex<[String: JSON]>([:])
  let files = Mutex<[String: [UInt8]]>([:])
  func trial(_ key: String) -> JSON? { figures.withLock { $0[key] } }
  func keep(_ trial: JSON, _ key: String) { figures.withLock { $0[key] = trial } }
  func weights(_ key: String) -> [UInt8]? { files.withLock { $0[key] } }
  func keep(weights: [UInt8], _ key: String) { files.withLock { $0[key] = weights } }
}

@Suite struct Tuning {
  static var settings: PolicySettings {
    var settings = PolicySettings(ItemKNNTraining.description)
    settings.searches = [
      "history_length": .integers(1...20), "decay": .numbers(0.3...1),
      "similarity": .options([.text("cosine"), .text("jaccard")]),
    ]
    return settings
  }

  @Test func `finds settings at least as good as the defaults, and keeps to its jobs`() throws {
    let data = TrainingSet(walks())
    let found = try Tuner(Self.settings, jobs: 8).train(data, context())
    #expect(found.trials.count == 8)
    let first = try #require(found.trials.first)
    #expect(first.values["decay"] == .number(0.8), "the defaults come first")
    let best = found.trials.map(\.ndcg).max()
    #expect(found.trials.contains { $0.ndcg == best && $0.ndcg >= first.ndcg })
    #expect(found.chosen?.searches.isEmpty == true)
    #expect(found.notes.count == 9)
  }

  @Test func `leaves out at first what has no default, and draws no impossible combination`() throws
  {
    var settings = PolicySettings(ItemKNNTraining.description)
    for parameter in settings.policy.parameters {
      settings.searches[parameter.name] = parameter.search
    }
    let found = try Tuner(settings, jobs: 20).train(TrainingSet(walks()), context())
    #expect(found.trials.count == 20)
    let first = try #require(found.trials.first)
    #expect(first.values["popularity_exponent"] == nil && first.values["decay"] == .number(0.8))
    #expect(first.policy == "item-knn" && first.at > 0)
    #expect(!found.trials.contains { $0.values["similarity"] == .text("jaccard") })
  }

  @Test func `repeats nothing that it kept, whatever is searched later`() throws {
    let data = TrainingSet(walks())
    let store = Trials()
    let once = try Tuner(Self.settings, jobs: 4, store: store).train(data, context())
    #expect(once.trials.allSatisfy { !$0.isKept })
    let again = try Tuner(Self.settings, jobs: 6, parallelJobs: 1, store: store)
      .train(data, context())
    #expect(again.trials.prefix(4).allSatisfy { $0.isKept })
    #expect(again.trials.dropFirst(4).allSatisfy { !$0.isKept })
    let other = try Tuner(Self.settings, jobs: 4, store: store)
      .train(TrainingSet(walks(seed: 5)), context())
    #expect(other.trials.allSatisfy { !$0.isKept }, "other events are other trials")
  }

  @Test func `halves where there are epochs`() throws {
    var settings = PolicySettings(
      ALSTraining.description, values: ["iterations": .integer(9), "factors": .integer(8)])
    settings.searches = ["alpha": .numbers(1...40, logarithmic: true)]
    let found = try Tuner(settings, jobs: 9, parallelJobs: 2).train(TrainingSet(walks()), context())
    let shares: [Double] =
      [Double](repeating: 1.0 / 9, count: 9) + [Double](repeating: 1.0 / 3, count: 3) + [1]
    #expect(found.trials.map(\.share) == shares)
  }

  @Test func `is the same whatever the test events are`() throws {
    let split = walks()
    let changed = LeaveOneOut(
      SequenceDataset(
        itemCount: split.dataset.itemCount,
        sequences: split.dataset.sequences.map { $0.dropLast() + [ItemToken(0)] }))
    let first = try Tuner(Self.settings, jobs: 4).train(TrainingSet(split), context())
    let second = try Tuner(Self.settings, jobs: 4).train(TrainingSet(changed), context())
    #expect(first.model.safetensors().bytes == second.model.safetensors().bytes)
  }
}

@Suite struct Auto {
  /// A clock that goes on whenever it is looked at: a busy machine tries as much as an idle one.
  static func counted(_ context: TrainingContext) -> TrainingContext {
    let looks = Looks()
    var context = context
    context.now = { looks.next() }
    return context
  }

  private final class Looks: Sendable {
    private let count = Mutex(0)
    func next() -> Double {
      count.withLock {
        $0 += 1
        return Double($0) / 1000
      }
    }
  }

  @Test func `is at least as good as item-knn on the validation events, and says what it tried`()
    throws
  {
    let split = walks()
    let data = TrainingSet(split)
    let settings = PolicySettings(
      AutoTraining.description, values: ["minutes": .number(0.05)])
    let found = try AutoTraining.train(data, settings, Self.counted(context()))
    let knn = try ItemKNNTraining.train(
      data, PolicySettings(ItemKNNTraining.description), context())
    let pool = WorkerPool(count: 2)
    defer { pool.shutDown() }
    let (own, other) = (
      rankings(data.validation, by: found.model, pool: pool).mean(.ndcg, at: 10),
      rankings(data.validation, by: knn.model, pool: pool).mean(.ndcg, at: 10)
    )
    #expect(own >= other * 0.98, "\(own) \(other)")
    #expect(found.summary.contains("Tried"))
    #expect(found.notes.contains { $0.contains("item_knn") })
    #expect(found.notes.contains { $0.contains("policy_type") }, "the choice as YAML")
    #expect(found.notes.contains("Why:") && found.trials.contains { $0.policy == "sasrec" })
  }

  @Test func `gives the same model where it finds its trials again, without training`() throws {
    let data = TrainingSet(walks())
    let settings = PolicySettings(AutoTraining.description, values: ["minutes": .number(0.05)])
    let store = Trials()
    var context = Self.counted(try context())
    context.trials = store
    let first = try AutoTraining.train(data, settings, context)
    let again = try AutoTraining.train(data, settings, context)
    #expect(again.trials.filter(\.isKept).count > first.trials.count / 2)
    #expect(again.trials.map(\.name).starts(with: first.trials.prefix(8).map(\.name)))
  }
}
