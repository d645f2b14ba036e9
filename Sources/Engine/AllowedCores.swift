import Foundation

/// The cores that this process may run on.
///
/// On Linux those of its affinity mask (`taskset`, the cpuset of a container), which Foundation's
/// count does not heed; elsewhere the active ones.
package let allowedCoreCount: Int = {
  #if os(Linux)
    if let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("Cpus_allowed:") })
    {
      // A mask in hexadecimal, in words of 32 bits with commas between them.
      let count = line.dropFirst("Cpus_allowed:".count).reduce(0) {
        $0 + ($1.hexDigitValue?.nonzeroBitCount ?? 0)
      }
      if count > 0 { return count }
    }
  #endif
  return ProcessInfo.processInfo.activeProcessorCount
}()
