package import Domain
package import Ingest

/// Where the records of a source begin that has never been read.
package enum SourceStart: String, Hashable, Sendable, CaseIterable {
  /// With the oldest that is still there.
  case earliest
  /// With the first that comes after the source was made.
  case latest
}

extension SourceStart {
  init(_ reader: DefinitionReader) {
    let text = reader.choice("start", of: ["earliest", "latest", "trim_horizon"])
    self = text == "latest" ? .latest : .earliest
  }
}

/// A file, or the files of a folder.
package struct FileSettings: Hashable, Sendable {
  package var path: String
  /// By the files' names where nil.
  package var format: RowFormat?
  /// Which files of a folder: `*` stands for any characters, `?` for one.
  package var pattern: String
  /// Whether files that grow and new files are waited for. Without it what is there now is read once.
  package var watches: Bool
  package var pollInterval: Duration
  /// A longer record is a dead letter.
  package var maximumRecordBytes: Int

  init?(_ reader: DefinitionReader) {
    path = reader.required("path", help: "Name a file or a folder.") ?? ""
    let formats = RowFormat.allCases.map(\.rawValue)
    format = reader.choice("format", "file_format", of: formats).flatMap(RowFormat.init(rawValue:))
    pattern = reader.string("pattern") ?? "*"
    watches = reader.bool("watch") ?? true
    pollInterval = reader.seconds("poll_seconds", in: 0.05...3600) ?? .seconds(1)
    maximumRecordBytes = reader.int("maximum_record_bytes", in: 1024...(256 << 20)) ?? 1 << 20
    if path.isEmpty { return nil }
  }
}

/// What sends to the tracking API.
package struct SegmentSettings: Hashable, Sendable {
  /// The key that SDKs send with each request.
  package var writeKey: Secret?
  /// The secret with which webhooks are signed.
  package var sharedSecret: Secret?
  /// Message ids that are remembered, to know a repetition.
  package var rememberedMessages: Int

  init?(_ reader: DefinitionReader) {
    writeKey = reader.secret("write_key")
    sharedSecret = reader.secret("shared_secret")
    rememberedMessages = reader.int("remembered_messages", in: 512...16_777_216) ?? 1 << 20
    if writeKey == nil, sharedSecret == nil, reader.json["write_key"] == nil,
      reader.json["shared_secret"] == nil
    {
      reader.report(
        "missing_key", "`write_key` is missing.", at: "write_key",
        help: "Choose a key and give it to the SDK: `write_key: ${SEGMENT_WRITE_KEY}`; or give the "
          + "`shared_secret` of a webhook.")
      return nil
    }
  }
}

/// A topic of Kafka.
package struct KafkaSettings: Hashable, Sendable {
  package var bootstrapServers: String
  package var topic: String
  package var group: String
  package var username: String?
  package var password: Secret?
  /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
  package var securityProtocol: String
  package var saslMechanism: String
  package var certificateAuthority: String?
  package var certificate: String?
  package var key: String?
  package var keyPassword: Secret?
  package var start: SourceStart
  /// The column that takes the message's key.
  package var keyColumn: String?
  package var sessionTimeout: Duration
  /// Options of librdkafka by its own names, for what has no key here.
  package var properties: [JSON.Member]

  package static func isSecret(_ property: String) -> Bool {
    property.contains("password") || property.contains("secret") || property.hasSuffix(".pem")
      || property.contains("oauthbearer.config")
  }

  init?(_ reader: DefinitionReader, source: String) {
    bootstrapServers =
      reader.required(
        "bootstrap_server", "bootstrap_servers",
        help: "Name a broker: `bootstrap_server: broker:9092`.") ?? ""
    topic = reader.required("topic", help: "Name the topic.") ?? ""
    group = reader.string("group_id") ?? "riffle-\(source)"
    username = reader.string("username")
    password = reader.secret("password")
    if (username == nil) != (password == nil) {
      let missing = username == nil ? "username" : "password"
      reader.report(
        "missing_key", "`\(missing)` is missing.", at: missing,
        help: "Give both `username` and `password`, or neither.")
    }
    securityProtocol =
      reader.choice(
        "security_protocol", of: ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])
      ?? (username == nil ? "plaintext" : "sasl_ssl")
    saslMechanism =
      reader.choice("sasl_mechanism", of: ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]) ?? "PLAIN"
    certificateAuthority = reader.string("ssl_ca_location")
    certificate = reader.string("ssl_certificate_location")
    key = reader.string("ssl_key_location")
    keyPassword = reader.secret("ssl_key_password")
    start = SourceStart(reader)
    keyColumn = reader.string("key_column")
    sessionTimeout = .milliseconds(reader.int("session_timeout_ms", in: 1000...3_600_000) ?? 45_000)
    properties = reader.object("properties") ?? []
    for property in properties where KafkaSettings.reserved.contains(property.name) {
      reader.report(
        "reserved_property", "`\(property.name)` is set by Riffle.", at: "properties",
        help: "Positions are kept with the rows; leave the property out.")
    }
    if bootstrapServers.isEmpty || topic.isEmpty { return nil }
  }

  /// What exactly-once rests on.
  private static let reserved: Set = [
    "enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store",
    "partition.assignment.strategy", "group.id", "bootstrap.servers", "metadata.broker.list",
    "enable.partition.eof",
  ]
}

/// A stream of Kinesis.
package struct KinesisSettings: Hashable, Sendable {
  package var streamName: String
  package var streamARN: String?
  package var region: String
  package var accessKeyID: Secret?
  package var secretAccessKey: Secret?
  package var sessionToken: Secret?
  /// Another address than AWS's own, such as a private endpoint.
  package var endpoint: String?
  package var start: SourceStart
  package var pollInterval: Duration

  init?(_ reader: DefinitionReader) {
    streamARN = reader.string("stream_arn")
    // arn:aws:kinesis:REGION:ACCOUNT:stream/NAME
    let parts = streamARN?.split(separator: ":", omittingEmptySubsequences: false) ?? []
    if streamARN != nil, parts.count != 6 || parts[2] != "kinesis" || !parts[5].hasPrefix("stream/")
    {
      reader.report(
        "invalid_arn", "`stream_arn` is no ARN of a Kinesis stream.", at: "stream_arn",
        help: "It has the form arn:aws:kinesis:REGION:ACCOUNT:stream/NAME.")
    }
    let arnName = parts.count == 6 ? String(parts[5].dropFirst("stream/".count)) : nil
    let arnRegion = parts.count == 6 ? String(parts[3]) : nil
    streamName = reader.string("stream_name") ?? arnName ?? ""
    region = reader.string("aws_region", "region") ?? arnRegion ?? ""
    accessKeyID = reader.secret("aws_access_key_id")
    secretAccessKey = reader.secret("aws_secret_access_key")
    sessionToken = reader.secret("aws_session_token")
    endpoint = reader.string("endpoint")
    start = SourceStart(reader)
    pollInterval = reader.seconds("poll_seconds", in: 0.05...3600) ?? .seconds(1)
    if (accessKeyID == nil) != (secretAccessKey == nil) {
      let missing = accessKeyID == nil ? "aws_access_key_id" : "aws_secret_access_key"
      reader.report(
        "missing_key", "`\(missing)` is missing.", at: missing,
        help: "Give both keys, or neither: then AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the "
          + "environment are used.")
    }
    if streamName.isEmpty {
      reader.report(
        "missing_key", "`stream_name` is missing.", at: "stream_name",
        help: "Name the stream, or give its `stream_arn`.")
    }
    if region.isEmpty {
      reader.report(
        "missing_key", "`aws_region` is missing.", at: "aws_region",
        help: "Name the stream's region, for example `eu-central-1`.")
    }
    if let endpoint, !endpoint.hasPrefix("http://"), !endpoint.hasPrefix("https://") {
      reader.report(
        "invalid_url", "`endpoint` is no address.", at: "endpoint",
        help: "Write it like https://kinesis.eu-central-1.amazonaws.com.")
    }
    if streamName.isEmpty || region.isEmpty { return nil }
  }
}
