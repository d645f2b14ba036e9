/// One place for each worker's result. Unchecked Sendable: every worker writes its own place.
final class WorkerResults<Value>: @unchecked Sendable {
  private let values: UnsafeMutablePointer<Value?>
  private let count: Int
  init(count: Int) {
    self.count = count
    values = .allocate(capacity: count)
    values.initialize(repeating: nil, count: count)
  }
  deinit {
    values.deinitialize(count: count)
    values.deallocate()
  }
  func set(_ value: Value, _ worker: Int) { values[worker] = value }
  var all: [Value] { (0..<count).compactMap { values[$0] } }
}
