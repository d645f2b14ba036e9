import ArgumentParser
import Domain
import Engine
import Foundation

/// `riffle sources`: what brings events in by itself.
struct Sources: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List, declare and pause the sources that bring events in.",
    discussion: """
      A source is a file or folder, a topic of Kafka, a stream of Kinesis, or what SDKs of Segment and \
      RudderStack send. Its position is stored with its rows, so that a restart neither loses nor \
      doubles a row.
      """,
    subcommands: [
      SourcesList.self, SourcesShow.self, SourcesCreate.self, SourcesUpdate.self,
      SourcesDelete.self, SourcesPause.self, SourcesResume.self,
    ], defaultSubcommand: SourcesList.self)
}

struct SourcesList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List all sources, each with how it fares.")

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/sources")
    if self.connection.json {
      print(answer.text)
      return
    }
    let sources = answer["sources"]?.array ?? []
    if sources.isEmpty {
      print("There are no sources. Declare one: riffle sources create --file clicks.yaml")
    }
    for source in sources {
      print(
        "\(source["name"]?.string ?? "")  \(source["type"]?.string ?? "") → "
          + "\(source["table"]?.string ?? "")  \(source["status_line"]?.string ?? "")")
    }
  }
}

struct SourcesShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a source: its definition, counts, lag and last error.")

  @Argument(help: "The source.")
  var name: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/sources/\(escaped(name))")
    print(self.connection.json ? answer.text : answer.prettyText)
  }
}

struct SourcesCreate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Declare a source from its definition, and start it.",
    discussion: """
      The definition is YAML or JSON:

        name: clicks
        type: file
        path: /var/log/app
        pattern: "*.jsonl"
        table: video_events
        mapping: {event_id: id, user_id: user.id, item_id: video, created_at: time}
        filter: [{field: kind, in: [view, like]}]

      Documentation/connectors.md has each type's keys. Write secrets as ${NAME} or file:/path.
      """)

  @Option(help: "The definition, .yaml or .json; - reads standard input.")
  var file: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws { try await send("POST", file, connection) }
}

struct SourcesUpdate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "update",
    abstract: "Replace the definition of a source, which goes on where it was.")

  @Option(help: "The definition, .yaml or .json; - reads standard input.")
  var file: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws { try await send("PATCH", file, connection) }
}

struct SourcesDelete: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete",
    abstract: "Delete a source and forget how far it was read. Its rows stay.")

  @Argument(help: "The source.")
  var name: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await call("DELETE", "/v2/sources/\(escaped(name))", connection)
  }
}

struct SourcesPause: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Let a source rest, also over restarts.")

  @Argument(help: "The source.")
  var name: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await call("POST", "/v2/sources/\(escaped(name))/pause", connection)
  }
}

struct SourcesResume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Let a source go on where it was.")

  @Argument(help: "The source.")
  var name: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    try await call("POST", "/v2/sources/\(escaped(name))/resume", connection)
  }
}

/// Sends a definition and prints the answer's message.
private func send(_ method: String, _ file: String, _ options: ConnectionOptions) async throws {
  let text = String(decoding: try readInput(file), as: UTF8.self)
  let definition = try JSON(settings: text, origin: file)
  try await call(method, "/v2/sources", options, definition)
}

private func call(
  _ method: String, _ path: String, _ options: ConnectionOptions, _ body: JSON? = nil
) async throws {
  let connection = try options.open()
  defer { connection.close() }
  let answer = try await connection.call(method, path, body: body?.utf8 ?? [])
  print(options.json ? answer.text : answer["message"]?.string ?? answer.text)
}
