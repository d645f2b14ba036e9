import Domain
import Foundation
import Storage
import Testing

@Suite struct `Data directory` {
  @Test func `is refused to a second opener, with the holder's process`() throws {
    let place = try TemporaryDirectory()
    let first = try DataDirectory.open(place.path)
    let problem = #expect(throws: Diagnostic.self) { try DataDirectory.open(place.path) }
    #expect(
      problem?.description == """
        error: The data directory `\(place.path)` is in use by process \(getpid()).
          at \(place.path)
          help: Stop process \(getpid()), or name another directory with --data-dir. One process serves \
        a data directory at a time.
        """)
    #expect(problem?.kind == .conflict)
    first.release()
    _ = try DataDirectory.open(place.path)
  }

  @Test func `is made with its parents where it does not exist`() throws {
    let place = try TemporaryDirectory()
    let directory = try DataDirectory.open(place.path + "/a/b")
    var isDirectory: ObjCBool = false
    #expect(
      FileManager.default.fileExists(atPath: directory.artifactsPath, isDirectory: &isDirectory))
    #expect(isDirectory.boolValue)
  }

  @Test func `that cannot be made is refused`() throws {
    let place = try TemporaryDirectory()
    try Data().write(to: URL(filePath: place.path + "/file"))
    let problem = #expect(throws: Diagnostic.self) {
      try DataDirectory.open(place.path + "/file/data")
    }
    #expect(problem?.code == "data_directory_unusable")
  }

  @Test func `of a newer format is refused`() throws {
    let place = try TemporaryDirectory()
    try place.open().close()
    try place.execute("UPDATE _riffle_meta SET value = 99 WHERE name = 'format'")
    let problem = #expect(throws: Diagnostic.self) { try place.open() }
    #expect(problem?.code == "newer_format")
    #expect(
      problem?.message
        == "The data directory has format 99; this build reads 1 to \(LogStore.currentVersion).")
  }

  @Test func `holding a damaged database is refused`() throws {
    let place = try TemporaryDirectory()
    try Data(repeating: 7, count: 8192).write(to: URL(filePath: place.path + "/riffle.db"))
    let problem = #expect(throws: Diagnostic.self) { try place.open() }
    #expect(problem?.code == "database_damaged")
  }

  #if os(Linux)
    @Test func `opens where the disk has no room for the process number`() throws {
      let place = try TemporaryDirectory()
      // /dev/full refuses every write as a full disk does.
      try FileManager.default.createSymbolicLink(
        atPath: place.path + "/LOCK", withDestinationPath: "/dev/full")
      let store = try place.open()
      #expect(throws: Diagnostic.self) { _ = try place.open() }
      store.close()
    }
  #endif
}

@Suite struct `Tables` {
  @Test func `come back after reopening, every type of cell as it went in`() async throws {
    let place = try TemporaryDirectory()
    let all = TableSchema(
      name: "all-types",
      columns: ColumnType.allCases.enumerated().map {
        ColumnDefinition(name: "c\($0.offset)", type: $0.element)
      }, description: "One of each")
    let full: [Value] = ColumnType.allCases.map { type in
      switch type {
      case .unknown, .string, .lowCardinalityString, .json, .imageURL: .string("a\u{0}\"ü'")
      case .bytes: .bytes([0, 255, 10])
      case .stringArray: .array([.string("x,\""), .string("")])
      case .int64Array: .array([.int(.max), .int(.min)])
      case .float64Array: .array([.double(1), .double(0.1), .double(1e300)])
      case .int32, .int64: .int(-5)
      case .float, .double: .double(0.1)
      case .bool: .bool(true)
      case .dateTime: .timestamp(Timestamp(microsecondsSinceEpoch: 1_700_000_000_123_456))
      }
    }
    let empty: [Value] = ColumnType.allCases.map { type in
      switch type {
      case .unknown, .string, .lowCardinalityString, .json, .imageURL: .string("")
      case .bytes: .bytes([])
      case .stringArray, .int64Array, .float64Array: .array([])
      default: .null
      }
    }
    let nulls = [Value](repeating: .null, count: full.count)
    let store = try place.open()
    let time = Timestamp(microsecondsSinceEpoch: 42)
    try await store.createTable(all, at: time)
    _ = try await store.append(table: "all-types", rows: [full, empty, nulls])
    store.close()
    let again = try place.open()
    #expect(again.tables() == [StoredTable(schema: all, createdAt: time)])
    #expect(try again.rows(of: "all-types").map(\.values) == [full, empty, nulls])
    #expect(again.through == LogPosition(3))
  }

  @Test func `of a taken name are refused, whatever the case`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    var other = TableSchema.events
    other.name = "EVENTS"
    let problem = await #expect(throws: Diagnostics.self) {
      try await store.createTable(other, at: .init(microsecondsSinceEpoch: 0))
    }
    #expect(problem?.all.map(\.code) == ["table_exists"])
    #expect(problem?.kind == .conflict)
  }

  @Test func `with many faults are refused with all of them`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    let schema = TableSchema(
      name: "_mine",
      columns: [
        ColumnDefinition(name: "user_id", type: .string),
        ColumnDefinition(name: "User_ID", type: .string),
        ColumnDefinition(name: "a b", type: .string),
      ], uniqueKeys: ["usr_id", "user_id", "user_id"])
    let problem = await #expect(throws: Diagnostics.self) {
      try await store.createTable(schema, at: .init(microsecondsSinceEpoch: 0))
    }
    #expect(
      problem?.all.map(\.code) == [
        "invalid_table_name", "duplicate_column", "invalid_column_name", "unknown_unique_key",
        "duplicate_unique_key",
      ])
    #expect(store.tables().isEmpty)
  }

  @Test func `can be dropped, and positions go on`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    _ = try await store.append(table: "events", rows: [event("a"), event("b")])
    try await store.dropTable("events")
    #expect(store.table("events") == nil)
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    let receipt = try await store.append(table: "events", rows: [event("c")])
    #expect(receipt.first == LogPosition(3))
    #expect(try store.rows(of: "events").count == 1)
  }

  @Test func `that do not exist are named with the nearest`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    let problem = await #expect(throws: Diagnostic.self) {
      _ = try await store.append(table: "event", rows: [])
    }
    #expect(problem?.kind == .notFound)
    #expect(problem?.help == "Did you mean `events`?")
  }
}

@Suite struct `Appends` {
  @Test func `are synced at every commit`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    let durability = try await store.durability()
    #expect(durability.journalMode == "wal")
    #expect(durability.synchronous == 2)
  }

  @Test func `are shown to the observer before they return, in log order`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    let seen = Shared<[LogPosition]>([])
    store.onCommit { batches, through in
      let positions = batches.flatMap { $0.inserted.map(\.position) }.sorted()
      seen.withLock { $0 += positions }
      #expect(through == positions.last)
    }
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<20 {
        group.addTask {
          for i in 0..<20 {
            let receipt = try await store.append(
              table: "events",
              rows: [event(.string("\(task)-\(i)-a")), event(.string("\(task)-\(i)-b"))])
            #expect(receipt.through.rawValue == receipt.first.rawValue + 1)
            let isVisible = seen.withLock { $0.last.map { $0 >= receipt.through } ?? false }
            #expect(isVisible)
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(seen.withLock { $0 } == (1...800).map { LogPosition(Int64($0)) })
    #expect(try store.rows(of: "events").map(\.position) == seen.withLock { $0 })
  }

  @Test func `that fail leave their neighbours alone`() async throws {
    // A trigger refuses some rows below, as a disk or a constraint might.
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    try place.execute(
      """
      CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_id = 'bad'
      BEGIN SELECT RAISE(ABORT, 'refused'); END
      """)
    let committed = Shared<[LoggedRow]>([])
    store.onCommit { batches, _ in
      committed.withLock { $0 += batches.flatMap(\.inserted) }
    }
    let failures = await withTaskGroup(of: Bool.self) { group in
      for i in 0..<100 {
        group.addTask {
          let last = i % 3 == 0 ? "bad" : "good\(i)"
          do {
            _ = try await store.append(
              table: "events", rows: [event(.string("first\(i)")), event(last)])
            return false
          } catch {
            return true
          }
        }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(failures == 34)
    let rows = try store.rows(of: "events")
    #expect(rows.count == 132)
    #expect(committed.withLock { $0 } == rows)
    let ids = Set(rows.map { $0.values[0] })
    for i in 0..<100 {
      #expect(ids.contains(.string("first\(i)")) == (i % 3 != 0))
    }
  }

  @Test func `of no rows are answered with the newest position`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    _ = try await store.append(table: "events", rows: [event("a")])
    let receipt = try await store.append(table: "events", rows: [])
    #expect(receipt.through == LogPosition(1))
    #expect(receipt.insertedCount == 0)
  }

  @Test func `of cells that do not fit are refused`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    var row = event("a")
    row[3] = .double(.nan)
    let problem = await #expect(throws: Diagnostic.self) {
      _ = try await store.append(table: "events", rows: [event("b"), row])
    }
    #expect(problem?.place == "data[1].label")
    #expect(try store.rowCount(of: "events") == 0)
  }

  @Test func `on a full disk are refused, nothing of them is stored, and the store lives on`()
    async throws
  {
    let place = try TemporaryDirectory()
    var limits = LogStore.Limits()
    limits.databaseBytes = 200_000
    let store = try place.open(limits: limits)
    let visible = Shared<[LoggedRow]>([])
    store.onCommit { batches, _ in visible.withLock { $0 += batches.flatMap(\.inserted) } }
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    let wide = String(repeating: "x", count: 5000)
    // Several at once, so that some share a commit with those that do not fit.
    let outcomes = await withTaskGroup(of: String?.self) { group in
      for i in 0..<100 {
        group.addTask {
          do throws(Diagnostic) {
            _ = try await store.append(
              table: "events", rows: [event("\(i)"), event("\(i)b", item: wide)])
            return nil
          } catch {
            return error.code
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    let acknowledged = outcomes.count { $0 == nil }
    #expect(acknowledged < 100)
    #expect(outcomes.allSatisfy { $0 == nil || $0 == "disk_full" })
    let rows = try store.rows(of: "events")
    #expect(rows.count == 2 * acknowledged)
    #expect(visible.withLock { $0 } == rows)
    try await store.dropTable("events")
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    let receipt = try await store.append(table: "events", rows: [event("again")])
    #expect(receipt.first > rows.last?.position ?? .start)
  }

  @Test func `after closing are refused`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    store.close()
    store.close()
    let problem = await #expect(throws: Diagnostic.self) {
      _ = try await store.append(table: "events", rows: [event("a")])
    }
    #expect(problem?.code == "storage_closed")
  }

  @Test func `beyond what may wait are refused and nothing of them is stored`() async throws {
    let place = try TemporaryDirectory()
    var limits = LogStore.Limits()
    limits.waitingRows = 10
    limits.rowsPerCommit = 10
    let store = try place.open(limits: limits)
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    // The writer is held in its observer until the others have queued up.
    let gate = DispatchSemaphore(value: 0)
    let entered = AsyncStream<Void>.makeStream()
    store.onCommit { _, _ in
      entered.continuation.yield()
      gate.wait()
    }
    async let first = store.append(table: "events", rows: [event("a")])
    for await _ in entered.stream { break }
    let outcomes = await withTaskGroup(of: String?.self) { group in
      for i in 0..<15 {
        group.addTask {
          do throws(Diagnostic) {
            _ = try await store.append(table: "events", rows: [event(.string("w\(i)"))])
            return nil
          } catch {
            // The first refusal means that the queue is full; now it may empty.
            for _ in 0..<20 { gate.signal() }
            return error.code
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    _ = try await first
    let refused = outcomes.compactMap { $0 }
    #expect(!refused.isEmpty && refused.allSatisfy { $0 == "too_many_waiting_rows" })
    #expect(try store.rowCount(of: "events") == 16 - refused.count)
  }
}

@Suite struct `Unique keys` {
  @Test func `let the latest row win, and tell what it replaced`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    let commits = Shared<[CommittedBatch]>([])
    store.onCommit { batches, _ in commits.withLock { $0 += batches } }
    try await store.createTable(.uniqueEvents, at: .init(microsecondsSinceEpoch: 0))
    let table = "unique-events"
    _ = try await store.append(table: table, rows: [event("a", item: "1"), event("b", item: "2")])
    let receipt = try await store.append(
      table: table, rows: [event("c", item: "3"), event("a", item: "4"), event("a", item: "5")])
    #expect(receipt.insertedCount == 3)
    #expect(receipt.replacedCount == 2)
    #expect(receipt.through == LogPosition(5))
    let rows = try store.rows(of: table)
    #expect(rows.map(\.position.rawValue) == [2, 3, 5])
    #expect(rows.map { $0.values[2] } == [.string("2"), .string("3"), .string("5")])
    let last = try #require(commits.withLock { $0 }.last)
    #expect(last.inserted.map(\.position.rawValue) == [3, 5])
    #expect(last.replaced == [LoggedRow(position: LogPosition(1), values: event("a", item: "1"))])
  }

  @Test func `with a null name no row, so such rows stand for themselves`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.uniqueEvents, at: .init(microsecondsSinceEpoch: 0))
    let receipt = try await store.append(
      table: "unique-events", rows: [event(.null), event(.null), event(.null)])
    #expect(receipt.replacedCount == 0)
    #expect(try store.rowCount(of: "unique-events") == 3)
  }

  @Test func `of several columns replace only where all agree`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    var schema = TableSchema.events
    schema.uniqueKeys = ["user_id", "item_id"]
    try await store.createTable(schema, at: .init(microsecondsSinceEpoch: 0))
    _ = try await store.append(
      table: "events",
      rows: [
        event("1", user: "u", item: "i"), event("2", user: "u", item: "j"),
        event("3", user: "v", item: "i"), event("4", user: "u", item: "i"),
      ])
    #expect(
      try store.rows(of: "events").map { $0.values[0] } == [
        .string("2"), .string("3"), .string("4"),
      ])
  }

  @Test func `keep positions growing over replaces and reopening`() async throws {
    let place = try TemporaryDirectory()
    var last = LogPosition.start
    for round in 0..<3 {
      let store = try place.open()
      #expect(store.through == last)
      if round == 0 {
        try await store.createTable(.uniqueEvents, at: .init(microsecondsSinceEpoch: 0))
      }
      for _ in 0..<3 {
        // The one row is replaced each time, so the table's largest position is no guide.
        let receipt = try await store.append(
          table: "unique-events", rows: [event("same"), event("same")])
        #expect(receipt.first == last.next)
        last = receipt.through
      }
      store.close()
    }
    let store = try place.open()
    try await store.dropTable("unique-events")
    store.close()
    #expect(try place.open().through == LogPosition(18))
  }

  @Test(arguments: [1, 2, 3] as [UInt64])
  func `agree with a dictionary under random appends`(seed: UInt64) async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    let held = Shared<[LogPosition: [Value]]>([:])
    store.onCommit { batches, _ in
      held.withLock { held in
        for batch in batches {
          for row in batch.replaced {
            #expect(held.removeValue(forKey: row.position) == row.values)
          }
          for row in batch.inserted { held[row.position] = row.values }
        }
      }
    }
    try await store.createTable(.uniqueEvents, at: .init(microsecondsSinceEpoch: 0))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask {
          var random = SeededGenerator(seed: seed * 100 + UInt64(task))
          for _ in 0..<20 {
            let rows = (0..<Int.random(in: 1...5, using: &random)).map { _ in
              event(
                .string("\(Int.random(in: 0..<30, using: &random))"),
                item: "\(random.next() % 1000)")
            }
            _ = try await store.append(table: "unique-events", rows: rows)
          }
        }
      }
      try await group.waitForAll()
    }
    let rows = try store.rows(of: "unique-events")
    #expect(
      Dictionary(rows.map { ($0.position, $0.values) }, uniquingKeysWith: { a, _ in a })
        == held.withLock { $0 }, "seed \(seed)")
    #expect(Set(rows.map { $0.values[0] }).count == rows.count)
  }
}

@Suite struct `Replay` {
  @Test func `merges tables in log order, in windows, after a position`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    try await store.createTable(.uniqueEvents, at: .init(microsecondsSinceEpoch: 0))
    var random = SeededGenerator(seed: 5)
    for i in 0..<60 {
      let table = Bool.random(using: &random) ? "events" : "unique-events"
      _ = try await store.append(
        table: table, rows: [event(.string("\(i)")), event(.string("\(i)b"))])
    }
    for (window, after) in [(1, 0), (7, 0), (7, 31), (1000, 50), (5, 120)] {
      var positions: [Int64] = []
      var lastThrough = Int64(after)
      let end = try store.replay(
        tables: ["events", "unique-events"], after: LogPosition(Int64(after)), windowRows: window
      ) { batches, through in
        let inWindow = batches.flatMap { $0.inserted.map(\.position.rawValue) }.sorted()
        #expect(inWindow.count <= window)
        #expect(inWindow.last == through.rawValue)
        #expect(inWindow.first.map { $0 > lastThrough } == true)
        lastThrough = through.rawValue
        positions += inWindow
      }
      #expect(positions == Array(Int64(after + 1)..<121))
      #expect(end == LogPosition(120))
    }
  }

  @Test func `sees nothing that is committed while it runs`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    _ = try await store.append(
      table: "events", rows: (0..<100).map { event(.string("\($0)")) })
    let (begun, hasBegun) = AsyncStream<Void>.makeStream()
    let goOn = DispatchSemaphore(value: 0)
    let count = Shared(0)
    let end = Shared<LogPosition?>(nil)
    // The replay waits in its first window, so it needs a thread that may wait.
    let (finished, hasFinished) = AsyncStream<Void>.makeStream()
    Thread.detachNewThread {
      let through = try? store.replay(tables: ["events"], windowRows: 10) { batches, _ in
        let before = count.withLock { $0 }
        if before == 0 {
          hasBegun.yield()
          goOn.wait()
        }
        count.withLock { $0 += batches.reduce(0) { $0 + $1.inserted.count } }
      }
      end.withLock { $0 = through }
      hasFinished.yield()
    }
    for await _ in begun { break }
    _ = try await store.append(table: "events", rows: [event("late")])
    goOn.signal()
    for await _ in finished { break }
    #expect(count.withLock { $0 } == 100)
    #expect(end.withLock { $0 } == LogPosition(100))
    #expect(store.through == LogPosition(101))
  }
}

@Suite struct `Recovery` {
  @Test func `finds what a killed process had acknowledged`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.events, at: .init(microsecondsSinceEpoch: 0))
    for i in 0..<50 {
      _ = try await store.append(table: "events", rows: [event(.string("\(i)"))])
    }
    let copy = try place.copyAsIfKilled()
    let again = try copy.open()
    #expect(try again.rows(of: "events") == store.rows(of: "events"))
    #expect(again.through == LogPosition(50))
  }

  /// The log is cut at random places, as a torn write would; what was acknowledged before the cut
  /// must be there, whole commits only, and the next position must follow it.
  @Test(arguments: [11, 12] as [UInt64])
  func `keeps whole commits of a log that is cut anywhere`(seed: UInt64) async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.createTable(.uniqueEvents, at: .init(microsecondsSinceEpoch: 0))
    var random = SeededGenerator(seed: seed)
    // The size of the log after each commit, and the rows as they were then.
    var states: [(bytes: Int, through: LogPosition, rows: [LoggedRow])] = []
    states.append((place.logBytes, .start, []))
    for _ in 0..<25 {
      let rows = (0..<Int.random(in: 1...40, using: &random)).map { _ in
        event(
          .string("\(Int.random(in: 0..<100, using: &random))"),
          item: String(repeating: "x", count: Int.random(in: 0...300, using: &random)))
      }
      let receipt = try await store.append(table: "unique-events", rows: rows)
      states.append((place.logBytes, receipt.through, try store.rows(of: "unique-events")))
    }
    let sizes = states.map(\.bytes)
    try #require(zip(sizes, sizes.dropFirst()).allSatisfy { $0 < $1 }, "the log was not reset")
    for _ in 0..<30 {
      let cut = Int.random(in: sizes[0]...sizes[sizes.count - 1], using: &random)
      let expected = try #require(states.last { $0.bytes <= cut })
      let copy = try place.copyAsIfKilled(logBytes: cut)
      let again = try copy.open()
      #expect(again.through == expected.through, "seed \(seed), cut at \(cut)")
      #expect(try again.rows(of: "unique-events") == expected.rows, "seed \(seed), cut at \(cut)")
      let receipt = try await again.append(table: "unique-events", rows: [event("new")])
      #expect(receipt.first == expected.through.next)
      again.close()
    }
  }
}

@Suite struct `Registry` {
  @Test func `keeps the last document of each name over reopening`() async throws {
    let place = try TemporaryDirectory()
    let store = try place.open()
    try await store.setEntry(kind: "engine", name: "for_you", json: #"{"v":1}"#)
    try await store.setEntry(kind: "engine", name: "for_you", json: #"{"v":2}"#)
    try await store.setEntry(kind: "engine", name: "again", json: "{}")
    try await store.setEntry(kind: "generation", name: "for_you", json: "[]")
    try await store.removeEntry(kind: "engine", name: "again")
    try await store.removeEntry(kind: "engine", name: "never")
    store.close()
    let again = try place.open()
    #expect(
      try again.entries(kind: "engine") == [
        RegistryEntry(kind: "engine", name: "for_you", json: #"{"v":2}"#)
      ])
    #expect(try again.entry(kind: "generation", name: "for_you")?.json == "[]")
    #expect(try again.entry(kind: "generation", name: "other") == nil)
  }
}

@Suite struct `Artifacts` {
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
  ])
  func `are named by the SHA-256 of their bytes`(text: String, digest: String) throws {
    let place = try TemporaryDirectory()
    let store = ArtifactStore(try DataDirectory.open(place.path))
    let name = try store.write(Array(text.utf8), suffix: "bin")
    #expect(name == digest + ".bin")
    #expect(try store.read(name) == Array(text.utf8))
    #expect(try store.write(Array(text.utf8), suffix: "bin") == name)
    #expect(store.names() == [name])
  }

  @Test func `that were changed are not believed`() throws {
    let place = try TemporaryDirectory()
    let store = ArtifactStore(try DataDirectory.open(place.path))
    let name = try store.write([1, 2, 3], suffix: "bin")
    try Data([1, 2, 4]).write(to: URL(filePath: store.path(of: name)))
    #expect(throws: Diagnostic.self) { try store.read(name) }
    store.remove(name)
    let problem = #expect(throws: Diagnostic.self) { try store.read(name) }
    #expect(problem?.code == "unknown_artifact")
  }

  @Test func `that were left half written are removed`() throws {
    let place = try TemporaryDirectory()
    let directory = try DataDirectory.open(place.path)
    let partial = directory.artifactsPath + "/.partial-abc.bin"
    try Data([1]).write(to: URL(filePath: partial))
    let store = ArtifactStore(directory)
    #expect(store.names().isEmpty)
    #expect(!FileManager.default.fileExists(atPath: partial))
  }
}
