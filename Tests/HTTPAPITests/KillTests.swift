import Domain
import Engine
import Foundation
import HTTPAPI
import Synchronization
import Testing

/// Goal: what the server has acknowledged survives its death, exactly once.
///
/// Method: the real binary serves; four clients insert small batches and note each acknowledged row;
/// after a random number of acknowledgements the server is killed with SIGKILL, so that it dies
/// anywhere inside the others' requests. Then the rows are read, after a restarted server has recovered
/// the log or straight from the directory, by turns. Batches without an answer are sent again after the
/// restart, as a careful client does, and the unique key must keep them from counting twice.
@Suite struct `A killed server` {
  struct Plan: Sendable, CustomStringConvertible {
    var kills: Int
    var seed: UInt64
    var description: String { "\(kills) kills, RIFFLE_SEED=\(seed)" }
  }

  static var plan: Plan {
    let environment = ProcessInfo.processInfo.environment
    return Plan(
      kills: environment["RIFFLE_KILLS"].flatMap { Int($0) } ?? 5,
      seed: environment["RIFFLE_SEED"].flatMap { UInt64($0) } ?? .random(in: 1...1_000_000))
  }

  @Test(arguments: [plan]) func `keeps every acknowledged row exactly once`(plan: Plan) async throws
  {
    var generator = Generator(state: plan.seed)
    try await withTemporaryDirectory { directory in
      let path = directory + "/data"
      var acknowledged: Set<String> = []
      var unanswered: [[JSON]] = []
      for round in 0..<plan.kills {
        let server = try await ServerProcess.start(path)
        if round == 0 {
          _ = try await server.client().expect(
            "POST", "/v2/tables",
            [
              "name": "rows", "unique_keys": ["id"],
              "column_schema": ["id": "String", "payload": "String"],
            ])
        }
        // What had no answer may have been stored or not; sent again it stands there once.
        for batch in unanswered {
          _ = try await server.client().expect(
            "POST", "/v2/tables/rows/insert", ["data": .array(batch)])
          acknowledged.formUnion(batch.compactMap { $0["id"]?.string })
        }
        let outcome = await insertUntilDeath(
          server, round: round, killAfter: Int.random(in: 1...120, using: &generator))
        acknowledged.formUnion(outcome.acknowledged)
        unanswered = outcome.unanswered
        await server.ended()
        if round % 2 == 1 {
          let restarted = try await ServerProcess.start(path)
          let table = try await restarted.client().expect("GET", "/v2/tables/rows")
          #expect(table["row_count"]?.int ?? 0 >= acknowledged.count, "\(plan), round \(round)")
          restarted.signal(SIGTERM)
          await restarted.ended()
        }
        let stored = try storedIDs(path)
        let once = Set(stored)
        try #require(once.count == stored.count, "a row stands twice: \(plan), round \(round)")
        try #require(
          once.isSuperset(of: acknowledged),
          "lost \(acknowledged.subtracting(once).count) rows: \(plan), round \(round)")
        let sent = acknowledged.union(unanswered.joined().compactMap { $0["id"]?.string })
        try #require(once.isSubset(of: sent), "rows that nobody sent: \(plan), round \(round)")
      }
      #expect(acknowledged.count >= plan.kills)
    }
  }

  /// Four clients insert until the server is gone; it is killed after so many acknowledged batches.
  private func insertUntilDeath(
    _ server: ServerProcess, round: Int, killAfter: Int
  ) async -> (acknowledged: [String], unanswered: [[JSON]]) {
    let countdown = Countdown(killAfter)
    return await withTaskGroup(of: (acknowledged: [String], unanswered: [[JSON]]).self) { group in
      for writer in 0..<4 {
        group.addTask {
          var acknowledged: [String] = []
          guard let client = try? server.client() else { return ([], []) }
          for number in 0... {
            let batch: [JSON] = (0..<(1 + number % 7)).map { row in
              [
                "id": .string("\(round)-\(writer)-\(number)-\(row)"),
                "payload": .string(String(repeating: "x", count: 10 + row * 40)),
              ]
            }
            do {
              let (status, _) = try await client.send(
                "POST", "/v2/tables/rows/insert", json: ["data": .array(batch)])
              if status != 200 { return (acknowledged, [batch]) }
            } catch {
              return (acknowledged, [batch])
            }
            acknowledged += batch.compactMap { $0["id"]?.string }
            let mustKill = countdown.reachesZero()
            if mustKill { server.signal(SIGKILL) }
          }
          return (acknowledged, [])
        }
      }
      return await group.reduce(into: ([], [])) { all, one in
        all.0 += one.acknowledged
        all.1 += one.unanswered
      }
    }
  }

  private func storedIDs(_ path: String) throws -> [String] {
    let database = try RiffleDatabase(opening: path, logger: silentLogger)
    defer { database.close() }
    var ids: [String] = []
    var last = LogPosition.start
    try database.rows(of: "rows") { rows in
      for row in rows {
        #expect(row.position > last, "positions grow")
        last = row.position
        if case .string(let id) = row.values[0] { ids.append(id) }
      }
    }
    return ids
  }
}

/// Counts down once, for whoever counts.
private final class Countdown: Sendable {
  private let left: Mutex<Int>
  init(_ count: Int) { left = Mutex(count) }

  /// True for the one call that reaches zero.
  func reachesZero() -> Bool {
    left.withLock { left in
      left -= 1
      return left == 0
    }
  }
}

/// The real binary as a process of its own.
private final class ServerProcess: Sendable {
  private let process: Process
  let port: Int

  private init(_ process: Process, port: Int) {
    self.process = process
    self.port = port
  }

  /// Starts `riffle serve` and waits until it listens.
  static func start(_ dataDirectory: String) async throws -> ServerProcess {
    let binary = try #require(
      findBinary(), "build it first: swift build -c release --product riffle")
    return try await withCheckedThrowingContinuation { continuation in
      // Waiting for the process blocks, so it happens outside the shared pool.
      DispatchQueue.global().async {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: binary)
        process.arguments = ["serve", "--data-dir", dataDirectory, "--port", "0"]
        let errors = Pipe()
        process.standardError = errors
        do { try process.run() } catch { return continuation.resume(throwing: error) }
        var text = ""
        while true {
          let data = errors.fileHandleForReading.availableData
          text += String(decoding: data, as: UTF8.self)
          if let match = text.firstMatch(of: /address=http:\/\/127\.0\.0\.1:(\d+)[^\n]*\n/),
            let port = Int(match.1)
          {
            // What it says later is read and dropped, so that it never waits for a full pipe.
            errors.fileHandleForReading.readabilityHandler = { handle in
              if handle.availableData.isEmpty { handle.readabilityHandler = nil }
            }
            return continuation.resume(returning: ServerProcess(process, port: port))
          }
          if data.isEmpty {
            return continuation.resume(throwing: StartFailure(words: text))
          }
        }
      }
    }
  }

  struct StartFailure: Error { var words: String }

  func client() throws -> HTTPClient { try HTTPClient(url: "http://127.0.0.1:\(port)") }

  func signal(_ number: Int32) { kill(process.processIdentifier, number) }

  func ended() async {
    await withCheckedContinuation { continuation in
      DispatchQueue.global().async { [self] in
        process.waitUntilExit()
        continuation.resume()
      }
    }
  }

  /// Beside the running tests, or where a release build leaves it.
  private static func findBinary() -> String? {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let tests = URL(fileURLWithPath: ProcessInfo.processInfo.arguments.first ?? "")
    return [
      tests.deletingLastPathComponent().appendingPathComponent("riffle").path,
      root.appendingPathComponent(".build/release/riffle").path,
    ].first { FileManager.default.isExecutableFile(atPath: $0) }
  }
}

/// Steele, Lea & Flood's SplitMix64.
private struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
