import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI
import Logging
import Worlds

struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a small world, train on it, and serve a feed that learns.",
    discussion: """
      Makes a world of short videos (or reads a MovieLens folder), inserts it over HTTP like any client \
      would, declares the engine `for_you`, trains it, says how good it is, and serves. Then it shows \
      three requests to try: a feed; three swipes on another topic; the feed again, which has turned.

      Started again on the same directory it serves at once.
      """)

  @Option(
    help: ArgumentHelp("A MovieLens folder in place of the simulated world.", valueName: "folder"))
  var movielens: String?

  @Flag(help: "Send the three requests, check every answer, stop. Exit code 1 where one is wrong.")
  var check = false

  @OptionGroup var server: ServerArguments

  func run() async throws {
    let clock = ContinuousClock()
    let started = clock.now
    let logger = Log.make(level: .warning)
    print(Terminal.bold("Riffle \(RiffleVersion.text)"))
    let world = try movielens.map { try DemoWorld.films($0) } ?? DemoWorld.shortVideos()
    print("\(world.title)")
    for fact in world.facts { print("  \(fact)") }
    let database = try server.openDatabase(
      default: movielens == nil ? "riffle-data/demo" : "riffle-data/films", logger: logger)
    defer { database.close() }
    let (ports, portReady) = AsyncStream.makeStream(of: Int.self)
    // What a server says while it is being stopped is of no use to the demo's reader.
    let http = RiffleServer(
      database: database, options: server.options,
      logger: check ? Log.make(level: .critical) : logger
    ) { port in
      portReady.yield(port)
      portReady.finish()
    }
    let show = DemoShow(
      world: world, database: database, host: server.host, apiKey: server.options.apiKey,
      started: started)
    let isCheck = check
    try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask {
        try await http.runUntilSignalled()
        return false
      }
      group.addTask {
        for await port in ports { try await show.run(port: port, isCheck: isCheck) }
        return true
      }
      // The show ends first and the server goes on until a signal; a check sends the signal itself.
      while let showEnded = try await group.next() {
        if !showEnded {
          group.cancelAll()
          break
        }
        if isCheck { kill(getpid(), SIGTERM) }
      }
    }
  }
}

/// The demo's course, as a client of its own server.
struct DemoShow: @unchecked Sendable {
  // Unchecked: the world's batches are only read, by one task.
  let world: DemoWorld
  let database: RiffleDatabase
  let host: String
  let apiKey: String?
  let started: ContinuousClock.Instant

  func run(port: Int, isCheck: Bool) async throws {
    let address = "http://\(host == "0.0.0.0" ? "127.0.0.1" : host):\(port)"
    let client = Connection.server(try HTTPClient(url: address, apiKey: apiKey))
    if database.engines.contains(where: { $0.name == "for_you" }) {
      print("  The directory `\(database.path)` holds the demo already: nothing is loaded again.")
    } else {
      try await load(client)
      try await declare(client)
    }
    let engine = try await train()
    try showEvaluation(engine)
    let feed = try await client.call("POST", feedPath, json: feedBody)
    let seconds = Double(started.duration(to: .now).components.seconds)
    print(
      "\n\(Terminal.bold("The feed of \(world.user)"))  (first answer \(Int(seconds)) s after the start)"
    )
    AnswerPrinter.print(feed)
    if isCheck {
      try await verify(feed, client)
    } else {
      explain(address)
    }
  }

  // MARK: steps

  private func load(_ client: Connection) async throws {
    let progress = ProgressLine()
    for table in world.tables {
      // A demo that was stopped while it loaded goes on: the rows have unique keys, so those that are
      // there already are replaced by themselves.
      if !database.tables.contains(where: { $0.schema == table.schema }) {
        _ = try await client.call("POST", "/v2/tables", json: table.schema.definition)
      }
      var inserted = 0
      let began = ContinuousClock.now
      for batch in table.batches {
        _ = try await client.call(
          "POST", "/v2/tables/\(table.schema.name)/insert", json: ["data": .array(batch)])
        inserted += batch.count
        progress.show(
          "inserting", fraction: Double(inserted) / Double(max(1, table.rowCount)),
          detail: "\(table.schema.name): \(Terminal.grouped(inserted)) rows",
          step: "\(table.schema.name) \(inserted * 4 / max(1, table.rowCount))")
      }
      progress.finish()
      let seconds = began.duration(to: .now) / .seconds(1)
      print(
        "  `\(table.schema.name)`: \(Terminal.grouped(inserted)) rows inserted over HTTP in "
          + "\(Terminal.fixed(seconds, 1)) s, each batch synced to the disk")
    }
  }

  private func declare(_ client: Connection) async throws {
    let file = database.path + "/for_you.yaml"
    try Data(world.engineYAML.utf8).write(to: URL(fileURLWithPath: file))
    _ = try await client.call(
      "POST", "/v2/engines", body: Array(world.engineYAML.utf8), contentType: "application/yaml")
    print("  engine `for_you` declared (\(file))")
  }

  private func train() async throws -> ServedEngine {
    let engine = try database.engine(named: "for_you")
    let progress = TrainingProgressLine()
    while true {
      let status = engine.status
      if status.state.isTerminal { break }
      if let state = status.progress { progress.show(state) }
      try await Task.sleep(for: .milliseconds(100))
    }
    progress.finish()
    if engine.generation == nil {
      throw CommandFailure(.failed, engine.status.error ?? "error: The training failed.")
    }
    for line in engine.status.log where line.component == "sasrec" { print("  \(line.message)") }
    return engine
  }

  private func showEvaluation(_ engine: ServedEngine) throws {
    var table: EvaluationTable?
    if let oracle = world.oracle {
      table = try engine.judge(
        "sasrec", others: [(name: "best possible (the simulator's own)", scores: oracle)])
    }
    if let table = table
      ?? engine.generation?.models.first.flatMap({ EvaluationTable($0.evaluation) })
    {
      EvaluationPrinter.print(table)
    }
  }

  private var feedPath: String { "/v2/engines/for_you/queries/feed" }

  private var feedBody: JSON { ["parameters": ["user_id": .string(world.user)]] }

  private var checkedBody: JSON {
    ["parameters": ["user_id": .string(world.user), "n": .int(Int64(world.checkedCount))]]
  }

  private func explain(_ address: String) {
    let key = apiKey == nil ? "" : " -H \"x-api-key: $RIFFLE_API_KEY\""
    let feed =
      "curl -s \(address)\(feedPath)\(key) -d '\(feedBody.text)'"
    let rows = JSON.object([.init("data", .array(world.swipes))]).text
    print(
      """

      \(Terminal.bold("Serving at \(address)"))  (Ctrl-C stops; `riffle demo` serves again at once)

      1. Ask for the feed of \(world.user):
         \(feed)

      2. \(world.user) \(world.swipeWords):
         curl -s \(address)/v2/tables/\(world.eventTable)/insert\(key) -d '\(rows)'

      3. Ask again: the feed has turned, and the three are gone:
         \(feed)

      """)
  }

  // MARK: the check

  /// Does what the three commands do and checks each answer.
  private func verify(_ before: JSON, _ client: Connection) async throws {
    var failures: [String] = []
    func expect(_ condition: Bool, _ words: String) {
      print("\(condition ? "ok  " : "FAIL")  \(words)")
      if !condition { failures.append(words) }
    }
    print("")
    let shown = items(before)
    expect(shown.count == 10, "the feed holds 10 items (it holds \(shown.count))")
    expect(Set(shown.map(\.id)).count == shown.count, "no item stands in it twice")
    expect(before["notes"] == nil, "it comes from the model, not from a fallback")
    let swiped = world.swipes.compactMap { $0["item_id"]?.string }
    expect(swiped.count == 3, "there are three items of \(world.topic) to swipe on")
    let first = items(try await client.call("POST", feedPath, json: checkedBody))
    let inserted = try await client.call(
      "POST", "/v2/tables/\(world.eventTable)/insert", json: ["data": .array(world.swipes)])
    let answer = try await client.call("POST", feedPath, json: feedBody)
    let second = items(try await client.call("POST", feedPath, json: checkedBody))
    expect(
      answer["as_of"]?.int ?? 0 >= inserted["as_of"]?.int ?? .max,
      "the next answer is made from a state that holds the swipes")
    expect(answer["generation"] == before["generation"], "nothing was trained in between")
    let onTopic = (first.count { $0.isOnTopic }, second.count { $0.isOnTopic })
    expect(
      onTopic.1 > onTopic.0,
      "the feed turns to \(world.topic): \(onTopic.0) of \(first.count) before, "
        + "\(onTopic.1) of \(second.count) after three swipes")
    expect(
      Set(second.map(\.id)).isDisjoint(with: swiped),
      "the three swiped items are gone from the feed")
    expect(
      second.count == world.checkedCount && items(answer).count == 10,
      "the feed still holds as many items as it is asked for")
    print("\n\(Terminal.bold("The feed after \(world.user) \(world.swipeWords)"))")
    AnswerPrinter.print(answer)
    if !failures.isEmpty {
      throw CommandFailure(.failed, "error: \(failures.count) checks of the demo did not hold.")
    }
    let seconds = started.duration(to: .now) / .seconds(1)
    print("\nAll checks hold (\(Terminal.fixed(seconds, 1)) s from the start).")
  }

  private func items(_ answer: JSON) -> [(id: String, isOnTopic: Bool)] {
    (answer["results"]?.array ?? []).map { result in
      let value = result["metadata"]?[world.topicColumn]
      let topics = value?.array?.compactMap(\.string) ?? [value?.string ?? ""]
      return (result["id"]?.string ?? "", topics.contains(world.topic))
    }
  }
}

extension TableSchema {
  /// The body of `POST /v2/tables`.
  fileprivate var definition: JSON {
    [
      "schema_type": "CUSTOM", "name": .string(name),
      "description": description.map { .string($0) } ?? .null,
      "unique_keys": .array(uniqueKeys.map { .string($0) }),
      "column_schema": .object(columns.map { .init($0.name, .string($0.type.rawValue)) }),
    ]
  }
}
