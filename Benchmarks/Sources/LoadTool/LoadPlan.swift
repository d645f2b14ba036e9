/// What to send, where, how often and for how long.
package struct LoadPlan: Sendable {
  /// The port on the loopback interface.
  package var port: UInt16
  package var path: String
  package var method: String
  /// Request bodies, sent in an order that `seed` decides. One empty body where there are none.
  package var bodies: [[UInt8]]
  /// Requests a second.
  package var rate: Double
  package var connections: Int
  /// Seconds before the measurement, at the same rate.
  package var warmUp: Double
  /// Seconds of the measurement.
  package var seconds: Double
  /// Seconds after sending after which a request counts as failed, and after the last due time after
  /// which nothing is sent any more.
  package var timeout: Double
  package var seed: UInt64

  /// Longest run that is taken, so that a slip does not load a machine for hours.
  package static let longestRun = 600.0

  package struct Invalid: Error, Hashable, Sendable, CustomStringConvertible {
    package var problems: [String]
    package var description: String { problems.joined(separator: "\n") }
  }

  package init(
    url: String, method: String = "POST", bodies: [[UInt8]] = [], rate: Double,
    connections: Int = 32, warmUp: Double = 2, seconds: Double = 10, timeout: Double = 5,
    seed: UInt64 = 1
  ) throws(Invalid) {
    var problems: [String] = []
    func check(_ isRight: Bool, _ problem: String) { if !isRight { problems.append(problem) } }
    var rest = url[...]
    check(rest.hasPrefix("http://"), "--url \(url): must start with http://")
    if rest.hasPrefix("http://") { rest = rest.dropFirst(7) }
    let authority = rest.prefix { $0 != "/" }
    let path = rest.dropFirst(authority.count)
    let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
    let host = parts.first.map(String.init) ?? ""
    check(
      ["127.0.0.1", "localhost"].contains(host),
      "--url \(url): the host must be 127.0.0.1 or localhost; this program loads no other machine")
    let port = parts.count == 2 ? UInt16(parts[1]) : parts.count == 1 ? 80 : nil
    check(port != nil && port != 0, "--url \(url): the port must be 1 to 65535")
    check(
      !path.utf8.contains { $0 <= 32 || $0 == 127 } && !method.utf8.contains { $0 <= 32 },
      "--url and --method must not hold spaces")
    check(rate.isFinite && rate > 0 && rate <= 200_000, "--rate \(rate): must be 0 to 200000")
    check((1...4096).contains(connections), "--connections \(connections): must be 1 to 4096")
    check(warmUp.isFinite && warmUp >= 0, "--warm-up \(warmUp): must be 0 or more")
    check(seconds.isFinite && seconds > 0, "--seconds \(seconds): must be above 0")
    check(timeout.isFinite && timeout > 0 && timeout <= 60, "--timeout \(timeout): must be 0 to 60")
    check(
      warmUp + seconds <= LoadPlan.longestRun,
      "--warm-up and --seconds together: at most \(Int(LoadPlan.longestRun))")
    check(
      rate <= 0 || (warmUp + seconds) * rate >= 1,
      "--rate \(rate): not one request in the time given")
    guard problems.isEmpty, let port else { throw Invalid(problems: problems) }
    self.port = port
    self.path = path.isEmpty ? "/" : String(path)
    self.method = method
    self.bodies = bodies.isEmpty ? [[]] : bodies
    self.rate = rate
    self.connections = connections
    self.warmUp = warmUp
    self.seconds = seconds
    self.timeout = timeout
    self.seed = seed
  }

  package var url: String { "http://127.0.0.1:\(port)\(path)" }

  /// All requests, the warm-up's included.
  package var requestCount: Int { Int(((warmUp + seconds) * rate).rounded()) }

  /// When a request is due, in seconds from the start.
  package func due(_ request: Int) -> Double { Double(request) / rate }

  /// Whether a request belongs to the measurement.
  package func isMeasured(_ request: Int) -> Bool { due(request) >= warmUp }

  /// The bytes of each possible request.
  package var requests: [[UInt8]] {
    bodies.map { body in
      var head = "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n"
      if !body.isEmpty {
        head += "Content-Type: application/json\r\n"
      }
      if !body.isEmpty || method != "GET" { head += "Content-Length: \(body.count)\r\n" }
      return Array((head + "\r\n").utf8) + body
    }
  }

  /// Which body a request carries: SplitMix64 of seed and number.
  package func bodyIndex(_ request: Int) -> Int {
    var z = (seed &+ UInt64(request)) &* 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return Int((z ^ (z >> 31)) % UInt64(bodies.count))
  }
}
