import Columns
import QueryLanguage
import Synchronization

/// Bitmaps of conditions for the newest version of a catalog that was asked about.
///
/// The key is the condition with its parameters' values in it. A query that still reads an older version
/// neither finds nor leaves anything.
final class PredicateCache: Sendable {
  private struct Entry {
    var rows: Bitmap
    var lastUsed: UInt64
  }
  private struct State {
    var version: UInt64 = 0
    var entries: [Expression: Entry] = [:]
    var bytes = 0
    var tick: UInt64 = 0
  }

  private let state = Mutex(State())
  private let mostBytes: Int
  private static let mostEntries = 512

  init(mostBytes: Int) { self.mostBytes = mostBytes }

  func rows(_ condition: Expression, version: UInt64) -> Bitmap? {
    state.withLock { state in
      guard state.version == version, var entry = state.entries[condition] else { return nil }
      state.tick += 1
      entry.lastUsed = state.tick
      state.entries[condition] = entry
      return entry.rows
    }
  }

  func keep(_ rows: Bitmap, for condition: Expression, version: UInt64) {
    let bytes = rows.words.count * 8 + 256
    guard bytes <= mostBytes else { return }
    state.withLock { state in
      if version < state.version { return }
      if version > state.version {
        state = State(version: version, tick: state.tick)
      }
      while state.entries.count >= PredicateCache.mostEntries || state.bytes + bytes > mostBytes {
        guard let oldest = state.entries.min(by: { $0.value.lastUsed < $1.value.lastUsed }) else {
          break
        }
        state.bytes -= oldest.value.rows.words.count * 8 + 256
        state.entries[oldest.key] = nil
      }
      state.tick += 1
      if state.entries.updateValue(Entry(rows: rows, lastUsed: state.tick), forKey: condition)
        == nil
      {
        state.bytes += bytes
      }
    }
  }

  /// How many conditions are kept.
  var count: Int { state.withLock { $0.entries.count } }
}
