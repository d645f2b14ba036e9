import Drill
import Foundation
import GRDB
import Storage
import Synchronization
import Testing

#if Kafka
  import KafkaConnector
#endif

/// Goal: the drill that ships with the binary runs, by all roads and with all faults, and finds what is
/// broken. The server is the built binary.
@Suite struct `The durability drill` {
  private static let kills = 12
  private static let seed =
    ProcessInfo.processInfo.environment["RIFFLE_SEED"].flatMap { UInt64($0) }
    ?? .random(in: 1...100_000)

  /// The first seed from the given one on whose few rounds hold every fault and every moment.
  private static func coveringSeed(from seed: UInt64, consumes: Bool) -> UInt64 {
    var seed = seed
    while true {
      let plans = (0..<kills).map { RoundPlan(seed: seed, round: $0, consumes: consumes) }
      let moments = Set(plans.map(\.moment.name))
      // Faults of rounds that see clients; some long enough to be met for sure.
      let faults = plans.filter { $0.moment.name != "starting" }.compactMap(\.fault)
      let long = faults.filter { $0.milliseconds ?? 0 >= 50 }.map(\.kinds)
      if moments.count == (consumes ? 6 : 5), long.contains(.fullDisk),
        long.contains(.failingSyncs), faults.contains(where: { $0.isThereAtStart }),
        faults.contains(where: { $0.milliseconds == nil })
      {
        return seed
      }
      seed += 1
    }
  }

  /// nil where the build does not read Kafka.
  private static func broker() throws -> DrillBroker? {
    #if Kafka
      let broker = try LoopbackBroker(topic: "messages", partitions: 3)
      return DrillBroker(
        servers: broker.servers, topic: broker.topic, partitions: broker.partitions
      ) { try broker.produce($1, to: $0) }
    #else
      return nil
    #endif
  }

  private func options(_ directory: String, seed: UInt64) throws -> DrillOptions {
    let binary = try #require(
      Self.binary, "build it first: swift build -c release --product riffle")
    var options = DrillOptions(
      kills: Self.kills, seed: seed, clients: 3, directory: directory, binary: binary)
    options.killsBetweenSweeps = 5
    return options
  }

  @Test(arguments: [seed]) func `passes with every road and every fault`(seed: UInt64) async throws
  {
    try await withDirectory { directory in
      let broker = try Self.broker()
      let seed = Self.coveringSeed(from: seed, consumes: broker != nil)
      var options = try options(directory, seed: seed)
      options.broker = broker
      var drill = try Drill(options)
      let report = try await drill.run { _ in }
      #expect(report.faults == [], "seed \(seed)")
      #expect(report.kills == Self.kills && report.sweeps >= 2)
      #expect(report.refusedWrites > 0 && report.failedSyncs > 0 && report.stateWrites > 0)
      for road in Road.allCases where road != .kafka || broker != nil {
        #expect(report.stored[road] ?? 0 > 0, "\(road.rawValue), seed \(seed)")
        #expect(report.stored[road] == report.acknowledged[road], "\(road.rawValue), seed \(seed)")
      }
    }
  }

  /// What somebody does to the database behind the server's back, and the words of the fault.
  static let damages: [(sql: String, words: String)] = [
    ("DELETE FROM plain WHERE _position = (SELECT min(_position) FROM plain)", "lost"),
    ("DELETE FROM events WHERE _position = (SELECT min(_position) FROM events)", "lost"),
    (
      """
      UPDATE _riffle_meta SET value = value + 1 WHERE name = 'position';
      INSERT INTO plain SELECT (SELECT value FROM _riffle_meta WHERE name = 'position'),
        id, version, "check" FROM plain LIMIT 1
      """, "doubled"
    ),
    (
      """
      UPDATE _riffle_meta SET value = value + 1 WHERE name = 'position';
      INSERT INTO plain SELECT (SELECT value FROM _riffle_meta WHERE name = 'position'),
        'stranger', version, "check" FROM plain LIMIT 1
      """, "invented"
    ),
    ("UPDATE _riffle_meta SET value = 1 WHERE name = 'position'", "the log ends at"),
  ]

  @Test(arguments: damages)
  func `reports what somebody has broken between two starts`(
    damage: (sql: String, words: String)
  ) async throws {
    try await withDirectory { directory in
      var options = try options(directory, seed: 3)
      let isDone = Atomic(false)
      options.afterKill = { kills, path in
        if kills < 4 || isDone.load(ordering: .relaxed) { return }
        let database = try DatabaseQueue(path: path + "/riffle.db")
        defer { try? database.close() }
        try database.writeWithoutTransaction { database in
          // Something must have been stored by then.
          guard try Int.fetchOne(database, sql: "SELECT count(*) FROM plain") ?? 0 > 20 else {
            return
          }
          try database.execute(sql: damage.sql)
          isDone.store(true, ordering: .relaxed)
        }
      }
      var drill = try Drill(options)
      let report = try await drill.run { _ in }
      let wasDone = isDone.load(ordering: .relaxed)
      #expect(wasDone)
      #expect(
        report.faults.contains { $0.message.contains(damage.words) }, "\(report.faults.prefix(3))")
    }
  }

  @Test func `makes the same plans of the same seed`() {
    let plans = { (seed: UInt64) in
      (0..<200).map { RoundPlan(seed: seed, round: $0, consumes: true) }
    }
    #expect(plans(5) == plans(5))
    #expect(plans(5) != plans(6))
    #expect(Set(plans(5).map(\.moment.name)).count == 6)
    #expect(
      (0..<200).allSatisfy {
        RoundPlan(seed: 5, round: $0, consumes: false).moment.name != "consuming from Kafka"
      })
  }

  private func withDirectory(_ body: (String) async throws -> Void) async throws {
    let path = NSTemporaryDirectory() + "riffle-drill-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try await body(path)
  }

  /// Beside the running tests, or where a release build leaves it.
  private static let binary: String? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let tests = URL(fileURLWithPath: ProcessInfo.processInfo.arguments.first ?? "")
    return [
      tests.deletingLastPathComponent().appendingPathComponent("riffle").path,
      root.appendingPathComponent(".build/release/riffle").path,
    ].first { FileManager.default.isExecutableFile(atPath: $0) }
  }()
}
