import Domain
import Engine
import Storage

extension API {
  private func deadLetterQuery(
    _ request: APIRequest, defaultLimit: Int = 100
  ) throws -> DeadLetterQuery {
    var query = DeadLetterQuery()
    query.limit = defaultLimit
    func number(_ name: String, _ range: ClosedRange<Int64>) throws -> Int64? {
      guard let text = request.parameters[name] else { return nil }
      guard let number = Int64(text), range.contains(number) else {
        throw Diagnostic(
          code: "invalid_value", "`\(name)` is `\(text)`.", at: name,
          help: "Give a number between \(range.lowerBound) and \(range.upperBound).")
      }
      return number
    }
    query.table = request.parameters["table"]
    query.source = request.parameters["source"]
    query.code = request.parameters["code"]
    if let after = try number("after", 0...Int64.max) { query.after = after }
    if let limit = try number("limit", 1...10_000_000) { query.limit = Int(limit) }
    let known = ["table", "source", "code", "after", "limit"]
    for name in request.parameters.keys where !known.contains(name) {
      throw Diagnostic(
        code: "unknown_parameter", "Dead letters are not chosen by `\(name)`.", at: name,
        help: nearestName(to: name, among: known).map { "Did you mean `\($0)`?" }
          ?? "Use table, source, code, after and limit.")
    }
    return query
  }

  func listDeadLetters(_ request: APIRequest) async throws -> APIReply {
    var query = try deadLetterQuery(request)
    query.limit = min(query.limit, 1000)
    let letters = try await offThePool { [query] in try database.deadLetters(query) }
    return Self.json([
      "dead_letters": .array(letters.map { $0.json }),
      "next_after": letters.count == query.limit
        ? letters.last.map { .int($0.id) } ?? .null : .null,
    ])
  }

  func countDeadLetters(_ request: APIRequest) async throws -> APIReply {
    let table = try deadLetterQuery(request).table
    let counts = try await offThePool { try database.deadLetterCounts(table: table) }
    return Self.json([
      "total": .int(Int64(counts.reduce(0) { $0 + $1.count })),
      "counts": .array(
        counts.map {
          [
            "table": .string($0.table), "source": .string($0.source), "code": .string($0.code),
            "count": .int(Int64($0.count)),
          ]
        }),
    ])
  }

  func viewDeadLetter(_ id: String) throws -> APIReply {
    guard let number = Int64(id) else {
      throw Diagnostic(
        .notFound, code: "unknown_dead_letter", "`\(id)` is no number of a dead letter.", at: "id",
        help: "List them: GET /v2/dead-letters.")
    }
    return Self.json(try database.deadLetter(number).json)
  }

  func replayDeadLetters(_ request: APIRequest) async throws -> APIReply {
    let query = try deadLetterQuery(request, defaultLimit: .max)
    let replay = try await database.replayDeadLetters(query)
    return Self.json([
      "message": .string(
        "\(replay.mended) records are rows now; \(replay.remaining) still do not fit."),
      "mended": .int(Int64(replay.mended)), "remaining": .int(Int64(replay.remaining)),
      "as_of": .int(replay.through.rawValue),
      "problems": .array(replay.problems.map { EngineDetails.json($0) }),
    ])
  }

  func dropDeadLetters(_ request: APIRequest) async throws -> APIReply {
    let query = try deadLetterQuery(request)
    guard query.table != nil || query.source != nil || query.code != nil else {
      throw Diagnostic(
        code: "missing_parameter", "Which dead letters are to go?", at: "table",
        help: "Name a table, a source or a code: DELETE /v2/dead-letters?table=events.")
    }
    let count = try await database.dropDeadLetters(query)
    return Self.json([
      "message": .string("Dropped \(count) dead letters."), "dropped": .int(Int64(count)),
    ])
  }
}

extension StoredDeadLetter {
  var json: JSON {
    var members: [JSON.Member] = [
      .init("id", .int(id)), .init("table", .string(letter.table)),
      .init("source", .string(letter.source)), .init("position", letter.position),
      .init("code", .string(letter.code)), .init("reason", .string(letter.reason)),
      .init("at", .string(letter.at.iso8601)),
    ]
    if let text = String(validating: letter.raw, as: UTF8.self) {
      members.append(.init("raw", .string(text)))
    } else {
      members.append(.init("raw_base64", .string(Base64.encode(letter.raw))))
    }
    if letter.isTruncated { members.append(.init("is_truncated", true)) }
    return .object(members)
  }
}
