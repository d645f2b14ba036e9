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
    let text = String(decoding: try await wholeBody(request), as: UTF8.self)
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
    let text: String
    switch query {
    case .string(let given): text = given
    case .object: text = try QueryCall(document: query).text
    default:
      throw Diagnostic(
        code: "wrong_type", "`query` is \(query.kindName); it must be a text or an object.",
        at: "query", help: "Write \"SELECT ...\", or the JSON form of a query.")
    }
    let call = try Self.call(body, text: text)
    if let position = call.atLeast { try await engine.reach(position) }
    let withMetadata = try Self.flag("return_metadata", body) ?? false
    return Self.answer(try engine.answer(call), withMetadata: withMetadata)
  }

  func savedQuery(
    _ request: APIRequest, _ query: String, engine name: String
  ) async throws -> APIReply {
    let engine = try database.engine(named: name)
    let saved = try engine.savedQuery(named: query)
    let bytes = try await wholeBody(request)
    // The published command line sends an empty body.
    let body = bytes.isEmpty ? .object([]) : try JSON(parsing: bytes)
    let given = try Self.call(body, text: saved.text)
    var call = given
    call.parameters = try saved.call(with: given.parameters).parameters
    call.queryName = saved.name
    if let position = call.atLeast { try await engine.reach(position) }
    let withMetadata = try Self.flag("return_metadata", body) ?? true
    return Self.answer(try engine.answer(call), withMetadata: withMetadata)
  }

  /// `POST /v2/query`
  func globalQuery(_ request: APIRequest) async throws -> APIReply {
    let body = try await jsonBody(request)
    guard let text = body["query"]?.string else {
      throw Diagnostic(
        code: "missing_query", "The body has no `query`, which is a text.", at: "query",
        help: "Send {\"query\": \"SELECT ... FROM data.TABLE LIMIT 10\"}.")
    }
    let call = try Self.call(body, text: text)
    if let name = QueryCall.rankingEngine(text) {
      let engine = try database.engine(named: name)
      if let position = call.atLeast { try await engine.reach(position) }
      return Self.answer(try engine.answer(call), withMetadata: true)
    }
    return Self.json(Self.statements(try database.answer(call)))
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
    var call = QueryCall(text: text, parameters: parameters)
    call.explains = try flag("return_explanation", body) ?? false
    call.showsJourneys = try flag("return_journey_explanations", body) ?? false
    call.ignoresPagination = try flag("ignore_pagination", body) ?? false
    if try flag("return_influences", body) ?? false { call.influenceCount = 20 }
    switch body["pagination_key"] {
    case nil, .null?: break
    case .string(let key)? where !key.isEmpty && key.utf8.count <= 1000: call.paginationKey = key
    case let other?:
      throw Diagnostic(
        code: "wrong_type",
        "`pagination_key` is a text of 1 to 1000 bytes, not \(other.kindName) like this.",
        at: "pagination_key")
    }
    switch body["at_least"] {
    case nil, .null?: break
    case .int(let position)? where position >= 0: call.atLeast = LogPosition(position)
    case let other?:
      throw Diagnostic(
        code: "wrong_type", "`at_least` is \(other.text); it must be a log position.",
        at: "at_least", help: "Give the `as_of` of an insert's answer.")
    }
    switch body["seed"] {
    case nil, .null?: break
    case .int(let seed)?: call.seed = UInt64(bitPattern: seed)
    case let other?:
      throw Diagnostic(
        code: "wrong_type", "`seed` is \(other.kindName); it must be a whole number.", at: "seed")
    }
    return call
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
