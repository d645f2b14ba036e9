import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI
import Ingest

struct CreateTable: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create a table from its definition.",
    discussion: """
      The definition is YAML or JSON:

        name: video_events
        schema_type: CUSTOM
        unique_keys: [event_id]
        column_schema: {event_id: String, user_id: String, item_id: String, created_at: DateTime}
      """)

  @Option(help: "The definition, .yaml or .json; - reads standard input.")
  var file: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let text = String(decoding: try readInput(file), as: UTF8.self)
    let definition = try JSON(settings: text, origin: file)
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("POST", "/v2/tables", json: definition)
    print(self.connection.json ? answer.text : answer["message"]?.string ?? answer.text)
  }
}

struct TableInsert: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Insert the rows of a file into a table.",
    discussion: """
      Rows are sent in batches; each batch is inserted as a whole or not at all. A table with unique \
      keys can be given the same file again after a failure: nothing is counted twice.
      """)

  @Option(help: "The table.")
  var tableName: String

  @Option(help: "The file; - reads standard input.")
  var file: String

  @Option(help: "The file's form: csv, tsv, json or jsonl; by the file's name where not given.")
  var type: String?

  @Option(help: "Rows in one request.")
  var batchSize = 5000

  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (1...100_000).contains(batchSize) else {
      throw ValidationError("--batch-size is \(batchSize); give 1 to 100000.")
    }
  }

  func run() async throws {
    let name = type ?? (file as NSString).pathExtension.lowercased()
    guard let format = RowFormat(rawValue: name) else {
      let names = RowFormat.allCases.map(\.rawValue).joined(separator: ", ")
      throw CommandFailure(
        .badInput,
        "error: `\(name)` is no form of rows that this build reads.\n  help: Give --type "
          + "one of \(names).")
    }
    var rows = try RowFile(format, try readInput(file), origin: file)
    let connection = try connection.open()
    defer { connection.close() }
    let progress = ProgressLine()
    var inserted = 0
    var asOf: Int64 = 0
    while true {
      let batch = try rows.next(batchSize)
      if batch.isEmpty { break }
      do {
        let answer = try await connection.call(
          "POST", "/v2/tables/\(escaped(tableName))/insert", json: ["data": .array(batch)])
        asOf = answer["as_of"]?.int ?? asOf
      } catch var failure as CommandFailure {
        progress.finish()
        failure.text +=
          "\n  note: \(Terminal.grouped(inserted)) rows before this batch are inserted; "
          + "row 0 of the message is row \(inserted) of the file."
        throw failure
      }
      inserted += batch.count
      if Terminal.canRedraw {
        Terminal.rawError("\r\u{1B}[2K\(Terminal.grouped(inserted)) rows")
      }
    }
    if Terminal.canRedraw { Terminal.rawError("\r\u{1B}[2K") }
    print(
      self.connection.json
        ? JSON.object([.init("rows", .int(Int64(inserted))), .init("as_of", .int(asOf))]).text
        : "Inserted \(Terminal.grouped(inserted)) rows into `\(tableName)`.")
  }
}

struct ListTables: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "List all tables.")

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/tables")
    if self.connection.json {
      print(answer.text)
      return
    }
    for table in answer["tables"]?.array ?? [] {
      print("\(table["name"]?.string ?? "")  \(table["description"]?.string ?? "")")
    }
  }
}

/// A name as one segment of a path.
func escaped(_ name: String) -> String {
  name.addingPercentEncoding(
    withAllowedCharacters: .alphanumerics.union(.init(charactersIn: "-_.")))
    ?? name
}

struct DeleteTable: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Delete a table with its rows. No engine may read it.")

  @Option(help: "The table.")
  var tableName: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("DELETE", "/v2/tables/\(escaped(tableName))")
    print(self.connection.json ? answer.text : answer["message"]?.string ?? "")
  }
}
