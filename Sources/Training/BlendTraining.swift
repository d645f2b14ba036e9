import Domain
package import Evaluation
package import Models
import Neural

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The `blend` policy: several models of the same engine in one score.
package enum BlendTraining: Policy {
  package static let description = PolicyDescription(
    name: "blend",
    summary: "Several models in one score, weighted on the validation events.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "models", .models,
        "The models: a list of names, whose weights are then found on the validation events, or a "
          + "map of names and weights."),
      Hyperparameter(
        "standing", aliases: ["normalisation", "normalization"],
        .choice(Standing.allCases.map(\.rawValue)),
        "How scores are made comparable: by the logarithm of ranks, reciprocal ranks or standard "
          + "scores; by default what is best on the validation events."),
    ])

  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    if case .weights(let weights) = settings["models"], !weights.isEmpty { return nil }
    return SettingsProblem(
      key: "models", "a blend needs models.", help: "Write `models: [item_knn, sasrec]`.")
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard case .weights(let wanted) = settings["models"], !wanted.isEmpty else {
      throw Diagnostic(
        code: "missing_key", "The blend `\(settings.name)` names no models.",
        at: "training.models", help: "Write `models: [item_knn, sasrec]`.")
    }
    let models = try wanted.map { try part($0.model, of: settings, context) }
    return try context.withPool { pool in
      try context.report()
      let (found, seconds) = timed {
        blend(
          zip(wanted, models).map { (name: $0.model, weight: $0.weight, model: $1) },
          standing: settings.optionalText("standing").flatMap(Standing.init(rawValue:)),
          on: data.validation, pool: pool)
      }
      let weights = found.parts.map { "\($0.name) \(rounded($0.weight))" }
      return TrainedModel(
        found, secondsTraining: seconds,
        summary: "Weighted \(weights.joined(separator: ", ")) by \(found.standing.rawValue) on "
          + "\(data.validation.count) validation events in \(text(seconds: seconds)).")
    }
  }

  /// The blend of some models, with what is not given found on questions.
  package static func blend(
    _ models: [(name: String, weight: Double?, model: any Recommender)], standing: Standing?,
    on cases: [EvaluationCase], pool: WorkerPool
  ) -> Blend {
    let standings = standing.map { [$0] } ?? [.logRank, .standard]
    let candidates = standings.map { standing in
      var weights = models.map { $0.weight ?? 1 }
      if models.contains(where: { $0.weight == nil }), !cases.isEmpty {
        let fitted = fittedWeights(models.map(\.model), standing, on: cases, pool: pool)
        for i in models.indices where models[i].weight == nil { weights[i] = fitted[i] }
      }
      return Blend(
        parts: zip(models, weights).map {
          Blend.Part(name: $0.name, model: $0.model, weight: Float($1))
        }, standing: standing)
    }
    guard candidates.count > 1, !cases.isEmpty else { return candidates[0] }
    let qualities = candidates.map { rankings(cases, by: $0, pool: pool).mean(.ndcg, at: 10) }
    var best = 0
    for i in qualities.indices where qualities[i] > qualities[best] { best = i }
    return candidates[best]
  }
}

/// A trained model that another is made of.
func part(
  _ name: String, of settings: PolicySettings, _ context: TrainingContext
) throws(Diagnostic) -> any Recommender {
  if let model = context.parts[name] { return model }
  throw Diagnostic(
    code: "unknown_model", "The model `\(settings.name)` is made of `\(name)`, which is not there.",
    at: "training.models",
    help: context.parts.isEmpty
      ? "Declare it in `training.models`, before this one."
      : "Models: \(context.parts.keys.sorted().map { "`\($0)`" }.joined(separator: ", ")).")
}

func rounded(_ value: Float) -> String {
  let hundredths = Int((value * 100).rounded())
  let rest = abs(hundredths) % 100
  return "\(hundredths < 0 ? "-" : "")\(abs(hundredths) / 100).\(rest < 10 ? "0" : "")\(rest)"
}

/// The weights of models, not negative, under which the right items of questions are likeliest.
///
/// A conditional logit (McFadden 1974) over the items that any model has among its first hundred: the
/// probability of an item is proportional to the exponential of its weighted standings. Its likelihood
/// is concave, so Newton's method finds the one maximum; weights that would fall below 0 are left out
/// and the rest found again. A weak prior (variance 1) keeps two models that are alike apart.
private func fittedWeights(
  _ models: [any Recommender], _ standing: Standing, on cases: [EvaluationCase], pool: WorkerPool
) -> [Double] {
  let choices = gatherChoices(models, standing, cases, pool)
  var active = Array(models.indices)
  while true {
    var weights = active.map { _ in 1.0 / Double(active.count) }
    for _ in 0..<30 {
      let step = newtonStep(choices, active, weights)
      for i in weights.indices { weights[i] += max(-2, min(2, step[i])) }
      if step.allSatisfy({ abs($0) < 1e-4 }) { break }
    }
    let kept = zip(active, weights).filter { $0.1 > 0.01 }
    if kept.count == active.count || kept.isEmpty {
      var all = [Double](repeating: 0, count: models.count)
      for (model, weight) in zip(active, weights) { all[model] = max(0, weight) }
      if !all.contains(where: { $0 > 0 }) { all[0] = 1 }
      return all
    }
    active = kept.map(\.0)
  }
}

/// The standings of the items that compete in one question.
private struct Choice: Sendable {
  /// `[items, models]`
  var values: [Float]
  var models: Int
  var target: Int
}

private func gatherChoices(
  _ models: [any Recommender], _ standing: Standing, _ cases: [EvaluationCase], _ pool: WorkerPool
) -> [Choice] {
  // A few thousand questions settle a handful of weights.
  let stride = max(1, cases.count / 3000)
  let asked = Swift.stride(from: 0, to: cases.count, by: stride).map { cases[$0] }
  let found = WorkerResults<[(Int, Choice)]>(count: pool.count)
  pool.run { worker in
    var own: [(Int, Choice)] = []
    let n = models[0].itemCount
    let scores = models.map { _ in Buffer(count: n) }
    for q in Swift.stride(from: worker, to: asked.count, by: pool.count) {
      let history = asked[q].question
      let seen = Set(history.items.map(\.index)).subtracting(asked[q].targets.map(\.index))
      var items: Set<Int> = []
      for (model, buffer) in zip(models, scores) {
        model.score([history], into: buffer.pointer)
        let row = UnsafeMutableBufferPointer(start: buffer.pointer, count: n)
        items.formUnion(
          Standing.best(100, of: UnsafeBufferPointer(row), excluding: { seen.contains($0) }))
        standing.apply(to: row, history: history)
      }
      let sorted = items.sorted()
      let values = sorted.flatMap { item in scores.map { $0.pointer[item] } }
      for right in asked[q].targets {
        // Where no model has the right item among its best, no weight brings it there.
        guard let target = sorted.firstIndex(of: right.index) else { continue }
        own.append((q, Choice(values: values, models: models.count, target: target)))
      }
    }
    found.set(own, worker)
  }
  return found.all.flatMap { $0 }.sorted { $0.0 < $1.0 }.map(\.1)
}

/// Newton's step for the penalised log-likelihood.
private func newtonStep(
  _ choices: [Choice], _ active: [Int], _ weights: [Double]
) -> [Double] {
  let m = active.count
  var gradient = weights.map { -$0 }
  var hessian = [Double](repeating: 0, count: m * m)
  for i in 0..<m { hessian[i * m + i] = 1 }
  for choice in choices {
    let stride = choice.models
    let count = choice.values.count / stride
    var utilities = [Double](repeating: 0, count: count)
    for c in 0..<count {
      for (i, model) in active.enumerated() {
        utilities[c] += weights[i] * Double(choice.values[c * stride + model])
      }
    }
    let most = utilities.max() ?? 0
    var total = 0.0
    for c in 0..<count {
      utilities[c] = exp(utilities[c] - most)
      total += utilities[c]
    }
    var mean = [Double](repeating: 0, count: m)
    for c in 0..<count {
      let p = utilities[c] / total
      for (i, model) in active.enumerated() {
        let x = Double(choice.values[c * stride + model])
        mean[i] += p * x
        for (j, other) in active.enumerated() where j <= i {
          hessian[i * m + j] += p * x * Double(choice.values[c * stride + other])
        }
      }
    }
    for i in 0..<m {
      gradient[i] += Double(choice.values[choice.target * stride + active[i]]) - mean[i]
      for j in 0...i { hessian[i * m + j] -= mean[i] * mean[j] }
    }
  }
  for i in 0..<m { for j in 0..<i { hessian[j * m + i] = hessian[i * m + j] } }
  return solved(hessian, gradient)
}

/// Gaussian elimination with pivots for a handful of unknowns.
private func solved(_ matrix: [Double], _ right: [Double]) -> [Double] {
  let n = right.count
  var a = matrix
  var b = right
  for k in 0..<n {
    var pivot = k
    for i in k..<n where abs(a[i * n + k]) > abs(a[pivot * n + k]) { pivot = i }
    if abs(a[pivot * n + k]) < 1e-12 { continue }
    if pivot != k {
      for j in 0..<n { a.swapAt(k * n + j, pivot * n + j) }
      b.swapAt(k, pivot)
    }
    for i in 0..<n where i != k {
      let factor = a[i * n + k] / a[k * n + k]
      if factor == 0 { continue }
      for j in k..<n { a[i * n + j] -= factor * a[k * n + j] }
      b[i] -= factor * b[k]
    }
  }
  return (0..<n).map { abs(a[$0 * n + $0]) < 1e-12 ? 0 : b[$0] / a[$0 * n + $0] }
}

/// One place for each worker's result. Unchecked Sendable: every worker writes its own place.
final class WorkerResults<Value>: @unchecked Sendable {
  private let values: UnsafeMutablePointer<Value?>
  private let count: Int
  init(count: Int) {
    self.count = count
    values = .allocate(capacity: count)
    values.initialize(repeating: nil, count: count)
  }
  deinit {
    values.deinitialize(count: count)
    values.deallocate()
  }
  func set(_ value: Value, _ worker: Int) { values[worker] = value }
  var all: [Value] { (0..<count).compactMap { values[$0] } }
}
