/// What a table asks of its rows beyond the types of their columns, and how long it keeps them.
package struct TableRules: Hashable, Sendable {
  /// What one column asks of its values.
  package struct ColumnRule: Hashable, Sendable {
    /// A row without a value does not fit.
    package var isRequired = false
    /// The only values that fit, as text; nil where all do.
    package var allowed: [String]?
    /// Bounds of a number, or of a time in milliseconds since 1970; both ends fit.
    package var minimum: Double?
    package var maximum: Double?
    package init() {}
  }

  /// How long rows stay. Where both limits stand, a row goes when it is beyond either.
  package struct Retention: Hashable, Sendable {
    /// Rows whose time is older than this go; it is read in `timeColumn`.
    package var maximumAgeSeconds: Int64?
    /// A `DateTime` column. Rows without a time stay.
    package var timeColumn: String?
    /// Only the newest rows stay, by their place in the log.
    package var maximumRows: Int?
    package init() {}
  }

  /// By the names of their columns.
  package var columns: [String: ColumnRule] = [:]
  /// A batch with a row that does not fit is refused as a whole; otherwise the row becomes a dead
  /// letter and the others go in.
  package var isStrict = false
  /// Members of a record that name no column are passed over; otherwise the record does not fit.
  package var ignoresUnknownColumns = false
  package var retention: Retention?

  package init() {}
}
