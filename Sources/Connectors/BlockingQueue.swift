import Dispatch

/// A thread of its own for work that blocks, so that Swift's shared pool goes on meanwhile.
package final class BlockingQueue: Sendable {
  private let queue: DispatchQueue

  package init(_ label: String) { queue = DispatchQueue(label: label) }

  /// Runs the work after everything that was handed over before.
  package func run<R: Sendable>(
    _ body: @escaping @Sendable () throws -> R
  ) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result { try body() }) }
    }
  }
}
