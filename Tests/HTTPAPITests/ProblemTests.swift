import Domain
import Engine
import HTTPAPI
import Testing

@Suite struct `Problems over HTTP` {
  @Test func `unknown routes and methods are named`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        let (status, problem) = try await client.send("GET", "/v2/tabels", json: [:])
        #expect(status == 404)
        #expect(problem?["message"] == "There is nothing at GET /v2/tabels.")
        #expect(problem?["status"] == 404 && problem?["title"] == "Not Found")
        let reply = try await client.send("PUT", "/v2/tables")
        #expect(reply.status == 405)
        #expect(reply.headers["allow"] == "GET, POST, PATCH")
      }
    }
  }

  @Test func `names that do not exist come with the nearest one`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        try await SmallWorld.load(client)
        for (path, help) in [
          ("/v2/tables/event", "Did you mean `events`?"),
          ("/v2/engines/fed", "Did you mean `feed`?"),
          ("/v2/engines/feed/queries/fead", "Did you mean `feed`?"),
        ] {
          let (status, problem) = try await client.send("GET", path, json: [:])
          #expect(status == 404)
          #expect(problem?["diagnostics"]?.array?.first?["help"]?.string == help)
        }
      }
    }
  }

  @Test func `every bad row of a batch is named and kept aside, the good ones go in`() async throws
  {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        _ = try await client.expect("POST", "/v2/tables", SmallWorld.tables[1])
        let answer = try await client.expect(
          "POST", "/v2/tables/events/insert",
          [
            "data": [
              SmallWorld.event(user: "u", item: 1, time: 1),
              ["event_id": "a", "label": "many"], ["event_id": "b", "user": "u1"],
            ]
          ])
        #expect(answer["accepted"] == 1 && answer["dead_letters"] == 2)
        let places = answer["problems"]?.array?.compactMap { $0["place"]?.string } ?? []
        #expect(places == ["data[1].label", "data[2].user"])
        let table = try await client.expect("GET", "/v2/tables/events")
        #expect(table["row_count"] == 1)
      }
    }
  }

  @Test func `a batch of which no row fits is refused with every problem`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        _ = try await client.expect("POST", "/v2/tables", SmallWorld.tables[1])
        let (status, problem) = try await client.send(
          "POST", "/v2/tables/events/insert",
          json: ["data": [["event_id": "a", "label": "many"]]])
        #expect(status == 400)
        let codes = problem?["diagnostics"]?.array?.compactMap { $0["code"]?.string } ?? []
        #expect(codes == ["type_mismatch", "dead_letters"])
      }
    }
  }

  @Test func `a body that is not JSON is pointed at`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        let reply = try await client.send(
          "POST", "/v2/tables", body: Array(#"{"name": }"#.utf8))
        #expect(reply.status == 400)
        let problem = try JSON(parsing: reply.body)
        #expect(problem["diagnostics"]?.array?.first?["place"] == "line 1, column 10")
      }
    }
  }

  @Test func `a query's problem has a caret`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        try await SmallWorld.load(client)
        let (status, problem) = try await client.send(
          "POST", "/v2/engines/feed/query", json: ["query": "SELECT topik FROM items LIMIT 3"])
        #expect(status == 422)
        let text = problem?["diagnostics"]?.array?.first?["text"]?.string ?? ""
        #expect(text.contains("--> query:1:8"), "\(text)")
        #expect(text.contains("did you mean `topic`?"), "\(text)")
      }
    }
  }

  @Test func `a saved query takes only its own parameters`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        try await SmallWorld.load(client)
        let (status, problem) = try await client.send(
          "POST", "/v2/engines/feed/queries/feed", json: ["parameters": ["user": "u1"]])
        #expect(status == 422)
        #expect(problem?["message"] == "The saved query `feed` has no parameter `user`.")
      }
    }
  }

  @Test func `an engine's problems come all at once`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, database in
        try await SmallWorld.load(client)
        let text = SmallWorld.engine.replacing("events,", with: "event,").replacing(
          "name: feed", with: "name: other"
        ).replacing("LIMIT $n", with: "LIMIT")
        let reply = try await client.send(
          "POST", "/v2/engines", body: Array(text.utf8), contentType: "application/yaml")
        #expect(reply.status == 422 || reply.status == 404)
        let problem = try JSON(parsing: reply.body)
        let places = problem["diagnostics"]?.array?.compactMap { $0["place"]?.string } ?? []
        #expect(places == ["data.interaction_table", "queries.feed"])
        #expect(database.engines.map(\.name) == ["feed"])
      }
    }
  }

  @Test func `an engine's name can be taken once`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        try await SmallWorld.load(client)
        let reply = try await client.send(
          "POST", "/v2/engines", body: Array(SmallWorld.engine.utf8),
          contentType: "application/yaml")
        #expect(reply.status == 409)
      }
    }
  }

  @Test func `a server with a key answers nobody without it`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, apiKey: "secret") { client, _ in
        let stranger = try HTTPClient(url: client.url, apiKey: "secres")
        let (status, problem) = try await stranger.send("GET", "/v2/tables", json: [:])
        #expect(status == 401)
        #expect(problem?["message"] == "The API key is not the server's.")
        #expect(try await stranger.send("GET", "/livez").status == 200)
        _ = try await client.expect("GET", "/v2/tables")
      }
    }
  }

  @Test func `a body beyond the limit is refused`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, maximumBodyBytes: 1000) { client, _ in
        let reply = try await client.send(
          "POST", "/v2/tables", body: Array(repeating: UInt8(ascii: " "), count: 1001))
        #expect(reply.status == 413)
      }
    }
  }
}
