package import Domain

/// How a source fares.
package struct SourceStatus: Hashable, Sendable {
  package enum State: String, Hashable, Sendable {
    /// It connects.
    case starting
    /// It reads, or waits for what comes next.
    case running
    case paused
    /// It failed and will try again.
    case backingOff = "backing_off"
    /// It waits for the server to take more rows.
    case throttled
    /// Nothing more will come: a file that is not watched is read to its end.
    case finished
    case stopped
  }

  package var state = State.stopped
  /// Rows that were stored since the server started.
  package var rowCount = 0
  /// Records that became dead letters.
  package var deadLetterCount = 0
  /// Records that the filter passed over.
  package var filteredCount = 0
  /// Records that had come before.
  package var duplicateCount = 0
  package var deliveryCount = 0
  /// Failures since the server started.
  package var errorCount = 0
  /// Failures since the last success.
  package var attempt = 0
  package var lastError: Diagnostic?
  package var lastErrorAt: Timestamp?
  package var lastDeliveryAt: Timestamp?
  /// When the source took in the newest record that is stored, by its own clock.
  package var newestRecordAt: Timestamp?
  package var nextAttemptAt: Timestamp?
  package var lag = SourceLag()
  package var warning: String?

  package init() {}

  /// The state on one line.
  package func line(at now: Timestamp) -> String {
    var words = ["\(state.rawValue): \(rowCount) rows"]
    if deadLetterCount > 0 { words.append("\(deadLetterCount) dead letters") }
    if filteredCount > 0 { words.append("\(filteredCount) filtered") }
    if duplicateCount > 0 { words.append("\(duplicateCount) duplicates") }
    if let records = lag.records { words.append("\(records) records behind") }
    if let bytes = lag.bytes { words.append("\(bytes) bytes behind") }
    if let milliseconds = lag.milliseconds { words.append("\(milliseconds) ms behind") }
    if let lastDeliveryAt {
      words.append("last \(Self.ago(lastDeliveryAt, now))")
    }
    if state == .backingOff, let nextAttemptAt {
      let wait = max(0, nextAttemptAt.secondsSinceEpoch - now.secondsSinceEpoch)
      words.append("attempt \(attempt + 1) in \(Int(wait.rounded(.up))) s")
    }
    let isTryingAgain = state == .starting && attempt > 0
    if isTryingAgain { words.append("attempt \(attempt + 1)") }
    var line = words.joined(separator: ", ")
    // An attempt may take long; why the last one failed is told meanwhile.
    if let lastError, state == .backingOff || state == .throttled || isTryingAgain {
      line += "; \(lastError.message)"
    } else if let warning {
      line += "; \(warning)"
    }
    return line
  }

  private static func ago(_ time: Timestamp, _ now: Timestamp) -> String {
    let seconds = Int(max(0, now.secondsSinceEpoch - time.secondsSinceEpoch))
    switch seconds {
    case ..<120: return "\(seconds) s ago"
    case ..<7200: return "\(seconds / 60) min ago"
    default: return "\(seconds / 3600) h ago"
    }
  }

  package var json: JSON {
    func time(_ time: Timestamp?) -> JSON { time.map { .string($0.iso8601) } ?? .null }
    func number(_ number: Int?) -> JSON { number.map { .int(Int64($0)) } ?? .null }
    return [
      "state": .string(state.rawValue),
      "rows": number(rowCount), "dead_letters": number(deadLetterCount),
      "filtered": number(filteredCount), "duplicates": number(duplicateCount),
      "deliveries": number(deliveryCount), "errors": number(errorCount),
      "attempt": number(attempt),
      "last_error": lastError.map {
        [
          "code": .string($0.code), "message": .string($0.message),
          "help": $0.help.map { .string($0) } ?? .null, "at": time(lastErrorAt),
        ]
      } ?? .null,
      "last_delivery_at": time(lastDeliveryAt), "newest_record_at": time(newestRecordAt),
      "next_attempt_at": time(nextAttemptAt),
      "lag": [
        "records": number(lag.records), "bytes": number(lag.bytes),
        "milliseconds": number(lag.milliseconds),
      ],
      "warning": warning.map { .string($0) } ?? .null,
    ]
  }
}
