/// Finds the end of an HTTP/1.1 response in a stream of bytes.
///
/// Reads the status, `Content-Length`, `Transfer-Encoding: chunked` and `Connection: close`; the body
/// is passed over. It holds no socket, so that it can be tested on every way to cut a response.
package struct ResponseParser: Sendable {
  /// A complete response.
  package struct Response: Hashable, Sendable {
    package var status: Int
    /// Whether the server closes the connection after it.
    package var closes: Bool
    package var bodyBytes: Int

    package init(status: Int, closes: Bool, bodyBytes: Int) {
      (self.status, self.closes, self.bodyBytes) = (status, closes, bodyBytes)
    }
  }

  /// The bytes are no HTTP/1.1 response.
  package struct Malformed: Error, Hashable, Sendable {
    package var reason: String
  }

  private enum Stage {
    case head
    case body(left: Int)
    case chunkSize
    case chunk(left: Int)
    case trailer
  }

  private var stage = Stage.head
  private var line: [UInt8] = []
  private var lines: [String] = []
  private var response = Response(status: 0, closes: false, bodyBytes: 0)

  package init() {}

  /// Takes in some bytes.
  ///
  /// - Returns: the response that these bytes complete. A connection without pipelining sends nothing
  ///   after it; bytes that follow are an error.
  package mutating func feed(_ bytes: UnsafeRawBufferPointer) throws(Malformed) -> Response? {
    var rest = bytes[...]
    while !rest.isEmpty {
      var isDone = false
      switch stage {
      case .head:
        guard let text = takeLine(&rest) else { break }
        if text.isEmpty {
          isDone = try endHead()
        } else {
          lines.append(text)
        }
      case .body(let left):
        let taken = pass(over: left, &rest)
        stage = .body(left: left - taken)
        isDone = taken == left
      case .chunkSize:
        guard let text = takeLine(&rest) else { break }
        let digits = text.prefix { $0 != ";" }
        guard let size = Int(digits, radix: 16), size >= 0 else {
          throw Malformed(reason: "the chunk size `\(text)`")
        }
        // A chunk's data ends with a line break of its own.
        stage = size == 0 ? .trailer : .chunk(left: size + 2)
        response.bodyBytes += size
      case .chunk(let left):
        let taken = pass(over: left, &rest)
        stage = taken == left ? .chunkSize : .chunk(left: left - taken)
      case .trailer:
        guard let text = takeLine(&rest) else { break }
        isDone = text.isEmpty
      }
      if isDone {
        guard rest.isEmpty else { throw Malformed(reason: "bytes after the response") }
        let complete = response
        self = ResponseParser()
        return complete
      }
    }
    return nil
  }

  /// Takes bytes up to a line break; nil where the line goes on beyond them.
  private mutating func takeLine(_ rest: inout Slice<UnsafeRawBufferPointer>) -> String? {
    guard let end = rest.firstIndex(of: 10) else {
      line += rest
      rest = rest[rest.endIndex...]
      return nil
    }
    line += rest[..<end]
    rest = rest[(end + 1)...]
    if line.last == 13 { line.removeLast() }
    let text = String(decoding: line, as: UTF8.self)
    line.removeAll(keepingCapacity: true)
    return text
  }

  private func pass(over count: Int, _ rest: inout Slice<UnsafeRawBufferPointer>) -> Int {
    let taken = min(count, rest.count)
    rest = rest.dropFirst(taken)
    return taken
  }

  /// Reads the head.
  ///
  /// - Returns: whether the response has no body.
  private mutating func endHead() throws(Malformed) -> Bool {
    guard let first = lines.first else { throw Malformed(reason: "an empty head") }
    let words = first.split(separator: " ")
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
      throw Malformed(reason: "the status line `\(first)`")
    }
    response.status = status
    response.closes = words[0] == "HTTP/1.0"
    var length: Int?
    var isChunked = false
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else {
        throw Malformed(reason: "the header line `\(line)`")
      }
      let value = line[line.index(after: colon)...].drop { $0 == " " }.lowercased()
      switch line[..<colon].lowercased() {
      case "content-length": length = Int(value)
      case "transfer-encoding": isChunked = value == "chunked"
      case "connection": response.closes = value == "close"
      default: break
      }
    }
    if isChunked {
      stage = .chunkSize
      return false
    }
    if status == 204 || status == 304 { return true }
    guard let length, length >= 0 else {
      throw Malformed(reason: "neither a length nor chunks")
    }
    response.bodyBytes = length
    stage = .body(left: length)
    return length == 0
  }
}
