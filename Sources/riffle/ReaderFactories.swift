import Connectors

#if Kafka
  import KafkaConnector
#endif

/// The readers of sources that this build brings along beside those of every build.
enum ReaderFactories {
  static var all: [SourceKind: ReaderFactory] {
    #if Kafka
      [
        .kafka: { definition in
          guard case .kafka(let settings) = definition.settings else {
            preconditionFailure("a source of another kind")
          }
          return KafkaReader(definition, settings)
        }
      ]
    #else
      [:]
    #endif
  }
}
