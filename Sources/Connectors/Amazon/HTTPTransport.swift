import Domain
import Foundation
import Synchronization

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

package struct HTTPAnswer: Hashable, Sendable {
  package var status: Int
  package var body: [UInt8]
  package init(status: Int, body: [UInt8]) {
    self.status = status
    self.body = body
  }
}

/// Sends requests over HTTP or HTTPS; a protocol so that tests can answer them.
package protocol HTTPTransport: Sendable {
  /// - Throws: `Diagnostic` of the kind `unavailable` where no answer comes.
  func send(_ call: HTTPCall) async throws -> HTTPAnswer
}

/// Foundation's `URLSession`, which every toolchain brings along and which checks certificates by the
/// system's store.
package final class SessionTransport: HTTPTransport {
  private let session: URLSession
  private let timeout: Duration

  package init(timeout: Duration = .seconds(30)) {
    let configuration = URLSessionConfiguration.ephemeral
    configuration.httpShouldSetCookies = false
    configuration.httpMaximumConnectionsPerHost = 8
    configuration.timeoutIntervalForRequest = Double(timeout.components.seconds)
    session = URLSession(configuration: configuration)
    self.timeout = timeout
  }

  deinit { session.finishTasksAndInvalidate() }

  package func send(_ call: HTTPCall) async throws -> HTTPAnswer {
    var text = "\(call.scheme)://\(call.host)\(call.path)"
    if !call.query.isEmpty {
      text +=
        "?"
        + call.query.map { "\(AWSSigner.encoded($0.name))=\(AWSSigner.encoded($0.value))" }
        .joined(separator: "&")
    }
    guard let url = URL(string: text) else {
      throw Diagnostic(
        code: "invalid_url", "`\(call.scheme)://\(call.host)` is no address.", at: "endpoint")
    }
    var request = URLRequest(url: url)
    request.httpMethod = call.method
    request.httpBody = Data(call.body)
    for (name, value) in call.headers { request.setValue(value, forHTTPHeaderField: name) }
    do {
      let (data, response) = try await answer(to: request)
      guard let response = response as? HTTPURLResponse else {
        throw Diagnostic(
          .unavailable, code: "no_answer", "`\(call.host)` does not answer in HTTP.")
      }
      return HTTPAnswer(status: response.statusCode, body: Array(data))
    } catch let problem as Diagnostic {
      throw problem
    } catch {
      if Task.isCancelled { throw CancellationError() }
      throw Self.diagnostic(of: error, call.host)
    }
  }

  /// Sends `request`, and ends at once where the task is cancelled; the request itself then runs to its
  /// end or its time-out, and its answer is dropped.
  ///
  /// Tasks of `URLSession` are never cancelled, because on Linux that is not safe while an answer comes:
  /// `data(for:)` can stand still for ever (its cancellation handler waits for the session's queue while
  /// Swift holds the task's lock, and the queue waits for that lock), and `URLSessionTask.cancel()` ends
  /// the process where the task has just left the session's registry.
  private func answer(to request: URLRequest) async throws -> (Data, URLResponse?) {
    let call = SessionCall()
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        guard call.begin(continuation) else { return }
        session.dataTask(with: request) { data, response, error in
          call.end(error.map(Result.failure) ?? .success((data ?? Data(), response)))
        }.resume()
      }
    } onCancel: {
      call.end(.failure(CancellationError()))
    }
  }

  private static func diagnostic(of error: any Error, _ host: String) -> Diagnostic {
    let code = (error as? URLError)?.code
    let (name, words, help): (String, String, String) =
      switch code {
      case .cannotFindHost, .dnsLookupFailed:
        ("unknown_host", "The host `\(host)` is not known.", "Check the region and the endpoint.")
      case .cannotConnectToHost:
        (
          "connection_refused", "Nothing answers at `\(host)`.",
          "Check the endpoint, and that this machine may reach it."
        )
      case .timedOut:
        ("timeout", "`\(host)` did not answer in time.", "Check that this machine may reach it.")
      case .serverCertificateUntrusted, .serverCertificateHasBadDate, .secureConnectionFailed,
        .serverCertificateHasUnknownRoot:
        (
          "untrusted_certificate", "The certificate of `\(host)` is not trusted.",
          "Check the endpoint, the machine's clock and its certificates."
        )
      default:
        (
          "connection_failed",
          "The connection to `\(host)` failed (\((error as? URLError)?.code.rawValue ?? 0)).",
          "Check the endpoint, and that this machine may reach it."
        )
      }
    return Diagnostic(.unavailable, code: name, words, help: help)
  }
}

/// One who waits for an answer; the first end counts.
private final class SessionCall: Sendable {
  typealias Answer = (Data, URLResponse?)

  private enum State {
    case new
    case waiting(CheckedContinuation<Answer, any Error>)
    case ended
  }

  private let state = Mutex(State.new)

  /// Whether the request is to be sent: not where the task was cancelled before.
  func begin(_ continuation: CheckedContinuation<Answer, any Error>) -> Bool {
    let isNew = state.withLock { state in
      guard case .new = state else { return false }
      state = .waiting(continuation)
      return true
    }
    if !isNew { continuation.resume(throwing: CancellationError()) }
    return isNew
  }

  func end(_ result: Result<Answer, any Error>) {
    let continuation: CheckedContinuation<Answer, any Error>? = state.withLock { state in
      defer { state = .ended }
      if case .waiting(let continuation) = state { return continuation }
      return nil
    }
    continuation?.resume(with: result)
  }
}
