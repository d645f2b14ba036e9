#if Kafka
  import CRDKafka
  package import Domain
  import Synchronization

  /// Brokers that live in this process, on ports of the loopback that other processes reach: those of
  /// librdkafka's own tests. They keep what they are given in memory, and forget it with this.
  package final class LoopbackBroker: Sendable {
    /// The addresses, for `bootstrap_server`.
    package let servers: String
    package let topic: String
    package let partitions: Int
    // Unchecked: librdkafka's handles may be used from any thread.
    private nonisolated(unsafe) let handle: OpaquePointer
    private nonisolated(unsafe) let cluster: OpaquePointer
    private nonisolated(unsafe) let producer: OpaquePointer
    private nonisolated(unsafe) let producerTopic: OpaquePointer
    private let failures = FailureCount()

    /// Starts brokers with one topic.
    package init(topic: String, partitions: Int, brokers: Int = 3) throws(Diagnostic) {
      self.topic = topic
      self.partitions = partitions
      handle = try LoopbackBroker.client([], nil)
      guard let cluster = rd_kafka_mock_cluster_new(handle, Int32(brokers)),
        let servers = rd_kafka_mock_cluster_bootstraps(cluster),
        rd_kafka_mock_topic_create(cluster, topic, Int32(partitions), 1)
          == RD_KAFKA_RESP_ERR_NO_ERROR
      else {
        rd_kafka_destroy(handle)
        throw LoopbackBroker.refused("the brokers cannot be made")
      }
      self.cluster = cluster
      self.servers = String(cString: servers)
      do throws(Diagnostic) {
        // One request at a time keeps the order of messages, and their number, whatever fails.
        producer = try LoopbackBroker.client(
          [
            ("bootstrap.servers", self.servers), ("enable.idempotence", "true"), ("linger.ms", "0"),
          ], failures)
      } catch {
        rd_kafka_mock_cluster_destroy(cluster)
        rd_kafka_destroy(handle)
        throw error
      }
      guard let producerTopic = rd_kafka_topic_new(producer, topic, nil) else {
        rd_kafka_destroy(producer)
        rd_kafka_mock_cluster_destroy(cluster)
        rd_kafka_destroy(handle)
        throw LoopbackBroker.refused("the topic cannot be used")
      }
      self.producerTopic = producerTopic
    }

    deinit {
      rd_kafka_topic_destroy(producerTopic)
      rd_kafka_destroy(producer)
      rd_kafka_mock_cluster_destroy(cluster)
      rd_kafka_destroy(handle)
    }

    /// Hands messages to a partition, in their order, and waits until the brokers have them. It blocks.
    package func produce(_ messages: [[UInt8]], to partition: Int) throws(Diagnostic) {
      for message in messages {
        let code = message.withUnsafeBytes { bytes in
          // RD_KAFKA_MSG_F_COPY, which is a macro: the library copies the bytes.
          rd_kafka_produce(
            producerTopic, Int32(partition), 2,
            UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, nil, 0, nil)
        }
        guard code == 0 else {
          throw LoopbackBroker.refused(String(cString: rd_kafka_err2str(rd_kafka_last_error())))
        }
      }
      let code = rd_kafka_flush(producer, 20_000)
      guard code == RD_KAFKA_RESP_ERR_NO_ERROR, rd_kafka_outq_len(producer) == 0,
        failures.count.load(ordering: .acquiring) == 0
      else {
        throw LoopbackBroker.refused(String(cString: rd_kafka_err2str(code)))
      }
    }

    private static func client(
      _ values: [(String, String)], _ failures: FailureCount?
    ) throws(Diagnostic) -> OpaquePointer {
      let configuration = rd_kafka_conf_new()
      if let failures {
        // The count outlives the client: both are the broker's, and the client goes first.
        rd_kafka_conf_set_opaque(configuration, Unmanaged.passUnretained(failures).toOpaque())
        rd_kafka_conf_set_dr_msg_cb(configuration) { _, message, opaque in
          guard let message, message.pointee.err != RD_KAFKA_RESP_ERR_NO_ERROR, let opaque else {
            return
          }
          Unmanaged<FailureCount>.fromOpaque(opaque).takeUnretainedValue().count
            .wrappingAdd(1, ordering: .releasing)
        }
      }
      rd_kafka_conf_set_log_cb(configuration) { _, _, _, _ in }
      var words = [CChar](repeating: 0, count: 512)
      for (name, value) in values {
        guard
          rd_kafka_conf_set(configuration, name, value, &words, words.count) == RD_KAFKA_CONF_OK
        else {
          rd_kafka_conf_destroy(configuration)
          throw refused("`\(name)` is not taken")
        }
      }
      guard let handle = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, &words, words.count) else {
        rd_kafka_conf_destroy(configuration)
        throw refused("no client can be made")
      }
      return handle
    }

    private static func refused(_ words: String) -> Diagnostic {
      Diagnostic(
        .unavailable, code: "loopback_broker_failed",
        "The loopback broker of Kafka fails: \(words).",
        help: "Check that this process may listen on the loopback.")
    }
  }

  /// Messages that the brokers did not take.
  private final class FailureCount: Sendable {
    let count = Atomic<Int>(0)
  }
#endif
