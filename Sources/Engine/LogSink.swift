import Connectors
import Domain
import Ingest
import Synchronization

/// Stores what connectors deliver: rows, records that do not fit, and the position, in one commit.
///
/// A position is kept under `SOURCE/STREAM`, so that one source may have many.
final class LogSink: EventSink {
  private struct Reference {
    weak var database: RiffleDatabase?
  }

  // The database owns its sources, and they deliver to it.
  private let reference = Mutex(Reference())
  private let queue = BlockingQueue("riffle positions")

  func attach(to database: RiffleDatabase) {
    reference.withLock { $0.database = database }
  }

  private func opened() throws(Diagnostic) -> RiffleDatabase {
    guard let database = reference.withLock({ $0.database }) else {
      throw Diagnostic(
        .unavailable, code: "storage_closed", "The data directory is closed.",
        help: "The server is stopping.")
    }
    return database
  }

  func positions(of source: String) async throws -> [String: JSON] {
    let database = try opened()
    return try await queue.run { try database.positions(of: source) }
  }

  func deliver(_ delivery: Delivery) async throws -> DeliveryReceipt {
    var tables: [String] = []
    var records: [String: [SourceRecord]] = [:]
    var byteCount = 0
    func add(_ record: SourceRecord, to table: String, _ bytes: Int) {
      if records[table] == nil { tables.append(table) }
      records[table, default: []].append(record)
      byteCount += bytes
    }
    for row in delivery.rows {
      // A dead letter holds the row as the mapping made it, so that it can be replayed as it stands;
      // its position says where the record itself is.
      add(SourceRecord(.json(row.columns), at: row.place), to: row.table, row.raw.count)
    }
    for reject in delivery.rejects {
      add(
        SourceRecord(.unreadable(reject.raw, reject.problem), at: reject.place), to: reject.table,
        reject.raw.count)
    }
    var request = IngestRequest(
      source: delivery.source,
      parts: tables.map { .init(table: $0, records: records[$0] ?? []) },
      position: delivery.position)
    request.positionName = "\(delivery.source)/\(delivery.stream)"
    // A batch that is refused as a whole would stop the source for good.
    request.isStrict = false
    request.byteCount = byteCount
    let receipt = try await opened().ingest(request)
    return DeliveryReceipt(rowCount: receipt.accepted, deadLetterCount: receipt.dead)
  }
}
