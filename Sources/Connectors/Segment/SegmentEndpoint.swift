package import Domain
import Gzip

/// The tracking API as one function from request to reply; it knows no sockets.
package struct SegmentEndpoint: Sendable {
  package struct Request: Sendable {
    /// The parts of the path behind `/v1/`.
    package var path: [String]
    package var authorization: String?
    package var contentEncoding: String?
    /// The header `x-signature`.
    package var signature: String?
    /// The header `x-segment-signature`.
    package var wholeSignature: String?
    package var body: [UInt8]
    package var receivedAt: Timestamp

    package init(
      path: [String], authorization: String? = nil, contentEncoding: String? = nil,
      signature: String? = nil, wholeSignature: String? = nil, body: [UInt8], receivedAt: Timestamp
    ) {
      self.path = path
      self.authorization = authorization
      self.contentEncoding = contentEncoding
      self.signature = signature
      self.wholeSignature = wholeSignature
      self.body = body
      self.receivedAt = receivedAt
    }
  }

  /// What a batch may hold once it is unpacked.
  package static let inflatedBytesAtMost = 32 << 20

  private let receivers: [SegmentReceiver]

  package init(_ receivers: [SegmentReceiver]) { self.receivers = receivers }

  /// Whether the path behind `/v1/` is one of the tracking API's.
  package static func takes(_ path: [String]) -> Bool {
    switch path.count {
    case 1:
      path[0] == "batch" || path[0] == "b" || path[0] == "import"
        || SegmentEvent.type(ofPath: path[0]) != nil
    case 2: path[0] == "webhook"
    default: false
    }
  }

  /// Stores a request's events and returns once they are on the disk.
  ///
  /// Events that do not fit become dead letters and do not fail the request: a sender drops a batch
  /// that is refused for good.
  ///
  /// - Throws: `unauthorized`; `invalid_json`, `invalid_body`, `invalid_gzip`; `overloaded` and
  ///   `unavailable`, after which senders come back with the same events.
  package func answer(_ request: Request) async throws {
    if request.path.first == "webhook", request.path.count == 2 {
      try await webhook(request, request.path[1])
      return
    }
    let body = try parsed(request)
    let key = Self.key(request.authorization) ?? body["writeKey"]?.string ?? ""
    let addressed = receivers.filter { $0.hasWriteKey(key) }
    guard !addressed.isEmpty else {
      throw Diagnostic(
        .unauthorized, code: "unknown_write_key",
        key.isEmpty ? "The request has no write key." : "The write key is no source's.",
        help: "Give the SDK the `write_key` of a source of the type segment or rudderstack.")
    }
    let name = request.path.first ?? ""
    let events: [JSON]
    if let type = SegmentEvent.type(ofPath: name) {
      guard body.object != nil else { throw Self.invalid(body) }
      events = [
        SegmentEvent.prepared(
          body, type: type, sentAt: nil, receivedAt: request.receivedAt, isHistory: false)
      ]
    } else {
      guard let batch = body["batch"]?.array else {
        throw Diagnostic(
          code: "invalid_body", "The body has no `batch`, a list of events.", at: "batch",
          help: #"Write {"batch": [{"type": "track", …}], "sentAt": "…"}."#)
      }
      events = batch.map { event in
        // A batch may tell its context once for all events.
        var event = event
        if case .object(var members) = event, event["context"] == nil,
          let context = body["context"], context != .null
        {
          members.append(JSON.Member("context", context))
          event = .object(members)
        }
        return SegmentEvent.prepared(
          event, type: nil, sentAt: body["sentAt"], receivedAt: request.receivedAt,
          isHistory: name == "import")
      }
    }
    try await deliver(events, to: addressed, request.receivedAt)
  }

  private func webhook(_ request: Request, _ name: String) async throws {
    guard let receiver = receivers.first(where: { $0.definition.name == name }),
      let shared = receiver.settings.sharedSecret
    else {
      throw Diagnostic(
        .notFound, code: "unknown_webhook", "There is no webhook `\(name)`.",
        help: "A source of the type segment with a `shared_secret` has one, at "
          + "/v1/webhook/{source}.")
    }
    let secret = try shared.value(at: "shared_secret")
    let plain = try unpacked(request)
    // The signature is over what the sender had before it packed it.
    guard
      SegmentSignature.isValid(
        body: plain, whole: request.wholeSignature, event: request.signature, secret: secret)
    else {
      let isMissing = request.signature == nil && request.wholeSignature == nil
      throw Diagnostic(
        .unauthorized, code: "invalid_signature",
        isMissing ? "The request is not signed." : "The signature is not that of the body.",
        help: "Give the webhook the source's `shared_secret`.")
    }
    let body = try JSON(parsing: plain)
    let events = body.array ?? body["batch"]?.array ?? [body]
    guard body.array != nil || body.object != nil else { throw Self.invalid(body) }
    try await deliver(
      events.map {
        SegmentEvent.prepared(
          $0, type: nil, sentAt: body["sentAt"], receivedAt: request.receivedAt, isHistory: false)
      }, to: [receiver], request.receivedAt)
  }

  /// One source after another: after a failure the sender repeats all of it, and those that have stored
  /// it know the repetition.
  private func deliver(
    _ events: [JSON], to receivers: [SegmentReceiver], _ receivedAt: Timestamp
  ) async throws {
    for receiver in receivers { try await receiver.accept(events, receivedAt: receivedAt) }
  }

  private func unpacked(_ request: Request) throws(Diagnostic) -> [UInt8] {
    switch request.contentEncoding?.lowercased() {
    case nil, "", "identity": return request.body
    case "gzip", "x-gzip", "deflate":
      return try Gzip.inflated(request.body, limit: Self.inflatedBytesAtMost)
    case .some(let other):
      throw Diagnostic(
        code: "unknown_encoding", "The body's encoding `\(other)` is not understood.",
        help: "Send it plain or with gzip.")
    }
  }

  private func parsed(_ request: Request) throws(Diagnostic) -> JSON {
    try JSON(parsing: try unpacked(request))
  }

  private static func invalid(_ body: JSON) -> Diagnostic {
    Diagnostic(
      code: "invalid_body", "The body must be an object, not \(body.kindName).",
      help: "Send events as the tracking API describes them.")
  }

  /// The write key of `Basic base64("KEY:")` or `Bearer KEY`.
  private static func key(_ authorization: String?) -> String? {
    guard let authorization else { return nil }
    let words = authorization.split(separator: " ", maxSplits: 1)
    guard words.count == 2 else { return nil }
    switch words[0].lowercased() {
    case "basic":
      guard let bytes = Base64.decode(String(words[1])) else { return nil }
      let name = String(decoding: bytes, as: UTF8.self).prefix { $0 != ":" }
      return name.isEmpty ? nil : String(name)
    case "bearer": return String(words[1])
    default: return nil
    }
  }
}
