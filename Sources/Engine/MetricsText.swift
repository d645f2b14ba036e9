/// Figures in the text form that Prometheus reads.
package struct MetricsText: Sendable {
  package enum Kind: String, Sendable { case counter, gauge }

  /// One figure and what it is of.
  package struct Sample: Sendable {
    package var labels: [(name: String, value: String)]
    package var value: Double
    package init(_ labels: [(name: String, value: String)], _ value: Double) {
      self.labels = labels
      self.value = value
    }
    package init(_ value: Double) { self.init([], value) }
  }

  package private(set) var bytes: [UInt8] = []

  package init() {}

  /// Adds a family of figures; nothing where there are none.
  ///
  /// - Parameter name: with its unit at the end, and `_total` for a counter.
  package mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [Sample]) {
    if samples.isEmpty { return }
    bytes += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n".utf8
    for sample in samples {
      bytes += name.utf8
      if !sample.labels.isEmpty {
        bytes.append(UInt8(ascii: "{"))
        for (i, label) in sample.labels.enumerated() {
          if i > 0 { bytes.append(UInt8(ascii: ",")) }
          bytes += "\(label.name)=\"\(Self.escaped(label.value))\"".utf8
        }
        bytes.append(UInt8(ascii: "}"))
      }
      let whole = Int64(exactly: sample.value)
      bytes += " \(whole.map { String($0) } ?? sample.value.description)\n".utf8
    }
  }

  private static func escaped(_ value: String) -> String {
    value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
