import ArgumentParser
import Domain
import Engine
import Evaluation
import Foundation
import HTTPAPI
import Models
import Reports
import Training
import Worlds

struct Evaluate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say how good a model is, beside the baselines.",
    discussion: """
      Leave-one-out: a user's last positive event is the test, the one before it the validation, the \
      rest trains. The whole catalogue is ranked, seen items removed, ties broken against the model; \
      intervals are 95 % bootstrap intervals over users.

        riffle evaluate --engine-name for_you     the figures of the published model
        riffle evaluate --movielens PATH          trains on a MovieLens folder and judges; no server
        riffle evaluate --movielens PATH --full   every metric at several depths, segments, lists, \
      significance, leaks, order

      `riffle report` judges several models side by side, on a split by time too, and writes a page.
      """)

  @Option(help: "The engine whose published model is shown.")
  var engineName: String?

  @Option(help: ArgumentHelp("A folder of ratings to train and judge on.", valueName: "folder"))
  var movielens: String?

  @Option(help: "An engine's YAML whose first model is used with --movielens.")
  var file: String?

  @Option(help: "Epochs at most, in place of the model's own.")
  var epochs: Int?

  @Option(help: "Threads (default: all cores).")
  var threads: Int?

  @Flag(help: "With --movielens: all metrics at several depths, segments, significance and checks.")
  var full = false

  @Option(
    name: .customLong("at"), help: "With --full: a depth; several times (default: 5, 10, 20).")
  var depths: [Int] = []

  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (engineName == nil) != (movielens == nil) else {
      throw ValidationError("Give either --engine-name or --movielens.")
    }
    if full || !depths.isEmpty, movielens == nil {
      throw ValidationError(
        "--full and --at judge anew, with --movielens. For an engine: riffle report --data-dir DIR "
          + "--engine-name NAME --model MODEL.")
    }
    if !depths.isEmpty, !full { throw ValidationError("--at needs --full.") }
    if depths.contains(where: { $0 < 1 || $0 > 1000 }) {
      throw ValidationError("--at is 1 to 1000.")
    }
    if let epochs, epochs < 1 { throw ValidationError("--epochs is \(epochs).") }
    if let threads, !(1...256).contains(threads) {
      throw ValidationError("--threads is \(threads); give 1 to 256.")
    }
  }

  func run() async throws {
    if let movielens { try evaluate(folder: movielens) } else { try await showEngine() }
  }

  private func showEngine() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let engine = try await connection.call("GET", "/v2/engines/\(escaped(engineName ?? ""))")
    guard let generation = engine["generation"] else {
      throw CommandFailure(
        .failed,
        "error: The engine has no trained model yet: it is "
          + "\(engine["status"]?.string ?? "unknown").")
    }
    if self.connection.json {
      print(generation["models"]?.text ?? "[]")
    } else {
      EvaluationPrinter.print(ofEngine: engine)
    }
  }

  private func evaluate(folder path: String) throws {
    var policy = PolicySettings(SASRecTraining.description)
    if let file {
      let text = String(decoding: try readInput(file), as: UTF8.self)
      let configuration = try EngineConfiguration(parsing: text, origin: file)
      guard let first = configuration.models.first else {
        throw CommandFailure(.badInput, "error: `\(file)` declares no model.")
      }
      policy = first
    }
    if let epochs, policy.policy.parameter("n_epochs") != nil {
      policy["n_epochs"] = .integer(epochs)
    }
    let folder = try RatingsFolder(path: path)
    let training = try ModelTraining(
      policy: policy,
      threads: threads ?? allowedCoreCount, niceness: 0)
    let progress = TrainingProgressLine()
    let data = TrainingData(folder)
    let outcome = try training.run(
      data, estimated: { Terminal.standardError("Training: \($0.text)") }
    ) { state in
      progress.show(state)
      return true
    }
    progress.finish()
    if full {
      Terminal.standardError(outcome.summary)
      let card = try card(outcome, policy, data, folder: path)
      if connection.json { print(card.json.text) } else { print(card.text(bold: Terminal.bold)) }
      return
    }
    if connection.json {
      print(outcome.evaluation.json.text)
    } else {
      Terminal.standardError(outcome.summary)
      EvaluationPrinter.print(outcome.evaluation)
    }
  }

  /// The model in every respect, beside the baselines and item-knn.
  private func card(
    _ outcome: ModelTraining.Outcome, _ policy: PolicySettings, _ data: TrainingData, folder: String
  ) throws -> Scorecard {
    let split = data.split
    var contenders = [Contender(outcome.model, name: policy.name)]
    let context = TrainingContext(
      threads: threads ?? allowedCoreCount, kernels: try chosenKernels())
    if policy.policy.name != ItemKNNTraining.description.name {
      let neighbours = try ItemKNNTraining.train(
        TrainingSet(split), PolicySettings(ItemKNNTraining.description), context)
      var contender = Contender(neighbours.model, name: "item-knn")
      contender.role = .baseline
      contenders.append(contender)
    }
    var options = EvaluationOptions()
    if !depths.isEmpty { options.depths = depths }
    options.threads = context.threads
    var card = Scorecard(
      contenders, on: split, dataset: folder,
      learned: outcome.trained.hasLearnedValidation
        ? split.trainingAndValidationSet : split.trainingSet, options: options)
    card.notes = [outcome.summary]
    return card
  }
}
