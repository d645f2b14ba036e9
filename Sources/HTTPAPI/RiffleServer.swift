import Domain
package import Engine
import Foundation
import HTTPTypes
import Hummingbird
package import Logging
import NIOCore

/// Where and how the server listens.
package struct ServerOptions: Sendable {
  /// Default 127.0.0.1: this machine only.
  package var host = "127.0.0.1"
  /// 0 takes any free port.
  package var port = 8080
  /// What every request below `/v2` must send as `x-api-key`; no key is asked for where nil.
  package var apiKey: String?
  /// A larger body is refused with 413. Default 64 MiB, about half a million events.
  package var maximumBodyBytes = 64 << 20

  package init() {}
}

/// The HTTP server over one open database.
package struct RiffleServer: Sendable {
  private let application: Application<RiffleResponder>
  private let options: ServerOptions

  /// - Parameter onReady: is called once with the port on which the server listens.
  package init(
    database: RiffleDatabase, options: ServerOptions, logger: Logger,
    onReady: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
  ) {
    self.options = options
    application = Application(
      responder: RiffleResponder(
        api: API(
          database: database, apiKey: options.apiKey, maximumBodyBytes: options.maximumBodyBytes,
          logger: logger)),
      configuration: ApplicationConfiguration(
        address: .hostname(options.host, port: options.port), serverName: "riffle"),
      onServerRunning: { channel in
        await onReady(channel.localAddress?.port ?? options.port)
      }, logger: logger)
  }

  /// Serves until SIGTERM or SIGINT; requests that run are answered first.
  ///
  /// - Throws: `port_in_use` where another process listens there.
  package func runUntilSignalled() async throws {
    do { try await application.runService() } catch { throw translated(error) }
  }

  /// Serves until the task is cancelled.
  package func run() async throws {
    do { try await application.run() } catch { throw translated(error) }
  }

  private func translated(_ error: any Error) -> any Error {
    guard let error = error as? IOError, error.errnoCode == EADDRINUSE else { return error }
    return Diagnostic(
      .conflict, code: "port_in_use",
      "Another process listens at \(options.host):\(options.port) already.", at: "--port",
      help: "Stop it, or choose another port with --port; 0 takes any free one.")
  }
}

/// Turns Hummingbird's requests into the API's and its replies into Hummingbird's.
private struct RiffleResponder: HTTPResponder {
  typealias Context = BasicRequestContext

  let api: API

  func respond(to request: Request, context: BasicRequestContext) async -> Response {
    var call = APIRequest(
      request.method.rawValue, request.uri.path, contentType: request.headers[.contentType],
      apiKey: Self.apiKeyField.flatMap { request.headers[$0] },
      eachChunk: { each in
        for try await buffer in request.body { try await each(Array(buffer.readableBytesView)) }
      })
    if call.apiKey == nil, let bearer = request.headers[.authorization], bearer.hasPrefix("Bearer ")
    {
      call.apiKey = String(bearer.dropFirst(7))
    }
    call.contentEncoding = request.headers[.contentEncoding]
    call.idempotencyKey = Self.idempotencyField.flatMap { request.headers[$0] }
    if request.uri.query != nil {
      for (name, value) in request.uri.queryParameters {
        call.parameters[String(name)] = String(value)
      }
    }
    call.announcedBytes = request.headers[.contentLength].flatMap { Int($0) } ?? 0
    let reply = await api.answer(call)
    var headers: HTTPFields = [.contentType: "application/json"]
    for (name, value) in reply.headers {
      if let field = HTTPField.Name(name) { headers[field] = value }
    }
    var body = ByteBufferAllocator().buffer(capacity: reply.body.count + 1)
    body.writeBytes(reply.body)
    // A line's end, for those who read the answer in a terminal.
    body.writeInteger(UInt8(ascii: "\n"))
    return Response(
      status: HTTPResponse.Status(code: reply.status), headers: headers,
      body: ResponseBody(byteBuffer: body))
  }

  private static let apiKeyField = HTTPField.Name("x-api-key")
  private static let idempotencyField = HTTPField.Name("idempotency-key")
}
