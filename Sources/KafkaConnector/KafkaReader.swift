#if Kafka
  package import Connectors
  package import Domain

  /// `KafkaConnector` reads topics of Kafka through librdkafka.
  ///
  /// The group decides which partitions are read, Riffle decides from where: on each assignment a
  /// partition begins behind the last record whose row is stored. Offsets are committed to Kafka only
  /// afterwards, for tools that show a group's lag, and are never read back.
  package final class KafkaReader: SourceReader {
    private let definition: SourceDefinition
    private let settings: KafkaSettings
    private let queue: BlockingQueue
    // Unchecked: touched on the serial queue only.
    private nonisolated(unsafe) var consumer: KafkaConsumer?

    package init(_ definition: SourceDefinition, _ settings: KafkaSettings) {
      self.definition = definition
      self.settings = settings
      queue = BlockingQueue("riffle kafka \(definition.name)")
    }

    /// `next` waits itself.
    package var pause: Duration { .zero }

    package func open(at positions: [String: JSON]) async throws {
      try await queue.run { [self] in
        var offsets: [Int32: Int64] = [:]
        for (stream, json) in positions where stream.hasPrefix("\(settings.topic)/") {
          guard let partition = Int32(stream.dropFirst(settings.topic.count + 1)),
            let offset = json["offset"]?.int
          else {
            throw Diagnostic(
              .internalError, code: "invalid_position",
              "The stored position of `\(stream)` cannot be read.", at: stream)
          }
          offsets[partition] = offset
        }
        let consumer = try KafkaConsumer(
          settings, batchSize: definition.batchSize, offsets: offsets)
        self.consumer = consumer
        try consumer.checkTopic()
        try consumer.subscribe()
      }
    }

    package func next() async throws -> SourceBatch? {
      try await queue.run { [self] in try consumer?.next() }
    }

    package func delivered(_ batch: SourceBatch) async throws {
      _ = try await queue.run { [self] in consumer?.commit(batch) }
    }

    package var lag: SourceLag {
      get async {
        (try? await queue.run { [self] in consumer?.lag }) ?? SourceLag()
      }
    }

    package var warning: String? {
      get async { (try? await queue.run { [self] in consumer?.warning }) ?? nil }
    }

    package func close() async {
      _ = try? await queue.run { [self] in
        consumer?.close()
        consumer = nil
      }
    }
  }
#endif
