import Dispatch
package import Domain
import Logging
import Storage

extension RiffleDatabase {
  /// Lets go the rows that are beyond their tables' retention, some thousand in each commit, so that
  /// inserts go on between. Engines see the rows go like rows that were replaced.
  ///
  /// - Returns: how many rows went.
  @discardableResult
  package func applyRetention(at now: Timestamp = .now()) async throws -> Int {
    var total = 0
    for table in log.tables() {
      guard let retention = table.schema.rules.retention else { continue }
      let name = table.schema.name
      let cutoff = retention.maximumAgeSeconds.map {
        Timestamp(microsecondsSinceEpoch: now.microsecondsSinceEpoch - $0 * 1_000_000)
      }
      while true {
        let positions = try await outsideThePool { [log] in
          try log.expiredPositions(
            of: name, timeColumn: retention.timeColumn, before: cutoff,
            keepingNewest: retention.maximumRows, limit: Self.retentionStep)
        }
        if positions.isEmpty { break }
        var batch = LogBatch()
        batch.removals = [LogBatch.Removal(table: name, positions: positions)]
        let removed = try await log.commit(batch).removedCount
        total += removed
        if removed == 0 { break }
      }
    }
    if total > 0 { logger.info("Let old rows go", metadata: ["rows": "\(total)"]) }
    return total
  }

  private static let retentionStep = 2000
}
