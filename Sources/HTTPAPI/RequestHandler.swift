import Domain
import Foundation
import Ingest
import NIOCore
import NIOHTTP1

/// One connection's requests, gathered and answered.
///
/// A query of a small catalogue is answered on the event loop itself, between two reads of its socket:
/// a hop to another thread and back costs more than the query. Everything else is answered by a task
/// of the shared pool. Requests that come before an answer is out wait in the pipeline in front of this
/// handler, so one at a time is here.
final class RequestHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let api: API
  /// A longer body is refused.
  private let maximumBodyBytes: Int
  private var head: HTTPRequestHead?
  private var body = ByteBuffer()
  private var bodyBytes = 0
  /// Where the parts of a streamed body go; nil where the body is gathered.
  private var feed: BodyFeed?
  private var isAnswering = false
  private var isClosing = false
  private var round: FlushRound?

  init(_ api: API, maximumBodyBytes: Int) {
    self.api = api
    self.maximumBodyBytes = maximumBodyBytes
  }

  func handlerAdded(context: ChannelHandlerContext) { round = FlushRound.of(context.eventLoop) }

  func handlerRemoved(context: ChannelHandlerContext) { round = nil }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isClosing else { return }
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
      body = ByteBuffer()
      bodyBytes = 0
      begin(head, context)
      if !isClosing, RequestHandler.isStream(head) { answerStream(head, context) }
    case .body(let part):
      if let feed {
        // Reading goes on once the feed has been emptied.
        if feed.push(part) {
          context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
        }
        return
      }
      bodyBytes += part.readableBytes
      // What is too much is read to its end and dropped, so that the client hears the answer; up to a
      // point.
      if bodyBytes <= maximumBodyBytes {
        var part = part
        if body.readableBytes == 0 { body = part } else { body.writeBuffer(&part) }
      } else if bodyBytes / 8 > maximumBodyBytes {
        isClosing = true
        context.close(promise: nil)
      } else {
        body = ByteBuffer()
      }
    case .end:
      if let feed {
        feed.end()
        self.feed = nil
        head = nil
        return
      }
      guard let head else { return }
      self.head = nil
      answer(head, context)
    }
  }

  /// A client that waits to be asked for the body is asked, or told at once that it is too large.
  private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    guard head.headers.first(name: "expect")?.lowercased() == "100-continue" else { return }
    if !RequestHandler.isStream(head),
      let length = head.headers.first(name: "content-length").flatMap({ Int($0) }),
      length > maximumBodyBytes
    {
      self.head = nil
      bodyBytes = length
      isClosing = true
      answer(head, context)
      return
    }
    context.writeAndFlush(
      wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .continue))),
      promise: nil)
  }

  /// Whether the body is worked on as it comes: rows in lines, of any number.
  private static func isStream(_ head: HTTPRequestHead) -> Bool {
    guard head.method == .POST, path(of: head.uri).hasSuffix("/insert") else { return false }
    let request = self.request(head) { _ in }
    return ((try? API.format(of: request)) ?? .json) != .json
  }

  /// A request with the headers and the parameters that the API looks at.
  private static func request(
    _ head: HTTPRequestHead,
    _ eachChunk: @escaping @Sendable (_ body: ([UInt8]) async throws -> Void) async throws -> Void
  ) -> APIRequest {
    let headers = head.headers
    var key = headers.first(name: "x-api-key")
    if key == nil, let bearer = headers.first(name: "authorization"), bearer.hasPrefix("Bearer ") {
      key = String(bearer.dropFirst(7))
    }
    var request = APIRequest(
      head.method.rawValue, path(of: head.uri), contentType: headers.first(name: "content-type"),
      apiKey: key, eachChunk: eachChunk)
    request.header = { headers.first(name: $0) }
    request.idempotencyKey = headers.first(name: "idempotency-key")
    request.contentEncoding = headers.first(name: "content-encoding")
    if let mark = head.uri.firstIndex(of: "?") {
      request.parameters = APIRequest.parameters(
        head.uri[head.uri.index(after: mark)...].prefix { $0 != "#" })
    }
    return request
  }

  /// Begins to answer while the body still comes.
  private func answerStream(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    isAnswering = true
    let channel = context.channel
    let feed = BodyFeed { channel.setOption(.autoRead, value: true).whenComplete { _ in } }
    self.feed = feed
    let request = RequestHandler.request(head) { each in
      while let part = try await feed.next() { try await each(Array(part.readableBytesView)) }
    }
    let loop = context.eventLoop
    let connection = NIOLoopBound((handler: self, context: context), eventLoop: loop)
    let limit = max(4 * maximumBodyBytes, 64 << 20)
    Task { [api] in
      let reply = await api.answer(request)
      // An answer before the body's end: the rest is read and dropped, so that the client hears it.
      let isDrained = await feed.drain(upTo: limit)
      loop.execute {
        let (handler, context) = connection.value
        if !isDrained { handler.isClosing = true }
        handler.write(reply, to: head, context)
      }
    }
  }

  private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    isAnswering = true
    let bytes = Array(body.readableBytesView)
    body = ByteBuffer()
    let (isTooLong, limit) = (bodyBytes > maximumBodyBytes, maximumBodyBytes)
    let request = RequestHandler.request(head) { each in
      if isTooLong { throw BodyTooLarge(limit: limit) }
      if !bytes.isEmpty { try await each(bytes) }
    }
    if !isTooLong, let reply = api.answerAtOnce(request, body: bytes) {
      write(reply, to: head, context, after: round)
      return
    }
    let loop = context.eventLoop
    let connection = NIOLoopBound((handler: self, context: context), eventLoop: loop)
    Task { [api] in
      let reply = await api.answer(request)
      loop.execute {
        let (handler, context) = connection.value
        handler.write(reply, to: head, context)
      }
    }
  }

  /// The path before the query string. A target that names the server too is taken by its path.
  private static func path(of uri: String) -> String {
    var rest = uri[...]
    if !rest.utf8.starts(with: "/".utf8), let scheme = rest.range(of: "://") {
      rest = rest[scheme.upperBound...]
      rest = rest.firstIndex(of: "/").map { rest[$0...] } ?? "/"
    }
    return String(rest.prefix { $0 != "?" && $0 != "#" })
  }

  /// - Parameter round: flushes the answer, with others; nil sends it now.
  private func write(
    _ reply: APIReply, to head: HTTPRequestHead, _ context: ChannelHandlerContext,
    after round: FlushRound? = nil
  ) {
    isAnswering = false
    let keepsOpen = head.isKeepAlive && !isClosing
    var headers = HTTPHeaders()
    headers.reserveCapacity(6 + reply.headers.count)
    headers.add(name: "content-type", value: "application/json")
    headers.add(name: "content-length", value: String(reply.body.count + 1))
    headers.add(name: "server", value: "riffle")
    headers.add(name: "date", value: HTTPDate.now)
    for (name, value) in reply.headers { headers.replaceOrAdd(name: name, value: value) }
    if !keepsOpen {
      headers.add(name: "connection", value: "close")
    } else if head.version.minor == 0 {
      headers.add(name: "connection", value: "keep-alive")
    }
    let status = HTTPResponseStatus(statusCode: reply.status)
    context.write(
      wrapOutboundOut(
        .head(HTTPResponseHead(version: head.version, status: status, headers: headers))),
      promise: nil)
    if head.method != .HEAD {
      var body = context.channel.allocator.buffer(capacity: reply.body.count + 1)
      body.writeBytes(reply.body)
      // A line's end, for those who read the answer in a terminal.
      body.writeInteger(UInt8(ascii: "\n"))
      context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
    }
    if keepsOpen, let round {
      context.write(wrapOutboundOut(.end(nil)), promise: nil)
      round.add(context)
      return
    }
    guard !keepsOpen else {
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      return
    }
    isClosing = true
    let connection = NIOLoopBound(context, eventLoop: context.eventLoop)
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
      connection.value.close(promise: nil)
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent {
      feed?.breakOff()
      // The client sends no more: an answer that is being made is still sent, and that is all.
      if isAnswering { isClosing = true } else { context.close(promise: nil) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    feed?.breakOff()
    feed = nil
    context.fireChannelInactive()
  }

  /// A client that goes away in the middle is no fault of this server, and no news.
  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }
}
