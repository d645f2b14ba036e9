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

  /// Where a query goes: to an engine, as a saved query or as the body says.
  struct QueryRoute: Sendable {
    var engine: String
    var saved: String?
  }

  /// Answers a query, outside of the shared pool where it waits for the disk.
  func answer(_ route: QueryRoute, _ request: APIRequest) async throws -> APIReply {
    let body = try await wholeBody(request)
    for _ in 0..<200 {
      do {
        return try await answer(route, body)
      } catch let problem as Diagnostic where problem.code == ServedEngine.notReached {
        // The position may be on its way; a second is what a query waits for it.
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    return try await answer(route, body)
  }

  private func answer(_ route: QueryRoute, _ body: [UInt8]) async throws -> APIReply {
    if let reply = try query(route, body, onlyAtOnce: false) { return reply }
    return try await outsideThePool { try query(route, body, onlyAtOnce: nil) ?? Self.json(.null) }
  }

  /// Answers a query here and now.
  ///
  /// - Parameter onlyAtOnce: whether it must not take long; nil: nor matters what it waits for.
  /// - Returns: nil where this is not the place to do it.
  func query(_ route: QueryRoute, _ bytes: [UInt8], onlyAtOnce: Bool?) throws -> APIReply? {
    let engine = try database.engine(named: route.engine)
    if onlyAtOnce == true, !engine.isQuick { return nil }
    let call: QueryCall
    let body: JSON
    if let name = route.saved {
      let saved = try engine.savedQuery(named: name)
      // The published command line sends an empty body.
      body = bytes.isEmpty ? .object([]) : try JSON(parsing: bytes)
      var made = try Self.call(body, text: saved.text)
      made.parameters = try saved.call(with: made.parameters).parameters
      made.queryName = saved.name
      call = made
    } else {
      body = try JSON(parsing: bytes)
      call = try Self.call(body, text: try Self.queryText(body))
    }
    if let position = call.atLeast, engine.asOf < position {
      if onlyAtOnce == true { return nil }
      throw engine.notReached(position)
    }
    if onlyAtOnce != nil, engine.waitsForDisk(call) { return nil }
    let withMetadata = try Self.flag("return_metadata", body) ?? (route.saved != nil)
    return Self.answer(try engine.answer(call), withMetadata: withMetadata)
  }

  private static func queryText(_ body: JSON) throws -> String {
    guard let query = body["query"], query != .null else {
      throw Diagnostic(
        code: "missing_query", "The body has no `query`.", at: "query",
        help: "Send {\"query\": \"SELECT ...\", \"parameters\": {\"user_id\": \"u1\"}}.")
    }
    switch query {
    case .string(let given): return given
    case .object: return try QueryCall(document: query).text
    default:
      throw Diagnostic(
        code: "wrong_type", "`query` is \(query.kindName); it must be a text or an object.",
        at: "query", help: "Write \"SELECT ...\", or the JSON form of a query.")
    }
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
    // Tables are read from the disk.
    return Self.json(
      Self.statements(try await outsideThePool { [database] in try database.answer(call) }))
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
