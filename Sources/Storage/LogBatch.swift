package import Domain

/// Everything that one commit may hold, stored together or not at all.
///
/// Rows of several tables, records that did not fit, how far a source has been read, and the
/// registry's documents share one SQLite transaction. So a source that is read again from its
/// stored position neither loses nor doubles a row, whenever the process is killed.
package struct LogBatch: Sendable {
  /// New rows of one table, their cells in the order of the schema's columns.
  package struct Rows: Sendable {
    package var table: String
    package var rows: [[Value]]
    package init(table: String, rows: [[Value]]) {
      self.table = table
      self.rows = rows
    }
  }

  /// Rows that leave a table. A position that is not there is passed over.
  package struct Removal: Sendable {
    package var table: String
    package var positions: [LogPosition]
    package init(table: String, positions: [LogPosition]) {
      self.table = table
      self.positions = positions
    }
  }

  package var rows: [Rows]
  package var removals: [Removal] = []
  package var deadLetters: [DeadLetter] = []
  /// Dead letters whose rows come in with this batch, and which go with it.
  package var settledDeadLetters: [Int64] = []
  package var position: SourcePosition?
  package var key: IdempotencyKey?
  /// Documents of the registry to be stored with the rows.
  package var entries: [RegistryEntry] = []
  /// About how much memory the batch holds while it waits; 0 to count rows only.
  package var byteCount = 0
  /// The rows were made for their tables' schemas by a decoder, and need no second look.
  package var isChecked = false

  package init(_ rows: [Rows] = []) { self.rows = rows }

  /// What counts against the limit of waiting rows.
  var waitingRows: Int {
    rows.reduce(0) { $0 + $1.rows.count } + deadLetters.count
      + removals.reduce(0) { $0 + $1.positions.count }
  }
}

/// How far a source has been read, in the source's own terms.
package struct SourcePosition: Hashable, Sendable {
  /// The source's name, one for each stream of records: `kafka/clicks`, `file/2026-01.csv`.
  package var source: String
  package var position: JSON
  package init(source: String, position: JSON) {
    self.source = source
    self.position = position
  }
}

/// A name that a client gives to one request, so that its repetition changes nothing.
package struct IdempotencyKey: Hashable, Sendable {
  package var key: String
  /// A digest of the request: the key of one request cannot stand for another.
  package var fingerprint: String
  package var at: Timestamp
  /// What is stored with the receipt, for the repetition's answer.
  package var note: JSON

  package init(key: String, fingerprint: String, at: Timestamp, note: JSON = .null) {
    self.key = key
    self.fingerprint = fingerprint
    self.at = at
    self.note = note
  }

  /// How long a key is known. A client that repeats a request does so within minutes.
  package static let lifetimeSeconds: Int64 = 86_400
}

/// A record that did not fit its table: kept as it came, with the reason, until it is mended.
package struct DeadLetter: Hashable, Sendable {
  package var table: String
  package var source: String
  /// Where in the source: a line, an offset, a message's id.
  package var position: JSON
  /// A stable name of the first thing that was wrong, such as `type_mismatch`.
  package var code: String
  /// All that was wrong, in words.
  package var reason: String
  /// The record's own bytes.
  package var raw: [UInt8]
  /// Whether `raw` holds only the beginning, because the record was too large to be kept.
  package var isTruncated: Bool
  package var at: Timestamp

  package init(
    table: String, source: String, position: JSON, code: String, reason: String, raw: [UInt8],
    isTruncated: Bool = false, at: Timestamp
  ) {
    self.table = table
    self.source = source
    self.position = position
    self.code = code
    self.reason = reason
    self.raw = raw
    self.isTruncated = isTruncated
    self.at = at
  }
}

/// A dead letter with its number.
package struct StoredDeadLetter: Hashable, Sendable {
  package var id: Int64
  package var letter: DeadLetter
}

/// Which dead letters are asked for.
package struct DeadLetterQuery: Hashable, Sendable {
  package var table: String?
  package var source: String?
  package var code: String?
  /// Only letters with a larger number, for one page after another.
  package var after: Int64 = 0
  package var limit = 100
  package init() {}
}

/// Dead letters of one table and one reason.
package struct DeadLetterCount: Hashable, Sendable {
  package var table: String
  package var source: String
  package var code: String
  package var count: Int

  package init(table: String, source: String, code: String, count: Int) {
    self.table = table
    self.source = source
    self.code = code
    self.count = count
  }
}

/// What an acknowledged batch did.
package struct CommitReceipt: Hashable, Sendable {
  /// The position of the batch's first row; nil where it held none.
  package var first: LogPosition?
  /// The position of the batch's last row, or of the log's end where it held none. A state that has
  /// come this far holds all of it.
  package var through: LogPosition
  /// The rows given, among them those that a later row of the same batch replaced.
  package var insertedCount: Int
  /// The rows that were replaced because a new one bears the same unique key.
  package var replacedCount: Int
  package var removedCount: Int
  package var deadLetterCount: Int
  /// The batch's key was known: nothing was stored now, and the counts are those of the first time.
  package var isRepetition: Bool
  /// What the key was stored with.
  package var note: JSON

  var stored: JSON {
    [
      "first": first.map { .int($0.rawValue) } ?? .null, "through": .int(through.rawValue),
      "inserted": .int(Int64(insertedCount)), "replaced": .int(Int64(replacedCount)),
      "removed": .int(Int64(removedCount)), "dead": .int(Int64(deadLetterCount)), "note": note,
    ]
  }

  init(
    first: LogPosition?, through: LogPosition, insertedCount: Int, replacedCount: Int,
    removedCount: Int, deadLetterCount: Int, note: JSON
  ) {
    self.first = first
    self.through = through
    self.insertedCount = insertedCount
    self.replacedCount = replacedCount
    self.removedCount = removedCount
    self.deadLetterCount = deadLetterCount
    self.note = note
    isRepetition = false
  }

  /// Reads what `stored` wrote, as the receipt of a repetition.
  init?(stored: JSON) {
    guard let through = stored["through"]?.int, let inserted = stored["inserted"]?.int,
      let replaced = stored["replaced"]?.int, let removed = stored["removed"]?.int,
      let dead = stored["dead"]?.int
    else { return nil }
    self.init(
      first: stored["first"]?.int.map { LogPosition($0) }, through: LogPosition(through),
      insertedCount: Int(inserted), replacedCount: Int(replaced), removedCount: Int(removed),
      deadLetterCount: Int(dead), note: stored["note"] ?? .null)
    isRepetition = true
  }
}
