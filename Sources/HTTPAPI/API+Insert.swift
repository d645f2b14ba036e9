import Domain
import Engine
import Foundation
import Ingest

extension API {
  /// `POST /v2/tables/{table}/insert`: a JSON body as a whole, or a stream of lines.
  func insert(_ request: APIRequest, into table: String) async throws -> APIReply {
    let ingest = try ingestRequest(request, table)
    let format = try Self.format(of: request)
    do {
      if format == .json {
        return try await insertBody(request, into: table, ingest)
      }
      return try await insertStream(request, into: table, format, ingest)
    } catch let problems as Diagnostics {
      // A row that does not fit its table is a bad request, by the documented API.
      return Self.failure(problems, invalidStatus: 400)
    } catch let problem as Diagnostic where problem.kind == .invalid {
      return Self.failure(
        Diagnostics(problem), status: problem.code == "unpacked_too_large" ? 413 : 400)
    }
  }

  private func ingestRequest(_ request: APIRequest, _ table: String) throws -> IngestRequest {
    var ingest = IngestRequest(source: "http", parts: [])
    if let source = request.parameters["source"], !source.isEmpty {
      ingest.source = "http/\(source.prefix(100))"
    }
    switch request.parameters["strict"] {
    case nil: break
    case "", "true", "1": ingest.isStrict = true
    case "false", "0": ingest.isStrict = false
    case let other?:
      throw Diagnostic(
        code: "invalid_value", "`strict` is `\(other)`.", at: "strict",
        help: "Write strict=true or strict=false.")
    }
    if let key = request.idempotencyKey {
      guard !key.isEmpty, key.utf8.count <= 255 else {
        throw Diagnostic(
          code: "invalid_idempotency_key", "The idempotency key is empty or longer than 255 bytes.",
          at: "Idempotency-Key", help: "Send a random text such as a UUID.")
      }
      ingest.key = "\(table)/\(key)"
    }
    return ingest
  }

  private static func format(of request: APIRequest) throws -> RowFormat {
    if let name = request.parameters["format"] {
      if let format = RowFormat(rawValue: name == "ndjson" ? "jsonl" : name) { return format }
      let names = RowFormat.allCases.map(\.rawValue)
      throw Diagnostic(
        code: "unknown_format", "`\(name)` is no form of rows.", at: "format",
        help: "Use one of \(names.joined(separator: ", ")).")
    }
    let type = request.contentType?.split(separator: ";").first?.trimmingCharacters(
      in: .whitespaces
    ).lowercased()
    switch type {
    case "text/csv", "application/csv": return .csv
    case "text/tab-separated-values": return .tsv
    case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
      "application/jsonlines", "application/x-jsonlines", "application/json-lines":
      return .jsonl
    default: return .json
    }
  }

  // MARK: One body

  private func insertBody(
    _ request: APIRequest, into table: String, _ ingest: IngestRequest
  ) async throws -> APIReply {
    let returning = try request.parameters["returning"].map {
      try savedQuery($0, after: table)
    }
    var ingest = ingest
    let bytes = try await wholeBody(request)
    ingest.byteCount = bytes.count
    if ingest.key != nil { ingest.fingerprint = Fingerprint.hexadecimal(bytes) }
    let (receipt, others, lastRow) = try await database.insert(
      bytes: bytes, into: table, ingest)
    let reply = Self.inserted(receipt)
    guard reply.status == 200, let (engine, saved) = returning else { return reply }
    // The rows are stored whatever comes of the query, so its problem is part of the answer.
    let answer: APIReply
    do {
      answer = try await self.answer(
        saved, of: engine, table, others: others, request, lastRow: lastRow)
    } catch let problems as Diagnostics {
      answer = Self.failure(problems)
    } catch let problem as Diagnostic {
      answer = Self.failure(Diagnostics(problem))
    }
    var out = reply.body
    out.removeLast()
    out += ",\"returning\":".utf8
    out += answer.body
    out += "}".utf8
    return Self.bytes(out)
  }

  /// Finds the saved query that an insert is to be answered with: `query`, or `engine/query`.
  private func savedQuery(
    _ name: String, after table: String
  ) throws -> (ServedEngine, EngineConfiguration.SavedQuery) {
    let parts = name.split(separator: "/", maxSplits: 1).map(String.init)
    if parts.count == 2 {
      let engine = try database.engine(named: parts[0])
      return (engine, try engine.savedQuery(named: parts[1]))
    }
    let found = database.engines.filter {
      $0.reads(table: table) && $0.configuration.query(named: name) != nil
    }
    guard let engine = found.first else {
      throw Diagnostic(
        .notFound, code: "unknown_query",
        "No engine that reads `\(table)` has a saved query `\(name)`.", at: "returning",
        help: "Write returning=ENGINE/QUERY.")
    }
    guard found.count == 1 else {
      throw Diagnostic(
        code: "ambiguous_query",
        "The engines \(found.map { "`\($0.name)`" }.joined(separator: ", ")) have a saved query "
          + "`\(name)`.", at: "returning", help: "Write returning=\(engine.name)/\(name).")
    }
    return (engine, try engine.savedQuery(named: name))
  }

  /// Runs the saved query. Its parameters are those of the body and of the address; `user_id` is the
  /// last row's user where it is not given.
  private func answer(
    _ saved: EngineConfiguration.SavedQuery, of engine: ServedEngine, _ table: String,
    others: [JSON.Member], _ request: APIRequest, lastRow: [Value]?
  ) async throws -> APIReply {
    var parameters: [String: JSON] = [:]
    for member in others where member.name == "parameters" {
      for parameter in member.value.object ?? [] { parameters[parameter.name] = parameter.value }
    }
    for (name, value) in request.parameters where name.hasPrefix("param.") {
      let text = String(name.dropFirst(6))
      parameters[text] = Int64(value).map { .int($0) } ?? .string(value)
    }
    if parameters["user_id"] == nil, saved.parameters.contains(where: { $0.name == "user_id" }),
      let user = lastRow.flatMap({ engine.user(of: $0, in: table) })
    {
      parameters["user_id"] = .string(user)
    }
    var call = try saved.call(with: parameters)
    call.queryName = saved.name
    return Self.answer(try engine.answer(call), withMetadata: true)
  }

  // MARK: A stream

  private func insertStream(
    _ request: APIRequest, into table: String, _ format: RowFormat, _ ingest: IngestRequest
  ) async throws -> APIReply {
    var stream = try IngestStream(database, into: table, format, ingest)
    do {
      try await unpackedChunks(request, isStream: true) { try await stream.append($0) }
      return Self.inserted(try await stream.finish())
    } catch {
      // What was stored before the fault stays, and the sender must know how much that is.
      try? await stream.settle()
      let receipt = stream.receipt
      guard receipt.accepted + receipt.dead > 0, var problems = Self.problems(error) else {
        throw error
      }
      problems.all[0].notes.append(
        "\(receipt.accepted) rows before it are stored, through position "
          + "\(receipt.through.rawValue); \(receipt.dead) did not fit.")
      if ingest.key == nil {
        problems.all[0].notes.append(
          "With an Idempotency-Key the whole stream could be sent again.")
      }
      throw problems
    }
  }

  private static func problems(_ error: any Error) -> Diagnostics? {
    switch error {
    case let problems as Diagnostics: problems
    case let problem as Diagnostic: Diagnostics(problem)
    default: nil
    }
  }

  // MARK: Answers

  /// The answer to an insert whose receipt is there: an error where nothing went in.
  static func inserted(_ receipt: IngestReceipt) -> APIReply {
    if receipt.accepted == 0, receipt.dead > 0 {
      var problems = receipt.problems
      problems.append(
        Diagnostic(
          code: "dead_letters",
          receipt.dead == 1
            ? "The row does not fit; it is kept as a dead letter."
            : "None of the \(receipt.dead) rows fits; they are kept as dead letters.",
          help: "Mend the table or its rules, then: riffle dead-letters replay."))
      return failure(Diagnostics(problems), status: 400)
    }
    var out: [UInt8] = []
    out.reserveCapacity(160)
    out += "{\"message\":\"Inserted ".utf8
    out += String(receipt.accepted).utf8
    out += (receipt.accepted == 1 ? " row" : " rows").utf8
    if receipt.dead > 0 {
      out += "; \(receipt.dead) did not fit and are kept as dead letters".utf8
    }
    out += ".\",\"as_of\":".utf8
    out += String(receipt.through.rawValue).utf8
    out += ",\"accepted\":".utf8
    out += String(receipt.accepted).utf8
    if receipt.replaced > 0 { out += ",\"replaced\":\(receipt.replaced)".utf8 }
    if receipt.isRepetition { out += ",\"repeated\":true".utf8 }
    if receipt.dead > 0 {
      out += ",\"dead_letters\":\(receipt.dead),\"problems\":".utf8
      JSON.array(receipt.problems.map { EngineDetails.json($0) }).write(into: &out)
    }
    if !receipt.alerts.isEmpty {
      out += ",\"alerts\":".utf8
      JSON.array(receipt.alerts.map(\.json)).write(into: &out)
    }
    out += "}".utf8
    return Self.bytes(out)
  }
}
