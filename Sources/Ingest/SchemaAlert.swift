package import Domain

/// A change in the shape of a source's records that somebody should look at.
package struct SchemaAlert: Hashable, Sendable {
  package enum Kind: String, Hashable, Sendable, CaseIterable {
    /// Records carry a member that the table has no column for.
    case newColumn = "new_column"
    /// A column that most records filled comes no more.
    case vanishedColumn = "vanished_column"
    /// A column's values come as another kind of JSON value.
    case changedType = "changed_type"
    /// The share of records without a value jumped.
    case nullShare = "null_share"
    /// The values of a column are mixed otherwise than before.
    case eventMix = "event_mix"
    /// Numbers lie far outside what came before.
    case range
    /// Many records do not fit.
    case deadLetters = "dead_letters"
  }

  package var table: String
  package var source: String
  package var kind: Kind
  package var column: String?
  package var message: String
  package var firstSeen: Timestamp
  package var lastSeen: Timestamp
  /// How many looks at the traffic found it.
  package var count = 1

  /// What makes two alerts one.
  package struct Identity: Hashable, Sendable {
    var table: String
    var source: String
    var kind: Kind
    var column: String?
  }
  package var identity: Identity {
    Identity(table: table, source: source, kind: kind, column: column)
  }

  package var json: JSON {
    [
      "table": .string(table), "source": .string(source), "kind": .string(kind.rawValue),
      "column": column.map { .string($0) } ?? .null, "message": .string(message),
      "first_seen": .string(firstSeen.iso8601), "last_seen": .string(lastSeen.iso8601),
      "count": .int(Int64(count)),
    ]
  }

  package init(
    table: String, source: String, kind: Kind, column: String?, message: String, at time: Timestamp
  ) {
    self.table = table
    self.source = source
    self.kind = kind
    self.column = column
    self.message = message
    firstSeen = time
    lastSeen = time
  }
}
