import Columns
import Dispatch
import Domain
import Kernels
import State
import Synchronization
import VectorIndex

/// The vectors of all users under one model, for searches that rank users.
///
/// Nothing is kept before the first such search. Later ones encode only the users whose history has
/// changed since. Where very many must be encoded, that happens beside the queries.
final class UserIndex: Sendable {
  /// The vectors as of one state; users without a vector are zero and not in `known`.
  struct Vectors: Sendable {
    var through: LogPosition
    var changes: ChunkedVector<Int32>
    var index: ExactIndex
    var known: Bitmap
    /// Whether histories of now are in it, or those of some moments ago.
    var isCurrent = true
  }

  /// Encodes a user, or gives nil where nothing is known that could be encoded.
  typealias Encode = @Sendable (UserState) -> [Float]?

  private struct Kept {
    var vectors: Vectors?
    var isBeingMade = false
  }

  private let kept = Mutex(Kept())
  private let width: Int
  private let kernels: Kernels
  /// More users are not encoded while a query waits: 5,000 take half a second.
  private static let mostWhileWaiting = 5000

  init(width: Int, kernels: Kernels) {
    self.width = width
    self.kernels = kernels
  }

  /// The vectors of the users of a state, or those of shortly before where too much has changed.
  ///
  /// - Throws: `not_ready` while they are made for the first time and there are many.
  func vectors(of state: StateSnapshot, encode: @escaping Encode) throws(Diagnostic) -> Vectors {
    let known = kept.withLock { $0.vectors }
    if let known, known.through >= state.through { return known }
    let changed = Self.changed(state, since: known)
    if changed.count <= Self.mostWhileWaiting {
      let made = Self.next(known, state, changed, width, kernels, encode)
      keep(made)
      return made
    }
    let mustStart = kept.withLock { kept in
      defer { kept.isBeingMade = true }
      return !kept.isBeingMade
    }
    if mustStart {
      let (width, kernels) = (width, kernels)
      DispatchQueue.global(qos: .utility).async { [self] in
        let made = Self.next(known, state, changed, width, kernels, encode)
        keep(made)
        kept.withLock { $0.isBeingMade = false }
      }
    }
    if var known {
      known.isCurrent = false
      return known
    }
    throw Diagnostic(
      .unavailable, code: "not_ready",
      "The vectors of \(changed.count) users are being made for the first time.",
      help: "Ask again in a while: 10,000 users take about a second.")
  }

  private func keep(_ made: Vectors) {
    kept.withLock { kept in
      if let old = kept.vectors, old.through >= made.through { return }
      kept.vectors = made
    }
  }

  /// The codes of the users whose history is another one than it was.
  private static func changed(_ state: StateSnapshot, since known: Vectors?) -> [Int] {
    var codes: [Int] = []
    state.historyChanges.forEachChunk { start, chunk in
      for (i, change) in chunk.enumerated() {
        let code = start + i
        if let known, code < known.changes.count, known.changes[code] == change { continue }
        codes.append(code)
      }
    }
    return codes
  }

  private static func next(
    _ known: Vectors?, _ state: StateSnapshot, _ changed: [Int], _ width: Int, _ kernels: Kernels,
    _ encode: Encode
  ) -> Vectors {
    var made =
      known
      ?? Vectors(
        through: .start, changes: ChunkedVector(),
        index: ExactIndex(vectors: [], width: width, kernels: kernels), known: Bitmap(count: 0))
    made.known.grow(to: max(made.known.count, state.historyChanges.count))
    let zeros = [Float](repeating: 0, count: width)
    for code in changed {
      let vector = encode(state.user(at: code))
      if code < made.index.rowCount {
        made.index.replace(row: code, with: vector ?? zeros)
      } else {
        // Codes grow without gaps, so every new user is among the changed ones.
        made.index.append(vector ?? zeros)
      }
      made.known[code] = vector != nil
    }
    made.through = state.through
    made.changes = state.historyChanges
    return made
  }
}
