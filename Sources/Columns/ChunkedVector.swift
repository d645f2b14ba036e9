/// A vector in chunks of 1,024 elements that share storage between copies.
///
/// Appending and replacing cost one chunk's copy at most (none while no other copy holds the
/// chunk), plus one reference per chunk when the list of chunks itself is shared. Reading is two
/// array look-ups.
///
/// Its code is inlinable: a vector of another target's elements, changed through generic code, cost
/// several times as much.
package struct ChunkedVector<Element: Sendable>: Sendable {
  @inlinable package static var chunkSize: Int { 1024 }
  /// All full but the last; none is empty.
  @usableFromInline package internal(set) var chunks: [[Element]] = []
  @usableFromInline package internal(set) var count = 0

  @inlinable package init() {}

  @inlinable package init(_ elements: some Sequence<Element>) {
    for element in elements { append(element) }
  }

  /// Takes an array over, a chunk at a time.
  @inlinable package init(_ elements: [Element]) {
    count = elements.count
    chunks.reserveCapacity((elements.count + Self.chunkSize - 1) / Self.chunkSize)
    for start in stride(from: 0, to: elements.count, by: Self.chunkSize) {
      chunks.append(Array(elements[start..<min(start + Self.chunkSize, elements.count)]))
    }
  }

  package subscript(index: Int) -> Element {
    @inlinable get {
      precondition(index >= 0 && index < count, "element \(index) of \(count)")
      return chunks[index >> 10][index & 1023]
    }
    @inlinable _modify {
      precondition(index >= 0 && index < count, "element \(index) of \(count)")
      yield &chunks[index >> 10][index & 1023]
    }
    @inlinable set {
      precondition(index >= 0 && index < count, "element \(index) of \(count)")
      chunks[index >> 10][index & 1023] = newValue
    }
  }

  @inlinable package mutating func append(_ element: Element) {
    if count & 1023 == 0 {
      var chunk: [Element] = []
      chunk.reserveCapacity(count == 0 ? 0 : Self.chunkSize)
      chunk.append(element)
      chunks.append(chunk)
    } else {
      chunks[chunks.count - 1].append(element)
    }
    count += 1
  }

  /// Calls the body for each chunk with the index of the chunk's first element.
  @inlinable
  package func forEachChunk(_ body: (_ start: Int, _ chunk: [Element]) throws -> Void) rethrows {
    for (i, chunk) in chunks.enumerated() { try body(i << 10, chunk) }
  }
}
