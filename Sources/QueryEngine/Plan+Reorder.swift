import Columns
import Domain

extension Plan.Exploration {
  /// Mixes items of a pool into an order: each place goes to the next of the order or, with the
  /// probability `strength`, to a random one of the pool.
  ///
  /// At most `ceil(strength · window)` of any `window` places in a row go to the pool.
  ///
  /// - Returns: the new order, and for the first `count` places the probability with which the item
  ///   that stands there was chosen, given the places before it.
  func explored(
    _ order: [Int], pool: [Int], count: Int, using random: inout RandomNumbers
  ) -> (order: [Int], propensities: [Int: Double]) {
    var pool = pool
    var isPlaced: Set<Int> = []
    var placed: [Int] = []
    var wasExplored: [Bool] = []
    var propensities: [Int: Double] = [:]
    var next = 0
    let quota = max(1, Int((strength * Double(window)).rounded(.up)))
    while placed.count < count {
      while next < order.count, isPlaced.contains(order[next]) { next += 1 }
      let main = next < order.count ? order[next] : nil
      let isOpen = wasExplored.suffix(max(0, window - 1)).count(where: { $0 }) < quota
      let chance = pool.isEmpty || !isOpen ? 0 : main == nil ? 1 : strength
      if main == nil, chance == 0 {
        guard !pool.isEmpty else { break }
      }
      let isExploring = main == nil || random.fraction() < chance
      let chosen: Int
      let mostLikely = main
      let poolCount = pool.count
      if isExploring {
        chosen = pool[random.below(pool.count)]
      } else if let main {
        chosen = main
      } else {
        break
      }
      let effective = main == nil ? 1 : chance
      var propensity = chosen == mostLikely ? 1 - effective : 0
      if let at = pool.firstIndex(of: chosen) {
        propensity += effective / Double(poolCount)
        pool.remove(at: at)
      }
      propensities[chosen] = propensity
      isPlaced.insert(chosen)
      placed.append(chosen)
      wasExplored.append(isExploring)
    }
    return (placed + order.dropFirst(next).filter { !isPlaced.contains($0) }, propensities)
  }
}

extension Plan.Boost {
  /// Orders by `(1 − strength)·relevance + strength·weight`, where relevance is scaled to 0...1 and
  /// the weight of what is not in the pool is 0.
  func boosted(
    _ order: [Int], pool: Set<Int>, rows: [CatalogRow], relevance: [Double?]
  ) -> [Int] {
    let all = order + pool.subtracting(order).sorted()
    let scale = RelevanceScale(all.map { relevance[$0] })
    let values = all.enumerated().map { position, place in
      var relevant = scale(relevance[place])
      // Without scores the order itself says how relevant an item is.
      if scale.isFlat {
        relevant = position < order.count ? 1 - Double(position) / Double(order.count) : 0
      }
      return (1 - strength) * relevant
        + (pool.contains(place) ? strength * weight(of: rows[place]) : 0)
    }
    return all.indices.sorted { (values[$1], $0) < (values[$0], $1) }.map { all[$0] }
  }

  private func weight(of row: CatalogRow) -> Double {
    guard let weight else { return 1 }
    switch weight.value(at: row.index) {
    case .int(let value): return Double(value)
    case .double(let value): return value
    case .bool(let value): return value ? 1 : 0
    default: return 0
    }
  }
}

/// Scales scores to 0...1, so that a strength means the same for every model.
struct RelevanceScale {
  let low: Double
  let high: Double
  /// Whether no score differs from another.
  var isFlat: Bool { !(high > low) }

  init(_ scores: [Double?]) {
    let known = scores.lazy.compactMap { $0 }
    low = known.min() ?? 0
    high = known.max() ?? 0
  }

  func callAsFunction(_ score: Double?) -> Double {
    guard let score else { return 0 }
    return high > low ? (score - low) / (high - low) : 1
  }
}

/// Random numbers from a seed (SplitMix64).
struct RandomNumbers {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  /// From 0, below 1.
  mutating func fraction() -> Double { Double(next() >> 11) / Double(UInt64(1) << 53) }
}
