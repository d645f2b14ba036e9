package import Domain

/// A record as its source gave it, on its way into one table.
package struct SourceRecord: Sendable {
  package enum Content: Sendable {
    /// An object of columns.
    case json(JSON)
    /// The text of such an object.
    case bytes([UInt8])
    /// Bytes that the source's reader could not make a record of, and why.
    case unreadable([UInt8], Diagnostic)
  }

  package var content: Content
  /// Where in the source: a line, an offset, a message's id. Any value that people and programs can
  /// find the record by.
  package var position: JSON

  package init(_ content: Content, at position: JSON = .null) {
    self.content = content
    self.position = position
  }

  /// The record's own bytes, or its JSON text where it came parsed.
  package var raw: [UInt8] {
    switch content {
    case .json(let json): json.utf8
    case .bytes(let bytes), .unreadable(let bytes, _): bytes
    }
  }
}

/// What became of the records of one table: rows that fit, and those that did not.
package struct DecodedRecords: Sendable {
  /// A record that does not fit, with everything that is wrong with it.
  package struct Misfit: Sendable {
    /// Its place among the records.
    package var index: Int
    package var raw: [UInt8]
    package var position: JSON
    /// At least one.
    package var problems: [Diagnostic]

    package init(index: Int, raw: [UInt8], position: JSON, problems: [Diagnostic]) {
      self.index = index
      self.raw = raw
      self.position = position
      self.problems = problems
    }
  }

  package var rows: [[Value]] = []
  package var misfits: [Misfit] = []
  /// What the records looked like, for the watch over their shape.
  package var tally: RecordTally

  package init(_ schema: TableSchema) { tally = RecordTally(columnCount: schema.columns.count) }
}
