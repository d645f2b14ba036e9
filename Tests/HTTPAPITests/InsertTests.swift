import Domain
import Engine
import Foundation
import HTTPAPI
import Testing

/// Sends a request with headers of its own over a connection of its own, off the shared pool.
private func send(
  _ client: HTTPClient, _ method: String, _ path: String, _ body: [UInt8],
  _ headers: [String: String]
) async throws -> (status: Int, json: JSON, headers: [String: String]) {
  let port = try #require(client.url.split(separator: ":").last.flatMap { Int($0) })
  return try await withCheckedThrowingContinuation { continuation in
    Thread.detachNewThread {
      let connection = HTTPConnection(host: "127.0.0.1", port: port)
      continuation.resume(
        with: Result {
          let reply = try connection.send(method, path, body: body, headers: headers)
          return (reply.status, (try? JSON(parsing: reply.body)) ?? .null, reply.headers)
        })
    }
  }
}

private func lines(_ range: Range<Int>) -> [UInt8] {
  Array(
    range.map {
      "{\"event_id\":\"e\($0)\",\"user_id\":\"u\($0 % 9)\",\"item_id\":\"i\($0 % 5)\",\"label\":1,"
        + "\"created_at\":\(1_700_000_000_000 + $0)}\n"
    }.joined().utf8)
}

@Suite struct `Inserts over HTTP` {
  private func withEvents(
    _ body: (HTTPClient, RiffleDatabase) async throws -> Void
  ) async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, maximumBodyBytes: 1 << 18, trains: false) {
        client, database in
        _ = try await client.expect("POST", "/v2/tables", SmallWorld.tables[1])
        try await body(client, database)
      }
    }
  }

  private let jsonl = ["content-type": "application/x-ndjson"]

  @Test func `of lines may be longer than a body may`() async throws {
    try await withEvents { client, database in
      var body = lines(0..<30_000)
      body += Array("not json\n".utf8)
      #expect(body.count > 1 << 20)
      let (status, answer, _) = try await send(
        client, "POST", "/v2/tables/events/insert", body, jsonl)
      #expect(status == 200)
      #expect(answer["accepted"] == 30_000 && answer["dead_letters"] == 1)
      #expect(answer["problems"]?.array?.first?["place"]?.string?.hasPrefix("line 30001") == true)
      #expect(answer["as_of"]?.int == 30_000)
      #expect(try database.table(named: "events").rowCount == 30_000)
    }
  }

  @Test func `of separated values and of gzip go in`() async throws {
    try await withEvents { client, database in
      let csv =
        "event_id,user_id,item_id,label,created_at\na,u1,i1,1,2026-01-05T10:00:00Z\n"
        + "b,u1,i2,x,2026-01-05T10:00:01Z\n"
      let (status, answer, _) = try await send(
        client, "POST", "/v2/tables/events/insert", Array(csv.utf8), ["content-type": "text/csv"])
      #expect(status == 200 && answer["accepted"] == 1 && answer["dead_letters"] == 1)
      // `{"event_id":"z","user_id":"u","item_id":"i"}\n`, packed by gzip.
      let packed = Base64.decode(Self.packedLine) ?? []
      for _ in 0..<2 {
        let (status, answer, _) = try await send(
          client, "POST", "/v2/tables/events/insert", packed,
          ["content-type": "application/x-ndjson", "content-encoding": "gzip"])
        #expect(status == 200 && answer["accepted"] == 1)
      }
      #expect(try database.table(named: "events").rowCount == 2)
      let (bad, problem, _) = try await send(
        client, "POST", "/v2/tables/events/insert", Array(packed.dropLast(4)),
        ["content-type": "application/json", "content-encoding": "gzip"])
      #expect(bad == 400 && problem["type"] == "invalid_gzip")
      let (unknown, _, headers) = try await send(
        client, "POST", "/v2/tables/events/insert", packed, ["content-encoding": "br"])
      #expect(unknown == 415 && headers["accept-encoding"] == "gzip")
    }
  }

  private static let packedLine = """
    H4sIAAAAAAACA6tWSi1LzSuJz0xRslKqUtJRKi1OLYLwSoG8zJLUXAgvU6mWCwC6a5hlLQAAAA==
    """
  /// A megabyte of spaces.
  private static let bomb = """
    H4sIAAAAAAACA+3BMQEAAADCoCrrn9IQvkABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHwGpwID8QAAEAA=
    """

  @Test func `that unpack to too much are refused`() async throws {
    try await withEvents { client, _ in
      let (status, problem, _) = try await send(
        client, "POST", "/v2/tables/events/insert", Base64.decode(Self.bomb) ?? [],
        ["content-encoding": "gzip"])
      #expect(status == 413 && problem["type"] == "unpacked_too_large")
    }
  }

  @Test func `with a known key are answered as the first time`() async throws {
    try await withEvents { client, database in
      let body = lines(0..<20_000)
      let headers = ["content-type": "application/x-ndjson", "idempotency-key": "k1"]
      let (_, first, _) = try await send(
        client, "POST", "/v2/tables/events/insert", body, headers)
      let (_, second, _) = try await send(
        client, "POST", "/v2/tables/events/insert", body, headers)
      #expect(first["accepted"] == 20_000 && second["accepted"] == 20_000)
      #expect(first["repeated"] == nil && second["repeated"] == true)
      #expect(first["as_of"] == second["as_of"])
      #expect(database.through == LogPosition(20_000))
      let (status, problem, _) = try await send(
        client, "POST", "/v2/tables/events/insert", lines(1..<10), headers)
      #expect(status == 409 && problem["type"] == "idempotency_key_reused")
    }
  }

  @Test func `that break in the middle say how much is stored`() async throws {
    try await withEvents { client, database in
      let body = lines(0..<20_000) + [UInt8](repeating: 65, count: 9 << 20)
      let (status, problem, _) = try await send(
        client, "POST", "/v2/tables/events/insert", body, jsonl)
      #expect(status == 400)
      let stored = try database.table(named: "events").rowCount
      #expect(stored > 0)
      let note = problem["diagnostics"]?.array?.first?["notes"]?.array?.first?.string ?? ""
      #expect(note.hasPrefix("\(stored) rows before it are stored"), "\(note)")
    }
  }

  @Test func `can be answered with the next feed`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        for table in SmallWorld.tables { _ = try await client.expect("POST", "/v2/tables", table) }
        _ = try await client.expect(
          "POST", "/v2/tables/items/insert", ["data": .array(SmallWorld.itemRows)])
        let engine = SmallWorld.engine.replacing(
          "similarity(embedding_ref='taste', encoder='precomputed_user',\n", with: "items\n"
        ).replacing("input_user_id=$user_id, limit=50)\n", with: "\n").replacing(
          "ORDER BY score(expression='sasrec', input_user_id=$user_id)\n", with: "\n")
        let reply = try await client.send(
          "POST", "/v2/engines", body: Array(engine.utf8), contentType: "application/yaml")
        try #require(reply.status == 200, "\(String(decoding: reply.body, as: UTF8.self))")
        let answer = try await client.expect(
          "POST", "/v2/tables/events/insert?returning=feed&param.n=30",
          ["data": [SmallWorld.event(user: "u1", item: 3, time: 1)]])
        let ids = answer["returning"]?.ids ?? []
        #expect(ids.count == 29 && !ids.contains("i3"))
        #expect(answer["returning"]?["as_of"] == answer["as_of"])
        let (status, problem) = try await client.send(
          "POST", "/v2/tables/events/insert?returning=fead", json: ["data": []])
        #expect(status == 404 && problem?["type"] == "unknown_query")
        // The token of an insert can be asked for; one that is not there yet cannot be had.
        let text: JSON = .string("SELECT topic FROM items LIMIT 1")
        _ = try await client.expect(
          "POST", "/v2/engines/feed/query",
          ["query": text, "at_least": answer["as_of"] ?? .null])
        let late = try await client.send(
          "POST", "/v2/engines/feed/query",
          body: (["query": text, "at_least": 99_999] as JSON).utf8)
        #expect(late.status == 503 && late.headers["retry-after"] == "1")
      }
    }
  }

  @Test func `show in metrics and on the table`() async throws {
    try await withEvents { client, _ in
      _ = try await client.send(
        "POST", "/v2/tables/events/insert",
        json: ["data": [["event_id": "a", "devise": 1], ["event_id": "b"]]])
      let metrics = try await client.send("GET", "/metrics")
      let text = String(decoding: metrics.body, as: UTF8.self)
      #expect(metrics.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
      #expect(text.contains("riffle_rows_accepted_total{table=\"events\"} 1\n"))
      #expect(
        text.contains(
          "riffle_dead_letters{table=\"events\",source=\"http\",code=\"unknown_column\"} 1\n"))
      #expect(text.contains("kind=\"new_column\",column=\"devise\"} 1\n"))
      let table = try await client.expect("GET", "/v2/tables/events")
      #expect(table["dead_letter_count"] == 1)
      #expect(table["warning_message"]?.string?.contains("`devise`") == true)
      _ = try await client.expect("DELETE", "/v2/tables/events/alerts")
      #expect(try await client.expect("GET", "/v2/alerts")["alerts"] == [])
    }
  }

  @Test func `that did not fit can be mended and replayed`() async throws {
    try await withEvents { client, _ in
      _ = try await client.send(
        "POST", "/v2/tables/events/insert",
        json: ["data": [["event_id": "a", "device": "tv"], ["event_id": "b", "label": "x"]]])
      let list = try await client.expect("GET", "/v2/dead-letters?table=events&limit=1")
      #expect(list["dead_letters"]?.array?.count == 1)
      let id = try #require(list["next_after"]?.int)
      let letter = try await client.expect("GET", "/v2/dead-letters/\(id)")
      #expect(letter["raw"] == #"{"event_id":"a","device":"tv"}"#)
      let changed = try await client.send(
        "PATCH", "/v2/tables", json: ["name": "events", "column_schema": ["device": "String"]])
      #expect(changed.status == 200)
      let replay = try await client.expect("POST", "/v2/dead-letters/replay?table=events")
      #expect(replay["mended"] == 1 && replay["remaining"] == 1)
      let counts = try await client.expect("GET", "/v2/dead-letters/counts")
      #expect(counts["total"] == 1)
      let (status, problem) = try await client.send("DELETE", "/v2/dead-letters", json: [:])
      #expect(status == 422 && problem?["type"] == "missing_parameter")
      let (wrong, hint) = try await client.send("GET", "/v2/dead-letters?tabel=events", json: [:])
      #expect(wrong == 422)
      #expect(hint?["diagnostics"]?.array?.first?["help"] == "Did you mean `table`?")
      _ = try await client.expect("DELETE", "/v2/dead-letters?code=type_mismatch")
      #expect(try await client.expect("GET", "/v2/dead-letters/counts")["total"] == 0)
    }
  }
}
