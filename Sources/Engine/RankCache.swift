import Columns
import Domain
import State
import Synchronization

/// The order of all items by a weight that each event moves a little: popularity, or trend.
///
/// It follows the newest state whenever it is asked for: rows whose weight has changed are taken out
/// of the order and put back where they belong now, which costs a pass over the rows and no sorting
/// of all of them.
final class RankCache<Weight: Comparable & Sendable>: Sendable {
  private struct Entry {
    var through: LogPosition
    var weights: [Weight]
    var order: [CatalogRow]
    var ranks: Column?
  }

  private let entry = Mutex<Entry?>(nil)
  private let weights: @Sendable (StateSnapshot) -> ChunkedVector<Weight>

  init(_ weights: @escaping @Sendable (StateSnapshot) -> ChunkedVector<Weight>) {
    self.weights = weights
  }

  /// All rows of the catalog, the heaviest first; of equal ones the newest first.
  func order(in state: StateSnapshot) -> [CatalogRow] { current(state).order }

  /// The rank of each row, from 1.
  func column(in state: StateSnapshot) -> Column {
    let entry = current(state)
    if let ranks = entry.ranks { return ranks }
    var ranks = [Int64](repeating: 0, count: entry.order.count)
    for (rank, row) in entry.order.enumerated() { ranks[row.index] = Int64(rank + 1) }
    let column = Column(
      type: .int64, dictionary: StringDictionary(),
      present: ChunkedVector([UInt8](repeating: 1, count: ranks.count)),
      values: .int(ChunkedVector(ranks)))
    self.entry.withLock { kept in
      if kept?.through == entry.through { kept?.ranks = column }
    }
    return column
  }

  private func current(_ state: StateSnapshot) -> Entry {
    let kept = entry.withLock { $0 }
    if let kept, kept.through == state.through { return kept }
    // Outside the lock: two queries at once may both work it out, which does no harm.
    var weights: [Weight] = []
    weights.reserveCapacity(state.itemCount)
    self.weights(state).forEachChunk { _, chunk in weights += chunk }
    let order: [CatalogRow]
    if let kept, kept.weights.count <= weights.count {
      order = Self.moved(kept, to: weights)
    } else {
      order = Self.sorted(weights.indices.map { Int32($0) }, weights).map { CatalogRow($0) }
    }
    let new = Entry(through: state.through, weights: weights, order: order)
    entry.withLock { kept in
      if kept.map({ $0.through < new.through }) ?? true { kept = new }
    }
    return new
  }

  private static func precedes(_ a: Int32, _ b: Int32, _ weights: [Weight]) -> Bool {
    let (first, second) = (weights[Int(a)], weights[Int(b)])
    return first != second ? first > second : a > b
  }

  private static func sorted(_ rows: [Int32], _ weights: [Weight]) -> [Int32] {
    rows.sorted { precedes($0, $1, weights) }
  }

  private static func moved(_ old: Entry, to weights: [Weight]) -> [CatalogRow] {
    var hasChanged = [Bool](repeating: false, count: weights.count)
    var changed: [Int32] = []
    for row in weights.indices where row >= old.weights.count || old.weights[row] != weights[row] {
      hasChanged[row] = true
      changed.append(Int32(row))
    }
    if changed.isEmpty { return old.order }
    changed = sorted(changed, weights)
    var order: [CatalogRow] = []
    order.reserveCapacity(weights.count)
    var next = 0
    for row in old.order where !hasChanged[row.index] {
      while next < changed.count, precedes(changed[next], row.rawValue, weights) {
        order.append(CatalogRow(changed[next]))
        next += 1
      }
      order.append(row)
    }
    order += changed[next...].map { CatalogRow($0) }
    return order
  }
}
