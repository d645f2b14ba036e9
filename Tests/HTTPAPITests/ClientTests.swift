import Domain
import Foundation
import HTTPAPI
import Testing

/// The published Python client, as its users install it. `Tests/Clients/install.sh` puts it where these
/// tests look; where it is not installed they are skipped and say so.
@Suite struct `The published client` {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  static let python: String? = {
    let path =
      ProcessInfo.processInfo.environment["RIFFLE_CLIENT_PYTHON"]
      ?? root.appendingPathComponent(".build/clients/python/bin/python").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  @Test(
    .enabled(
      if: `The published client`.python != nil,
      "The client is not installed: run Tests/Clients/install.sh"))
  func `reads the answer to every form of query`() async throws {
    let python = try #require(Self.python)
    try await withTemporaryDirectory { directory in
      try await withServer(directory) { client, _ in
        try await SmallWorld.load(client)
        let trained = try await client.untilTrained("feed")
        try #require(trained["status"] == "ACTIVE")
        let (status, output) = try await Self.run(
          python,
          [
            Self.root.appendingPathComponent("Tests/Clients/shaped_queries.py").path,
            client.url + "/v2",
          ])
        #expect(status == 0, "\(output)")
      }
    }
  }

  /// Runs a program to its end, away from the threads that serve it.
  private static func run(
    _ program: String, _ arguments: [String]
  ) async throws -> (status: Int32, output: String) {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = pipe
        do {
          try process.run()
          let output = pipe.fileHandleForReading.readDataToEndOfFile()
          process.waitUntilExit()
          continuation.resume(
            returning: (process.terminationStatus, String(decoding: output, as: UTF8.self)))
        } catch {
          continuation.resume(throwing: error)
        }
      }
    }
  }
}
