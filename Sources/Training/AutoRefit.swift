import Domain
import Models

/// The last step of an `auto` training: what was chosen learns the validation events too.
///
/// Until then they decide what is chosen, so nothing may have learned them; afterwards they are each
/// user's newest events, and a model that has not learned them serves with less than it could know.
/// Policies that are trained in one go are trained again. A network goes on from its weights for a
/// quarter of the epochs that it took to its best: on short histories that brings what a whole
/// further training brings (`Benchmarks/RESULTS.md`).
struct AutoRefit {
  let search: AutoSearch
  let full: TrainingSet
  /// Sentences about what was done, for people.
  private(set) var course: [String] = []
  /// Models that have learned the validation events.
  private(set) var count = 0

  /// The share of a network's epochs to its best that it goes on for.
  static let furtherShare = 0.25
  /// The share of a budget that is kept for this step.
  static let reserved = 0.07

  /// Nil where there is nothing more to learn.
  init?(_ search: AutoSearch) {
    guard let further = search.data.further else { return nil }
    self.search = search
    full = TrainingSet(itemCount: search.data.itemCount, histories: further(), validation: [])
  }

  /// The models of some trials, each after it has learned more where that is possible before `end`.
  mutating func learn(
    _ chosen: [(place: Int, model: any Recommender)], until end: Double
  ) throws -> [any Recommender] {
    let begun = search.spent
    let needs = chosen.map { seconds($0.place) }
    let isNetwork = chosen.map { search.networks.contains($0.place) }
    // What networks need beyond what is there is taken off all of them alike.
    var left = zip(needs, isNetwork).reduce(0) { $0 + ($1.1 ? $1.0 : 0) }
    var models = chosen.map(\.model)
    for i in chosen.indices.filter({ !isNetwork[$0] }) + chosen.indices.filter({ isNetwork[$0] }) {
      let available = max(0, end - search.spent)
      var limit = available
      if isNetwork[i] {
        limit = left > available ? available * needs[i] / left : .infinity
        left -= needs[i]
      }
      if let model = try again(chosen[i].place, models[i], need: needs[i], limit: limit) {
        count += 1
        models[i] = model
      } else {
        course.append(
          "`\(search.trials[chosen[i].place].settings.name)` was left without the validation events."
        )
      }
    }
    if count > 0 {
      course.append(
        (count == chosen.count ? "What was chosen" : "\(count) of \(chosen.count) models")
          + " learned the validation events too, in \(text(seconds: search.spent - begun)).")
    }
    return models
  }

  /// About the seconds that a model needs.
  private func seconds(_ place: Int) -> Double {
    let trial = search.trials[place]
    // The same model under another recency has the key of the one that was trained.
    guard search.networks.contains(place) else {
      return search.trials.reduce(0) { $0 + ($1.key == trial.key ? $1.record.seconds : 0) }
    }
    guard let best = trial.bestEpoch, trial.epochCount > 0 else { return 0 }
    return trial.record.seconds * Double(furtherEpochs(best)) / Double(trial.epochCount)
  }

  private func furtherEpochs(_ best: Int) -> Int {
    max(1, Int((Self.furtherShare * Double(best)).rounded()))
  }

  /// Nil where there was no time, or where a model came out that knows the validation events less
  /// well than one that has never seen them.
  private func again(
    _ place: Int, _ model: any Recommender, need: Double, limit: Double
  ) throws -> (any Recommender)? {
    let trial = search.trials[place]
    var settings = trial.settings
    var own: TrainingContext
    var isLate = false
    if let network = model as? any NetworkRecommender {
      guard let best = trial.bestEpoch, limit > 0 else { return nil }
      own = search.surroundings(limit, hardLimit: .infinity) { isLate = $0 }
      if limit == .infinity { own.secondsAtMost = nil }
      own.start = network
      settings.values["n_epochs"] = .integer(furtherEpochs(best))
    } else {
      // These cannot end early, so they need all of their time.
      guard limit >= 0.9 * need else { return nil }
      own = search.surroundings(limit, hardLimit: max(1, 3 * need)) { isLate = $0 }
      own.secondsAtMost = nil
    }
    let trained: TrainedModel
    do {
      trained = try search.training(settings, full, own)
    } catch is Diagnostic {
      return nil
    } catch is TrainingCancelled where isLate {
      return nil
    }
    let cases = search.data.validation
    let step = max(1, cases.count / 500)
    let asked = stride(from: 0, to: cases.count, by: step).map { cases[$0] }
    func ndcg(_ model: any Recommender) -> Double {
      AutoSearch.Judged(search.judge(model, asked)).ndcg
    }
    return ndcg(trained.model) >= ndcg(model) ? trained.model : nil
  }
}
