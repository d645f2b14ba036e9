/// The answer of a search with an account of how it was found.
package struct SearchAnswer: Hashable, Sendable {
  /// How the rows were found.
  package enum Method: Hashable, Sendable {
    /// Every allowed row was scored.
    case exact(ExactIndex.Scan)
    /// The rows of the nearest lists were scored.
    case partitioned(probed: Int, lists: Int)
  }

  /// Best first; equal scores stand in row order.
  package var hits: [ExactIndex.Hit]
  package var method: Method
  /// The share of the true answer that is found on average: 1 for exact search, else what was measured
  /// against exact search when the partition was built.
  package var recall: Double
  /// Rows whose bytes or floats were read.
  package var scannedRows: Int
}

extension SearchAnswer.Method: CustomStringConvertible {
  package var description: String {
    switch self {
    case .exact(let scan): "exact, \(scan.rawValue)"
    case .partitioned(let probed, let lists): "partitioned, \(probed) of \(lists) lists"
    }
  }
}

/// Searches rows by the quickest way that keeps its promise: `count` rows wherever so many are
/// allowed, and never a row that is not.
///
/// Without a partition the search is exact. With one, a filter that few rows pass still makes exact
/// search the quicker way, and it is taken; so it is where the lists gave too few rows.
package struct VectorSearcher: Sendable {
  package private(set) var rows: ExactIndex

  package init(_ rows: ExactIndex) { self.rows = rows }

  package var rowCount: Int { rows.rowCount }
  package var width: Int { rows.width }

  /// The allowed rows of highest inner product with the query.
  ///
  /// - Parameters:
  ///   - allowed: as for `ExactIndex.nearest`.
  ///   - useExactSearch: whether only an exact answer will do.
  package func nearest(
    to query: [Float], count: Int, among allowed: [UInt64], useExactSearch: Bool = false
  ) -> SearchAnswer {
    let found = rows.search(query, count: count, among: allowed)
    return SearchAnswer(
      hits: found.hits, method: .exact(found.scan), recall: 1, scannedRows: found.scannedRows)
  }

  /// Puts another vector in a row's place.
  package mutating func replace(row: Int, with vector: [Float]) {
    rows.replace(row: row, with: vector)
  }

  /// Adds rows after the last.
  package mutating func append(_ vectors: [Float]) { rows.append(vectors) }
}
