import Domain
import Ingest
import Storage
import Synchronization

extension RiffleDatabase {
  /// Adds the database's figures: the log, what comes in, what does not fit, alerts and engines.
  package func writeMetrics(into text: inout MetricsText) throws {
    typealias Sample = MetricsText.Sample
    text.add(
      "riffle_log_position", .gauge, "Position of the last acknowledged row.",
      [Sample(Double(through.rawValue))])
    let waiting = log.waiting
    text.add(
      "riffle_waiting_rows", .gauge, "Rows that wait for the disk.", [Sample(Double(waiting.rows))])
    text.add(
      "riffle_waiting_bytes", .gauge, "Bytes of requests that wait for the disk.",
      [Sample(Double(waiting.bytes))])
    let totals = desk.totals.sorted { $0.key < $1.key }
    func perTable(_ value: (IngestDesk.Totals) -> Int) -> [Sample] {
      totals.map { Sample([("table", $0.key)], Double(value($0.value))) }
    }
    text.add(
      "riffle_rows_accepted_total", .counter, "Records that became rows.", perTable(\.accepted))
    text.add(
      "riffle_rows_dead_total", .counter, "Records that did not fit.", perTable(\.dead))
    text.add(
      "riffle_rows_replaced_total", .counter, "Rows replaced by one with the same unique key.",
      perTable(\.replaced))
    text.add(
      "riffle_requests_refused_total", .counter, "Requests that a strict table refused.",
      perTable(\.refusedRequests))
    text.add(
      "riffle_requests_repeated_total", .counter, "Requests whose idempotency key was known.",
      perTable(\.repeatedRequests))
    text.add(
      "riffle_requests_overloaded_total", .counter,
      "Requests refused because too much waited for the disk.", perTable(\.overloads))
    text.add(
      "riffle_dead_letters", .gauge, "Dead letters that are kept.",
      try log.deadLetterCounts().map {
        Sample(
          [("table", $0.table), ("source", $0.source), ("code", $0.code)], Double($0.count))
      })
    text.add(
      "riffle_schema_alerts", .gauge, "Changes of shape that were seen within a day.",
      try schemaAlerts().map {
        Sample(
          [
            ("table", $0.table), ("source", $0.source), ("kind", $0.kind.rawValue),
            ("column", $0.column ?? ""),
          ], 1)
      })
    text.add(
      "riffle_schema_alerts_total", .counter, "Looks at the traffic that found a change of shape.",
      desk.alertCounts.sorted { $0.key < $1.key }.flatMap { table, kinds in
        kinds.sorted { $0.key.rawValue < $1.key.rawValue }.map {
          Sample([("table", table), ("kind", $0.key.rawValue)], Double($0.value))
        }
      })
    let engines = self.engines
    text.add(
      "riffle_engine_position", .gauge, "Log position of an engine's newest state.",
      engines.map { Sample([("engine", $0.name)], Double($0.asOf.rawValue)) })
    text.add(
      "riffle_engine_generation", .gauge, "Number of an engine's published generation.",
      engines.compactMap { engine in
        engine.generation.map { Sample([("engine", engine.name)], Double($0.number)) }
      })
    for write in metricWriters { write(&text) }
  }

  /// Adds figures of another part, such as a connector, to the metrics.
  package func addMetrics(_ write: @escaping @Sendable (inout MetricsText) -> Void) {
    moreMetrics.withLock { $0.append(write) }
  }

  private var metricWriters: [@Sendable (inout MetricsText) -> Void] {
    moreMetrics.withLock { $0 }
  }
}
