import Domain
import Foundation
import Storage
import Testing

@Suite struct `Batches` {
  private static let epoch = Timestamp(microsecondsSinceEpoch: 0)

  private static func letter(_ code: String, raw: String = "{}") -> DeadLetter {
    DeadLetter(
      table: "events", source: "http", position: .int(3), code: code, reason: "it does not fit",
      raw: Array(raw.utf8), at: Timestamp(microsecondsSinceEpoch: 77))
  }

  @Test func `hold rows, dead letters and the source's position together`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: Self.epoch)
    try await store.createTable(.uniqueEvents, at: Self.epoch)
    let seen = Shared<[String: Int]>([:])
    store.onCommit { batches, _ in
      for batch in batches { seen.withLock { $0[batch.table, default: 0] += batch.inserted.count } }
    }
    var batch = LogBatch([
      LogBatch.Rows(table: "events", rows: [event("a"), event("b")]),
      LogBatch.Rows(table: "unique-events", rows: [event("c"), event("c")]),
    ])
    batch.deadLetters = [Self.letter("type_mismatch", raw: "{\"a\":1}")]
    batch.position = SourcePosition(source: "kafka/clicks", position: ["0": 17])
    batch.entries = [RegistryEntry(kind: "profile", name: "p", json: "{}")]
    let receipt = try await store.commit(batch)
    #expect(receipt.first == LogPosition(1) && receipt.through == LogPosition(4))
    #expect(receipt.insertedCount == 4 && receipt.replacedCount == 1)
    #expect(receipt.deadLetterCount == 1 && !receipt.isRepetition)
    #expect(seen.withLock { $0 } == ["events": 2, "unique-events": 1])
    store.close()
    let again = try place.open()
    #expect(try again.position(ofSource: "kafka/clicks") == ["0": 17])
    #expect(try again.position(ofSource: "kafka/other") == nil)
    #expect(try again.rowCount(of: "unique-events") == 1)
    #expect(try again.entry(kind: "profile", name: "p") != nil)
    let letters = try again.deadLetters(DeadLetterQuery())
    #expect(letters.map(\.letter) == [Self.letter("type_mismatch", raw: "{\"a\":1}")])
    #expect(
      try again.deadLetterCounts() == [
        DeadLetterCount(table: "events", source: "http", code: "type_mismatch", count: 1)
      ])
  }

  @Test func `of one that fails nothing is stored, of its neighbours all`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: Self.epoch)
    try place.execute(
      """
      CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_id = 'bad'
      BEGIN SELECT RAISE(ABORT, 'refused'); END
      """)
    let failures = await withTaskGroup(of: Bool.self) { group in
      for i in 0..<60 {
        group.addTask {
          var batch = LogBatch([
            LogBatch.Rows(
              table: "events", rows: [event("first\(i)"), event(i % 3 == 0 ? "bad" : "good")])
          ])
          batch.deadLetters = [Self.letter("l\(i)")]
          batch.position = SourcePosition(source: "s\(i)", position: 1)
          do {
            _ = try await store.commit(batch)
            return false
          } catch { return true }
        }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(failures == 20)
    #expect(try store.rowCount(of: "events") == 80)
    var query = DeadLetterQuery()
    query.limit = 1000
    let codes = Set(try store.deadLetters(query).map(\.letter.code))
    for i in 0..<60 {
      #expect(codes.contains("l\(i)") == (i % 3 != 0))
      #expect(try store.position(ofSource: "s\(i)") == (i % 3 != 0 ? 1 : nil))
    }
  }

  @Test func `whose key is known change nothing and are answered as the first time`()
    async throws
  {
    let place = try TemporaryDirectory()
    var store = try place.open()
    try await store.createTable(.events, at: Self.epoch)
    func send(_ key: String, _ fingerprint: String, at seconds: Int64 = 0) async throws
      -> CommitReceipt
    {
      var batch = LogBatch([LogBatch.Rows(table: "events", rows: [event("a"), event("b")])])
      batch.key = IdempotencyKey(
        key: key, fingerprint: fingerprint,
        at: Timestamp(microsecondsSinceEpoch: seconds * 1_000_000), note: ["n": 1])
      return try await store.commit(batch)
    }
    let first = try await send("k", "f")
    store.close()
    store = try place.open()
    let second = try await send("k", "f", at: 100)
    #expect(second.isRepetition)
    #expect(second.through == first.through && second.insertedCount == 2)
    #expect(second.note == ["n": 1])
    let problem = await #expect(throws: Diagnostic.self) { _ = try await send("k", "other") }
    #expect(problem?.code == "idempotency_key_reused" && problem?.kind == .conflict)
    #expect(try store.rowCount(of: "events") == 2)
    // A day later the key is forgotten.
    let third = try await send("k", "f", at: IdempotencyKey.lifetimeSeconds + 1)
    #expect(!third.isRepetition)
    #expect(try store.rowCount(of: "events") == 4)
  }

  @Test func `with one key at once are stored once`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: Self.epoch)
    let repetitions = try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<20 {
        group.addTask {
          var batch = LogBatch([LogBatch.Rows(table: "events", rows: [event("a")])])
          batch.key = IdempotencyKey(key: "k", fingerprint: "f", at: Self.epoch)
          return try await store.commit(batch).isRepetition
        }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(repetitions == 19)
    #expect(try store.rowCount(of: "events") == 1)
  }

  @Test func `take rows out, and the observer sees them go`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: Self.epoch)
    _ = try await store.append(table: "events", rows: [event("a"), event("b"), event("c")])
    let gone = Shared<[LoggedRow]>([])
    store.onCommit { batches, through in
      gone.withLock { $0 += batches.flatMap(\.replaced) }
      #expect(through == LogPosition(4))
    }
    var batch = LogBatch()
    batch.removals = [
      LogBatch.Removal(
        table: "events", positions: [LogPosition(1), LogPosition(3), LogPosition(9)])
    ]
    let receipt = try await store.commit(batch)
    #expect(receipt.removedCount == 2 && receipt.through == LogPosition(4))
    #expect(gone.withLock { $0.map(\.position.rawValue) } == [1, 3])
    #expect(try store.rows(of: "events").map { $0.values[0] } == [.string("b")])
  }

  @Test func `beyond the waiting bytes are refused`() {
    var group = GroupCommit(rowsPerCommit: 10, waitingRowsLimit: 1000, waitingBytesLimit: 100)
    let outcomes = [group.admit(rows: 1, bytes: 500), group.admit(rows: 1, bytes: 1)]
    #expect(outcomes == [true, false])
    group.release(bytes: 500)
    let after = [group.admit(rows: 1, bytes: 60), group.admit(rows: 1, bytes: 60)]
    #expect(after == [true, false])
  }

  @Test func `settle dead letters when their rows come in`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: Self.epoch)
    var batch = LogBatch()
    batch.deadLetters = [Self.letter("a"), Self.letter("b")]
    let first = try await store.commit(batch)
    #expect(first.first == nil && first.through == .start)
    var mended = LogBatch([LogBatch.Rows(table: "events", rows: [event("x")])])
    mended.settledDeadLetters = [try #require(try store.deadLetters(DeadLetterQuery()).first?.id)]
    _ = try await store.commit(mended)
    #expect(try store.deadLetters(DeadLetterQuery()).map(\.letter.code) == ["b"])
  }
}

@Suite struct `Format 1` {
  @Test func `is brought up to date with all its rows`() async throws {
    let place = try TemporaryDirectory()
    let fixture = try #require(
      Bundle.module.url(forResource: "format-1", withExtension: "db", subdirectory: "Fixtures"))
    try FileManager.default.copyItem(
      at: fixture, to: URL(filePath: place.path + "/riffle.db"))
    var store = try place.open()
    for _ in 0..<2 {
      let rows = try store.rows(of: "events")
      #expect(rows.map(\.position.rawValue) == [2, 3])
      #expect(rows.map { $0.values[2] } == [.string("i1"), .string("i2")])
      #expect(store.through == LogPosition(3))
      #expect(try store.deadLetters(DeadLetterQuery()).isEmpty)
      store.close()
      store = try place.open()
    }
    let receipt = try await store.append(
      table: "events", rows: [event("a", user: "u1", item: "i9")])
    #expect(receipt.replacedCount == 1 && receipt.through == LogPosition(4))
  }
}
