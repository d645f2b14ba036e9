/// A file that cannot be read: what is wrong, where, and how to mend it.
package struct FormatError: Error, Hashable, Sendable {
  package enum Reason: Hashable, Sendable {
    /// The file does not begin as a partition does.
    case otherKind
    case unsupportedVersion(found: UInt32, readable: ClosedRange<UInt32>)
    case wrongLength(expected: UInt64, found: Int)
    case wrongChecksum
    /// A value that no writer writes.
    case invalid(String)
    /// The partition belongs to other vectors.
    case otherVectors(String)
  }
  package var reason: Reason
  package var path: String
  package var byteOffset: Int
}

extension FormatError: CustomStringConvertible {
  package var description: String {
    let what =
      switch reason {
      case .otherKind: "this is no partition of vectors. Name the file that was saved as one."
      case .unsupportedVersion(let found, let readable):
        "format version \(found); this build reads \(readable.lowerBound) to"
          + " \(readable.upperBound). Let this build make the partition again."
      case .wrongLength(let expected, let found):
        "the file should have \(expected) bytes and has \(found). Make the partition again."
      case .wrongChecksum: "the checksum does not fit the contents. Make the partition again."
      case .invalid(let what): "\(what). Make the partition again."
      case .otherVectors(let what): "\(what). Make a partition of these vectors."
      }
    return "\(path), byte \(byteOffset): \(what)"
  }
}

/// A partition as a file; the grammar is in `Documentation/formats/vector-index.md`. The vectors are
/// not in it: whoever reads it has them, and a fingerprint tells whether they are the same.
extension Partition {
  package static let currentVersion: UInt32 = 1
  package static let oldestReadable: UInt32 = 1
  private static let magic: [UInt8] = Array("RiffleIV".utf8)
  private static let headerSize = 72

  /// The file's bytes.
  ///
  /// - Precondition: the partition was not renumbered.
  package var bytes: [UInt8] {
    precondition(rowBound == rowCount, "a renumbered partition has no file")
    var out = Self.magic
    func append(_ value: some FixedWidthInteger) {
      withUnsafeBytes(of: value.littleEndian) { out.append(contentsOf: $0) }
    }
    let length =
      Self.headerSize + steps.count * 16 + listCount * (width * 4 + 4) + ids.count * 4 + 8
    out.reserveCapacity(length)
    append(Self.currentVersion)
    append(UInt32(width))
    append(UInt64(length))
    append(UInt64(rowCount))
    append(fingerprint)
    append(seed)
    append(UInt32(listCount))
    append(UInt32(steps.count))
    append(UInt32(sampledQueries))
    append(UInt32(0))
    append(target.bitPattern)
    for step in steps {
      append(UInt32(step.depth))
      append(UInt32(step.probes))
      append(step.recall.bitPattern)
    }
    for list in 0..<listCount {
      means.withVector(at: list) { for value in $0 { append(value.bitPattern) } }
    }
    for size in sizes { append(UInt32(size)) }
    for id in ids { append(id) }
    append(Self.checksum(of: out[...]))
    return out
  }

  /// FNV-1a with 64 bits.
  private static func checksum(of bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.withUnsafeBufferPointer { bytes in
      var sum = fnvBasis
      for byte in bytes { sum = (sum ^ UInt64(byte)) &* fnvPrime }
      return sum
    }
  }

  /// Reads a partition.
  ///
  /// - Parameters:
  ///   - rows: the first `rowCount` of them are those that it was made from; more may follow.
  ///   - path: for messages.
  /// - Throws: where the bytes are damaged, or belong to other vectors.
  package convenience init(
    parsing bytes: [UInt8], rows: ExactIndex, path: String
  ) throws(FormatError) {
    func fail(_ reason: FormatError.Reason, at offset: Int) -> FormatError {
      FormatError(reason: reason, path: path, byteOffset: offset)
    }
    func number<Number: FixedWidthInteger>(_ type: Number.Type, at offset: Int) -> Number {
      Number(
        littleEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) })
    }
    guard bytes.starts(with: Self.magic) else { throw fail(.otherKind, at: 0) }
    guard bytes.count >= Self.headerSize + 8 else {
      throw fail(
        .wrongLength(expected: UInt64(Self.headerSize + 8), found: bytes.count), at: bytes.count)
    }
    let version = number(UInt32.self, at: 8)
    let readable = Self.oldestReadable...Self.currentVersion
    guard readable.contains(version) else {
      throw fail(.unsupportedVersion(found: version, readable: readable), at: 8)
    }
    let length = number(UInt64.self, at: 16)
    guard length == UInt64(bytes.count) else {
      throw fail(.wrongLength(expected: length, found: bytes.count), at: 16)
    }
    let end = bytes.count - 8
    guard Self.checksum(of: bytes[..<end]) == number(UInt64.self, at: end) else {
      throw fail(.wrongChecksum, at: end)
    }
    // From here on only a faulty writer can be at fault; the sizes are checked all the same, so that
    // none of them is trusted with memory.
    let width = Int(number(UInt32.self, at: 12))
    let rowCount = number(UInt64.self, at: 24)
    let listCount = Int(number(UInt32.self, at: 48))
    let stepCount = Int(number(UInt32.self, at: 52))
    guard rowCount > 0, rowCount < UInt64(Int32.max), width > 0, width <= 1 << 16, listCount > 0,
      stepCount > 0,
      length
        == UInt64(Self.headerSize + 8 + stepCount * 16 + listCount * (width * 4 + 4))
        + rowCount * 4
    else {
      throw fail(
        .invalid(
          "\(rowCount) rows of \(width) in \(listCount) lists with \(stepCount) steps do not make"
            + " \(length) bytes"), at: 24)
    }
    guard width == rows.width, rowCount <= UInt64(rows.rowCount) else {
      throw fail(
        .otherVectors(
          "made for \(rowCount) vectors of \(width) numbers; here are \(rows.rowCount) of"
            + " \(rows.width)"), at: 12)
    }
    let fingerprint = number(UInt64.self, at: 32)
    guard fingerprint == rows.fingerprint(rows: Int(rowCount)) else {
      throw fail(.otherVectors("the vectors differ from those it was made for"), at: 32)
    }
    var offset = Self.headerSize
    var steps: [Step] = []
    for _ in 0..<stepCount {
      let step = Step(
        depth: Int(number(UInt32.self, at: offset)),
        probes: Int(number(UInt32.self, at: offset + 4)),
        recall: Double(bitPattern: number(UInt64.self, at: offset + 8)))
      guard step.depth > steps.last?.depth ?? 0, step.probes >= steps.last?.probes ?? 1,
        step.probes <= listCount, step.recall >= 0, step.recall <= 1
      else {
        throw fail(.invalid("the step \(step) does not follow the one before it"), at: offset)
      }
      steps.append(step)
      offset += 16
    }
    var means: [Float] = []
    means.reserveCapacity(listCount * width)
    for _ in 0..<listCount * width {
      means.append(Float(bitPattern: number(UInt32.self, at: offset)))
      guard means[means.count - 1].isFinite else {
        throw fail(.invalid("a mean that is no number"), at: offset)
      }
      offset += 4
    }
    var sizes: [Int] = []
    var total: UInt64 = 0
    for _ in 0..<listCount {
      let size = number(UInt32.self, at: offset)
      total += UInt64(size)
      sizes.append(Int(size))
      offset += 4
    }
    guard total == rowCount else {
      throw fail(.invalid("lists of \(total) rows together, not \(rowCount)"), at: offset)
    }
    var ids: [Int32] = []
    ids.reserveCapacity(Int(rowCount))
    var isThere = [Bool](repeating: false, count: Int(rowCount))
    for _ in 0..<rowCount {
      let id = number(Int32.self, at: offset)
      guard id >= 0, id < rowCount, !isThere[Int(id)] else {
        throw fail(.invalid("row \(id) is out of range or stands in two lists"), at: offset)
      }
      isThere[Int(id)] = true
      ids.append(id)
      offset += 4
    }
    self.init(
      rows: rows,
      means: ExactIndex(vectors: means, width: width, kernels: rows.kernels), ids: ids,
      sizes: sizes, steps: steps, target: Double(bitPattern: number(UInt64.self, at: 64)),
      sampledQueries: Int(number(UInt32.self, at: 56)), seed: number(UInt64.self, at: 40),
      fingerprint: fingerprint)
  }
}
