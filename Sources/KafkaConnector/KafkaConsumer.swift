#if Kafka
  import CRDKafka
  import Connectors
  import Domain

  /// One member of a consumer group. Not thread-safe: its reader uses it on one queue.
  final class KafkaConsumer {
    private let settings: KafkaSettings
    private let batchSize: Int
    /// librdkafka's handle; nil once closed.
    private var handle: OpaquePointer?
    /// The offset of the next record to be stored, by partition.
    private var offsets: [Int32: Int64]
    private var assigned: Set<Int32> = []
    /// Counts the assignments, the withdrawn ones among them.
    private var generation = 0
    /// What was read and not yet asked for. It belongs to the present assignment: on the next one it is
    /// dropped, because reading begins again at the stored offsets.
    private var ready: [SourceBatch] = []
    /// What the library said last about its connections.
    private var lastFault: (code: rd_kafka_resp_err_t, words: String)?
    private var brokersAreDown = false
    private(set) var warning: String?

    private static let batchBytesAtMost = 16 << 20

    init(
      _ settings: KafkaSettings, batchSize: Int, offsets: [Int32: Int64]
    ) throws(Diagnostic) {
      self.settings = settings
      self.batchSize = batchSize
      self.offsets = offsets
      let configuration = try KafkaConsumer.configuration(settings)
      // The consumer outlives its handle, which `close` and `deinit` destroy.
      rd_kafka_conf_set_opaque(configuration, Unmanaged.passUnretained(self).toOpaque())
      rd_kafka_conf_set_rebalance_cb(configuration) { _, code, partitions, opaque in
        KafkaConsumer.from(opaque)?.rebalance(code, partitions)
      }
      rd_kafka_conf_set_error_cb(configuration) { _, code, words, opaque in
        KafkaConsumer.from(opaque)?.note(code, words)
      }
      // Its log would go to standard error, and says nothing that the error callback does not.
      rd_kafka_conf_set_log_cb(configuration) { _, _, _, _ in }
      var words = [CChar](repeating: 0, count: 512)
      guard let handle = rd_kafka_new(RD_KAFKA_CONSUMER, configuration, &words, words.count) else {
        rd_kafka_conf_destroy(configuration)
        throw Diagnostic(
          code: "invalid_kafka_settings",
          "Kafka's settings are refused: \(KafkaConsumer.text(words)).",
          help: "Check the source's definition.")
      }
      self.handle = handle
      // Callbacks are called on the thread that asks for records, and on no other.
      rd_kafka_poll_set_consumer(handle)
    }

    deinit { close() }

    private static func from(_ opaque: UnsafeMutableRawPointer?) -> KafkaConsumer? {
      opaque.map { Unmanaged<KafkaConsumer>.fromOpaque($0).takeUnretainedValue() }
    }

    fileprivate static func text(_ characters: [CChar]) -> String {
      String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    // MARK: settings

    private static func configuration(
      _ settings: KafkaSettings
    ) throws(Diagnostic) -> OpaquePointer? {
      var values: [(String, String, place: String)] = [
        ("bootstrap.servers", settings.bootstrapServers, "bootstrap_server"),
        ("group.id", settings.group, "group_id"),
        ("client.id", "riffle", "client_id"),
        ("security.protocol", settings.securityProtocol, "security_protocol"),
        ("session.timeout.ms", String(settings.sessionTimeout.milliseconds), "session_timeout_ms"),
        ("enable.auto.commit", "false", ""), ("enable.auto.offset.store", "false", ""),
        // Cooperative assignment reads records twice with older brokers and libraries.
        ("partition.assignment.strategy", "range,roundrobin", ""),
        ("auto.offset.reset", "earliest", ""),
        // What waits in memory, for each partition.
        ("queued.max.messages.kbytes", "16384", ""),
      ]
      if let username = settings.username {
        values.append(("sasl.username", username, "username"))
        values.append(("sasl.mechanism", settings.saslMechanism, "sasl_mechanism"))
      }
      if let password = settings.password {
        values.append(("sasl.password", try password.value(at: "password"), "password"))
      }
      if let path = settings.certificateAuthority {
        values.append(("ssl.ca.location", path, "ssl_ca_location"))
      }
      if let path = settings.certificate {
        values.append(("ssl.certificate.location", path, "ssl_certificate_location"))
      }
      if let path = settings.key {
        values.append(("ssl.key.location", path, "ssl_key_location"))
      }
      if let password = settings.keyPassword {
        values.append(
          ("ssl.key.password", try password.value(at: "ssl_key_password"), "ssl_key_password"))
      }
      for property in settings.properties {
        let text = property.value.string ?? property.value.text
        let isSecret = KafkaSettings.isSecret(property.name)
        let place = "properties.\(property.name)"
        let value = try isSecret ? Secret(text).value(at: place) : text
        values.append((property.name, value, place))
      }
      let configuration = rd_kafka_conf_new()
      for (name, value, place) in values {
        var words = [CChar](repeating: 0, count: 512)
        guard
          rd_kafka_conf_set(configuration, name, value, &words, words.count) == RD_KAFKA_CONF_OK
        else {
          rd_kafka_conf_destroy(configuration)
          throw Diagnostic(
            code: "invalid_kafka_settings", "Kafka's library refuses `\(name)`: \(text(words)).",
            at: place, help: "Check the source's definition.")
        }
      }
      return configuration
    }

    // MARK: the group

    /// Looks whether a broker answers, takes the credentials and knows the topic.
    func checkTopic() throws(Diagnostic) {
      let topic = rd_kafka_topic_new(handle, settings.topic, nil)
      defer { if let topic { rd_kafka_topic_destroy(topic) } }
      var metadata: UnsafePointer<rd_kafka_metadata_t>?
      var code = RD_KAFKA_RESP_ERR_NO_ERROR
      defer { if let metadata { rd_kafka_metadata_destroy(metadata) } }
      // A second at a time: a refused login or a closed port is known long before the last.
      for attempt in 0..<10 {
        brokersAreDown = false
        code = rd_kafka_metadata(handle, 0, topic, &metadata, 1000)
        if code == RD_KAFKA_RESP_ERR_NO_ERROR { break }
        // Serves the error callback, which knows why.
        drainCallbacks()
        let isHopeless =
          lastFault?.code == RD_KAFKA_RESP_ERR__AUTHENTICATION
          || lastFault?.code == RD_KAFKA_RESP_ERR__SSL || brokersAreDown && attempt > 0
        if isHopeless { break }
      }
      guard code == RD_KAFKA_RESP_ERR_NO_ERROR, let metadata else { throw fault(code) }
      guard metadata.pointee.topic_cnt > 0 else { throw unknownTopic }
      switch metadata.pointee.topics[0].err {
      case RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE: break
      case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: throw unknownTopic
      case let code: throw fault(code)
      }
      brokersAreDown = false
    }

    /// Asks for one record without waiting, before anything is subscribed, for the callbacks' sake.
    private func drainCallbacks() {
      if let message = rd_kafka_consumer_poll(handle, 0) { rd_kafka_message_destroy(message) }
    }

    func subscribe() throws(Diagnostic) {
      let topics = rd_kafka_topic_partition_list_new(1)
      defer { rd_kafka_topic_partition_list_destroy(topics) }
      // -1 is the library's name for no partition in particular.
      rd_kafka_topic_partition_list_add(topics, settings.topic, -1)
      let code = rd_kafka_subscribe(handle, topics)
      guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw fault(code) }
    }

    private func rebalance(
      _ code: rd_kafka_resp_err_t,
      _ partitions: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
    ) {
      // All that was given to the reader is stored: it asks for the next batch only then.
      ready = []
      generation += 1
      guard code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, let partitions else {
        assigned = []
        rd_kafka_assign(handle, nil)
        return
      }
      assigned = []
      warning = nil
      for i in 0..<Int(partitions.pointee.cnt) {
        let partition = partitions.pointee.elems[i].partition
        assigned.insert(partition)
        partitions.pointee.elems[i].offset = firstOffset(of: partition)
      }
      rd_kafka_assign(handle, partitions)
    }

    /// Where the reading of a partition begins.
    private func firstOffset(of partition: Int32) -> Int64 {
      // RD_KAFKA_OFFSET_BEGINNING, which is a macro.
      let beginning: Int64 = -2
      var low: Int64 = 0
      var high: Int64 = 0
      let isKnown =
        rd_kafka_query_watermark_offsets(handle, settings.topic, partition, &low, &high, 5000)
        == RD_KAFKA_RESP_ERR_NO_ERROR
      guard let stored = offsets[partition] else {
        guard settings.start == .latest, isKnown else { return beginning }
        offsets[partition] = high
        // Stored at once, so that a restart does not skip what comes until the first record.
        ready.append(batch(partition, next: high, []))
        return high
      }
      guard isKnown else { return stored }
      if stored < low {
        warning =
          "\(low - stored) records of \(settings.topic)/\(partition) were deleted by Kafka before they "
          + "were read"
        return low
      }
      if stored > high {
        warning =
          "\(settings.topic)/\(partition) ends before the stored position, as if it had been made "
          + "anew; it is read from its beginning"
        return beginning
      }
      return stored
    }

    // MARK: records

    /// The next records of one partition; waits a moment for some.
    func next() throws(Diagnostic) -> SourceBatch? {
      if ready.isEmpty { try gather() }
      if brokersAreDown, ready.isEmpty {
        // The library goes on by itself; it is only asked whether it has found a broker again.
        try checkTopic()
      }
      return ready.isEmpty ? nil : ready.removeFirst()
    }

    private func gather() throws(Diagnostic) {
      var records: [Int32: [ReadRecord]] = [:]
      var next: [Int32: Int64] = [:]
      var order: [Int32] = []
      var count = 0
      var bytes = 0
      while count < batchSize, bytes < Self.batchBytesAtMost {
        let before = generation
        guard let message = rd_kafka_consumer_poll(handle, count == 0 ? 200 : 5) else { break }
        defer { rd_kafka_message_destroy(message) }
        if generation != before {
          // A new assignment came in between: what was gathered of the former one is read again.
          records = [:]
          next = [:]
          order = []
          count = 0
          bytes = 0
        }
        let value = message.pointee
        guard value.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
          if value.err == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED { continue }
          throw fault(value.err)
        }
        brokersAreDown = false
        guard assigned.contains(value.partition) else { continue }
        if next[value.partition] == nil { order.append(value.partition) }
        next[value.partition] = value.offset + 1
        count += 1
        bytes += value.len
        // A message without a value deletes its key, which has no meaning for rows.
        if let payload = value.payload {
          let raw = Array(UnsafeRawBufferPointer(start: payload, count: value.len))
          records[value.partition, default: []].append(record(raw, message))
        }
      }
      ready += order.map { batch($0, next: next[$0] ?? 0, records[$0] ?? []) }
    }

    private func batch(
      _ partition: Int32, next: Int64, _ records: [ReadRecord]
    ) -> SourceBatch {
      SourceBatch(
        stream: "\(settings.topic)/\(partition)", position: ["offset": .int(next)],
        records: records)
    }

    private func record(
      _ raw: [UInt8], _ message: UnsafeMutablePointer<rd_kafka_message_t>
    ) -> ReadRecord {
      let value = message.pointee
      var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
      let milliseconds = rd_kafka_message_timestamp(message, &kind)
      let time =
        milliseconds > 0
        ? Timestamp(microsecondsSinceEpoch: milliseconds.multipliedReportingOverflow(by: 1000).0)
        : nil
      var key = JSON.null
      if let bytes = value.key {
        let bytes = UnsafeRawBufferPointer(start: bytes, count: value.key_len)
        key = .string(String(decoding: bytes, as: UTF8.self))
      }
      let place: JSON = [
        "topic": .string(settings.topic), "partition": .int(Int64(value.partition)),
        "offset": .int(value.offset),
      ]
      return ReadRecord(
        json: raw, place: place,
        extras: [
          JSON.Member("$key", key), JSON.Member("$topic", .string(settings.topic)),
          JSON.Member("$partition", .int(Int64(value.partition))),
          JSON.Member("$offset", .int(value.offset)),
          JSON.Member("$timestamp", milliseconds > 0 ? .int(milliseconds) : .null),
        ], time: time)
    }

    /// Notes that a batch is stored, and tells Kafka.
    func commit(_ batch: SourceBatch) {
      guard let partition = Int32(batch.stream.dropFirst(settings.topic.count + 1)),
        let next = batch.position["offset"]?.int
      else { return }
      offsets[partition] = next
      let list = rd_kafka_topic_partition_list_new(1)
      defer { rd_kafka_topic_partition_list_destroy(list) }
      if let element = rd_kafka_topic_partition_list_add(list, settings.topic, partition) {
        element.pointee.offset = next
      }
      // Without waiting, and without heed to a failure: nothing rests on it.
      rd_kafka_commit(handle, list, 1)
    }

    var lag: SourceLag {
      var behind: Int64 = 0
      for partition in assigned {
        var low: Int64 = 0
        var high: Int64 = 0
        // What the last answer said; no request is made.
        guard
          rd_kafka_get_watermark_offsets(handle, settings.topic, partition, &low, &high)
            == RD_KAFKA_RESP_ERR_NO_ERROR, high >= 0
        else { continue }
        behind += max(0, high - (offsets[partition] ?? low))
      }
      return SourceLag(records: Int(behind))
    }

    func close() {
      guard let handle else { return }
      ready = []
      let isClosed = leaveGroup(handle)
      rd_kafka_destroy_flags(handle, isClosed ? 0 : Self.withoutClosing)
      self.handle = nil
    }

    /// Gives the partitions back, for the group's other members; false where that takes too long.
    ///
    /// `rd_kafka_consumer_close` does the same without an end to its patience, and with a broker that
    /// does not answer it may never return. A member that goes without a word is left out of the group
    /// when its session is over.
    private func leaveGroup(_ handle: OpaquePointer) -> Bool {
      let queue = rd_kafka_queue_new(handle)
      defer { rd_kafka_queue_destroy(queue) }
      if let error = rd_kafka_consumer_close_queue(handle, queue) {
        rd_kafka_error_destroy(error)
        return false
      }
      let end = ContinuousClock.now + .seconds(5)
      while rd_kafka_consumer_closed(handle) == 0 {
        guard ContinuousClock.now < end else { return false }
        // Records that were fetched and not asked for come here too. A call that serves callbacks alone
        // cannot take them and would end the process.
        if let message = rd_kafka_consume_queue(queue, 100) { rd_kafka_message_destroy(message) }
      }
      return true
    }

    /// RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE, which is a macro.
    private static let withoutClosing: Int32 = 8

    // MARK: faults

    private func note(_ code: Int32, _ words: UnsafePointer<CChar>?) {
      let code = rd_kafka_resp_err_t(code)
      if code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN {
        brokersAreDown = true
        return
      }
      // The words of a failed login tell more than those of the broken connection that follows.
      if lastFault?.code != RD_KAFKA_RESP_ERR__AUTHENTICATION {
        lastFault = (code, words.map { String(cString: $0) } ?? "")
      }
    }

    private var unknownTopic: Diagnostic {
      Diagnostic(
        .notFound, code: "unknown_topic",
        "There is no topic `\(settings.topic)` at \(settings.bootstrapServers).", at: "topic",
        help: "Check `topic`, or make it.")
    }

    private func fault(_ code: rd_kafka_resp_err_t) -> Diagnostic {
      let last = lastFault
      let told = last?.words ?? ""
      let words = told.isEmpty ? String(cString: rd_kafka_err2str(code)) : told
      switch code {
      case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        return unknownTopic
      case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return Diagnostic(
          .unauthorized, code: "access_denied",
          "Kafka does not allow reading `\(settings.topic)` in the group `\(settings.group)`.",
          at: "username", help: "Allow the user to read the topic and to join the group.")
      default: break
      }
      switch last?.code {
      case RD_KAFKA_RESP_ERR__AUTHENTICATION?, RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED?:
        return Diagnostic(
          .unauthorized, code: "wrong_credentials",
          "Kafka at \(settings.bootstrapServers) refuses the login: \(words).", at: "password",
          help: "Check `username`, `password`, `sasl_mechanism` and `security_protocol`.")
      case RD_KAFKA_RESP_ERR__RESOLVE?:
        return Diagnostic(
          .unavailable, code: "unknown_host",
          "The host of \(settings.bootstrapServers) is not known: \(words).",
          at: "bootstrap_server", help: "Check `bootstrap_server`.")
      case RD_KAFKA_RESP_ERR__SSL?:
        return Diagnostic(
          .unavailable, code: "untrusted_certificate",
          "There is no secure connection to \(settings.bootstrapServers): \(words).",
          at: "security_protocol",
          help: "Check `security_protocol`, and `ssl_ca_location` where the certificate is your "
            + "own.")
      default:
        return Diagnostic(
          .unavailable, code: "kafka_unavailable",
          "Kafka at \(settings.bootstrapServers) does not answer: \(words).",
          at: "bootstrap_server",
          help: "Check `bootstrap_server` and `security_protocol`, and that this machine may reach "
            + "it.")
      }
    }
  }

  extension Duration {
    fileprivate var milliseconds: Int64 {
      components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
  }
#endif
