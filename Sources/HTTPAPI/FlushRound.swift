import NIOCore
import Synchronization

/// The answers that an event loop gave between two looks at its sockets, to be sent together.
///
/// A write that finds its reader asleep wakes it, and on a virtual machine that takes as long as a
/// small query. Written in one go, the first wakes the reader and the others find it awake. Redis
/// replies before it sleeps, for the same reason.
final class FlushRound {
  /// An answer waits for so many others at most.
  private static let longest = 8

  private var waiting: [ChannelHandlerContext] = []

  private static let rounds = Mutex<[ObjectIdentifier: NIOLoopBound<FlushRound>]>([:])

  /// The round of an event loop, which must be the one that calls.
  static func of(_ loop: any EventLoop) -> FlushRound {
    rounds.withLock { rounds in
      if let known = rounds[ObjectIdentifier(loop)] { return known }
      let round = NIOLoopBound(FlushRound(), eventLoop: loop)
      rounds[ObjectIdentifier(loop)] = round
      return round
    }.value
  }

  /// Takes up a channel that has an answer to send.
  func add(_ context: ChannelHandlerContext) {
    waiting.append(context)
    if waiting.count == Self.longest {
      flush()
    } else if waiting.count == 1 {
      // Runs when all sockets that were ready have been read.
      let round = NIOLoopBound(self, eventLoop: context.eventLoop)
      context.eventLoop.execute { round.value.flush() }
    }
  }

  private func flush() {
    let now = waiting
    waiting.removeAll(keepingCapacity: true)
    for context in now { context.flush() }
  }
}
