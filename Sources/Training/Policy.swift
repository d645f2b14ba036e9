package import Domain
package import Evaluation
package import Kernels
package import Models

/// A kind of model that can be trained, by the `policy_type` of its description.
///
/// A policy is a table of hyper-parameters and one function; whatever trains, tunes, documents or
/// serves models knows them by this protocol alone. A new one is added to `Policies.all`, its model
/// to `RecommenderFiles.types`.
package protocol Policy: Sendable {
  static var description: PolicyDescription { get }

  /// What is wrong with a combination of values that are each allowed; nil where nothing is.
  static func problem(_ settings: PolicySettings) -> SettingsProblem?

  /// Trains one model. The same data, settings, threads and kernels give the same model, bit for bit.
  ///
  /// - Throws: `TrainingCancelled` where `context.progress` says false; a `Diagnostic` where the data
  ///   or the combination of settings does not allow it.
  static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel
}

extension Policy {
  package static func problem(_ settings: PolicySettings) -> SettingsProblem? { nil }
}

/// A combination of values that a policy does not take.
package struct SettingsProblem: Hashable, Sendable {
  /// The hyper-parameter that stands for the combination.
  package var key: String
  package var message: String
  package var help: String
  package init(key: String, _ message: String, help: String) {
    self.key = key
    self.message = message
    self.help = help
  }
}

/// What a model learns from, and what it may look at to know when to stop.
package struct TrainingSet: Sendable {
  /// Tokens run from 0 up to this.
  package var itemCount: Int
  /// One for each user, oldest event first; may be empty. All have times, or none has; likewise
  /// weights.
  package var histories: [History]
  /// Chooses epochs and anything else that has to be chosen. Never the test events.
  package var validation: [EvaluationCase]
  /// The histories with the events of the validation, for learning once more when everything is
  /// chosen; nil where there are none to be had.
  package var further: (@Sendable () -> [History])?

  package init(itemCount: Int, histories: [History], validation: [EvaluationCase]) {
    self.itemCount = itemCount
    self.histories = histories
    self.validation = validation
  }

  /// The training and validation events of a split.
  package init(_ split: some EvaluationSplit) {
    @Sendable func histories(_ events: SequenceDataset) -> [History] {
      events.sequences.indices.map { user in
        History(events.sequences[user][...], times: events.times?[user][...])
      }
    }
    self.init(
      itemCount: split.dataset.itemCount, histories: histories(split.trainingSet),
      validation: split.cases(.validation))
    further = { histories(split.trainingAndValidationSet) }
  }

  /// The items alone, one sequence for each user.
  package var sequences: [[ItemToken]] { histories.map { Array($0.items) } }

  /// How often each item occurs.
  package var counts: [Int] {
    var counts = [Int](repeating: 0, count: itemCount)
    for history in histories { for token in history.items { counts[token.index] += 1 } }
    return counts
  }
}

/// What surrounds one training.
package struct TrainingContext {
  package var threads: Int
  /// Training stands back for other work by this much (0 to 19).
  package var niceness: Int32
  package var kernels: Kernels
  /// The state that an earlier run of the same training left, for policies that have such states.
  package var checkpoint: TrainingCheckpoint?
  /// Gets the state after every epoch.
  package var saving: ((TrainingCheckpoint) -> Void)?
  /// Gets what the training will take, before it starts.
  package var estimated: ((TrainingEstimate) -> Void)?
  /// Called often; false cancels.
  package var progress: (TrainingProgress) -> Bool
  /// Training stops early, with the best so far, once this many seconds have passed.
  package var secondsAtMost: Double?
  /// Trained models that this one may be made of, by name.
  package var parts: [String: any Recommender] = [:]
  /// A trained network of the same settings whose weights are gone on from, in place of fresh ones.
  package var start: (any NetworkRecommender)?
  /// Whether other models are made of this one, by the validation events: it must not learn them.
  package var isPart = false
  /// Where a search keeps its trials.
  package var trials: (any TrialStore)?
  /// Seconds on a clock that only goes forward, for policies that divide a budget.
  package var now: () -> Double = { monotonicSeconds() }

  package init(
    threads: Int, niceness: Int32 = 0, kernels: Kernels,
    progress: @escaping (TrainingProgress) -> Bool = { _ in true }
  ) {
    self.threads = threads
    self.niceness = niceness
    self.kernels = kernels
    self.progress = progress
  }

  /// Reports one step and ends the training where it is cancelled.
  package func report(
    epoch: Int = 1, of epochs: Int = 1, step: Int = 0, steps: Int = 1, loss: Double = 0
  ) throws(TrainingCancelled) {
    guard
      progress(
        TrainingProgress(
          epoch: epoch, epochs: epochs, step: step, steps: steps, loss: loss, tokensPerSecond: 0,
          secondsElapsed: 0, secondsLeft: 0))
    else { throw TrainingCancelled() }
  }

  /// Lends a pool of `threads` workers.
  package func withPool<Result>(_ body: (WorkerPool) throws -> Result) rethrows -> Result {
    let pool = WorkerPool(count: threads, niceness: niceness)
    defer { pool.shutDown() }
    return try body(pool)
  }
}

/// Seconds since some moment.
package func monotonicSeconds() -> Double {
  seconds(ContinuousClock.now - monotonicOrigin)
}

private let monotonicOrigin = ContinuousClock.now

/// A model and how it came about.
package struct TrainedModel: Sendable {
  package var model: any Recommender
  /// Empty where the policy knows no epochs.
  package var epochs: [EpochRecord]
  /// The epoch whose weights the model has.
  package var bestEpoch: Int?
  package var secondsTraining: Double
  /// One sentence: what was done, with figures.
  package var summary: String
  /// Further lines for people, such as a table of what was tried.
  package var notes: [String] = []
  /// The settings that a search chose.
  package var chosen: PolicySettings?
  /// Whether the model has learned the events of the validation too, so that only the test can judge
  /// it.
  package var hasLearnedValidation = false
  /// The trainings of a search, in their order.
  package var trials: [TrialRecord] = []

  package init(
    _ model: any Recommender, epochs: [EpochRecord] = [], bestEpoch: Int? = nil,
    secondsTraining: Double, summary: String
  ) {
    self.model = model
    self.epochs = epochs
    self.bestEpoch = bestEpoch
    self.secondsTraining = secondsTraining
    self.summary = summary
  }
}

/// Every policy of this build.
package enum Policies {
  package static let all: [any Policy.Type] = [
    SASRecTraining.self, GSASRecTraining.self, BERT4RecTraining.self, ESASRecTraining.self,
    HSTUTraining.self, GRU4RecTraining.self, LACLRecTraining.self, ItemKNNTraining.self,
    NGramTraining.self, PopularTraining.self,
    RisingPopularTraining.self, ALSTraining.self, EASETraining.self, ELSATraining.self,
    Item2VecTraining.self, BlendTraining.self, RetrieveRankTraining.self,
    AutoTraining.self,
  ]

  package static var names: [String] { all.map { $0.description.name } }

  package static func named(_ name: String) -> (any Policy.Type)? {
    all.first { $0.description.name == name }
  }

  /// Policies that engine files in the wild name and that this build does not have, with the nearest
  /// that it has and why.
  package static let absent: [String: (nearest: String, reason: String)] = [
    "two-tower": ("als", "it learns user and item vectors from events too, without features"),
    "two-tower-v2": ("sasrec", "it encodes the history into a vector too, without features"),
    "content-gsasrec": ("gsasrec", "it learns from item ids, not from their contents"),
    "beeformer": ("elsa", "it learns item vectors from events, not from texts"),
    "semantic-ids": ("sasrec", "it learns a vector for each item id"),
    "lightgbm": ("retrieve-rank", "it orders candidates by a sequence model, not by trees"),
    "xgboost": ("retrieve-rank", "it orders candidates by a sequence model, not by trees"),
    "gbdt": ("retrieve-rank", "it orders candidates by a sequence model, not by trees"),
    "svd": ("als", "it factorises the same matrix, weighted for implicit feedback"),
    "widedeep": ("sasrec", "it learns from item ids, not from features"),
    "deepfm": ("sasrec", "it learns from item ids, not from features"),
    "item-content-similarity": ("item-knn", "it compares items by who acted on them"),
    "user-item-content-similarity": ("item-knn", "it compares items by who acted on them"),
    "auto-tune": ("auto", "it searches policies and their settings within a time budget"),
    "no-op": ("popular", "a query without a model ranks by columns alone"),
  ]
}
