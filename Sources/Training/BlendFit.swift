import Domain
import Evaluation
import Models
import Neural

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// How a blend's weights are found: where each model puts the items that compete for each right one.
///
/// Only items that any model has among its first hundred compete; what no model puts there, no weights
/// bring to the front.
struct BlendFit: Sendable {
  /// The standings of the items that compete for one right item.
  struct Choice: Sendable {
    /// `[items, models]`
    var values: [Float]
    /// The right item's place; nil where it does not compete.
    var target: Int?
  }

  let modelCount: Int
  private(set) var choices: [Choice]

  /// Looks at three thousand cases at most, evenly spread: they settle a handful of weights.
  init(
    _ models: [any Recommender], _ standing: Standing, on cases: [EvaluationCase],
    pool: WorkerPool
  ) {
    let stride = max(1, cases.count / 3000)
    let asked = Swift.stride(from: 0, to: cases.count, by: stride).map { cases[$0] }
    let found = WorkerResults<[(Int, Choice)]>(count: pool.count)
    pool.run { worker in
      var own: [(Int, Choice)] = []
      let n = models[0].itemCount
      let scores = models.map { _ in Buffer(count: n) }
      for place in Swift.stride(from: worker, to: asked.count, by: pool.count) {
        let history = asked[place].question
        let right = asked[place].targets.map(\.index)
        let seen = Set(history.items.map(\.index)).subtracting(right)
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
        for item in right {
          own.append((place, Choice(values: values, target: sorted.firstIndex(of: item))))
        }
      }
      found.set(own, worker)
    }
    modelCount = models.count
    choices = found.all.flatMap { $0 }.sorted { $0.0 < $1.0 }.map(\.1)
  }

  /// The choices of every fifth place, or of all others.
  func fold(_ number: Int, isKept: Bool) -> BlendFit {
    var fit = self
    fit.choices = choices.indices.filter { ($0 % 5 == number) == isKept }.map { choices[$0] }
    return fit
  }

  /// Mean NDCG@10 of some weights.
  func ndcg(_ weights: [Double]) -> Double {
    var sum = 0.0
    for choice in choices {
      guard let target = choice.target else { continue }
      func utility(_ item: Int) -> Double {
        var utility = 0.0
        for (m, weight) in weights.enumerated() where weight != 0 {
          utility += weight * Double(choice.values[item * modelCount + m])
        }
        return utility
      }
      let right = utility(target)
      var rank = -1
      for item in 0..<choice.values.count / modelCount where utility(item) >= right {
        rank += 1
        if rank >= 10 { break }
      }
      if rank < 10 { sum += 1 / log2(Double(rank) + 2) }
    }
    return choices.isEmpty ? 0 : sum / Double(choices.count)
  }

  /// NDCG@10 of weights that were found without the cases that they are judged by: five folds.
  func crossValidatedNDCG(of models: [Int]) -> Double {
    let parts = (0..<5).map { number -> (Double, Int) in
      let judged = fold(number, isKept: true)
      let weights = fold(number, isKept: false).weights(of: models)
      return (judged.ndcg(weights) * Double(judged.choices.count), judged.choices.count)
    }
    let count = parts.reduce(0) { $0 + $1.1 }
    return count == 0 ? 0 : parts.reduce(0) { $0 + $1.0 } / Double(count)
  }

  /// The weights, not negative, under which the right items are likeliest; 0 for models that are not
  /// asked for.
  ///
  /// A conditional logit (McFadden 1974): the probability of an item is proportional to the
  /// exponential of its weighted standings. Its likelihood is concave, so Newton's method finds the
  /// one maximum; weights that would fall to 0 are left out and the rest found again. A weak prior
  /// (variance 1) keeps two models that are alike apart.
  func weights(of models: [Int]? = nil) -> [Double] {
    var active = models ?? Array(0..<modelCount)
    while true {
      var weights = active.map { _ in 0.1 }
      var value = logLikelihood(active, weights)
      for _ in 0..<40 {
        let step = newtonStep(active, weights)
        // Scores with spikes make the likelihood flat far from its top: no step may lead downwards.
        var length = 1.0
        var next = weights
        var nextValue = -Double.infinity
        while length > 1e-4 {
          next = zip(weights, step).map { $0 + length * $1 }
          nextValue = logLikelihood(active, next)
          if nextValue > value { break }
          length /= 2
        }
        guard nextValue > value + 1e-6 else { break }
        (weights, value) = (next, nextValue)
      }
      let kept = zip(active, weights).filter { $0.1 > 0.01 }
      if kept.count == active.count || kept.isEmpty {
        var all = [Double](repeating: 0, count: modelCount)
        for (model, weight) in zip(active, weights) { all[model] = max(0, weight) }
        if !all.contains(where: { $0 > 0 }), let first = active.first { all[first] = 1 }
        return all
      }
      active = kept.map(\.0)
    }
  }

  /// The penalised log-likelihood.
  private func logLikelihood(_ active: [Int], _ weights: [Double]) -> Double {
    var sum = weights.reduce(0) { $0 - $1 * $1 / 2 }
    for choice in choices {
      guard let target = choice.target else { continue }
      var utilities = [Double](repeating: 0, count: choice.values.count / modelCount)
      for c in utilities.indices {
        for i in active.indices {
          utilities[c] += weights[i] * Double(choice.values[c * modelCount + active[i]])
        }
      }
      let most = utilities.max() ?? 0
      sum += utilities[target] - most - log(utilities.reduce(0) { $0 + exp($1 - most) })
    }
    return sum.isNaN ? -.infinity : sum
  }

  /// Newton's step for the penalised log-likelihood.
  private func newtonStep(_ active: [Int], _ weights: [Double]) -> [Double] {
    let m = active.count
    var gradient = weights.map { -$0 }
    var hessian = [Double](repeating: 0, count: m * m)
    for i in 0..<m { hessian[i * m + i] = 1 }
    var row = [Double](repeating: 0, count: m)
    var mean = row
    for choice in choices {
      guard let target = choice.target else { continue }
      let count = choice.values.count / modelCount
      var utilities = [Double](repeating: 0, count: count)
      for c in 0..<count {
        for i in 0..<m {
          utilities[c] += weights[i] * Double(choice.values[c * modelCount + active[i]])
        }
      }
      let most = utilities.max() ?? 0
      var total = 0.0
      for c in 0..<count {
        utilities[c] = exp(utilities[c] - most)
        total += utilities[c]
      }
      for i in 0..<m { mean[i] = 0 }
      for c in 0..<count {
        let p = utilities[c] / total
        if p < 1e-9 { continue }
        for i in 0..<m {
          row[i] = Double(choice.values[c * modelCount + active[i]])
          mean[i] += p * row[i]
          for j in 0...i { hessian[i * m + j] += p * row[i] * row[j] }
        }
      }
      for i in 0..<m {
        gradient[i] += Double(choice.values[target * modelCount + active[i]]) - mean[i]
        for j in 0...i { hessian[i * m + j] -= mean[i] * mean[j] }
      }
    }
    for i in 0..<m { for j in 0..<i { hessian[j * m + i] = hessian[i * m + j] } }
    return solved(hessian, gradient)
  }
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
