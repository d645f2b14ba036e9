import Domain
package import Models

/// The `item-knn` policy: items resemble one another where the same users acted on them.
///
/// - SeeAlso: Sarwar et al., *Item-based Collaborative Filtering Recommendation Algorithms*, WWW 2001,
///   for the similarity; the weights by recency make it a sequence model.
package enum ItemKNNTraining: Policy {
  package static let description = PolicyDescription(
    name: "item-knn",
    summary: "What the users of the newest items acted on too (Sarwar et al. 2001), by recency.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "similarity", .choice(["cosine", "jaccard", "conditional"]), default: .text("cosine"),
        search: .options(["cosine", "jaccard", "conditional"].map { .text($0) }),
        "How users in common count: over the root of the product of both items' users, over all "
          + "users of either, or over the users of the history's item."),
      Hyperparameter(
        "neighbours", aliases: ["k", "K", "neighbors", "n_neighbors"], .integer(1...1_000_000),
        "Most similar items that are kept for each; by default all, as long as that is no more than "
          + "100 million over the catalogue."),
      Hyperparameter(
        "window", aliases: ["window_size"], .integer(0...1000), default: .integer(0),
        search: .options([0, 1, 2, 5, 10, 20].map { .integer($0) }),
        "Only items that lie this close together in a history count as common; 0 is no limit."),
      Hyperparameter(
        "direction", .choice(["both", "forward"]), default: .text("both"),
        search: .options(["both", "forward"].map { .text($0) }),
        "Whether only what came after an item counts as its neighbour: within the `window`, or "
          + "anywhere later where there is none."),
      Hyperparameter(
        "distance_decay", .number(0.01...1), default: .number(1), search: .numbers(0.3...1),
        "With a `window` or `direction: forward`: what two items in common count in parts of two that "
          + "lie one event closer together."),
      Hyperparameter(
        "popularity_exponent", .number(0...1), search: .numbers(0...1),
        "How far popular items are held back: what two items have in common is divided by the users "
          + "of the recommended one to this power. By default 0.5 for `cosine`, 0 for `conditional`."
      ),
      Hyperparameter(
        "history_exponent", .number(0...1), search: .numbers(0...1),
        "The same for the history's item: how far a popular one says less. By default 0.5 for "
          + "`cosine`, 1 for `conditional`."),
      Hyperparameter(
        "shrinkage", .number(0...10_000), default: .number(0),
        search: .options([0, 5, 20].map { .number($0) }),
        "Added to the divisor: mistrust of items with few users."),
    ] + recencyParameters(last: 5, decay: 0.8))

  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    for key in ["popularity_exponent", "history_exponent"]
    where settings[key] != nil && settings.text("similarity") == "jaccard" {
      return SettingsProblem(
        key: key, "`jaccard` divides by the users of either item, without an exponent.",
        help: "Write `similarity: cosine`, or leave the exponent out.")
    }
    return nil
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.histories.contains(where: { $0.items.count >= 2 }) else {
      throw nothingToLearn(settings, data)
    }
    try context.report()
    let (rows, seconds) = context.withPool { pool in
      timed {
        let neighbours =
          settings.optionalInteger("neighbours")
          ?? max(100, 100_000_000 / max(1, data.itemCount))
        let isForward = settings.text("direction") == "forward"
        let given = settings.integer("window")
        let window =
          given == 0 && isForward ? data.histories.map(\.items.count).max() ?? 1 : given
        let similarity = Similarity(settings, countAtMost: data.counts.max() ?? 0)
        var shares: [Float] = []
        for _ in 0..<window {
          shares.append((shares.last ?? 0) * Float(settings.number("distance_decay")))
          if shares.count == 1 { shares[0] = 1 }
          // What is smaller does not show beside 1.
          if shares[shares.count - 1] < 1e-6 { break }
        }
        let stepShares = shares
        if window == 0 {
          let matrix = InteractionMatrix(data)
          return SimilarRows.gather(itemCount: data.itemCount, pool: pool) { worker in
            commonUsers(matrix, similarity, keeping: neighbours, worker)
          }
        }
        let places = Places(data)
        return SimilarRows.gather(itemCount: data.itemCount, pool: pool) { worker in
          commonWindows(
            places, stepShares, isForward: isForward, similarity, keeping: neighbours, worker)
        }
      }
    }
    return TrainedModel(
      rows.model(recency: recency(settings)), secondsTraining: seconds,
      summary: "Compared \(data.itemCount) items, kept \(rows.columns.count) similarities, in "
        + "\(text(seconds: seconds)).")
  }

  /// Users in common, divided.
  struct Similarity: Sendable {
    enum Kind: String { case cosine, jaccard, conditional }
    var kind: Kind
    var shrinkage: Double
    /// The divisors' factors for each count of users, where exponents are given.
    private var powers: (own: [Double], other: [Double])?

    init(_ settings: PolicySettings, countAtMost: Int) {
      kind = Kind(rawValue: settings.text("similarity")) ?? .cosine
      shrinkage = settings.number("shrinkage")
      let own = settings.optionalNumber("history_exponent")
      let other = settings.optionalNumber("popularity_exponent")
      guard own != nil || other != nil else { return }
      func table(_ exponent: Double) -> [Double] {
        (0...countAtMost).map { power(Double($0), exponent) }
      }
      powers = (
        table(own ?? (kind == .conditional ? 1 : 0.5)),
        table(other ?? (kind == .conditional ? 0 : 0.5))
      )
    }

    @inline(__always)
    func value(common: Double, _ own: Int, _ other: Int) -> Float {
      if let powers { return Float(common / (powers.own[own] * powers.other[other] + shrinkage)) }
      switch kind {
      case .jaccard: return Float(common / (Double(own + other) - common + shrinkage))
      case .conditional: return Float(common / (Double(own) + shrinkage))
      case .cosine: return Float(common / ((Double(own) * Double(other)).squareRoot() + shrinkage))
      }
    }
  }

  /// The row of one item: everything that shares users with it.
  private static func commonUsers(
    _ matrix: InteractionMatrix, _ similarity: Similarity, keeping neighbours: Int,
    _ scratch: SimilarRows.Scratch
  ) -> (Int) -> Void {
    let sums = scratch.sums
    return { item in
      matrix.items.withUnsafeBufferPointer { items in
        for p in matrix.itemOffsets[item]..<matrix.itemOffsets[item + 1] {
          let user = Int(matrix.users[p])
          for other in items[matrix.userOffsets[user]..<matrix.userOffsets[user + 1]] {
            sums[Int(other)] += 1
          }
        }
      }
      let own = matrix.userCount(of: item)
      scratch.finish(item, keeping: neighbours) { other, common in
        similarity.value(common: Double(common), own, matrix.userCount(of: other))
      }
    }
  }

  /// Where each item stands in the histories.
  struct Places: Sendable {
    /// All histories, one after the other, each followed by -1.
    var tokens: [Int32] = []
    var offsets: [Int]
    var places: [Int32]

    init(_ data: TrainingSet) {
      var counts = [Int](repeating: 0, count: data.itemCount + 1)
      for history in data.histories {
        for item in history.items {
          tokens.append(item.rawValue)
          counts[item.index + 1] += 1
        }
        tokens.append(-1)
      }
      for i in 1..<counts.count { counts[i] += counts[i - 1] }
      offsets = counts
      places = [Int32](repeating: 0, count: counts.last ?? 0)
      for (place, token) in tokens.enumerated() where token >= 0 {
        places[counts[Int(token)]] = Int32(place)
        counts[Int(token)] += 1
      }
    }
  }

  private static func commonWindows(
    _ places: Places, _ shares: [Float], isForward: Bool, _ similarity: Similarity,
    keeping neighbours: Int, _ scratch: SimilarRows.Scratch
  ) -> (Int) -> Void {
    func count(_ item: Int) -> Int { places.offsets[item + 1] - places.offsets[item] }
    return { item in
      for p in places.offsets[item]..<places.offsets[item + 1] {
        let place = Int(places.places[p])
        for (step, share) in shares.enumerated() {
          let other = place + step + 1
          guard other < places.tokens.count, places.tokens[other] >= 0 else { break }
          scratch.sums[Int(places.tokens[other])] += share
        }
        if isForward { continue }
        for (step, share) in shares.enumerated() {
          let other = place - step - 1
          guard other >= 0, places.tokens[other] >= 0 else { break }
          scratch.sums[Int(places.tokens[other])] += share
        }
      }
      scratch.finish(item, keeping: neighbours) { other, common in
        similarity.value(common: Double(common), count(item), count(other))
      }
    }
  }
}
