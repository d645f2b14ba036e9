import Connectors
import Domain
import Gzip
import Synchronization
import Testing

@Suite struct `The tracking API` {
  static let settings: JSON = [
    "name": "app", "type": "segment", "table": "events", "write_key": "wk-12345",
    "shared_secret": "hush-hush", "remembered_messages": 1024,
  ]
  static let columns = ["event_id", "user_id", "event", "video_id", "created_at", "type"]

  struct Setup {
    var receiver: SegmentReceiver
    var endpoint: SegmentEndpoint { SegmentEndpoint([receiver]) }
  }

  private func open(
    _ sink: MemorySink, _ settings: JSON = `The tracking API`.settings, paused: Bool = false
  ) async throws -> Setup {
    let definition = try SourceDefinition(settings)
    guard case .segment(let segment) = definition.settings else {
      throw Diagnostic(code: "kind", "kind")
    }
    let receiver = SegmentReceiver(
      definition, segment, sink: sink, clock: FakeClock().clock, columns: { Self.columns })
    await receiver.open(paused: paused)
    return Setup(receiver: receiver)
  }

  private static let receivedAt = Timestamp(iso8601: "2026-01-05T10:00:10Z")

  private func request(
    _ path: [String], _ body: JSON, key: String? = "wk-12345", gzip: Bool = false
  ) throws -> SegmentEndpoint.Request {
    SegmentEndpoint.Request(
      path: path,
      authorization: key.map { "Basic \(Base64.encode(Array("\($0):".utf8)))" },
      contentEncoding: gzip ? "gzip" : nil,
      body: gzip ? Gzip.deflated(body.utf8) : body.utf8,
      receivedAt: try #require(Self.receivedAt))
  }

  private func code(_ body: () async throws -> Void) async -> String? {
    do {
      try await body()
      return nil
    } catch { return (error as? Diagnostic)?.code ?? "\(error)" }
  }

  private static func event(_ id: Int) -> JSON {
    [
      "type": "track", "messageId": .string("m\(id)"), "userId": "u1", "anonymousId": nil,
      "event": "Video Watched", "timestamp": "2026-01-05T10:00:00Z",
      "properties": ["videoId": "v9"],
    ]
  }

  @Test(arguments: ["track", "t", "identify", "page", "screen", "group", "alias"])
  func `takes each kind of event at its own path`(path: String) async throws {
    let sink = MemorySink()
    let setup = try await open(sink)
    try await setup.endpoint.answer(
      try request([path], ["messageId": "m", "anonymousId": "a7", "event": "Like"]))
    let row = try #require(sink.now.rows.first?.columns)
    #expect(row["type"] == .string(path == "t" ? "track" : path))
    #expect(row["event_id"] == "m" && row["user_id"] == "a7" && row["event"] == "Like")
    #expect(row["created_at"] == "2026-01-05T10:00:10Z")
  }

  @Test(arguments: [false, true])
  func `takes a batch, mends the sender's clock, and knows a repetition`(gzip: Bool) async throws {
    let sink = MemorySink()
    let setup = try await open(sink)
    let batch: JSON = [
      "batch": .array((0..<5).map(Self.event)), "sentAt": "2026-01-05T10:05:00Z",
      "writeKey": "wk-12345",
    ]
    // The key in the body is enough.
    let body = try request(["batch"], batch, key: gzip ? nil : "wk-12345", gzip: gzip)
    try await setup.endpoint.answer(body)
    try await setup.endpoint.answer(body)
    #expect(sink.values("event_id") == (0..<5).map { "m\($0)" })
    // Five minutes passed on a clock that is nearly five minutes ahead.
    #expect(sink.now.rows[0].columns["created_at"] == "2026-01-05T09:55:10Z")
    #expect(sink.now.rows[0].columns["video_id"] == "v9")
    #expect(setup.receiver.status.duplicateCount == 5)
  }

  @Test func `knows what was stored before a restart`() async throws {
    let sink = MemorySink()
    try await open(sink).endpoint.answer(
      try request(["batch"], ["batch": .array((0..<700).map(Self.event))]))
    // A second part of the ids goes to another slot.
    try await open(sink).endpoint.answer(
      try request(["batch"], ["batch": .array((600..<900).map(Self.event))]))
    let setup = try await open(sink)
    try await setup.endpoint.answer(
      try request(["batch"], ["batch": .array((0..<901).map(Self.event))]))
    #expect(sink.values("event_id") == (0..<901).map { "m\($0)" })
    #expect(setup.receiver.status.duplicateCount == 900)
  }

  @Test func `remembers no more than it says, in memory and on the disk`() async throws {
    let sink = MemorySink()
    let setup = try await open(sink)
    for round in 0..<60 {
      try await setup.endpoint.answer(
        try request(
          ["batch"], ["batch": .array((round * 100..<(round * 100 + 100)).map(Self.event))]))
    }
    #expect(sink.now.positions["app"]?.count ?? 0 <= 3)
    // The last 1,024 are known, also after a restart; the first are not.
    let restarted = try await open(sink)
    try await restarted.endpoint.answer(
      try request(["batch"], ["batch": .array((4976..<6000).map(Self.event))]))
    #expect(restarted.receiver.status.duplicateCount == 1024)
    try await restarted.endpoint.answer(try request(["track"], Self.event(0)))
    #expect(sink.now.rows.count == 6001)
  }

  @Test func `knows a repetition where the disk stored it and did not say so`() async throws {
    let sink = MemorySink(faults: [.lostAnswer])
    let setup = try await open(sink)
    let body = try request(["track"], Self.event(1))
    #expect(await code { try await setup.endpoint.answer(body) } == "disk_fault")
    try await setup.endpoint.answer(body)
    #expect(sink.values("event_id") == ["m1"])
  }

  @Test func `gives requests that come together to one delivery`() async throws {
    let sink = MemorySink()
    let setup = try await open(sink)
    let endpoint = setup.endpoint
    let requests = try (0..<200).map { try request(["track"], Self.event($0 / 2)) }
    await withTaskGroup(of: Void.self) { group in
      for request in requests { group.addTask { try? await endpoint.answer(request) } }
    }
    #expect(Set(sink.values("event_id")).count == 100 && sink.now.rows.count == 100)
  }

  @Test func `refuses strangers, broken bodies and what is packed too well`() async throws {
    let sink = MemorySink()
    let setup = try await open(sink)
    func answer(_ path: [String], _ body: JSON, key: String? = "wk-12345") async -> String? {
      await code { try await setup.endpoint.answer(try request(path, body, key: key)) }
    }
    #expect(await answer(["track"], Self.event(1), key: "wk-12346") == "unknown_write_key")
    #expect(await answer(["track"], Self.event(1), key: nil) == "unknown_write_key")
    #expect(await answer(["batch"], ["events": []]) == "invalid_body")
    #expect(await answer(["track"], [1], key: "wk-12345") == "invalid_body")
    var broken = try request(["track"], Self.event(1))
    broken.body = Array("{".utf8)
    #expect(await code { try await setup.endpoint.answer(broken) } == "invalid_json")
    var bomb = try request(["track"], Self.event(1))
    bomb.contentEncoding = "gzip"
    bomb.body = Gzip.deflated(
      [UInt8](repeating: 32, count: SegmentEndpoint.inflatedBytesAtMost + 1))
    #expect(bomb.body.count < 100_000)
    #expect(await code { try await setup.endpoint.answer(bomb) } == "body_too_large")
    #expect(sink.now.rows.isEmpty)
    // An event that is none does not fail the others.
    try await setup.endpoint.answer(try request(["batch"], ["batch": [3, Self.event(1)]]))
    #expect(sink.now.rows.count == 1 && sink.now.rejects.map(\.problem.code) == ["invalid_event"])
  }

  @Test func `asks senders to come back while it is paused or the log is full`() async throws {
    let full = Diagnostic(.overloaded, code: "too_many_waiting_rows", "Full.")
    let sink = MemorySink(faults: [.refused(full)])
    let setup = try await open(sink)
    let body = try request(["track"], Self.event(1))
    #expect(await code { try await setup.endpoint.answer(body) } == "too_many_waiting_rows")
    try await setup.endpoint.answer(body)
    setup.receiver.setPaused(true)
    #expect(await code { try await setup.endpoint.answer(body) } == "source_paused")
    #expect(sink.values("event_id") == ["m1"])
  }

  @Test func `checks the signatures of webhooks, over the event and over the whole`() async throws {
    let sink = MemorySink()
    let setup = try await open(sink)
    // Signatures by `openssl dgst -sha1 -hmac hush-hush`.
    let one = #"{"type":"track","messageId":"w1","userId":"u1","event":"Like"}"#
    let batch = "[\(one),{\"type\":\"track\",\"messageId\":\"w2\",\"userId\":\"u1\"}]"
    func answer(
      _ body: String, event: String? = nil, whole: String? = nil, at name: String = "app"
    ) async -> String? {
      await code {
        try await setup.endpoint.answer(
          SegmentEndpoint.Request(
            path: ["webhook", name], signature: event, wholeSignature: whole,
            body: Array(body.utf8), receivedAt: try #require(Self.receivedAt)))
      }
    }
    let ofOne = "8326d64bc629fdb2d9798671083e9233c4f7e320"
    let ofBatch = "97ee1d564bf942622b759123eb76fec44b71564b"
    #expect(await answer(one) == "invalid_signature")
    #expect(await answer(one, event: "00") == "invalid_signature")
    #expect(await answer(one + " ", event: ofOne) == "invalid_signature")
    #expect(await answer(one, event: ofOne, at: "other") == "unknown_webhook")
    #expect(await answer(one, event: ofOne.uppercased()) == nil)
    #expect(await answer(batch, whole: ofOne) == "invalid_signature")
    #expect(await answer(batch, whole: ofBatch) == nil)
    #expect(await answer(batch, event: ofOne) == nil)
    #expect(sink.values("event_id") == ["w1", "w2"])
  }

  @Test(
    arguments: [
      // RudderStack's libraries send originalTimestamp alone.
      (["originalTimestamp": "2026-01-05T10:00:00Z"], "2026-01-05T09:55:10Z"),
      // Segment's webhooks send what Segment has mended already.
      (
        ["originalTimestamp": "2020-01-01T00:00:00Z", "timestamp": "2026-01-05T09:00:00Z"],
        "2026-01-05T09:00:00Z"
      ),
      (["timestamp": "2026-01-05T10:00:00Z"], "2026-01-05T09:55:10Z"),
      (["timestamp": 1_767_607_200_000], "2026-01-05T09:55:10Z"),
      (["timestamp": "no time"], "no time"), (["timestamp": nil], "2026-01-05T10:00:10Z"),
    ] as [(JSON, String)])
  func `gives each event its time`(event: JSON, time: String) throws {
    let prepared = SegmentEvent.prepared(
      event, type: nil, sentAt: "2026-01-05T10:05:00Z", receivedAt: try #require(Self.receivedAt),
      isHistory: false)
    #expect(prepared["timestamp"] == .string(time))
  }

  @Test(arguments: runSeeds) func `answers any body with rows, rejects or a refusal`(seed: UInt64)
    async throws
  {
    var generator = Generator(state: seed)
    let sink = MemorySink()
    let setup = try await open(sink)
    let seeds: [JSON] = [
      ["batch": .array((0..<3).map(Self.event)), "sentAt": "2026-01-05T10:05:00Z"],
      Self.event(1),
    ]
    for _ in 0..<2000 {
      var body = seeds.randomElement(using: &generator)?.utf8 ?? []
      for _ in 0..<Int.random(in: 1...6, using: &generator) where !body.isEmpty {
        let at = Int.random(in: 0..<body.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: body[at] = UInt8.random(in: 0...255, using: &generator)
        case 1: body.remove(at: at)
        case 2: body.insert(contentsOf: body[at...].prefix(9), at: at)
        default: body[at] = "{}[]\",:0".utf8.randomElement(using: &generator) ?? 0
        }
      }
      let path = ["batch", "track", "import"].randomElement(using: &generator) ?? ""
      var request = try request([path], 1)
      request.body = Bool.random(using: &generator) ? body : Gzip.deflated(body)
      if request.body != body { request.contentEncoding = "gzip" }
      // Any refusal is one of ours; anything else fails the test.
      do { try await setup.endpoint.answer(request) } catch is Diagnostic {}
    }
  }
}
