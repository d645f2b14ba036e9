package import Domain
import Synchronization

/// Reads the shards of a stream in turn, parents before their children.
package final class KinesisReader: SourceReader {
  private struct State {
    var plan = ShardPlan()
    var iterators: [String: String] = [:]
    /// Shards that are to be asked, in turn.
    var turn: [String] = []
    var behind: [String: Int] = [:]
    var listedAt: Timestamp?
    /// Where shards without a stored position begin.
    var start = KinesisClient.Start.oldest
    var warning: String?
    /// What `delivered` makes of the batch that is under way.
    var pending: (shard: String, progress: ShardPlan.Progress, iterator: String?)?
  }

  private let definition: SourceDefinition
  private let settings: KinesisSettings
  private let client: KinesisClient
  private let clock: SourceClock
  // One call at a time by the runner; the lock is never held over a wait.
  private let state = Mutex(State())

  /// How often the list of shards is read again; a shard's end reads it at once.
  private static let listInterval = 30.0
  /// The stream whose position is the time at which a source that starts with the newest was made.
  private static let startStream = "start"

  package init(
    _ definition: SourceDefinition, _ settings: KinesisSettings, transport: any HTTPTransport,
    clock: SourceClock
  ) {
    self.definition = definition
    self.settings = settings
    self.clock = clock
    client = KinesisClient(settings, transport: transport, clock: clock)
  }

  package var pause: Duration { settings.pollInterval }

  package func open(at positions: [String: JSON]) async throws {
    var progress: [String: ShardPlan.Progress] = [:]
    for (stream, json) in positions where stream != Self.startStream {
      guard let stored = ShardPlan.Progress(json) else {
        throw Diagnostic(
          .internalError, code: "invalid_position",
          "The stored position of `\(stream)` cannot be read.", at: stream)
      }
      progress[stream] = stored
    }
    let start = positions[Self.startStream]?.int.map {
      KinesisClient.Start.at(Timestamp(microsecondsSinceEpoch: $0))
    }
    let read = progress
    state.withLock { state in
      state = State()
      state.plan = ShardPlan(progress: read)
      state.start = start ?? .oldest
    }
    try await list()
  }

  package func next() async throws -> SourceBatch? {
    if settings.start == .latest, let batch = startBatch() { return batch }
    if isListOld { try await list() }
    // Every shard is asked once before the source counts as read to its end.
    var asked = 0
    let count = state.withLock { $0.plan.readable.count }
    while asked < count, let shard = nextShard() {
      asked += 1
      if let batch = try await read(shard) { return batch }
    }
    return nil
  }

  /// The batch that notes when the source was made, before anything else is stored.
  private func startBatch() -> SourceBatch? {
    let now = clock.now()
    let isNew = state.withLock { state in
      guard case .oldest = state.start, state.plan.progress.isEmpty else { return false }
      state.start = .at(now)
      return true
    }
    guard isNew else { return nil }
    return SourceBatch(
      stream: Self.startStream, position: .int(now.microsecondsSinceEpoch), records: [])
  }

  private var isListOld: Bool {
    let now = clock.now().secondsSinceEpoch
    return state.withLock { state in
      state.listedAt.map { now - $0.secondsSinceEpoch >= Self.listInterval } ?? true
    }
  }

  private func list() async throws {
    let shards = try await client.shards()
    let now = clock.now()
    state.withLock { state in
      state.plan.update(shards)
      state.listedAt = now
    }
  }

  private func nextShard() -> String? {
    state.withLock { state in
      let readable = state.plan.readable.map(\.id)
      state.turn = state.turn.filter(readable.contains)
      if state.turn.isEmpty { state.turn = readable }
      return state.turn.isEmpty ? nil : state.turn.removeFirst()
    }
  }

  private func read(_ shard: String) async throws -> SourceBatch? {
    let (known, stored, start) = state.withLock { state in
      (state.iterators[shard], state.plan.progress[shard]?.sequenceNumber, state.start)
    }
    let from = stored.map { KinesisClient.Start.after($0) } ?? start
    var iterator = known ?? ""
    if known == nil { iterator = try await client.iterator(shard: shard, from) }
    let answer: KinesisClient.Records
    do {
      answer = try await client.records(iterator, limit: definition.batchSize)
    } catch let problem as Diagnostic where problem.code == "expired_iterator" {
      iterator = try await client.iterator(shard: shard, from)
      answer = try await client.records(iterator, limit: definition.batchSize)
    }
    // A closed shard ends without an iterator; some servers give one for ever and only say in the list
    // that the shard is closed.
    let isClosed = state.withLock { $0.plan.isClosed(shard) }
    let isAtEnd = answer.records.isEmpty && answer.millisecondsBehind == 0
    let isDone = answer.nextIterator == nil || (isClosed && isAtEnd)
    let progress = ShardPlan.Progress(
      sequenceNumber: answer.records.last?.sequenceNumber ?? stored, isDone: isDone)
    state.withLock { $0.behind[shard] = answer.millisecondsBehind }
    if answer.records.isEmpty, !isDone {
      state.withLock { $0.iterators[shard] = answer.nextIterator }
      return nil
    }
    state.withLock { $0.pending = (shard, progress, answer.nextIterator) }
    return SourceBatch(
      stream: shard, position: progress.json, records: answer.records.map { record(shard, $0) })
  }

  private func record(_ shard: String, _ record: KinesisClient.Record) -> ReadRecord {
    let place: JSON = [
      "shard": .string(shard), "sequence": .string(record.sequenceNumber),
    ]
    let extras = [
      JSON.Member("$key", .string(record.partitionKey)), JSON.Member("$shard", .string(shard)),
      JSON.Member("$sequence", .string(record.sequenceNumber)),
      JSON.Member("$timestamp", record.arrivedAt.map { .string($0.iso8601) } ?? .null),
    ]
    if record.data.starts(with: [0xF3, 0x89, 0x9A, 0xC2]) {
      return ReadRecord(
        value: nil, raw: record.data, place: place, extras: extras, time: record.arrivedAt,
        problem: Diagnostic(
          code: "aggregated_record",
          "The record holds several, packed by the Kinesis Producer Library.",
          help: "Switch aggregation off in the producer: AggregationEnabled=false."))
    }
    return ReadRecord(json: record.data, place: place, extras: extras, time: record.arrivedAt)
  }

  package func delivered(_ batch: SourceBatch) async throws {
    let hasEnded = state.withLock { state in
      guard let pending = state.pending, pending.shard == batch.stream else { return false }
      state.pending = nil
      state.plan.set(pending.progress, of: pending.shard)
      state.iterators[pending.shard] = pending.iterator
      if pending.progress.isDone { state.behind[pending.shard] = nil }
      return pending.progress.isDone
    }
    // Its children may be read now, and may not have been listed yet.
    if hasEnded { try await list() }
  }

  package var lag: SourceLag {
    get async {
      SourceLag(milliseconds: state.withLock { $0.behind.values.max() })
    }
  }

  package func close() async {}
}
