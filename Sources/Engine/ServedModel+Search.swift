import Columns
import Domain
import Kernels
import Models
import State
package import VectorIndex

extension ServedModel {
  /// The rows of the bitmap that fit a vector best, by the quickest search that there is by now.
  ///
  /// - Parameters:
  ///   - among: rows that the model knows, none past them.
  ///   - exactly: whether the partition stays out of it.
  func nearest(
    to vector: [Float], count: Int, among: Bitmap, exactly: Bool
  ) -> SearchAnswer {
    searcher.current.nearest(
      to: vector, count: count, among: among.words, useExactSearch: exactly)
  }

  /// The lists that searches ask; nil where they are exact.
  package var partition: Partition? { searcher.current.partitioned?.partition }

  /// The vectors that a partition is made of: those of the tokens, in their order. So a partition
  /// belongs to the weights, and not to the numbers that one process gives to the rows of its catalog.
  func tokenIndex(_ kernels: SearchKernels) -> ExactIndex {
    ExactIndex(vectors: model.itemVectors, width: model.configuration.width, kernels: kernels)
  }

  /// Searches by a partition from now on.
  ///
  /// - Parameter partition: of `tokenIndex`.
  /// - Returns: false where the catalog lacks an item of the model, so that tokens have no rows.
  func use(_ partition: Partition) -> Bool {
    var rows = [Int32](repeating: -1, count: vocabulary.count)
    for row in 0..<index.rowCount {
      if let token = token(of: CatalogRow(row)) { rows[token.index] = Int32(row) }
    }
    guard rows.allSatisfy({ $0 >= 0 }) else { return false }
    var next = searcher.current
    next.use(partition.renumbered(rows, bound: index.rowCount))
    searcher.publish(next)
    return true
  }

  /// The newest positive items of a history that the model knows, oldest first.
  func recentRows(
    of history: [Interaction], in state: StateSnapshot, limit: Int
  ) -> [CatalogRow] {
    let kinds = policy.eventValues.map { names in names.compactMap { state.eventCode($0) } }
    var rows: [CatalogRow] = []
    rows.reserveCapacity(min(limit, history.count))
    for interaction in history.reversed() where interaction.isPositive {
      if let kinds, !kinds.contains(interaction.event) { continue }
      if token(of: interaction.row) == nil { continue }
      rows.append(interaction.row)
      if rows.count == limit { break }
    }
    rows.reverse()
    return rows
  }

  /// Vectors of users, spread evenly over all of them: the queries that an index will be asked.
  func sampleQueries(_ count: Int, of state: StateSnapshot) -> [[Float]] {
    let step = max(1, state.userCount / max(1, count))
    var queries: [[Float]] = []
    var number = 0
    state.forEachUser { _, user in
      defer { number += 1 }
      guard number % step == 0, queries.count < count else { return }
      let rows = recentRows(of: user.history, in: state, limit: policy.maximumLength)
      let tokens = rows.compactMap { token(of: $0) }
      if !tokens.isEmpty { queries.append(model.encode(tokens)) }
    }
    return queries
  }
}
