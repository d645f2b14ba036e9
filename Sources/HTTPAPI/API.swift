import Connectors
import Domain
package import Engine
import Foundation
import Ingest
package import Logging

/// A request as the API sees it, whichever way it came: over a socket or from inside the process.
package struct APIRequest: Sendable {
  package var method: String
  /// Without the query string.
  package var path: String
  package var contentType: String?
  package var apiKey: String?
  /// What stands behind the `?` of the address.
  package var parameters: [String: String] = [:]
  package var idempotencyKey: String?
  package var contentEncoding: String?
  /// Another header by its lower-case name.
  package var header: @Sendable (String) -> String? = { _ in nil }
  /// The length that the sender announced; 0 where none.
  package var announcedBytes = 0
  /// Gives the body piece by piece, as it was sent. It is called at most once, and only where the
  /// route takes a body; the sender is held up while a piece is worked on.
  package var eachChunk: @Sendable (_ body: ([UInt8]) async throws -> Void) async throws -> Void

  package init(
    _ method: String, _ path: String, contentType: String? = nil, apiKey: String? = nil,
    eachChunk: @escaping @Sendable (_ body: ([UInt8]) async throws -> Void) async throws -> Void
  ) {
    self.method = method
    self.path = path
    self.contentType = contentType
    self.apiKey = apiKey
    self.eachChunk = eachChunk
  }

  /// A request whose body is at hand.
  ///
  /// - Parameter path: may hold parameters behind a `?`.
  package init(
    _ method: String, _ path: String, contentType: String? = nil, apiKey: String? = nil,
    body: [UInt8] = []
  ) {
    let parts = path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    self.init(method, String(parts[0]), contentType: contentType, apiKey: apiKey) { each in
      if !body.isEmpty { try await each(body) }
    }
    if parts.count > 1 { parameters = Self.parameters(parts[1]) }
  }

  /// Reads `a=1&b=2`, percent-encoded.
  static func parameters(_ query: Substring) -> [String: String] {
    var parameters: [String: String] = [:]
    for pair in query.split(separator: "&") {
      let sides = pair.split(separator: "=", maxSplits: 1)
      guard let name = sides.first else { continue }
      let value = sides.count > 1 ? String(sides[1]) : ""
      parameters[name.removingPercentEncoding ?? String(name)] =
        value.removingPercentEncoding ?? value
    }
    return parameters
  }
}

/// An answer: JSON, except where `headers` name another `content-type`.
package struct APIReply: Sendable {
  package var status: Int
  /// Beside `content-type`, with lower-case names.
  package var headers: [String: String]
  package var body: [UInt8]
}

/// A body that is larger than the server takes.
struct BodyTooLarge: Error {
  var limit: Int
}

/// A problem whose status or headers do not follow from the diagnostic's kind.
private struct RouteProblem: Error {
  var status: Int
  var headers: [String: String]
  var diagnostic: Diagnostic
}

/// The whole REST API as one function from request to reply; it knows no sockets.
package struct API: Sendable {
  package let database: RiffleDatabase
  let apiKey: String?
  let maximumBodyBytes: Int
  private let logger: Logger

  /// - Parameter maximumBodyBytes: what a body that is read as a whole may hold, unpacked.
  package init(
    database: RiffleDatabase, apiKey: String? = nil, maximumBodyBytes: Int = 64 << 20,
    logger: Logger
  ) {
    self.database = database
    self.apiKey = apiKey
    self.maximumBodyBytes = maximumBodyBytes
    self.logger = logger
  }

  /// Answers a request; problems become replies. `HEAD` is answered as `GET`: whoever sends the reply
  /// leaves the body out.
  package func answer(_ request: APIRequest) async -> APIReply {
    var request = request
    if request.method == "HEAD" { request.method = "GET" }
    do {
      return try await route(request)
    } catch {
      return failure(error, path: request.path)
    }
  }

  /// Answers a query of a small catalogue without waiting for anything, so that the thread which read
  /// the request can do it; nil for every other request.
  ///
  /// - Parameter body: the whole body.
  package func answerAtOnce(_ request: APIRequest, body: [UInt8]) -> APIReply? {
    guard request.method == "POST", request.contentEncoding == nil,
      let route = Self.queryRoute(request.path)
    else { return nil }
    do {
      try authorize(request)
      return try query(route, body, onlyAtOnce: true)
    } catch {
      return failure(error, path: request.path)
    }
  }

  /// The reply to a request that failed.
  func failure(_ error: any Error, invalidStatus: Int = 422, path: String) -> APIReply {
    switch error {
    case let problems as Diagnostics:
      return Self.failure(problems, invalidStatus: invalidStatus)
    case let problem as Diagnostic:
      return Self.failure(Diagnostics(problem), invalidStatus: invalidStatus)
    case let problem as RouteProblem:
      return Self.failure(
        Diagnostics(problem.diagnostic), status: problem.status, headers: problem.headers)
    case let problem as BodyTooLarge:
      return Self.failure(
        Diagnostics(
          Diagnostic(
            code: "body_too_large", "The body is larger than \(problem.limit) bytes.",
            help: "Send the rows in smaller batches, or start the server with a larger "
              + "--max-body-megabytes.")), status: 413)
    default:
      // The words of an unknown error may hold paths or data: they go to the log, not to the caller.
      logger.error("A request failed", metadata: ["error": "\(error)", "path": "\(path)"])
      return Self.failure(
        Diagnostics(
          Diagnostic(
            .internalError, code: "internal_error", "Something went wrong inside the server.",
            help: "The server's log has the cause.")))
    }
  }

  // MARK: routes

  private func route(_ request: APIRequest) async throws -> APIReply {
    let path = request.path
    let segments = path.utf8.split(separator: UInt8(ascii: "/")).map { Self.decoded($0) }
    switch segments.first {
    case "livez" where segments.count == 1:
      try allow(["GET"], request)
      return Self.json(["status": "alive"])
    case "readyz" where segments.count == 1:
      try allow(["GET"], request)
      return ready()
    case "v1" where SegmentEndpoint.takes(Array(segments.dropFirst())):
      // The tracking API has keys of its own.
      try allow(["POST", "OPTIONS"], request)
      return await track(request, Array(segments.dropFirst()))
    case "metrics" where segments.count == 1:
      try allow(["GET"], request)
      try authorize(request)
      return try metrics()
    case "v2": break
    default: throw Self.unknownRoute(request)
    }
    try authorize(request)
    switch (segments.count, segments.dropFirst().first ?? "") {
    case (2, "tables"):
      try allow(["GET", "POST", "PATCH"], request)
      if request.method == "GET" { return listTables() }
      if request.method == "PATCH" { return try await alterTable(request) }
      return try await createTable(request)
    case (3, "tables"):
      try allow(["GET", "DELETE"], request)
      if request.method == "GET" { return try await viewTable(segments[2]) }
      try await database.deleteTable(named: segments[2])
      return Self.json(["message": .string("The table `\(segments[2])` is deleted.")])
    case (4, "tables") where segments[3] == "insert":
      try allow(["POST"], request)
      return try await insert(request, into: segments[2])
    case (2, "sources"):
      try allow(["GET", "POST", "PATCH"], request)
      switch request.method {
      case "GET": return listSources()
      case "POST": return try await createSource(request)
      default: return try await updateSource(request)
      }
    case (3, "sources"):
      try allow(["GET", "DELETE"], request)
      if request.method == "GET" { return try viewSource(segments[2]) }
      return try await deleteSource(segments[2])
    case (4, "sources") where segments[3] == "pause" || segments[3] == "resume":
      try allow(["POST"], request)
      return try await pauseSource(segments[2], segments[3] == "pause")
    case (4, "tables") where segments[3] == "alerts":
      try allow(["GET", "DELETE"], request)
      if request.method == "GET" { return try alerts(segments[2]) }
      return try clearAlerts(segments[2])
    case (2, "alerts"):
      try allow(["GET"], request)
      return try alerts(nil)
    case (2, "dead-letters"):
      try allow(["GET", "DELETE"], request)
      if request.method == "GET" { return try await listDeadLetters(request) }
      return try await dropDeadLetters(request)
    case (3, "dead-letters") where segments[2] == "counts":
      try allow(["GET"], request)
      return try await countDeadLetters(request)
    case (3, "dead-letters") where segments[2] == "replay":
      try allow(["POST"], request)
      return try await replayDeadLetters(request)
    case (3, "dead-letters"):
      try allow(["GET"], request)
      return try viewDeadLetter(segments[2])
    case (3, "users"):
      try allow(["DELETE"], request)
      return try await eraseUser(segments[2])
    case (4, "users") where segments[3] == "export":
      try allow(["GET"], request)
      return try await exportUser(segments[2])
    case (2, "views"):
      try allow(["GET", "POST", "PATCH"], request)
      if request.method == "GET" { return listViews() }
      return try await setView(request)
    case (3, "views"):
      try allow(["GET", "DELETE"], request)
      if request.method == "GET" { return try await viewView(segments[2]) }
      try await database.deleteView(named: segments[2])
      return Self.json(["message": .string("The view `\(segments[2])` is deleted.")])
    case (2, "query"):
      try allow(["POST"], request)
      return try await globalQuery(request)
    case (2, "engines"):
      try allow(["GET", "POST"], request)
      if request.method == "GET" { return listEngines() }
      return try await createEngine(request)
    case (3, "engines"):
      try allow(["GET", "DELETE"], request)
      if request.method == "GET" { return try viewEngine(segments[2]) }
      try await database.deleteEngine(named: segments[2])
      return Self.json(["message": .string("The engine `\(segments[2])` is deleted.")])
    case (4, "engines") where segments[3] == "query":
      try allow(["POST"], request)
      return try await answer(QueryRoute(engine: segments[2]), request)
    case (4, "engines") where segments[3] == "queries":
      try allow(["GET"], request)
      return try listQueries(segments[2])
    case (5, "engines") where segments[3] == "queries":
      try allow(["GET", "POST"], request)
      if request.method == "GET" { return try viewQuery(segments[4], engine: segments[2]) }
      return try await answer(QueryRoute(engine: segments[2], saved: segments[4]), request)
    default: throw Self.unknownRoute(request)
    }
  }

  /// The engine and the saved query that a path names, where it is a path of queries.
  private static func queryRoute(_ path: String) -> QueryRoute? {
    guard path.utf8.starts(with: "/v2/engines/".utf8) else { return nil }
    let segments = path.utf8.split(separator: UInt8(ascii: "/"))
    if segments.count == 4, segments[3].elementsEqual("query".utf8) {
      return QueryRoute(engine: decoded(segments[2]))
    }
    if segments.count == 5, segments[3].elementsEqual("queries".utf8) {
      return QueryRoute(engine: decoded(segments[2]), saved: decoded(segments[4]))
    }
    return nil
  }

  private static func decoded(_ segment: Substring.UTF8View) -> String {
    let text = String(Substring(segment))
    return text.utf8.contains(UInt8(ascii: "%")) ? text.removingPercentEncoding ?? text : text
  }

  private func allow(_ methods: [String], _ request: APIRequest) throws {
    guard methods.contains(request.method) else {
      throw RouteProblem(
        status: 405,
        headers: [
          "allow": methods.flatMap { $0 == "GET" ? ["GET", "HEAD"] : [$0] }.joined(separator: ", ")
        ],
        diagnostic: Diagnostic(
          code: "method_not_allowed",
          "\(request.path) does not take \(request.method).",
          help: "It takes \(methods.joined(separator: " and "))."))
    }
  }

  private static func unknownRoute(_ request: APIRequest) -> Diagnostic {
    Diagnostic(
      .notFound, code: "unknown_route",
      "There is nothing at \(request.method) \(request.path).",
      help: "Routes: /livez, /readyz, /v2/tables, /v2/tables/{table}, /v2/tables/{table}/insert, "
        + "/v2/engines, /v2/engines/{engine}, /v2/engines/{engine}/query, "
        + "/v2/engines/{engine}/queries, /v2/engines/{engine}/queries/{query}, /v2/query, "
        + "/v2/sources, /v2/sources/{source}, /v2/sources/{source}/pause, "
        + "/v2/sources/{source}/resume, /v1/batch and the tracking API's other paths, "
        + "/v2/views, /v2/views/{view}, /v2/dead-letters, /v2/alerts, /v2/users/{user}, /metrics.")
  }

  private func authorize(_ request: APIRequest) throws {
    guard let apiKey else { return }
    let given = Array((request.apiKey ?? "").utf8)
    guard Self.equalInConstantTime(given, Array(apiKey.utf8)) else {
      throw Diagnostic(
        .unauthorized, code: "unauthorized",
        given.isEmpty ? "The request has no API key." : "The API key is not the server's.",
        help: "Send the key that the server was started with in the header `x-api-key`.")
    }
  }

  /// Takes the same time wherever the first difference lies, so that the key cannot be guessed byte
  /// by byte.
  private static func equalInConstantTime(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    var difference = a.count ^ b.count
    for i in 0..<min(a.count, b.count) { difference |= Int(a[i] ^ b[i]) }
    return difference == 0
  }

  func jsonBody(_ request: APIRequest) async throws -> JSON {
    try JSON(parsing: try await wholeBody(request))
  }

  /// Reads the body to its end, unpacked.
  func wholeBody(_ request: APIRequest) async throws -> [UInt8] {
    if request.announcedBytes > maximumBodyBytes { throw BodyTooLarge(limit: maximumBodyBytes) }
    var out: [UInt8] = []
    try await unpackedChunks(request, isStream: false) { chunk in
      if out.isEmpty { out = chunk } else { out += chunk }
      if out.count > maximumBodyBytes { throw BodyTooLarge(limit: maximumBodyBytes) }
    }
    return out
  }

  /// Gives the body piece by piece, unpacked where it is gzip.
  func unpackedChunks(
    _ request: APIRequest, isStream: Bool, _ each: ([UInt8]) async throws -> Void
  ) async throws {
    switch request.contentEncoding?.lowercased() {
    case nil, "", "identity":
      try await request.eachChunk(each)
    case "gzip", "x-gzip":
      let inflater =
        isStream
        ? try Inflater(limit: .max, mostRatio: 200) : try Inflater(limit: maximumBodyBytes)
      do {
        try await request.eachChunk { try await inflater.unpack($0, each) }
        try inflater.finish()
      } catch let problem as Diagnostic where problem.code == "unpacked_too_large" {
        throw RouteProblem(status: 413, headers: [:], diagnostic: problem)
      }
    case let other?:
      throw RouteProblem(
        status: 415, headers: ["accept-encoding": "gzip"],
        diagnostic: Diagnostic(
          code: "unsupported_encoding", "Bodies packed with `\(other)` are not read.",
          at: "content-encoding", help: "Send gzip, or the body as it is."))
    }
  }
}
