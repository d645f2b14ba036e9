package import Domain

/// One question and its right answers: what was known of a user, and what the user did next.
package struct EvaluationCase: Sendable {
  /// The user's place in the data set.
  package var user: Int
  /// Oldest event first; never empty.
  package var history: ArraySlice<ItemToken>
  /// When each event of the history took place; empty where the data set has no times.
  package var times: ArraySlice<Timestamp>
  /// When the question is asked; nil where the data set has no times.
  package var moment: Timestamp?
  /// What the user did from then on: different items, at least one.
  package var targets: [ItemToken]

  package init(
    user: Int, history: ArraySlice<ItemToken>, times: ArraySlice<Timestamp> = [],
    moment: Timestamp? = nil, targets: [ItemToken]
  ) {
    self.user = user
    self.history = history
    self.times = times
    self.moment = moment
    self.targets = targets
  }
}

/// Which events a question is about.
package enum EvaluationStage: String, Hashable, Sendable, CaseIterable {
  /// Settings may be chosen by it.
  case validation
  /// Looked at once, when everything is chosen.
  case test
}

/// A division of a data set into what trains and what is asked.
package protocol EvaluationSplit: Sendable {
  var dataset: SequenceDataset { get }
  /// Every user's training events; users without one are left out.
  var trainingSet: SequenceDataset { get }
  /// Every user's events before the test, those of the validation included: what a model may have
  /// learned by the time that it is tested, once nothing is left to choose. Users without one are
  /// left out.
  var trainingAndValidationSet: SequenceDataset { get }
  func cases(_ stage: EvaluationStage) -> [EvaluationCase]
  /// What was left out of the questions of a stage, and why.
  func omissions(_ stage: EvaluationStage) -> [Omission]
  /// The split in words.
  var protocolText: String { get }
}

/// Events or users that a stage does not ask about.
package struct Omission: Hashable, Sendable {
  package var count: Int
  /// What they are, such as `users without an earlier event`.
  package var what: String
  package init(_ count: Int, _ what: String) {
    self.count = count
    self.what = what
  }
}

extension LeaveOneOut: EvaluationSplit {
  package var trainingSet: SequenceDataset {
    SequenceDataset(
      itemCount: dataset.itemCount, sequences: training,
      times: dataset.times.map { times in
        times.map { $0.count >= 3 ? Array($0.dropLast(2)) : $0 }
      })
  }

  package var trainingAndValidationSet: SequenceDataset {
    SequenceDataset(
      itemCount: dataset.itemCount,
      sequences: dataset.sequences.map { $0.count >= 3 ? Array($0.dropLast()) : $0 },
      times: dataset.times.map { times in
        times.map { $0.count >= 3 ? Array($0.dropLast()) : $0 }
      })
  }

  package func cases(_ stage: EvaluationStage) -> [EvaluationCase] {
    users.map { user in
      let history = history(of: user, stage)
      let times = dataset.times?[user] ?? []
      return EvaluationCase(
        user: user, history: history, times: times.prefix(history.count),
        moment: times.isEmpty ? nil : times[history.count], targets: [target(of: user, stage)])
    }
  }

  package func omissions(_ stage: EvaluationStage) -> [Omission] {
    let short = dataset.sequences.count - users.count
    return short == 0 ? [] : [Omission(short, "users with fewer than three events")]
  }

  package var protocolText: String {
    "leave-one-out: each user's last event is the test, the one before it the validation"
  }
}

/// The split by time: what happened before a moment trains, what happened after it is asked.
///
/// This is what a service meets: nothing is learned from the future, of other users either (Ji et
/// al. 2023, "A critical study on data leakage in recommender system offline evaluation"). The
/// test is the last `window` of the log, the validation the `window` before it. A user's questions
/// in a window are one case: the history at the window's start, and every new item in the window.
package struct GlobalTimeSplit: EvaluationSplit {
  package let dataset: SequenceDataset
  /// Seconds in each window.
  package let windowSeconds: Double
  /// Whether items without a training event may be right answers. A model that knows items by
  /// their events alone misses them.
  package let countsColdItems: Bool
  private let times: [[Timestamp]]
  private let validationStart: Timestamp
  private let testStart: Timestamp
  private let isCold: [Bool]

  /// Nil where the data set has no times or no events.
  package init?(_ dataset: SequenceDataset, windowSeconds: Double, countsColdItems: Bool = true) {
    guard let times = dataset.times, let last = times.compactMap(\.last).max(), windowSeconds > 0
    else { return nil }
    self.dataset = dataset
    self.times = times
    self.windowSeconds = windowSeconds
    self.countsColdItems = countsColdItems
    // The last event lies inside the test window.
    let end = last.microsecondsSinceEpoch + 1
    let window = Int64(windowSeconds * 1e6)
    testStart = Timestamp(microsecondsSinceEpoch: end - window)
    validationStart = Timestamp(microsecondsSinceEpoch: end - 2 * window)
    var isCold = [Bool](repeating: true, count: dataset.itemCount)
    for (sequence, times) in zip(dataset.sequences, times) {
      for (token, time) in zip(sequence, times) where time < validationStart {
        isCold[token.index] = false
      }
    }
    self.isCold = isCold
  }

  package var trainingSet: SequenceDataset { events(before: validationStart) }

  package var trainingAndValidationSet: SequenceDataset { events(before: testStart) }

  private func events(before moment: Timestamp) -> SequenceDataset {
    var sequences: [[ItemToken]] = []
    var kept: [[Timestamp]] = []
    for (sequence, times) in zip(dataset.sequences, times) {
      let count = count(times, before: moment)
      if count == 0 { continue }
      sequences.append(Array(sequence.prefix(count)))
      kept.append(Array(times.prefix(count)))
    }
    return SequenceDataset(itemCount: dataset.itemCount, sequences: sequences, times: kept)
  }

  package func cases(_ stage: EvaluationStage) -> [EvaluationCase] {
    var cases: [EvaluationCase] = []
    forEachWindow(stage) { user, before, inside in
      guard before > 0, !inside.isEmpty else { return }
      let targets = newItems(user: user, before: before, inside: inside).filter {
        countsColdItems || !isCold[$0.index]
      }
      guard !targets.isEmpty else { return }
      cases.append(
        EvaluationCase(
          user: user, history: dataset.sequences[user].prefix(before),
          times: times[user].prefix(before), moment: start(stage), targets: targets))
    }
    return cases
  }

  package func omissions(_ stage: EvaluationStage) -> [Omission] {
    var newUsers = 0
    var onlyRepeats = 0
    var cold = 0
    forEachWindow(stage) { user, before, inside in
      if inside.isEmpty { return }
      if before == 0 {
        newUsers += 1
        return
      }
      let targets = newItems(user: user, before: before, inside: inside)
      if targets.isEmpty { onlyRepeats += 1 }
      cold += targets.count { isCold[$0.index] }
    }
    var omissions: [Omission] = []
    if newUsers > 0 { omissions.append(Omission(newUsers, "users without an earlier event")) }
    if onlyRepeats > 0 {
      omissions.append(Omission(onlyRepeats, "users who only came back to items they had"))
    }
    if cold > 0 {
      omissions.append(
        Omission(
          cold,
          countsColdItems
            ? "right answers are items without a training event (counted, as misses of models that "
              + "do not know them)" : "right answers without a training event"))
    }
    return omissions
  }

  package var protocolText: String {
    let days = windowSeconds / 86_400
    let length = days == days.rounded() ? "\(Int(days)) days" : "\(windowSeconds) seconds"
    return "global time split: the last \(length) are the test, the \(length) before them the "
      + "validation; each user's new items of the window are the right answers"
  }

  private func start(_ stage: EvaluationStage) -> Timestamp {
    stage == .validation ? validationStart : testStart
  }

  private func forEachWindow(
    _ stage: EvaluationStage, _ body: (_ user: Int, _ before: Int, _ inside: Range<Int>) -> Void
  ) {
    for user in dataset.sequences.indices {
      let before = count(times[user], before: start(stage))
      let end =
        stage == .validation ? count(times[user], before: testStart) : times[user].count
      body(user, before, before..<max(before, end))
    }
  }

  /// Events are in time order, so a prefix is before any moment.
  private func count(_ times: [Timestamp], before moment: Timestamp) -> Int {
    var (low, high) = (0, times.count)
    while low < high {
      let middle = (low + high) / 2
      if times[middle] < moment { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private func newItems(user: Int, before: Int, inside: Range<Int>) -> [ItemToken] {
    var known = Set(dataset.sequences[user].prefix(before))
    return dataset.sequences[user][inside].filter { known.insert($0).inserted }
  }
}
