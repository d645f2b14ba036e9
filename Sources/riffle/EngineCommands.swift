import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI

struct CreateEngine: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create an engine from its YAML and train it.",
    discussion: """
      With --data-dir the command trains to the end. With a server it returns once training has been \
      scheduled; --watch waits for it.
      """)

  @Option(help: "The engine's YAML or JSON; - reads standard input.")
  var file: String

  @Flag(help: "Wait until the engine serves, and show the training.")
  var watch = false

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let text = String(decoding: try readInput(file), as: UTF8.self)
    // Checked here first, so that messages name the file.
    let configuration = try EngineConfiguration(parsing: text, origin: file)
    for warning in configuration.warnings where !self.connection.json {
      Terminal.standardError("warning: \(warning.message)")
    }
    let connection = try connection.open(trains: true)
    defer { connection.close() }
    var answer = try await connection.call(
      "POST", "/v2/engines", body: Array(text.utf8), contentType: "application/yaml")
    if watch || connection.isLocal {
      answer = try await follow(configuration.name, connection)
    }
    if self.connection.json {
      print(answer.text)
    } else if answer["status"]?.string == "ACTIVE" {
      print("Engine `\(configuration.name)` serves.")
      EvaluationPrinter.print(ofEngine: answer)
    } else {
      print("Engine `\(configuration.name)` is created; it trains now.")
    }
  }

  /// Shows the training until it has ended.
  private func follow(_ name: String, _ connection: Connection) async throws -> JSON {
    let progress = TrainingProgressLine()
    while true {
      let engine = try await connection.call("GET", "/v2/engines/\(escaped(name))")
      switch engine["status"]?.string {
      case "ACTIVE":
        progress.finish()
        return engine
      case "ERROR":
        progress.finish()
        throw CommandFailure(
          .failed, engine["error_message"]?.string ?? "error: The training failed.")
      default: progress.show(engine["training"])
      }
      try await Task.sleep(for: .milliseconds(200))
    }
  }
}

struct ListEngines: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "List all engines and their states.")

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/engines")
    if self.connection.json {
      print(answer.text)
      return
    }
    let engines = answer["engines"]?.array ?? []
    if engines.isEmpty { print("There are no engines yet.") }
    for engine in engines {
      let name = Terminal.padded(engine["engine_name"]?.string ?? "", 24)
      let status = Terminal.padded(engine["status"]?.string ?? "", 12)
      print("\(name)\(status)trained \(engine["trained_at"]?.string ?? "never")")
    }
  }
}

struct ViewEngine: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show an engine: its state, its model and how good it is.")

  @Option(help: "The engine.")
  var engineName: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let engine = try await connection.call("GET", "/v2/engines/\(escaped(engineName))")
    if self.connection.json {
      print(engine.text)
      return
    }
    print("engine      \(engine["engine_name"]?.string ?? engineName)")
    print("status      \(engine["status"]?.string ?? "?")")
    print("created     \(engine["created_at"]?.string ?? "?")")
    print("as of       log position \(engine["as_of"]?.int ?? 0)")
    if let generation = engine["generation"] {
      print(
        "generation  \(generation["number"]?.int ?? 0), trained \(generation["trained_at"]?.string ?? "?")"
          + " on the log up to position \(generation["trained_through"]?.int ?? 0)")
    }
    if let message = engine["error_message"]?.string { print("error       \(message)") }
    if let message = engine["warning_message"]?.string { print("warnings    \(message)") }
    EvaluationPrinter.print(ofEngine: engine)
  }
}

struct QueryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "query",
    abstract: "Ask an engine.",
    discussion: """
      The query is given as text, as a file, by the name of a saved query, or on standard input:

        riffle query --engine-name for_you --saved feed --parameter user_id=u0007
        riffle query --engine-name for_you \\
          --query "SELECT title FROM column_order(columns='_derived_popular_rank ASC') LIMIT 5"
      """)

  @Option(help: "The engine.")
  var engineName: String

  @Option(help: "The query's text, or a whole request as JSON.")
  var query: String?

  @Option(help: "A file with the query's text or JSON.")
  var queryFile: String?

  @Option(help: "The name of a saved query.")
  var saved: String?

  @Option(
    name: .customLong("parameter"),
    help: ArgumentHelp(
      "A parameter, may be repeated; numbers and JSON are taken as such.",
      valueName: "name=value"))
  var parameters: [String] = []

  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if [query, queryFile, saved].compactMap({ $0 }).count > 1 {
      throw ValidationError("Give one of --query, --query-file and --saved.")
    }
    for parameter in parameters where !parameter.contains("=") {
      throw ValidationError("--parameter \(parameter): write it as name=value.")
    }
  }

  func run() async throws {
    var given: [JSON.Member] = []
    for parameter in parameters {
      let parts = parameter.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let text = String(parts[1])
      let value: JSON =
        switch try? JSON(parsing: text) {
        case .int(let number)?: .int(number)
        case .double(let number)?: .double(number)
        case .bool(let flag)?: .bool(flag)
        case .array(let elements)?: .array(elements)
        default: .string(text)
        }
      given.append(.init(String(parts[0]), value))
    }
    var body: [JSON.Member] = []
    var path = "/v2/engines/\(escaped(engineName))/query"
    if let saved {
      path = "/v2/engines/\(escaped(engineName))/queries/\(escaped(saved))"
    } else {
      let text = try query ?? String(decoding: readInput(queryFile ?? "-"), as: UTF8.self)
      if text.first(where: { !$0.isWhitespace }) == "{", let json = try? JSON(parsing: text),
        case .object(let members) = json
      {
        body = members
      } else {
        body.append(.init("query", .string(text)))
      }
    }
    if !given.isEmpty { body.append(.init("parameters", .object(given))) }
    if !body.contains(where: { $0.name == "return_metadata" }) {
      body.append(.init("return_metadata", true))
    }
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("POST", path, json: .object(body))
    if self.connection.json { print(answer.text) } else { AnswerPrinter.print(answer) }
  }
}

struct DeleteEngine: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Delete an engine with its models. Its tables stay.")

  @Option(help: "The engine.")
  var engineName: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("DELETE", "/v2/engines/\(escaped(engineName))")
    print(self.connection.json ? answer.text : answer["message"]?.string ?? "")
  }
}
