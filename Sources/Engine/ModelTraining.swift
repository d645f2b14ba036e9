package import Domain
package import Evaluation
package import Kernels
package import Models
package import State
package import Training

/// What a model learns from: every user's positive events as tokens of one vocabulary.
package struct TrainingData: Sendable {
  /// The user of each sequence.
  package let users: [UserID]
  /// Oldest event first; none is empty.
  package let sequences: [[ItemToken]]
  /// When each event was, where that is known.
  package let times: [[Timestamp]]?
  /// The item of each token.
  package let vocabulary: [ItemID]

  package init(
    users: [UserID], sequences: [[ItemToken]], times: [[Timestamp]]? = nil, vocabulary: [ItemID]
  ) {
    precondition(users.count == sequences.count, "\(users.count) and \(sequences.count)")
    self.users = users
    self.sequences = sequences
    self.times = times
    self.vocabulary = vocabulary
  }

  /// Takes the positive events out of a state; tokens are numbered in the catalog's order.
  package init(_ state: StateSnapshot, _ policy: PolicySettings) {
    self.init(state, eventValues: policy.eventValues)
  }

  /// Takes the positive events of some kinds, or of all, out of a state.
  package init(_ state: StateSnapshot, eventValues: [String]?) {
    let kinds = eventValues.map { names in names.compactMap { state.eventCode($0) } }
    var users: [UserID] = []
    var rowsOfUsers: [[CatalogRow]] = []
    var times: [[Timestamp]] = []
    var isUsed = [Bool](repeating: false, count: state.itemCount)
    state.forEachUser { id, user in
      var rows: [CatalogRow] = []
      var own: [Timestamp] = []
      for interaction in user.history where interaction.isPositive {
        if let kinds, !kinds.contains(interaction.event) { continue }
        rows.append(interaction.row)
        own.append(interaction.time)
        isUsed[interaction.row.index] = true
      }
      if rows.isEmpty { return }
      users.append(id)
      rowsOfUsers.append(rows)
      times.append(own)
    }
    var tokens = [Int32](repeating: -1, count: state.itemCount)
    var vocabulary: [ItemID] = []
    for row in isUsed.indices where isUsed[row] {
      tokens[row] = Int32(vocabulary.count)
      vocabulary.append(state.itemID(of: CatalogRow(row)))
    }
    self.init(
      users: users, sequences: rowsOfUsers.map { $0.map { ItemToken(tokens[$0.index]) } },
      times: times, vocabulary: vocabulary)
  }

  package var split: LeaveOneOut {
    LeaveOneOut(
      SequenceDataset(itemCount: vocabulary.count, sequences: sequences, times: times))
  }
}

/// One training of one policy, judged leave-one-out.
///
/// The published model is the one that is judged: it has learned from all but each user's last two
/// events (`auto`: from all but the last one), and it reads those, like everything newer, when a query
/// asks.
package struct ModelTraining {
  package let policy: PolicySettings
  package let threads: Int
  package let niceness: Int32
  package let kernels: Kernels
  /// Trained models that this one may be made of, by name.
  package var parts: [String: any Recommender] = [:]
  /// Whether other models are made of this one.
  package var isPart = false
  /// How hyper-parameters are searched that have a range in place of a value.
  package var tuning = TuningSettings()
  /// Where a search keeps its trials.
  package var trials: (any TrialStore)?

  package init(policy: PolicySettings, threads: Int, niceness: Int32, kernels: Kernels) {
    self.policy = policy
    self.threads = threads
    self.niceness = niceness
    self.kernels = kernels
  }

  /// With the kernels for this processor.
  package init(policy: PolicySettings, threads: Int, niceness: Int32) throws(Diagnostic) {
    self.init(
      policy: policy, threads: threads, niceness: niceness, kernels: try chosenKernels())
  }

  /// What the weights will depend on.
  func circumstances(_ data: TrainingData) -> TrainingCircumstances {
    TrainingCircumstances(
      threads: threads, kernels: kernels.name, fingerprint: data.split.dataset.fingerprint)
  }

  package struct Outcome: Sendable {
    package var trained: TrainedModel
    package var evaluation: EvaluationTable
    package var model: any Recommender { trained.model }
    package var summary: String { trained.summary }
  }

  /// A further ranking to judge beside the model: one score for each token of the vocabulary.
  package typealias Scorer = (name: String, scores: (UserID) -> [Float])

  /// Trains and judges.
  ///
  /// - Parameters:
  ///   - estimated: gets what the training will take at most, before it starts.
  ///   - checkpoint: goes on from the state of an earlier run on the same data.
  ///   - saving: gets the state after every epoch.
  ///   - progress: false cancels.
  /// - Throws: `TrainingCancelled`; `nothing_to_learn` where no user has two positive events.
  package func run(
    _ data: TrainingData, others: [Scorer] = [], estimated: ((TrainingEstimate) -> Void)? = nil,
    from checkpoint: TrainingCheckpoint? = nil,
    saving: ((TrainingCheckpoint) -> Void)? = nil,
    progress: @escaping (EngineProgress) -> Bool
  ) throws -> Outcome {
    let trained = try train(
      data, estimated: estimated, from: checkpoint, saving: saving, progress: progress)
    return Outcome(
      trained: trained, evaluation: judge(trained.model, on: data, data.split, others: others))
  }

  /// Trains without judging.
  package func train(
    _ data: TrainingData, estimated: ((TrainingEstimate) -> Void)? = nil,
    from checkpoint: TrainingCheckpoint? = nil,
    saving: ((TrainingCheckpoint) -> Void)? = nil,
    progress: @escaping (EngineProgress) -> Bool
  ) throws -> TrainedModel {
    let split = data.split
    guard data.vocabulary.count > 1, split.training.contains(where: { $0.count >= 2 }) else {
      throw Diagnostic(
        .unavailable, code: "nothing_to_learn",
        "The model `\(policy.name)` has nothing to learn from: \(data.users.count) users have "
          + "positive events, with \(data.vocabulary.count) different items.",
        at: "training.models",
        help: "Insert events with a label above 0, at least two for some users.")
    }
    guard let kind = Policies.named(policy.policy.name) else {
      throw Diagnostic(
        .internalError, code: "unknown_policy", "There is no policy `\(policy.policy.name)`.")
    }
    let context = context(estimated, checkpoint, saving, progress: progress)
    guard policy.searches.isEmpty else {
      let tuner = Tuner(
        policy, jobs: tuning.jobs, parallelJobs: tuning.parallelJobs,
        secondsAtMost: tuning.minutes.map { $0 * 60 }, store: trials)
      return try tuner.train(TrainingSet(split), context)
    }
    return try kind.train(TrainingSet(split), policy, context)
  }

  private func context(
    _ estimated: ((TrainingEstimate) -> Void)?, _ checkpoint: TrainingCheckpoint?,
    _ saving: ((TrainingCheckpoint) -> Void)?, progress: @escaping (EngineProgress) -> Bool
  ) -> TrainingContext {
    var validationNDCG: Double?
    var validatedEpoch: Int?
    let name = policy.name
    var context = TrainingContext(threads: threads, niceness: niceness, kernels: kernels) { state in
      if let ndcg = state.validationNDCG {
        validationNDCG = ndcg
        validatedEpoch = state.epoch
      }
      let done = Double(state.epoch - 1) + Double(state.step) / Double(max(1, state.steps))
      return progress(
        EngineProgress(
          model: name, epoch: state.epoch, epochs: state.epochs,
          fraction: done / Double(state.epochs), loss: state.loss,
          tokensPerSecond: state.tokensPerSecond, validationNDCG: validationNDCG,
          validatedEpoch: validatedEpoch, secondsLeft: state.secondsLeft))
    }
    context.estimated = estimated
    context.checkpoint = checkpoint
    context.saving = saving
    context.parts = parts
    context.isPart = isPart
    context.trials = trials
    return context
  }

  /// Judges a model that was trained on the same data.
  package func judge(
    _ model: any Recommender, on data: TrainingData, _ split: LeaveOneOut, others: [Scorer]
  ) -> EvaluationTable {
    EvaluationTable(
      evaluate(
        model, name: policy.name, on: split, threads: threads,
        others: others.map { other in (other.name, { other.scores(data.users[$0]) }) }))
  }
}

/// A model's figures beside the baselines, ready to print and to store.
package struct EvaluationTable: Hashable, Sendable {
  package struct Figure: Hashable, Sendable {
    package var value: Double
    package var low: Double
    package var high: Double
  }

  package struct Line: Hashable, Sendable {
    package var name: String
    package var recallAt10: Figure
    package var ndcgAt10: Figure
  }

  /// The model first, then the baselines, then further rankings.
  package var lines: [Line]
  package var userCount: Int
  package var itemCount: Int
  package var eventCount: Int
  /// How the figures came about.
  package var protocolText: String

  init(_ report: EvaluationReport) {
    func figure(_ estimate: Estimate) -> Figure {
      Figure(value: estimate.value, low: estimate.low, high: estimate.high)
    }
    lines = report.lines.map { line in
      Line(
        name: line.name, recallAt10: figure(line.result.recallEstimate(at: 10)),
        ndcgAt10: figure(line.result.ndcgEstimate(at: 10)))
    }
    userCount = report.userCount
    itemCount = report.itemCount
    eventCount = report.eventCount
    protocolText = report.protocolText
  }

  /// Reads what `json` wrote; nil where it is something else.
  package init?(_ json: JSON) {
    func figure(_ json: JSON?) -> Figure? {
      guard let value = json?["value"]?.number, let low = json?["low"]?.number,
        let high = json?["high"]?.number
      else { return nil }
      return Figure(value: value, low: low, high: high)
    }
    guard let lines = json["lines"]?.array, let users = json["users"]?.int,
      let items = json["items"]?.int, let events = json["events"]?.int,
      let text = json["protocol"]?.string
    else { return nil }
    self.lines = lines.compactMap { line in
      guard let name = line["name"]?.string, let recall = figure(line["recall_at_10"]),
        let ndcg = figure(line["ndcg_at_10"])
      else { return nil }
      return Line(name: name, recallAt10: recall, ndcgAt10: ndcg)
    }
    (userCount, itemCount, eventCount) = (Int(users), Int(items), Int(events))
    protocolText = text
  }

  package var json: JSON {
    func json(_ figure: Figure) -> JSON {
      ["value": .double(figure.value), "low": .double(figure.low), "high": .double(figure.high)]
    }
    return [
      "protocol": .string(protocolText), "users": .int(Int64(userCount)),
      "items": .int(Int64(itemCount)), "events": .int(Int64(eventCount)),
      "lines": .array(
        lines.map { line in
          [
            "name": .string(line.name), "recall_at_10": json(line.recallAt10),
            "ndcg_at_10": json(line.ndcgAt10),
          ]
        }),
    ]
  }
}
