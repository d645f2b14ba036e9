import CKernels

#if canImport(Glibc)
  import Glibc
#endif

/// Memory for a run of rows: their floats, and with `codes` their bytes and scales.
///
/// Unchecked Sendable: an index writes to memory that it alone refers to, and never to memory that
/// another copy can see.
final class RowMemory: @unchecked Sendable {
  let floats: UnsafeMutablePointer<Float>?
  let codes: UnsafeMutablePointer<UInt8>
  let scales: UnsafeMutablePointer<Float>
  /// Rows there is room for; the memory reaches to the next multiple of 64.
  let capacity: Int

  /// - Parameters:
  ///   - floatStride: floats a row, or 0 for none.
  ///   - codeStride: bytes a row.
  init(capacity: Int, floatStride: Int, codeStride: Int) {
    self.capacity = capacity
    let rows = (capacity + 63) / 64 * 64
    floats =
      floatStride == 0
      ? nil
      : Self.zeros(rows * floatStride * 4).bindMemory(to: Float.self, capacity: rows * floatStride)
    codes = Self.zeros(rows * codeStride).bindMemory(to: UInt8.self, capacity: rows * codeStride)
    scales = Self.zeros(rows * 4).bindMemory(to: Float.self, capacity: rows)
  }

  deinit {
    floats?.deallocate()
    codes.deallocate()
    scales.deallocate()
  }

  /// Large blocks lie on huge pages where the system has them: a scan of a million rows touches
  /// 16,000 small pages, and looking those up cost a tenth of its time.
  private static func zeros(_ byteCount: Int) -> UnsafeMutableRawPointer {
    let huge = 1 << 21
    let isLarge = byteCount >= 2 * huge
    let rounded = isLarge ? (byteCount + huge - 1) / huge * huge : max(64, byteCount)
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: rounded, alignment: isLarge ? huge : 64)
    #if canImport(Glibc)
      if isLarge { madvise(memory, rounded, MADV_HUGEPAGE) }
    #endif
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: rounded)
    return memory
  }
}
