import Domain
import Synchronization

/// The values of an IN list, NULL left out.
///
/// A list of ids is mostly turned into rows by the column's dictionary, so the set is made only when a
/// value is first looked for.
final class ValueList: Sendable {
  let values: [Value]
  private let hashed = AtomicLazyReference<Hashed>()

  private final class Hashed: Sendable {
    let set: Set<Value>
    init(_ values: [Value]) { set = Set(values) }
  }

  /// - Parameter values: one may stand twice.
  init(_ values: [Value]) { self.values = values }

  func contains(_ value: Value) -> Bool {
    (hashed.load() ?? hashed.storeIfNil(Hashed(values))).set.contains(value)
  }
}
