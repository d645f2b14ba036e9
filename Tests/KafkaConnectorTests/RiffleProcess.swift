#if Kafka
  import Foundation
  import HTTPAPI
  import Testing

  /// The real binary as a process of its own.
  final class RiffleProcess: Sendable {
    private let process: Process
    let client: HTTPClient

    private init(_ process: Process, host: String, port: Int) throws {
      self.process = process
      client = try HTTPClient(url: "http://\(host):\(port)", patienceSeconds: 30)
    }

    /// Beside the running tests, or where a release build leaves it.
    static let binary: String? = {
      let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
      let tests = URL(fileURLWithPath: ProcessInfo.processInfo.arguments.first ?? "")
      return [
        tests.deletingLastPathComponent().appendingPathComponent("riffle").path,
        root.appendingPathComponent(".build/release/riffle").path,
      ].first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    /// Starts `riffle serve` and waits until it listens.
    ///
    /// - Parameter network: a network to run in, and its address there.
    static func start(
      _ dataDirectory: String, in network: (name: String, address: String)? = nil
    ) async throws -> RiffleProcess {
      let host = network?.address ?? "127.0.0.1"
      let binary = try #require(binary, "build it first: swift build -c release --product riffle")
      return try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global().async {
          let process = Process()
          let arguments = [
            "serve", "--data-dir", dataDirectory, "--port", "0", "--host", host,
          ]
          if let network {
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = ["ip", "netns", "exec", network.name, binary] + arguments
          } else {
            process.executableURL = URL(fileURLWithPath: binary)
            process.arguments = arguments
          }
          let errors = Pipe()
          process.standardError = errors
          do { try process.run() } catch { return continuation.resume(throwing: error) }
          var text = ""
          while true {
            let data = errors.fileHandleForReading.availableData
            text += String(decoding: data, as: UTF8.self)
            if let match = text.firstMatch(of: /address=http:\/\/[0-9.]+:(\d+)[^\n]*\n/),
              let port = Int(match.1)
            {
              errors.fileHandleForReading.readabilityHandler = { handle in
                if handle.availableData.isEmpty { handle.readabilityHandler = nil }
              }
              return continuation.resume(
                with: Result { try RiffleProcess(process, host: host, port: port) })
            }
            if data.isEmpty { return continuation.resume(throwing: StartFailure(words: text)) }
          }
        }
      }
    }

    struct StartFailure: Error { var words: String }

    func end(by signal: Int32) async {
      kill(process.processIdentifier, signal)
      await withCheckedContinuation { continuation in
        DispatchQueue.global().async { [self] in
          process.waitUntilExit()
          continuation.resume()
        }
      }
    }
  }
#endif
