import Domain
import Engine
import HTTPAPI
import Testing

@Suite struct `Serving over HTTP` {
  @Test func `an inserted event changes the next answer`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        try await SmallWorld.load(client)
        let trained = try await client.untilTrained("feed")
        try #require(trained["status"] == "ACTIVE", "\(trained["error_message"]?.text ?? "")")

        // u0 has watched the even items 0 to 14.
        let feed: JSON = ["parameters": ["user_id": "u0"]]
        let before = try await client.expect("POST", "/v2/engines/feed/queries/feed", feed)
        #expect(before.ids.count == 5)
        #expect(before.ids.first == "i16", "\(before.ids)")
        #expect(before["generation"] == 1 && before["notes"] == nil)

        let top = try #require(before.ids.first)
        let inserted = try await client.expect(
          "POST", "/v2/tables/events/insert",
          ["data": [SmallWorld.event(user: "u0", item: 7, time: 9000)]])
        let between = try await client.expect("POST", "/v2/engines/feed/queries/feed", feed)
        #expect(between["as_of"] == inserted["as_of"])
        #expect(between["generation"] == 1, "nothing was trained")
        #expect(between.ids != before.ids, "the feed has turned")
        #expect(between.ids.first == "i9", "after i7 comes i9: \(between.ids)")

        // What has been watched goes.
        _ = try await client.expect(
          "POST", "/v2/tables/events/insert",
          [
            "data": [
              .object([
                .init("event_id", "x"), .init("user_id", "u0"), .init("item_id", .string(top)),
                .init("label", -1), .init("created_at", 1_800_000_000_000),
              ])
            ]
          ])
        let after = try await client.expect("POST", "/v2/engines/feed/queries/feed", feed)
        #expect(!after.ids.contains(top))
        #expect(after.ids.count == 5)
      }
    }
  }

  @Test func `a restart serves the same answers without training`() async throws {
    try await withTemporaryDirectory { directory in
      let body: JSON = ["parameters": ["user_id": "u3", "n": 10]]
      let path = "/v2/engines/feed/queries/feed"
      let before = try await withServer(directory) { client, _ in
        try await SmallWorld.load(client)
        _ = try await client.untilTrained("feed")
        return try await client.expect("POST", path, body)
      }
      // An engine that had to be trained again would not be ACTIVE in this server, which trains none.
      let after = try await withServer(directory, trains: false) { client, _ in
        let details = try await client.expect("GET", "/v2/engines/feed")
        #expect(details["status"] == "ACTIVE")
        return try await client.expect("POST", path, body)
      }
      #expect(before.ids.count == 10)
      #expect(after["results"] == before["results"])
      #expect(after["as_of"] == before["as_of"] && after["generation"] == before["generation"])
    }
  }

  @Test func `before the first training popular items are served and the model says 503`()
    async throws
  {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        try await SmallWorld.load(client)
        let popular = try await client.expect(
          "POST", "/v2/engines/feed/query",
          [
            "query":
              "SELECT * FROM column_order(columns='_derived_popular_rank ASC') WHERE topic = 'odd' LIMIT 3"
          ])
        #expect(popular.ids.count == 3)
        let (status, problem) = try await client.send(
          "POST", "/v2/engines/feed/queries/feed", json: [:])
        #expect(status == 503)
        #expect(
          problem?["message"]?.string
            == "The model `sasrec` of the engine `feed` is still in its first training.")
      }
    }
  }

  @Test func `an unknown user gets popular items and a note`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        try await SmallWorld.load(client)
        _ = try await client.untilTrained("feed")
        let answer = try await client.expect(
          "POST", "/v2/engines/feed/queries/feed", ["parameters": ["user_id": "nobody"]])
        #expect(answer.ids.count == 5)
        #expect(
          answer["notes"] == [
            "fallback: popular (user 'nobody' has no positive event that the model knows)"
          ])
      }
    }
  }

  @Test func `an item that is newer than the model comes last and is never lost`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        try await SmallWorld.load(client)
        _ = try await client.untilTrained("feed")
        _ = try await client.expect(
          "POST", "/v2/tables/items/insert",
          ["data": [["item_id": "new", "topic": "even", "published_at": 1_800_000_000_000]]])
        let answer = try await client.expect(
          "POST", "/v2/engines/feed/queries/feed", ["parameters": ["user_id": "u0", "n": 50]])
        #expect(answer.ids.count == SmallWorld.itemCount - 8 + 1)
        #expect(answer.ids.last == "new")
      }
    }
  }
}
