import Domain
import Synchronization

/// The newest encoded vector of each user, good as long as the history that it came from stands.
///
/// The key is the history itself, so nothing has to expire: another event is another history. Two
/// halves of bounded size: a full young half becomes the old one, and what is asked for again moves
/// back, so users who come back stay and the others go.
final class UserVectorCache: Sendable {
  fileprivate struct Entry {
    var tokens: [ItemToken]
    var vector: [Float]
  }

  fileprivate struct Halves {
    var young: [UserID: Entry] = [:]
    var old: [UserID: Entry] = [:]
  }

  private let halves = Mutex(Halves())
  private let capacity: Int

  /// - Parameter capacity: users in each half; 32,768 users of 64 numbers and 50 tokens are 15 MB.
  init(capacity: Int = 32_768) { self.capacity = capacity }

  func forget(_ user: UserID) {
    halves.withLock { halves in
      halves.young[user] = nil
      halves.old[user] = nil
    }
  }

  func vector(
    of user: UserID, for tokens: [ItemToken], encode: () -> [Float]
  ) -> [Float] {
    let kept: [Float]? = halves.withLock { halves in
      if let entry = halves.young[user] { return entry.tokens == tokens ? entry.vector : nil }
      guard let entry = halves.old[user], entry.tokens == tokens else { return nil }
      halves.keep(entry, for: user, capacity)
      return entry.vector
    }
    if let kept { return kept }
    // Outside the lock: two queries of one user at once may both encode, which does no harm.
    let vector = encode()
    halves.withLock { $0.keep(Entry(tokens: tokens, vector: vector), for: user, capacity) }
    return vector
  }
}

extension UserVectorCache.Halves {
  fileprivate mutating func keep(
    _ entry: UserVectorCache.Entry, for user: UserID, _ capacity: Int
  ) {
    if young.count >= capacity, young[user] == nil {
      old = young
      young = [:]
    }
    young[user] = entry
  }
}

/// What one query has found out about the sessions that came with it, which retrieval and score both
/// ask for; a few at most.
final class SessionCache: Sendable {
  private struct Session {
    var model: String
    var tokens: [ItemToken]
    var vector: [Float]
  }

  private struct Known {
    var sessions: [Session] = []
    /// The items that were asked for last, and what the model knows of them.
    var items: [ItemID] = []
    var model = ""
    var tokens: [ItemToken] = []
  }

  private let known = Mutex(Known())

  func tokens(
    of items: [ItemID], _ model: String, read: () -> [ItemToken]
  ) -> [ItemToken] {
    let kept = known.withLock { $0.model == model && $0.items == items ? $0.tokens : nil }
    if let kept { return kept }
    let tokens = read()
    known.withLock { known in
      known.items = items
      known.model = model
      known.tokens = tokens
    }
    return tokens
  }

  func vector(of tokens: [ItemToken], _ model: String, encode: () -> [Float]) -> [Float] {
    let kept = known.withLock { known in
      known.sessions.first { $0.model == model && $0.tokens == tokens }?.vector
    }
    if let kept { return kept }
    let vector = encode()
    // Explanations leave one event out after the other, which never comes again.
    known.withLock { known in
      if known.sessions.count < 8 {
        known.sessions.append(Session(model: model, tokens: tokens, vector: vector))
      }
    }
    return vector
  }
}
