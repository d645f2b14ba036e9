import Domain
package import Engine
import Foundation
import Hummingbird
import HummingbirdCore
package import Logging
import NIOCore
import NIOHTTP1

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
  private let application: Application<Unused>
  private let options: ServerOptions

  /// - Parameter onReady: is called once with the port on which the server listens.
  package init(
    database: RiffleDatabase, options: ServerOptions, logger: Logger,
    onReady: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
  ) {
    self.options = options
    let api = API(
      database: database, apiKey: options.apiKey, maximumBodyBytes: options.maximumBodyBytes,
      logger: logger)
    application = Application(
      responder: Unused(),
      server: HTTPServerBuilder { _ in
        RiffleConnection(api: api, maximumBodyBytes: options.maximumBodyBytes)
      },
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

  /// One event loop for each core that this process may use; to be called before anything serves.
  ///
  /// NIO counts the cores of the machine. Where fewer are allowed, two loops share one, and a request waits
  /// for a whole slice of time of the other loop.
  package static func useAllowedCores() {
    NIOSingletons.groupLoopCountSuggestion = allowedCoreCount
  }

  private func translated(_ error: any Error) -> any Error {
    guard let error = error as? IOError, error.errnoCode == EADDRINUSE else { return error }
    return Diagnostic(
      .conflict, code: "port_in_use",
      "Another process listens at \(options.host):\(options.port) already.", at: "--port",
      help: "Stop it, or choose another port with --port; 0 takes any free one.")
  }
}

/// How a connection is served: by NIO's handlers of HTTP and ours, on its event loop. Hummingbird
/// listens, accepts and shuts down.
private struct RiffleConnection: ServerChildChannel {
  struct Value: ServerChildChannelValue {
    let channel: any Channel
  }

  let api: API
  let maximumBodyBytes: Int

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    channel.eventLoop.makeCompletedFuture {
      // The pipelining assistance also finishes the request that is being answered at a shutdown.
      try channel.pipeline.syncOperations.configureHTTPServerPipeline(
        withPipeliningAssistance: true, withErrorHandling: true)
      try channel.pipeline.syncOperations.addHandler(
        RequestHandler(api, maximumBodyBytes: maximumBodyBytes))
      return Value(channel: channel)
    }
  }

  func handle(value: Value, logger: Logger) async {
    await withTaskCancellationHandler {
      try? await value.channel.closeFuture.get()
    } onCancel: {
      value.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    }
  }
}

/// Hummingbird asks for a responder; connections answer by themselves.
private struct Unused: HTTPResponder {
  typealias Context = BasicRequestContext
  func respond(to request: Request, context: BasicRequestContext) async throws -> Response {
    Response(status: .notImplemented)
  }
}
