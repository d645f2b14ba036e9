import Columns
import Domain

/// Keys whose order as unsigned numbers is the order of what they stand for.
struct OrderKeys {
  private let isDescending: Bool
  private let ofNull: UInt64
  private(set) var keys: [UInt64] = []

  private init(count: Int, isDescending: Bool, nullsFirst: Bool) {
    self.isDescending = isDescending
    ofNull = nullsFirst ? 0 : .max
    keys.reserveCapacity(count)
  }

  /// Keys of numbers; NaN counts as missing.
  init(_ numbers: [Double?], isDescending: Bool, nullsFirst: Bool) {
    self.init(count: numbers.count, isDescending: isDescending, nullsFirst: nullsFirst)
    for number in numbers { append(number.flatMap { OrderKeys.bits($0) }) }
  }

  /// Keys of a column's cells at these rows.
  init(_ column: Column, _ rows: [CatalogRow], isDescending: Bool, nullsFirst: Bool) {
    self.init(count: rows.count, isDescending: isDescending, nullsFirst: nullsFirst)
    let present = column.present.gathered(rows)
    switch column.values {
    case .int(let values), .timestamp(let values):
      append(values.gathered(rows), present) { OrderKeys.bits($0) }
    case .double(let values):
      append(values.gathered(rows), present) { OrderKeys.bits($0) }
    case .bool(let values):
      append(values.gathered(rows), present) { OrderKeys.bits($0 ? Int64(1) : 0) }
    case .string(let vector):
      let codes = vector.gathered(rows)
      let used = Set(zip(codes, present).lazy.filter { $0.1 != 0 }.map(\.0))
      let sorted = used.sorted { column.dictionary[$0] < column.dictionary[$1] }
      let ranks = Dictionary(uniqueKeysWithValues: sorted.enumerated().map { ($1, Int64($0)) })
      append(codes, present) { OrderKeys.bits(ranks[$0] ?? 0) }
    case .strings, .ints, .doubles: preconditionFailure("lists have no order")
    }
  }

  private mutating func append<T>(_ values: [T], _ present: [UInt8], _ bits: (T) -> UInt64?) {
    for (value, isPresent) in zip(values, present) { append(isPresent != 0 ? bits(value) : nil) }
  }

  /// The two outermost keys belong to missing values; no finite number has them.
  private mutating func append(_ bits: UInt64?) {
    guard let bits else {
      keys.append(ofNull)
      return
    }
    keys.append(min(max(isDescending ? ~bits : bits, 1), .max - 1))
  }

  private static func bits(_ value: Int64) -> UInt64? { UInt64(bitPattern: value) ^ (1 << 63) }

  private static func bits(_ value: Double) -> UInt64? {
    if value.isNaN { return nil }
    let bits = (value == 0 ? 0 : value).bitPattern
    return bits >> 63 == 1 ? ~bits : bits | 1 << 63
  }
}

/// The places of the `count` least by these keys, in order; ties keep the order of the places.
///
/// - Complexity: one comparison for most places when `count` is small, and a heap of `count` places.
func smallest(_ count: Int, of total: Int, by keys: [[UInt64]]) -> [Int] {
  guard count > 0, total > 0, let first = keys.first else { return Array(0..<min(count, total)) }
  let rest = Array(keys.dropFirst())
  return first.withUnsafeBufferPointer { first in
    let order = KeyOrder(first: first, rest: rest)
    if count >= total / 4 {
      return Array((0..<total).sorted { order.isBefore($0, $1) }.prefix(count))
    }
    // A heap with the worst place kept on top.
    var heap = Array(0..<count)
    for at in stride(from: count / 2, through: 0, by: -1) { order.sink(at, in: &heap) }
    var worst = first[heap[0]]
    for place in count..<total where first[place] <= worst {
      guard order.isBefore(place, heap[0]) else { continue }
      heap[0] = place
      order.sink(0, in: &heap)
      worst = first[heap[0]]
    }
    return heap.sorted { order.isBefore($0, $1) }
  }
}

/// The order of places by several keys; the first is at hand, the others are seldom asked.
private struct KeyOrder {
  let first: UnsafeBufferPointer<UInt64>
  let rest: [[UInt64]]

  func isBefore(_ a: Int, _ b: Int) -> Bool {
    if first[a] != first[b] { return first[a] < first[b] }
    for column in rest where column[a] != column[b] { return column[a] < column[b] }
    return a < b
  }

  func sink(_ start: Int, in heap: inout [Int]) {
    var at = start
    while true {
      var child = 2 * at + 1
      guard child < heap.count else { return }
      if child + 1 < heap.count, isBefore(heap[child], heap[child + 1]) { child += 1 }
      guard isBefore(heap[at], heap[child]) else { return }
      heap.swapAt(at, child)
      at = child
    }
  }
}

extension ChunkedVector {
  /// The elements at these rows, in their order. Rows that ascend are read chunk by chunk.
  func gathered(_ rows: [CatalogRow]) -> [Element] {
    var out: [Element] = []
    out.reserveCapacity(rows.count)
    var at = 0
    while at < rows.count {
      let number = rows[at].index >> 10
      chunks[number].withUnsafeBufferPointer { chunk in
        while at < rows.count, rows[at].index >> 10 == number {
          out.append(chunk[rows[at].index & 1023])
          at += 1
        }
      }
    }
    return out
  }
}
