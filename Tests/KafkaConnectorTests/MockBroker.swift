#if Kafka
  import CRDKafka
  import Foundation
  import Testing

  /// The brokers that live in librdkafka, on ports of the loopback that other processes reach.
  final class MockBroker: Sendable {
    // Unchecked: librdkafka's handles may be used from any thread.
    private nonisolated(unsafe) let handle: OpaquePointer
    private nonisolated(unsafe) let cluster: OpaquePointer
    let servers: String

    init(brokers: Int32 = 3) throws {
      var words = [CChar](repeating: 0, count: 512)
      let configuration = rd_kafka_conf_new()
      rd_kafka_conf_set_log_cb(configuration) { _, _, _, _ in }
      handle = try #require(
        rd_kafka_new(RD_KAFKA_PRODUCER, configuration, &words, words.count))
      cluster = try #require(rd_kafka_mock_cluster_new(handle, brokers))
      servers = String(cString: try #require(rd_kafka_mock_cluster_bootstraps(cluster)))
    }

    deinit {
      rd_kafka_mock_cluster_destroy(cluster)
      rd_kafka_destroy(handle)
    }

    func makeTopic(_ name: String, partitions: Int32) throws {
      try #require(
        rd_kafka_mock_topic_create(cluster, name, partitions, 1) == RD_KAFKA_RESP_ERR_NO_ERROR)
    }
  }

  /// `kcat`, the command-line client of librdkafka's author.
  enum Kcat {
    static let path = ["/usr/bin/kcat", "/usr/local/bin/kcat", "/opt/homebrew/bin/kcat"].first {
      FileManager.default.isExecutableFile(atPath: $0)
    }

    /// Produces messages `{"id": "FROM"}` and so on, with keys, and waits until the brokers have them.
    static func produce(
      _ range: Range<Int>, to topic: String, _ broker: MockBroker
    ) async throws {
      let lines = range.map { "u\($0 % 11):{\"id\":\"\($0)\",\"kind\":\"view\"}\n" }.joined()
      let status = try await run(
        ["-b", broker.servers, "-t", topic, "-P", "-K", ":", "-X", "partitioner=murmur2_random"],
        input: lines)
      try #require(status == 0, "kcat ended with \(status)")
    }

    private static func run(_ arguments: [String], input: String) async throws -> Int32 {
      let path = try #require(path)
      return try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global().async {
          let process = Process()
          process.executableURL = URL(fileURLWithPath: path)
          process.arguments = arguments
          let pipe = Pipe()
          process.standardInput = pipe
          process.standardOutput = FileHandle.nullDevice
          process.standardError = FileHandle.nullDevice
          do { try process.run() } catch { return continuation.resume(throwing: error) }
          try? pipe.fileHandleForWriting.write(contentsOf: Data(input.utf8))
          try? pipe.fileHandleForWriting.close()
          process.waitUntilExit()
          continuation.resume(returning: process.terminationStatus)
        }
      }
    }

    /// Joins a group and reads until it is killed.
    static func join(_ group: String, _ topic: String, _ broker: MockBroker) throws -> Process {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: try #require(path))
      process.arguments = [
        "-b", broker.servers, "-X", "session.timeout.ms=6000", "-X",
        "partition.assignment.strategy=range", "-G", group, topic,
      ]
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      return process
    }
  }
#endif
