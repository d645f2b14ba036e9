import Crypto
package import Domain

/// Keys of Amazon Web Services. Their description holds none of them.
package struct AWSCredentials: Hashable, Sendable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  package var accessKeyID: String
  package var secretAccessKey: String
  package var sessionToken: String?

  package init(accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
  }

  package var description: String { "keys of \(accessKeyID.prefix(4))…" }
  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(reflecting: description) }
}

/// A request over HTTP, as a signer and a transport see it.
package struct HTTPCall: Sendable {
  package var method: String
  /// `http` or `https`.
  package var scheme: String
  /// With the port where it is not the scheme's own.
  package var host: String
  /// As it is sent: percent-encoded once.
  package var path: String
  /// Not encoded; in any order.
  package var query: [(name: String, value: String)]
  /// Names in lower case; without `host`.
  package var headers: [String: String]
  package var body: [UInt8]

  package init(
    _ method: String, scheme: String = "https", host: String, path: String = "/",
    query: [(name: String, value: String)] = [], headers: [String: String] = [:],
    body: [UInt8] = []
  ) {
    self.method = method
    self.scheme = scheme
    self.host = host
    self.path = path
    self.query = query
    self.headers = headers
    self.body = body
  }
}

/// Signs requests to Amazon Web Services with Signature Version 4, for any service.
///
/// Amazon's *Signature Version 4 signing process*. S3 differs in two points: its path is encoded once,
/// not twice, and not tidied; and the body's digest is sent as a header.
package struct AWSSigner: Sendable {
  private let credentials: AWSCredentials
  private let region: String
  private let service: String

  package init(_ credentials: AWSCredentials, region: String, service: String) {
    self.credentials = credentials
    self.region = region
    self.service = service
  }

  private var isS3: Bool { service == "s3" }

  /// Adds the headers `x-amz-date`, `x-amz-security-token` where there is one, and `authorization`.
  package func sign(_ call: inout HTTPCall, at time: Timestamp) {
    let (date, moment) = Self.stamp(time)
    let digest = Self.hexadecimal(SHA256.hash(data: call.body))
    call.headers["x-amz-date"] = moment
    call.headers["x-amz-security-token"] = credentials.sessionToken
    if isS3 { call.headers["x-amz-content-sha256"] = digest }
    let canonical = canonicalRequest(call, digest)
    let scope = "\(date)/\(region)/\(service)/aws4_request"
    let toSign = """
      AWS4-HMAC-SHA256
      \(moment)
      \(scope)
      \(Self.hexadecimal(SHA256.hash(data: Array(canonical.utf8))))
      """
    var key = SymmetricKey(data: Array("AWS4\(credentials.secretAccessKey)".utf8))
    for part in [date, region, service, "aws4_request"] {
      key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
    }
    let signature = Self.hexadecimal(
      HMAC<SHA256>.authenticationCode(for: Array(toSign.utf8), using: key))
    call.headers["authorization"] =
      "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
      + "SignedHeaders=\(signedHeaders(call)), Signature=\(signature)"
  }

  /// The request in the one form that both sides sign.
  package func canonicalRequest(_ call: HTTPCall, _ digest: String) -> String {
    let query = call.query.map { (Self.encoded($0.name), Self.encoded($0.value)) }
      .sorted { $0 < $1 }.map { "\($0.0)=\($0.1)" }.joined(separator: "&")
    let headers = headersToSign(call).map { "\($0.name):\($0.value)\n" }.joined()
    return """
      \(call.method)
      \(canonicalPath(call.path))
      \(query)
      \(headers)
      \(signedHeaders(call))
      \(digest)
      """
  }

  private func headersToSign(_ call: HTTPCall) -> [(name: String, value: String)] {
    var headers = call.headers
    headers["host"] = call.host
    headers["authorization"] = nil
    return headers.map { (name: $0.key.lowercased(), value: Self.trimmed($0.value)) }
      .sorted { $0.name < $1.name }
  }

  private func signedHeaders(_ call: HTTPCall) -> String {
    headersToSign(call).map(\.name).joined(separator: ";")
  }

  private func canonicalPath(_ path: String) -> String {
    if isS3 { return path.isEmpty ? "/" : path }
    // Other services take the path without `.`, `..` and doubled slashes, and encode it once more.
    var segments: [Substring] = []
    for segment in path.split(separator: "/") {
      switch segment {
      case ".": break
      case "..": segments = segments.dropLast()
      default: segments.append(segment)
      }
    }
    let tidy = "/" + segments.joined(separator: "/")
    return Self.encoded(
      path.hasSuffix("/") && tidy != "/" ? tidy + "/" : tidy, keepingSlashes: true)
  }

  /// Every byte but letters, digits, `-`, `.`, `_` and `~` as `%XX`.
  package static func encoded(_ text: String, keepingSlashes: Bool = false) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var out: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        out.append(byte)
      case UInt8(ascii: "/") where keepingSlashes: out.append(byte)
      default:
        out += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Without spaces at its ends, and with single ones inside.
  private static func trimmed(_ value: String) -> String {
    value.split(whereSeparator: { $0 == " " || $0 == "\t" }).joined(separator: " ")
  }

  /// `20150830` and `20150830T123600Z`.
  private static func stamp(_ time: Timestamp) -> (date: String, moment: String) {
    let digits = time.iso8601.prefix { $0 != "." && $0 != "Z" }.filter { $0 != "-" && $0 != ":" }
    return (String(digits.prefix(8)), "\(digits)Z")
  }

  private static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String { bytes.hexadecimal }
}
