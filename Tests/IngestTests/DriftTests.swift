import Domain
import Ingest
import Testing

@Suite struct `Drift` {
  private static let schema = TableSchema(
    name: "events",
    columns: [
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "event", type: .string),
      ColumnDefinition(name: "ratio", type: .double),
    ])

  /// Traffic of ten records a second, told as the monitor sees it.
  private struct Traffic {
    var monitor = DriftMonitor(Drift.schema, source: "http")
    var second = 0
    var alerts: [SchemaAlert] = []

    mutating func send(_ seconds: Int, _ record: (Int) -> JSON) {
      let decoder = RowDecoder(Drift.schema)
      for _ in 0..<seconds {
        let records = (0..<10).map { SourceRecord(.json(record(second * 10 + $0))) }
        let decoded = decoder.decode(records: records)
        alerts += monitor.observe(
          decoded.tally, rows: decoded.rows,
          at: Timestamp(microsecondsSinceEpoch: Int64(second) * 1_000_000))
        second += 1
      }
    }

    var kinds: [SchemaAlert.Kind] { alerts.map(\.kind) }
  }

  private static func usual(_ i: Int) -> JSON {
    [
      "user_id": .string("u\(i % 500)"), "event": .string(i % 5 == 0 ? "like" : "view"),
      "ratio": i % 20 == 0 ? .null : .double(Double(i % 100) / 100),
    ]
  }

  private static func changed(_ i: Int, _ name: String, _ value: JSON?) -> JSON {
    .object(
      (usual(i).object ?? []).filter { $0.name != name } + (value.map { [.init(name, $0)] } ?? []))
  }

  @Test func `is silent about usual traffic`() {
    var traffic = Traffic()
    traffic.send(600, Self.usual)
    #expect(traffic.alerts.isEmpty)
  }

  @Test func `tells a new column at once and with each window`() {
    var traffic = Traffic()
    traffic.send(60, Self.usual)
    traffic.send(1) { Self.changed($0, "device", "phone") }
    #expect(traffic.kinds == [.newColumn])
    #expect(traffic.alerts.first?.column == "device")
  }

  @Test func `tells each change within a minute`() {
    let changes: [(SchemaAlert.Kind, String?, (Int) -> JSON)] = [
      (.vanishedColumn, "event", { Self.changed($0, "event", nil) }),
      (.nullShare, "ratio", { Self.changed($0, "ratio", $0 % 2 == 0 ? .null : .double(0.5)) }),
      (.changedType, "ratio", { Self.changed($0, "ratio", .string("0.5")) }),
      (.eventMix, "event", { Self.changed($0, "event", .string($0 % 5 == 0 ? "view" : "like")) }),
      (.range, "ratio", { Self.changed($0, "ratio", .double(Double($0 % 100) * 1000)) }),
      (.deadLetters, nil, { Self.changed($0, "ratio", $0 % 4 == 0 ? "x" : 0.5) }),
    ]
    for (kind, column, record) in changes {
      var traffic = Traffic()
      traffic.send(120, Self.usual)
      #expect(traffic.alerts.isEmpty)
      traffic.send(60, record)
      let alert = traffic.alerts.first { $0.kind == kind }
      #expect(alert != nil, "\(kind)")
      #expect(alert?.column == column)
      #expect((alert?.firstSeen.secondsSinceEpoch ?? .infinity) <= 180)
      // What is new becomes usual.
      let before = traffic.alerts.count
      traffic.send(1200, record)
      let after = traffic.alerts.count
      traffic.send(300, record)
      if kind != .deadLetters { #expect(traffic.alerts.count == after, "\(kind) \(before)") }
    }
  }

  @Test func `keeps what it learned over a restart`() {
    var traffic = Traffic()
    traffic.send(120, Self.usual)
    var restarted = Traffic()
    restarted.monitor.restore(traffic.monitor.json)
    restarted.second = traffic.second
    restarted.send(60) { Self.changed($0, "event", nil) }
    #expect(restarted.kinds.contains(.vanishedColumn))
  }

  @Test func `follows a table that gets another column`() {
    var traffic = Traffic()
    traffic.send(120, Self.usual)
    var wider = Self.schema
    wider.columns.insert(ColumnDefinition(name: "device", type: .string), at: 0)
    traffic.monitor.adopt(wider)
    let decoder = RowDecoder(wider)
    for second in 120..<200 {
      let records = (0..<10).map {
        SourceRecord(.json(Self.changed(second * 10 + $0, "device", "phone")))
      }
      let decoded = decoder.decode(records: records)
      traffic.alerts += traffic.monitor.observe(
        decoded.tally, rows: decoded.rows,
        at: Timestamp(microsecondsSinceEpoch: Int64(second) * 1_000_000))
    }
    #expect(traffic.kinds.allSatisfy { $0 == .nullShare })
    #expect(traffic.alerts.allSatisfy { $0.column == "device" })
  }
}
