import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI
import Logging
import Storage

/// What every command that serves takes.
struct ServerArguments: ParsableArguments {
  @Option(help: ArgumentHelp("Where tables, log and models are kept.", valueName: "directory"))
  var dataDir: String?

  @Option(help: "The address to listen on. 0.0.0.0 is reachable from other machines.")
  var host = "127.0.0.1"

  @Option(help: "The port to listen on; 0 takes any free one.")
  var port = 8080

  @Option(help: "Ask every request for this key in `x-api-key`; RIFFLE_API_KEY where not given.")
  var apiKey: String?

  @Option(help: "A larger request body is refused, in megabytes.")
  var maxBodyMegabytes = 64

  @Option(help: "Threads that training uses (default: all cores).")
  var trainingThreads: Int?

  // The page of `riffle selftest`, whose faults this process's disk then has.
  @Option(help: .hidden)
  var drill: String?

  func validate() throws {
    guard (0...65_535).contains(port) else {
      throw ValidationError("--port is \(port); ports run from 0 to 65535.")
    }
    guard maxBodyMegabytes > 0 else {
      throw ValidationError("--max-body-megabytes is \(maxBodyMegabytes); it must be above 0.")
    }
    if let trainingThreads, !(1...256).contains(trainingThreads) {
      throw ValidationError("--training-threads is \(trainingThreads); give 1 to 256.")
    }
  }

  var options: ServerOptions {
    var options = ServerOptions()
    options.host = host
    options.port = port
    options.apiKey = apiKey ?? ProcessInfo.processInfo.environment["RIFFLE_API_KEY"]
    options.maximumBodyBytes = maxBodyMegabytes << 20
    return options
  }

  func openDatabase(default path: String, logger: Logger) throws -> RiffleDatabase {
    var options = RiffleDatabase.Options()
    options.trainingThreads = trainingThreads
    options.readerFactories = ReaderFactories.all
    if let drill {
      try DiskFaults.install(drill)
      options.upkeep = .incessant
      ParentWatch.start()
    }
    let path = dataDir ?? path
    if path.contains("/") {
      // The directory itself is made by the database; its parents are made here.
      let parent = (path as NSString).deletingLastPathComponent
      try? FileManager.default.createDirectory(
        atPath: parent.isEmpty ? "/" : parent, withIntermediateDirectories: true)
    }
    return try RiffleDatabase(opening: path, options: options, logger: logger)
  }
}

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve a data directory over HTTP until SIGTERM or SIGINT.",
    discussion: """
      The directory is made where it does not exist. Engines that were published serve at once after a \
      restart; nothing is trained again. On SIGTERM or SIGINT running requests are answered, then the \
      log is closed.
      """)

  @OptionGroup var server: ServerArguments

  @Option(help: "How much is logged: trace, debug, info, notice, warning, error.")
  var logLevel = "info"

  func run() async throws {
    guard let level = Logger.Level(rawValue: logLevel) else {
      throw ValidationError("--log-level is `\(logLevel)`.")
    }
    let logger = Log.make(level: level)
    RiffleServer.useAllowedCores()
    let database = try server.openDatabase(default: "riffle-data", logger: logger)
    defer { database.close() }
    let host = server.host
    await database.startSources()
    try await RiffleServer(database: database, options: server.options, logger: logger) { port in
      logger.info(
        "Listening",
        metadata: ["address": "http://\(host):\(port)", "directory": "\(database.path)"])
    }.runUntilSignalled()
    await database.stopSources()
    logger.info("Stopped")
  }
}
