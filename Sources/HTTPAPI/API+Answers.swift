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
