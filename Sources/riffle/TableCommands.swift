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

struct UpdateTable: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Add columns to a table, widen types, or change its rules.",
    discussion: """
      The file names the table and what is new; the rest stays:

        name: video_events
        column_schema: {device: String}
        contract: {watch_ratio: {min: 0, max: 1}, event: {required: true, allowed: [view, like]}}
        retention: {max_age: 90d, time_column: created_at}
      """)

  @Option(help: "What is new, .yaml or .json; - reads standard input.")
  var file: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let text = String(decoding: try readInput(file), as: UTF8.self)
    let definition = try JSON(settings: text, origin: file)
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("PATCH", "/v2/tables", json: definition)
    print(self.connection.json ? answer.text : answer["message"]?.string ?? answer.text)
  }
}

struct ViewTable: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show a table: its columns, rules, rows, dead letters and alerts.")

  @Option(help: "The table.")
  var tableName: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/tables/\(escaped(tableName))")
    print(self.connection.json ? answer.text : answer.prettyText)
  }
}

struct TableInsert: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Insert the rows of a file into a table.",
    discussion: """
      The file is read and sent in pieces, so it may be larger than the memory. Rows that do not fit \
      are kept as dead letters (`riffle dead-letters`) and the others go in; a strict table refuses \
      the whole piece. A table with unique keys can be given the same file again after a failure: \
      nothing is counted twice.
      """)

  @Option(help: "The table.")
  var tableName: String

  @Option(help: "The file; - reads standard input.")
  var file: String

  @Option(help: "The file's form: csv, tsv, json or jsonl; by the file's name where not given.")
  var type: String?

  @Option(help: "Rows in one request, for the lists of JSON files.")
  var batchSize = 5000

  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (1...100_000).contains(batchSize) else {
      throw ValidationError("--batch-size is \(batchSize); give 1 to 100000.")
    }
  }

  /// What has gone in so far.
  private struct Sum {
    var accepted = 0
    var dead = 0
    var asOf: Int64 = 0

    mutating func add(_ answer: JSON) {
      accepted += Int(answer["accepted"]?.int ?? 0)
      dead += Int(answer["dead_letters"]?.int ?? 0)
      asOf = answer["as_of"]?.int ?? asOf
      if Terminal.canRedraw {
        Terminal.rawError("\r\u{1B}[2K\(Terminal.grouped(accepted)) rows")
      }
    }
  }

  func run() async throws {
    let name = type ?? (file as NSString).pathExtension.lowercased()
    guard let format = RowFormat(rawValue: name == "ndjson" ? "jsonl" : name) else {
      let names = RowFormat.allCases.map(\.rawValue).joined(separator: ", ")
      throw CommandFailure(
        .badInput,
        "error: `\(name)` is no form of rows that this build reads.\n  help: Give --type "
          + "one of \(names).")
    }
    let handle: FileHandle
    if file == "-" {
      handle = FileHandle.standardInput
    } else {
      guard let opened = FileHandle(forReadingAtPath: file) else {
        throw CommandFailure(.notFound, "error: The file `\(file)` cannot be read.")
      }
      handle = opened
    }
    let connection = try connection.open()
    defer { connection.close() }
    var sum = Sum()
    do {
      if format == .json {
        try await insertList(connection, handle, &sum)
      } else {
        try await insertPieces(connection, format, handle, &sum)
      }
    } catch var failure as CommandFailure {
      if Terminal.canRedraw { Terminal.rawError("\r\u{1B}[2K") }
      failure.text +=
        "\n  note: \(Terminal.grouped(sum.accepted)) rows before this piece of the file are inserted; "
        + "rows and lines of the message count from the piece's beginning."
      throw failure
    }
    if Terminal.canRedraw { Terminal.rawError("\r\u{1B}[2K") }
    if self.connection.json {
      print(
        JSON.object([
          .init("rows", .int(Int64(sum.accepted))), .init("dead_letters", .int(Int64(sum.dead))),
          .init("as_of", .int(sum.asOf)),
        ]).text)
      return
    }
    print("Inserted \(Terminal.grouped(sum.accepted)) rows into `\(tableName)`.")
    if sum.dead > 0 {
      print(
        "\(Terminal.grouped(sum.dead)) rows did not fit and are kept: "
          + "riffle dead-letters list --table-name \(tableName)")
    }
  }

  private func insertPieces(
    _ connection: Connection, _ format: RowFormat, _ handle: FileHandle, _ sum: inout Sum
  ) async throws {
    let contentType =
      switch format {
      case .csv: "text/csv"
      case .tsv: "text/tab-separated-values"
      case .json, .jsonl: "application/x-ndjson"
      }
    var pieces = RecordPieces(format)
    var isLast = false
    while !isLast {
      let data = try handle.read(upToCount: 1 << 20) ?? Data()
      isLast = data.isEmpty
      pieces.append(data)
      while let piece = try pieces.next(isLast: isLast) {
        sum.add(
          try await connection.call(
            "POST", "/v2/tables/\(escaped(tableName))/insert", body: piece,
            contentType: contentType))
      }
    }
  }

  private func insertList(
    _ connection: Connection, _ handle: FileHandle, _ sum: inout Sum
  ) async throws {
    let bytes = Array(try handle.readToEnd() ?? Data())
    var rows = try RowFile(.json, bytes, origin: file)
    while true {
      let batch = try rows.next(batchSize)
      if batch.isEmpty { break }
      sum.add(
        try await connection.call(
          "POST", "/v2/tables/\(escaped(tableName))/insert", json: ["data": .array(batch)]))
    }
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
