import Domain
import HTTPAPI
import Testing

/// What a request may ask of a query beside rows, over a real socket and with a trained model.
@Suite struct `Forms of queries over HTTP` {
  @Test func `explain, page, group and look back`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        try await SmallWorld.load(client)
        let trained = try await client.untilTrained("feed")
        try #require(trained["status"] == "ACTIVE")
        func ask(_ query: JSON, _ more: [JSON.Member] = []) async throws -> JSON {
          try await client.expect(
            "POST", "/v2/engines/feed/query", .object([JSON.Member("query", query)] + more))
        }
        try await explanations(ask)
        try await statements(ask)
        try await past(ask, client)
        try await tables(client)
      }
    }
  }

  private typealias Ask = (JSON, [JSON.Member]) async throws -> JSON

  private func explanations(_ ask: Ask) async throws {
    let query: JSON =
      "SELECT topic, embedding('taste') FROM similarity(embedding_ref='taste', input_user_id='u0') LIMIT 3"
    let plain = try await ask(query, [])
    #expect(plain["explanation"] == .null)
    let first = try #require(plain["results"]?.array?.first)
    #expect(first["journey"] == nil && first["influences"] == nil && first["metadata"] == nil)
    #expect(first["embeddings"]?["taste"]?.array?.count == 16)
    let full = try await ask(
      query,
      [
        JSON.Member("return_explanation", true), JSON.Member("return_journey_explanations", true),
        JSON.Member("return_influences", true), JSON.Member("return_metadata", true),
      ])
    #expect(full.ids == plain.ids)
    #expect(full["explanation"]?["retrieve_stage"]?["steps"]?.array?.count == 1)
    #expect(full["explanation"]?["final_result_count"] == 3)
    let row = try #require(full["results"]?.array?.first)
    #expect(row["journey"]?["final_position"] == 1)
    #expect(row["influences"]?.array?.count == 8, "each of the user's events is left out once")
    #expect(row["influences"]?.array?.allSatisfy { $0["change"]?.number != nil } == true)

    let why = try await ask(
      """
      EXPLAIN WHY NOT item 'i0' SELECT * FROM items \
      WHERE prebuilt('already_seen', input_user_id='u0') LIMIT 30
      """, [])
    #expect(why["explanation"]?["why_not"]?["step"] == "filter")
    let plan = try await ask("EXPLAIN SELECT * FROM items LIMIT 3", [])
    #expect(plan["explanation"]?["text"]?.string?.contains("limit 3 offset 0") == true)
  }

  private func statements(_ ask: Ask) async throws {
    let both = try await ask(
      "SELECT * FROM items LIMIT 2; SELECT topic, COUNT(*) AS n FROM items GROUP BY topic ORDER BY topic",
      [])
    #expect(both.ids.count == 2)
    let second = try #require(both["statements"]?.array?.last)
    let groups = try #require(second["results"]?.array)
    #expect(groups.map { $0["metadata"]?["topic"] } == ["even", "odd"])
    #expect(groups.map { $0["metadata"]?["n"] } == [15, 15])

    var seen: [String] = []
    for _ in 0..<4 {
      seen += try await ask(
        "SELECT * FROM similarity(embedding_ref='taste', input_user_id='u1') LIMIT 10",
        [JSON.Member("pagination_key", "p")]
      ).ids
    }
    #expect(seen.count == 30 && Set(seen).count == 30, "thirty items, and nothing after them")
    let explored = try await ask(
      "SELECT * FROM column_order(columns='item_id') REORDER BY exploration(0.5) LIMIT 5",
      [JSON.Member("seed", 3)])
    let again = try await ask(
      "SELECT * FROM column_order(columns='item_id') REORDER BY exploration(0.5) LIMIT 5",
      [JSON.Member("seed", 3)])
    #expect(explored["results"] == again["results"])
    let chances = (explored["results"]?.array ?? []).compactMap { $0["propensity"]?.number }
    #expect(chances.count == 5 && chances.allSatisfy { $0 > 0 && $0 <= 1 })
  }

  private func past(_ ask: Ask, _ client: HTTPClient) async throws {
    let query =
      "SELECT * FROM items WHERE prebuilt('already_seen', input_user_id='u0') LIMIT 30"
    let before = try await ask(.string(query), [])
    let position = try #require(before["as_of"]?.int)
    _ = try await client.expect(
      "POST", "/v2/tables/events/insert",
      ["data": [SmallWorld.event(user: "u0", item: 29, time: 9000)]])
    let now = try await ask(.string(query), [])
    #expect(before.ids.contains("i29") && !now.ids.contains("i29"))
    let then = try await ask(.string("\(query) AS OF \(position)"), [])
    #expect(then.ids == before.ids)
    #expect(try await ask(.string("\(query) AS OF 0"), []).ids.count == 30)
    #expect(try await ask(.string("\(query) AS OF '2001-01-01'"), []).ids.count == 30)
    let (status, problem) = try await client.send(
      "POST", "/v2/engines/feed/query", json: ["query": .string("\(query) AS OF 99999999")])
    #expect(status == 422 && problem?.text.contains("The log ends at position") == true)
  }

  private func tables(_ client: HTTPClient) async throws {
    let events = try await client.expect(
      "POST", "/v2/query",
      [
        "query":
          "SELECT user_id, COUNT(*) AS n, MIN(created_at) AS first FROM data.events WHERE label = $l GROUP BY user_id ORDER BY n DESC, user_id LIMIT 3",
        "parameters": ["l": 1],
      ])
    #expect(events["row_count"] == 3)
    #expect(events["data"]?.array?.first?["n"] == 9)
    #expect(events["data"]?.array?.first?["user_id"] == "u0")
    let items = try await client.expect(
      "POST", "/v2/query", ["query": "SELECT COUNT(*) FROM engine.feed.items"])
    #expect(items["data"]?.array?.first?["count(*)"] == 30)
    let ranked = try await client.expect(
      "POST", "/v2/query",
      [
        "query":
          "SELECT * FROM engine.feed.retrieve(similarity(embedding_ref='taste', input_user_id='u0')) LIMIT 3"
      ])
    #expect(ranked.ids.count == 3)
    for (query, words) in [
      ("SELECT * FROM data.evnts LIMIT 3", "did you mean `data.events`?"),
      ("SELECT * FROM engine.fed.items LIMIT 3", "There is no engine `fed`"),
      ("SELECT titel FROM data.events LIMIT 3", "unknown column `titel`"),
    ] {
      let (status, problem) = try await client.send(
        "POST", "/v2/query", json: ["query": .string(query)])
      #expect(status == 422 || status == 404)
      #expect(problem?.text.contains(words) == true, "\(problem?.text ?? "")")
    }
  }
}
