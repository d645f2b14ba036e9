import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI

struct Train: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train an engine again, or verify that its model can be trained again.",
    discussion: """
      Trains on the newest events and publishes the result; what served before serves until then. \
      With --verify the published model is trained again on the events that it learned from, with the \
      same seed and threads, and the weights are compared bit for bit; nothing is published.

        riffle train --data-dir DIR --engine-name for_you
        riffle train --data-dir DIR --engine-name for_you --verify    exit code 1 where they differ
      """)

  @Option(help: "The engine.")
  var engineName: String

  @Flag(help: "Train the published model again and compare.")
  var verify = false

  @Option(
    help: ArgumentHelp("The data directory; no server may have it open.", valueName: "directory"))
  var dataDir: String

  @Flag(help: "Print JSON for programs, also for errors.")
  var json = false

  func run() async throws {
    guard FileManager.default.fileExists(atPath: dataDir) else {
      throw CommandFailure(.notFound, "error: There is no data directory `\(dataDir)`.")
    }
    var options = RiffleDatabase.Options()
    options.trains = false
    let database = try RiffleDatabase(opening: dataDir, options: options, logger: Log.quiet)
    defer { database.close() }
    let engine = try database.engine(named: engineName)
    if verify { try compare(engine, in: database) } else { try await retrain(engine, in: database) }
  }

  private func compare(_ engine: ServedEngine, in database: RiffleDatabase) throws {
    let line = TrainingProgressLine()
    let results = try database.verifyTraining(of: engine) { progress in
      line.show(progress)
      return true
    }
    line.finish()
    if json {
      print(
        JSON.array(
          results.map { result in
            [
              "model": .string(result.model), "same": .bool(result.isSame),
              "difference": result.difference.map { .string($0) } ?? .null,
              "seconds": .double(result.seconds),
            ]
          }
        ).text)
    } else {
      for result in results {
        let seconds = Terminal.fixed(result.seconds, 1)
        print(
          result.isSame
            ? "`\(result.model)`: the same weights, bit for bit (\(seconds) s)."
            : "`\(result.model)`: other weights (\(seconds) s)"
              + (result.difference.map { ": \($0)." } ?? "."))
      }
    }
    if results.contains(where: { !$0.isSame }) { throw ExitCode(ExitStatus.failed.rawValue) }
  }

  private func retrain(_ engine: ServedEngine, in database: RiffleDatabase) async throws {
    let before = engine.generation?.number ?? 0
    database.retrain(engine)
    let line = TrainingProgressLine()
    while (engine.generation?.number ?? 0) == before {
      let status = engine.status
      if let error = status.error {
        line.finish()
        throw CommandFailure(.failed, "error: \(error)")
      }
      if let progress = status.progress { line.show(progress) }
      try await Task.sleep(for: .milliseconds(100))
    }
    line.finish()
    let details = EngineDetails.json(engine)
    if json { print(details.text) } else { EvaluationPrinter.print(ofEngine: details) }
  }
}
