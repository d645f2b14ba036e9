import Domain
package import Models

/// The `ngram` policy: what followed the last items, with back-off.
package enum NGramTraining: Policy {
  package static let description = PolicyDescription(
    name: "ngram",
    summary: "What most often followed the last items, backing off to shorter successions.",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "n", aliases: ["order"], .integer(1...6), default: .integer(3), search: .integers(2...4),
        "Items in a succession, the predicted one included: 2 is a Markov chain."),
      Hyperparameter(
        "laplace_smoothing", .number(0...100), default: .number(0.1),
        search: .numbers(0.01...1, logarithmic: true),
        "Added to each item's count where no succession is known."),
      Hyperparameter(
        "smoothing", .choice(NGram.Smoothing.allCases.map(\.rawValue)),
        default: .text(NGram.Smoothing.kneserNey.rawValue),
        search: .options(NGram.Smoothing.allCases.map { .text($0.rawValue) }),
        "How shorter successions come in."),
      Hyperparameter(
        "discount", .number(0...0.99), default: .number(0.75),
        search: .numbers(0.1...0.95),
        "What Kneser-Ney takes from every count and gives to shorter successions."),
    ])

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.itemCount > 0 else { throw nothingToLearn(settings, data) }
    try context.report()
    let (model, seconds) = timed { counted(data, settings) }
    let contexts = model.orders.reduce(0) { $0 + $1.offsets.count - 1 }
    return TrainedModel(
      model, secondsTraining: seconds,
      summary: "Counted what followed \(contexts) successions in \(text(seconds: seconds)).")
  }

  static func counted(_ data: TrainingSet, _ settings: PolicySettings) -> NGram {
    let n = settings.integer("n")
    let smoothing = NGram.Smoothing(rawValue: settings.text("smoothing")) ?? .kneserNey
    // The highest order counts events; in Kneser-Ney each lower one counts the distinct items that
    // came before its succession.
    var higher: NGram.Order?
    var orders: [NGram.Order] = []
    for length in stride(from: n - 1, through: 1, by: -1) {
      let distinct = smoothing == .kneserNey ? higher : nil
      let order = distinct.map { lower($0, length: length, data) } ?? count(data, length: length)
      orders.insert(order, at: 0)
      higher = order
    }
    var base = [Float](repeating: 0, count: data.itemCount)
    if smoothing == .kneserNey, let first = orders.first {
      for item in first.items { base[Int(item)] += 1 }
    } else {
      for (i, count) in data.counts.enumerated() { base[i] = Float(count) }
    }
    let added = Float(settings.number("laplace_smoothing"))
    let total = base.reduce(0, +) + added * Float(data.itemCount)
    for i in base.indices { base[i] = (base[i] + added) / max(total, 1e-9) }
    return NGram(
      smoothing: smoothing, discount: Float(settings.number("discount")), base: base,
      orders: orders)
  }

  /// Counts what followed each succession of a length.
  private static func count(_ data: TrainingSet, length: Int) -> NGram.Order {
    var grams: [[Int32]] = []
    for history in data.histories where history.items.count > length {
      let tokens = history.items.map(\.rawValue)
      for start in 0..<(tokens.count - length) {
        grams.append(Array(tokens[start...start + length]))
      }
    }
    return order(grams.sorted { $0.lexicographicallyPrecedes($1) }, length: length)
  }

  /// Counts the distinct items before each succession, from the order above; a succession at the
  /// start of a history has none and counts once.
  private static func lower(
    _ higher: NGram.Order, length: Int, _ data: TrainingSet
  ) -> NGram.Order {
    var grams: [[Int32]] = []
    for place in 0..<higher.offsets.count - 1 {
      let start = place * (length + 1)
      let context = higher.contexts[start + 1..<start + length + 1]
      for entry in higher.offsets[place]..<higher.offsets[place + 1] {
        grams.append(Array(context) + [higher.items[entry]])
      }
    }
    for history in data.histories where history.items.count > length {
      grams.append(history.items.prefix(length + 1).map(\.rawValue))
    }
    return order(grams.sorted { $0.lexicographicallyPrecedes($1) }, length: length)
  }

  private static func order(_ grams: [[Int32]], length: Int) -> NGram.Order {
    var contexts: [Int32] = []
    var offsets: [Int] = []
    var items: [Int32] = []
    var counts: [Float] = []
    var previous: [Int32]?
    for gram in grams {
      if gram == previous {
        counts[counts.count - 1] += 1
        continue
      }
      if previous.map({ $0.dropLast() != gram.dropLast() }) ?? true {
        contexts += gram.dropLast()
        offsets.append(items.count)
      }
      items.append(gram[length])
      counts.append(1)
      previous = gram
    }
    offsets.append(items.count)
    return NGram.Order(contexts: contexts, offsets: offsets, items: items, counts: counts)
  }
}
