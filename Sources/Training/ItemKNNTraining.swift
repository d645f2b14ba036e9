import Domain
package import Models
import Synchronization

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
        search: .options([0, 2, 5, 10].map { .integer($0) }),
        "Only items that lie this close together in a history count as common; 0 is no limit."),
      Hyperparameter(
        "direction", .choice(["both", "forward"]), default: .text("both"),
        search: .options(["both", "forward"].map { .text($0) }),
        "With a `window`: whether only what came after an item counts as its neighbour."),
      Hyperparameter(
        "shrinkage", .number(0...10_000), default: .number(0),
        search: .options([0, 5, 20].map { .number($0) }),
        "Added to the divisor: mistrust of items with few users."),
    ] + recencyParameters(last: 5, decay: 0.8))

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
        let window = settings.integer("window")
        let similarity = Similarity(
          kind: Similarity.Kind(rawValue: settings.text("similarity")) ?? .cosine,
          shrinkage: settings.number("shrinkage"))
        if window == 0 {
          let matrix = InteractionMatrix(data)
          return SimilarRows.gather(itemCount: data.itemCount, pool: pool) { worker in
            commonUsers(matrix, similarity, keeping: neighbours, worker)
          }
        }
        let places = Places(data)
        let isForward = settings.text("direction") == "forward"
        return SimilarRows.gather(itemCount: data.itemCount, pool: pool) { worker in
          commonWindows(
            places, window: window, isForward: isForward, similarity, keeping: neighbours, worker)
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

    @inline(__always)
    func value(common: Double, _ own: Double, _ other: Double) -> Float {
      switch kind {
      case .jaccard: Float(common / (own + other - common + shrinkage))
      case .conditional: Float(common / (own + shrinkage))
      case .cosine: Float(common / ((own * other).squareRoot() + shrinkage))
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
          for q in matrix.userOffsets[user]..<matrix.userOffsets[user + 1] {
            sums[Int(items[q])] += 1
          }
        }
      }
      let own = Double(matrix.userCount(of: item))
      scratch.finish(item, keeping: neighbours) { other, common in
        similarity.value(common: Double(common), own, Double(matrix.userCount(of: other)))
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
    _ places: Places, window: Int, isForward: Bool, _ similarity: Similarity,
    keeping neighbours: Int, _ scratch: SimilarRows.Scratch
  ) -> (Int) -> Void {
    func count(_ item: Int) -> Double { Double(places.offsets[item + 1] - places.offsets[item]) }
    return { item in
      for p in places.offsets[item]..<places.offsets[item + 1] {
        let place = Int(places.places[p])
        for step in 1...window {
          guard place + step < places.tokens.count, places.tokens[place + step] >= 0 else { break }
          scratch.sums[Int(places.tokens[place + step])] += 1
        }
        if isForward { continue }
        for step in 1...window {
          guard place >= step, places.tokens[place - step] >= 0 else { break }
          scratch.sums[Int(places.tokens[place - step])] += 1
        }
      }
      scratch.finish(item, keeping: neighbours) { other, common in
        similarity.value(common: Double(common), count(item), count(other))
      }
    }
  }
}

/// The rows of a sparse square matrix over items, made by several workers.
struct SimilarRows: Sendable {
  var offsets: [Int]
  var columns: [Int32]
  var weights: [Float]

  func model(recency: Recency) -> ItemNeighbours {
    ItemNeighbours(
      itemCount: offsets.count - 1, recency: recency, offsets: offsets, columns: columns,
      weights: weights)
  }

  /// What one worker fills: sums for the row in work, and the rows that are done.
  final class Scratch {
    let itemCount: Int
    /// `[N]`, zeros between two rows.
    let sums: UnsafeMutablePointer<Float>
    fileprivate var lengths: [Int] = []
    fileprivate var columns: [Int32] = []
    fileprivate var weights: [Float] = []

    init(itemCount: Int) {
      self.itemCount = itemCount
      sums = .allocate(capacity: max(1, itemCount))
      sums.initialize(repeating: 0, count: itemCount)
    }

    deinit { sums.deallocate() }

    /// Turns the sums into a row, without the item itself, and clears them.
    func finish(_ item: Int, keeping limit: Int, _ value: (Int, Float) -> Float) {
      sums[item] = 0
      let start = columns.count
      for other in 0..<itemCount where sums[other] != 0 {
        let weight = value(other, sums[other])
        sums[other] = 0
        if weight != 0 {
          columns.append(Int32(other))
          weights.append(weight)
        }
      }
      if columns.count - start > limit { keepLargest(limit, from: start) }
      lengths.append(columns.count - start)
    }

    /// Leaves the entries of greatest magnitude, of equals those that come first.
    private func keepLargest(_ limit: Int, from start: Int) {
      let kept = weights[start...].map { abs($0) }.withUnsafeBufferPointer {
        Standing.best(limit, of: $0).sorted()
      }
      let (newColumns, newWeights) = (
        kept.map { columns[start + $0] }, kept.map { weights[start + $0] }
      )
      columns.replaceSubrange(start..., with: newColumns)
      weights.replaceSubrange(start..., with: newWeights)
    }
  }

  /// Makes every row; each worker does blocks of items by a fixed rule.
  static func gather(
    itemCount: Int, pool: WorkerPool, _ row: @Sendable (Scratch) -> (Int) -> Void
  ) -> SimilarRows {
    let block = 32
    let blocks = (itemCount + block - 1) / block
    typealias Part = (lengths: [Int], columns: [Int32], weights: [Float])
    let parts = Mutex([Part?](repeating: nil, count: blocks))
    pool.run { index in
      let scratch = Scratch(itemCount: itemCount)
      let fill = row(scratch)
      for b in stride(from: index, to: blocks, by: pool.count) {
        for item in (b * block)..<min(itemCount, (b + 1) * block) { fill(item) }
        let part = (scratch.lengths, scratch.columns, scratch.weights)
        parts.withLock { $0[b] = part }
        scratch.lengths = []
        scratch.columns = []
        scratch.weights = []
      }
    }
    var rows = SimilarRows(offsets: [0], columns: [], weights: [])
    let done = parts.withLock { $0 }
    rows.columns.reserveCapacity(done.reduce(0) { $0 + ($1?.columns.count ?? 0) })
    rows.weights.reserveCapacity(rows.columns.capacity)
    for part in done {
      guard let part else { continue }
      for length in part.lengths { rows.offsets.append((rows.offsets.last ?? 0) + length) }
      rows.columns += part.columns
      rows.weights += part.weights
    }
    return rows
  }
}
