import Domain
import Logging
import QueryEngine
import Storage
import Synchronization

/// Writes down with which probability exploration put each item where it stood, in the table
/// `riffle_placements`: what counterfactual evaluation weighs events by.
///
/// Rows are written once a second, behind the answers. The table is a ring: a row takes the place of
/// the one written `capacity` rows before it. It is made when the first row is written.
final class PlacementLog: Sendable {
  static let table = "riffle_placements"
  /// Rows that are kept.
  static let capacity: Int64 = 1_000_000
  /// More rows wait for no disk: they are dropped, and the log says how many.
  private static let mostWaiting = 200_000

  static let schema = TableSchema(
    name: table,
    columns: [
      ColumnDefinition(name: "slot", type: .int64),
      ColumnDefinition(name: "answered_at", type: .dateTime),
      ColumnDefinition(name: "engine", type: .lowCardinalityString),
      ColumnDefinition(name: "query", type: .lowCardinalityString),
      ColumnDefinition(name: "generation", type: .int64),
      ColumnDefinition(name: "as_of", type: .int64),
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "item_id", type: .string),
      ColumnDefinition(name: "position", type: .int32),
      ColumnDefinition(name: "propensity", type: .double),
    ], uniqueKeys: ["slot"],
    description: "The items of answers with exploration, and the probability of each placement.")

  private struct Waiting {
    /// Rows without their slots.
    var rows: [[Value]] = []
    var droppedCount = 0
    var isScheduled = false
    var isClosed = false
    /// The slot of the next row; nil before the table was looked at.
    var next: Int64?
  }

  private let log: LogStore
  private let logger: Logger
  private let waiting = Mutex(Waiting())

  init(_ log: LogStore, logger: Logger) {
    self.log = log
    self.logger = logger
  }

  /// Takes the placements of an answer down, where it explored.
  func record(_ answer: EngineAnswer, query: String?) {
    var rows: [[Value]] = []
    for statement in answer.statements {
      guard case .rows(let result) = statement, let propensities = result.propensities else {
        continue
      }
      for (place, id) in result.ids.enumerated() {
        rows.append([
          .timestamp(answer.now), .string(answer.engine), query.map { .string($0) } ?? .null,
          answer.generation.map { .int(Int64($0.number)) } ?? .null,
          .int(answer.asOf.rawValue), result.user.map { .string($0.rawValue) } ?? .null,
          .string(id.rawValue), .int(Int64(place + 1)),
          propensities[place].map { .double($0) } ?? .null,
        ])
      }
    }
    guard !rows.isEmpty else { return }
    let mustSchedule = waiting.withLock { waiting in
      if waiting.isClosed { return false }
      if waiting.rows.count + rows.count > Self.mostWaiting {
        waiting.droppedCount += rows.count
        return false
      }
      waiting.rows += rows
      defer { waiting.isScheduled = true }
      return !waiting.isScheduled
    }
    guard mustSchedule else { return }
    Task { [self] in
      try? await Task.sleep(for: .seconds(1))
      await write()
    }
  }

  /// Writes what waits.
  private func write() async {
    if waiting.withLock({ $0.isClosed }) { return }
    do {
      if log.table(Self.table) == nil {
        try await log.createTable(Self.schema, at: .now())
      }
      if waiting.withLock({ $0.next }) == nil {
        let next = try await outsideThePool { [log] in try Self.nextSlot(log) }
        waiting.withLock { $0.next = $0.next ?? next }
      }
      let rows = take()
      if !rows.isEmpty { _ = try await log.append(table: Self.table, rows: rows) }
    } catch {
      waiting.withLock { waiting in
        waiting.isScheduled = false
        waiting.droppedCount += waiting.rows.count
        waiting.rows = []
      }
      logger.error("Placements were not written", metadata: ["error": "\(error)"])
    }
  }

  /// Writes what waits, before the log is closed, and waits for it.
  func close() {
    waiting.withLock { $0.isClosed = true }
    guard log.table(Self.table) != nil, waiting.withLock({ $0.next }) != nil else { return }
    let rows = take()
    if !rows.isEmpty { try? log.appendAndWait(table: Self.table, rows: rows) }
  }

  /// The waiting rows with their slots.
  private func take() -> [[Value]] {
    let (rows, dropped) = waiting.withLock { waiting -> ([[Value]], Int) in
      var slot = waiting.next ?? 0
      let rows = waiting.rows.map { row -> [Value] in
        defer { slot = (slot + 1) % Self.capacity }
        return [.int(slot)] + row
      }
      waiting.next = slot
      let dropped = waiting.droppedCount
      waiting.rows = []
      waiting.droppedCount = 0
      waiting.isScheduled = false
      return (rows, dropped)
    }
    if dropped > 0 {
      logger.warning("Placements were dropped", metadata: ["rows": "\(dropped)"])
    }
    return rows
  }

  /// The slot after that of the newest row.
  private static func nextSlot(_ log: LogStore) throws -> Int64 {
    var next: Int64 = 0
    try log.replay(tables: [table]) { batches, _ in
      if case .int(let slot)? = batches.last?.inserted.last?.values.first {
        next = (slot + 1) % capacity
      }
    }
    return next
  }
}
