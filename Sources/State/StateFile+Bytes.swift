/// A sum over eight bytes at a time that tells damaged files from whole ones; no proof against
/// forgery. (The mixing constant is that of Fibonacci hashing.)
struct Checksum {
  private(set) var value: UInt64 = 0x5249_4646_4C45_5354

  @inline(__always)
  mutating func add(_ word: UInt64) {
    value = (value ^ word) &* 0x9E37_79B9_7F4A_7C15
    value ^= value >> 32
  }

  /// Adds bytes, the last of them filled up with zeros.
  mutating func add(_ bytes: UnsafeRawBufferPointer) {
    let whole = bytes.count & ~7
    for offset in stride(from: 0, to: whole, by: 8) {
      add(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
    }
    if whole < bytes.count {
      var last: UInt64 = 0
      for (i, byte) in bytes[whole...].enumerated() { last |= UInt64(byte) << (8 * UInt64(i)) }
      add(last)
    }
  }
}

/// Gathers bytes and gives them on in large pieces, with a checksum at the end.
struct ByteWriter {
  private let sink: (UnsafeRawBufferPointer) throws -> Void
  private var buffer: [UInt8] = []
  private var checksum = Checksum()
  /// A multiple of eight: the checksum is over whole words until the last piece.
  private static let pieceBytes = 1 << 18

  init(_ sink: @escaping (UnsafeRawBufferPointer) throws -> Void) {
    self.sink = sink
    buffer.reserveCapacity(ByteWriter.pieceBytes + 4096)
  }

  mutating func bytes(_ bytes: some Collection<UInt8>) throws {
    buffer += bytes
    if buffer.count >= ByteWriter.pieceBytes { try flush(all: false) }
  }

  mutating func number<Number: FixedWidthInteger>(_ number: Number) throws {
    withUnsafeBytes(of: number.littleEndian) { buffer += $0 }
    if buffer.count >= ByteWriter.pieceBytes { try flush(all: false) }
  }

  mutating func text(_ text: String) throws {
    try number(UInt32(text.utf8.count))
    try bytes(text.utf8)
  }

  /// Elements as they lie in the memory of a little-endian machine.
  mutating func raw<Element: BitwiseCopyable>(_ elements: [Element]) throws {
    elements.withUnsafeBytes { buffer += $0 }
    if buffer.count >= ByteWriter.pieceBytes { try flush(all: false) }
  }

  private mutating func flush(all: Bool) throws {
    let count = all ? buffer.count : buffer.count & ~7
    try buffer.withUnsafeBytes { whole in
      let piece = UnsafeRawBufferPointer(rebasing: whole[..<count])
      checksum.add(piece)
      try sink(piece)
    }
    buffer.removeSubrange(..<count)
  }

  mutating func finish() throws {
    try flush(all: true)
    try withUnsafeBytes(of: checksum.value.littleEndian) { try sink($0) }
  }
}

/// Reads what `ByteWriter` wrote; never past the end.
struct ByteReader {
  private let bytes: UnsafeRawBufferPointer
  private var at = 0

  /// Checks the sum at the end, which is then out of sight.
  init(checking bytes: UnsafeRawBufferPointer) throws(StateFileFault) {
    guard bytes.count >= 16 else { throw StateFileFault("it is cut off") }
    let body = UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count - 8)])
    var checksum = Checksum()
    checksum.add(body)
    let stored = UInt64(
      littleEndian: bytes.loadUnaligned(fromByteOffset: bytes.count - 8, as: UInt64.self))
    guard stored == checksum.value else {
      throw StateFileFault("its checksum does not hold: it is damaged or cut off")
    }
    self.bytes = body
  }

  private var left: Int { bytes.count - at }

  mutating func bytes(_ count: Int) throws(StateFileFault) -> UnsafeRawBufferPointer {
    guard count >= 0, count <= left else { throw StateFileFault("it is cut off") }
    defer { at += count }
    return UnsafeRawBufferPointer(rebasing: bytes[at..<(at + count)])
  }

  mutating func number<Number: FixedWidthInteger & BitwiseCopyable>() throws(StateFileFault)
    -> Number
  {
    let size = MemoryLayout<Number>.size
    guard size <= left else { throw StateFileFault("it is cut off") }
    defer { at += size }
    return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: Number.self))
  }

  /// A count of elements that may still follow.
  mutating func count(elementBytes: Int) throws(StateFileFault) -> Int {
    let count: UInt64 = try number()
    guard count <= UInt64(Int32.max) else { throw StateFileFault("a count is out of range") }
    return try checked(Int(count), elementBytes: elementBytes)
  }

  func checked(_ count: Int, elementBytes: Int) throws(StateFileFault) -> Int {
    guard count >= 0, count <= left / elementBytes else { throw StateFileFault("it is cut off") }
    return count
  }

  mutating func text() throws(StateFileFault) -> String {
    let count: UInt32 = try number()
    let slice = try bytes(Int(count))
    guard let text = String(validating: slice, as: UTF8.self) else {
      throw StateFileFault("a text is not valid UTF-8")
    }
    return text
  }

  /// A count and so many texts.
  mutating func texts() throws(StateFileFault) -> [String] {
    let count = try count(elementBytes: 4)
    var texts: [String] = []
    texts.reserveCapacity(count)
    for _ in 0..<count { texts.append(try text()) }
    return texts
  }

  mutating func array<Element: BitwiseCopyable>(_ count: Int) throws(StateFileFault) -> [Element] {
    let size = MemoryLayout<Element>.stride
    let slice = try bytes(try checked(count, elementBytes: size) * size)
    return [Element](unsafeUninitializedCapacity: count) { buffer, initialized in
      UnsafeMutableRawBufferPointer(buffer).copyMemory(from: slice)
      initialized = count
    }
  }

  mutating func lists<Element: BitwiseCopyable>(
    _ count: Int
  ) throws(StateFileFault) -> [[Element]] {
    var lists: [[Element]] = []
    lists.reserveCapacity(count)
    for _ in 0..<count {
      let length: UInt32 = try number()
      lists.append(try array(Int(length)))
    }
    return lists
  }

  func expectEnd() throws(StateFileFault) {
    guard left == 0 else { throw StateFileFault("it is longer than it says") }
  }
}
