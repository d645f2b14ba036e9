package import CKernels

/// One version of the scans for rows of highest inner product, picked by what the processor can do.
///
/// The buffers of a search are C structures, described in `riffle_scan.h`; `VectorIndex` fills them.
package struct SearchKernels: Sendable {
  // Unchecked: a table of constant function pointers in the binary's read-only data.
  package nonisolated(unsafe) let table: UnsafePointer<rk_scan_table>

  /// The version of that name, or nil where this processor or build cannot run it.
  package init?(named name: String) {
    guard let table = rk_scan_select(name) else { return nil }
    self.table = table
  }

  /// The names of all versions that can run here, slowest first.
  package static var available: [String] {
    ["reference", "portable", "avx2", "avxvnni", "avx512", "avx512vnni"].filter {
      rk_scan_select($0) != nil
    }
  }

  /// The fastest version that stays within the instructions of `kernels`.
  package init(_ kernels: Kernels) {
    let names =
      switch kernels.name {
      case "avx512", "avx512bf16": ["avx512vnni", "avx512", "avx2", "portable"]
      case "avx2": ["avxvnni", "avx2", "portable"]
      case "reference": ["reference"]
      default: ["portable"]
      }
    guard let table = names.lazy.compactMap({ rk_scan_select($0) }).first else {
      preconditionFailure("no version of the scans for \(kernels.name)")
    }
    self.table = table
  }

  package var name: String { String(cString: table.pointee.name) }

  /// For each of `m` rows of `n` scores the place of the greatest, the first of equals, and its value.
  package func greatest(
    rows m: Int, columns n: Int, _ scores: UnsafePointer<Float>, stride: Int,
    places: UnsafeMutablePointer<Int32>, values: UnsafeMutablePointer<Float>
  ) {
    table.pointee.greatest(m, n, scores, stride, places, values)
  }
}
