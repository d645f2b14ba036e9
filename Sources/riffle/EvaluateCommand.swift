import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI
import Models
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

  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (engineName == nil) != (movielens == nil) else {
      throw ValidationError("Give either --engine-name or --movielens.")
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
    let outcome = try training.run(
      TrainingData(folder), estimated: { Terminal.standardError("Training: \($0.text)") }
    ) { state in
      progress.show(state)
      return true
    }
    progress.finish()
    if connection.json {
      print(outcome.evaluation.json.text)
    } else {
      Terminal.standardError(outcome.summary)
      EvaluationPrinter.print(outcome.evaluation)
    }
  }
}
