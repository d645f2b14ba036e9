/// Bounds of what a query may ask for.
enum QueryLimits {
  /// The most rows in an answer.
  static let mostRows = 1000
  /// The most rows that may be skipped.
  static let mostOffset = 10_000
  /// The most candidates that a retriever may be told to find.
  static let mostCandidates = 10_000
  /// The candidates of a retriever that names no limit.
  static let candidates = 100
  /// The rows that an exploration of the whole catalog draws from.
  static let exploredCandidates = 1000
  /// The events that are left out, each once, to see what they carry.
  static let influencingEvents = 20
  /// The history that an influence is worked out on.
  static let influenceHistory = 1000
}
