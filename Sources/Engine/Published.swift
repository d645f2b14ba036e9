import Synchronization

/// The latest finished value of something rebuilt in the background.
///
/// The lock covers one assignment and never an `await`, so readers do not wait for a rebuild.
package final class Published<Value: Sendable>: Sendable {
  private let value: Mutex<Value>
  package init(_ initial: Value) { value = Mutex(initial) }
  package var current: Value { value.withLock { $0 } }
  package func publish(_ newValue: Value) { value.withLock { $0 = newValue } }
}
