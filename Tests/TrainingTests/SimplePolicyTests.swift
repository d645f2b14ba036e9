import Domain
import Evaluation
import Foundation
import Kernels
import Models
import Neural
import Testing
import Training

private func set(_ sequences: [[Int]], itemCount: Int, times: [[Int]]? = nil) -> TrainingSet {
  TrainingSet(
    itemCount: itemCount,
    histories: sequences.indices.map { user in
      History(
        sequences[user].map { ItemToken($0) }[...],
        times: times?[user].map { Timestamp(secondsSinceEpoch: Double($0)) }[...])
    }, validation: [])
}

private func train(
  _ policy: any Policy.Type, _ data: TrainingSet, threads: Int = 1,
  _ values: [String: Hyperparameter.Value] = [:]
) throws -> any Recommender {
  let context = TrainingContext(
    threads: threads, kernels: try #require(Kernels(environment: [:])))
  return try policy.train(
    data, PolicySettings(policy.description, values: values), context
  ).model
}

@Suite struct `Item-knn` {
  static let data = set([[0, 1, 2], [0, 1], [1, 2, 3], [0, 3]], itemCount: 5)

  @Test func `has the cosine of users in common`() throws {
    let model = try train(ItemKNNTraining.self, Self.data, ["decay": .number(1)])
    let scores = model.scores(of: History([ItemToken(0)]))
    // Item 0 has users 0, 1, 3; item 1 has 0, 1, 2; item 2 has 0, 2; item 3 has 2, 3.
    #expect(scores[0] == 0 && scores[4] == 0)
    #expect(abs(scores[1] - 2 / 3) < 1e-6)
    #expect(abs(scores[2] - 1 / Float(6).squareRoot()) < 1e-6)
    #expect(abs(scores[3] - 1 / Float(6).squareRoot()) < 1e-6)
  }

  @Test func `weighs older events by the decay and forgets those before the last few`() throws {
    let model = try train(
      ItemKNNTraining.self, Self.data, ["decay": .number(0.5), "history_length": .integer(2)])
    let (old, new) = (
      model.scores(of: History([ItemToken(1)])), model.scores(of: History([ItemToken(3)]))
    )
    let both = model.scores(of: History([0, 1, 3].map { ItemToken($0) }))
    for i in 0..<5 { #expect(abs(both[i] - (new[i] + 0.5 * old[i])) < 1e-6) }
  }

  @Test func `counts only what is close in a window, forward if asked`() throws {
    let data = set([[0, 1, 2, 3]], itemCount: 4)
    let near = try train(ItemKNNTraining.self, data, ["window": .integer(1)])
    #expect(near.scores(of: History([ItemToken(1)])).map { $0 > 0 } == [true, false, true, false])
    let ahead = try train(
      ItemKNNTraining.self, data, ["window": .integer(1), "direction": .text("forward")])
    #expect(
      ahead.scores(of: History([ItemToken(1)])).map { $0 > 0 } == [false, false, true, false])
  }

  @Test func `counts all that came later where it looks forward without a window`() throws {
    let data = set([[0, 1, 2, 3]], itemCount: 4)
    let ahead = try train(ItemKNNTraining.self, data, ["direction": .text("forward")])
    #expect(ahead.scores(of: History([ItemToken(1)])).map { $0 > 0 } == [false, false, true, true])
    let faded = try train(
      ItemKNNTraining.self, data,
      ["direction": .text("forward"), "distance_decay": .number(0.25)])
    let scores = faded.scores(of: History([ItemToken(0)]))
    #expect(scores[1] == 1 && scores[2] == 0.25 && scores[3] == 0.0625)
    let near = try train(
      ItemKNNTraining.self, data, ["window": .integer(2), "distance_decay": .number(0.25)])
    #expect(near.scores(of: History([ItemToken(2)])) == [0.25, 1, 0, 1])
  }

  @Test func `divides by powers of the counts`() throws {
    func scores(_ own: Double, _ other: Double, _ more: [String: Hyperparameter.Value] = [:]) throws
      -> [Float]
    {
      let values: [String: Hyperparameter.Value] = [
        "history_exponent": .number(own), "popularity_exponent": .number(other),
      ]
      return try train(ItemKNNTraining.self, Self.data, values.merging(more) { $1 })
        .scores(of: History([ItemToken(0)]))
    }
    let cosine = try train(ItemKNNTraining.self, Self.data).scores(of: History([ItemToken(0)]))
    for (a, b) in zip(try scores(0.5, 0.5), cosine) { #expect(abs(a - b) < 1e-6) }
    let conditional = try train(
      ItemKNNTraining.self, Self.data, ["similarity": .text("conditional")]
    ).scores(of: History([ItemToken(0)]))
    for (a, b) in zip(try scores(1, 0), conditional) { #expect(abs(a - b) < 1e-6) }
    // Users in common with item 0 are 2, 1 and 1, users of the items 3, 2 and 2.
    let rooted = try scores(0, 0.5)
    #expect(abs(rooted[1] - 2 / Float(3).squareRoot()) < 1e-6)
    #expect(abs(rooted[2] - 1 / Float(2).squareRoot()) < 1e-6)
    // Within forward windows it is events that count: the trial that beat all others on a small set.
    let ahead = try scores(0, 0.5, ["window": .integer(1), "direction": .text("forward")])
    #expect(abs(ahead[1] - 2 / Float(3).squareRoot()) < 1e-6)
    #expect(abs(ahead[3] - 1 / Float(2).squareRoot()) < 1e-6)
    var settings = PolicySettings(ItemKNNTraining.description)
    settings["similarity"] = .text("jaccard")
    #expect(ItemKNNTraining.problem(settings) == nil)
    settings["popularity_exponent"] = .number(0.5)
    #expect(ItemKNNTraining.problem(settings)?.key == "popularity_exponent")
  }

  @Test func `keeps the most similar neighbours`() throws {
    let model = try train(ItemKNNTraining.self, Self.data, ["neighbours": .integer(1)])
    #expect(
      model.scores(of: History([ItemToken(0)])).map { $0 > 0 }
        == [false, true, false, false, false])
  }
}

@Suite struct `Measured item-knn` {
  /// The data beside a checkout, where they are there.
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../../shared/data/ml-latest-small/interactions.tsv").standardizedFileURL
  static let isThere = FileManager.default.fileExists(atPath: folder.path)

  static func sequences(coreOf least: Int) throws -> SequenceDataset {
    let text = try String(contentsOf: folder, encoding: .utf8)
    var rows = text.split(separator: "\n").dropFirst().map { line -> (Int, Int) in
      let parts = line.split(separator: "\t")
      return (Int(parts[0]) ?? 0, Int(parts[1]) ?? 0)
    }
    while least > 0 {
      var items: [Int: Int] = [:]
      var users: [Int: Int] = [:]
      for (user, item) in rows {
        items[item, default: 0] += 1
        users[user, default: 0] += 1
      }
      let kept = rows.filter {
        users[$0.0, default: 0] >= least && items[$0.1, default: 0] >= least
      }
      if kept.count == rows.count { break }
      rows = kept
    }
    let items = Set(rows.map(\.1)).sorted()
    let tokens = Dictionary(uniqueKeysWithValues: items.enumerated().map { ($1, ItemToken($0)) })
    var order: [Int] = []
    var sequences: [Int: [ItemToken]] = [:]
    for (user, item) in rows {
      if sequences[user] == nil { order.append(user) }
      sequences[user, default: []].append(tokens[item] ?? ItemToken(0))
    }
    return SequenceDataset(
      itemCount: items.count, sequences: order.map { sequences[$0] ?? [] }.filter { $0.count >= 3 })
  }

  @Test(.enabled(if: isThere), arguments: [(0, 0.1066, 0.0541), (5, 0.1279, 0.0647)])
  func `has the figures of the reference program on ml-latest-small`(
    core: Int, recall: Double, ndcg: Double
  ) throws {
    let split = LeaveOneOut(try Self.sequences(coreOf: core))
    let model = try train(ItemKNNTraining.self, TrainingSet(split), threads: 2)
    // That program counts an item of equal score as half ahead; our own evaluation counts it whole.
    var (hits, gains) = (0.0, 0.0)
    let cases = split.cases(.test)
    for one in cases {
      let scores = model.scores(of: one.question)
      let right = scores[one.targets[0].index]
      let seen = Set(one.history).subtracting(one.targets)
      var (above, equal) = (0.0, -1.0)
      for item in scores.indices where !seen.contains(ItemToken(item)) {
        if scores[item] > right { above += 1 }
        if scores[item] == right { equal += 1 }
      }
      let rank = above + equal / 2
      if rank < 10 {
        hits += 1
        gains += 1 / log2(rank + 2)
      }
    }
    let count = Double(cases.count)
    #expect(abs(hits / count - recall) < 0.00006, "\(hits / count)")
    #expect(abs(gains / count - ndcg) < 0.00006, "\(gains / count)")
  }
}

@Suite struct `Popularity by time` {
  static let day = 86_400
  static let data = set(
    [[0, 1], [0, 2], [0, 2]], itemCount: 3,
    times: [[0, 10 * day], [day, 20 * day], [2 * day, 20 * day]])

  @Test func `counts all events without a window`() throws {
    #expect(try train(PopularTraining.self, Self.data).scores(of: History([])) == [3, 1, 2])
  }

  @Test func `counts the window before the moment of the question, and nothing after it`() throws {
    let model = try train(PopularTraining.self, Self.data, ["time_window": .number(3)])
    func order(_ moment: Int?) -> [Int] {
      let history = History(
        [], moment: moment.map { Timestamp(secondsSinceEpoch: Double($0)) })
      let scores = model.scores(of: history)
      return scores.indices.filter { scores[$0] >= 1 }
    }
    #expect(order(nil) == [2])
    #expect(order(30 * Self.day) == [2])
    #expect(order(11 * Self.day) == [1])
    #expect(order(2 * Self.day + 1) == [0])
  }

  @Test func `rises with growth`() throws {
    // Item 0 has ten events in each of two weeks, item 1 none and then nine.
    var sequences: [[Int]] = []
    var times: [[Int]] = []
    for i in 0..<10 {
      sequences.append(i < 9 ? [0, 0, 1] : [0, 0])
      times.append(i < 9 ? [0, 8, 13].map { $0 * Self.day } : [0, 8].map { $0 * Self.day })
    }
    let data = set(sequences, itemCount: 2, times: times)
    let plain = try train(RisingPopularTraining.self, data, ["rise": .number(0)])
    let rising = try train(RisingPopularTraining.self, data, ["rise": .number(1)])
    let (a, b) = (plain.scores(of: History([])), rising.scores(of: History([])))
    #expect(a[0] > a[1])
    #expect(b[1] > b[0])
  }

  @Test func `says that it needs times`() throws {
    #expect(throws: Diagnostic.self) {
      _ = try train(RisingPopularTraining.self, set([[0, 1]], itemCount: 2))
    }
  }
}

@Suite struct `N-grams` {
  @Test func `by Kneser and Ney are probabilities and prefer what followed`() throws {
    let data = set([[0, 1, 2], [0, 1, 2], [3, 1, 0], [2, 0, 3]], itemCount: 4)
    for n in 1...4 {
      let model = try train(NGramTraining.self, data, ["n": .integer(n)])
      for history in [[], [0], [0, 1], [3, 1], [1, 1, 1]] {
        let scores = model.scores(of: History(history.map { ItemToken($0) }))
        #expect(abs(scores.reduce(0, +) - 1) < 1e-5, "n \(n) after \(history)")
        #expect(scores.allSatisfy { $0 > 0 })
      }
    }
    let model = try train(NGramTraining.self, data)
    let scores = model.scores(of: History([0, 1].map { ItemToken($0) }))
    #expect(scores.indices.max { scores[$0] < scores[$1] } == 2)
    let other = model.scores(of: History([3, 1].map { ItemToken($0) }))
    #expect(other.indices.max { other[$0] < other[$1] } == 0)
  }

  @Test func `with interpolation have the value of the formula`() throws {
    // Bigrams: 0→1 twice, 0→2 once; base counts of distinct successions: 1, 2 → one each.
    let data = set([[0, 1], [0, 1], [0, 2]], itemCount: 3)
    let model = try train(
      NGramTraining.self, data,
      ["n": .integer(2), "discount": .number(0.5), "laplace_smoothing": .number(0)])
    let scores = model.scores(of: History([ItemToken(0)]))
    #expect(abs(scores[0]) < 1e-6)
    #expect(abs(scores[1] - (1.5 / 3 + 0.5 * 2 / 3 * 0.5)) < 1e-6)
    #expect(abs(scores[2] - (0.5 / 3 + 0.5 * 2 / 3 * 0.5)) < 1e-6)
  }

  @Test func `back off stupidly by 0.4`() throws {
    let data = set([[0, 1], [0, 1], [0, 2], [1, 2]], itemCount: 3)
    let model = try train(
      NGramTraining.self, data,
      [
        "n": .integer(2), "smoothing": .text("stupid-back-off"), "laplace_smoothing": .number(0),
      ])
    let scores = model.scores(of: History([ItemToken(0)]))
    #expect(abs(scores[0] - 0.4 * 3 / 8) < 1e-6)
    #expect(abs(scores[1] - 2 / 3) < 1e-6)
  }
}
