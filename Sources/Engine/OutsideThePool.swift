import Dispatch

/// Runs work that takes long or waits for the disk on a thread that is none of the shared pool's, so
/// that queries go on.
package func outsideThePool<Result: Sendable>(
  _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async {
      continuation.resume(with: Swift.Result { try body() })
    }
  }
}
