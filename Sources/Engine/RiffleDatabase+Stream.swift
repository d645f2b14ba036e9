import Domain
package import Ingest
import Storage

/// A stream of records on its way into one table, stored piece by piece as it comes.
///
/// A few pieces wait for the disk while the next is decoded, and then the reader of the stream has
/// to wait: memory stays flat however long the stream is, and whoever sends it is slowed down to
/// what the disk takes. A stream that breaks off leaves its first pieces stored. Sent again with the
/// same key, those change nothing.
package struct IngestStream: ~Copyable {
  private let database: RiffleDatabase
  private let table: String
  private let schema: TableSchema
  private let request: IngestRequest
  private var stream: RecordStream
  private var waiting: [IngestTicket] = []
  /// What came of the pieces that are stored.
  package private(set) var receipt: IngestReceipt

  private static let mostWaiting = 4

  /// - Parameter request: source, key and strictness; its parts are not looked at.
  /// - Throws: `unknown_table`.
  package init(
    _ database: RiffleDatabase, into table: String, _ format: RowFormat, _ request: IngestRequest
  ) throws {
    self.database = database
    self.table = table
    self.request = request
    schema = try database.log.schema(of: table)
    stream = RecordStream(
      format, database.desk.decoder(schema), digests: request.key != nil)
    receipt = IngestReceipt(through: database.through)
  }

  /// Takes in the next bytes; waits where too much waits for the disk.
  package mutating func append(_ bytes: [UInt8]) async throws {
    stream.append(bytes)
    while let piece = try stream.next(isLast: false) { try await store(piece) }
  }

  /// Stores what is left, and waits until everything is on the disk.
  package mutating func finish() async throws -> IngestReceipt {
    while let piece = try stream.next(isLast: true) { try await store(piece) }
    try await settle()
    return receipt
  }

  /// Waits for the pieces that are on their way.
  package mutating func settle() async throws {
    while !waiting.isEmpty { try await finishOldest() }
  }

  private mutating func store(_ piece: RecordStream.Piece) async throws {
    while waiting.count >= Self.mostWaiting { try await finishOldest() }
    var request = request
    request.byteCount = piece.byteCount
    if let key = self.request.key {
      request.key = "\(key)#\(piece.index)"
      request.fingerprint = piece.fingerprint
    }
    while true {
      do {
        waiting.append(try database.submit([(schema, piece.records)], request))
        return
      } catch let problem as Diagnostic where problem.kind == .overloaded && !waiting.isEmpty {
        // Others fill the queue; once a piece of ours is through there is room again.
        try await finishOldest()
      }
    }
  }

  private mutating func finishOldest() async throws {
    let next = try await waiting.removeFirst().receipt()
    receipt.accepted += next.accepted
    receipt.dead += next.dead
    receipt.replaced += next.replaced
    receipt.through = max(receipt.through, next.through)
    receipt.problems += next.problems.prefix(
      RowDecoder.maximumProblems - receipt.problems.count)
    receipt.alerts += next.alerts
    receipt.isRepetition = receipt.isRepetition || next.isRepetition
  }
}
