package import Storage
import Worlds

/// What one round of the drill does: when it kills, and what it does to the disk before. The seed and
/// the round's number decide it; how far the server comes in that time is the machine's chance.
package struct RoundPlan: Hashable, Sendable {
  /// When the server is killed.
  package enum Moment: Hashable, Sendable {
    /// So long after it was started, whatever it does then.
    case starting(milliseconds: Int)
    /// So long after the clients began.
    case serving(milliseconds: Int)
    /// In a checkpoint of the write-ahead log.
    case checkpoint(microseconds: Int)
    /// While an engine's state is stored and the older one goes.
    case storingState(microseconds: Int)
    /// So long after it was told to stop.
    case stopping(milliseconds: Int)
    /// When Kafka's records have begun to come in.
    case consuming(milliseconds: Int)

    package var name: String {
      switch self {
      case .starting: "starting"
      case .serving: "serving"
      case .checkpoint: "in a checkpoint"
      case .storingState: "storing a state"
      case .stopping: "stopping"
      case .consuming: "consuming from Kafka"
      }
    }
  }

  package struct Fault: Hashable, Sendable {
    package var kinds: DiskFaults.Kinds
    /// Whether it is there when the server starts.
    package var isThereAtStart: Bool
    package var afterMilliseconds: Int
    /// nil: until the server is dead.
    package var milliseconds: Int?
  }

  package var moment: Moment
  package var fault: Fault?

  package init(seed: UInt64, round: Int, consumes: Bool) {
    var generator = SeededGenerator(seed: seed, stream: UInt64(round) + 1)
    // Short times are as likely as long ones, in proportion.
    func milliseconds(_ generator: inout SeededGenerator, _ range: ClosedRange<Int>) -> Int {
      var longest = range.lowerBound
      while longest < range.upperBound, generator.chance(0.75) { longest *= 2 }
      return generator.integer(
        in: range.lowerBound...min(max(longest, range.lowerBound), range.upperBound))
    }
    switch generator.below(100) {
    case 0..<16: moment = .starting(milliseconds: generator.integer(in: 0...70))
    case 16..<28: moment = .checkpoint(microseconds: generator.below(1500))
    case 28..<40: moment = .storingState(microseconds: generator.below(2500))
    case 40..<50: moment = .stopping(milliseconds: generator.below(40))
    case 50..<54 where consumes: moment = .consuming(milliseconds: generator.below(60))
    default: moment = .serving(milliseconds: milliseconds(&generator, 4...500))
    }
    guard generator.chance(0.35) else { return }
    let kinds: DiskFaults.Kinds =
      switch generator.below(5) {
      case 0, 1: .fullDisk
      case 2, 3: .failingSyncs
      default: [.fullDisk, .failingSyncs]
      }
    // A round that ends while the server starts has its fault from the first.
    let isStarting = if case .starting = moment { true } else { false }
    fault = Fault(
      kinds: kinds, isThereAtStart: generator.chance(0.2) || isStarting,
      afterMilliseconds: milliseconds(&generator, 2...120),
      milliseconds: generator.chance(0.6) ? milliseconds(&generator, 5...120) : nil)
  }
}
