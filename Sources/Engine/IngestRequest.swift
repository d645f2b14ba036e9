package import Domain
package import Ingest

/// Records on their way in, from whatever source: all of one request, message set or piece of a
/// file. They are stored together, with the source's position.
package struct IngestRequest: Sendable {
  /// Records for one table.
  package struct Part: Sendable {
    package var table: String
    package var records: [SourceRecord]
    package init(table: String, records: [SourceRecord]) {
      self.table = table
      self.records = records
    }
  }

  /// Who sent them: `http`, or a connector's name. Positions and contracts are kept by this name.
  package var source: String
  package var parts: [Part]
  /// How far the source has been read once these records are stored; see
  /// `RiffleDatabase.position(ofSource:)`. nil where the source keeps no position.
  package var position: JSON?
  /// The name under which the position is kept, for a source that has several; the source's where nil.
  package var positionName: String?
  /// The client's name for this request: its repetition changes nothing.
  package var key: String?
  /// A digest of the request, kept with the key.
  package var fingerprint = ""
  /// Refuses the whole request where a record does not fit; nil: as each table says.
  package var isStrict: Bool?
  /// Dead letters that these records were; they go when the records are stored.
  package var settledDeadLetters: [Int64] = []
  /// About how many bytes the records take; counts against what may wait for the disk.
  package var byteCount = 0

  package init(source: String, parts: [Part], position: JSON? = nil) {
    self.source = source
    self.parts = parts
    self.position = position
  }

  package init(source: String, table: String, records: [SourceRecord], position: JSON? = nil) {
    self.init(
      source: source, parts: [Part(table: table, records: records)], position: position)
  }
}

/// What came of an ingest, once it is on the disk and every engine has seen it.
package struct IngestReceipt: Sendable {
  /// Records that became rows.
  package var accepted = 0
  /// Records that did not fit and are kept as dead letters.
  package var dead = 0
  /// Rows that new ones with the same unique key replaced.
  package var replaced = 0
  /// The position token: an answer whose `as_of` has come this far, or a query that asks for it by
  /// `at_least`, holds all of it.
  package var through: LogPosition
  /// What was wrong with the records that did not fit, at most `RowDecoder.maximumProblems`.
  package var problems: [Diagnostic] = []
  /// Changes of shape that this request made visible.
  package var alerts: [SchemaAlert] = []
  /// The request's key was known: nothing was stored now, this is the answer of the first time.
  package var isRepetition = false
}
