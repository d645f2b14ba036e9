package import Domain

/// `Connectors` reads events from where teams keep them (files, Segment, RudderStack, Kinesis; Kafka
/// in a target of its own) and hands them to the log with the place up to which they were read.
///
/// What comes in is bytes of somebody else's making; what goes out is a `Delivery`: rows of tables,
/// records that could not be read, and the source's new position, stored in one transaction or not at
/// all. That transaction is the whole of exactly-once: a source that dies is opened again at the
/// position that stands beside its rows. Nothing here keeps a position anywhere else, and nothing here
/// ever prints a secret.

/// Where deliveries go: the log, behind a protocol so that this target knows no storage.
package protocol EventSink: Sendable {
  /// The stored positions of a source, by stream.
  func positions(of source: String) async throws -> [String: JSON]

  /// Stores rows, rejects and position together; returns once they are on the disk.
  ///
  /// - Throws: `Diagnostic` of the kind `overloaded` or `unavailable` where nothing was stored and the
  ///   same delivery may be tried again. After any other error the positions tell what was stored.
  func deliver(_ delivery: Delivery) async throws -> DeliveryReceipt
}

/// What one transaction takes from a source.
package struct Delivery: Hashable, Sendable {
  /// A record as the row that it is meant to be. Whether it fits its table is the sink's to judge.
  package struct Row: Hashable, Sendable {
    package var table: String
    /// An object of columns.
    package var columns: JSON
    /// The record's own bytes, kept where the row does not fit.
    package var raw: [UInt8]
    /// Where in the source it stood, such as `{"partition": 0, "offset": 17}`.
    package var place: JSON

    package init(table: String, columns: JSON, raw: [UInt8], place: JSON) {
      self.table = table
      self.columns = columns
      self.raw = raw
      self.place = place
    }
  }

  /// A record of which no row could be made.
  package struct Reject: Hashable, Sendable {
    package var table: String
    package var raw: [UInt8]
    package var place: JSON
    package var problem: Diagnostic

    package init(table: String, raw: [UInt8], place: JSON, problem: Diagnostic) {
      self.table = table
      self.raw = raw
      self.place = place
      self.problem = problem
    }
  }

  package var source: String
  /// The part of the source that the position belongs to: a partition, a shard, a file.
  package var stream: String
  /// How far the stream has been read once this delivery is stored; nil leaves what is stored.
  package var position: JSON?
  package var rows: [Row]
  package var rejects: [Reject]

  package init(
    source: String, stream: String, position: JSON?, rows: [Row] = [], rejects: [Reject] = []
  ) {
    self.source = source
    self.stream = stream
    self.position = position
    self.rows = rows
    self.rejects = rejects
  }
}

/// What came of a delivery.
package struct DeliveryReceipt: Hashable, Sendable {
  package var rowCount: Int
  /// Rejects, and rows that did not fit their table.
  package var deadLetterCount: Int

  package init(rowCount: Int, deadLetterCount: Int) {
    self.rowCount = rowCount
    self.deadLetterCount = deadLetterCount
  }
}
