import CKernels

/// Lists of rows that lie near each other, made once for the rows of an index and then never changed.
///
/// A list's rows stand side by side as bytes. A search asks the lists whose mean row promises most;
/// how many it must ask for a given recall was measured when the partition was made.
package final class Partition: @unchecked Sendable {
  // Unchecked: all is written in the initialiser and only read afterwards.

  /// The probes that a search needs whose answer reaches so deep into the unfiltered ranking.
  package struct Step: Hashable, Sendable {
    /// Rows of the unfiltered ranking: the count wanted divided by the share of rows allowed.
    package var depth: Int
    /// Lists to ask.
    package var probes: Int
    /// The share of the first `depth` rows that those lists held, over the sampled queries.
    package var recall: Double
  }

  /// The rows in its lists.
  package let rowCount: Int
  /// No row in its lists has this number or a higher one: `rowCount`, unless it was renumbered.
  package let rowBound: Int
  package let width: Int
  package let seed: UInt64
  /// The recall that was asked for.
  package let target: Double
  /// The queries that the recall was measured with.
  package let sampledQueries: Int
  /// Deeper and deeper.
  package let steps: [Step]
  /// Which vectors it was made from.
  package let fingerprint: UInt64
  /// The mean row of each list.
  let means: ExactIndex
  let allLists: [UInt64]
  /// The rows of the lists, list by list.
  let ids: [Int32]
  let sizes: [Int]
  let lists: [rk_list]
  private let memory: RowMemory
  private let idMemory: UnsafeMutablePointer<Int32>

  package var listCount: Int { sizes.count }

  /// - Parameters:
  ///   - rows: as the partition was made from.
  ///   - ids: each of the first `ids.count` rows once.
  ///   - sizes: of the lists; their sum is `ids.count`.
  init(
    rows: ExactIndex, means: ExactIndex, ids: [Int32], sizes: [Int], steps: [Step], target: Double,
    sampledQueries: Int, seed: UInt64, fingerprint: UInt64
  ) {
    precondition(sizes.reduce(0, +) == ids.count && means.rowCount == sizes.count)
    rowCount = ids.count
    rowBound = ids.count
    width = rows.width
    self.seed = seed
    self.target = target
    self.sampledQueries = sampledQueries
    self.steps = steps
    self.fingerprint = fingerprint
    self.means = means
    self.ids = ids
    self.sizes = sizes
    allLists = everyRow(sizes.count)
    let stride = rows.codeStride
    // A scan reads blocks of 64 rows from a list's first row on, so up to 63 past the last.
    let memory = RowMemory(capacity: ids.count + 64, floatStride: 0, codeStride: stride)
    let idMemory = UnsafeMutablePointer<Int32>.allocate(capacity: max(1, ids.count))
    ids.withUnsafeBufferPointer { source in
      if let start = source.baseAddress { idMemory.initialize(from: start, count: ids.count) }
    }
    var lists: [rk_list] = []
    var start = 0
    for size in sizes {
      var error: Float = 0
      var norm: Float = 0
      for place in start..<start + size {
        var rest: Float = 0
        var length: Float = 0
        rows.withVector(at: Int(ids[place])) {
          rk_quantise(
            $0.baseAddress, rows.width, stride, memory.codes + place * stride,
            memory.scales + place, &rest, &length)
        }
        error = max(error, rest)
        norm = max(norm, length)
      }
      lists.append(
        rk_list(
          codes: memory.codes + start * stride, scales: memory.scales + start,
          ids: idMemory + start, count: size, error: error, norm: norm))
      start += size
    }
    self.memory = memory
    self.idMemory = idMemory
    self.lists = lists
  }

  /// The same lists over the same vectors, which have other row numbers now.
  private init(_ other: Partition, numbers: [Int32], bound: Int) {
    rowCount = other.rowCount
    rowBound = bound
    width = other.width
    seed = other.seed
    target = other.target
    sampledQueries = other.sampledQueries
    steps = other.steps
    fingerprint = other.fingerprint
    means = other.means
    allLists = other.allLists
    sizes = other.sizes
    memory = other.memory
    let idMemory = UnsafeMutablePointer<Int32>.allocate(capacity: max(1, numbers.count))
    ids = other.ids.map { numbers[Int($0)] }
    ids.withUnsafeBufferPointer { source in
      if let start = source.baseAddress { idMemory.initialize(from: start, count: source.count) }
    }
    var start = 0
    var lists = other.lists
    for place in lists.indices {
      lists[place].ids = UnsafePointer(idMemory + start)
      start += sizes[place]
    }
    self.idMemory = idMemory
    self.lists = lists
  }

  /// The partition for an index that holds the same vectors under other row numbers, and perhaps
  /// others beside them. What is written to a file is the partition with its first numbers.
  ///
  /// - Parameters:
  ///   - numbers: the new number of each row, all different.
  ///   - bound: above all of them; rows of an index from here on count as added later.
  package func renumbered(_ numbers: [Int32], bound: Int) -> Partition {
    precondition(
      numbers.count == rowCount && rowBound == rowCount,
      "\(numbers.count) numbers for \(rowCount) rows below \(rowBound)")
    precondition(
      numbers.allSatisfy { $0 >= 0 && Int($0) < bound }, "row numbers go from 0 to \(bound - 1)")
    return Partition(self, numbers: numbers, bound: bound)
  }

  deinit { idMemory.deallocate() }
}

/// A bitmap of all of `count` rows.
func everyRow(_ count: Int) -> [UInt64] {
  var words = [UInt64](repeating: .max, count: (count + 63) / 64)
  if count & 63 != 0 { words[words.count - 1] = (1 << UInt64(count & 63)) - 1 }
  return words
}

extension ExactIndex {
  /// A number that tells these vectors from others: four interleaved FNV-1a sums over the bits of all
  /// floats, row by row, and one over the four.
  func fingerprint(rows: Int) -> UInt64 {
    var a = fnvBasis
    var b = fnvBasis
    var c = fnvBasis
    var d = fnvBasis
    for row in 0..<rows {
      withVector(at: row) { vector in
        var i = 0
        while i + 4 <= vector.count {
          a = (a ^ UInt64(vector[i].bitPattern)) &* fnvPrime
          b = (b ^ UInt64(vector[i + 1].bitPattern)) &* fnvPrime
          c = (c ^ UInt64(vector[i + 2].bitPattern)) &* fnvPrime
          d = (d ^ UInt64(vector[i + 3].bitPattern)) &* fnvPrime
          i += 4
        }
        // What does not fill four goes to the first sum.
        while i < vector.count {
          a = (a ^ UInt64(vector[i].bitPattern)) &* fnvPrime
          i += 1
        }
      }
    }
    return [a, b, c, d].reduce(fnvBasis) { ($0 ^ $1) &* fnvPrime }
  }
}

let fnvBasis: UInt64 = 0xCBF2_9CE4_8422_2325
let fnvPrime: UInt64 = 0x0000_0100_0000_01B3
