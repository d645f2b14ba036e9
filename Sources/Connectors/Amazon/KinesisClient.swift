package import Domain
import Foundation

/// Kinesis' JSON interface: the three calls that a consumer needs.
package struct KinesisClient: Sendable {
  package struct Shard: Hashable, Sendable {
    package var id: String
    package var parents: [String]
    /// The shard takes no more records.
    package var isClosed: Bool
  }

  package struct Record: Hashable, Sendable {
    package var sequenceNumber: String
    package var partitionKey: String
    package var data: [UInt8]
    package var arrivedAt: Timestamp?
  }

  package struct Records: Hashable, Sendable {
    package var records: [Record]
    /// Nil where the shard is closed and read to its end.
    package var nextIterator: String?
    package var millisecondsBehind: Int
  }

  package enum Start: Hashable, Sendable {
    case oldest
    case after(String)
    case at(Timestamp)
  }

  private let settings: KinesisSettings
  private let transport: any HTTPTransport
  private let clock: SourceClock
  private let environment: [String: String]

  package init(
    _ settings: KinesisSettings, transport: any HTTPTransport, clock: SourceClock,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) {
    self.settings = settings
    self.transport = transport
    self.clock = clock
    self.environment = environment
  }

  package func shards() async throws -> [Shard] {
    var shards: [Shard] = []
    var token: String?
    repeat {
      // A page's token stands for the stream and must not be sent with its name.
      let request: JSON = token.map { ["NextToken": .string($0)] } ?? .object([streamMember])
      let answer = try await call("ListShards", request)
      for shard in answer["Shards"]?.array ?? [] {
        guard let id = shard["ShardId"]?.string else { continue }
        shards.append(
          Shard(
            id: id,
            parents: ["ParentShardId", "AdjacentParentShardId"].compactMap { shard[$0]?.string },
            isClosed: shard["SequenceNumberRange"]?["EndingSequenceNumber"]?.string != nil))
      }
      token = answer["NextToken"]?.string
    } while token != nil
    return shards
  }

  package func iterator(shard: String, _ start: Start) async throws -> String {
    var members: [JSON.Member] = [streamMember, .init("ShardId", .string(shard))]
    switch start {
    case .oldest: members.append(.init("ShardIteratorType", "TRIM_HORIZON"))
    case .after(let number):
      members.append(.init("ShardIteratorType", "AFTER_SEQUENCE_NUMBER"))
      members.append(.init("StartingSequenceNumber", .string(number)))
    case .at(let time):
      members.append(.init("ShardIteratorType", "AT_TIMESTAMP"))
      members.append(.init("Timestamp", .double(time.secondsSinceEpoch)))
    }
    let answer = try await call("GetShardIterator", .object(members))
    guard let iterator = answer["ShardIterator"]?.string else {
      throw Diagnostic(
        .unavailable, code: "invalid_answer", "Kinesis gave no iterator for `\(shard)`.")
    }
    return iterator
  }

  package func records(_ iterator: String, limit: Int) async throws -> Records {
    let answer = try await call(
      "GetRecords",
      ["ShardIterator": .string(iterator), "Limit": .int(Int64(min(limit, 10_000)))])
    let records = try (answer["Records"]?.array ?? []).map { record throws(Diagnostic) in
      guard let number = record["SequenceNumber"]?.string,
        let data = record["Data"]?.string.flatMap(Base64.decode)
      else {
        throw Diagnostic(
          .unavailable, code: "invalid_answer", "Kinesis gave a record that cannot be read.")
      }
      return Record(
        sequenceNumber: number, partitionKey: record["PartitionKey"]?.string ?? "", data: data,
        arrivedAt: record["ApproximateArrivalTimestamp"]?.number.map {
          Timestamp(secondsSinceEpoch: $0)
        })
    }
    return Records(
      records: records, nextIterator: answer["NextShardIterator"]?.string,
      millisecondsBehind: answer["MillisBehindLatest"]?.int.map { Int($0) } ?? 0)
  }

  private var streamMember: JSON.Member {
    if let arn = settings.streamARN { return .init("StreamARN", .string(arn)) }
    return .init("StreamName", .string(settings.streamName))
  }

  // MARK: calls

  private func call(_ action: String, _ body: JSON) async throws -> JSON {
    let endpoint = settings.endpoint ?? "https://kinesis.\(settings.region).amazonaws.com"
    let isPlain = endpoint.hasPrefix("http://")
    var host = endpoint.dropFirst(isPlain ? 7 : 8)
    while host.last == "/" { host = host.dropLast() }
    var request = HTTPCall(
      "POST", scheme: isPlain ? "http" : "https", host: String(host),
      headers: [
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "Kinesis_20131202.\(action)",
      ], body: body.utf8)
    AWSSigner(try credentials(), region: settings.region, service: "kinesis")
      .sign(&request, at: clock.now())
    let answer = try await transport.send(request)
    let json = (try? JSON(parsing: answer.body)) ?? .null
    guard (200..<300).contains(answer.status) else {
      throw Self.diagnostic(answer.status, json, settings)
    }
    return json
  }

  /// The definition's keys, or the environment's.
  private func credentials() throws(Diagnostic) -> AWSCredentials {
    func value(_ secret: Secret?, _ key: String, _ variable: String) throws(Diagnostic) -> String {
      if let secret { return try secret.value(at: key, environment: environment) }
      guard let value = environment[variable], !value.isEmpty else {
        throw Diagnostic(
          code: "missing_secret", "There are no keys for Amazon Web Services.", at: key,
          help: "Give `aws_access_key_id` and `aws_secret_access_key`, or set AWS_ACCESS_KEY_ID "
            + "and AWS_SECRET_ACCESS_KEY before the server starts.")
      }
      return value
    }
    var token = try settings.sessionToken?.value(
      at: "aws_session_token", environment: environment)
    if settings.accessKeyID == nil, token == nil { token = environment["AWS_SESSION_TOKEN"] }
    return AWSCredentials(
      accessKeyID: try value(settings.accessKeyID, "aws_access_key_id", "AWS_ACCESS_KEY_ID"),
      secretAccessKey: try value(
        settings.secretAccessKey, "aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
      sessionToken: token)
  }

  private static func diagnostic(
    _ status: Int, _ json: JSON, _ settings: KinesisSettings
  ) -> Diagnostic {
    let type = json["__type"]?.string ?? json["Error"]?["Code"]?.string ?? ""
    let name = String(type.split(separator: "#").last ?? "")
    let words = json["message"]?.string ?? json["Message"]?.string ?? ""
    switch name {
    case "ProvisionedThroughputExceededException", "LimitExceededException",
      "KMSThrottlingException", "ThrottlingException":
      return Diagnostic(
        .overloaded, code: "throttled", "Kinesis asks for fewer reads of `\(settings.streamName)`.",
        help: "Nothing is lost. Other consumers of the stream share its limits.")
    case "ExpiredIteratorException":
      return Diagnostic(.unavailable, code: "expired_iterator", "The iterator has expired.")
    case "ResourceNotFoundException":
      return Diagnostic(
        .notFound, code: "unknown_stream",
        "There is no stream `\(settings.streamName)` in `\(settings.region)`.", at: "stream_name",
        help: "Check `stream_name` and `aws_region`.")
    case "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch",
      "InvalidClientTokenId", "MissingAuthenticationTokenException", "IncompleteSignature",
      "ExpiredTokenException", "AuthFailure", "InvalidAccessKeyId":
      return Diagnostic(
        .unauthorized, code: "wrong_credentials",
        "Amazon Web Services refuses the keys for `\(settings.streamName)` (\(name)).",
        at: "aws_secret_access_key", help: "Check the keys, the region and the machine's clock.")
    case "AccessDeniedException", "AccessDenied":
      return Diagnostic(
        .unauthorized, code: "access_denied",
        "The keys may not read `\(settings.streamName)`.", at: "aws_access_key_id",
        help: "Allow kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords.")
    case _ where status == 401 || status == 403:
      // An answer in another form than JSON, from a gateway or a stand-in.
      return Diagnostic(
        .unauthorized, code: "wrong_credentials",
        "The keys for `\(settings.streamName)` are refused with status \(status).",
        at: "aws_secret_access_key", help: "Check the keys, the region and the machine's clock.")
    default:
      return Diagnostic(
        .unavailable, code: "kinesis_failed",
        "Kinesis answered \(status)\(name.isEmpty ? "" : " \(name)")"
          + "\(words.isEmpty ? "" : ": \(words.prefix(300))").")
    }
  }
}
