/// What one run of the load program found. All times are in seconds.
package struct LoadReport: Sendable {
  package var url: String
  package var rate: Double
  package var connections: Int
  package var seconds: Double
  /// From the moment a request was due to its last byte, sorted. Failed requests count as well, with
  /// the time until they failed.
  package var latencies: [Double] = []
  /// From the moment a request was due until it was sent, sorted: what the program and a lack of free
  /// connections added.
  package var lags: [Double] = []
  /// Answers by status.
  package var statuses: [Int: Int] = [:]
  /// Requests without an answer by what went wrong.
  package var failures: [String: Int] = [:]
  package var bodyBytes = 0
  /// From the first measured request's due time to the last answer.
  package var elapsed = 0.0

  package init(url: String, rate: Double, connections: Int, seconds: Double) {
    (self.url, self.rate, self.connections, self.seconds) = (url, rate, connections, seconds)
  }

  package var answered: Int { statuses.values.reduce(0, +) }
  package var non2xx: Int {
    statuses.reduce(0) { $0 + ((200..<300).contains($1.key) ? 0 : $1.value) }
  }
  package var failed: Int { failures.values.reduce(0, +) }

  /// The smallest time that at least this share of the sorted times does not exceed (nearest rank).
  package static func percentile(_ share: Double, of sorted: [Double]) -> Double {
    guard !sorted.isEmpty else { return .nan }
    let rank = Int((share * Double(sorted.count)).rounded(.up))
    return sorted[min(max(rank, 1), sorted.count) - 1]
  }

  /// One line of JSON.
  package var json: String {
    func milliseconds(_ share: Double, _ times: [Double]) -> String {
      number(LoadReport.percentile(share, of: times) * 1e3)
    }
    func counts(_ pairs: [(String, Int)]) -> String {
      "{" + pairs.map { "\(quoted($0.0)):\($0.1)" }.joined(separator: ",") + "}"
    }
    let members: [(String, String)] = [
      ("url", quoted(url)),
      ("rate", number(rate)),
      ("achieved_rate", number(elapsed > 0 ? Double(answered) / elapsed : 0)),
      ("connections", String(connections)),
      ("seconds", number(seconds)),
      ("requests", String(answered + failed)),
      ("non_2xx", String(non2xx)),
      ("failed", String(failed)),
      ("p50_ms", milliseconds(0.5, latencies)),
      ("p90_ms", milliseconds(0.9, latencies)),
      ("p99_ms", milliseconds(0.99, latencies)),
      ("max_ms", milliseconds(1, latencies)),
      ("send_lag_p50_ms", milliseconds(0.5, lags)),
      ("send_lag_p99_ms", milliseconds(0.99, lags)),
      ("mean_body_bytes", number(answered > 0 ? Double(bodyBytes) / Double(answered) : 0)),
      ("statuses", counts(statuses.sorted { $0.key < $1.key }.map { (String($0.key), $0.value) })),
      ("failures", counts(failures.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })),
    ]
    return "{" + members.map { "\(quoted($0.0)):\($0.1)" }.joined(separator: ",") + "}"
  }

  /// A few lines for people.
  package var text: String {
    func milliseconds(_ share: Double) -> String {
      number(LoadReport.percentile(share, of: latencies) * 1e3)
    }
    var lines = [
      "\(url): \(answered + failed) requests at \(number(rate))/s over \(connections) connections",
      "  latency ms  p50 \(milliseconds(0.5))  p90 \(milliseconds(0.9))  p99 \(milliseconds(0.99))"
        + "  max \(milliseconds(1))",
      "  achieved \(number(elapsed > 0 ? Double(answered) / elapsed : 0))/s, non-2xx \(non2xx), "
        + "failed \(failed)",
    ]
    let lag = LoadReport.percentile(0.99, of: lags)
    if lag > 0.001 {
      lines.append(
        "  note: 1 % of the requests left more than \(number(lag * 1e3)) ms after they were due; "
          + "that time is in the latencies")
    }
    for (failure, count) in failures.sorted(by: { $0.key < $1.key }) {
      lines.append("  \(count) × \(failure)")
    }
    return lines.joined(separator: "\n")
  }
}

/// A number with at most three decimals.
private func number(_ value: Double) -> String {
  guard value.isFinite else { return "null" }
  let thousandths = (value * 1000).rounded() / 1000
  return thousandths == thousandths.rounded() && abs(thousandths) < 1e15
    ? String(Int(thousandths)) : String(thousandths)
}

private func quoted(_ text: String) -> String {
  var out = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"", "\\": out += "\\" + String(scalar)
    case _ where scalar.value < 32: out += " "
    default: out += String(scalar)
    }
  }
  return out + "\""
}
