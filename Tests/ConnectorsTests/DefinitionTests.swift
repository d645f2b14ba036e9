import Connectors
import Domain
import Testing

@Suite struct `A source's definition` {
  static let kafka: JSON = [
    "name": "clicks", "type": "kafka", "table": "events", "topic": "clicks",
    "bootstrap_server": "broker:9092", "username": "reader", "password": "s3cret-word",
  ]

  @Test func `tells all its problems at once`() throws {
    do throws(Diagnostics) {
      _ = try SourceDefinition([
        "name": "my clicks", "type": "kafka", "table": "events", "bootstrap_sever": "b:9092",
        "batch_size": 0, "mapping": ["user_id": "a..b", "item_id": ["pth": "x"]],
        "filter": [["feild": "event", "in": "view"]],
      ])
      Issue.record("it was taken")
    } catch {
      let codes = error.all.map(\.code)
      #expect(
        Set(codes) == [
          "invalid_source_name", "missing_key", "unknown_key", "wrong_type", "invalid_path",
        ])
      let unknown = error.all.filter { $0.code == "unknown_key" }
      #expect(unknown.contains { $0.help == "Did you mean `bootstrap_server`?" })
      #expect(unknown.contains { $0.place == "mapping.item_id.pth" })
      #expect(unknown.contains { $0.place == "filter[0].feild" })
    }
  }

  @Test func `names the types where it has none of them`() throws {
    do throws(Diagnostics) {
      _ = try SourceDefinition(["name": "a", "type": "kafak"])
      Issue.record("it was taken")
    } catch {
      #expect(error.all.map(\.code) == ["unknown_source_type"])
      #expect(error.all[0].help == "Did you mean `kafka`?")
    }
  }

  @Test func `is that of a table where it has the table's keys`() throws {
    let source = try SourceDefinition([
      "name": "events", "schema_type": "KAFKA", "topic": "t", "bootstrap_server": "b:9092",
      "username": "u", "password": "${P}", "column_schema": ["event_id": "String"],
      "unique_keys": ["event_id"],
    ])
    #expect(source.table == "events" && source.kind == .kafka)
    #expect(source.tableDefinition?["unique_keys"] == ["event_id"])
    #expect(source.literalSecrets.isEmpty)
    guard case .kafka(let kafka) = source.settings else { throw Diagnostic(code: "kind", "kind") }
    #expect(kafka.securityProtocol == "sasl_ssl" && kafka.group == "riffle-events")
  }

  @Test func `never shows a secret`() throws {
    let source = try SourceDefinition(Self.kafka)
    #expect(source.literalSecrets == ["password"])
    #expect(source.displayed["password"] == "***")
    #expect(source.displayed["topic"] == "clicks")
    let words = "\(Secret("s3cret-word")) \(String(reflecting: Secret("s3cret-word")))"
    #expect(!words.contains("s3cret"))
    #expect("\(Secret("${KAFKA_PASSWORD}"))" == "${KAFKA_PASSWORD}")
    let problem = source.diagnostic(
      of: Diagnostic(code: "x", "login s3cret-word failed", help: "s3cret-word"))
    #expect(problem.message == "login *** failed" && problem.help == "***")
  }

  @Test func `finds secrets in the environment and in files, or says where it looked`() throws {
    #expect(try Secret("${A}").value(at: "password", environment: ["A": "x"]) == "x")
    #expect(throws: Diagnostic.self) { try Secret("${A}").value(at: "password", environment: [:]) }
    do throws(Diagnostic) {
      _ = try Secret("file:/does/not/exist").value(at: "password")
    } catch {
      #expect(error.code == "missing_secret" && error.place == "password")
      #expect(error.message == "The file `/does/not/exist` cannot be read.")
    }
  }

  @Test func `refuses what exactly-once rests on`() throws {
    var members = Self.kafka.object ?? []
    members.append(.init("properties", ["enable.auto.commit": "true"]))
    do throws(Diagnostics) {
      _ = try SourceDefinition(.object(members))
      Issue.record("it was taken")
    } catch { #expect(error.all.map(\.code) == ["reserved_property"]) }
  }
}

@Suite struct `A mapping` {
  static let record: JSON = [
    "userId": nil, "anonymousId": "a1", "event": "Video Liked", "ts": 1_767_607_200,
    "properties": [
      "video_id": "v9", "a.b": 7, "tags": ["x", "y"], "items": [["id": "i0"], ["id": "i1"]],
    ],
  ]

  private func row(_ mapping: JSON, extras: [JSON.Member] = []) throws -> JSON {
    let source = try SourceDefinition([
      "name": "s", "type": "file", "path": "/tmp/x", "table": "t", "mapping": mapping,
    ])
    return source.mapping?.row(of: Self.record, extras: extras) ?? .null
  }

  @Test func `takes values by paths, constants, translations and units`() throws {
    let row = try row(
      [
        "user_id": ["userId", "anonymousId"], "item_id": "properties.items[1].id",
        "dotted": #"properties."a.b""#, "tags": "properties.tags", "nothing": "properties.none",
        "platform": ["value": "web"],
        "event": ["path": "event", "values": ["Video Liked": "like"], "default": "other"],
        "label": ["path": "properties.none", "default": 0],
        "created_at": ["path": "ts", "unit": "seconds"], "partition": "$partition",
      ], extras: [.init("$partition", 3)])
    #expect(
      row == [
        "user_id": "a1", "item_id": "i1", "dotted": 7, "tags": ["x", "y"], "platform": "web",
        "event": "like", "label": 0, "created_at": 1_767_607_200_000, "partition": 3,
      ])
  }

  @Test(
    arguments: [
      ("properties.video_id", "v9"), ("properties.items[9]", nil), ("event.more", nil),
      ("userId", nil), ("properties.items[0].id", "i0"),
    ] as [(String, String?)])
  func `has nothing where a path leads nowhere`(path: String, value: String?) throws {
    #expect(
      try RecordPath(parsing: path).value(in: Self.record) == value.map { JSON.string($0) })
  }

  @Test(arguments: runSeeds)
  func `reads or refuses any text, and finds a value or none in any record`(seed: UInt64) {
    var generator = Generator(state: seed)
    let alphabet = Array("abu.[]\"0123$ é")
    func random(_ depth: Int) -> JSON {
      switch Int.random(in: 0..<(depth > 0 ? 6 : 4), using: &generator) {
      case 0: .null
      case 1: .int(Int64.random(in: .min ... .max, using: &generator))
      case 2: .double(Double.random(in: -1e300...1e300, using: &generator))
      case 3: .string(String((0..<3).compactMap { _ in alphabet.randomElement(using: &generator) }))
      case 4: .array((0..<3).map { _ in random(depth - 1) })
      default:
        .object(
          ["a", "b", "u", "ts"].map { JSON.Member($0, random(depth - 1)) })
      }
    }
    for _ in 0..<3000 {
      let text = String(
        (0..<Int.random(in: 0...8, using: &generator)).compactMap { _ in
          alphabet.randomElement(using: &generator)
        })
      guard let path = try? RecordPath(parsing: text) else { continue }
      #expect(path.description == text, "seed \(seed)")
      _ = path.value(in: random(3), extras: [.init("$", random(1))])
    }
    // Definitions of anything are taken or refused, and rows of anything are objects.
    for _ in 0..<500 {
      let definition: JSON = [
        "name": "s", "type": "file", "path": "/tmp/x", "mapping": random(3), "filter": random(3),
      ]
      guard let source = try? SourceDefinition(definition) else { continue }
      let record = random(3)
      _ = source.filter?.accepts(record)
      #expect(source.mapping?.row(of: record).object != nil || source.mapping == nil)
    }
    for unit in ["seconds", "milliseconds", "microseconds"] {
      let source = try? SourceDefinition([
        "name": "s", "type": "file", "path": "/tmp/x",
        "mapping": ["t": ["path": "ts", "unit": .string(unit)]],
      ])
      for _ in 0..<500 { _ = source?.mapping?.row(of: ["ts": random(1)]) }
    }
  }

  @Test(arguments: ["", ".", "a.", ".a", "a[", "a[x]", "a[-1]", #"a."b"#, "a[0]b", "[0]"])
  func `refuses a path that is none`(path: String) {
    #expect(throws: Diagnostic.self) { try RecordPath(parsing: path) }
  }
}

@Suite struct `A filter` {
  private func accepts(_ filter: JSON) throws -> Bool {
    let source = try SourceDefinition([
      "name": "s", "type": "file", "path": "/tmp/x", "table": "t", "filter": filter,
    ])
    return try #require(source.filter).accepts(`A mapping`.record)
  }

  @Test(
    arguments: [
      (["field": "event", "equals": "Video Liked"], true),
      (["field": "event", "in": ["view", "like"]], false),
      (["field": "properties.none", "in": ["view"]], false),
      (["field": "properties.none", "not_in": ["view"]], true),
      (["field": "userId", "exists": false], true),
      (["field": "ts", "at_least": 1_767_607_200, "below": 1_767_607_201], true),
      (["field": "ts", "above": 1_767_607_200], false),
      (["field": "event", "at_least": 3], false),
      (["field": "event", "starts_with": "Video"], true),
      (["field": "properties.tags", "contains": "y"], true),
      (["not": ["field": "event", "contains": "Video"]], false),
      (["any": [["field": "event", "equals": "x"], ["field": "anonymousId"]]], true),
      ([["field": "event"], ["field": "userId"]], false),
    ] as [(JSON, Bool)])
  func `passes what its conditions say`(filter: JSON, passes: Bool) throws {
    #expect(try accepts(filter) == passes)
  }
}
