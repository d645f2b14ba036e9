import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI
import Models
import Training
import Worlds

/// Which events a command trains and judges on, and which models are meant.
struct ModelSource: ParsableArguments {
  @Option(help: ArgumentHelp("A folder of ratings to train and judge on.", valueName: "folder"))
  var movielens: String?

  @Option(help: "The engine whose events are used, of --data-dir.")
  var engineName: String?

  @Option(
    help: ArgumentHelp("The data directory; no server may have it open.", valueName: "directory"))
  var dataDir: String?

  @Option(help: "An engine's YAML, whose models can be named.")
  var file: String?

  @Option(help: "Threads (default: all cores).")
  var threads: Int?

  @Flag(help: "Print JSON for programs, also for errors.")
  var json = false

  func validate() throws {
    guard (movielens == nil) != (engineName == nil) else {
      throw ValidationError("Give either --movielens, or --engine-name with --data-dir.")
    }
    if engineName != nil, dataDir == nil {
      throw ValidationError("--engine-name needs --data-dir.")
    }
    if let threads, !(1...256).contains(threads) {
      throw ValidationError("--threads is \(threads); give 1 to 256.")
    }
  }

  var threadCount: Int { threads ?? allowedCoreCount }

  /// What the commands work on.
  struct Opened {
    var name: String
    var data: TrainingData
    /// The declared models, by name.
    var models: [PolicySettings]
    var tuning: TuningSettings?
  }

  func open() throws -> Opened {
    var configuration: EngineConfiguration?
    if let file {
      let text = String(decoding: try readInput(file), as: UTF8.self)
      configuration = try EngineConfiguration(parsing: text, origin: file)
    }
    if let movielens {
      return Opened(
        name: movielens, data: TrainingData(try RatingsFolder(path: movielens)),
        models: configuration?.models ?? [], tuning: configuration?.tuning)
    }
    guard let dataDir, let engineName, FileManager.default.fileExists(atPath: dataDir) else {
      throw CommandFailure(.notFound, "error: There is no data directory `\(dataDir ?? "")`.")
    }
    var options = RiffleDatabase.Options()
    options.trains = false
    let database = try RiffleDatabase(opening: dataDir, options: options, logger: Log.quiet)
    defer { database.close() }
    let engine = try database.engine(named: engineName)
    let settings = configuration ?? engine.configuration
    return Opened(
      name: engineName,
      data: TrainingData(engine.snapshot, eventValues: settings.models.first?.eventValues),
      models: settings.models, tuning: settings.tuning)
  }
}

extension ModelSource.Opened {
  /// A declared model, or a policy with its defaults.
  func settings(named name: String) throws -> PolicySettings {
    if let found = models.first(where: { $0.name == name }) { return found }
    if let policy = Policies.named(name.replacing("_", with: "-")) ?? Policies.named(name) {
      return PolicySettings(policy.description, name: name)
    }
    let names = models.map(\.name) + Policies.names
    let near = nearestName(to: name, among: names).map { " Did you mean `\($0)`?" } ?? ""
    throw CommandFailure(
      .badInput,
      "error: There is no model and no policy `\(name)`.\(near)\n  help: "
        + "Models and policies: \(names.map { "`\($0)`" }.joined(separator: ", ")).")
  }

  /// Trains a model and, before it, those that it is made of.
  ///
  /// - Parameter isPart: whether another model is made of it.
  func train(
    _ settings: PolicySettings, threads: Int, trained: inout [String: any Recommender],
    isPart: Bool = false
  ) throws -> any Recommender {
    if let model = trained[settings.name] { return model }
    for part in settings.partNames {
      _ = try train(
        try self.settings(named: part), threads: threads, trained: &trained, isPart: true)
    }
    var training = try ModelTraining(policy: settings, threads: threads, niceness: 0)
    training.parts = trained
    training.isPart = isPart
    let line = TrainingProgressLine()
    let outcome = try training.train(data) { state in
      line.show(state)
      return true
    }
    line.finish()
    Terminal.standardError("\(settings.name): \(outcome.summary)")
    for note in outcome.notes { Terminal.standardError(note) }
    trained[settings.name] = outcome.model
    return outcome.model
  }
}

extension TrainingData {
  /// Every rating as a positive event, in time order; tokens in the order of the items' numbers.
  init(_ folder: RatingsFolder) {
    let items = Set(folder.ratings.map(\.item)).sorted()
    let tokens = Dictionary(
      uniqueKeysWithValues: items.enumerated().map { ($1, ItemToken($0)) })
    var places: [Int: Int] = [:]
    var users: [UserID] = []
    var sequences: [[ItemToken]] = []
    var times: [[Timestamp]] = []
    for rating in folder.ratings {
      guard let token = tokens[rating.item] else { continue }
      let time = Timestamp(secondsSinceEpoch: Double(rating.seconds))
      if let place = places[rating.user] {
        sequences[place].append(token)
        times[place].append(time)
      } else {
        places[rating.user] = users.count
        users.append(UserID(String(rating.user)))
        sequences.append([token])
        times.append([time])
      }
    }
    self.init(
      users: users, sequences: sequences, times: times,
      vocabulary: items.map { ItemID(String($0)) })
  }
}
