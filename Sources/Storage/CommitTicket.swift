package import Domain
import Synchronization

/// A batch that waits for its commit.
package final class CommitTicket: Sendable {
  private enum State {
    case waiting(CheckedContinuation<Result<CommitReceipt, Diagnostic>, Never>?)
    case finished(Result<CommitReceipt, Diagnostic>)
  }

  private let state = Mutex(State.waiting(nil))

  func finish(_ result: Result<CommitReceipt, Diagnostic>) {
    let continuation = state.withLock { state in
      defer { state = .finished(result) }
      guard case .waiting(let continuation) = state else {
        preconditionFailure("a batch was finished twice")
      }
      return continuation
    }
    continuation?.resume(returning: result)
  }

  /// Waits until the batch is synced and the observer has seen its rows. To be called by one task.
  package func receipt() async throws(Diagnostic) -> CommitReceipt {
    let result: Result<CommitReceipt, Diagnostic> = await withCheckedContinuation { continuation in
      let known: Result<CommitReceipt, Diagnostic>? = state.withLock { state in
        switch state {
        case .waiting(nil):
          state = .waiting(continuation)
          return nil
        case .waiting: preconditionFailure("two tasks wait for one batch")
        case .finished(let result): return result
        }
      }
      if let known { continuation.resume(returning: known) }
    }
    return try result.get()
  }
}
