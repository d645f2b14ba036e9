import Connectors
import Domain

extension MetricsText {
  /// Adds how the sources fare.
  mutating func add(sources: [SourceInfo]) {
    func samples(_ value: (SourceInfo) -> Double?) -> [Sample] {
      sources.compactMap { source in
        value(source).map {
          .init(
            [
              ("source", source.definition.name), ("type", source.definition.kind.rawValue),
              ("table", source.definition.table),
            ], $0)
        }
      }
    }
    add(
      "riffle_source_rows_total", .counter, "Rows that a source has brought in.",
      samples { Double($0.status.rowCount) })
    add(
      "riffle_source_dead_letters_total", .counter, "Records of a source that did not fit.",
      samples { Double($0.status.deadLetterCount) })
    add(
      "riffle_source_filtered_total", .counter, "Records that a source's filter passed over.",
      samples { Double($0.status.filteredCount) })
    add(
      "riffle_source_duplicates_total", .counter, "Records that a source knew as repetitions.",
      samples { Double($0.status.duplicateCount) })
    add(
      "riffle_source_errors_total", .counter, "Failures of a source.",
      samples { Double($0.status.errorCount) })
    add(
      "riffle_source_up", .gauge, "1 while a source reads or is read to its end.",
      samples { [.running, .finished].contains($0.status.state) ? 1 : 0 })
    add(
      "riffle_source_paused", .gauge, "1 while a source is paused.",
      samples { $0.isPaused ? 1 : 0 })
    add(
      "riffle_source_lag_records", .gauge, "Records that a source is behind.",
      samples { $0.status.lag.records.map(Double.init) })
    add(
      "riffle_source_lag_bytes", .gauge, "Bytes that a source is behind.",
      samples { $0.status.lag.bytes.map(Double.init) })
    add(
      "riffle_source_lag_seconds", .gauge, "Time that a source is behind.",
      samples { $0.status.lag.milliseconds.map { Double($0) / 1000 } })
    add(
      "riffle_source_last_delivery_seconds", .gauge,
      "When a source delivered last, in seconds since 1970.",
      samples { $0.status.lastDeliveryAt?.secondsSinceEpoch })
  }
}
