package import Domain
import Foundation

/// The files that belong to generations, such as weights: named by their content and never changed.
///
/// A file is written beside, synced and renamed, and then its directory is synced. So a file that
/// bears its name is whole; what an interrupted write leaves begins with `.` and is removed at the
/// next opening.
package struct ArtifactStore: Sendable {
  /// The directory of the files.
  package let path: String

  /// Opens the artifacts of a data directory.
  package init(_ directory: DataDirectory) {
    path = directory.artifactsPath
    for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    where name.hasPrefix(".partial-") {
      unlink(path + "/" + name)
    }
  }

  /// Writes a file and returns its name: the SHA-256 of its bytes and the suffix.
  ///
  /// - Parameter suffix: the end of the name without its dot, such as `safetensors`.
  /// - Throws: `artifact_not_written` with the system's reason; then no file of that name is new.
  package func write(_ bytes: [UInt8], suffix: String) throws(Diagnostic) -> String {
    let name = bytes.withUnsafeBytes { SHA256.hexadecimal($0) } + "." + suffix
    let target = path(of: name)
    // The same content is there already, whole.
    if access(target, F_OK) == 0 { return name }
    let partial = path + "/.partial-" + name
    let descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw failed(name, errno) }
    let code = ArtifactStore.fill(descriptor, bytes)
    close(descriptor)
    guard code == 0 else {
      unlink(partial)
      throw failed(name, code)
    }
    guard rename(partial, target) == 0 else { throw failed(name, errno) }
    let directory = open(path, O_RDONLY | O_CLOEXEC)
    guard directory >= 0 else { throw failed(name, errno) }
    defer { close(directory) }
    guard Disk.sync(directory) == 0 else { throw failed(name, errno) }
    return name
  }

  /// Reads a file and checks that it is what its name says.
  ///
  /// - Throws: `unknown_artifact`, or `artifact_damaged` where the bytes have another digest.
  package func read(_ name: String) throws(Diagnostic) -> [UInt8] {
    guard let data = FileManager.default.contents(atPath: path(of: name)) else {
      throw Diagnostic(
        .notFound, code: "unknown_artifact", "There is no artifact `\(name)`.", at: path,
        help: "Train the engine again, or restore the file from a backup.")
    }
    let digest = data.withUnsafeBytes { SHA256.hexadecimal($0) }
    guard name.hasPrefix(digest + ".") else {
      throw Diagnostic(
        .internalError, code: "artifact_damaged",
        "The artifact `\(name)` is damaged: its digest is \(digest).", at: path,
        help: "Train the engine again, or restore the file from a backup.")
    }
    return Array(data)
  }

  /// The names of all artifacts, in order.
  package func names() -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [])
      .filter { !$0.hasPrefix(".") }.sorted()
  }

  /// Removes a file; nothing happens where there is none.
  package func remove(_ name: String) { unlink(path(of: name)) }

  /// Where a file lies, for programs that map it.
  package func path(of name: String) -> String { path + "/" + name }

  /// - Returns: 0, or the number of the system's error.
  private static func fill(_ descriptor: Int32, _ bytes: [UInt8]) -> Int32 {
    bytes.withUnsafeBytes { raw in
      var done = 0
      while done < raw.count {
        let count = Disk.write(
          descriptor, raw.baseAddress?.advanced(by: done), raw.count - done)
        if count < 0 {
          if errno == EINTR { continue }
          return errno
        }
        done += count
      }
      return Disk.sync(descriptor) == 0 ? 0 : errno
    }
  }

  private func failed(_ name: String, _ code: Int32) -> Diagnostic {
    Diagnostic(
      .unavailable, code: "artifact_not_written",
      "The artifact `\(name)` could not be written: \(reason(code)).", at: path,
      help: "Check that the disk has space and that this user may write the directory.")
  }
}
