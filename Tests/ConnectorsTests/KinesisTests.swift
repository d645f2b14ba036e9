import Connectors
import Domain
import Synchronization
import Testing

/// A stream of Kinesis as its documentation describes it, with what moto leaves out: iterators expire,
/// reads are throttled, and a closed shard ends without an iterator.
final class StubKinesis: HTTPTransport {
  struct Shard: Sendable {
    var id: String
    var parents: [String] = []
    var isClosed = false
    var records: [String] = []
  }

  struct Store: Sendable {
    var shards: [Shard] = []
    /// Names of errors that the next calls are answered with; nil goes well.
    var faults: [String?] = []
    var calls: [String] = []
    var readOrder: [String] = []
  }

  private let store: Mutex<Store>

  init(_ shards: [Shard]) { store = Mutex(Store(shards: shards)) }

  var now: Store { store.withLock { $0 } }
  func change(_ body: (inout Store) -> Void) { store.withLock { body(&$0) } }

  func send(_ call: HTTPCall) async throws -> HTTPAnswer {
    let action = String((call.headers["x-amz-target"] ?? "").split(separator: ".").last ?? "")
    let body = try JSON(parsing: call.body)
    #expect(call.headers["authorization"]?.contains("/eu-central-1/kinesis/") == true)
    return store.withLock { store in
      store.calls.append(action)
      if let fault = store.faults.isEmpty ? nil : store.faults.removeFirst() {
        let words: JSON = ["__type": .string("com.amazonaws#\(fault)"), "message": "no"]
        return HTTPAnswer(status: 400, body: words.utf8)
      }
      return HTTPAnswer(status: 200, body: Self.answer(action, body, &store).utf8)
    }
  }

  private static func answer(_ action: String, _ body: JSON, _ store: inout Store) -> JSON {
    switch action {
    case "ListShards":
      // One shard on each page.
      let at = body["NextToken"]?.string.flatMap { Int($0) } ?? 0
      guard at < store.shards.count else { return ["Shards": []] }
      let shard = store.shards[at]
      var range: JSON = ["StartingSequenceNumber": "0"]
      if shard.isClosed { range = ["StartingSequenceNumber": "0", "EndingSequenceNumber": "99"] }
      var members: [JSON.Member] = [
        .init("ShardId", .string(shard.id)), .init("SequenceNumberRange", range),
      ]
      for (name, parent) in zip(["ParentShardId", "AdjacentParentShardId"], shard.parents) {
        members.append(.init(name, .string(parent)))
      }
      return [
        "Shards": [.object(members)],
        "NextToken": at + 1 < store.shards.count ? .string(String(at + 1)) : .null,
      ]
    case "GetShardIterator":
      let after = body["StartingSequenceNumber"]?.string.flatMap { Int($0) } ?? -1
      let id = body["ShardId"]?.string ?? ""
      return ["ShardIterator": .string("\(id)@\(after + 1)")]
    case "GetRecords":
      let words = (body["ShardIterator"]?.string ?? "").split(separator: "@")
      let shard = store.shards.first { $0.id == words[0] } ?? Shard(id: "")
      let start = Int(words[1]) ?? 0
      let end = min(start + Int(body["Limit"]?.int ?? 1), shard.records.count)
      if start < end { store.readOrder.append(shard.id) }
      let records: [JSON] = (start..<max(start, end)).map { i in
        [
          "SequenceNumber": .string(String(i)), "PartitionKey": "k",
          "Data": .string(Base64.encode(Array("{\"id\":\"\(shard.records[i])\"}".utf8))),
          "ApproximateArrivalTimestamp": 1_767_607_200.25,
        ]
      }
      let isAtEnd = shard.isClosed && max(start, end) == shard.records.count
      return [
        "Records": .array(records),
        "NextShardIterator": isAtEnd ? .null : .string("\(shard.id)@\(max(start, end))"),
        "MillisBehindLatest": .int(end < shard.records.count ? 1500 : 0),
      ]
    default: return .null
    }
  }
}

@Suite struct `A source of Kinesis` {
  static let settings: JSON = [
    "name": "stream", "type": "kinesis", "table": "t", "aws_access_key_id": "AKID",
    "aws_secret_access_key": "s3cret-word", "batch_size": 2,
    "stream_arn": "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
  ]

  private func reader(_ stub: StubKinesis) throws -> (SourceDefinition, KinesisReader) {
    let source = try SourceDefinition(Self.settings)
    guard case .kinesis(let kinesis) = source.settings else {
      throw Diagnostic(code: "kind", "kind")
    }
    return (source, KinesisReader(source, kinesis, transport: stub, clock: FakeClock().clock))
  }

  private func drain(_ stub: StubKinesis, _ sink: MemorySink, atMost: Int = .max) async throws {
    let (source, reader) = try reader(stub)
    try await reader.open(at: try await sink.positions(of: "stream"))
    var deliveries = 0
    while deliveries < atMost, let batch = try await reader.next() {
      _ = try await sink.deliver(source.delivery(of: batch).delivery)
      try await reader.delivered(batch)
      deliveries += 1
    }
  }

  /// A split of the first shard in two, and a merge of those.
  private static var resharded: [StubKinesis.Shard] {
    [
      .init(id: "s0", isClosed: true, records: (0..<5).map { "a\($0)" }),
      .init(id: "s1", parents: ["s0"], isClosed: true, records: (0..<3).map { "b\($0)" }),
      .init(id: "s2", parents: ["s0"], isClosed: true, records: (0..<4).map { "c\($0)" }),
      .init(id: "s3", parents: ["s1", "s2"], records: (0..<3).map { "d\($0)" }),
      .init(id: "s4", parents: ["gone"], records: ["e0"]),
    ]
  }

  @Test func `reads parents to their end before their children`() async throws {
    let stub = StubKinesis(Self.resharded)
    let sink = MemorySink()
    try await drain(stub, sink)
    #expect(sink.values("id").count == 16 && Set(sink.values("id")).count == 16)
    let order = stub.now.readOrder
    func last(_ id: String) -> Int { order.lastIndex(of: id) ?? .max }
    func first(_ id: String) -> Int { order.firstIndex(of: id) ?? -1 }
    #expect(last("s0") < first("s1") && last("s0") < first("s2"))
    #expect(max(last("s1"), last("s2")) < first("s3"))
    #expect(sink.now.positions["stream"]?["s0"] == ["sequence": "4", "done": true])
    // The stream forgets the parents; what came since is all there is.
    stub.change { store in
      store.shards.removeFirst(3)
      store.shards[0].records.append("d3")
    }
    try await drain(stub, sink)
    #expect(sink.values("id").suffix(1) == ["d3"])
  }

  @Test(arguments: 0...9) func `goes on where the rows end, wherever it is cut`(deliveries: Int)
    async throws
  {
    let stub = StubKinesis(Self.resharded)
    let sink = MemorySink(faults: [.none, .none, .lostAnswer])
    try? await drain(stub, sink, atMost: deliveries)
    try? await drain(stub, sink)
    try await drain(stub, sink)
    #expect(sink.values("id").count == 16 && Set(sink.values("id")).count == 16)
  }

  @Test func `takes a new iterator for one that has expired, and waits when it is throttled`()
    async throws
  {
    let stub = StubKinesis([.init(id: "s0", records: (0..<6).map { "a\($0)" })])
    // List, iterator, records, then an expired one.
    stub.change { $0.faults = [nil, nil, nil, "ExpiredIteratorException"] }
    let sink = MemorySink()
    let clock = FakeClock()
    let source = try SourceDefinition(Self.settings)
    guard case .kinesis(let kinesis) = source.settings else { return }
    let runner = SourceRunner(
      source, sink: sink, clock: clock.clock,
      makeReader: { KinesisReader(source, kinesis, transport: stub, clock: clock.clock) })
    runner.start()
    await eventually { sink.now.rows.count == 6 }
    #expect(runner.status.errorCount == 0)
    stub.change { $0.faults = ["ProvisionedThroughputExceededException"] }
    await eventually { runner.status.errorCount == 1 && runner.status.state == .running }
    #expect(runner.status.lastError?.code == "throttled")
    stub.change { $0.shards[0].records.append("a6") }
    await eventually { sink.now.rows.count == 7 }
    await runner.stop()
    #expect(sink.values("id") == (0..<7).map { "a\($0)" })
  }

  @Test(
    arguments: [
      ("UnrecognizedClientException", "wrong_credentials"),
      ("InvalidSignatureException", "wrong_credentials"),
      ("AccessDeniedException", "access_denied"), ("ResourceNotFoundException", "unknown_stream"),
      ("Surprise", "kinesis_failed"),
    ])
  func `says what is wrong, and no secret`(name: String, code: String) async throws {
    let stub = StubKinesis([])
    stub.change { $0.faults = [name] }
    let (_, reader) = try reader(stub)
    do {
      try await reader.open(at: [:])
      Issue.record("it opened")
    } catch let problem as Diagnostic {
      #expect(problem.code == code)
      #expect(!problem.description.contains("s3cret"))
    }
  }

  @Test func `starts with the newest where it is told to, also after a restart`() async throws {
    var members = Self.settings.object ?? []
    members.append(.init("start", "latest"))
    let source = try SourceDefinition(.object(members))
    guard case .kinesis(let kinesis) = source.settings else { return }
    let stub = StubKinesis([.init(id: "s0")])
    let clock = FakeClock()
    let reader = KinesisReader(source, kinesis, transport: stub, clock: clock.clock)
    try await reader.open(at: [:])
    let batch = try await reader.next()
    #expect(batch?.stream == "start" && batch?.records.isEmpty == true)
    let again = KinesisReader(source, kinesis, transport: stub, clock: clock.clock)
    try await again.open(at: ["start": try #require(batch?.position)])
    #expect(try await again.next() == nil)
  }
}
