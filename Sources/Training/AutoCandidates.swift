import Domain
import Models
import Neural

/// What an `auto` training may try on some data, each list the surest first.
struct AutoCandidates {
  /// Policies with their defaults that are trained in one go.
  private(set) var defaults: [PolicySettings] = []
  /// Further settings of the same, the families by turns.
  private(set) var refinements: [PolicySettings] = []
  /// The network that is looked at first.
  let firstNetwork: PolicySettings
  /// Networks and settings of networks that are tried where there is time.
  private(set) var networks: [PolicySettings] = []
  /// The first of them, one or two of a kind; the others are drawn.
  private(set) var kindCount = 0

  private let seed: Int

  init(_ data: TrainingSet, seed: Int) {
    self.seed = seed
    let events = data.histories.reduce(0) { $0 + $1.items.count }
    let longest = data.histories.map(\.items.count).max() ?? 1
    let shape = Shape(
      itemCount: data.itemCount, mean: Double(events) / Double(max(1, data.histories.count)),
      longest: longest, hasTimes: data.histories.contains { $0.times != nil })
    firstNetwork = Self.network(SASRecTraining.self, "sasrec", [:], shape, seed)
    defaults = listDefaults(shape)
    refinements = listRefinements(shape)
    networks = listNetworks(shape)
    kindCount = networks.prefix { !Self.isDrawn($0) }.count
  }

  /// What of the data decides which candidates come first.
  private struct Shape {
    var itemCount: Int
    /// Events of a history.
    var mean: Double
    var longest: Int
    var hasTimes: Bool
    var isShort: Bool { mean < 20 }
  }

  private typealias Values = [String: Hyperparameter.Value]

  private func made(
    _ policy: any Policy.Type, _ name: String, _ values: Values = [:]
  ) -> PolicySettings { Self.made(policy, name, values, seed) }

  private static func made(
    _ policy: any Policy.Type, _ name: String, _ values: Values, _ seed: Int
  ) -> PolicySettings {
    var settings = PolicySettings(policy.description, name: name, values: values)
    if let parameter = policy.description.parameter("seed") {
      settings.values[parameter.name] = .integer(seed)
    }
    return settings
  }

  // MARK: Policies that are trained in one go

  private func listDefaults(_ shape: Shape) -> [PolicySettings] {
    var list = [
      made(PopularTraining.self, "popular"), made(ItemKNNTraining.self, "item_knn"),
      made(NGramTraining.self, "ngram"),
      made(
        ItemKNNTraining.self, "item_knn_near",
        ["window": .integer(5), "direction": .text("forward")]),
    ]
    if shape.hasTimes {
      list.append(made(PopularTraining.self, "popular_7_days", ["time_window": .number(7)]))
      list.append(made(RisingPopularTraining.self, "rising"))
    }
    list += [
      made(EASETraining.self, "ease", easeValues(shape, [:])),
      made(Item2VecTraining.self, "item2vec"), made(ALSTraining.self, "als"),
      made(ELSATraining.self, "elsa"),
    ]
    return list
  }

  /// Weights of a thousand neighbours are as good as all, and leave room for other models.
  private func easeValues(_ shape: Shape, _ values: Values) -> Values {
    shape.itemCount > 4000 ? values.merging(["neighbours": .integer(1000)]) { $1 } : values
  }

  private func listRefinements(_ shape: Shape) -> [PolicySettings] {
    var generator = SplitMix64(seed: UInt64(seed) &+ 17)
    // Forward windows divided by the root of the recommended item's count stand first: on short
    // histories and small data they were the best neighbours more often than not.
    var neighbours: [Values] = [
      [
        "window": .integer(5), "direction": .text("forward"), "history_exponent": .number(0),
        "popularity_exponent": .number(0.5),
      ],
      [
        "window": .integer(0), "direction": .text("forward"),
        "popularity_exponent": .number(0.5), "history_exponent": .number(0.5),
      ],
      ["similarity": .text("conditional"), "popularity_exponent": .number(0.3)],
      ["window": .integer(10), "direction": .text("both")],
      [
        "window": .integer(5), "direction": .text("both"), "popularity_exponent": .number(0.2),
      ],
      [
        "window": .integer(10), "direction": .text("forward"), "distance_decay": .number(0.7),
        "popularity_exponent": .number(0.3),
      ],
    ]
    let windows = [0, 0, 1, 2, 3, 5, 10, 20]
    while neighbours.count < 60 {
      func draw() -> Double { Double(generator.unitFloat()) }
      neighbours.append([
        "window": .integer(windows[Int(draw() * Double(windows.count))]),
        "direction": .text(draw() < 0.65 ? "forward" : "both"),
        "history_exponent": .number((draw() * 10).rounded() / 10),
        "popularity_exponent": .number((draw() * 8).rounded() / 10),
        "shrinkage": .number([0, 0, 0, 2, 10][Int(draw() * 5)]),
        "distance_decay": .number([1, 1, 0.9, 0.7, 0.5][Int(draw() * 5)]),
      ])
    }
    let linear: [Values] = [60, 1000, 20, 500, 120, 2000].map { ["regularization": .number($0)] }
    let others: [PolicySettings] = [
      made(NGramTraining.self, "markov", ["n": .integer(2)]),
      made(ALSTraining.self, "als_2", ["decay": .number(0.9), "alpha": .number(5)]),
      made(NGramTraining.self, "ngram_2", ["n": .integer(3), "discount": .number(0.9)]),
      made(
        ELSATraining.self, "elsa_2", ["decay": .number(0.9), "history_length": .integer(50)]),
      made(
        ALSTraining.self, "als_3",
        ["decay": .number(0.8), "alpha": .number(20), "factors": .integer(128)]),
      made(NGramTraining.self, "ngram_3", ["n": .integer(4)]),
      made(Item2VecTraining.self, "item2vec_2", ["embedding_size": .integer(128)]),
    ]
    var list: [PolicySettings] = []
    if shape.hasTimes {
      list.append(made(PopularTraining.self, "popular_30_days", ["time_window": .number(30)]))
    }
    // Neighbours alone first: they take a moment each.
    let first = 8
    for (i, values) in neighbours.enumerated() {
      list.append(made(ItemKNNTraining.self, "item_knn_\(i + 2)", values))
      let turn = i - first
      if turn < 0 { continue }
      if turn % 2 == 0, turn / 2 < others.count { list.append(others[turn / 2]) }
      if turn % 3 == 1, turn / 3 < linear.count {
        list.append(
          made(EASETraining.self, "ease_\(turn / 3 + 2)", easeValues(shape, linear[turn / 3])))
      }
    }
    return list
  }

  /// A candidate of `item-knn` moved near the best one so far, every second time once some were drawn.
  func improved(_ tried: PolicySettings, _ trials: [AutoSearch.Trial]) -> PolicySettings {
    let own = trials.filter { $0.settings.policy.name == "item-knn" }
    guard tried.policy.name == "item-knn",
      let number = Int(tried.name.split(separator: "_").last ?? ""),
      number > 10, number % 4 != 0,
      let best = own.max(by: { $0.record.ndcg < $1.record.ndcg })?.settings,
      best.optionalText("similarity") != "jaccard"
    else { return tried }
    var generator = SplitMix64(seed: UInt64(seed) &+ UInt64(number) &* 977)
    func draw() -> Double { Double(generator.unitFloat()) }
    var moved = best
    moved.name = tried.name
    func move(_ key: String, by step: Double, _ range: ClosedRange<Double>) {
      let now = best.optionalNumber(key) ?? (key == "distance_decay" ? 1 : 0.5)
      let next = now + (draw() < 0.5 ? -step : step)
      moved.values[key] = .number(
        (min(range.upperBound, max(range.lowerBound, next)) * 100).rounded() / 100)
    }
    for _ in 0..<(draw() < 0.5 ? 1 : 2) {
      switch Int(draw() * 6) {
      case 0, 1: move("popularity_exponent", by: 0.1, 0...1)
      case 2: move("history_exponent", by: 0.15, 0...1)
      case 3: move("distance_decay", by: 0.15, 0.3...1)
      case 4:
        let ladder = [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 0]
        let now = ladder.firstIndex(of: best.integer("window")) ?? 5
        let next = min(ladder.count - 1, max(0, now + (draw() < 0.5 ? -1 : 1)))
        moved.values["window"] = .integer(ladder[next])
      default:
        moved.values["direction"] = .text(
          best.text("direction") == "forward" ? "both" : "forward")
      }
    }
    return moved
  }

  // MARK: Networks

  private static func network(
    _ policy: any Policy.Type, _ name: String, _ values: Values, _ shape: Shape, _ seed: Int
  ) -> PolicySettings {
    var settings = made(policy, name, values, seed)
    if values["max_seq_length"] == nil, shape.longest <= 50 {
      settings.values["max_seq_length"] = .integer(50)
    }
    return settings
  }

  private func listNetworks(_ shape: Shape) -> [PolicySettings] {
    func network(
      _ policy: any Policy.Type, _ name: String, _ values: Values = [:]
    ) -> PolicySettings { Self.network(policy, name, values, shape, seed) }
    func dropout(_ value: Double, _ more: Values = [:]) -> Values {
      more.merging(["hidden_dropout_prob": .number(value)]) { $1 }
    }
    var list: [PolicySettings] = []
    if shape.hasTimes {
      list.append(network(HSTUTraining.self, "hstu", shape.isShort ? dropout(0.5) : [:]))
    }
    if shape.isShort {
      // Few events for each item: what keeps from learning by heart comes first.
      list += [
        network(SASRecTraining.self, "sasrec_2", dropout(0.5)),
        network(GRU4RecTraining.self, "gru4rec", dropout(0.5)),
        network(ESASRecTraining.self, "esasrec", dropout(0.5)),
        network(SASRecTraining.self, "sasrec_3", dropout(0.3, ["n_layers": .integer(1)])),
        network(
          GRU4RecTraining.self, "gru4rec_2", dropout(0.6, ["hidden_size": .integer(128)])),
        network(
          SASRecTraining.self, "sasrec_4",
          dropout(0.5, ["weight_decay": .number(0.01), "hidden_size": .integer(128)])),
      ]
    } else {
      list += [
        network(ESASRecTraining.self, "esasrec"),
        network(SASRecTraining.self, "sasrec_2", dropout(0.3, ["hidden_size": .integer(128)])),
        network(GRU4RecTraining.self, "gru4rec"),
        network(SASRecTraining.self, "sasrec_3", dropout(0.1)),
      ]
    }
    var generator = SplitMix64(seed: UInt64(seed) &+ 29)
    var policies: [any Policy.Type] = [
      SASRecTraining.self, GRU4RecTraining.self, SASRecTraining.self, ESASRecTraining.self,
    ]
    if shape.hasTimes { policies.append(HSTUTraining.self) }
    for number in 0..<150 {
      func draw() -> Double { Double(generator.unitFloat()) }
      let policy = policies[number % policies.count]
      var values = dropout(
        ((shape.isShort ? 0.3 + 0.4 * draw() : 0.1 + 0.3 * draw()) * 20).rounded() / 20)
      values["hidden_size"] = .integer([48, 64, 96, 128][Int(draw() * 4)])
      values["n_layers"] = .integer(1 + Int(draw() * 3))
      values["learning_rate"] = .number(
        (power(10, -3.3 + 0.8 * draw()) * 1e5).rounded() / 1e5)
      if shape.longest > 50 {
        values["max_seq_length"] = .integer([50, 100, 200, 200][Int(draw() * 4)])
      }
      // Where the catalogue is large, drawn items are quicker and sometimes no worse.
      if shape.itemCount > 8000, draw() < 0.4 {
        values["loss_type"] = .text("sampled_softmax")
        values["negative_samples_count"] = .integer(draw() < 0.5 ? 512 : 2048)
      }
      let name = policy.description.name
      list.append(network(policy, "\(name)_\(10 + number)", values))
    }
    return list
  }

  /// A drawn network moved near the best one so far, two times of three; of these a quarter
  /// only has another seed, which a blend gains from.
  func improved(
    network tried: PolicySettings, number: Int, _ trials: [AutoSearch.Trial], _ networks: [Int]
  ) -> PolicySettings {
    guard Self.isDrawn(tried), number % 3 != 0 else { return tried }
    // One of the best two: the best one alone is soon looked at from all sides.
    let leading = networks.sorted { trials[$0].record.ndcg > trials[$1].record.ndcg }
    guard let place = leading.prefix(2).dropFirst(number % 3 - 1).first ?? leading.first else {
      return tried
    }
    var moved = trials[place].settings
    moved.name = "\(moved.policy.name)_\(tried.name.split(separator: "_").last ?? "")"
    var generator = SplitMix64(seed: UInt64(seed) &+ UInt64(number) &* 7919)
    func draw() -> Double { Double(generator.unitFloat()) }
    func choose<Value>(_ ladder: [Value], near value: Double, _ number: (Value) -> Double) -> Value
    {
      let now =
        ladder.indices.min { abs(number(ladder[$0]) - value) < abs(number(ladder[$1]) - value) }
        ?? 0
      return ladder[min(ladder.count - 1, max(0, now + (draw() < 0.5 ? -1 : 1)))]
    }
    moved.values["sample_seed"] = .integer(seed &+ number)
    for _ in 0..<(draw() < 0.25 ? 0 : draw() < 0.5 ? 1 : 2) {
      switch Int(draw() * 5) {
      case 0, 1:
        let now = moved.number("hidden_dropout_prob")
        moved.values["hidden_dropout_prob"] = .number(
          (min(0.8, max(0, now + (draw() < 0.5 ? -0.1 : 0.1))) * 100).rounded() / 100)
      case 2:
        moved.values["hidden_size"] = .integer(
          choose([32, 48, 64, 96, 128, 192], near: Double(moved.integer("hidden_size"))) {
            Double($0)
          })
      case 3:
        moved.values["n_layers"] = .integer(
          choose([1, 2, 3], near: Double(moved.integer("n_layers"))) { Double($0) })
      default:
        let rate = moved.number("learning_rate") * (draw() < 0.5 ? 0.6 : 1.6)
        moved.values["learning_rate"] = .number((rate * 1e5).rounded() / 1e5)
      }
    }
    return moved
  }

  private static func isDrawn(_ network: PolicySettings) -> Bool {
    network.name.split(separator: "_").last.flatMap { Int($0) } ?? 0 >= 10
  }

  // MARK: What a candidate takes

  /// About the seconds of a training that cannot be ended early; 0 where it can.
  static func secondsNeeded(
    _ settings: PolicySettings, _ data: TrainingSet, _ context: TrainingContext
  ) -> Double {
    let threads = Double(max(1, context.threads))
    switch settings.policy.name {
    case "ease":
      return EASETraining.estimate(
        data, settings, threads: context.threads, kernels: context.kernels
      ).seconds
    case "item-knn":
      let window = settings.integer("window")
      let pairs = data.histories.reduce(0.0) { sum, history in
        let length = Double(history.items.count)
        return sum + length * (window == 0 ? length : min(length, Double(2 * window)))
      }
      // Each item's row is looked through once, and what it has is divided and kept. About twice
      // what it took on one core: 0.24 s on ML-1M, 0.51 s on ml-latest-small with all similarities.
      let cells = Double(data.itemCount) * Double(data.itemCount)
      return (pairs / 1e9 + cells / 1e9 + min(pairs, cells) / 7e7) / threads
    default: return 0
    }
  }
}
