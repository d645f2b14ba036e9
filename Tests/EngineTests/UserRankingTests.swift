import Domain
import Engine
import Foundation
import Logging
import QueryEngine
import Testing

private let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Users of even number watch the even items, the others the odd ones, each in a circle.
private func withEngine(
  trains: Bool = true, _ body: (RiffleDatabase, ServedEngine) async throws -> Void
) async throws {
  let path = NSTemporaryDirectory() + "riffle-users-" + UUID().uuidString
  defer { try? FileManager.default.removeItem(atPath: path) }
  var options = RiffleDatabase.Options()
  options.trainingThreads = 1
  options.trains = trains
  let database = try RiffleDatabase(opening: path, options: options, logger: silentLogger)
  defer { database.close() }
  let tables: [JSON] = [
    [
      "name": "events",
      "column_schema": ["user_id": "String", "item_id": "String", "created_at": "DateTime"],
    ],
    [
      "name": "items", "unique_keys": ["item_id"],
      "column_schema": [
        "item_id": "String", "topic": "String", "tags": "Array(String)", "size": "Int32",
      ],
    ],
    [
      "name": "users", "unique_keys": ["user_id"],
      "column_schema": [
        "user_id": "String", "country": "String", "likes": "String", "age": "Int32",
      ],
    ],
  ]
  for table in tables { _ = try await database.createTable(table) }
  var items: [JSON] = []
  for item in 0..<30 {
    let topic: JSON = item % 2 == 0 ? "even" : "odd"
    let tags: JSON = [.string("t\(item % 3)")]
    items.append(
      ["item_id": .string("i\(item)"), "topic": topic, "tags": tags, "size": .int(Int64(item))])
  }
  _ = try await database.insert(["data": .array(items)], into: "items")
  var users: [JSON] = []
  for user in 0..<40 {
    let country: JSON = user < 20 ? "de" : "fr"
    let likes: JSON = user % 2 == 0 ? "even" : "odd"
    users.append(
      [
        "user_id": .string("u\(user)"), "country": country, "likes": likes,
        "age": .int(Int64(20 + user)),
      ])
  }
  _ = try await database.insert(["data": .array(users)], into: "users")
  var events: [(user: Int, item: Int)] = []
  for user in 0..<40 {
    for step in 0..<8 { events.append((user: user, item: (user + 2 * step) % 30)) }
  }
  try await watch(database, events)
  let engine = try await database.createEngine(
    parsing: """
      name: e
      data: {interaction_table: events, item_table: items, user_table: users}
      training:
        models:
          - {policy_type: sasrec, hidden_size: 16, n_layers: 1, n_epochs: 30, learning_rate: 0.01,
             batch_size: 8, max_seq_length: 20}
      """)
  while trains, !engine.status.state.isTerminal { await Task.yield() }
  try await body(database, engine)
}

private func watch(_ database: RiffleDatabase, _ events: [(user: Int, item: Int)]) async throws {
  let rows: [JSON] = events.enumerated().map { step, event in
    [
      "user_id": .string("u\(event.user)"), "item_id": .string("i\(event.item)"),
      "created_at": .int(1_700_000_000_000 + Int64(step)),
    ]
  }
  _ = try await database.insert(["data": .array(rows)], into: "events")
}

private func result(
  _ engine: ServedEngine, _ text: String, _ parameters: [String: JSON] = [:]
) throws -> QueryResult {
  try engine.answer(QueryCall(text: text, parameters: parameters)).result
}

private func problem(_ engine: ServedEngine, _ text: String) -> Diagnostic? {
  do {
    _ = try engine.answer(QueryCall(text: text))
    return nil
  } catch {
    return (error as? Diagnostics)?.all.first ?? (error as? Diagnostic)
  }
}

extension QueryResult {
  fileprivate var names: [String] { ids.map(\.rawValue) }
  /// How many of the first rows are users or items of even number.
  fileprivate func evenCount(_ first: Int) -> Int {
    names.prefix(first).count { name in (Int(name.dropFirst()) ?? 1) % 2 == 0 }
  }
}

@Suite struct `Ranking users` {
  @Test func `finds those whose taste is like a user's, an item's or some attributes'`()
    async throws
  {
    try await withEngine { database, engine in
      let like = try result(
        engine,
        "SELECT user_id, country FROM similarity(embedding_ref='sasrec', entity_type='users', "
          + "encoder='precomputed_user', input_user_id='u4', limit=40) LIMIT 10")
      #expect(like.entityType == .user)
      #expect(like.names.first == "u4", "nobody is more like u4 than u4")
      #expect(like.evenCount(10) >= 9, "\(like.names)")
      #expect(like.columns.map(\.name) == ["user_id", "country"])

      // Whoever would watch item 6 next: u20 has just watched the items before it.
      let audience = try result(
        engine,
        "SELECT * FROM similarity(embedding_ref='sasrec', entity_type='users', "
          + "encoder='precomputed_item', input_item_id='i6') WHERE country = 'fr' LIMIT 8")
      #expect(audience.names.prefix(3).contains("u20"), "\(audience.names)")
      #expect(audience.names.allSatisfy { (Int($0.dropFirst()) ?? 0) >= 20 })

      // Items for somebody of whom only attributes are known.
      let stranger = try result(
        engine,
        "SELECT * FROM similarity(embedding_ref='sasrec', encoder='user_attribute_pooling', "
          + "input_user_features=$f) LIMIT 8", ["f": ["likes": "even"]])
      #expect(stranger.evenCount(8) >= 7, "\(stranger.names)")
      let new = try result(
        engine,
        "SELECT * FROM similarity(embedding_ref='sasrec', encoder='item_attribute_pooling', "
          + "input_item_features=$f) LIMIT 8", ["f": ["topic": "odd", "size": 9999]])
      #expect(new.evenCount(8) <= 1, "\(new.names)")

      // The next answer knows what a user has just done.
      try await watch(
        database, (0..<8).map { (user: 7, item: (4 + 2 * $0) % 30) })
      let after = try result(
        engine,
        "SELECT * FROM similarity(embedding_ref='sasrec', entity_type='users', "
          + "input_user_id='u4') LIMIT 40")
      let before = try result(
        engine,
        "SELECT * FROM similarity(embedding_ref='sasrec', entity_type='users', "
          + "input_user_id='u9') LIMIT 40")
      let place = try #require(after.names.firstIndex(of: "u7"))
      #expect(place < 20, "u7 now watches what u4 watches: place \(place)")
      #expect(before.names.count == 40)
    }
  }

  @Test func `reads columns of users in conditions, groups and expressions`() async throws {
    try await withEngine(trains: false) { database, engine in
      let germans = try result(engine, "SELECT age FROM users WHERE country = 'de' LIMIT 50")
      #expect(germans.names.count == 20 && germans.entityType == .user)
      let oldest = try result(
        engine, "SELECT * FROM column_order(columns='age DESC', entity_type='users') LIMIT 2")
      #expect(oldest.names == ["u39", "u38"])
      let words = try result(
        engine, "SELECT * FROM text_search(query='odd', entity_type='users') LIMIT 50")
      #expect(words.names.count == 20)
      // The items of the topic that the user likes.
      let liked = try result(
        engine,
        "SELECT * FROM items WHERE topic = user.likes "
          + "AND prebuilt('already_seen', input_user_id='u3') LIMIT 50")
      #expect(liked.names.count == 7 && liked.evenCount(7) == 0, "\(liked.names)")
      let answer = try engine.answer(
        QueryCall(
          text: "SELECT country, COUNT(*) AS n FROM users GROUP BY country ORDER BY country")
      )
      guard case .table(let table) = answer.statements[0] else {
        Issue.record("no table")
        return
      }
      #expect(table.rows == [[.string("de"), .int(20)], [.string("fr"), .int(20)]])
      // A user moves, and is at the new place in the next answer.
      _ = try await database.insert(
        ["data": [["user_id": "u1", "country": "fr", "likes": "odd", "age": 21]]], into: "users")
      #expect(
        try result(engine, "SELECT * FROM users WHERE country = 'de' LIMIT 50").ids.count == 19)
    }
  }

  @Test func `says what cannot be done with users, texts and views`() async throws {
    try await withEngine { _, engine in
      let cases = [
        (
          "SELECT * FROM users ORDER BY score(expression='sasrec', input_user_id='u1') LIMIT 2",
          "unknown_", ""
        ),
        (
          "SELECT * FROM users WHERE prebuilt('already_seen', input_user_id='u1') LIMIT 2",
          "unknown_filter", ""
        ),
        (
          "SELECT * FROM text_search(query='x', mode='vector', text_embedding_ref='sasrec') LIMIT 2",
          "not_available", "hugging_face"
        ),
        ("SELECT COUNT(*) FROM view.v", "unknown_view", "/v2/query"),
        ("SELECT * FROM items WHERE topic > 5 LIMIT 2", "type_mismatch", "CAST"),
      ]
      for (text, code, help) in cases {
        let found = problem(engine, text)
        #expect(
          found?.code.hasPrefix(code) == true, "\(text): \(found.map { "\($0)" } ?? "nothing")")
        #expect(help.isEmpty || found?.help?.contains(help) == true, "\(text)")
      }
    }
  }
}

@Suite struct `Placements of exploration` {
  @Test func `are written to a table with their probabilities`() async throws {
    try await withEngine(trains: false) { database, engine in
      let text = "SELECT * FROM items REORDER BY exploration(0.5, seed=3) LIMIT 6"
      var call = QueryCall(text: text)
      call.queryName = "mix"
      let first = try engine.answer(call).result
      _ = try engine.answer(QueryCall(text: "SELECT * FROM items LIMIT 6"))
      _ = try engine.answer(call)
      while (try? database.table(named: "riffle_placements"))?.rowCount ?? 0 < 12 {
        await Task.yield()
      }
      let answer = try engine.answer(
        QueryCall(
          text: "SELECT item_id, position, propensity, query FROM data.riffle_placements "
            + "WHERE slot < 6 ORDER BY position LIMIT 20"))
      guard case .table(let table) = answer.statements[0] else {
        Issue.record("no table")
        return
      }
      #expect(table.rows.map { $0[0] } == first.ids.map { .string($0.rawValue) })
      #expect(table.rows.map { $0[1] } == (1...6).map { .int($0) })
      let known = try #require(first.propensities)
      #expect(table.rows.map { $0[2] } == known.map { $0.map { .double($0) } ?? .null })
      #expect(table.rows.allSatisfy { $0[3] == .string("mix") })
    }
  }
}

@Suite struct `Saved queries` {
  @Test func `have their names checked when the engine is made`() async throws {
    try await withEngine(trains: false) { database, _ in
      await #expect {
        _ = try await database.createEngine(
          parsing: """
            name: f
            data:
              interaction_table: events
              item_table: items
              filters: [{name: blocked, filter_table: events, filter_type: personal}]
            training: {models: [{policy_type: sasrec}]}
            queries:
              a: {query: "SELECT titel FROM items WHERE topik = $topic AND size > $n LIMIT $k"}
              b:
                query: |
                  SELECT * FROM similarity(embedding_ref='sasrek', input_user_id=$user_id)
                  WHERE prebuilt('blockt', input_user_id=$user_id)
                  ORDER BY score(expression='sasrec + clicks', input_user_id=$user_id)
              c: {query: "SELECT COUNT(*) FROM data.event WHERE labell > 3"}
              d: {query: "SELECT * FROM items WHERE size = 'many' LIMIT 3"}
              good:
                query: |
                  SELECT topic FROM similarity(embedding_ref='sasrec', input_user_id=$user_id),
                                    ids($list)
                  WHERE topic = $topic AND size IN $sizes AND prebuilt('blocked', input_user_id=$user_id)
                  ORDER BY score(expression='sasrec * $params.weight', input_user_id=$user_id) LIMIT $k
            """)
      } throws: { error in
        let all = (error as? Diagnostics)?.all ?? []
        let codes = all.map { "\($0.place ?? "") \($0.code)" }
        return codes.filter { $0.hasPrefix("queries.a") }.count == 2
          && codes.contains("queries.b unknown_embedding")
          && codes.contains("queries.b unknown_filter")
          && codes.contains { $0.hasPrefix("queries.b unknown_") && !$0.hasSuffix("filter") }
          && codes.contains("queries.c unknown_table")
          && codes.contains("queries.d type_mismatch")
          && !codes.contains { $0.hasPrefix("queries.good") }
      }
    }
  }
}
