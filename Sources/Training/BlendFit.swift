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
/// Only items that any model has among its first fifty compete; what no model puts there, no weights
/// bring to the front.
struct BlendFit: Sendable {
  let modelCount: Int
  /// The standings of competing items, `[items, models]`, one case after the other.
  private let values: [Float]
  /// The items of case `c` are `offsets[c]..<offsets[c + 1]`.
  private let offsets: [Int]
  /// The right item's place among them; -1 where it does not compete.
  private let targets: [Int]

  /// Items of a model that compete.
  private static let depth = 50

  /// Looks at two thousand cases at most, evenly spread: they settle a handful of weights.
  init(
    _ models: [any Recommender], _ standing: Standing, on cases: [EvaluationCase],
    pool: WorkerPool
  ) {
    let stride = max(1, (cases.count + 1999) / 2000)
    let asked = Swift.stride(from: 0, to: cases.count, by: stride).map { cases[$0] }
    let found = WorkerResults<[(place: Int, values: [Float], target: Int)]>(count: pool.count)
    pool.run { worker in
      var own: [(place: Int, values: [Float], target: Int)] = []
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
            Standing.best(
              Self.depth, of: UnsafeBufferPointer(row), excluding: { seen.contains($0) }))
          standing.apply(to: row, history: history)
        }
        let sorted = items.sorted()
        let values = sorted.flatMap { item in scores.map { $0.pointer[item] } }
        for item in right {
          own.append((place, values, sorted.firstIndex(of: item) ?? -1))
        }
      }
      found.set(own, worker)
    }
    modelCount = models.count
    let count = models.count
    let sorted = found.all.flatMap { $0 }.enumerated()
      .sorted { ($0.element.place, $0.offset) < ($1.element.place, $1.offset) }.map(\.element)
    var offsets = [0]
    for one in sorted { offsets.append((offsets.last ?? 0) + one.values.count / count) }
    self.offsets = offsets
    values = sorted.flatMap(\.values)
    targets = sorted.map(\.target)
  }

  /// Every case.
  private var all: [Int] { Array(targets.indices) }

  // MARK: Quality

  /// What some weights give in each case: NDCG@10, and the logarithm of the right item's probability
  /// among those that compete (0 where it does not compete itself).
  struct Quality: Sendable {
    var gains: [Double] = []
    var logLikelihoods: [Double] = []
    var ndcg: Double { gains.isEmpty ? 0 : gains.reduce(0, +) / Double(gains.count) }
  }

  private func quality(_ weights: [Double], of cases: [Int]) -> Quality {
    var quality = Quality()
    let active = weights.indices.filter { weights[$0] != 0 }
    forEach(cases, active, active.map { weights[$0] }) { _, target, utilities, _ in
      guard target >= 0 else {
        quality.gains.append(0)
        quality.logLikelihoods.append(0)
        return
      }
      let right = utilities[target]
      var rank = -1
      var most = right
      for utility in utilities {
        if utility >= right { rank += 1 }
        most = max(most, utility)
      }
      quality.gains.append(rank < 10 ? 1 / log2(Double(rank) + 2) : 0)
      var sum = 0.0
      for utility in utilities { sum += exp(utility - most) }
      quality.logLikelihoods.append(right - most - log(sum))
    }
    return quality
  }

  /// The quality of weights that were found without the cases that they are judged by: five folds,
  /// one after the other. Nil where it is too late for that.
  func crossValidated(_ models: [Int], isLate: () -> Bool = { false }) -> Quality? {
    var found = Quality()
    for number in 0..<5 {
      if isLate() { return nil }
      let others = all.filter { $0 % 5 != number }
      let own = quality(weights(of: models, on: others), of: all.filter { $0 % 5 == number })
      found.gains += own.gains
      found.logLikelihoods += own.logLikelihoods
    }
    return found
  }

  /// How much likelier the right items would become if each further model were added to some weights,
  /// to second order (Rao's score test): a quick look at which are worth a fit.
  func promise(beside weights: [Double]) -> [Double] {
    var gradient = [Double](repeating: 0, count: modelCount)
    var curvature = [Double](repeating: 1, count: modelCount)
    let active = weights.indices.filter { weights[$0] != 0 }
    let count = modelCount
    forEach(all, active, active.map { weights[$0] }) { _, target, utilities, rows in
      guard target >= 0 else { return }
      Self.normalise(utilities)
      for m in 0..<count {
        var mean = 0.0
        var square = 0.0
        for c in utilities.indices {
          let x = Double(rows[c * count + m])
          mean += utilities[c] * x
          square += utilities[c] * x * x
        }
        gradient[m] += Double(rows[target * count + m]) - mean
        curvature[m] += square - mean * mean
      }
    }
    return (0..<count).map { m in
      gradient[m] > 0 && weights[m] == 0 ? gradient[m] * gradient[m] / (2 * curvature[m]) : 0
    }
  }

  // MARK: Weights

  /// The weights, not negative, under which the right items are likeliest; 0 for models that are not
  /// asked for.
  ///
  /// A conditional logit (McFadden 1974): the probability of an item is proportional to the
  /// exponential of its weighted standings. Its likelihood is concave, so Newton's method finds the
  /// one maximum; weights that would fall to 0 are left out and the rest found again. A weak prior
  /// (variance 1) keeps two models that are alike apart.
  func weights(of models: [Int]? = nil) -> [Double] {
    weights(of: models ?? Array(0..<modelCount), on: all)
  }

  private func weights(of models: [Int], on cases: [Int]) -> [Double] {
    var active = models
    while true {
      var weights = active.map { _ in 0.1 }
      var value = logLikelihood(active, weights, cases)
      for _ in 0..<40 {
        let step = newtonStep(active, weights, cases)
        // Scores with spikes make the likelihood flat far from its top: no step may lead downwards.
        var length = 1.0
        var next = weights
        var nextValue = -Double.infinity
        while length > 1e-4 {
          next = zip(weights, step).map { $0 + length * $1 }
          nextValue = logLikelihood(active, next, cases)
          if nextValue > value { break }
          length /= 2
        }
        guard nextValue > value + 1e-5 else { break }
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
  private func logLikelihood(_ active: [Int], _ weights: [Double], _ cases: [Int]) -> Double {
    var sum = weights.reduce(0) { $0 - $1 * $1 / 2 }
    forEach(cases, active, weights) { _, target, utilities, _ in
      guard target >= 0 else { return }
      var most = -Double.infinity
      for utility in utilities { most = max(most, utility) }
      var total = 0.0
      for utility in utilities { total += exp(utility - most) }
      sum += utilities[target] - most - log(total)
    }
    return sum.isNaN ? -.infinity : sum
  }

  /// Newton's step for the penalised log-likelihood.
  private func newtonStep(_ active: [Int], _ weights: [Double], _ cases: [Int]) -> [Double] {
    let m = active.count
    var gradient = weights.map { -$0 }
    var hessian = [Double](repeating: 0, count: m * m)
    for i in 0..<m { hessian[i * m + i] = 1 }
    var row = [Double](repeating: 0, count: m)
    var mean = row
    let count = modelCount
    forEach(cases, active, weights) { _, target, utilities, rows in
      guard target >= 0 else { return }
      Self.normalise(utilities)
      for i in 0..<m { mean[i] = 0 }
      for c in utilities.indices {
        let p = utilities[c]
        if p < 1e-9 { continue }
        for i in 0..<m {
          row[i] = Double(rows[c * count + active[i]])
          mean[i] += p * row[i]
          for j in 0...i { hessian[i * m + j] += p * row[i] * row[j] }
        }
      }
      for i in 0..<m {
        gradient[i] += Double(rows[target * count + active[i]]) - mean[i]
        for j in 0...i { hessian[i * m + j] -= mean[i] * mean[j] }
      }
    }
    for i in 0..<m { for j in 0..<i { hessian[j * m + i] = hessian[i * m + j] } }
    return solved(hessian, gradient)
  }

  /// Goes through cases with the utilities of their items, which the body may change.
  @inline(__always)
  private func forEach(
    _ cases: [Int], _ active: [Int], _ weights: [Double],
    _ body: (
      _ place: Int, _ target: Int, _ utilities: UnsafeMutableBufferPointer<Double>,
      _ rows: UnsafePointer<Float>
    ) -> Void
  ) {
    let most = zip(offsets, offsets.dropFirst()).map { $1 - $0 }.max() ?? 0
    let count = modelCount
    withUnsafeTemporaryAllocation(of: Double.self, capacity: max(1, most)) { utilities in
      values.withUnsafeBufferPointer { values in
        guard let base = values.baseAddress else { return }
        for place in cases {
          let start = offsets[place]
          let items = offsets[place + 1] - start
          let rows = base + start * count
          let own = UnsafeMutableBufferPointer(rebasing: utilities[0..<items])
          own.initialize(repeating: 0)
          for (i, model) in active.enumerated() {
            let weight = weights[i]
            for c in 0..<items { own[c] += weight * Double(rows[c * count + model]) }
          }
          body(place, targets[place], own, rows)
        }
      }
    }
  }

  /// Turns utilities into probabilities.
  private static func normalise(_ utilities: UnsafeMutableBufferPointer<Double>) {
    var most = -Double.infinity
    for utility in utilities { most = max(most, utility) }
    var sum = 0.0
    for c in utilities.indices {
      utilities[c] = exp(utilities[c] - most)
      sum += utilities[c]
    }
    for c in utilities.indices { utilities[c] /= sum }
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
