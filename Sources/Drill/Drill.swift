import Domain
import Engine
import Foundation
import HTTPAPI
import Logging
import Storage

/// How a drill is to go.
package struct DrillOptions: Sendable {
  package var kills: Int
  package var seed: UInt64
  package var clients: Int
  /// A directory that is not there yet, or empty.
  package var directory: String
  /// The program whose `serve` is killed.
  package var binary: String
  /// nil: nothing comes by Kafka.
  package var broker: DrillBroker?
  /// All rows are read, and all histories compared, after so many kills.
  package var killsBetweenSweeps = 100
  /// Called after each kill with the data directory, for a test that breaks something.
  package var afterKill: @Sendable (_ kills: Int, _ dataDirectory: String) throws -> Void = {
    _, _ in
  }

  package init(kills: Int, seed: UInt64, clients: Int, directory: String, binary: String) {
    self.kills = kills
    self.seed = seed
    self.clients = clients
    self.directory = directory
    self.binary = binary
  }
}

/// What came of a drill.
package struct DrillReport: Sendable {
  package var kills = 0
  package var killsByMoment: [String: Int] = [:]
  package var acknowledged: [Road: Int] = [:]
  package var stored: [Road: Int] = [:]
  package var acknowledgements = 0
  /// From the start of the process to its first answer.
  package var restartSeconds: [Double] = []
  package var refusedWrites = 0
  package var failedSyncs = 0
  package var checkpointWrites = 0
  package var stateWrites = 0
  package var roundsWithFullDisk = 0
  package var roundsWithFailingSyncs = 0
  /// Starts that a fault of the disk prevented.
  package var preventedStarts = 0
  package var sweeps = 0
  package var seconds = 0.0
  package var faults: [DrillFault] = []

  package init() {}

  package var medianRestart: Double {
    restartSeconds.isEmpty ? 0 : restartSeconds.sorted()[restartSeconds.count / 2]
  }
  package var longestRestart: Double { restartSeconds.max() ?? 0 }
}

/// Kills a server many times, and checks after each restart and at the end.
package struct Drill: Sendable {
  let options: DrillOptions
  private let faults: DiskFaults
  let books = Books()
  private let log: FileHandle
  let dataDirectory: String
  private let pagePath: String
  private let linesFolder: String
  var report = DrillReport()
  private var clients: [DrillClient]
  private var prober: DrillClient
  private var files: FileFeed
  private var broker: BrokerFeed?
  /// How far the rows of each table were read.
  var readThrough: [DrillTable: LogPosition] = [:]
  private let clock = ContinuousClock()

  /// A server that neither answers nor ends within this time stands still.
  private static let patience = Duration.seconds(300)
  /// How many requests each client begins in one round: so rows stay bounded however slow the kills.
  private static let requestsPerRound = 25

  package init(_ options: DrillOptions) throws {
    self.options = options
    dataDirectory = options.directory + "/data"
    linesFolder = options.directory + "/lines"
    pagePath = options.directory + "/disk-faults"
    try FileManager.default.createDirectory(
      atPath: linesFolder, withIntermediateDirectories: true)
    let logPath = options.directory + "/server.log"
    _ = FileManager.default.createFile(atPath: logPath, contents: nil)
    log = try FileHandle(forWritingTo: URL(fileURLWithPath: logPath))
    faults = try DiskFaults(pagePath, creates: true)
    clients = (0..<options.clients).map { DrillClient($0, seed: options.seed) }
    prober = DrillClient(options.clients, seed: options.seed)
    files = FileFeed(linesFolder, seed: options.seed)
    broker = options.broker.map { BrokerFeed($0, seed: options.seed) }
  }

  /// Runs to the end, or to the first promise that is broken.
  ///
  /// - Parameter progress: is told after each kill how things stand.
  package mutating func run(
    _ progress: (DrillReport) -> Void
  ) async throws -> DrillReport {
    let start = clock.now
    do {
      try await runToTheEnd(since: start, progress)
    } catch let fault as DrillFault {
      books.note([fault])
    }
    report.seconds = (clock.now - start).seconds
    return note()
  }

  private mutating func runToTheEnd(
    since start: ContinuousClock.Instant, _ progress: (DrillReport) -> Void
  ) async throws {
    try await setUp()
    var round = 0
    while report.kills < options.kills, books.faults.isEmpty {
      let plan = RoundPlan(
        seed: options.seed, round: round, consumes: options.broker != nil)
      round += 1
      try await self.round(round, plan)
      try options.afterKill(report.kills, dataDirectory)
      report.seconds = (clock.now - start).seconds
      if report.kills % options.killsBetweenSweeps == 0, report.kills < options.kills,
        books.faults.isEmpty
      {
        try await sweep()
      }
      progress(note())
    }
    if books.faults.isEmpty { try await finish(round + 1) }
  }

  private mutating func note() -> DrillReport {
    (report.acknowledged, report.stored, report.acknowledgements) = books.with {
      ($0.acknowledgedRows, $0.storedRows, $0.acknowledgements)
    }
    report.refusedWrites = faults.count(.refusedWrites)
    report.failedSyncs = faults.count(.failedSyncs)
    report.checkpointWrites = faults.count(.checkpointWrites)
    report.stateWrites = faults.count(.stateWrites)
    report.faults = books.faults
    return report
  }

  // MARK: Servers

  private func launch() throws -> DrillServer {
    try DrillServer(
      binary: options.binary, directory: dataDirectory, page: pagePath, log: log)
  }

  /// Starts the server and waits until it answers. Where a fault of the disk keeps it from that, it is
  /// started again without.
  private mutating func start() async throws -> DrillServer {
    let began = clock.now
    let server = try launch()
    do {
      try await server.untilListening()
    } catch let problem as DrillServer.NotStarted {
      guard !faults.kinds.isEmpty, case .status = problem.end else {
        throw fault("the server does not start (\(problem.end)): \(problem.words)")
      }
      report.preventedStarts += 1
      faults.kinds = []
      return try await start()
    }
    let ready = try? await server.client().send("GET", "/readyz")
    guard ready?.status == 200 else {
      throw fault("the started server answers /readyz by \(ready?.status ?? 0): \(server.words)")
    }
    report.restartSeconds.append((clock.now - began).seconds)
    return server
  }

  func fault(_ message: String) -> DrillFault {
    DrillFault(kill: books.with { $0.kills }, message)
  }

  /// Kills the server and waits for its end.
  private mutating func kill(_ server: DrillServer, _ moment: RoundPlan.Moment) async {
    let isStopping = if case .stopping = moment { true } else { false }
    server.signal(SIGKILL)
    let end = await server.ended()
    // Told to stop it may have been quicker than the signal.
    if end != .signal(SIGKILL), !isStopping || end != .status(0) {
      books.note([fault("the server ended by itself with \(end): \(server.words)")])
    }
    counts(moment)
  }

  private mutating func counts(_ moment: RoundPlan.Moment) {
    report.kills += 1
    report.killsByMoment[moment.name, default: 0] += 1
    books.with { $0.killed() }
  }

  private mutating func setUp() async throws {
    let server = try await start()
    let http = try server.client()
    for table in DrillTable.allCases {
      try await send(http, "/v2/tables", table.definition)
    }
    try await send(
      http, "/v2/engines", ["name": "drill", "data": ["interaction_table": "events"]])
    try await send(
      http, "/v2/sources",
      [
        "name": "lines", "type": "file", "path": .string(linesFolder), "table": "lines",
        "poll_seconds": 0.05, "mapping": ["stream": "stream", "n": "n", "check": "check"],
      ])
    if let broker = options.broker {
      // As short as goes: the brokers let the first member of a group wait three seconds, and a session
      // that is over by then is forgotten with its request.
      try await send(
        http, "/v2/sources",
        [
          "name": "messages", "type": "kafka", "table": "messages",
          "topic": .string(broker.topic), "bootstrap_server": .string(broker.servers),
          "session_timeout_ms": 4000, "batch_size": 20,
          "properties": ["heartbeat.interval.ms": 200, "reconnect.backoff.max.ms": 200],
          "mapping": ["stream": "stream", "n": "n", "check": "check"],
        ])
    }
    server.signal(SIGTERM)
    await server.ended()
  }

  private func send(_ http: HTTPClient, _ path: String, _ json: JSON) async throws {
    let (status, answer) = try await http.send("POST", path, json: json)
    guard status == 200 else {
      throw fault("POST \(path) is answered by \(status): \(answer?.text ?? "")")
    }
  }

  // MARK: One round

  private mutating func round(_ number: Int, _ plan: RoundPlan) async throws {
    if let fault = plan.fault {
      if fault.kinds.contains(.fullDisk) { report.roundsWithFullDisk += 1 }
      if fault.kinds.contains(.failingSyncs) { report.roundsWithFailingSyncs += 1 }
      if fault.isThereAtStart { faults.kinds = fault.kinds }
    }
    defer { faults.kinds = [] }
    if case .starting(let milliseconds) = plan.moment {
      let server = try launch()
      try await Task.sleep(for: .milliseconds(milliseconds))
      server.signal(SIGKILL)
      switch await server.ended() {
      case .signal(SIGKILL): break
      // A disk that is full may keep it from starting.
      case .status where !faults.kinds.isEmpty: report.preventedStarts += 1
      case let end:
        books.note([fault("the server ended at its start with \(end): \(server.words)")])
      }
      counts(plan.moment)
      return
    }
    let server = try await start()
    let round = Round(number, faults, books)
    let watchdog = Task { [books, kills = report.kills] in
      try await Task.sleep(for: Self.patience)
      books.note([
        DrillFault(kill: kills, "the server stands still: no end within \(Self.patience)")
      ])
      round.end()
      server.signal(SIGKILL)
    }
    defer { watchdog.cancel() }
    do {
      try await check(server, seed: UInt64(number))
    } catch {
      watchdog.cancel()
      await kill(server, plan.moment)
      if let fault = error as? DrillFault {
        books.note([fault])
      } else {
        books.note([fault("the check cannot be made: \(error)")])
      }
      return
    }
    let stands = (clients, files, broker)
    async let working = work(server, round, stands.0)
    async let writing = write(round, stands.1)
    async let producing = produce(round, stands.2)
    if let fault = plan.fault { await disturb(server, round, fault) }
    await wait(for: plan.moment, server, round)
    round.end()
    await kill(server, plan.moment)
    clients = await working
    files = await writing
    broker = await producing
  }

  private func work(
    _ server: DrillServer, _ round: Round, _ clients: [DrillClient]
  ) async -> [DrillClient] {
    await withTaskGroup(of: (Int, DrillClient).self) { group in
      for (number, client) in clients.enumerated() {
        group.addTask {
          var client = client
          await client.work(server, round, budget: Self.requestsPerRound)
          return (number, client)
        }
      }
      return await group.reduce(into: clients) { $0[$1.0] = $1.1 }
    }
  }

  private func write(_ round: Round, _ files: FileFeed) async -> FileFeed {
    var files = files
    await files.work(round)
    return files
  }

  private func produce(_ round: Round, _ broker: BrokerFeed?) async -> BrokerFeed? {
    var broker = broker
    await broker?.work(round)
    return broker
  }

  /// Makes the disk full, or its syncs fail, for a while or until the kill. Meanwhile the server must
  /// answer queries, and afterwards take rows again.
  private mutating func disturb(
    _ server: DrillServer, _ round: Round, _ fault: RoundPlan.Fault
  ) async {
    if !fault.isThereAtStart {
      await round.pause(milliseconds: fault.afterMilliseconds)
      faults.kinds = fault.kinds
    }
    guard let milliseconds = fault.milliseconds else { return }
    await round.pause(milliseconds: milliseconds)
    if let reply = try? await server.client().send(
      "POST", "/v2/engines/drill/query",
      json: ["query": "SELECT item_id FROM items LIMIT 3"]), reply.status != 200
    {
      books.note(
        nil, nil,
        "a query was answered by \(reply.status) under a fault of the disk: "
          + "\(reply.json?.text.prefix(600) ?? "")")
    }
    faults.kinds = []
    guard await prober.probe(server, round, attempts: 2000) else {
      if !round.isOver {
        books.note(
          nil, nil, "the server takes no row after the fault of the disk is over: \(server.words)")
      }
      return
    }
  }

  private func wait(
    for moment: RoundPlan.Moment, _ server: DrillServer, _ round: Round
  ) async {
    switch moment {
    case .starting: break
    case .serving(let milliseconds): await round.pause(milliseconds: milliseconds)
    case .checkpoint(let microseconds):
      await watch(.checkpointWrites, microseconds, round)
    case .storingState(let microseconds):
      await watch(.stateWrites, microseconds, round)
    case .stopping(let milliseconds):
      await round.pause(milliseconds: 30)
      server.signal(SIGTERM)
      await round.pause(milliseconds: milliseconds)
    case .consuming(let milliseconds):
      // A group takes a member in after some seconds.
      let before = books.with { $0.foundRecords(of: .messages) }
      for _ in 0..<160 where !round.isOver {
        let count = try? LogWitness(dataDirectory).rowCount(of: DrillTable.messages.rawValue)
        if (count ?? 0) > before { break }
        await round.pause(milliseconds: 50)
      }
      await round.pause(milliseconds: milliseconds)
    }
  }

  /// Waits until the server does something of which there was none at first, and a little longer.
  private func watch(
    _ what: DiskFaults.Count, _ microseconds: Int, _ round: Round
  ) async {
    let before = faults.count(what)
    let faults = faults
    _ = try? await outsideThePool {
      // A few hundred microseconds matter here, and a task's sleep is not so exact.
      for _ in 0..<4000 where faults.count(what) == before && !round.isOver { usleep(100) }
      usleep(UInt32(microseconds))
    }
  }

  /// Lets everything that was sent arrive, stops the server as a person would, and looks at all of it.
  private mutating func finish(_ number: Int) async throws {
    let server = try await start()
    try await check(server, seed: UInt64(number))
    try files.finish()
    let round = Round(number, faults, books)
    clients = await work(server, round, clients)
    let prober = prober
    if prober.isWaiting { self.prober = await work(server, round, [prober])[0] }
    let end = clock.now + Self.patience
    while books.faults.isEmpty {
      try read(dataDirectory, anew: false)
      let missing = books.with { $0.missingRecords }
      if missing == 0 { break }
      guard clock.now < end else {
        books.note([
          fault(
            "\(missing) records of files or Kafka have not come within \(Self.patience): "
              + server.words)
        ])
        break
      }
      await round.pause(milliseconds: 50)
    }
    if books.faults.isEmpty { try await check(server, seed: UInt64(number)) }
    server.signal(SIGTERM)
    let watchdog = Task {
      try await Task.sleep(for: Self.patience)
      server.signal(SIGKILL)
    }
    let ending = await server.ended()
    watchdog.cancel()
    if ending != .status(0) {
      books.note([fault("told to stop, the server ended with \(ending): \(server.words)")])
    }

    if books.faults.isEmpty { try await sweep() }
  }
}

extension Duration {
  var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) / 1e18
  }
}
