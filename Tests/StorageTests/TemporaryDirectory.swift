import Domain
import Foundation
import GRDB
import Storage
import Synchronization

/// A directory of its own for one test, removed with the value.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appending(
      path: "riffle-storage-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path(percentEncoded: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func open(limits: LogStore.Limits = .init()) throws -> LogStore {
    try LogStore(try DataDirectory.open(path), limits: limits)
  }

  /// Changes the database behind the store's back.
  func execute(_ sql: String) throws {
    let database = try DatabaseQueue(path: path + "/riffle.db")
    try database.writeWithoutTransaction { try $0.execute(sql: sql) }
    try database.close()
  }

  /// What a killed process leaves: the files as they lie there, without the shared memory.
  ///
  /// - Parameter logBytes: where the log is cut off; nil to keep all of it.
  func copyAsIfKilled(logBytes: Int? = nil) throws -> TemporaryDirectory {
    let copy = try TemporaryDirectory()
    for name in ["riffle.db", "riffle.db-wal"] {
      guard var data = FileManager.default.contents(atPath: "\(path)/\(name)") else { continue }
      if name.hasSuffix("-wal"), let logBytes { data = data.prefix(logBytes) }
      try data.write(to: URL(filePath: "\(copy.path)/\(name)"))
    }
    return copy
  }

  var logBytes: Int {
    let values = try? URL(filePath: "\(path)/riffle.db-wal").resourceValues(forKeys: [.fileSizeKey])
    return values?.fileSize ?? 0
  }
}

/// A small repeatable generator (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

extension TableSchema {
  static let events = TableSchema(
    name: "events",
    columns: [
      ColumnDefinition(name: "event_id", type: .string),
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "item_id", type: .string),
      ColumnDefinition(name: "label", type: .double),
      ColumnDefinition(name: "created_at", type: .dateTime),
    ])

  /// `events` with `event_id` as its unique key.
  static let uniqueEvents = TableSchema(
    name: "unique-events", columns: events.columns, uniqueKeys: ["event_id"])
}

func event(_ id: String, user: String = "u", item: String = "i", at time: Int64 = 0) -> [Value] {
  event(.string(id), user: user, item: item, at: time)
}

func event(_ id: Value, user: String = "u", item: String = "i", at time: Int64 = 0) -> [Value] {
  [
    id, .string(user), .string(item), .double(1),
    .timestamp(Timestamp(microsecondsSinceEpoch: time)),
  ]
}

extension LogStore {
  /// All rows of a table in log order.
  func rows(of table: String) throws -> [LoggedRow] {
    var rows: [LoggedRow] = []
    try replay(tables: [table]) { batches, _ in
      for batch in batches { rows += batch.inserted }
    }
    return rows
  }
}

/// A value that several closures of a test share.
final class Shared<Value: Sendable>: Sendable {
  private let value: Mutex<Value>
  init(_ value: Value) { self.value = Mutex(value) }
  func withLock<Result: Sendable>(_ body: (inout Value) throws -> Result) rethrows -> Result {
    try value.withLock { value in try body(&value) }
  }
}
