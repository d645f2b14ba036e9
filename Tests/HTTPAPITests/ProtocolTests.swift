import Domain
import Foundation
import HTTPAPI
import Logging
import Synchronization
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What HTTP asks of a server beside the API: checked over plain sockets, byte by byte.
@Suite struct `HTTP itself` {
  @Test func `HEAD is GET without the body`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        for path in ["/livez", "/v2/tables", "/v2/engines"] {
          let text = try await exchange(
            client, ["HEAD \(path) HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"])
          #expect(text.hasPrefix("HTTP/1.1 200 OK\r\n"), "\(text)")
          #expect(text.hasSuffix("\r\n\r\n"), "\(text)")
          let whole = try await exchange(
            client, ["GET \(path) HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"])
          let body = try #require(whole.range(of: "\r\n\r\n")).upperBound
          #expect(text.contains("content-length: \(whole[body...].utf8.count)\r\n"), "\(text)")
        }
      }
    }
  }

  @Test func `a client that expects to be asked for the body is asked`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        let body = SmallWorld.tables[0].text
        let text = try await exchange(
          client,
          [
            "POST /v2/tables HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
              + "content-length: \(body.utf8.count)\r\nconnection: close\r\n\r\n",
            body,
          ], waitingFor: "HTTP/1.1 100 Continue\r\n\r\n")
        #expect(text.hasPrefix("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "\(text)")
        // One whose body is too large is told so before it sends it.
        let large = try await exchange(
          client,
          [
            "POST /v2/tables HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
              + "content-length: 99000000\r\n\r\n"
          ])
        #expect(large.hasPrefix("HTTP/1.1 413 "), "\(large)")
      }
    }
  }

  @Test func `several requests in one write are answered in order`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        try await SmallWorld.load(client)
        let query =
          #"{"query":"SELECT topic FROM items WHERE item_id = 'i3' LIMIT 1"}"#
        let text = try await exchange(
          client,
          [
            "POST /v2/engines/feed/query HTTP/1.1\r\nhost: a\r\ncontent-length: \(query.utf8.count)"
              + "\r\n\r\n\(query)GET /v2/tables/items HTTP/1.1\r\nhost: a\r\n\r\n"
              + "GET /livez HTTP/1.0\r\n\r\n"
          ])
        let parts = text.components(separatedBy: "HTTP/1.").dropFirst()
        #expect(parts.count == 3, "\(text)")
        #expect(parts.map { $0.contains(" 200 ") } == [true, true, true])
        let answers = Array(parts)
        #expect(answers[0].contains(#""id":"i3""#) && answers[1].contains(#""row_count":30"#))
        #expect(answers[2].contains("alive"))
      }
    }
  }

  @Test func `a client that leaves in the middle of a body is no error`() async throws {
    try await withTemporaryDirectory { directory in
      let errors = Mutex(0)
      let logger = Logger(label: "test") { _ in CountingLog(errors: { errors.withLock { $0 += 1 } })
      }
      try await withServer(directory, trains: false, logger: logger) { client, _ in
        for _ in 0..<3 {
          _ = try await exchange(
            client,
            ["POST /v2/tables HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n{\"name\":"],
            hangsUp: true)
        }
        // The server is well and has nothing to say about it.
        _ = try await client.expect("GET", "/v2/tables")
      }
      #expect(errors.withLock { $0 } == 0)
    }
  }

  @Test func `a key that stands twice in one object is refused`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        let reply = try await client.send(
          "POST", "/v2/tables", body: Array(#"{"name": "a", "name": "b"}"#.utf8))
        #expect(reply.status == 400)
        let problem = try JSON(parsing: reply.body)
        #expect(problem["message"]?.string?.contains("`name` stands twice in one object") == true)
        #expect(problem["diagnostics"]?.array?.first?["place"] == "line 1, column 15")
      }
    }
  }

  @Test func `dates are written as HTTP asks`() async throws {
    try await withTemporaryDirectory { directory in
      try await withServer(directory, trains: false) { client, _ in
        let reply = try await client.send("GET", "/livez")
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        let date = try #require(formatter.date(from: reply.headers["date"] ?? ""))
        #expect(abs(date.timeIntervalSinceNow) < 60)
      }
    }
  }
}

private struct CountingLog: LogHandler {
  let errors: @Sendable () -> Void
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.warning
  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }
  func log(event: LogEvent) {
    if event.message.description.contains("request failed") { errors() }
  }
}

/// Sends texts over a connection of their own and gives everything that comes back until its end.
///
/// - Parameters:
///   - expected: is waited for between two texts.
///   - hangsUp: whether the connection is closed at once, without waiting for anything.
private func exchange(
  _ client: HTTPClient, _ texts: [String], waitingFor expected: String? = nil, hangsUp: Bool = false
) async throws -> String {
  let port = try #require(UInt16(client.url.split(separator: ":").last ?? ""))
  return try await withCheckedThrowingContinuation { continuation in
    // Reading blocks, so it is no work for the shared pool.
    Thread.detachNewThread {
      continuation.resume(with: Result { try talk(port, texts, expected, hangsUp) })
    }
  }
}

private struct SocketFailure: Error {}

private func talk(
  _ port: UInt16, _ texts: [String], _ expected: String?, _ hangsUp: Bool
) throws -> String {
  #if canImport(Glibc)
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  #else
    let descriptor = socket(AF_INET, SOCK_STREAM, 0)
  #endif
  guard descriptor >= 0 else { throw SocketFailure() }
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  let isConnected = withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
    }
  }
  guard isConnected else { throw SocketFailure() }
  var received: [UInt8] = []
  func readSome() -> Bool {
    var chunk = [UInt8](repeating: 0, count: 4096)
    let count = recv(descriptor, &chunk, chunk.count, 0)
    if count > 0 { received += chunk[..<count] }
    return count > 0
  }
  for (place, text) in texts.enumerated() {
    if place > 0, let expected {
      while !String(decoding: received, as: UTF8.self).hasSuffix(expected) {
        guard readSome() else { throw SocketFailure() }
      }
    }
    let bytes = Array(text.utf8)
    guard send(descriptor, bytes, bytes.count, 0) == bytes.count else { throw SocketFailure() }
  }
  if hangsUp { return "" }
  while readSome() {}
  return String(decoding: received, as: UTF8.self)
}
