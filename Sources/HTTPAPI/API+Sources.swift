import Connectors
import Domain
import Engine

/// Sources: what brings events in by itself, and the tracking API that is sent to.
extension API {
  func listSources() -> APIReply {
    Self.json(["sources": .array(database.sources.map { Self.summary($0) })])
  }

  func viewSource(_ name: String) throws -> APIReply {
    let source = try database.source(named: name)
    var members = Self.summary(source).object ?? []
    members.append(JSON.Member("status", source.status.json))
    members.append(JSON.Member("config", source.definition.displayed))
    if !source.definition.literalSecrets.isEmpty {
      let keys = source.definition.literalSecrets.map { "`\($0)`" }.joined(separator: ", ")
      members.append(
        JSON.Member(
          "warning_message",
          .string(
            "\(keys) of the definition stands in the data directory. Write ${NAME} or file:/path "
              + "instead.")))
    }
    return Self.json(.object(members))
  }

  private static func summary(_ source: SourceInfo) -> JSON {
    [
      "name": .string(source.definition.name), "type": .string(source.definition.kind.rawValue),
      "table": .string(source.definition.table),
      "description": source.definition.description.map { .string($0) } ?? .null,
      "state": .string(source.status.state.rawValue), "paused": .bool(source.isPaused),
      "status_line": .string(source.status.line(at: .now())),
    ]
  }

  func createSource(_ request: APIRequest) async throws -> APIReply {
    let source = try await database.createSource(try await settings(request))
    return Self.json([
      "message": .string("The source `\(source.name)` feeds the table `\(source.table)`.")
    ])
  }

  func updateSource(_ request: APIRequest) async throws -> APIReply {
    let source = try await database.updateSource(try await settings(request))
    return Self.json([
      "message": .string("The source `\(source.name)` is changed and goes on where it was.")
    ])
  }

  func deleteSource(_ name: String) async throws -> APIReply {
    try await database.deleteSource(named: name)
    return Self.json([
      "message": .string("The source `\(name)` is deleted. Its rows stay in the table.")
    ])
  }

  func pauseSource(_ name: String, _ paused: Bool) async throws -> APIReply {
    try await database.setPaused(paused, source: name)
    return Self.json([
      "message": .string("The source `\(name)` \(paused ? "rests" : "goes on").")
    ])
  }

  /// The body as YAML or JSON.
  private func settings(_ request: APIRequest) async throws -> JSON {
    let text = String(decoding: try await wholeBody(request), as: UTF8.self)
    return try JSON(settings: text, origin: "source.yaml")
  }

  // MARK: the tracking API

  /// Answers a request of the tracking API: `{"success": true}` once its events are on the disk.
  func track(_ request: APIRequest, _ path: [String]) async -> APIReply {
    // Browsers ask first, and send from pages of any origin: the write key is public there.
    let headers = ["access-control-allow-origin": "*"]
    if request.method == "OPTIONS" {
      return Self.json(
        .object([]),
        headers: headers.merging([
          "access-control-allow-methods": "POST, OPTIONS",
          "access-control-allow-headers": "authorization, content-type, content-encoding",
          "access-control-max-age": "86400",
        ]) { $1 })
    }
    var reply: APIReply
    do {
      let body = try await wholeBody(request)
      try await database.trackingAPI.answer(
        SegmentEndpoint.Request(
          path: path, authorization: request.header("authorization"),
          signature: request.header("x-signature"),
          wholeSignature: request.header("x-segment-signature"), body: body, receivedAt: .now()))
      reply = Self.json(["success": true])
    } catch {
      // Senders come back after 429 and 503, which bear `retry-after`; other refusals they take for good.
      reply = failure(error, invalidStatus: 400, path: request.path)
    }
    reply.headers.merge(headers) { $1 }
    return reply
  }
}
