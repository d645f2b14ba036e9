import Domain
import Foundation
import Testing

/// A program of `Tests/Clients` as a process of its own, which talks in lines of JSON.
final class PeerProcess: Sendable {
  private let process: Process
  private let input: FileHandle
  private let output: FileHandle

  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Clients")

  private init(_ program: String, _ arguments: [String]) throws {
    process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments =
      [Self.folder.appendingPathComponent(arguments[0]).path] + arguments.dropFirst()
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    self.input = input.fileHandleForWriting
    self.output = output.fileHandleForReading
    try process.run()
  }

  static func start(_ program: String, _ arguments: [String]) async throws -> PeerProcess {
    try PeerProcess(program, arguments)
  }

  func write(_ line: String) { try? input.write(contentsOf: Data("\(line)\n".utf8)) }

  /// The next line of its output.
  func line() async throws -> JSON {
    let output = output
    return try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async {
        var bytes: [UInt8] = []
        while let byte = try? output.read(upToCount: 1)?.first, byte != 10 { bytes.append(byte) }
        continuation.resume(with: Result { try JSON(parsing: bytes) })
      }
    }
  }

  func end() {
    try? input.close()
    process.terminate()
  }

  /// Runs a program to its end, away from the threads that serve it.
  static func run(
    _ program: String, _ arguments: [String]
  ) async throws -> (status: Int32, output: String) {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments =
          [folder.appendingPathComponent(arguments[0]).path] + arguments.dropFirst()
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
