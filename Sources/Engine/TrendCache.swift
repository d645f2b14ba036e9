import Domain
import Foundation
import State
import Synchronization

/// The order of all items by their newest interactions, each weighing half as much after a week.
///
/// It is worked out again when the log has grown by a hundredth since the last time, because it reads
/// every event.
final class TrendCache: Sendable {
  private struct Entry {
    var interactionCount: Int
    var itemCount: Int
    var order: [CatalogRow]
  }

  private let entry = Mutex<Entry?>(nil)
  private static let halfLifeSeconds = 7 * 86_400.0

  /// All rows of the catalog, the most trending first; of equal ones the newest first.
  func order(in state: StateSnapshot) -> [CatalogRow] {
    if let kept = entry.withLock({ $0 }), kept.itemCount == state.itemCount,
      abs(kept.interactionCount - state.interactionCount) <= kept.interactionCount / 100
    {
      return kept.order
    }
    var newest = -Double.infinity
    state.forEachUser { _, user in
      if let last = user.history.last { newest = max(newest, last.time.secondsSinceEpoch) }
    }
    var weights = [Double](repeating: 0, count: state.itemCount)
    state.forEachUser { _, user in
      for event in user.history where event.isPositive {
        let age = newest - event.time.secondsSinceEpoch
        weights[event.row.index] += exp2(-age / Self.halfLifeSeconds)
      }
    }
    let order = weights.indices.sorted {
      weights[$0] != weights[$1] ? weights[$0] > weights[$1] : $0 > $1
    }.map { CatalogRow($0) }
    entry.withLock {
      $0 = Entry(
        interactionCount: state.interactionCount, itemCount: state.itemCount, order: order)
    }
    return order
  }
}
