import Domain
import Engine
import Foundation
import HTTPAPI
import Testing

/// Sources over the real server: declared, watched and paused by REST, fed by files and by the libraries
/// and servers that teams use.
@Suite struct `Sources over HTTP` {
  private static let table: JSON = [
    "name": "events",
    "column_schema": [
      "event_id": "String", "user_id": "String", "item_id": "String", "ratio": "Double",
      "created_at": "DateTime", "kind": "String",
    ],
  ]

  /// How often each id stands in the table.
  private func ids(_ database: RiffleDatabase) throws -> [String] {
    var ids: [String] = []
    try database.rows(of: "events") { rows in
      for row in rows { if case .string(let id) = row.values[0] { ids.append(id) } }
    }
    return ids
  }

  private func state(_ client: HTTPClient, _ name: String) async throws -> JSON {
    try await client.expect("GET", "/v2/sources/\(name)")
  }

  @Test func `are declared in YAML, read, paused, changed and deleted`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, database in
        await database.startSources()
        _ = try await client.expect("POST", "/v2/tables", Self.table)
        let file = directory + "/events.jsonl"
        func write(_ range: Range<Int>) throws {
          let lines = range.map { "{\"id\":\"e\($0)\",\"u\":\"u1\",\"kind\":\"view\"}\n" }.joined()
          let handle = try #require(FileHandle(forWritingAtPath: file))
          try handle.seekToEnd()
          try handle.write(contentsOf: Data(lines.utf8))
          try handle.close()
        }
        _ = FileManager.default.createFile(atPath: file, contents: nil)
        try write(0..<3)
        let yaml = """
          name: log
          type: file
          path: \(file)
          table: events
          poll_seconds: 0.05
          mapping: {event_id: id, user_id: u, kind: kind}
          """
        let made = try await client.send(
          "POST", "/v2/sources", body: Array(yaml.utf8), contentType: "application/yaml")
        #expect(made.status == 200, "\(String(decoding: made.body, as: UTF8.self))")
        while try ids(database).count < 3 { await Task.yield() }
        _ = try await client.expect("POST", "/v2/sources/log/pause")
        #expect(try await state(client, "log")["state"] == "paused")
        try write(3..<5)
        #expect(try ids(database).count == 3)
        _ = try await client.expect("POST", "/v2/sources/log/resume")
        while try ids(database).count < 5 { await Task.yield() }
        // A change goes on where the source was.
        let changed = try await client.send(
          "PATCH", "/v2/sources", body: Array((yaml + "\nbatch_size: 1").utf8),
          contentType: "application/yaml")
        #expect(changed.status == 200)
        try write(5..<9)
        while try ids(database).count < 9 { await Task.yield() }
        #expect(try ids(database) == (0..<9).map { "e\($0)" })
        let line = try await state(client, "log")["status_line"]?.string ?? ""
        #expect(line.hasPrefix("running: 4 rows"), "\(line)")
        let metrics = String(decoding: try await client.send("GET", "/metrics").body, as: UTF8.self)
        #expect(
          metrics.contains(
            "riffle_source_rows_total{source=\"log\",type=\"file\",table=\"events\"} 4\n"))
        #expect(try await client.send("DELETE", "/v2/tables/events", json: .null).status == 409)
        #expect(try await client.send("POST", "/v2/sources/lgo/pause", json: .null).status == 404)
        _ = try await client.expect("DELETE", "/v2/sources/log")
        #expect(try await client.expect("GET", "/v2/sources")["sources"] == [])
      }
    }
  }

  @Test func `keep their place, their pause and their dead letters over a restart`() async throws {
    try await withTemporaryDirectory { directory in
      let file = directory + "/events.csv"
      try Data("id,ratio\na,0.5\nb,much\nc\nd,1\n".utf8).write(to: URL(fileURLWithPath: file))
      try await withServer(directory, trains: false) { client, database in
        await database.startSources()
        _ = try await client.expect("POST", "/v2/tables", Self.table)
        _ = try await client.expect(
          "POST", "/v2/sources",
          [
            "name": "csv", "type": "file", "path": .string(file), "table": "events",
            "poll_seconds": 0.05, "mapping": ["event_id": "id", "ratio": "ratio"],
          ])
        while try ids(database).count < 2 { await Task.yield() }
        var status = try await state(client, "csv")
        while status["status"]?["dead_letters"] != 2 { status = try await state(client, "csv") }
        _ = try await client.expect("POST", "/v2/sources/csv/pause")
        await database.stopSources()
      }
      try await withServer(directory, trains: false) { client, database in
        await database.startSources()
        #expect(try await state(client, "csv")["state"] == "paused")
        _ = try await client.expect("POST", "/v2/sources/csv/resume")
        let handle = try #require(FileHandle(forWritingAtPath: file))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data("e,0\n".utf8))
        try handle.close()
        while try ids(database).count < 3 { await Task.yield() }
        #expect(try ids(database) == ["a", "d", "e"])
        await database.stopSources()
      }
    }
  }

  @Test func `are refused with all that is wrong, and never show a secret`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, database in
        _ = try await client.expect("POST", "/v2/tables", Self.table)
        let refused = try await client.send(
          "POST", "/v2/sources",
          json: [
            "name": "x", "type": "kinesis", "table": "events", "stream_nam": "s",
            "aws_access_key_id": "AKID", "mapping": ["usr_id": "u"],
          ])
        #expect(refused.status == 422)
        let text = refused.json?.text ?? ""
        for word in ["stream_nam", "aws_region", "aws_secret_access_key"] {
          #expect(text.contains(word), "\(word) in \(text)")
        }
        let column = try await client.send(
          "POST", "/v2/sources",
          json: [
            "name": "x", "type": "segment", "table": "events", "write_key": "k",
            "mapping": ["usr_id": "userId"],
          ])
        #expect(column.json?.text.contains("Did you mean `user_id`?") == true)
        // A table of a connector's schema type makes both.
        _ = try await client.expect(
          "POST", "/v2/tables",
          ["name": "app", "schema_type": "SEGMENT", "write_key": "s3cret-word"])
        let shown = try await state(client, "app")
        #expect(!shown.text.contains("s3cret") && shown["config"]?["write_key"] == "***")
        #expect(shown["warning_message"]?.string?.contains("write_key") == true)
        #expect(
          try await client.expect("GET", "/v2/tables/app")["unique_keys"] == ["message_id"])
      }
    }
  }

  // MARK: peers

  @Test(
    .enabled(
      if: `The published client`.python != nil,
      "Segment's library is not installed: run Tests/Clients/install.sh"))
  func `take each event of Segment's own library once, over refusals and lost answers`()
    async throws
  {
    let python = try #require(`The published client`.python)
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, database in
        await database.startSources()
        _ = try await client.expect("POST", "/v2/tables", Self.table)
        _ = try await client.expect(
          "POST", "/v2/sources",
          [
            "name": "app", "type": "segment", "table": "events", "write_key": "wk-1",
            "mapping": [
              "event_id": "messageId", "user_id": ["userId", "anonymousId"],
              "item_id": "properties.video_id", "ratio": "properties.watch_ratio",
              "created_at": "timestamp", "kind": "type",
            ],
          ])
        // The server itself refuses with 503 as well, until the pause ends.
        _ = try await client.expect("POST", "/v2/sources/app/pause")
        async let run = PeerProcess.run(
          python, ["segment_peer.py", client.url, "wk-1", "1000"])
        while try await state(client, "app")["status"]?["errors"]?.int ?? 0 == 0 {}
        _ = try await client.expect("POST", "/v2/sources/app/resume")
        let (status, output) = try await run
        #expect(status == 0, "\(output)")
        let stored = try ids(database)
        #expect(stored.count == 1001)
        #expect(Set(stored) == Set((0..<1000).map { "message-\($0)" } + ["identify-1"]))
        let app = try await state(client, "app")
        #expect(app["status"]?["duplicates"]?.int ?? 0 > 0, "an answer was lost and repeated")
        #expect(app["status"]?["dead_letters"] == 0)
      }
    }
  }

  @Test(
    .enabled(
      if: `The published client`.python != nil,
      "moto is not installed: run Tests/Clients/install.sh"))
  func `read each record of Kinesis once, over splits and merges, with signatures checked`()
    async throws
  {
    let python = try #require(`The published client`.python)
    let peer = try await PeerProcess.start(python, ["kinesis_peer.py", "300"])
    defer { peer.end() }
    let facts = try await peer.line()
    try await withTemporaryDirectory { directory in
      func source(_ name: String, secret: JSON?) -> JSON {
        [
          "name": .string(name), "type": "kinesis", "table": "events", "stream_name": "clicks",
          "aws_region": "eu-central-1", "endpoint": facts["endpoint"] ?? .null,
          "aws_access_key_id": facts["key"] ?? .null, "aws_secret_access_key": secret ?? .null,
          "poll_seconds": 0.05, "batch_size": 40,
          "mapping": ["event_id": "id", "user_id": "user", "kind": "$shard"],
        ]
      }
      try await withServer(directory, trains: false) { client, database in
        await database.startSources()
        _ = try await client.expect("POST", "/v2/tables", Self.table)
        _ = try await client.expect(
          "POST", "/v2/sources", source("wrong", secret: "not-the-secret-at-all"))
        var wrong = try await state(client, "wrong")
        while wrong["state"] != "backing_off" { wrong = try await state(client, "wrong") }
        #expect(wrong["status"]?["last_error"]?["code"] == "wrong_credentials", "\(wrong.text)")
        #expect(!wrong.text.contains("not-the-secret"))
        _ = try await client.expect("DELETE", "/v2/sources/wrong")
        _ = try await client.expect(
          "POST", "/v2/sources", source("right", secret: facts["secret"]))
        while try ids(database).count < 100 { await Task.yield() }
        // What is under way is let go, and taken up by the next server.
        await database.stopSources()
      }
      try await withServer(directory, trains: false) { client, database in
        await database.startSources()
        for (step, total) in [("split", 600), ("merge", 900)] {
          peer.write(step)
          #expect(try await peer.line()["written"]?.int == Int64(total))
        }
        while try ids(database).count < 900 { await Task.yield() }
        let stored = try ids(database)
        #expect(stored.count == 900 && Set(stored).count == 900)
        var shards: Set<String> = []
        try database.rows(of: "events") { rows in
          for row in rows { if case .string(let shard) = row.values[5] { shards.insert(shard) } }
        }
        // moto goes on writing into parents that are closed; the children are read and are empty.
        #expect(shards.count == 2, "\(shards)")
        await database.stopSources()
      }
    }
  }
}
