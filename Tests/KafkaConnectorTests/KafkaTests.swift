#if Kafka
  import Connectors
  import Domain
  import Engine
  import Foundation
  import HTTPAPI
  import KafkaConnector
  import Logging
  import Synchronization
  import Testing

  /// Goal: each message that `kcat` has produced is one row, whatever happens to the consumer. The table
  /// has no unique key, so that a message that is read twice shows.
  @Suite(
    .enabled(
      if: Kcat.path != nil, "kcat is not installed: apt-get install kcat, or brew install kcat"))
  struct `A source of Kafka` {
    private static let table: JSON = [
      "name": "clicks",
      "column_schema": [
        "id": "String", "kind": "String", "user_id": "String", "offset": "Int64",
      ],
    ]

    private static func source(_ broker: MockBroker, batchSize: Int = 50) -> JSON {
      [
        "name": "clicks", "type": "kafka", "table": "clicks", "topic": "clicks",
        "bootstrap_server": .string(broker.servers), "batch_size": .int(Int64(batchSize)),
        "session_timeout_ms": 6000, "key_column": "user_id",
        "mapping": ["id": "id", "kind": "kind", "offset": "$offset"],
      ]
    }

    private func withDirectory<R>(_ body: (String) async throws -> R) async throws -> R {
      let path = NSTemporaryDirectory() + "riffle-kafka-" + UUID().uuidString
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: path) }
      return try await body(path)
    }

    private func open(_ path: String) throws -> RiffleDatabase {
      var options = RiffleDatabase.Options()
      options.readerFactories = [
        .kafka: { definition in
          guard case .kafka(let settings) = definition.settings else {
            throw Diagnostic(code: "kind", "another kind")
          }
          return KafkaReader(definition, settings)
        }
      ]
      return try RiffleDatabase(
        opening: path, options: options,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func ids(_ database: RiffleDatabase) throws -> [Int] {
      var ids: [Int] = []
      try database.rows(of: "clicks") { rows in
        for row in rows {
          if case .string(let id) = row.values[0] { ids.append(Int(id) ?? -1) }
        }
      }
      return ids.sorted()
    }

    private func rowCount(_ client: HTTPClient) async throws -> Int {
      let (_, answer) = try await client.send("GET", "/v2/tables/clicks", json: .null)
      return Int(answer?["row_count"]?.int ?? 0)
    }

    /// Asks until the table has so many rows, and gives up after about five minutes.
    private func untilRows(
      _ count: Int, _ client: HTTPClient, _ comment: Comment,
      at place: SourceLocation = #_sourceLocation
    ) async throws {
      var found = 0
      for _ in 0..<6000 {
        found = try await rowCount(client)
        if found >= count { return }
        try await Task.sleep(for: .milliseconds(50))
      }
      let (_, source) = try await client.send("GET", "/v2/sources/clicks", json: .null)
      try #require(
        found >= count, "\(comment): \(source?["status_line"]?.string ?? "")", sourceLocation: place
      )
    }

    @Test func `gives each message once, though the consumer is killed in the middle`() async throws
    {
      let broker = try MockBroker()
      try broker.makeTopic("clicks", partitions: 4)
      try await withDirectory { directory in
        let path = directory + "/data"
        let first = try await RiffleProcess.start(path)
        _ = try await first.client.send("POST", "/v2/tables", json: Self.table)
        try await Kcat.produce(0..<1000, to: "clicks", broker)
        let made = try await first.client.send(
          "POST", "/v2/sources", json: Self.source(broker))
        try #require(made.status == 200, "\(made.json?.text ?? "")")
        // Messages come in before, while and after it is killed.
        let isKilled = Atomic(false)
        async let produced = {
          var count = 1000
          repeat {
            try await Kcat.produce(count..<(count + 200), to: "clicks", broker)
            count += 200
          } while !isKilled.load(ordering: .acquiring)
          try await Kcat.produce(count..<(count + 200), to: "clicks", broker)
          return count + 200
        }()
        try await untilRows(400, first.client, "the first rows")
        await first.end(by: SIGKILL)
        isKilled.store(true, ordering: .releasing)
        let count = try await produced
        let database = try open(path)
        let stored = try ids(database)
        database.close()
        #expect(stored.count >= 400 && Set(stored).count == stored.count && stored.count < count)
        let second = try await RiffleProcess.start(path)
        try await Kcat.produce(count..<(count + 1000), to: "clicks", broker)
        try await untilRows(count + 1000, second.client, "after the restart")
        let (_, answer) = try await second.client.send("GET", "/v2/sources/clicks", json: .null)
        #expect(answer?["state"] == "running")
        await second.end(by: SIGTERM)
        let after = try open(path)
        defer { after.close() }
        #expect(try ids(after) == Array(0..<(count + 1000)))
      }
    }

    @Test func `goes on where its rows end when the group's partitions come back`() async throws {
      let broker = try MockBroker()
      try broker.makeTopic("clicks", partitions: 4)
      try await withDirectory { directory in
        let database = try open(directory + "/data")
        defer { database.close() }
        _ = try await database.createTable(Self.table)
        await database.startSources()
        _ = try await database.createSource(Self.source(broker))
        try await Kcat.produce(0..<400, to: "clicks", broker)
        while try ids(database).count < 400 { await Task.yield() }
        // Another member takes half of the partitions and what comes in there.
        let other = try Kcat.join("riffle-clicks", "clicks", broker)
        try await Kcat.produce(400..<800, to: "clicks", broker)
        while try ids(database).count < 500 { await Task.yield() }
        kill(other.processIdentifier, SIGKILL)
        try await Kcat.produce(800..<1200, to: "clicks", broker)
        while try ids(database).count < 1200 { await Task.yield() }
        await database.stopSources()
        #expect(try ids(database) == Array(0..<1200))
        #expect(try database.source(named: "clicks").status.lag.records == 0)
      }
    }

    @Test(
      .enabled(
        if: NetworkCut.isAvailable,
        "the network is not cut: it takes root, network namespaces and socat"))
    func `gives each message once, though the network is cut for a while`() async throws {
      let broker = try MockBroker()
      try broker.makeTopic("clicks", partitions: 4)
      let ports = broker.servers.split(separator: ",").compactMap {
        $0.split(separator: ":").last.flatMap { Int($0) }
      }
      let network = try #require(NetworkCut(ports: ports))
      defer { network.end() }
      try await withDirectory { directory in
        let path = directory + "/data"
        let server = try await RiffleProcess.start(
          path, in: (network.name, network.innerAddress))
        _ = try await server.client.send("POST", "/v2/tables", json: Self.table)
        var members = (Self.source(broker).object ?? []).filter { $0.name != "session_timeout_ms" }
        // The brokers let a group's first member wait three seconds for others, and forget one whose
        // session is over by then, with its request.
        members.append(.init("session_timeout_ms", 4000))
        // The library's own patience with a connection that does not answer is a minute.
        members.append(
          .init(
            "properties",
            [
              "socket.timeout.ms": 2000, "reconnect.backoff.max.ms": 500,
              "heartbeat.interval.ms": 500,
            ]))
        let made = try await server.client.send("POST", "/v2/sources", json: .object(members))
        try #require(made.status == 200, "\(made.json?.text ?? "")")
        try await Kcat.produce(0..<1000, to: "clicks", broker)
        try await untilRows(1000, server.client, "before the cut")
        network.cut()
        try await Kcat.produce(1000..<1700, to: "clicks", broker)
        // The length of the cut: longer than the group waits for a member.
        try await Task.sleep(for: .seconds(6))
        network.heal()
        try await Kcat.produce(1700..<2000, to: "clicks", broker)
        try await untilRows(2000, server.client, "after the cut")
        await server.end(by: SIGTERM)
        let database = try open(path)
        defer { database.close() }
        #expect(try ids(database) == Array(0..<2000))
      }
    }

    @Test func `leaves the group while records wait that nobody has asked for`() async throws {
      let broker = try MockBroker(brokers: 1)
      try broker.makeTopic("clicks", partitions: 4)
      try await Kcat.produce(0..<4000, to: "clicks", broker)
      let definition = try SourceDefinition(Self.source(broker, batchSize: 1))
      guard case .kafka(let settings) = definition.settings else { return }
      let reader = KafkaReader(definition, settings)
      try await reader.open(at: [:])
      var batch: SourceBatch?
      for _ in 0..<200 where batch == nil { batch = try await reader.next() }
      #expect(batch != nil)
      // The library has fetched more; what it has is dropped with the reader.
      await reader.close()
    }

    @Test func `says what is wrong with its address, its topic and its settings`() async throws {
      let broker = try MockBroker(brokers: 1)
      func code(_ changes: JSON) async throws -> String? {
        var members = (Self.source(broker).object ?? []).filter { changes[$0.name] == nil }
        members += changes.object ?? []
        let definition = try SourceDefinition(.object(members))
        guard case .kafka(let settings) = definition.settings else { return nil }
        let reader = KafkaReader(definition, settings)
        do {
          try await reader.open(at: [:])
          await reader.close()
          return nil
        } catch {
          await reader.close()
          return (error as? Diagnostic)?.code
        }
      }
      #expect(try await code(["topic": "nothing-like-it"]) == nil, "the broker makes topics")
      #expect(try await code(["bootstrap_server": "127.0.0.1:1"]) == "kafka_unavailable")
      #expect(
        try await code(["properties": ["session.timeout": "x"]]) == "invalid_kafka_settings")
      #expect(
        try await code([
          "username": "u", "password": "file:/does/not/exist",
          "security_protocol": "sasl_plaintext",
        ]) == "missing_secret")
    }
  }
#endif
