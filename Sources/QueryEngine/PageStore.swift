package import Domain
import Synchronization

/// The items that were returned under each pagination key, for as long as a page lives.
///
/// Pages of one key are made one after the other, so that two requests at once never return the same
/// item. Nothing is written to disk: after a restart a key begins again.
package final class PageStore: Sendable {
  private final class Page: Sendable {
    let shown = Mutex<Set<ItemID>>([])
  }
  private struct Entry {
    var page: Page
    var ends: Timestamp
  }

  /// How long a key is remembered after its last page.
  package let lifetimeSeconds: Double
  private let entries = Mutex<[String: Entry]>([:])
  private let mostKeys: Int
  /// A key that has shown this many items starts again: nobody pages that far, and memory is finite.
  private static let mostItems = 100_000

  package init(lifetimeSeconds: Double = 1800, mostKeys: Int = 100_000) {
    self.lifetimeSeconds = lifetimeSeconds
    self.mostKeys = max(1, mostKeys)
  }

  /// Makes the next page of a key.
  ///
  /// - Parameters:
  ///   - restarts: whether the items of earlier pages are forgotten first.
  ///   - body: gets the items shown so far and returns its answer with the items of the new page.
  package func next<Answer: Sendable>(
    _ key: String, now: Timestamp, restarts: Bool,
    _ body: (Set<ItemID>) throws -> (answer: Answer, shown: [ItemID])
  ) rethrows -> Answer {
    let page = page(key, now, restarts: restarts)
    return try page.shown.withLock { shown in
      let made = try body(shown)
      if shown.count + made.shown.count > Self.mostItems { shown = [] }
      shown.formUnion(made.shown)
      return made.answer
    }
  }

  /// How many keys are remembered.
  package var keyCount: Int { entries.withLock { $0.count } }

  private func page(_ key: String, _ now: Timestamp, restarts: Bool) -> Page {
    let ends = Timestamp(secondsSinceEpoch: now.secondsSinceEpoch + lifetimeSeconds)
    return entries.withLock { entries in
      if let entry = entries[key], entry.ends > now, !restarts {
        entries[key]?.ends = ends
        return entry.page
      }
      if entries.count >= mostKeys, entries[key] == nil {
        entries = entries.filter { $0.value.ends > now }
        // Half of them at once, so that a full store does not sort on every request.
        if entries.count >= mostKeys {
          let oldest = entries.sorted { $0.value.ends < $1.value.ends }
          for entry in oldest.prefix((entries.count + 1) / 2) { entries[entry.key] = nil }
        }
      }
      let page = Page()
      entries[key] = Entry(page: page, ends: ends)
      return page
    }
  }
}

/// The page that a request asks for.
package struct PageRequest: Sendable {
  package var store: PageStore
  /// Any text of the client's, such as a session's id; the engine's name belongs in front of it where
  /// engines share a store.
  package var key: String
  /// `ignore_pagination`: begin again.
  package var restarts: Bool
  package init(store: PageStore, key: String, restarts: Bool = false) {
    self.store = store
    self.key = key
    self.restarts = restarts
  }
}
