import Dispatch
import Foundation
import HTTPAPI
import Synchronization

/// The server as a process of its own, from its start to its death.
final class DrillServer: Sendable {
  struct NotStarted: Error {
    var words: String
    var end: End
  }

  private let process: Process
  private let end: Gate
  /// nil until it listens.
  private let port = Mutex<Int?>(nil)

  /// Starts `riffle serve`. It does not wait until the server listens.
  ///
  /// - Parameter log: a file that takes what the server says.
  init(binary: String, directory: String, page: String, log: FileHandle) throws {
    let process = Process()
    let (end, listening) = (Gate(), Gate())
    process.executableURL = URL(fileURLWithPath: binary)
    process.arguments = [
      "serve", "--data-dir", directory, "--port", "0", "--drill", page, "--training-threads", "1",
    ]
    let errors = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = errors
    process.terminationHandler = { _ in end.open() }
    try process.run()
    self.process = process
    self.end = end
    self.listening = listening
    // A thread of its own reads what the server says to its end, so that it never waits for a full pipe.
    Thread.detachNewThread { [self] in
      var text = ""
      while true {
        let data = errors.fileHandleForReading.availableData
        if data.isEmpty { break }
        try? log.write(contentsOf: data)
        let newest = String(decoding: data, as: UTF8.self)
        lastWords.withLock { $0 = String(($0 + newest).suffix(2000)) }
        guard port.withLock({ $0 == nil }) else { continue }
        text += newest
        if let match = text.firstMatch(of: /address=http:\/\/127\.0\.0\.1:(\d+)[^\n]*\n/) {
          port.withLock { $0 = Int(match.1) }
          listening.open()
        }
      }
      try? errors.fileHandleForReading.close()
      listening.open()
    }
  }

  private let listening: Gate
  private let lastWords = Mutex("")

  /// What it said last.
  var words: String { lastWords.withLock { $0 } }

  /// Waits until it listens.
  ///
  /// - Throws: `NotStarted` with its words where it ends before.
  func untilListening() async throws {
    await listening.passed()
    if port.withLock({ $0 == nil }) {
      let end = await ended()
      throw NotStarted(words: words, end: end)
    }
  }

  func client() throws -> HTTPClient {
    try HTTPClient(url: "http://127.0.0.1:\(port.withLock { $0 } ?? 0)")
  }

  func signal(_ number: Int32) { kill(process.processIdentifier, number) }

  /// How it ended.
  enum End: Hashable, CustomStringConvertible {
    case status(Int32)
    case signal(Int32)

    var description: String {
      switch self {
      case .status(let number): "status \(number)"
      case .signal(let number): "signal \(number)"
      }
    }
  }

  /// Waits for its end.
  @discardableResult
  func ended() async -> End {
    await end.passed()
    let number = process.terminationStatus
    return process.terminationReason == .exit ? .status(number) : .signal(number)
  }
}

/// Lets everybody pass once it is open.
final class Gate: Sendable {
  private struct State {
    var isOpen = false
    var waiting: [CheckedContinuation<Void, Never>] = []
  }
  private let state = Mutex(State())

  func open() {
    let waiting = state.withLock { state in
      state.isOpen = true
      defer { state.waiting = [] }
      return state.waiting
    }
    for one in waiting { one.resume() }
  }

  func passed() async {
    await withCheckedContinuation { continuation in
      let isOpen = state.withLock { state in
        if !state.isOpen { state.waiting.append(continuation) }
        return state.isOpen
      }
      if isOpen { continuation.resume() }
    }
  }
}
