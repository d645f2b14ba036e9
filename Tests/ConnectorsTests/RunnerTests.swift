import Connectors
import Domain
import Synchronization
import Testing

/// A source of numbers, which fails when it is told to.
final class NumberReader: SourceReader {
  struct Plan: Sendable {
    var count = 10
    var perBatch = 2
    /// Failures of `open` and `next`, used up from the front; nil goes well.
    var faults: [Diagnostic?] = []
    var opened: [Int64] = []
    /// Where the reader waits until there is more.
    var available = Int.max
  }

  let plan: Plans
  private let at = Mutex<Int64>(0)

  final class Plans: Sendable {
    let plan: Mutex<Plan>
    init(_ plan: Plan) { self.plan = Mutex(plan) }
    var now: Plan { plan.withLock { $0 } }
    func fault() throws {
      if let fault = plan.withLock({ $0.faults.isEmpty ? nil : $0.faults.removeFirst() }) {
        throw fault
      }
    }
  }

  init(_ plan: Plans) { self.plan = plan }

  var pause: Duration { .seconds(1) }
  var lag: SourceLag { get async { SourceLag(records: plan.now.count - Int(at.withLock { $0 })) } }
  var isFinished: Bool { get async { at.withLock { $0 } >= plan.now.count } }

  func open(at positions: [String: JSON]) async throws {
    let start = positions["numbers"]?.int ?? 0
    plan.plan.withLock { $0.opened.append(start) }
    at.withLock { $0 = start }
    try plan.fault()
  }

  func next() async throws -> SourceBatch? {
    try plan.fault()
    let (count, perBatch) = (plan.now.count, plan.now.perBatch)
    let start = Int(at.withLock { $0 })
    guard start < count else { return nil }
    while start >= plan.now.available { try await Task.sleep(for: .milliseconds(1)) }
    let end = min(start + perBatch, count)
    at.withLock { $0 = Int64(end) }
    return SourceBatch(
      stream: "numbers", position: .int(Int64(end)),
      records: (start..<end).map {
        ReadRecord(json: Array("{\"id\":\"\($0)\"}".utf8), place: .int(Int64($0)))
      })
  }

  func close() async {}
}

@Suite struct `A runner` {
  private let fault = Diagnostic(.unavailable, code: "gone", "The broker is gone: s3cret-word.")

  private func run(
    _ plan: NumberReader.Plan, _ sink: MemorySink, _ definition: JSON = `A runner`.numbers
  ) async throws -> (SourceRunner, NumberReader.Plans, FakeClock) {
    let plans = NumberReader.Plans(plan)
    let clock = FakeClock()
    let runner = SourceRunner(
      try SourceDefinition(definition), sink: sink, clock: clock.clock,
      makeReader: { NumberReader(plans) })
    runner.start()
    await eventually { runner.status.state == .finished }
    return (runner, plans, clock)
  }

  static let numbers: JSON = [
    "name": "numbers", "type": "kafka", "table": "t", "topic": "x", "bootstrap_server": "b:1",
    "username": "u", "password": "s3cret-word",
  ]

  @Test func `delivers each record once over failures, and waits longer after each`() async throws {
    let sink = MemorySink(faults: [.none, .lostAnswer, .refused(fault)])
    let (runner, plans, clock) = try await run(
      .init(faults: [fault, fault, nil, nil, fault]), sink)
    #expect(sink.values("id") == (0..<10).map(String.init))
    #expect(plans.now.opened.last ?? 0 > 0)
    let status = runner.status
    #expect(status.errorCount >= 4 && status.rowCount >= 8)
    #expect(status.lastError?.message == "The broker is gone: ***.")
    #expect(clock.waits[0] >= .milliseconds(250) && clock.waits[0] <= .milliseconds(500))
    #expect(clock.waits[1] >= .milliseconds(500) && clock.waits[1] <= .seconds(1))
    #expect(!status.json.text.contains("s3cret"))
  }

  @Test func `keeps a delivery that the log has no room for, and tries it again`() async throws {
    let full = Diagnostic(.overloaded, code: "too_many_waiting_rows", "Full.")
    let sink = MemorySink(faults: [.refused(full), .refused(full), .refused(full)])
    let (runner, plans, _) = try await run(.init(), sink)
    #expect(sink.values("id") == (0..<10).map(String.init))
    #expect(plans.now.opened == [0])
    #expect(runner.status.errorCount == 3 && runner.status.attempt == 0)
  }

  @Test func `counts what the filter passes over, and moves on behind it`() async throws {
    let sink = MemorySink()
    var members = Self.numbers.object ?? []
    members.append(.init("filter", [["field": "id", "in": ["1", "3"]]]))
    let (runner, _, _) = try await run(.init(), sink, .object(members))
    #expect(sink.values("id") == ["1", "3"])
    #expect(runner.status.filteredCount == 8)
    #expect(sink.now.positions["numbers"]?["numbers"] == 10)
  }

  @Test func `rests while it is paused, and goes on where it was`() async throws {
    let sink = MemorySink()
    let plans = NumberReader.Plans(.init(count: 1000, perBatch: 1, available: 30))
    let clock = FakeClock()
    let supervisor = SourceSupervisor(
      sink: sink, clock: clock.clock, factories: [.kafka: { _ in NumberReader(plans) }],
      columns: { _ in [] })
    await supervisor.startAll()
    await supervisor.add(try SourceDefinition(Self.numbers), paused: false)
    await eventually { sink.now.rows.count == 30 }
    #expect(await supervisor.setPaused(true, "numbers"))
    plans.plan.withLock { $0.available = 60 }
    #expect(supervisor.source("numbers")?.status.state == .paused)
    for _ in 0..<100 { await Task.yield() }
    #expect(sink.now.rows.count == 30)
    #expect(await supervisor.setPaused(false, "numbers"))
    await eventually { sink.now.rows.count == 60 }
    await supervisor.stopAll()
    #expect(sink.values("id") == (0..<60).map(String.init))
    #expect(await supervisor.setPaused(true, "none") == false)
  }

  @Test func `is refused for Kafka in a build without it`() throws {
    let definition = try SourceDefinition(Self.numbers)
    let supervisor = SourceSupervisor(
      sink: MemorySink(), clock: FakeClock().clock, columns: { _ in [] })
    do throws(Diagnostic) {
      try supervisor.check(definition)
      Issue.record("it was taken")
    } catch {
      #expect(error.code == "built_without_kafka")
      #expect(error.help?.contains("--traits Kafka") == true)
    }
  }

  @Test func `tells its state on one line`() throws {
    var status = SourceStatus()
    status.state = .backingOff
    status.rowCount = 12
    status.attempt = 2
    status.lag = SourceLag(records: 5)
    status.lastDeliveryAt = Timestamp(secondsSinceEpoch: 1000)
    status.nextAttemptAt = Timestamp(secondsSinceEpoch: 1010.5)
    status.lastError = Diagnostic(code: "x", "Nothing answers.")
    #expect(
      status.line(at: Timestamp(secondsSinceEpoch: 1007))
        == "backing_off: 12 rows, 5 records behind, last 7 s ago, attempt 3 in 4 s; Nothing answers."
    )
    status.state = .starting
    #expect(
      status.line(at: Timestamp(secondsSinceEpoch: 1007))
        == "starting: 12 rows, 5 records behind, last 7 s ago, attempt 3; Nothing answers.")
    status.attempt = 0
    #expect(
      status.line(at: Timestamp(secondsSinceEpoch: 1007))
        == "starting: 12 rows, 5 records behind, last 7 s ago")
  }
}
