import Domain
import Evaluation
import Foundation
import Kernels
import Models
import Neural
import Testing
import Training

/// Users who walk along a ring of items, with a day between two events.
private func ring(items: Int = 40, users: Int = 200, seed: UInt64 = 3) -> TrainingSet {
  var generator = SplitMix64(seed: seed)
  let sequences = (0..<users).map { _ -> [ItemToken] in
    let start = Int.random(in: 0..<items, using: &generator)
    let length = Int.random(in: 4...12, using: &generator)
    return (0..<length).map { ItemToken((start + $0) % items) }
  }
  let times = sequences.enumerated().map { user, sequence in
    sequence.indices.map { Timestamp(secondsSinceEpoch: Double(user * 3600 + $0 * 86_400)) }
  }
  return TrainingSet(
    LeaveOneOut(SequenceDataset(itemCount: items, sequences: sequences, times: times)))
}

private func context(threads: Int = 1) throws -> TrainingContext {
  TrainingContext(threads: threads, kernels: try #require(Kernels(environment: [:])))
}

/// Settings that train in a blink, with parts for policies that are made of others.
private func quick(
  _ policy: any Policy.Type, _ data: TrainingSet, _ context: inout TrainingContext
) throws -> PolicySettings {
  var settings = PolicySettings(policy.description)
  for name in ["n_epochs", "epochs", "iterations"] where policy.description.parameter(name) != nil {
    settings[name] = .integer(2)
  }
  for name in ["hidden_size", "embedding_dim", "embedding_size", "factors"]
  where policy.description.parameter(name) != nil {
    settings[name] = .integer(16)
  }
  if policy.description.parameter("minutes") != nil { settings["minutes"] = .number(0.01) }
  guard policy.description.parameters.contains(where: { $0.kind == .model || $0.kind == .models })
  else { return settings }
  for name in ["ngram", "item-knn"] {
    let part = try #require(Policies.named(name))
    context.parts[name] = try part.train(data, PolicySettings(part.description), context).model
  }
  for parameter in policy.description.parameters {
    if parameter.kind == .models {
      settings[parameter.name] = .weights([
        .init(model: "ngram", weight: nil), .init(model: "item-knn", weight: nil),
      ])
    }
  }
  if policy.description.parameter("ranker") != nil {
    settings["retriever"] = .text("item-knn")
    settings["ranker"] = .text("ngram")
  }
  return settings
}

@Suite struct `Every policy` {
  @Test(arguments: Policies.names)
  func `scores all items, also without a history, and survives its weight file`(name: String) throws
  {
    let policy = try #require(Policies.named(name))
    let data = ring()
    var context = try context()
    let settings = try quick(policy, data, &context)
    let model = try policy.train(data, settings, context).model
    #expect(model.itemCount == data.itemCount)
    let questions = data.validation.prefix(5).map(\.question) + [History([])]
    let scores = questions.map { model.scores(of: $0) }
    for scores in scores {
      #expect(scores.count == data.itemCount && scores.allSatisfy(\.isFinite))
    }

    // Together as alone: what shares a batch has no part in a score.
    var batch = [Float](repeating: .nan, count: questions.count * data.itemCount)
    batch.withUnsafeMutableBufferPointer { buffer in
      if let base = buffer.baseAddress { model.score(Array(questions), into: base) }
    }
    for (i, alone) in scores.enumerated() {
      let row = batch[i * data.itemCount..<(i + 1) * data.itemCount]
      #expect(zip(row, alone).allSatisfy { abs($0 - $1) <= 1e-4 * max(1, abs($1)) })
    }

    let bytes = model.safetensors().bytes
    let restored = try RecommenderFiles.restore(
      Safetensors(parsing: bytes, path: "w"), path: "w", kernels: context.kernels)
    #expect(restored.safetensors().bytes == bytes)
    for (history, scores) in zip(questions, scores) {
      #expect(restored.scores(of: history) == scores)
    }
  }

  /// The result of `auto` depends on how much its time is enough for.
  @Test(arguments: Policies.names.filter { $0 != "auto" })
  func `gives the same model again for the same threads`(name: String) throws {
    let policy = try #require(Policies.named(name))
    let data = ring(users: 60)
    for threads in [1, 2] {
      let models = try (0..<2).map { _ in
        var context = try context(threads: threads)
        let settings = try quick(policy, data, &context)
        return try policy.train(data, settings, context).model.safetensors().bytes
      }
      #expect(models[0] == models[1], "\(name) with \(threads) threads")
    }
  }

  @Test(arguments: Policies.names)
  func `is cancelled by its progress`(name: String) throws {
    let policy = try #require(Policies.named(name))
    let data = ring(users: 60)
    var context = try context()
    let settings = try quick(policy, data, &context)
    context.progress = { _ in false }
    #expect(throws: TrainingCancelled.self) { _ = try policy.train(data, settings, context) }
  }

  @Test(arguments: Policies.names)
  func `has a default, a range and a help for each hyper-parameter`(name: String) throws {
    let description = try #require(Policies.named(name)).description
    for parameter in description.parameters {
      #expect(parameter.help.hasSuffix("."), "\(name).\(parameter.name)")
      guard let search = parameter.search else { continue }
      let tried: [Hyperparameter.Value] =
        switch search {
        case .integers(let range, _): [.integer(range.lowerBound), .integer(range.upperBound)]
        case .numbers(let range, _): [.number(range.lowerBound), .number(range.upperBound)]
        case .options(let options): options
        }
      #expect(tried.allSatisfy(parameter.allows), "\(name).\(parameter.name)")
    }
  }

  @Test func `names that are absent point at ones that are there`() {
    for (name, found) in Policies.absent {
      #expect(Policies.named(name) == nil)
      #expect(
        Policies.names.contains(found.nearest) || found.nearest == "auto"
          || found.nearest == "gsasrec", "\(name)")
    }
  }
}

@Suite struct `The reference page of policies` {
  @Test func `is what riffle policies --markdown prints`() throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../Documentation/policies.md").standardizedFileURL
    let text = try String(contentsOf: page, encoding: .utf8)
    let isSame = text.split(separator: "\n") == PolicyReference.markdown.split(separator: "\n")
    #expect(isSame, "riffle policies --markdown > Documentation/policies.md")
  }
}
