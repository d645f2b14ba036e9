import Domain
import NIOCore
import Synchronization

/// The parts of a body on their way from the event loop to the task that works on them.
///
/// Only so much waits: beyond that the loop is told to read no more, until the task has caught up.
final class BodyFeed: Sendable {
  private struct State {
    var parts: [ByteBuffer] = []
    var bytes = 0
    var isPaused = false
    var isEnded = false
    var isBroken = false
    var waiting: CheckedContinuation<Void, Never>?
  }

  private enum Step {
    case part(ByteBuffer, mustResume: Bool)
    case end
    case broken
    case wait
  }

  private let state = Mutex(State())
  private let resume: @Sendable () -> Void
  private static let pauseBytes = 2 << 20
  private static let resumeBytes = 1 << 20

  /// - Parameter resume: is called where reading may go on after a pause.
  init(resume: @escaping @Sendable () -> Void) { self.resume = resume }

  /// Takes in a part.
  ///
  /// - Returns: whether reading must pause.
  func push(_ part: ByteBuffer) -> Bool {
    change { state in
      state.parts.append(part)
      state.bytes += part.readableBytes
      guard state.bytes >= BodyFeed.pauseBytes, !state.isPaused else { return false }
      state.isPaused = true
      return true
    }
  }

  /// The body is whole.
  func end() { change { $0.isEnded = true } }

  /// The client has gone away in the middle.
  func breakOff() { change { if !$0.isEnded { $0.isBroken = true } } }

  private func change<Answer: Sendable>(_ body: (inout State) -> Answer) -> Answer {
    let (answer, waiting) = state.withLock { state in
      let answer = body(&state)
      defer { state.waiting = nil }
      return (answer, state.waiting)
    }
    waiting?.resume()
    return answer
  }

  /// The next part; nil at the end.
  ///
  /// - Throws: where the body broke off.
  func next() async throws -> ByteBuffer? {
    while true {
      switch step() {
      case .part(let part, let mustResume):
        if mustResume { resume() }
        return part
      case .end: return nil
      case .broken:
        throw Diagnostic(
          code: "body_broken_off", "The connection ended in the middle of the body.", at: "body",
          help: "Send the request again.")
      case .wait:
        await withCheckedContinuation { continuation in
          let isReady = state.withLock { state in
            if !state.parts.isEmpty || state.isEnded || state.isBroken { return true }
            state.waiting = continuation
            return false
          }
          if isReady { continuation.resume() }
        }
      }
    }
  }

  private func step() -> Step {
    state.withLock { state in
      if !state.parts.isEmpty {
        let part = state.parts.removeFirst()
        state.bytes -= part.readableBytes
        let mustResume = state.isPaused && state.bytes <= BodyFeed.resumeBytes
        if mustResume { state.isPaused = false }
        return .part(part, mustResume: mustResume)
      }
      return state.isBroken ? .broken : state.isEnded ? .end : .wait
    }
  }

  /// Reads the rest and drops it.
  ///
  /// - Returns: false where there is more of it than the limit, or it broke off.
  func drain(upTo limit: Int) async -> Bool {
    var dropped = 0
    do {
      while let part = try await next() {
        dropped += part.readableBytes
        if dropped > limit { return false }
      }
      return true
    } catch { return false }
  }
}
