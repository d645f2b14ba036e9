/// `VectorIndex` finds the rows of highest inner product with a query, under a bitmap.
///
/// It holds vectors by row number and knows nothing of items: whoever builds it says what a row is.
package import Kernels
import Neural

/// Exact search: every allowed row is scored in 32-bit floats.
///
/// Nothing is built, so recall is 1 under any filter, and the cost falls with the number of allowed
/// rows. At 10,000 rows of width 64 a query takes tens of microseconds.
package final class ExactIndex: Sendable {
  package let width: Int
  package let rowCount: Int
  private let kernels: Kernels
  private let vectors: Buffer

  /// - Parameter vectors: `[rows, width]`.
  package init(vectors: [Float], width: Int, kernels: Kernels) {
    precondition(width > 0 && vectors.count % width == 0, "\(vectors.count) floats of \(width)")
    self.width = width
    self.kernels = kernels
    rowCount = vectors.count / width
    self.vectors = Buffer(vectors)
  }

  /// A row and its inner product with the query.
  package struct Hit: Hashable, Sendable {
    package var row: Int
    package var score: Float
    package init(row: Int, score: Float) {
      self.row = row
      self.score = score
    }
  }

  /// The allowed rows of highest inner product, best first; equal scores stand in row order.
  ///
  /// - Parameters:
  ///   - query: `[width]`.
  ///   - count: rows wanted.
  ///   - allowed: bit `i & 63` of word `i >> 6` admits row `i`; bits past the last row must be zero.
  /// - Returns: `count` rows, or as many as are allowed.
  package func nearest(to query: [Float], count: Int, among allowed: [UInt64]) -> [Hit] {
    precondition(query.count == width, "a query of \(query.count) floats, rows of \(width)")
    precondition(
      allowed.count == (rowCount + 63) / 64, "\(allowed.count) words for \(rowCount) rows")
    precondition(
      rowCount & 63 == 0 || (allowed.last ?? 0) >> UInt64(rowCount & 63) == 0,
      "bits past row \(rowCount) are set")
    let wanted = min(count, rowCount)
    guard wanted > 0 else { return [] }
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: wanted) { scores in
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: wanted) { ids in
        guard let scores = scores.baseAddress, let ids = ids.baseAddress else { return [] }
        let found = kernels.topK(
          rows: vectors.pointer, count: rowCount, width: width, query: query, mask: allowed,
          k: wanted, scores: scores, ids: ids)
        return (0..<found).map { Hit(row: Int(ids[$0]), score: scores[$0]) }
      }
    }
  }

  /// The inner products of some rows with a query.
  package func scores(of rows: some Sequence<Int>, with query: [Float]) -> [Float] {
    precondition(query.count == width, "a query of \(query.count) floats, rows of \(width)")
    return rows.map { row in
      precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
      return kernels.dot(vectors.pointer + row * width, query, count: width)
    }
  }

  /// The vector of a row, `[width]`.
  package func vector(at row: Int) -> [Float] {
    precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
    return Array(UnsafeBufferPointer(start: vectors.pointer + row * width, count: width))
  }
}
