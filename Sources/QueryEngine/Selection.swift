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
    for number in numbers {
      if let number { append(number) } else { keys.append(ofNull) }
    }
  }

  /// Keys of a column's cells at these rows.
  init(_ column: Column, _ rows: [CatalogRow], isDescending: Bool, nullsFirst: Bool) {
    self.init(count: rows.count, isDescending: isDescending, nullsFirst: nullsFirst)
    let present = column.present
    switch column.values {
    case .int(let values), .timestamp(let values):
      for row in rows {
        if present[row.index] == 0 { keys.append(ofNull) } else { append(values[row.index]) }
      }
    case .double(let values):
      for row in rows {
        if present[row.index] == 0 { keys.append(ofNull) } else { append(values[row.index]) }
      }
    case .bool(let values):
      for row in rows {
        if present[row.index] == 0 {
          keys.append(ofNull)
        } else {
          append(values[row.index] ? Int64(1) : 0)
        }
      }
    case .string(let codes):
      let used = Set(rows.lazy.filter { present[$0.index] != 0 }.map { codes[$0.index] })
      let sorted = used.sorted { column.dictionary[$0] < column.dictionary[$1] }
      let ranks = Dictionary(uniqueKeysWithValues: sorted.enumerated().map { ($1, Int64($0)) })
      for row in rows {
        if present[row.index] != 0, let rank = ranks[codes[row.index]] {
          append(rank)
        } else {
          keys.append(ofNull)
        }
      }
    case .strings, .ints, .doubles: preconditionFailure("lists have no order")
    }
  }

  private mutating func append(_ value: Int64) {
    append(bits: UInt64(bitPattern: value) ^ (1 << 63))
  }

  private mutating func append(_ value: Double) {
    if value.isNaN {
      keys.append(ofNull)
      return
    }
    let bits = (value == 0 ? 0 : value).bitPattern
    append(bits: bits >> 63 == 1 ? ~bits : bits | 1 << 63)
  }

  /// The two outermost keys belong to missing values; no finite number has them.
  private mutating func append(bits: UInt64) {
    keys.append(min(max(isDescending ? ~bits : bits, 1), .max - 1))
  }
}

/// The places of the `count` least by these keys, in order; ties keep the order of the places.
///
/// - Complexity: one comparison for most places when `count` is small, and a heap of `count` places.
func smallest(_ count: Int, of total: Int, by keys: [[UInt64]]) -> [Int] {
  func isBefore(_ a: Int, _ b: Int) -> Bool {
    for column in keys where column[a] != column[b] { return column[a] < column[b] }
    return a < b
  }
  guard count > 0, total > 0 else { return [] }
  if count >= total / 4 {
    return Array((0..<total).sorted(by: isBefore).prefix(count))
  }
  // A heap with the worst place kept on top.
  var heap = Array(0..<count)
  func sink(_ start: Int) {
    var at = start
    while true {
      var child = 2 * at + 1
      guard child < count else { return }
      if child + 1 < count, isBefore(heap[child], heap[child + 1]) { child += 1 }
      guard isBefore(heap[at], heap[child]) else { return }
      heap.swapAt(at, child)
      at = child
    }
  }
  for at in stride(from: count / 2, through: 0, by: -1) { sink(at) }
  for place in count..<total where isBefore(place, heap[0]) {
    heap[0] = place
    sink(0)
  }
  return heap.sorted(by: isBefore)
}
