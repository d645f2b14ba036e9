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
  ) -> SearchAnswer? {
    vectors?.searcher.current.nearest(
      to: vector, count: count, among: among.words, useExactSearch: exactly)
  }

  /// The rows of the bitmap with the highest of the scores, which are by token: best first, of equal
  /// ones the first row.
  func best(_ scores: [Float], count: Int, among: Bitmap) -> [(row: Int, score: Float)] {
    let rows = among.rows.filter { token(of: CatalogRow($0)) != nil }
    let values = rows.map { scores[token(of: CatalogRow($0))?.index ?? 0] }
    return values.withUnsafeBufferPointer { values in
      Standing.best(count, of: values).map { (rows[$0], values[$0]) }
    }
  }

  /// The lists that searches ask; nil where they are exact.
  package var partition: Partition? { vectors?.searcher.current.partitioned?.partition }

  /// The vectors that a partition is made of: those of the tokens, in their order. So a partition
  /// belongs to the weights, and not to the numbers that one process gives to the rows of its catalog.
  func tokenIndex(_ kernels: SearchKernels) -> ExactIndex? {
    (vectors?.model).map {
      ExactIndex(vectors: $0.itemVectors, width: $0.width, kernels: kernels)
    }
  }

  /// Searches by a partition from now on.
  ///
  /// - Parameter partition: of `tokenIndex`.
  /// - Returns: false where the catalog lacks an item of the model, so that tokens have no rows.
  func use(_ partition: Partition) -> Bool {
    guard let vectors else { return false }
    let index = vectors.index
    var rows = [Int32](repeating: -1, count: vocabulary.count)
    for row in 0..<index.rowCount {
      if let token = token(of: CatalogRow(row)) { rows[token.index] = Int32(row) }
    }
    guard rows.allSatisfy({ $0 >= 0 }) else { return false }
    var next = vectors.searcher.current
    next.use(partition.renumbered(rows, bound: index.rowCount))
    vectors.searcher.publish(next)
    return true
  }

  /// The newest positive events of a history with items that the model knows, oldest first.
  func recentEvents(
    of history: [Interaction], in state: StateSnapshot, limit: Int
  ) -> [Interaction] {
    let kinds = policy.eventValues.map { names in names.compactMap { state.eventCode($0) } }
    var events: [Interaction] = []
    events.reserveCapacity(min(limit, history.count))
    for interaction in history.reversed() where interaction.isPositive {
      if let kinds, !kinds.contains(interaction.event) { continue }
      if token(of: interaction.row) == nil { continue }
      events.append(interaction)
      if events.count == limit { break }
    }
    events.reverse()
    return events
  }

  /// Events as the model sees them.
  ///
  /// - Precondition: the model knows their items.
  func history(_ events: [Interaction], at moment: Timestamp?) -> History {
    History(
      events.compactMap { token(of: $0.row) }[...],
      times: model.usesTimes ? events.map(\.time)[...] : nil, moment: moment)
  }

  /// Vectors of users, spread evenly over all of them: the queries that an index will be asked.
  func sampleQueries(_ count: Int, of state: StateSnapshot) -> [[Float]] {
    guard let vectors else { return [] }
    let step = max(1, state.userCount / max(1, count))
    var queries: [[Float]] = []
    var number = 0
    state.forEachUser { _, user in
      defer { number += 1 }
      guard number % step == 0, queries.count < count else { return }
      let events = recentEvents(of: user.history, in: state, limit: model.maximumLength)
      if let last = events.last {
        queries.append(vectors.model.encode(history(events, at: last.time)))
      }
    }
    return queries
  }
}
