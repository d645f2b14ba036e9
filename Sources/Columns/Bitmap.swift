/// `Columns` holds data by column: chunked vectors that are cheap to copy and to change, string
/// dictionaries, and bitmaps over rows.
///
/// A copy of a vector shares its chunks with the original, and a change copies only the chunk that
/// it touches. So a writer keeps its own copy, and a reader's snapshot never moves.

/// A set of rows: one bit for each row from 0 to `count - 1`.
package struct Bitmap: Hashable, Sendable {
  /// Bit `i` of word `w` stands for row `64 * w + i`. Bits past `count` are zero.
  package private(set) var words: [UInt64]
  package private(set) var count: Int

  package init(count: Int, repeating bit: Bool = false) {
    precondition(count >= 0, "Bitmap of \(count) rows")
    self.count = count
    words = Array(repeating: bit ? .max : 0, count: (count + 63) / 64)
    clearTail()
  }

  /// Makes a bitmap from its words; bits past `count` are cleared.
  package init(words: [UInt64], count: Int) {
    precondition(words.count == (count + 63) / 64, "\(words.count) words for \(count) rows")
    self.words = words
    self.count = count
    clearTail()
  }

  package subscript(row: Int) -> Bool {
    get {
      precondition(row >= 0 && row < count, "row \(row) of \(count)")
      return words[row >> 6] >> UInt64(row & 63) & 1 == 1
    }
    set {
      precondition(row >= 0 && row < count, "row \(row) of \(count)")
      let mask: UInt64 = 1 << UInt64(row & 63)
      if newValue { words[row >> 6] |= mask } else { words[row >> 6] &= ~mask }
    }
  }

  /// The number of rows in the set.
  package var population: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

  package var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

  /// Makes the bitmap longer; the new rows are not in the set, or all are.
  package mutating func grow(to newCount: Int, with bit: Bool = false) {
    precondition(newCount >= count, "grow from \(count) to \(newCount)")
    let old = count
    words += Array(repeating: 0, count: (newCount + 63) / 64 - words.count)
    count = newCount
    if bit { for row in old..<newCount { self[row] = true } }
  }

  package mutating func formIntersection(_ other: Bitmap) {
    precondition(count == other.count, "\(count) and \(other.count) rows")
    for i in words.indices { words[i] &= other.words[i] }
  }

  /// Takes the rows of another set away, which may be shorter or longer.
  package mutating func remove(_ other: Bitmap) {
    for i in 0..<min(words.count, other.words.count) { words[i] &= ~other.words[i] }
  }

  package mutating func formUnion(_ other: Bitmap) {
    precondition(count == other.count, "\(count) and \(other.count) rows")
    for i in words.indices { words[i] |= other.words[i] }
  }

  package mutating func subtract(_ other: Bitmap) {
    precondition(count == other.count, "\(count) and \(other.count) rows")
    for i in words.indices { words[i] &= ~other.words[i] }
  }

  package mutating func invert() {
    for i in words.indices { words[i] = ~words[i] }
    clearTail()
  }

  /// Calls the body for each row of the set, in ascending order.
  package func forEach(_ body: (Int) throws -> Void) rethrows {
    for (w, word) in words.enumerated() {
      var rest = word
      while rest != 0 {
        try body((w << 6) + rest.trailingZeroBitCount)
        rest &= rest &- 1
      }
    }
  }

  /// The rows of the set, ascending.
  package var rows: [Int] {
    var out: [Int] = []
    out.reserveCapacity(population)
    forEach { out.append($0) }
    return out
  }

  private mutating func clearTail() {
    if count & 63 != 0, !words.isEmpty {
      words[words.count - 1] &= (UInt64(1) << UInt64(count & 63)) - 1
    }
  }
}
