import Domain
import Evaluation
import Models

/// Who acted on what, by users and by items, each pair once.
struct InteractionMatrix: Sendable {
  let userCount: Int
  let itemCount: Int
  /// The items of user `u` are `items[userOffsets[u]..<userOffsets[u + 1]]`, ascending.
  let userOffsets: [Int]
  let items: [Int32]
  /// How much the user did with the item, beside `items`: the sum of the weights of the events.
  let weights: [Float]
  /// The users of item `i` are `users[itemOffsets[i]..<itemOffsets[i + 1]]`, ascending.
  let itemOffsets: [Int]
  let users: [Int32]
  let itemWeights: [Float]

  init(_ data: TrainingSet) {
    itemCount = data.itemCount
    userCount = data.histories.count
    var userOffsets = [0]
    var items: [Int32] = []
    var weights: [Float] = []
    var counts = [Int](repeating: 0, count: data.itemCount + 1)
    for history in data.histories {
      var own: [(item: Int32, weight: Float)] = []
      own.reserveCapacity(history.items.count)
      var weight = history.weights?.startIndex ?? 0
      for item in history.items {
        own.append((item.rawValue, history.weights?[weight] ?? 1))
        weight += 1
      }
      own.sort { $0.item < $1.item }
      for entry in own {
        if let last = items.last, items.count > userOffsets[userOffsets.count - 1],
          last == entry.item
        {
          weights[weights.count - 1] += entry.weight
        } else {
          items.append(entry.item)
          weights.append(entry.weight)
          counts[Int(entry.item) + 1] += 1
        }
      }
      userOffsets.append(items.count)
    }
    for i in 1..<counts.count { counts[i] += counts[i - 1] }
    itemOffsets = counts
    var next = counts
    var users = [Int32](repeating: 0, count: items.count)
    var itemWeights = [Float](repeating: 0, count: items.count)
    for u in 0..<userCount {
      for p in userOffsets[u]..<userOffsets[u + 1] {
        let item = Int(items[p])
        users[next[item]] = Int32(u)
        itemWeights[next[item]] = weights[p]
        next[item] += 1
      }
    }
    self.userOffsets = userOffsets
    self.items = items
    self.weights = weights
    self.users = users
    self.itemWeights = itemWeights
  }

  /// Different users of an item.
  func userCount(of item: Int) -> Int { itemOffsets[item + 1] - itemOffsets[item] }
}

/// An error for data that hold nothing for a policy.
func nothingToLearn(_ settings: PolicySettings, _ data: TrainingSet) -> Diagnostic {
  Diagnostic(
    .unavailable, code: "nothing_to_learn",
    "The model `\(settings.name)` has nothing to learn from: \(data.histories.count) users have "
      + "positive events, with \(data.itemCount) different items.",
    at: "training.models",
    help: "Insert events with a label above 0, at least two for some users.")
}

/// `1.3 s`.
func text(seconds: Double) -> String {
  let hundredths = Int((seconds * 100).rounded())
  let rest = hundredths % 100
  return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest) s"
}

/// Seconds that something took, beside its result.
func timed<Result>(_ body: () throws -> Result) rethrows -> (Result, seconds: Double) {
  let clock = ContinuousClock()
  let started = clock.now
  let result = try body()
  return (result, seconds(clock.now - started))
}

/// The settings of models that sum up the newest events.
func recencyParameters(last: Int?, decay: Double) -> [Hyperparameter] {
  [
    Hyperparameter(
      "history_length", aliases: ["last", "max_seq_length"], .integer(1...100_000),
      default: last.map { .integer($0) },
      search: .options([1, 2, 3, 5, 10, 20, 50].map { .integer($0) }),
      "Newest events that count" + (last == nil ? "; by default all." : ".")),
    Hyperparameter(
      "decay", .number(0.01...1), default: .number(decay), search: .numbers(0.3...1),
      "What an event weighs in parts of the one after it; 1 makes order irrelevant."),
  ]
}

func recency(_ settings: PolicySettings) -> Recency {
  Recency(
    last: settings.optionalInteger("history_length") ?? .max,
    decay: Float(settings.number("decay")))
}
