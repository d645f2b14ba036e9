package import Domain

/// What a search tried, ready to be shown and stored.
package struct SearchTrials: Hashable, Sendable {
  package struct Trial: Hashable, Sendable {
    /// The policy.
    package var policy: String
    /// What the search calls it.
    package var name: String
    /// The values that were tried, by the hyper-parameter's name: numbers, texts or flags.
    package var values: [String: JSON]
    /// The share of the full number of epochs, in `0...1`.
    package var share: Double
    /// On the validation events.
    package var ndcg: Double
    package var recall: Double
    package var seconds: Double
    /// Seconds from the search's begin to the trial's end.
    package var at: Double
    /// Whether an earlier search had done it.
    package var isKept: Bool

    package init(
      policy: String, name: String, values: [String: JSON], share: Double, ndcg: Double,
      recall: Double, seconds: Double, at: Double, isKept: Bool
    ) {
      self.policy = policy
      self.name = name
      self.values = values
      self.share = share
      self.ndcg = ndcg
      self.recall = recall
      self.seconds = seconds
      self.at = at
      self.isKept = isKept
    }
  }

  /// The model that was searched for.
  package var name: String
  /// In the order in which they ended.
  package var trials: [Trial]

  package init(name: String, trials: [Trial]) {
    self.name = name
    self.trials = trials
  }

  /// Those that were trained furthest first, of these the best first.
  package var ranked: [Trial] {
    trials.indices.sorted {
      let (a, b) = (trials[$0], trials[$1])
      return (b.share, b.ndcg, $0) < (a.share, a.ndcg, $1)
    }.map { trials[$0] }
  }

  /// Policies in the order in which they were first tried.
  package var policies: [String] {
    var seen: [String] = []
    for trial in trials where !seen.contains(trial.policy) { seen.append(trial.policy) }
    return seen
  }

  /// One hyper-parameter of one policy, with the trials that had a value for it.
  package struct Parameter: Hashable, Sendable {
    package var policy: String
    package var name: String
    package var points: [(value: JSON, trial: Trial)]

    package static func == (a: Parameter, b: Parameter) -> Bool {
      a.policy == b.policy && a.name == b.name
        && a.points.map(\.value) == b.points.map(\.value)
        && a.points.map(\.trial) == b.points.map(\.trial)
    }
    package func hash(into hasher: inout Hasher) {
      hasher.combine(policy)
      hasher.combine(name)
      hasher.combine(points.count)
    }
  }

  /// Hyper-parameters that were tried at three trials or more with more than one value, the most tried
  /// first. Trials of fewer epochs than the furthest of their policy do not count: they are not worse
  /// for their values.
  package var parameters: [Parameter] {
    var found: [Parameter] = []
    for policy in policies {
      let own = trials.filter { $0.policy == policy }
      let furthest = own.map(\.share).max() ?? 1
      let complete = own.filter { $0.share == furthest }
      let counted = complete.count >= 3 ? complete : own
      for name in Set(counted.flatMap(\.values.keys)).sorted()
      where !["seed", "sample_seed"].contains(name) {
        let points = counted.compactMap { trial in trial.values[name].map { ($0, trial) } }
        guard points.count >= 3, Set(points.map(\.0.text)).count > 1 else { continue }
        found.append(Parameter(policy: policy, name: name, points: points))
      }
    }
    return found.enumerated().sorted {
      ($1.element.points.count, $0.offset) < ($0.element.points.count, $1.offset)
    }.map(\.element)
  }

  package var json: JSON {
    [
      "name": .string(name),
      "trials": .array(
        trials.map { trial in
          [
            "policy_type": .string(trial.policy), "name": .string(trial.name),
            "values": .object(
              trial.values.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value) }),
            "share": .double(trial.share), "ndcg_at_10": .double(trial.ndcg),
            "recall_at_10": .double(trial.recall), "seconds": .double(trial.seconds),
            "at_seconds": .double(trial.at), "kept": .bool(trial.isKept),
          ]
        }),
    ]
  }

  /// Reads what `json` wrote; nil where it is something else.
  package init?(_ json: JSON) {
    guard let name = json["name"]?.string, let list = json["trials"]?.array else { return nil }
    self.name = name
    trials = list.compactMap { one in
      guard let policy = one["policy_type"]?.string, let name = one["name"]?.string,
        let values = one["values"]?.object, let share = one["share"]?.number,
        let ndcg = one["ndcg_at_10"]?.number, let recall = one["recall_at_10"]?.number,
        let seconds = one["seconds"]?.number, let at = one["at_seconds"]?.number
      else { return nil }
      return Trial(
        policy: policy, name: name,
        values: Dictionary(values.map { ($0.name, $0.value) }) { $1 }, share: share, ndcg: ndcg,
        recall: recall, seconds: seconds, at: at, isKept: one["kept"]?.bool ?? false)
    }
  }
}
