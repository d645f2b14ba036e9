import Models
import Synchronization

/// The rows of a sparse square matrix over items, made by several workers.
struct SimilarRows: Sendable {
  var offsets: [Int]
  var columns: [Int32]
  var weights: [Float]

  func model(recency: Recency) -> ItemNeighbours {
    ItemNeighbours(
      itemCount: offsets.count - 1, recency: recency, offsets: offsets, columns: columns,
      weights: weights)
  }

  /// What one worker fills: sums for the row in work, and the rows that are done.
  final class Scratch {
    let itemCount: Int
    /// `[N]`, zeros between two rows.
    let sums: UnsafeMutablePointer<Float>
    /// The entries of the row in work, in the order of their columns; `[N]` each.
    private let foundColumns: UnsafeMutablePointer<Int32>
    private let foundWeights: UnsafeMutablePointer<Float>
    private let largest = LargestEntries()
    fileprivate var lengths: [Int] = []
    fileprivate var columns: [Int32] = []
    fileprivate var weights: [Float] = []

    init(itemCount: Int) {
      self.itemCount = itemCount
      let capacity = max(1, itemCount)
      sums = .allocate(capacity: capacity)
      sums.initialize(repeating: 0, count: itemCount)
      foundColumns = .allocate(capacity: capacity)
      foundWeights = .allocate(capacity: capacity)
    }

    deinit {
      sums.deallocate()
      foundColumns.deallocate()
      foundWeights.deallocate()
    }

    /// Turns the sums into a row, without the item itself, and clears them.
    ///
    /// - Parameter limit: entries that are kept: those of greatest magnitude, of equals those that
    ///   come first.
    @inline(__always)
    func finish(_ item: Int, keeping limit: Int, _ value: (Int, Float) -> Float) {
      let (sums, foundColumns, foundWeights) = (sums, foundColumns, foundWeights)
      sums[item] = 0
      var count = 0
      for other in 0..<itemCount {
        let sum = sums[other]
        if sum == 0 { continue }
        sums[other] = 0
        let weight = value(other, sum)
        if weight != 0 {
          foundColumns[count] = Int32(truncatingIfNeeded: other)
          foundWeights[count] = weight
          count += 1
        }
      }
      count = largest.keep(limit, of: count, columns: foundColumns, weights: foundWeights)
      columns.append(contentsOf: UnsafeBufferPointer(start: foundColumns, count: count))
      weights.append(contentsOf: UnsafeBufferPointer(start: foundWeights, count: count))
      lengths.append(count)
    }
  }

  /// Makes every row; each worker does blocks of items by a fixed rule.
  static func gather(
    itemCount: Int, pool: WorkerPool, _ row: @Sendable (Scratch) -> (Int) -> Void
  ) -> SimilarRows {
    let block = 32
    let blocks = (itemCount + block - 1) / block
    typealias Part = (lengths: [Int], columns: [Int32], weights: [Float])
    let parts = Mutex([Part?](repeating: nil, count: blocks))
    pool.run { index in
      let scratch = Scratch(itemCount: itemCount)
      let fill = row(scratch)
      for b in stride(from: index, to: blocks, by: pool.count) {
        for item in (b * block)..<min(itemCount, (b + 1) * block) { fill(item) }
        let part = (scratch.lengths, scratch.columns, scratch.weights)
        parts.withLock { $0[b] = part }
        scratch.lengths = []
        scratch.columns = []
        scratch.weights = []
      }
    }
    var rows = SimilarRows(offsets: [0], columns: [], weights: [])
    let done = parts.withLock { $0 }
    rows.columns.reserveCapacity(done.reduce(0) { $0 + ($1?.columns.count ?? 0) })
    rows.weights.reserveCapacity(rows.columns.capacity)
    for part in done {
      guard let part else { continue }
      for length in part.lengths { rows.offsets.append((rows.offsets.last ?? 0) + length) }
      rows.columns += part.columns
      rows.weights += part.weights
    }
    return rows
  }
}

/// Finds the entries of greatest magnitude of a row, without sorting it.
///
/// The bits of positive floats stand in the order of their values. Their first eleven are counted, which
/// says in which of 2,048 classes the last entry lies that is kept; only that class is sorted.
package final class LargestEntries {
  private var counts = [Int32](repeating: 0, count: 2048)
  private var inClass: [UInt32] = []

  package init() {}

  /// Moves the entries of greatest magnitude to the front, in the order that they have; of equals
  /// those that come first.
  ///
  /// - Returns: how many there are: `limit`, or `count` where that is less.
  package func keep(
    _ limit: Int, of count: Int, columns: UnsafeMutablePointer<Int32>,
    weights: UnsafeMutablePointer<Float>
  ) -> Int {
    guard count > limit else { return count }
    guard limit > 0 else { return 0 }
    let shift: UInt32 = 20
    // The class of the last entry that is kept, and how many of it are kept.
    var last = 2047
    var wanted = limit
    counts.withUnsafeMutableBufferPointer { counts in
      counts.update(repeating: 0)
      for i in 0..<count { counts[Int(weights[i].magnitude.bitPattern >> shift)] += 1 }
      while Int(counts[last]) < wanted {
        wanted -= Int(counts[last])
        last -= 1
      }
    }
    inClass.removeAll(keepingCapacity: true)
    for i in 0..<count {
      let bits = weights[i].magnitude.bitPattern
      if Int(bits >> shift) == last { inClass.append(bits) }
    }
    inClass.sort(by: >)
    let least = inClass[wanted - 1]
    // Of those equal to the least, as many as there is place for.
    var equals = wanted - (inClass.firstIndex(of: least) ?? 0)
    var kept = 0
    for i in 0..<count {
      let bits = weights[i].magnitude.bitPattern
      if bits < least { continue }
      if bits == least {
        if equals == 0 { continue }
        equals -= 1
      }
      columns[kept] = columns[i]
      weights[kept] = weights[i]
      kept += 1
    }
    return kept
  }
}
