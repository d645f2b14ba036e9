import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI

struct CreateView: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create an SQL view from its definition.",
    discussion: """
      The definition is YAML or JSON:

        name: video_labels
        transform_type: SQL
        sql_transform_type: MATERIALIZED_VIEW      or VIEW, computed when it is read
        sql_query: >
          SELECT user_id, video_id AS item_id, created_at,
                 if(event = 'like', 1, 0) AS label
          FROM video_events

      A materialised view whose rows each come from one row of one table is kept up to date with \
      each row; others are computed anew every refresh_seconds. The answer says which.
      """)

  @Option(help: "The definition, .yaml or .json; - reads standard input.")
  var file: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws { try await setView(file, "POST", connection) }
}

struct UpdateView: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Replace an SQL view by a new definition of the same name.")

  @Option(help: "The definition, .yaml or .json; - reads standard input.")
  var file: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws { try await setView(file, "PATCH", connection) }
}

private func setView(
  _ file: String, _ method: String, _ options: ConnectionOptions
) async throws {
  let text = String(decoding: try readInput(file), as: UTF8.self)
  let definition = try JSON(settings: text, origin: file)
  let connection = try options.open()
  defer { connection.close() }
  let answer = try await connection.call(method, "/v2/views", json: definition)
  print(options.json ? answer.text : answer["message"]?.string ?? answer.text)
}

struct ListViews: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "List the views.")

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/views")
    if self.connection.json {
      print(answer.text)
      return
    }
    for view in answer["views"]?.array ?? [] {
      let sources = (view["source_table_names"]?.array ?? []).compactMap(\.string)
      print(
        "\(view["name"]?.string ?? "")  \(view["status"]?.string ?? "")  from "
          + sources.joined(separator: ", "))
    }
  }
}

struct ViewView: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show a view: its SQL, its columns, and how it is kept up to date.")

  @Option(help: "The view.")
  var viewName: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/views/\(escaped(viewName))")
    print(self.connection.json ? answer.text : answer.prettyText)
  }
}

struct DeleteView: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Delete a view and its rows.")

  @Option(help: "The view.")
  var viewName: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("DELETE", "/v2/views/\(escaped(viewName))")
    print(self.connection.json ? answer.text : answer["message"]?.string ?? answer.text)
  }
}
