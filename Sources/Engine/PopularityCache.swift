import Columns
import Domain
import State
import Synchronization

/// The order of all items by their number of interactions, made anew when the state has moved.
final class PopularityCache: Sendable {
  private struct Entry {
    var through: LogPosition
    var order: [CatalogRow]
  }

  private let entry = Mutex<Entry?>(nil)

  /// All rows of the catalog, most interactions first; of equal ones the newest first.
  func order(in state: StateSnapshot) -> [CatalogRow] {
    if let kept = entry.withLock({ $0 }), kept.through == state.through { return kept.order }
    var counts: [Int32] = []
    counts.reserveCapacity(state.itemCount)
    state.interactionCounts.forEachChunk { _, chunk in counts += chunk }
    let order = counts.indices.sorted {
      counts[$0] != counts[$1] ? counts[$0] > counts[$1] : $0 > $1
    }.map { CatalogRow($0) }
    entry.withLock { $0 = Entry(through: state.through, order: order) }
    return order
  }
}
