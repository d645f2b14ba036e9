import Domain
import Foundation
import Storage
import Testing

private func events() -> TableSchema {
  TableSchema(
    name: "video_events",
    columns: [
      .init(name: "event_id", type: .string), .init(name: "user_id", type: .string),
      .init(name: "video_id", type: .string), .init(name: "event", type: .lowCardinalityString),
      .init(name: "watch_ratio", type: .double), .init(name: "created_at", type: .dateTime),
    ], uniqueKeys: ["event_id"])
}

private func event(_ id: Int, _ event: String, _ ratio: Double, user: Int = 1) -> [Value] {
  [
    .string("e\(id)"), .string("u\(user)"), .string("v\(id % 7)"), .string(event), .double(ratio),
    .timestamp(Timestamp(microsecondsSinceEpoch: 1_700_000_000_000_000 + Int64(id) * 250_000)),
  ]
}

private let labels = """
  SELECT event_id, user_id, video_id AS item_id, event AS event_value, created_at,
    if(event IN ('like','share') OR watch_ratio >= 0.8, 1, if(event = 'skip', -1, 0)) AS label
  FROM video_events
  """

private let noon = Timestamp(secondsSinceEpoch: 1_700_000_000)

/// Everything that a table holds, by its log.
private func rows(_ store: LogStore, _ table: String) throws -> [[Value]] {
  var rows: [[Value]] = []
  try store.replay(tables: [table]) { batches, _ in
    rows += batches.flatMap { $0.inserted.map(\.values) }
  }
  return rows
}

private func withStore<Result: Sendable>(
  _ body: (LogStore) async throws -> Result
) async throws -> Result {
  let directory = try TemporaryDirectory()
  let store = try directory.open()
  defer { store.close() }
  return try await body(store)
}

private func fill(_ store: LogStore, _ view: String, by rows: Int = 3) async throws {
  while try await store.fillView(view, rows: rows) {}
}

@Suite struct `A view that follows its table row by row` {
  @Test func `is filled with what was there, and then written with each commit`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      _ = try await store.append(
        table: "video_events",
        rows: (0..<10).map { event($0, $0 % 2 == 0 ? "like" : "view", 0.1) })
      let view = try await store.createView(
        ViewDefinition(name: "labels", sql: labels, kind: .materialised), at: noon)
      #expect(view.upkeep == .withEachRow && view.sources == ["video_events"])
      #expect(
        view.columns.map(\.type) == [
          .string, .string, .string, .string, .dateTime, .int64,
        ])
      try await fill(store, "labels")
      #expect(try store.view("labels").status == .active)
      let receipt = try await store.append(
        table: "video_events", rows: [event(10, "skip", 0.1), event(11, "view", 0.9)])
      let found = try rows(store, "labels")
      #expect(found.count == 12)
      #expect(found.map { $0[5] } == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, -1, 1].map { .int($0) })
      #expect(
        found[11] == [
          .string("e11"), .string("u1"), .string("v4"), .string("view"),
          .timestamp(Timestamp(microsecondsSinceEpoch: 1_700_000_002_750_000)), .int(1),
        ])
      // The receipt covers the view's rows: who waits for it sees them.
      #expect(receipt.through == store.through)
    }
  }

  @Test func `shows its rows to the observer in the commit of their source`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      _ = try await store.createView(
        ViewDefinition(name: "labels", sql: labels, kind: .materialised), at: noon)
      try await fill(store, "labels")
      let seen = Shared<[[CommittedBatch]]>([])
      store.onCommit { batches, _ in seen.withLock { $0.append(batches) } }
      _ = try await store.append(table: "video_events", rows: [event(1, "like", 0)])
      _ = try await store.append(table: "video_events", rows: [event(1, "skip", 0)])
      let commits = seen.withLock { $0 }
      #expect(
        commits.map { $0.map(\.table) } == [
          ["video_events", "labels"], ["video_events", "labels"],
        ])
      #expect(commits[0][1].inserted.map { $0.values[5] } == [.int(1)])
      // A replaced event takes its view's row with it.
      #expect(commits[1][1].replaced.map { $0.values[5] } == [.int(1)])
      #expect(commits[1][1].inserted.map { $0.values[5] } == [.int(-1)])
      #expect(try rows(store, "labels").map { $0[5] } == [.int(-1)])
    }
  }

  @Test func `leaves rows out by WHERE, and takes them out when they are removed`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      let first = try await store.append(
        table: "video_events", rows: (0..<6).map { event($0, $0 < 3 ? "like" : "view", 0) })
      _ = try await store.createView(
        ViewDefinition(
          name: "likes", sql: "SELECT * FROM video_events e WHERE e.event = 'like'",
          kind: .materialised), at: noon)
      _ = try await store.createView(
        ViewDefinition(
          name: "liked", sql: "SELECT video_id, toHour(created_at) AS hour FROM likes",
          kind: .materialised), at: noon)
      try await fill(store, "likes")
      try await fill(store, "liked")
      #expect(try rows(store, "likes").count == 3 && rows(store, "liked").count == 3)
      var batch = LogBatch()
      batch.removals = [LogBatch.Removal(table: "video_events", positions: [first.first])]
      _ = try await store.commit(batch)
      _ = try await store.append(table: "video_events", rows: [event(9, "like", 0)])
      #expect(try rows(store, "likes").map { $0[0] } == ["e1", "e2", "e9"].map { .string($0) })
      // A view of a view follows too.
      #expect(try rows(store, "liked").map { $0[0] } == ["v1", "v2", "v2"].map { .string($0) })
      #expect(try rows(store, "liked").allSatisfy { $0[1] == .int(22) })
    }
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func `is what its query gives, whatever came and went`(seed: UInt64) async throws {
    try await withStore { store in
      var random = SeededGenerator(seed: seed)
      try await store.createTable(events(), at: noon)
      _ = try await store.createView(
        ViewDefinition(name: "labels", sql: labels, kind: .materialised), at: noon)
      _ = try await store.createView(
        ViewDefinition(name: "now_", sql: labels, kind: .plain), at: noon)
      for step in 0..<60 {
        if step == 20 { try await fill(store, "labels", by: 7) }
        let new = (0..<1 + Int(random.next() % 5)).map { _ in
          event(
            Int(random.next() % 40), ["like", "skip", "view"][Int(random.next() % 3)],
            Double(random.next() % 10) / 10)
        }
        _ = try await store.append(table: "video_events", rows: new)
      }
      var asked: [[Value]] = []
      _ = try store.readView("now_", isOver: { false }) { asked.append($0) }
      let kept = try rows(store, "labels")
      #expect(Set(kept) == Set(asked) && kept.count == asked.count, "seed \(seed)")
    }
  }

  @Test func `never keeps a row of its table from being stored`() async throws {
    try await withStore { store in
      try await store.createTable(
        TableSchema(name: "t", columns: [.init(name: "doc", type: .string)]), at: noon)
      _ = try await store.append(table: "t", rows: [[.string("{\"a\":1}")]])
      _ = try await store.createView(
        ViewDefinition(
          name: "v", sql: "SELECT json_extract(doc, '$.a') AS a FROM t", kind: .materialised),
        at: noon)
      try await fill(store, "v")
      _ = try await store.append(table: "t", rows: [[.string("no document")]])
      let view = try store.view("v")
      #expect(view.status == .failed && view.problem?.contains("JSON") == true)
      #expect(try store.rowCount(of: "t") == 2)
      _ = try await store.append(table: "t", rows: [[.string("{\"a\":2}")]])
      #expect(try store.rowCount(of: "t") == 3)
    }
  }

  @Test func `makes cells that do not fit null, and counts them`() async throws {
    try await withStore { store in
      try await store.createTable(
        TableSchema(name: "t", columns: [.init(name: "a", type: .string)]), at: noon)
      _ = try await store.createView(
        ViewDefinition(
          name: "v", sql: "SELECT if(a = 'x', 'text', 1) AS b FROM t", kind: .materialised,
          types: ["b": .int64]), at: noon)
      try await fill(store, "v")
      _ = try await store.append(table: "t", rows: [[.string("y")], [.string("x")]])
      #expect(try rows(store, "v") == [[.int(1)], [.null]])
      #expect(try store.view("v").misfits == 1)
    }
  }

  @Test func `goes on after the store was opened again`() async throws {
    let directory = try TemporaryDirectory()
    do {
      let store = try directory.open()
      try await store.createTable(events(), at: noon)
      _ = try await store.createView(
        ViewDefinition(name: "labels", sql: labels, kind: .materialised), at: noon)
      try await fill(store, "labels")
      _ = try await store.append(table: "video_events", rows: [event(1, "like", 0)])
      store.close()
    }
    let store = try directory.open()
    _ = try await store.append(table: "video_events", rows: [event(2, "skip", 0)])
    #expect(try rows(store, "labels").map { $0[5] } == [.int(1), .int(-1)])
    #expect(try store.view("labels").definition.sql == labels)
    store.close()
  }
}

@Suite struct `A view that is computed as a whole` {
  @Test(arguments: [
    ("SELECT video_id, count(*) AS n FROM video_events GROUP BY video_id", "GROUP BY"),
    ("SELECT count(*) AS n FROM video_events", "aggregates"),
    ("SELECT a.video_id FROM video_events a JOIN video_events b ON a.user_id = b.user_id", "join"),
    ("SELECT DISTINCT user_id FROM video_events", "DISTINCT"),
    ("SELECT user_id FROM video_events ORDER BY created_at LIMIT 5", "ORDER BY"),
    ("SELECT user_id FROM video_events WHERE created_at > subtractDays(now(), 7)", "now"),
    (
      "SELECT user_id FROM video_events WHERE user_id IN (SELECT user_id FROM video_events)",
      "subquery"
    ),
    ("SELECT user_id FROM video_events UNION SELECT video_id FROM video_events", "union"),
    ("WITH a AS (SELECT * FROM video_events) SELECT user_id FROM a", "WITH"),
    ("SELECT row_number() OVER (ORDER BY created_at) AS n FROM video_events", "ORDER BY"),
    ("SELECT max(watch_ratio) AS m FROM video_events", "max"),
  ]) func `says why`(sql: String, reason: String) async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      let view = try await store.createView(
        ViewDefinition(name: "v", sql: sql, kind: .materialised), at: noon)
      #expect(view.upkeep == .onSchedule)
      #expect(view.upkeepReason?.contains(reason) == true, "\(view.upkeepReason ?? "-")")
    }
  }

  @Test func `writes what differs and no more`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      let sql = """
        SELECT video_id AS item_id, count(*) AS views, countIf(event = 'like') AS likes,
          avg(watch_ratio) AS ratio, max(created_at) AS last, groupUniqArray(user_id) AS users
        FROM video_events GROUP BY video_id
        """
      let view = try await store.createView(
        ViewDefinition(name: "stats", sql: sql, kind: .materialised), at: noon)
      #expect(
        view.columns.map(\.type) == [.string, .int64, .int64, .double, .dateTime, .stringArray])
      _ = try await store.append(
        table: "video_events", rows: (0..<14).map { event($0, "like", 0.5, user: $0) })
      #expect(try await store.refreshView("stats", at: noon) == (added: 7, removed: 0))
      #expect(try await store.refreshView("stats", at: noon) == (added: 0, removed: 0))
      _ = try await store.append(table: "video_events", rows: [event(100, "skip", 0.5, user: 9)])
      #expect(try await store.refreshView("stats", at: noon) == (added: 1, removed: 1))
      let found = try rows(store, "stats").first { $0[0] == .string("v2") }
      #expect(found?[1] == .int(3) && found?[2] == .int(2) && found?[3] == .double(0.5))
      #expect(found?[5] == .array([.string("u2"), .string("u9")]))
      #expect(try rows(store, "stats").count == 7)
    }
  }

  @Test func `joins tables and reads plain views`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      try await store.createTable(
        TableSchema(
          name: "videos",
          columns: [
            .init(name: "video_id", type: .string), .init(name: "tags", type: .stringArray),
          ], uniqueKeys: ["video_id"]), at: noon)
      _ = try await store.append(
        table: "videos",
        rows: (0..<7).map { [.string("v\($0)"), .array([.string("t\($0 % 2)")])] })
      _ = try await store.append(
        table: "video_events", rows: (0..<6).map { event($0, "like", 0.5) })
      _ = try await store.createView(
        ViewDefinition(
          name: "odd", sql: "SELECT video_id FROM videos WHERE has(tags, 't1')", kind: .plain),
        at: noon)
      let view = try await store.createView(
        ViewDefinition(
          name: "odd_events",
          sql: "SELECT e.user_id, e.video_id, v.tags FROM video_events e "
            + "JOIN videos v ON v.video_id = e.video_id JOIN odd ON odd.video_id = v.video_id",
          kind: .materialised), at: noon)
      #expect(view.sources == ["odd", "video_events", "videos"])
      #expect(view.columns.map(\.type) == [.string, .string, .stringArray])
      #expect(try await store.refreshView("odd_events", at: noon).added == 3)
      await #expect(throws: Diagnostic.self) { try await store.dropView("odd") }
    }
  }
}

@Suite struct `A view's errors` {
  private func problem(_ sql: String) async throws -> Diagnostic? {
    try await withStore { store -> Diagnostic? in
      try await store.createTable(events(), at: noon)
      do {
        _ = try await store.createView(
          ViewDefinition(name: "v", sql: sql, kind: .materialised), at: noon)
        return nil
      } catch let error as Diagnostics { return error.all.first }
    }
  }

  @Test(arguments: [
    ("SELECT usr_id FROM video_events", "usr_id", "user_id"),
    ("SELECT user_id\nFROM video_event", "video_event", "video_events"),
    (
      "SELECT toUnixTimestmp(created_at) AS t FROM video_events", "toUnixTimestmp",
      "toUnixTimestamp"
    ),
    ("SELECT user_id FORM video_events", "video_events", ""),
  ]) func `point into the SQL`(sql: String, culprit: String, near: String) async throws {
    let found = try #require(try await problem(sql))
    #expect(found.code == "invalid_sql")
    let span = try #require(found.span)
    let bytes = Array(span.text.utf8)
    #expect(String(decoding: bytes[span.range], as: UTF8.self) == culprit)
    #expect(near.isEmpty || found.help?.contains(near) == true, "\(found)")
  }

  @Test(arguments: [
    "DELETE FROM video_events", "SELECT 1; DROP TABLE video_events",
    "SELECT * FROM _riffle_meta", "SELECT * FROM \"sqlite_master\"",
    "SELECT * FROM pragma_table_info('video_events')", "ATTACH '/tmp/x' AS y",
    "SELECT load_extension('x') AS a FROM video_events", "SELECT ? AS a FROM video_events",
    "WITH x AS (SELECT 1) DELETE FROM video_events", "SELECT 1 AS a", "", "SELECT 'open",
    "SELECT user_id AS a, video_id AS a FROM video_events", "PRAGMA journal_mode = OFF",
    "SELECT * FROM main.video_events JOIN main._riffle_tables",
  ]) func `refuse what is no view`(sql: String) async throws {
    #expect(try await problem(sql) != nil)
  }

  @Test func `keep names apart`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      await #expect(throws: Diagnostics.self) {
        try await store.createView(
          ViewDefinition(
            name: "Video_Events", sql: "SELECT user_id FROM video_events", kind: .plain), at: noon)
      }
      do {
        _ = try store.view("x")
        Issue.record("there is no such view")
      } catch let error as Diagnostic { #expect(error.code == "unknown_view") }
    }
  }
}

@Suite struct `The functions of views` {
  @Test(arguments: [
    ("if(1, 'a', 'b')", Value.string("a")), ("multiIf(0, 1, 1, 2, 3)", .int(2)),
    ("multiIf(0, 1, 0, 2, 3)", .int(3)), ("toUnixTimestamp(d)", .int(1_704_164_645)),
    ("toDateTime(1704164645)", .string("2024-01-02 03:04:05")),
    ("toDate(d)", .string("2024-01-02")),
    ("toStartOfDay(d)", .string("2024-01-02 00:00:00")),
    ("toMonday('2024-01-07 12:00:00')", .string("2024-01-01 00:00:00")),
    ("toStartOfWeek('2024-01-07 12:00:00')", .string("2024-01-07 00:00:00")),
    ("toDayOfWeek('2024-01-07')", .int(7)), ("toHour(d)", .int(3)), ("toYear(d)", .int(2024)),
    ("addDays(d, 30)", .string("2024-02-01 03:04:05")),
    ("subtractHours('1970-01-01', 1)", .string("1969-12-31 23:00:00")),
    ("dateDiff('day', '2024-01-01 23:59:59', '2024-01-02')", .int(1)),
    ("toInt64('12')", .int(12)), ("toInt64('x')", .null), ("toFloat64('1.5')", .double(1.5)),
    ("has('[\"a\",\"b\"]', 'b')", .int(1)), ("arrayElement('[5,6]', -1)", .int(6)),
    ("arrayStringConcat('[1,2]', '-')", .string("1-2")),
    ("splitByChar(',', 'a,b')", .string("[\"a\",\"b\"]")),
    ("JSONExtractInt('{\"a\":7}', 'a')", .int(7)), ("greatest(1, 3, 2)", .int(3)),
    ("startsWith('abc', 'ab')", .int(1)), ("concat('a', 1)", .string("a1")),
    ("intDiv(7, 2)", .int(3)), ("intDiv(7, 0)", .null), ("lengthUTF8('äb')", .int(2)),
    ("isNull(NULL)", .int(1)), ("toStartOfMonth(d)", .string("2024-01-01 00:00:00")),
  ]) func `give what their originals give`(call: String, value: Value) async throws {
    try await withStore { store in
      try await store.createTable(
        TableSchema(name: "t", columns: [.init(name: "d", type: .dateTime)]), at: noon)
      _ = try await store.append(
        table: "t", rows: [[.timestamp(Timestamp(secondsSinceEpoch: 1_704_164_645))]])
      let type: ColumnType =
        switch value {
        case .int: .int64
        case .double: .double
        default: .string
        }
      _ = try await store.createView(
        ViewDefinition(
          name: "v", sql: "SELECT \(call) AS x FROM t", kind: .plain, types: ["x": type]),
        at: noon)
      var found: [Value] = []
      _ = try store.readView("v", isOver: { false }) { found += $0 }
      #expect(found == [value])
    }
  }

  @Test func `compare times as times`() async throws {
    try await withStore { store in
      try await store.createTable(events(), at: noon)
      _ = try await store.append(
        table: "video_events", rows: (0..<8).map { event($0, "view", 0) })
      _ = try await store.createView(
        ViewDefinition(
          name: "v",
          sql: "SELECT event_id FROM video_events WHERE created_at >= '2023-11-14 22:13:21'",
          kind: .plain), at: noon)
      var found: [Value] = []
      _ = try store.readView("v", isOver: { false }) { found += $0 }
      #expect(found == (4..<8).map { .string("e\($0)") })
    }
  }
}
