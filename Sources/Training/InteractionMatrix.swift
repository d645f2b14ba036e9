import Domain
import Evaluation
import Models

/// Who acted on what, by users and by items, each pair once.
package struct InteractionMatrix: Sendable {
  package let userCount: Int
  package let itemCount: Int
  /// The items of user `u` are `items[userOffsets[u]..<userOffsets[u + 1]]`, ascending.
  package let userOffsets: [Int]
  package let items: [Int32]
  /// How much the user did with the item, beside `items`: the sum of the weights of the events.
  package let weights: [Float]
  /// The users of item `i` are `users[itemOffsets[i]..<itemOffsets[i + 1]]`, ascending.
  package let itemOffsets: [Int]
  package let users: [Int32]
  package let itemWeights: [Float]

  package init(_ data: TrainingSet) {
    itemCount = data.itemCount
    userCount = data.histories.count
    // Events in the order of their items and, of each item, of their users: two events of one user with
    // one item lie side by side, and are put together.
    var ends = [Int](repeating: 0, count: data.itemCount + 1)
    for history in data.histories { for item in history.items { ends[item.index + 1] += 1 } }
    for i in 1..<ends.count { ends[i] += ends[i - 1] }
    let starts = ends
    var users = [Int32](repeating: 0, count: ends[data.itemCount])
    var itemWeights = [Float](repeating: 0, count: users.count)
    var userCounts = [Int](repeating: 0, count: data.histories.count + 1)
    for (u, history) in data.histories.enumerated() {
      let user = Int32(u)
      var weight = history.weights?.startIndex ?? 0
      for item in history.items {
        let value = history.weights?[weight] ?? 1
        weight += 1
        let end = ends[item.index]
        if end > starts[item.index], users[end - 1] == user {
          itemWeights[end - 1] += value
        } else {
          users[end] = user
          itemWeights[end] = value
          ends[item.index] += 1
          userCounts[u + 1] += 1
        }
      }
    }
    // What putting together left free is closed up.
    var itemOffsets = [0]
    itemOffsets.reserveCapacity(data.itemCount + 1)
    var end = 0
    for item in 0..<data.itemCount {
      for p in starts[item]..<ends[item] {
        users[end] = users[p]
        itemWeights[end] = itemWeights[p]
        end += 1
      }
      itemOffsets.append(end)
    }
    users.removeLast(users.count - end)
    itemWeights.removeLast(itemWeights.count - end)
    for u in 1..<userCounts.count { userCounts[u] += userCounts[u - 1] }
    let userOffsets = userCounts
    var items = [Int32](repeating: 0, count: end)
    var weights = [Float](repeating: 0, count: end)
    for item in 0..<data.itemCount {
      for p in itemOffsets[item]..<itemOffsets[item + 1] {
        let user = Int(users[p])
        let place = userCounts[user]
        items[place] = Int32(item)
        weights[place] = itemWeights[p]
        userCounts[user] += 1
      }
    }
    self.itemOffsets = itemOffsets
    self.userOffsets = userOffsets
    self.items = items
    self.weights = weights
    self.users = users
    self.itemWeights = itemWeights
  }

  /// Different users of an item.
  package func userCount(of item: Int) -> Int { itemOffsets[item + 1] - itemOffsets[item] }
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
