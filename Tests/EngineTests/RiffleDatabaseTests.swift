import Domain
import Engine
import Foundation
import Logging
import QueryEngine
import State
import Testing

private let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

private func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = NSTemporaryDirectory() + "riffle-engine-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

private func open(_ path: String, trains: Bool = true) throws -> RiffleDatabase {
  var options = RiffleDatabase.Options()
  options.trainingThreads = 1
  options.trains = trains
  return try RiffleDatabase(opening: path, options: options, logger: silentLogger)
}

private let eventTable: JSON = [
  "name": "events",
  "column_schema": ["user_id": "String", "item_id": "String", "created_at": "DateTime"],
]

private func events(user: String, count: Int) -> JSON {
  [
    "data": .array(
      (0..<count).map { step in
        [
          "user_id": .string(user), "item_id": .string("i\(step % 12)"),
          "created_at": .int(1_700_000_000_000 + Int64(step)),
        ]
      })
  ]
}

private let model = """
  training: {models: [{policy_type: sasrec, hidden_size: 8, n_layers: 1, n_epochs: 2}]}
  """

private func untilTrained(_ engine: ServedEngine) async {
  while !engine.status.state.isTerminal { await Task.yield() }
}

@Suite struct `Riffle database` {
  @Test func `an engine that is created while rows come in holds each of them once`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      _ = try await database.createTable(eventTable)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for writer in 0..<4 {
          group.addTask {
            for _ in 0..<40 {
              _ = try await database.insert(events(user: "u\(writer)", count: 15), into: "events")
            }
          }
        }
        group.addTask {
          for number in 0..<8 {
            _ = try await database.createEngine(
              parsing: "name: e\(number)\ndata: {interaction_table: events}")
          }
        }
        try await group.waitForAll()
      }
      #expect(database.engines.count == 8)
      for engine in database.engines {
        #expect(engine.snapshot.interactionCount == 4 * 40 * 15, "\(engine.name)")
        #expect(engine.asOf == database.through)
      }
    }
  }

  @Test func `a model file that is damaged is reported and made again`() async throws {
    try await withDirectory { path in
      let text = "name: e\ndata: {interaction_table: events}\n" + model
      do {
        let database = try open(path)
        defer { database.close() }
        _ = try await database.createTable(eventTable)
        for user in 0..<10 {
          _ = try await database.insert(events(user: "u\(user)", count: 12), into: "events")
        }
        await untilTrained(try await database.createEngine(parsing: text))
        #expect(try database.engine(named: "e").status.state == .active)
      }
      let files = try FileManager.default.contentsOfDirectory(atPath: path + "/artifacts")
      let weights = try #require(files.first { $0.hasSuffix(".safetensors") })
      try Data("nothing".utf8).write(to: URL(fileURLWithPath: path + "/artifacts/" + weights))

      do {
        let database = try open(path, trains: false)
        defer { database.close() }
        let engine = try database.engine(named: "e")
        #expect(engine.status.state == .error)
        #expect(engine.status.error?.contains("\(weights)` is damaged") == true)
        #expect(engine.generation == nil)
      }
      let database = try open(path)
      defer { database.close() }
      let engine = try database.engine(named: "e")
      await untilTrained(engine)
      #expect(engine.status.state == .active)
      #expect(engine.generation != nil)
      database.close()
      let again = try open(path, trains: false)
      defer { again.close() }
      #expect(try again.engine(named: "e").status.state == .active, "the file is whole again")
    }
  }

  @Test func `an engine with nothing to learn from says so and keeps answering`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      _ = try await database.createTable(eventTable)
      _ = try await database.insert(events(user: "u", count: 1), into: "events")
      let engine = try await database.createEngine(
        parsing: "name: e\ndata: {interaction_table: events}\n" + model)
      await untilTrained(engine)
      #expect(engine.status.state == .error)
      #expect(engine.status.error?.contains("has nothing to learn from") == true)
      let answer = try engine.answer(
        QueryCall(text: "SELECT * FROM column_order(columns='_derived_popular_rank ASC') LIMIT 5"))
      #expect(answer.result.ids == [ItemID("i0")])
    }
  }

  @Test func `equal data, settings and threads give the same model`() async throws {
    var answers: [[String]] = []
    var scores: [[Double?]] = []
    for _ in 0..<2 {
      try await withDirectory { path in
        let database = try open(path)
        defer { database.close() }
        _ = try await database.createTable(eventTable)
        for user in 0..<10 {
          _ = try await database.insert(events(user: "u\(user)", count: 5 + user), into: "events")
        }
        let engine = try await database.createEngine(
          parsing: "name: e\ndata: {interaction_table: events}\n" + model)
        await untilTrained(engine)
        let answer = try engine.answer(
          QueryCall(
            text: "SELECT * FROM similarity(embedding_ref='sasrec', encoder='precomputed_user', "
              + "input_user_id='u3') LIMIT 12"))
        answers.append(answer.result.ids.map(\.rawValue))
        scores.append(answer.result.scores)
      }
    }
    #expect(answers[0].count == 12)
    #expect(answers[0] == answers[1])
    #expect(scores[0] == scores[1])
  }

  @Test func `a published model trains to the same bits again, until its events change`()
    async throws
  {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      _ = try await database.createTable(eventTable)
      for user in 0..<10 {
        _ = try await database.insert(events(user: "u\(user)", count: 5 + user), into: "events")
      }
      let engine = try await database.createEngine(
        parsing: "name: e\ndata: {interaction_table: events}\n" + model)
      await untilTrained(engine)
      // Events after the training are not part of it.
      _ = try await database.insert(events(user: "late", count: 9), into: "events")
      let results = try database.verifyTraining(of: engine) { _ in true }
      #expect(results.map(\.isSame) == [true])
      #expect(results.map(\.difference) == [nil])

      database.retrain(engine)
      while engine.generation?.number != 2 { await Task.yield() }
      #expect(try database.verifyTraining(of: engine) { _ in true }.map(\.isSame) == [true])
    }
  }

  @Test func `engines that are made while rows are replaced fold every commit once`() async throws {
    try await withDirectory { path in
      let database = try open(path, trains: false)
      defer { database.close() }
      _ = try await database.createTable([
        "name": "events", "schema_type": "CUSTOM", "unique_keys": ["event_id"],
        "column_schema": [
          "event_id": "String", "user_id": "String", "item_id": "String", "label": "Int32",
          "created_at": "DateTime",
        ],
      ])
      // Every commit replaces the rows of the one before it, so a commit that is folded twice traps.
      func insert(_ round: Int) async throws {
        let rows = (0..<40).map { i -> JSON in
          [
            "event_id": .string("e\(i)"), "user_id": .string("u\((i + round) % 7)"),
            "item_id": .string("i\((i * round) % 11)"), "label": 1,
            "created_at": "2026-01-05T10:00:00Z",
          ]
        }
        _ = try await database.insert(["data": .array(rows)], into: "events")
      }
      try await withThrowingTaskGroup { group in
        group.addTask { for round in 0..<150 { try await insert(round) } }
        for worker in 0..<3 {
          group.addTask {
            for i in 0..<15 {
              let name = "e\(worker)_\(i)"
              let engine = try await database.createEngine(
                parsing: "name: \(name)\ndata: {interaction_table: events}\n" + model)
              #expect(engine.snapshot.interactionCount <= 40)
              if i % 2 == 0 { try await database.deleteEngine(named: name) }
            }
          }
        }
        try await group.waitForAll()
      }
      for engine in database.engines { #expect(engine.snapshot.interactionCount == 40) }
    }
  }

  @Test func `engines of equal data share artifacts, and each keeps its own when one goes`()
    async throws
  {
    try await withDirectory { path in
      do {
        let database = try open(path)
        defer { database.close() }
        _ = try await database.createTable(eventTable)
        for user in 0..<10 {
          _ = try await database.insert(events(user: "u\(user)", count: 5 + user), into: "events")
        }
        for name in ["one", "two", "three"] {
          let engine = try await database.createEngine(
            parsing: "name: \(name)\ndata: {interaction_table: events}\n" + model)
          await untilTrained(engine)
        }
        _ = try await database.insert(events(user: "late", count: 9), into: "events")
        let one = try database.engine(named: "one")
        database.retrain(one)
        while one.generation?.number != 2 { await Task.yield() }
        try await database.deleteEngine(named: "three")
        await #expect(throws: Diagnostic.self) { try await database.deleteTable(named: "events") }
      }
      let database = try open(path, trains: false)
      defer { database.close() }
      #expect(database.engines.map(\.name) == ["one", "two"])
      #expect(database.engines.map { $0.generation?.number } == [2, 1])
      try await database.deleteEngine(named: "one")
      try await database.deleteEngine(named: "two")
      try await database.deleteTable(named: "events")
      #expect(database.tables.isEmpty)
    }
  }

  @Test func `names problems of settings, tables and queries at once`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      _ = try await database.createTable(eventTable)
      await #expect {
        _ = try await database.createEngine(
          parsing: """
            name: e
            data: {interaction_table: event, itemtable: x}
            training: {models: [{policy_type: sasrec, hidden_size: many}]}
            queries: {feed: {query: SELECT * FROM similiarity(embedding_ref='a') LIMIT 5}}
            """)
      } throws: { error in
        let codes = (error as? Diagnostics)?.all.map(\.code) ?? []
        return codes.contains("unknown_table") && codes.contains("unknown_key")
          && codes.contains { $0 != "unknown_table" && $0 != "unknown_key" && $0 != "wrong_type" }
          && codes.count >= 4
      }
    }
  }
}
