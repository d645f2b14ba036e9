import Domain
import Engine
import Foundation
import Logging
import QueryEngine
import Synchronization
import Testing

private func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = NSTemporaryDirectory() + "riffle-engine-index-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

/// What was logged at `warning` and above.
private final class Journal: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }

  var logger: Logger {
    var logger = Logger(label: "test") { _ in Handler(journal: self) }
    logger.logLevel = .warning
    return logger
  }

  private struct Handler: LogHandler {
    let journal: Journal
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.warning
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) {
      let line = "\(event.message) \(event.metadata ?? [:])"
      journal.lines.withLock { $0.append(line) }
    }
  }
}

private func open(
  _ path: String, trains: Bool = true, journal: Journal = Journal()
) throws -> RiffleDatabase {
  var options = RiffleDatabase.Options()
  options.trainingThreads = 1
  options.trains = trains
  return try RiffleDatabase(opening: path, options: options, logger: journal.logger)
}

/// 3,000 items in 60 groups; each user keeps to one group, so the vectors lie in clusters.
private let itemCount = 3000

private func fill(_ database: RiffleDatabase) async throws {
  _ = try await database.createTable([
    "name": "events",
    "column_schema": ["user_id": "String", "item_id": "String", "created_at": "DateTime"],
  ])
  _ = try await database.createTable([
    "name": "items", "unique_keys": ["item_id"],
    "column_schema": ["item_id": "String", "grp": "Int32", "part": "Int32"],
  ])
  _ = try await database.insert(
    [
      "data": .array(
        (0..<itemCount).map { item in
          [
            "item_id": .string("i\(item)"), "grp": .int(Int64(item % 60)),
            "part": .int(Int64(item)),
          ]
        })
    ], into: "items")
  var rows: [JSON] = []
  for user in 0..<60 {
    for step in 0..<50 {
      let item = user % 60 + 60 * step
      rows.append([
        "user_id": .string("u\(user)"), "item_id": .string("i\(item)"),
        "created_at": .int(1_700_000_000_000 + Int64(step)),
      ])
    }
  }
  _ = try await database.insert(["data": .array(rows)], into: "events")
}

private let yaml = """
  name: e
  data: {interaction_table: events, item_table: items}
  index: {vector_search: {partition_from_rows: 2000, recall: 0.6}}
  training:
    models: [{policy_type: sasrec, hidden_size: 8, n_layers: 1, n_epochs: 3, learning_rate: 0.01}]
  """

private let search = """
  SELECT * FROM similarity(embedding_ref='sasrec', encoder='precomputed_user',
                           input_user_id=$user, limit=10
  """

/// How the retrieval of an answer was done, by its explanation.
private func account(_ engine: ServedEngine, _ text: String, user: String = "u7") throws
  -> (ids: [String], method: String, recall: Double)
{
  var call = QueryCall(text: text, parameters: ["user": .string(user)])
  call.explains = true
  let result = try engine.answer(call).result
  let step = try #require(
    result.explanation?.json["retrieve_stage"]?["steps"]?.array?.first)
  return (
    result.ids.map(\.rawValue), step["search"]?.string ?? "", step["recall"]?.number ?? -1
  )
}

private func untilIndexed(_ engine: ServedEngine) async {
  while !engine.status.log.contains(where: { $0.component == "index" }) { await Task.yield() }
}

private func indexLines(_ engine: ServedEngine) -> [String] {
  engine.status.log.filter { $0.component == "index" }.map(\.message)
}

@Suite struct `Index of an engine` {
  @Test func `is made, used where it pays, stored, read again, and made again where damaged`()
    async throws
  {
    try await withDirectory { path in
      do {
        let database = try open(path)
        defer { database.close() }
        try await fill(database)
        let engine = try await database.createEngine(parsing: yaml)
        await untilIndexed(engine)
        #expect(indexLines(engine).first?.contains("lists of 3000 vectors") == true)

        let quick = try account(engine, search + ") LIMIT 10")
        #expect(quick.method.hasPrefix("partitioned, "))
        #expect(quick.recall >= 0.6 && quick.recall <= 1)
        #expect(quick.ids.count == 10)

        // Only an exact scan will do, or is quicker.
        let exact = try account(engine, search + ", use_exact_search=true) LIMIT 10")
        #expect(exact.method.hasPrefix("exact, ") && exact.recall == 1)
        let narrow = try account(engine, search + ") WHERE part < 40 LIMIT 10")
        #expect(narrow.method.hasPrefix("exact, ") && narrow.recall == 1)
        #expect(narrow.ids.count == 10)
        #expect(narrow.ids.allSatisfy { Int($0.dropFirst()).map { $0 < 40 } ?? false })

        // An item that leaves the catalog's filter is never found again, and k are there all the same.
        let gone = quick.ids[0]
        _ = try await database.insert(
          ["data": [["item_id": .string(gone), "grp": -1, "part": 0]]], into: "items")
        let after = try account(engine, search + ") WHERE grp >= 0 LIMIT 10")
        #expect(!after.ids.contains(gone) && after.ids.count == 10)
        // An item that the model has never seen is in no list, and never lost.
        _ = try await database.insert(
          ["data": [["item_id": "new", "grp": 99, "part": 0]]], into: "items")
        let fresh = try account(engine, search + ") WHERE grp = 99 OR part < 9 LIMIT 20")
        #expect(fresh.ids.last == "new" && fresh.ids.count >= 10)
      }
      let files = try FileManager.default.contentsOfDirectory(atPath: path + "/artifacts")
      let stored = try #require(files.first { $0.hasSuffix(".riffleiv") })
      do {
        let database = try open(path, trains: false)
        defer { database.close() }
        let engine = try database.engine(named: "e")
        #expect(indexLines(engine).first?.hasPrefix("The index of `sasrec` is read") == true)
        #expect(try account(engine, search + ") LIMIT 10").method.hasPrefix("partitioned, "))
      }
      // A byte of the file is turned, and its name, which is its digest, no longer fits.
      var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path + "/artifacts/" + stored)))
      bytes[100] ^= 1
      try Data(bytes).write(to: URL(fileURLWithPath: path + "/artifacts/" + stored))
      let journal = Journal()
      let database = try open(path, journal: journal)
      defer { database.close() }
      let engine = try database.engine(named: "e")
      #expect(journal.all.contains { $0.hasPrefix("An index is made again") })
      while indexLines(engine).count < 2 { await Task.yield() }
      #expect(indexLines(engine)[0].contains("cannot be read and is made again"))
      #expect(indexLines(engine)[1].contains("is made in"))
      #expect(try account(engine, search + ") LIMIT 10").method.hasPrefix("partitioned, "))
    }
  }

  @Test func `is not made for a small catalogue, nor where the settings say exact`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      try await fill(database)
      for (name, settings) in [
        ("small", "{}"), ("exact", "{vector_search: {method: exact, partition_from_rows: 10}}"),
      ] {
        let text = yaml.replacing("name: e\n", with: "name: \(name)\n").replacing(
          "{vector_search: {partition_from_rows: 2000, recall: 0.6}}", with: settings)
        let engine = try await database.createEngine(parsing: text)
        while !engine.status.state.isTerminal { await Task.yield() }
        #expect(engine.status.state == .active)
        #expect(try account(engine, search + ") LIMIT 10").method.hasPrefix("exact, "))
      }
      // Both trainings are over, and with them all that the thread had to do.
      database.close()
      let files = try FileManager.default.contentsOfDirectory(atPath: path + "/artifacts")
      #expect(!files.contains { $0.hasSuffix(".riffleiv") })
    }
  }

  @Test func `says all that is wrong with its settings`() async throws {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      try await fill(database)
      await #expect {
        _ = try await database.createEngine(
          parsing: yaml.replacing(
            "{partition_from_rows: 2000, recall: 0.6}",
            with: "{method: hnsw, partition_from_rows: 0, recal: 0.9, recall: 2}"))
      } throws: { error in
        let all = (error as? Diagnostics)?.all ?? []
        return all.map(\.code) == [
          "unknown_choice", "out_of_range", "unknown_key", "out_of_range",
        ] && all[2].help == "Did you mean `recall`?"
      }
    }
  }
}
