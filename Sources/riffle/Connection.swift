import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI
import Logging

/// Where a command finds its data.
struct ConnectionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The server to talk to.", valueName: "address"))
  var url = "http://127.0.0.1:8080"

  @Option(
    help: ArgumentHelp(
      "Open this data directory instead of talking to a server.", valueName: "directory"))
  var dataDir: String?

  @Option(help: "The server's API key; RIFFLE_API_KEY where it is not given.")
  var apiKey: String?

  @Flag(help: "Print JSON for programs, also for errors.")
  var json = false

  func open(trains: Bool = false) throws -> Connection {
    let key = apiKey ?? ProcessInfo.processInfo.environment["RIFFLE_API_KEY"]
    guard let dataDir else { return .server(try HTTPClient(url: url, apiKey: key)) }
    guard FileManager.default.fileExists(atPath: dataDir) else {
      throw CommandFailure(
        .notFound,
        "error: There is no data directory `\(dataDir)`.\n  help: `riffle serve "
          + "--data-dir \(dataDir)` makes one.")
    }
    var options = RiffleDatabase.Options()
    options.trains = trains
    let logger = Log.quiet
    return .directory(
      API(
        database: try RiffleDatabase(opening: dataDir, options: options, logger: logger),
        logger: logger))
  }
}

/// A server, or a data directory that this process has opened; both take the same requests.
enum Connection {
  case server(HTTPClient)
  case directory(API)

  func close() {
    if case .directory(let api) = self { api.database.close() }
  }

  var isLocal: Bool { if case .directory = self { true } else { false } }

  /// Sends a request and gives the answer's JSON.
  ///
  /// - Throws: `CommandFailure` with the server's own words where the answer is no success.
  func call(
    _ method: String, _ path: String, body: [UInt8] = [],
    contentType: String = "application/json"
  ) async throws -> JSON {
    let status: Int
    let bytes: [UInt8]
    switch self {
    case .server(let client):
      do throws(HTTPConnection.Failure) {
        let reply = try await client.send(method, path, body: body, contentType: contentType)
        (status, bytes) = (reply.status, reply.body)
      } catch {
        throw CommandFailure(
          error.isRefused ? .notFound : .failed,
          "error: \(error.message)\n  help: Start one with `riffle serve`, or name a data directory "
            + "with --data-dir.")
      }
    case .directory(let api):
      let reply = await api.answer(
        APIRequest(method, path, contentType: contentType, body: body))
      (status, bytes) = (reply.status, reply.body)
    }
    let json = (try? JSON(parsing: bytes)) ?? .null
    guard status >= 400 || json == .null else { return json }
    throw Self.failure(status, json)
  }

  func call(_ method: String, _ path: String, json: JSON) async throws -> JSON {
    try await call(method, path, body: json.utf8)
  }

  private static func failure(_ status: Int, _ json: JSON) -> CommandFailure {
    let exit: ExitStatus =
      switch status {
      case 404: .notFound
      case 400, 401, 405, 409, 413, 422: .badInput
      default: .failed
      }
    let texts = (json["diagnostics"]?.array ?? []).compactMap { $0["text"]?.string }
    let message =
      json["message"]?.string ?? json["detail"]?.string ?? "The server answered \(status)."
    var failure = CommandFailure(
      exit, texts.isEmpty ? "error: \(message)" : texts.joined(separator: "\n"))
    if json != .null { failure.json = json }
    return failure
  }
}

/// The process's loggers: everything goes to standard error.
enum Log {
  static func make(level: Logger.Level) -> Logger {
    var logger = Logger(label: "riffle") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = level
    return logger
  }

  static var quiet: Logger { make(level: .error) }
}

/// Reads a file, or standard input where it is `-`.
func readInput(_ path: String) throws -> [UInt8] {
  if path == "-" { return Array(FileHandle.standardInput.readDataToEndOfFile()) }
  guard let data = FileManager.default.contents(atPath: path) else {
    throw CommandFailure(.notFound, "error: The file `\(path)` cannot be read.")
  }
  return Array(data)
}
