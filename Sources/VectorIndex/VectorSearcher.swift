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
/// search the quicker way, and it is taken; so it is where the lists gave too few rows. The answer says
/// which way was taken and what recall was measured for it.
package struct VectorSearcher: Sendable {
  /// The vectors.
  package private(set) var rows: ExactIndex
  package private(set) var partitioned: PartitionedIndex?

  package init(_ rows: ExactIndex) { self.rows = rows }

  package var rowCount: Int { rows.rowCount }
  package var width: Int { rows.width }

  /// A catalogue of at least so many rows gains from a partition: below it the exact scan takes less
  /// than a millisecond.
  package static let rowsWorthPartitioning = 500_000

  /// Whether there are rows enough to gain from a new partition: there is none, or a twentieth of the
  /// rows changed since it was made.
  package var wantsPartition: Bool {
    guard rowCount >= Self.rowsWorthPartitioning, rows.isFinite else { return false }
    return partitioned.map { $0.changedRowCount > rowCount / 20 } ?? true
  }

  /// Takes in a partition that was made from these rows, or from an earlier state of them.
  ///
  /// - Parameter changed: rows replaced since that state. Rows added since are known.
  package mutating func use(_ partition: Partition, changed: some Sequence<Int> = []) {
    precondition(
      partition.width == width && partition.rowBound <= rowCount,
      "a partition of \(partition.rowBound) rows of \(partition.width), here are \(rowCount) of"
        + " \(width)")
    partitioned = PartitionedIndex(partition, changed: changed, rowCount: rowCount)
  }

  /// The allowed rows of highest inner product with the query.
  ///
  /// - Parameters:
  ///   - query: `[width]`.
  ///   - count: rows wanted.
  ///   - allowed: as for `ExactIndex.nearest`.
  ///   - useExactSearch: whether only an exact answer will do.
  package func nearest(
    to query: [Float], count: Int, among allowed: [UInt64], useExactSearch: Bool = false
  ) -> SearchAnswer {
    if let partitioned, !useExactSearch {
      partitioned.nearest(to: query, count: count, among: allowed, in: rows)
    } else {
      rows.answer(to: query, count: count, among: allowed)
    }
  }

  /// Puts another vector in a row's place.
  package mutating func replace(row: Int, with vector: [Float]) {
    rows.replace(row: row, with: vector)
    partitioned?.note(row)
  }

  /// Adds rows after the last.
  package mutating func append(_ vectors: [Float]) {
    rows.append(vectors)
    partitioned?.grow(to: rows.rowCount)
  }
}

extension ExactIndex {
  /// An exact answer.
  func answer(to query: [Float], count: Int, among allowed: [UInt64]) -> SearchAnswer {
    let found = search(query, count: count, among: allowed)
    return SearchAnswer(
      hits: found.hits, method: .exact(found.account.scan), recall: 1,
      scannedRows: found.account.scannedRows)
  }
}
