import Domain
import Engine
import Foundation
import HTTPAPI
import Logging
import Testing

/// A directory that is there while the body runs.
func withTemporaryDirectory<R>(_ body: (String) async throws -> R) async throws -> R {
  let path = NSTemporaryDirectory() + "riffle-test-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try await body(path)
}

let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Runs a real server on a free port of the loopback while the body talks to it.
func withServer<R: Sendable>(
  _ directory: String, apiKey: String? = nil, maximumBodyBytes: Int = 1 << 20, trains: Bool = true,
  logger: Logger = silentLogger, _ body: (HTTPClient, RiffleDatabase) async throws -> R
) async throws -> R {
  var databaseOptions = RiffleDatabase.Options()
  databaseOptions.trainingThreads = 1
  databaseOptions.trains = trains
  let database = try RiffleDatabase(
    opening: directory + "/data", options: databaseOptions, logger: logger)
  defer { database.close() }
  var options = ServerOptions()
  options.port = 0
  options.apiKey = apiKey
  options.maximumBodyBytes = maximumBodyBytes
  let (ports, ready) = AsyncStream.makeStream(of: Int.self)
  let server = RiffleServer(database: database, options: options, logger: logger) { port in
    ready.yield(port)
    ready.finish()
  }
  let running = Task { try await server.run() }
  defer { running.cancel() }
  var port: Int?
  for await value in ports { port = value }
  let client = try HTTPClient(
    url: "http://127.0.0.1:\(try #require(port))", apiKey: apiKey)
  let result = try await body(client, database)
  running.cancel()
  _ = await running.result
  return result
}

extension HTTPClient {
  /// Sends JSON and expects success.
  func expect(_ method: String, _ path: String, _ json: JSON = .object([])) async throws -> JSON {
    let (status, answer) = try await send(method, path, json: json)
    try #require(status == 200, "\(method) \(path): \(status) \(answer?.text ?? "")")
    return try #require(answer)
  }

  /// Waits until an engine has stopped training.
  func untilTrained(_ engine: String) async throws -> JSON {
    while true {
      let details = try await expect("GET", "/v2/engines/\(engine)")
      if ["ACTIVE", "ERROR"].contains(details["status"]?.string) { return details }
      await Task.yield()
    }
  }
}

/// A world of two topics: even users watch the even items, odd users the odd ones, each in a circle.
enum SmallWorld {
  static let itemCount = 30
  static let userCount = 40

  static let tables: [JSON] = [
    [
      "name": "items", "unique_keys": ["item_id"],
      "column_schema": ["item_id": "String", "topic": "String", "published_at": "DateTime"],
    ],
    [
      "name": "events", "unique_keys": ["event_id"],
      "column_schema": [
        "event_id": "String", "user_id": "String", "item_id": "String", "label": "Int32",
        "created_at": "DateTime",
      ],
    ],
  ]

  static var itemRows: [JSON] {
    (0..<itemCount).map { item in
      [
        "item_id": .string("i\(item)"), "topic": .string(item % 2 == 0 ? "even" : "odd"),
        "published_at": .int(1_700_000_000_000 + Int64(item)),
      ]
    }
  }

  static var eventRows: [JSON] {
    (0..<userCount).flatMap { user in
      (0..<8).map { step in
        event(user: "u\(user)", item: (user + 2 * step) % itemCount, time: user * 100 + step)
      }
    }
  }

  static func event(user: String, item: Int, time: Int) -> JSON {
    [
      "event_id": .string("\(user)-\(item)-\(time)"), "user_id": .string(user),
      "item_id": .string("i\(item)"), "label": 1,
      "created_at": .int(1_700_000_000_000 + Int64(time) * 1000),
    ]
  }

  static let engine = """
    name: feed
    data: {interaction_table: events, item_table: items}
    index: {embeddings: [{name: taste, encoder: {type: trained_model, model_ref: sasrec}}]}
    training:
      models:
        - {policy_type: sasrec, hidden_size: 16, n_layers: 1, n_epochs: 40, learning_rate: 0.01,
           batch_size: 8, max_seq_length: 20}
    queries:
      feed:
        parameters: {user_id: {default: u0}, n: {default: 5}}
        query: |
          SELECT topic FROM similarity(embedding_ref='taste', encoder='precomputed_user',
                                       input_user_id=$user_id, limit=50)
          WHERE prebuilt('already_seen', input_user_id=$user_id)
          ORDER BY score(expression='sasrec', input_user_id=$user_id)
          LIMIT $n
    """

  /// Makes and fills the tables and declares the engine.
  static func load(_ client: HTTPClient) async throws {
    for table in tables { _ = try await client.expect("POST", "/v2/tables", table) }
    _ = try await client.expect(
      "POST", "/v2/tables/items/insert", ["data": .array(itemRows)])
    _ = try await client.expect(
      "POST", "/v2/tables/events/insert", ["data": .array(eventRows)])
    let reply = try await client.send(
      "POST", "/v2/engines", body: Array(engine.utf8), contentType: "application/yaml")
    try #require(reply.status == 200, "\(String(decoding: reply.body, as: UTF8.self))")
  }
}

extension JSON {
  /// The ids of a query's answer, best first.
  var ids: [String] { (self["results"]?.array ?? []).compactMap { $0["id"]?.string } }
}
