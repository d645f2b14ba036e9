#if Kafka
  import Foundation

  /// A network of its own in which a server runs, tied to this one by a wire that can be cut.
  ///
  /// The brokers listen on this side's loopback only and tell clients so; a relay on each side of the wire
  /// brings their ports to the other side's loopback.
  final class NetworkCut: Sendable {
    let name: String
    private let wire: String
    /// The address of the inner side, at which a server there can be reached.
    let innerAddress: String
    private let outerAddress: String
    // Unchecked: set up once, ended once.
    private nonisolated(unsafe) var relays: [Process] = []

    /// Whether this process may make networks and has the programs for it.
    static let isAvailable: Bool = {
      guard getuid() == 0, FileManager.default.isExecutableFile(atPath: "/usr/bin/socat") else {
        return false
      }
      let name = "riffle-\(getpid())"
      guard run(["ip", "netns", "add", name]) else { return false }
      return run(["ip", "netns", "del", name])
    }()

    init?(ports: [Int]) {
      let number = Int.random(in: 0..<16_000)
      name = "riffle-\(getpid())-\(number)"
      wire = "rf\(number)"
      // A /30 of 10.99.0.0/16.
      outerAddress = "10.99.\(number / 64).\(number % 64 * 4 + 1)"
      innerAddress = "10.99.\(number / 64).\(number % 64 * 4 + 2)"
      let inside = ["ip", "netns", "exec", name]
      let steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", wire, "type", "veth", "peer", "name", "inner", "netns", name],
        ["ip", "addr", "add", "\(outerAddress)/30", "dev", wire],
        ["ip", "link", "set", wire, "up"],
        inside + ["ip", "addr", "add", "\(innerAddress)/30", "dev", "inner"],
        inside + ["ip", "link", "set", "inner", "up"], inside + ["ip", "link", "set", "lo", "up"],
      ]
      for step in steps where !Self.run(step) {
        end()
        return nil
      }
      for port in ports {
        start([
          "socat", "TCP-LISTEN:\(port),bind=\(outerAddress),fork,reuseaddr",
          "TCP:127.0.0.1:\(port)",
        ])
        start(
          inside + [
            "socat", "TCP-LISTEN:\(port),bind=127.0.0.1,fork,reuseaddr",
            "TCP:\(outerAddress):\(port)",
          ])
      }
    }

    func cut() { _ = Self.run(["ip", "link", "set", wire, "down"]) }
    func heal() { _ = Self.run(["ip", "link", "set", wire, "up"]) }

    func end() {
      for relay in relays {
        // A relay has a child for each connection, which the cut keeps from learning of its end.
        // It inherits the blocked signals of the thread that started it, so that it must be killed.
        let children = Self.children(of: relay.processIdentifier)
        for process in [relay.processIdentifier] + children { kill(process, SIGKILL) }
      }
      relays = []
      _ = Self.run(["ip", "link", "del", wire])
      _ = Self.run(["ip", "netns", "del", name])
    }

    private static func children(of parent: Int32) -> [Int32] {
      let text = try? String(
        contentsOfFile: "/proc/\(parent)/task/\(parent)/children", encoding: .utf8)
      return (text ?? "").split(separator: " ").compactMap { Int32($0) }
    }

    private func start(_ words: [String]) {
      guard let process = try? Self.process(words) else { return }
      relays.append(process)
    }

    private static func run(_ words: [String]) -> Bool {
      guard let process = try? process(words) else { return false }
      process.waitUntilExit()
      return process.terminationStatus == 0
    }

    private static func process(_ words: [String]) throws -> Process {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = words
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      return process
    }
  }
#endif
