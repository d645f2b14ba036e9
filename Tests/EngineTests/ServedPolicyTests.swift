import Domain
import Engine
import Foundation
import Logging
import Models
import QueryEngine
import Testing
import Training

private let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

private func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = NSTemporaryDirectory() + "riffle-policies-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

private func open(_ path: String, trains: Bool = true) throws -> RiffleDatabase {
  var options = RiffleDatabase.Options()
  options.trainingThreads = 1
  options.trains = trains
  return try RiffleDatabase(opening: path, options: options, logger: silentLogger)
}

/// Thirty users walk along a ring of twenty items.
private func fill(_ database: RiffleDatabase) async throws {
  _ = try await database.createTable([
    "name": "events",
    "column_schema": ["user_id": "String", "item_id": "String", "created_at": "DateTime"],
  ])
  var rows: [JSON] = []
  for user in 0..<30 {
    for step in 0..<6 {
      rows.append([
        "user_id": .string("u\(user)"), "item_id": .string("i\((user + step) % 20)"),
        "created_at": .int(1_700_000_000_000 + Int64(step) * 86_400_000 + Int64(user)),
      ])
    }
  }
  _ = try await database.insert(["data": .array(rows)], into: "events")
}

/// One model of every policy, small enough to train in a blink.
private var yaml: String {
  var lines = ["name: e", "data: {interaction_table: events}", "training:", "  models:"]
  for policy in Policies.all.map({ $0.description }) {
    var keys = ["policy_type: \(policy.name)", "name: m_\(policy.name.replacing("-", with: "_"))"]
    for key in ["n_epochs", "iterations"] where policy.parameter(key) != nil {
      keys.append("\(key): 2")
    }
    for key in ["hidden_size", "embedding_dim", "embedding_size", "factors"]
    where policy.parameters.contains(where: { $0.name == key }) {
      keys.append("\(key): 8")
    }
    if policy.name == "blend" { keys.append("models: [m_ngram, m_item_knn]") }
    if policy.name == "retrieve-rank" { keys.append("retriever: m_item_knn, ranker: m_ngram") }
    if policy.name == "auto" { keys.append("minutes: 0.02") }
    lines.append("    - {\(keys.joined(separator: ", "))}")
  }
  return lines.joined(separator: "\n")
}

@Suite struct `Engines with every policy` {
  @Test func `train them, answer by them, keep them over a restart and verify them`() async throws {
    try await withDirectory { path in
      let answers: [String: [ItemID]]
      do {
        let database = try open(path)
        defer { database.close() }
        try await fill(database)
        let engine = try await database.createEngine(parsing: yaml)
        while !engine.status.state.isTerminal { await Task.yield() }
        #expect(engine.status.error == nil)
        answers = try ask(engine)
        // What every model here has learned, but those that are the same for everybody.
        for (model, ids) in answers where ["m_ngram", "m_item_knn", "m_blend"].contains(model) {
          #expect(ids.first == ItemID("i13"), "\(model): \(ids)")
        }
      }
      let database = try open(path, trains: false)
      defer { database.close() }
      let engine = try database.engine(named: "e")
      #expect(engine.status.state == .active)
      #expect(try ask(engine) == answers)
      let verified = try database.verifyTraining(of: engine) { _ in true }
      for result in verified where result.model != "m_auto" {
        #expect(result.isSame, "\(result.model): \(result.difference ?? "")")
      }
    }
  }

  /// The first five items of user 7 by each model, found and scored by it, under a hard filter.
  private func ask(_ engine: ServedEngine) throws -> [String: [ItemID]] {
    var answers: [String: [ItemID]] = [:]
    for model in engine.configuration.models.map(\.name) {
      let found = try engine.answer(
        QueryCall(
          text: """
            SELECT * FROM similarity(embedding_ref='\(model)', encoder='precomputed_user',
                                     input_user_id='u7', limit=20)
            WHERE prebuilt('already_seen', input_user_id='u7') AND item_id <> 'i19'
            LIMIT 5
            """)
      ).result
      let scored = try engine.answer(
        QueryCall(
          text: """
            SELECT * FROM column_order(columns='_derived_popular_rank ASC', limit=100)
            WHERE prebuilt('already_seen', input_user_id='u7') AND item_id <> 'i19'
            ORDER BY score(expression='\(model)', input_user_id='u7') LIMIT 5
            """)
      ).result
      #expect(found.ids.count == 5 && !found.ids.contains(ItemID("i19")), "\(model)")
      #expect(Set(found.ids).isDisjoint(with: (7..<13).map { ItemID("i\($0)") }), "\(model)")
      // Among items of equal counts, which these models have, a query's own order decides.
      if !model.contains("popular") {
        #expect(scored.ids.first == found.ids.first, "\(model): \(scored.ids) \(found.ids)")
      }
      answers[model] = found.ids
    }
    return answers
  }

  @Test func `answer for an item and a session by scores alone, and say that there are no vectors`()
    async throws
  {
    try await withDirectory { path in
      let database = try open(path)
      defer { database.close() }
      try await fill(database)
      let engine = try await database.createEngine(
        parsing: """
          name: e
          data: {interaction_table: events}
          training: {models: [{policy_type: ngram}, {policy_type: popular}]}
          """)
      while !engine.status.state.isTerminal { await Task.yield() }
      func ids(_ text: String) throws -> [ItemID] {
        try engine.answer(QueryCall(text: text)).result.ids
      }
      #expect(
        try ids(
          "SELECT * FROM similarity(embedding_ref='ngram', encoder='precomputed_item', "
            + "input_item_id='i3', limit=5) LIMIT 1") == [ItemID("i4")])
      #expect(
        try ids(
          "SELECT * FROM similarity(embedding_ref='popular', encoder='precomputed_user', "
            + "input_user_id='nobody', limit=5) LIMIT 3"
        ).count == 3)
      let session =
        "SELECT * FROM similarity(embedding_ref='ngram', encoder='session', "
        + "input_interactions_item_ids=['i2', 'i3'], limit=5) LIMIT 1"
      #expect(try ids(session) == [ItemID("i4")])
      #expect(
        try ids("RECOMMEND FOR HISTORY ('i2', 'i3') USING ngram LIMIT 1") == [ItemID("i4")])
      #expect(
        try ids("RECOMMEND FOR HISTORY ('nothing') USING ngram LIMIT 2").count == 2,
        "a session that the model does not know")
      for text in [session, "RECOMMEND FOR USER 'u7' USING ngram LIMIT 1"] {
        let answer = try engine.answer(QueryCall(text: "EXPLAIN INFLUENCE " + text)).result
        let events = try #require(answer.influences?.first)
        #expect(!events.isEmpty && events.contains { ($0.change ?? 0) != 0 }, "\(events)")
      }
      #expect(throws: (any Error).self) {
        _ = try ids(
          "SELECT * FROM similarity(embedding_ref='ngram', encoder='precomputed_user', "
            + "input_user_id='u1', limit=5) REORDER BY diversity() LIMIT 3")
      }
    }
  }
}
