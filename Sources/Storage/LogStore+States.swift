import Dispatch
package import Domain
import Foundation
import GRDB
import Synchronization

/// What stored states of the log need: a mark in it, and the rows that have gone since.
extension LogStore {
  /// A number that tells this database from every other.
  package func identity() throws(Diagnostic) -> UInt64 {
    try translatingFaults(path: path, doing: "read the database's identity") {
      try database.read { database in
        UInt64(bitPattern: try LogStore.number("identity", database))
      }
    }
  }

  /// Takes something at the log's end, between two commits. From then on rows up to here that go are
  /// kept aside, so that what was taken can follow. To be called on a thread that may wait.
  package func markState<Taken: Sendable>(
    _ take: @escaping @Sendable () -> Taken
  ) throws(Diagnostic) -> Taken {
    let box = Handover<Taken>()
    try queue.enqueue(
      .perform { writer in
        do throws(Diagnostic) {
          try writer.transaction(doing: "mark the log") { database in
            try database.execute(
              sql: "UPDATE _riffle_meta SET value = ? WHERE name = 'undo_horizon'",
              arguments: [writer.through.rawValue])
          }
          writer.undoHorizon = writer.through
          box.finish(.success(take()))
        } catch {
          box.finish(.failure(error))
        }
      })
    return try box.wait().get()
  }

  /// Rows up to a position that have gone since, by table: what a state of that position must undo.
  package func removedRows(
    tables names: [String], after position: LogPosition
  ) throws -> [CommittedBatch] {
    try translatingFaults(path: path, doing: "read the rows that have gone") {
      try database.read { database in try removedRows(names, after: position, database) }
    }
  }

  func removedRows(
    _ names: [String], after position: LogPosition, _ database: Database
  ) throws -> [CommittedBatch] {
    var batches: [CommittedBatch] = []
    for name in names {
      guard let schema = queue.table(name)?.schema else { continue }
      var batch = CommittedBatch(table: name, inserted: [])
      let cursor = try Row.fetchCursor(
        database,
        sql: """
          SELECT position, cells FROM _riffle_removed
          WHERE table_name = ? AND removed_at > ? AND position <= ? ORDER BY id
          """, arguments: [name, position.rawValue, position.rawValue])
      while let row = try cursor.next() {
        guard let cells = BinaryCells.decode(Array(row["cells"] as Data)) else {
          throw DatabaseError(message: "a row of `\(name)` that was kept aside cannot be read")
        }
        // A row that was kept before the table got wider lacks the cells at its end.
        let values = schema.columns.enumerated().map { place, column in
          place < cells.count ? cells[place].widened(to: column.type) : .null
        }
        batch.replaced.append(
          LoggedRow(position: LogPosition(row["position"]), values: values))
      }
      if !batch.replaced.isEmpty { batches.append(batch) }
    }
    return batches
  }

  /// Forgets the rows that went up to a position: every stored state is beyond it.
  package func forgetRemoved(through position: LogPosition) throws(Diagnostic) {
    let box = Handover<Int>()
    try queue.enqueue(
      .perform { writer in
        do throws(Diagnostic) {
          box.finish(
            .success(
              try writer.transaction(doing: "forget rows that have gone") { database in
                try database.execute(
                  sql: "DELETE FROM _riffle_removed WHERE removed_at <= ?",
                  arguments: [position.rawValue])
                return database.changesCount
              }))
        } catch { box.finish(.failure(error)) }
      })
    _ = try box.wait().get()
  }
}

/// A result that one thread leaves for another.
private final class Handover<Taken: Sendable>: Sendable {
  private let done = DispatchSemaphore(value: 0)
  private let outcome = Mutex<Result<Taken, Diagnostic>?>(nil)

  func finish(_ result: Result<Taken, Diagnostic>) {
    outcome.withLock { $0 = result }
    done.signal()
  }

  func wait() -> Result<Taken, Diagnostic> {
    done.wait()
    guard let result = outcome.withLock({ $0 }) else { preconditionFailure("nothing was left") }
    return result
  }
}
