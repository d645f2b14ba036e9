import Domain
import Engine
import Foundation
import QueryEngine

extension API {
  func ready() -> APIReply {
    // Ready means that every request that this process will ever be able to answer is answered now;
    // an engine that trains for the first time says so itself.
    let engines = JSON.object(
      database.engines.map { JSON.Member($0.name, .string($0.status.state.rawValue)) })
    return Self.json(["status": "ready", "engines": engines])
  }

  static func json(_ value: JSON, status: Int = 200, headers: [String: String] = [:]) -> APIReply {
    bytes(value.utf8, status: status, headers: headers)
  }

  static func bytes(
    _ bytes: [UInt8], status: Int = 200, headers: [String: String] = [:]
  ) -> APIReply {
    APIReply(status: status, headers: headers, body: bytes)
  }

  // MARK: problems

  static func failure(
    _ problems: Diagnostics, status: Int? = nil, invalidStatus: Int = 422,
    headers: [String: String] = [:]
  ) -> APIReply {
    let first = problems.all[0]
    let code =
      status
      ?? {
        switch first.kind {
        case .invalid: first.code == "invalid_json" ? 400 : invalidStatus
        case .notFound: 404
        case .conflict: 409
        case .unauthorized: 401
        case .unavailable: 503
        case .overloaded: 429
        case .internalError: 500
        }
      }()
    var fields = headers
    if first.kind == .unavailable || first.kind == .overloaded { fields["retry-after"] = "1" }
    if first.kind == .unauthorized { fields["www-authenticate"] = "ApiKey" }
    return json(EngineDetails.problem(problems, status: code), status: code, headers: fields)
  }

  // MARK: query answers

  /// Writes the answer's bytes directly: this is the hot path of the whole server.
  static func answer(
    _ answer: EngineAnswer, withMetadata: Bool, explained: Bool
  ) -> APIReply {
    let result = answer.result
    var out: [UInt8] = []
    out.reserveCapacity(256 + result.ids.count * (withMetadata ? 192 : 48))
    out += "{\"results\":[".utf8
    for position in result.ids.indices {
      if position > 0 { out.append(UInt8(ascii: ",")) }
      out += "{\"id\":".utf8
      JSON.write(string: result.ids[position].rawValue, into: &out)
      out += ",\"score\":".utf8
      JSON.write(number: result.scores[position], into: &out)
      if withMetadata {
        out += ",\"metadata\":{".utf8
        for (i, column) in result.columns.enumerated() {
          if i > 0 { out.append(UInt8(ascii: ",")) }
          JSON.write(string: column.name, into: &out)
          out.append(UInt8(ascii: ":"))
          column[position].write(into: &out)
        }
        out.append(UInt8(ascii: "}"))
      }
      out.append(UInt8(ascii: "}"))
    }
    out += "],\"entity_type\":\"item\",\"explanation\":".utf8
    if explained { explanation(answer).write(into: &out) } else { out += "null".utf8 }
    out += ",\"engine\":".utf8
    JSON.write(string: answer.engine, into: &out)
    out += ",\"as_of\":".utf8
    out += String(answer.asOf.rawValue).utf8
    if let generation = answer.generation {
      out += ",\"generation\":".utf8
      out += String(generation.number).utf8
      out += ",\"models\":[".utf8
      for (i, model) in generation.models.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        JSON.write(string: model.name, into: &out)
      }
      out += "],\"trained_through\":".utf8
      out += String(generation.through.rawValue).utf8
      out += ",\"model_age_seconds\":".utf8
      let age = answer.now.microsecondsSinceEpoch - generation.trainedAt.microsecondsSinceEpoch
      out += String(max(0, age / 1_000_000)).utf8
    }
    if !result.notes.isEmpty {
      out += ",\"notes\":".utf8
      JSON.array(result.notes.map { .string($0) }).write(into: &out)
    }
    out.append(UInt8(ascii: "}"))
    let parts = answer.duration.components
    let milliseconds = Double(parts.seconds) * 1e3 + Double(parts.attoseconds / 1_000_000_000) / 1e6
    return bytes(out, headers: ["server-timing": "query;dur=\(milliseconds)"])
  }

  private static func explanation(_ answer: EngineAnswer) -> JSON {
    let stages = answer.result.stages.map { stage in
      JSON.object([
        .init("stage_name", .string(stage.name.rawValue)),
        .init("step_name", .string(stage.step)),
        .init("input_count", .int(Int64(stage.inputCount))),
        .init("output_count", .int(Int64(stage.outputCount))),
      ])
    }
    let parts = answer.duration.components
    let milliseconds = Double(parts.seconds) * 1e3 + Double(parts.attoseconds) / 1e15
    return [
      "query_type": "sql", "stages": .array(stages),
      "total_execution_time_ms": .double(milliseconds),
      "final_result_count": .int(Int64(answer.result.ids.count)),
    ]
  }
}

extension JSON {
  static func write(number: Double?, into out: inout [UInt8]) {
    if let number, number.isFinite {
      // Scores are 32-bit numbers in 64 bits: their own digits are half as many and just as exact.
      let short = Float(number)
      out += (Double(short) == number ? short.description : number.description).utf8
    } else {
      out += "null".utf8
    }
  }
}

extension Value {
  /// Appends the cell as JSON: times in RFC 3339, bytes as Base64.
  func write(into out: inout [UInt8]) {
    switch self {
    case .null: out += "null".utf8
    case .bool(let value): out += (value ? "true" : "false").utf8
    case .int(let value): out += String(value).utf8
    case .double(let value): JSON.write(number: value, into: &out)
    case .string(let value): JSON.write(string: value, into: &out)
    case .timestamp(let value): JSON.write(string: value.iso8601, into: &out)
    case .bytes(let value): JSON.write(string: Data(value).base64EncodedString(), into: &out)
    case .array(let elements):
      out.append(UInt8(ascii: "["))
      for (i, element) in elements.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        element.write(into: &out)
      }
      out.append(UInt8(ascii: "]"))
    }
  }
}
