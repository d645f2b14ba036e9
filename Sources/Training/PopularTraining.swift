import Domain
package import Models

/// The `popular` policy: what most events are on, in all or within a window of time.
package enum PopularTraining: Policy {
  package static let description = PolicyDescription(
    name: "popular",
    summary: "What most events are on, in all or in the newest days; the same for everybody.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "time_window", aliases: ["window_days"], .number(0.01...36_500),
        search: .options([1, 7, 30, 365].map { .number($0) }),
        "Days that count, up to the newest event; by default all events.")
    ])

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    try context.report()
    guard let days = settings.optionalNumber("time_window") else {
      let (model, seconds) = timed {
        Popularity(totals: data.counts.map { Float($0) }, window: nil)
      }
      return TrainedModel(
        model, secondsTraining: seconds, summary: "Counted \(data.eventCount) events.")
    }
    // A thirtieth of the window is how far its edges may lie off for questions of the past.
    let period = max(1, Int64(days * 86_400e6 / 30))
    return try countByTime(data, settings, period: period, periods: 30, rise: 0)
  }
}

/// The `rising-popular` policy: what many act on now, the more the faster that grows.
package enum RisingPopularTraining: Policy {
  package static let description = PolicyDescription(
    name: "rising-popular",
    summary: "What many act on now and few did before: popularity times growth.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "time_window", .integer(1...1000), default: .integer(7),
        search: .integers(1...30),
        "Periods of `time_frequency` that count; growth compares them with as many before."),
      Hyperparameter(
        "time_frequency", .choice(["30M", "1H", "1D", "1W"]), default: .text("1D"),
        search: .options(["30M", "1H", "1D", "1W"].map { .text($0) }),
        "The length of a period: 30 minutes, an hour, a day or a week."),
      Hyperparameter(
        "rise", .number(0...4), default: .number(0.5), search: .numbers(0...2),
        "How strongly growth counts: the score is the count in the window times "
          + "((count + 10) / (count before + 10)) raised to this."),
    ])

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    try context.report()
    let minutes: Int64 =
      switch settings.text("time_frequency") {
      case "30M": 30
      case "1H": 60
      case "1W": 7 * 24 * 60
      default: 24 * 60
      }
    return try countByTime(
      data, settings, period: minutes * 60_000_000, periods: settings.integer("time_window"),
      rise: settings.number("rise"))
  }
}

extension TrainingSet {
  package var eventCount: Int { histories.reduce(0) { $0 + $1.items.count } }
}

private func countByTime(
  _ data: TrainingSet, _ settings: PolicySettings, period: Int64, periods: Int, rise: Double
) throws -> TrainedModel {
  guard let end = data.histories.compactMap({ $0.times?.max() }).max() else {
    throw Diagnostic(
      .unavailable, code: "needs_times",
      "The model `\(settings.name)` counts events by time, and these events have no times.",
      at: "training.models",
      help: "Name the column of times in `data.schema_override.interaction.created_at`, or use the "
        + "policy `popular` without `time_window`.")
  }
  let (model, seconds) = timed {
    var entries: [(period: Int, item: Int32)] = []
    for history in data.histories {
      for (item, time) in zip(history.items, history.times ?? []) {
        let behind = end.microsecondsSinceEpoch - time.microsecondsSinceEpoch
        entries.append((Int(behind / period), item.rawValue))
      }
    }
    entries.sort { $0 < $1 }
    // Far periods without events would cost a place each: what lies behind a million periods is one.
    let last = min(1_000_000, entries.last?.period ?? 0)
    var starts = [0]
    var items: [Int32] = []
    var counts: [Float] = []
    var open = -1
    for entry in entries {
      let current = min(last, entry.period)
      while starts.count <= current { starts.append(items.count) }
      if open == current, items.last == entry.item {
        counts[counts.count - 1] += 1
      } else {
        items.append(entry.item)
        counts.append(1)
        open = current
      }
    }
    starts.append(items.count)
    return Popularity(
      totals: data.counts.map { Float($0) },
      window: Popularity.Window(
        end: end.microsecondsSinceEpoch, period: period, periods: periods, rise: rise),
      starts: starts, items: items, counts: counts)
  }
  return TrainedModel(
    model, secondsTraining: seconds,
    summary: "Counted \(data.eventCount) events by time in \(text(seconds: seconds)).")
}
