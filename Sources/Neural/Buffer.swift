/// `Neural` builds layers from kernels: packed sequences come in, activations and gradients go out.
///
/// Forward and backward passes are written out by hand; there is no graph. Nothing here knows of
/// items, users or files: a token is a row number of a table.
/// A block of memory for floats, aligned to 64 bytes, filled with zeros at first.
///
/// Unchecked Sendable: the owner decides who writes when, as for any array in training. An owner that
/// shares one between threads either only reads it or gives each thread its own part. The pointer is
/// good as long as the buffer lives: keep the buffer in a variable, never write
/// `Buffer(count: n).pointer`.
package final class Buffer: @unchecked Sendable {
  package let pointer: UnsafeMutablePointer<Float>
  package let count: Int

  package init(count: Int) {
    precondition(count >= 0, "a buffer of \(count) floats")
    let bytes = UnsafeMutableRawPointer.allocate(
      byteCount: max(64, (count * 4 + 63) / 64 * 64), alignment: 64)
    pointer = bytes.bindMemory(to: Float.self, capacity: count)
    pointer.initialize(repeating: 0, count: count)
    self.count = count
  }

  package convenience init(_ values: [Float]) {
    self.init(count: values.count)
    values.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { pointer.update(from: base, count: values.count) }
    }
  }

  deinit { pointer.deallocate() }

  package func clear() { pointer.update(repeating: 0, count: count) }

  package var array: [Float] { Array(UnsafeBufferPointer(start: pointer, count: count)) }

  package func copy() -> Buffer {
    let other = Buffer(count: count)
    other.pointer.update(from: pointer, count: count)
    return other
  }
}

/// Memory for one pass, handed out front to back and taken back all at once.
///
/// It grows to the largest pass seen, so a steady loop allocates nothing.
package final class Arena {
  private var buffer = Buffer(count: 0)
  private var used = 0

  package init() {}

  package var capacity: Int { buffer.count }

  /// Makes room for a pass that takes at most `count` floats in at most `pieces` pieces. What was
  /// handed out before is void.
  package func reset(count: Int, pieces: Int) {
    let needed = count + pieces * 16
    if needed > buffer.count { buffer = Buffer(count: needed + needed / 8) }
    used = 0
  }

  /// The next `count` floats, aligned to 64 bytes, with arbitrary contents.
  package func take(_ count: Int) -> UnsafeMutablePointer<Float> {
    precondition(
      used + count <= buffer.count, "an arena of \(buffer.count) floats is full at \(used)+\(count)"
    )
    let start = buffer.pointer + used
    used += (count + 15) / 16 * 16
    return start
  }
}

/// A small, fast, seeded source of random numbers: SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
package struct SplitMix64: RandomNumberGenerator, Sendable {
  /// Everything that the numbers to come depend on.
  package private(set) var state: UInt64
  package init(seed: UInt64) { state = seed }
  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number from `[0, 1)` with 24 random bits.
  package mutating func unitFloat() -> Float { Float(next() >> 40) / 16_777_216 }
}
