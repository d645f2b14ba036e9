import Connectors
import Domain
import Foundation
import Synchronization

/// A log in memory that keeps the sink's promise: rows and position together or not at all.
final class MemorySink: EventSink {
  struct Store: Sendable {
    var rows: [Delivery.Row] = []
    var rejects: [Delivery.Reject] = []
    var positions: [String: [String: JSON]] = [:]
    var deliveries = 0
    /// What the next deliveries come to, before they are stored; used up from the front.
    var faults: [Fault] = []
  }

  enum Fault: Sendable {
    /// Nothing is stored.
    case refused(Diagnostic)
    /// Everything is stored, and the caller is told otherwise.
    case lostAnswer
    case none
  }

  private let store = Mutex(Store())

  init(faults: [Fault] = []) { store.withLock { $0.faults = faults } }

  var now: Store { store.withLock { $0 } }

  func add(_ faults: [Fault]) { store.withLock { $0.faults += faults } }
  func clearFaults() { store.withLock { $0.faults = [] } }

  func positions(of source: String) async throws -> [String: JSON] {
    store.withLock { $0.positions[source] ?? [:] }
  }

  func deliver(_ delivery: Delivery) async throws -> DeliveryReceipt {
    let fault = store.withLock { store in
      let fault = store.faults.isEmpty ? Fault.none : store.faults.removeFirst()
      if case .refused = fault { return fault }
      store.rows += delivery.rows
      store.rejects += delivery.rejects
      store.deliveries += 1
      if let position = delivery.position {
        store.positions[delivery.source, default: [:]][delivery.stream] = position
      }
      return fault
    }
    switch fault {
    case .refused(let problem): throw problem
    case .lostAnswer:
      throw Diagnostic(.unavailable, code: "disk_fault", "The disk does not answer.")
    case .none:
      return DeliveryReceipt(
        rowCount: delivery.rows.count, deadLetterCount: delivery.rejects.count)
    }
  }

  /// A column's values, in the order in which they came in.
  func values(_ column: String) -> [String] {
    now.rows.map { $0.columns[column].map { $0.string ?? $0.text } ?? "" }
  }
}

/// A clock that stands still but for the waits, which it only counts.
final class FakeClock: Sendable {
  private struct State {
    var microseconds: Int64 = 1_767_607_200_000_000
    var waits: [Duration] = []
  }
  private let state = Mutex(State())

  var clock: SourceClock {
    SourceClock(
      now: { [self] in
        Timestamp(microsecondsSinceEpoch: state.withLock { $0.microseconds })
      },
      sleep: { [self] wait in
        try Task.checkCancellation()
        state.withLock { state in
          state.waits.append(wait)
          state.microseconds +=
            wait.components.seconds * 1_000_000 + wait.components.attoseconds / 1_000_000_000_000
        }
        await Task.yield()
      })
  }

  var waits: [Duration] { state.withLock { $0.waits } }
}

func definition(_ text: JSON) throws -> SourceDefinition { try SourceDefinition(text) }

/// Waits for something that another task brings about.
func eventually(_ condition: () -> Bool) async {
  while !condition() { await Task.yield() }
}

func withTemporaryFolder<R>(_ body: (String) async throws -> R) async throws -> R {
  let path = NSTemporaryDirectory() + "riffle-connectors-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try await body(path)
}

/// Steele, Lea & Flood's SplitMix64.
struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Three seeds always, and a new one each run, which a failure names.
let runSeeds: [UInt64] = [
  1, 2, 3,
  ProcessInfo.processInfo.environment["RIFFLE_SEED"].flatMap { UInt64($0) }
    ?? .random(in: 4...1_000_000),
]
