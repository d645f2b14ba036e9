import Domain
import Engine
import Models
import Testing
import Training

private func problems(_ models: String) -> [String] {
  do {
    _ = try read(models)
    return []
  } catch {
    return ((error as? Diagnostics)?.all ?? []).map(\.description)
  }
}

private func read(_ models: String) throws -> EngineConfiguration {
  try EngineConfiguration(
    parsing: """
      name: e
      data: {interaction_table: events}
      training:
        models: \(models)
      """)
}

/// Settings with another allowed value for each hyper-parameter.
private func unusual(_ policy: PolicyDescription) -> PolicySettings {
  var settings = PolicySettings(policy, name: "m", eventValues: ["play"])
  for parameter in policy.parameters {
    settings.values[parameter.name] =
      switch parameter.kind {
      case .integer(let range): .integer(range.lowerBound)
      case .number(let range): .number((range.lowerBound + min(range.upperBound, 1)) / 2)
      case .flag: .flag(parameter.defaultValue != .flag(true))
      case .choice(let names): .text(names.last ?? "")
      case .model: .text("a")
      case .models:
        .weights([.init(model: "a", weight: 0.25), .init(model: "b", weight: 2)])
      }
  }
  return settings
}

@Suite struct `Policies in YAML` {
  private static let parts = "{policy_type: popular, name: a}, {policy_type: ngram, name: b}"

  @Test(arguments: Policies.names)
  func `every hyper-parameter is read back as it was written`(name: String) throws {
    let policy = try #require(Policies.named(name)).description
    let settings = unusual(policy)
    let engine = try read("[\(Self.parts), \(settings.json.text)]")
    #expect(engine.model(named: "m") == settings)
  }

  @Test(arguments: Policies.names)
  func `every alias is read as its hyper-parameter`(name: String) throws {
    let policy = try #require(Policies.named(name)).description
    for parameter in policy.parameters {
      for alias in parameter.aliases {
        var settings = PolicySettings(policy, name: "m")
        for needed in policy.parameters where [.model, .models].contains(needed.kind) {
          settings.values[needed.name] = unusual(policy).values[needed.name]
        }
        settings.values[parameter.name] = unusual(policy).values[parameter.name]
        let text = settings.json.text.replacing("\"\(parameter.name)\"", with: "\"\(alias)\"")
        #expect(try read("[\(Self.parts), \(text)]").model(named: "m") == settings, "\(alias)")
      }
    }
  }

  @Test(arguments: Policies.names)
  func `every range that tuning may search can be written`(name: String) throws {
    let policy = try #require(Policies.named(name)).description
    var settings = PolicySettings(policy, name: "m")
    for parameter in policy.parameters {
      if [.model, .models].contains(parameter.kind) {
        settings.values[parameter.name] = unusual(policy).values[parameter.name]
      }
      settings.searches[parameter.name] = parameter.search
    }
    #expect(try read("[\(Self.parts), \(settings.json.text)]").model(named: "m") == settings)
  }

  @Test(arguments: Policies.absent.keys.sorted())
  func `a policy that is not here points at the nearest`(name: String) throws {
    let nearest = try #require(Policies.absent[name]).nearest
    let found = problems("[{policy_type: \(name)}]")
    #expect(found.count == 1)
    #expect(found[0].contains("The policy `\(name)` is not available here."))
    #expect(found[0].contains("`policy_type: \(nearest)`"))
  }

  @Test(arguments: [
    ("[{policy_type: item-kn}]", "did you mean `item-knn`?"),
    ("[{policy_type: item2vec, window_sise: 3}]", "did you mean `window_size`?"),
    ("[{policy_type: als, factors: 1}]", "it must be a whole number from 2 to 1024"),
    ("[{policy_type: item2vec, algorithm: skipgram}]", "did you mean `skip-gram`?"),
    ("[{policy_type: als, use_features: true}]", "is not available yet"),
    ("[{policy_type: blend}]", "a blend needs models"),
    ("[{policy_type: blend, models: [x]}]", "No model above this one is called `x`"),
    ("[{policy_type: retrieve-rank, ranker: x, retriever: y}]", "Declare it in"),
    (
      "[{policy_type: laclrec, n_epochs: 5, augmenter_epochs: 5}]",
      "none is left for the recommender"
    ),
    ("[{policy_type: als, factors: {type: tunable_int, min: 9, max: 2}}]", "cannot be searched"),
    ("[{policy_type: als, factors: {type: tunable_float, min: 1, max: 2}}]", "tunable_int"),
    ("[{policy_type: elsa, lr: 0.1, learning_rate: 0.2}]", "here they are one setting"),
  ])
  func `what is wrong is said with what to write`(models: String, text: String) {
    let found = problems(models)
    #expect(found.contains { $0.contains(text) }, "\(found)")
  }

  @Test func `tuning has defaults and bounds`() throws {
    let tuned = try read(
      "[{policy_type: als, factors: {type: tunable_int_categorical, options: [8, 16]}}]")
    #expect(tuned.tuning == TuningSettings())
    #expect(try read("[{policy_type: als}]").tuning == nil)
    let given = try EngineConfiguration(
      parsing: """
        name: e
        data: {interaction_table: events}
        training: {tuning: {total_jobs: 30, parallel_jobs: 2, minutes: 5}, models: [{policy_type: als}]}
        """)
    #expect(given.tuning == TuningSettings(jobs: 30, parallelJobs: 2, minutes: 5))
  }
}
