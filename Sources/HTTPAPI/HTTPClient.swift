import Dispatch
package import Domain

/// A client of the API for async code: one kept-open connection on a thread of its own, so that
/// waiting for an answer never holds up the shared pool, which the server may need to give it.
package final class HTTPClient: Sendable {
  package let url: String
  private let apiKey: String?
  private let basePath: String
  private let queue = DispatchQueue(label: "riffle http client")
  // Unchecked: the connection is only touched on the serial queue.
  private nonisolated(unsafe) let connection: HTTPConnection

  /// - Parameters:
  ///   - url: such as `http://127.0.0.1:8080`; a path in front of `/v2` is kept.
  ///   - patienceSeconds: how long the server may be silent; nil for ever.
  /// - Throws: where the address is none of plain HTTP.
  package init(
    url: String, apiKey: String? = nil, patienceSeconds: Int? = nil
  ) throws(Diagnostic) {
    var rest = Substring(url)
    guard rest.hasPrefix("http://") else {
      throw Diagnostic(
        code: "invalid_url", "`\(url)` is no address of plain HTTP.", at: "--url",
        help: "Write it like http://127.0.0.1:8080.")
    }
    rest = rest.dropFirst(7)
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    var path = String(rest[slash...])
    while path.hasSuffix("/") { path.removeLast() }
    if path.hasSuffix("/v2") { path.removeLast(3) }
    basePath = path
    let authority = rest[..<slash]
    var host = String(authority)
    var port = 80
    if let colon = authority.lastIndex(of: ":"), !authority.hasSuffix("]") {
      guard let number = Int(authority[authority.index(after: colon)...]),
        (1...65_535).contains(number)
      else {
        throw Diagnostic(
          code: "invalid_url", "`\(url)` has no port that exists.", at: "--url",
          help: "Write it like http://127.0.0.1:8080.")
      }
      port = number
      host = String(authority[..<colon])
    }
    host = host.trimmingPrefix("[").description
    if host.hasSuffix("]") { host.removeLast() }
    self.url = url
    self.apiKey = apiKey
    connection = HTTPConnection(host: host, port: port, patienceSeconds: patienceSeconds)
  }

  /// Sends a request and waits for its answer.
  ///
  /// - Parameter more: further headers, by lower-case names.
  package func send(
    _ method: String, _ path: String, body: [UInt8] = [],
    contentType: String = "application/json", headers more: [String: String] = [:]
  ) async throws(HTTPConnection.Failure) -> HTTPConnection.Reply {
    var headers = ["content-type": contentType, "accept": "application/json"]
    headers.merge(more) { _, new in new }
    if let apiKey { headers["x-api-key"] = apiKey }
    let fullPath = basePath + path
    let outcome: Result<HTTPConnection.Reply, HTTPConnection.Failure> =
      await withCheckedContinuation { continuation in
        queue.async { [self, headers] in
          do throws(HTTPConnection.Failure) {
            continuation.resume(
              returning: .success(
                try connection.send(method, fullPath, body: body, headers: headers)))
          } catch {
            continuation.resume(returning: .failure(error))
          }
        }
      }
    return try outcome.get()
  }

  /// Sends JSON and reads JSON; nil where the answer is none.
  package func send(
    _ method: String, _ path: String, json: JSON
  ) async throws(HTTPConnection.Failure) -> (status: Int, json: JSON?) {
    let reply = try await send(method, path, body: json.utf8)
    return (reply.status, try? JSON(parsing: reply.body))
  }
}
