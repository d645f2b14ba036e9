import Domain
import Engine

extension API {
  func listEngines() -> APIReply {
    Self.json([
      "engines": .array(
        database.engines.map { engine in
          [
            "engine_name": .string(engine.name),
            "engine_uri": .string("/v2/engines/\(engine.name)"),
            "created_at": .string(engine.createdAt.iso8601),
            "status": .string(engine.status.state.rawValue),
            "version": "v2",
            "trained_at": engine.generation.map { .string($0.trainedAt.iso8601) } ?? .null,
            "description": engine.configuration.description.map { .string($0) } ?? .null,
          ]
        })
    ])
  }

  func createEngine(_ request: APIRequest) async throws -> APIReply {
    let text = String(decoding: try await request.body(), as: UTF8.self)
    let isYAML = request.contentType?.contains("yaml") ?? false
    let engine = try await database.createEngine(
      parsing: text, origin: isYAML ? "engine.yaml" : "body")
    return Self.json(["engine_url": .string("/v2/engines/\(engine.name)")])
  }

  func viewEngine(_ name: String) throws -> APIReply {
    Self.json(EngineDetails.json(try database.engine(named: name)))
  }

  func listQueries(_ name: String) throws -> APIReply {
    let engine = try database.engine(named: name)
    return Self.json(["queries": .array(engine.configuration.queries.map { .string($0.name) })])
  }

  func viewQuery(_ query: String, engine name: String) throws -> APIReply {
    let saved = try database.engine(named: name).savedQuery(named: query)
    return Self.json([
      "name": .string(saved.name),
      "params": .array(saved.parameters.map { .string($0.name) }),
      "query": .string(saved.text),
      "query_type": "sql",
    ])
  }

  func query(_ request: APIRequest, engine name: String) async throws -> APIReply {
    let engine = try database.engine(named: name)
    let body = try await jsonBody(request)
    guard let query = body["query"], query != .null else {
      throw Diagnostic(
        code: "missing_query", "The body has no `query`.", at: "query",
        help: "Send {\"query\": \"SELECT ...\", \"parameters\": {\"user_id\": \"u1\"}}.")
    }
    guard let text = query.string else {
      throw Diagnostic(
        code: "wrong_type", "`query` is \(query.kindName); it must be the query's text.",
        at: "query", help: "The JSON form of queries is not available yet: write `SELECT ...`.")
    }
    let call = try Self.call(body, text: text)
    let withMetadata = try Self.flag("return_metadata", body) ?? false
    return Self.answer(
      try engine.answer(call), withMetadata: withMetadata,
      explained: try Self.flag("return_explanation", body) ?? false)
  }

  func savedQuery(
    _ request: APIRequest, _ query: String, engine name: String
  ) async throws -> APIReply {
    let engine = try database.engine(named: name)
    let saved = try engine.savedQuery(named: query)
    let bytes = try await request.body()
    // The published command line sends an empty body.
    let body = bytes.isEmpty ? .object([]) : try JSON(parsing: bytes)
    let call = try saved.call(with: Self.call(body, text: saved.text).parameters)
    let withMetadata = try Self.flag("return_metadata", body) ?? true
    return Self.answer(
      try engine.answer(call), withMetadata: withMetadata,
      explained: try Self.flag("return_explanation", body) ?? false)
  }

  private static func call(_ body: JSON, text: String) throws -> QueryCall {
    guard body.object != nil else {
      throw Diagnostic(
        code: "wrong_type", "The body is \(body.kindName); it must be an object.", at: "body")
    }
    var parameters: [String: JSON] = [:]
    switch body["parameters"] {
    case nil, .null?: break
    case .object(let members)?: for member in members { parameters[member.name] = member.value }
    case let other?:
      throw Diagnostic(
        code: "wrong_type", "`parameters` is \(other.kindName); it must be an object.",
        at: "parameters", help: "Write {\"parameters\": {\"user_id\": \"u1\"}}.")
    }
    return QueryCall(text: text, parameters: parameters)
  }

  private static func flag(_ name: String, _ body: JSON) throws -> Bool? {
    switch body[name] {
    case nil, .null?: return nil
    case .bool(let value)?: return value
    case let other?:
      throw Diagnostic(
        code: "wrong_type", "`\(name)` is \(other.kindName); it must be true or false.", at: name)
    }
  }
}
