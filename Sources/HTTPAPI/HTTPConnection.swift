import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A kept-open HTTP/1.1 connection for one request at a time, over a plain socket.
///
/// It is what the command line and the tests need of a client: text in, status and bytes out. Calls
/// block; use one connection per thread.
package final class HTTPConnection {
  package struct Reply: Sendable {
    package var status: Int
    package var headers: [String: String]
    package var body: [UInt8]
  }

  /// The connection's end, or what stood in the way of it.
  package struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
    package var message: String
    /// No server answered the connection request.
    package var isRefused = false
    package var description: String { message }
  }

  private let host: String
  private let port: Int
  private let patienceSeconds: Int?
  private var socketDescriptor: Int32 = -1
  private var received: [UInt8] = []

  /// - Parameter patienceSeconds: how long a server may be silent; nil for ever.
  package init(host: String, port: Int, patienceSeconds: Int? = nil) {
    self.host = host
    self.port = port
    self.patienceSeconds = patienceSeconds
  }

  deinit { disconnect() }

  package func disconnect() {
    if socketDescriptor >= 0 { close(socketDescriptor) }
    socketDescriptor = -1
    received = []
  }

  /// Sends a request and waits for the whole answer.
  ///
  /// A kept connection that the server has closed meanwhile is opened again once, if nothing of an
  /// answer had arrived and the request may be repeated (`GET`).
  package func send(
    _ method: String, _ path: String, body: [UInt8] = [], headers: [String: String] = [:]
  ) throws(Failure) -> Reply {
    let reused = socketDescriptor >= 0
    do throws(Failure) {
      return try exchange(method, path, body, headers)
    } catch {
      disconnect()
      guard reused, method == "GET" else { throw error }
      return try exchange(method, path, body, headers)
    }
  }

  private func exchange(
    _ method: String, _ path: String, _ body: [UInt8], _ headers: [String: String]
  ) throws(Failure) -> Reply {
    if socketDescriptor < 0 { try connect() }
    var head = "\(method) \(path) HTTP/1.1\r\nhost: \(host):\(port)\r\n"
    head += "content-length: \(body.count)\r\n"
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    head += "\r\n"
    try write(Array(head.utf8) + body)
    return try readReply()
  }

  private func connect() throws(Failure) {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    #if canImport(Glibc)
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    #else
      hints.ai_socktype = SOCK_STREAM
    #endif
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, String(port), &hints, &found) == 0, let first = found else {
      throw Failure(message: "The host `\(host)` is not known.", isRefused: true)
    }
    defer { freeaddrinfo(first) }
    var candidate: UnsafeMutablePointer<addrinfo>? = first
    while let address = candidate {
      let descriptor = socket(
        address.pointee.ai_family, address.pointee.ai_socktype, address.pointee.ai_protocol)
      if descriptor >= 0 {
        if connectSocket(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 {
          var one: Int32 = 1
          setsockopt(
            descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
          if let patienceSeconds {
            var limit = timeval(tv_sec: patienceSeconds, tv_usec: 0)
            let size = socklen_t(MemoryLayout<timeval>.size)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
            setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
          }
          socketDescriptor = descriptor
          received = []
          return
        }
        close(descriptor)
      }
      candidate = address.pointee.ai_next
    }
    throw Failure(message: "No server answers at http://\(host):\(port).", isRefused: true)
  }

  private func connectSocket(
    _ descriptor: Int32, _ address: UnsafeMutablePointer<sockaddr>?, _ length: socklen_t
  ) -> Int32 {
    #if canImport(Glibc)
      Glibc.connect(descriptor, address, length)
    #elseif canImport(Musl)
      Musl.connect(descriptor, address, length)
    #else
      Darwin.connect(descriptor, address, length)
    #endif
  }

  private func write(_ bytes: [UInt8]) throws(Failure) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes { buffer in
        #if canImport(Darwin)
          Darwin.send(socketDescriptor, buffer.baseAddress, buffer.count, 0)
        #else
          // Without MSG_NOSIGNAL a server that hangs up would end this process.
          Foundation.send(socketDescriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
        #endif
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw Failure(message: "The server closed the connection.") }
      sent += count
    }
  }

  /// Reads more bytes; false at the end of the stream.
  private func readMore() throws(Failure) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = chunk.withUnsafeMutableBytes {
        recv(socketDescriptor, $0.baseAddress, $0.count, 0)
      }
      if count > 0 {
        received += chunk[..<count]
        return true
      }
      if count == 0 { return false }
      if errno == EAGAIN || errno == EWOULDBLOCK {
        throw Failure(message: "The server gave no answer within \(patienceSeconds ?? 0) seconds.")
      }
      if errno != EINTR { throw Failure(message: "The connection to the server broke.") }
    }
  }

  private func readLine(from start: inout Int) throws(Failure) -> String {
    var scanned = start
    while true {
      if let end = received[scanned...].firstIndex(of: 10) {
        let line = received[start..<end]
        start = end + 1
        return String(decoding: line.last == 13 ? line.dropLast() : line, as: UTF8.self)
      }
      scanned = received.count
      guard try readMore() else { throw Failure(message: "The server closed the connection.") }
    }
  }

  private func need(_ count: Int) throws(Failure) {
    while received.count < count {
      guard try readMore() else {
        throw Failure(message: "The server closed the connection inside an answer.")
      }
    }
  }

  private func readReply() throws(Failure) -> Reply {
    var at = 0
    var status = 0
    var headers: [String: String] = [:]
    repeat {
      let line = try readLine(from: &at)
      let words = line.split(separator: " ")
      guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let code = Int(words[1]) else {
        throw Failure(message: "http://\(host):\(port) does not answer in HTTP.")
      }
      status = code
      headers = [:]
      while true {
        let line = try readLine(from: &at)
        if line.isEmpty { break }
        guard let colon = line.firstIndex(of: ":") else { continue }
        headers[line[..<colon].lowercased()] =
          line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
      }
    } while status == 100
    var body: [UInt8] = []
    if headers["transfer-encoding"]?.lowercased() == "chunked" {
      while true {
        let size = try readLine(from: &at)
        guard let count = Int(size.prefix { $0 != ";" }, radix: 16) else {
          throw Failure(message: "The server's answer has a broken chunk.")
        }
        try need(at + count + 2)
        body += received[at..<(at + count)]
        at += count + 2
        if count == 0 { break }
      }
    } else if let length = headers["content-length"].flatMap({ Int($0) }) {
      try need(at + length)
      body = Array(received[at..<(at + length)])
      at += length
    }
    received.removeSubrange(..<at)
    if headers["connection"]?.lowercased() == "close" { disconnect() }
    return Reply(status: status, headers: headers, body: body)
  }
}
