/// `Domain` holds the words that every other target speaks: identifiers, values, schemas, log
/// positions and diagnostics.
///
/// It imports nothing, reads no clock and does no I/O. What stands here is a plain value.

/// The user's own name of an item, as it came in with an event or an item row.
package struct ItemID: Hashable, Sendable, Comparable {
  package let rawValue: String
  package init(_ rawValue: String) { self.rawValue = rawValue }
  package static func < (a: ItemID, b: ItemID) -> Bool { a.rawValue < b.rawValue }
}

/// The user's own name of a person who receives recommendations.
package struct UserID: Hashable, Sendable, Comparable {
  package let rawValue: String
  package init(_ rawValue: String) { self.rawValue = rawValue }
  package static func < (a: UserID, b: UserID) -> Bool { a.rawValue < b.rawValue }
}

/// An item's row in the catalog. Not a model's token.
package struct CatalogRow: Hashable, Sendable, Comparable {
  package let rawValue: Int32
  package init(_ rawValue: Int32) { self.rawValue = rawValue }
  package init(_ index: Int) { self.rawValue = Int32(index) }
  /// The row as an array index.
  package var index: Int { Int(rawValue) }
  package static func < (a: CatalogRow, b: CatalogRow) -> Bool { a.rawValue < b.rawValue }
}

/// An item's number in one model's vocabulary, from 0. Not a catalog row.
package struct ItemToken: Hashable, Sendable, Comparable {
  package let rawValue: Int32
  package init(_ rawValue: Int32) { self.rawValue = rawValue }
  package init(_ index: Int) { self.rawValue = Int32(index) }
  /// The token as an array index.
  package var index: Int { Int(rawValue) }
  package static func < (a: ItemToken, b: ItemToken) -> Bool { a.rawValue < b.rawValue }
}

/// A place in the log: every acknowledged row has its own, and positions only grow.
package struct LogPosition: Hashable, Sendable, Comparable, Codable {
  package let rawValue: Int64
  package init(_ rawValue: Int64) { self.rawValue = rawValue }
  /// The position before the first row.
  package static let start = LogPosition(0)
  /// The position that the following row gets.
  package var next: LogPosition { LogPosition(rawValue + 1) }
  package static func < (a: LogPosition, b: LogPosition) -> Bool { a.rawValue < b.rawValue }
}

/// A point in time, in microseconds since 1970-01-01T00:00:00Z.
package struct Timestamp: Hashable, Sendable, Comparable {
  package let microsecondsSinceEpoch: Int64
  package init(microsecondsSinceEpoch: Int64) {
    self.microsecondsSinceEpoch = microsecondsSinceEpoch
  }
  package init(secondsSinceEpoch: Double) {
    self.microsecondsSinceEpoch = Int64((secondsSinceEpoch * 1e6).rounded())
  }
  package var secondsSinceEpoch: Double { Double(microsecondsSinceEpoch) / 1e6 }
  package static func < (a: Timestamp, b: Timestamp) -> Bool {
    a.microsecondsSinceEpoch < b.microsecondsSinceEpoch
  }
}
