import Connectors
import Domain
import Engine
import HTTPAPI
import Testing

/// What connectors send with, against the real server.
@Suite struct `Requests of connectors` {
  private func call(_ client: HTTPClient, _ path: String = "/v2/sources") -> HTTPCall {
    let host = client.url.split(separator: "/").last.map(String.init) ?? ""
    return HTTPCall("GET", scheme: "http", host: host, path: path)
  }

  @Test func `end when they are cancelled at any time, also as their answer comes`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        let transport = SessionTransport()
        let call = call(client)
        #expect(try await transport.send(call).status == 200)
        var cancelled = 0
        for round in 0..<400 {
          let task = Task { try await transport.send(call).status }
          // From before it begins to long after its answer.
          let wait = Duration.microseconds(round % 40 * 50)
          if wait > .zero { try await Task.sleep(for: wait) }
          task.cancel()
          do {
            #expect(try await task.value == 200)
          } catch is CancellationError {
            cancelled += 1
          }
        }
        #expect(cancelled > 0)
      }
    }
  }

  @Test func `say that nothing answers`() async throws {
    let transport = SessionTransport()
    await #expect {
      _ = try await transport.send(HTTPCall("GET", scheme: "http", host: "127.0.0.1:1"))
    } throws: {
      ($0 as? Diagnostic)?.kind == .unavailable
    }
  }
}
