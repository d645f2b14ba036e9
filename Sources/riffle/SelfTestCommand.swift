import ArgumentParser
import Domain
import Drill
import Foundation

#if Kafka
  import KafkaConnector
#endif

struct SelfTest: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "selftest",
    abstract: "Kill a server many times and check that it keeps its promises.",
    discussion: """
      Starts `riffle serve` on a temporary directory and inserts by several clients over HTTP (single \
      rows, batches, streams, with unique keys and with idempotency keys), through files that a source \
      watches, and, where this build reads Kafka, through brokers in this process. It kills the server \
      with SIGKILL: while it starts, serves, checkpoints, stores a state or stops, some times with a full \
      disk or with syncs that fail. After each restart and at the end it checks that every acknowledged \
      row is there exactly once, none that nobody sent, every position where it was, and that the \
      engine's histories are those of the rows.

      The seed decides what is sent and when the server is killed; how far it comes until then is chance. \
      What SIGKILL cannot show is the loss of power: what the system has in memory outlives the process. \
      That rows are synced before they are acknowledged shows where syncs fail.

      Exit code 1 where a promise is broken; the directory then stays.
      """)

  @Option(help: "How many times the server is killed.")
  var kill = 20

  @Option(help: "The seed of all choices; a random one where it is not given.")
  var seed: UInt64?

  @Option(help: "How many clients insert at once over HTTP.")
  var clients = 4

  @Option(
    help: ArgumentHelp(
      "An empty directory to work in; a temporary one where it is not given.",
      valueName: "directory"))
  var dir: String?

  @Flag(help: "Keep the directory also where all is well.")
  var keep = false

  @Flag(help: "Leave Kafka out.")
  var noKafka = false

  func validate() throws {
    guard (1...1_000_000).contains(kill) else {
      throw ValidationError("--kill is \(kill); give 1 to 1000000.")
    }
    guard (1...64).contains(clients) else {
      throw ValidationError("--clients is \(clients); give 1 to 64.")
    }
  }

  func run() async throws {
    let seed = seed ?? .random(in: 1...999_999)
    let directory = try makeDirectory()
    var options = DrillOptions(
      kills: kill, seed: seed, clients: clients, directory: directory, binary: Self.ownPath)
    options.broker = noKafka ? nil : try Self.broker()
    print("Riffle \(RiffleVersion.text): \(kill) kills, seed \(seed), \(directory)")
    if options.broker == nil {
      print(
        noKafka
          ? "Kafka is left out."
          : "This build does not read Kafka (package trait Kafka): that road is left out.")
    }
    let line = ProgressLine()
    let total = kill
    var drill = try Drill(options)
    let report: DrillReport
    do {
      report = try await drill.run { report in
        // Without a screen, a line at each twentieth of the way.
        line.show(
          "selftest", fraction: Double(report.kills) / Double(total),
          detail: Self.short(report, total),
          step: "\(report.kills * 20 / total)")
      }
    } catch {
      line.finish()
      Terminal.standardError("error: the drill ended: \(error)\n  kept: \(directory)")
      throw ExitCode(ExitStatus.failed.rawValue)
    }
    line.finish()
    for text in Self.lines(report) { print(text) }
    guard report.faults.isEmpty else {
      for fault in report.faults.prefix(20) { print("FAIL \(fault)") }
      if report.faults.count > 20 { print("and \(report.faults.count - 20) more") }
      print(
        "The directory is kept: \(directory) (again: riffle selftest --kill \(kill) --seed \(seed))"
      )
      throw ExitCode(ExitStatus.failed.rawValue)
    }
    print("ok: every acknowledged row is there exactly once")
    if keep {
      print("kept: \(directory)")
    } else {
      try? FileManager.default.removeItem(atPath: directory)
    }
  }

  private func makeDirectory() throws -> String {
    let path =
      dir ?? NSTemporaryDirectory() + "riffle-selftest-\(UUID().uuidString.prefix(8).lowercased())"
    let manager = FileManager.default
    if let names = try? manager.contentsOfDirectory(atPath: path), !names.isEmpty {
      throw CommandFailure(
        .badInput, "error: `\(path)` is not empty.\n  help: Give an empty --dir.")
    }
    do {
      try manager.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw CommandFailure(
        .badInput, "error: `\(path)` cannot be made.\n  help: Give another --dir.")
    }
    return path.hasPrefix("/") ? path : manager.currentDirectoryPath + "/" + path
  }

  /// This program's own file.
  private static var ownPath: String {
    #if os(Linux)
      if let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
        return path
      }
    #endif
    return Bundle.main.executablePath ?? CommandLine.arguments[0]
  }

  private static func broker() throws -> DrillBroker? {
    #if Kafka
      let broker = try LoopbackBroker(topic: "messages", partitions: 3)
      return DrillBroker(
        servers: broker.servers, topic: broker.topic, partitions: broker.partitions
      ) { partition, messages in try broker.produce(messages, to: partition) }
    #else
      return nil
    #endif
  }

  private static func short(_ report: DrillReport, _ total: Int) -> String {
    "kill \(report.kills) of \(total) · \(Terminal.grouped(report.stored.values.reduce(0, +))) rows · "
      + "restart \(milliseconds(report.medianRestart)) · \(Terminal.duration(report.seconds))"
  }

  private static func milliseconds(_ seconds: Double) -> String {
    "\(Terminal.fixed(seconds * 1000, 0)) ms"
  }

  private static func lines(_ report: DrillReport) -> [String] {
    let moments = report.killsByMoment.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    var lines = [
      "kills       \(report.kills) in \(Terminal.duration(report.seconds)) (\(moments.joined(separator: ", ")))",
      "rows        acknowledged or handed over / stored",
    ]
    for road in Road.allCases {
      guard let count = report.acknowledged[road] else { continue }
      lines.append(
        "  \(Terminal.padded(road.rawValue, 24)) \(Terminal.padded(Terminal.grouped(count), 9, left: true)) / "
          + Terminal.padded(Terminal.grouped(report.stored[road] ?? 0), 9, left: true))
    }
    lines += [
      "faults      full disk in \(report.roundsWithFullDisk) rounds (\(report.refusedWrites) writes refused), "
        + "failing syncs in \(report.roundsWithFailingSyncs) (\(report.failedSyncs) failed), "
        + "\(report.preventedStarts) starts prevented",
      "disturbed   \(report.checkpointWrites) pages of checkpoints, \(report.stateWrites) states stored",
      "restarts    median \(milliseconds(report.medianRestart)), longest \(milliseconds(report.longestRestart))",
      "checks      after each restart; all rows and histories \(report.sweeps) times",
    ]
    return lines
  }
}
