package import Domain
import Foundation
import Synchronization

/// The one directory that holds everything that a Riffle process keeps: the database, its log and
/// the artifact files.
///
/// An open directory is locked against every other process. The lock is the kernel's (`flock` on
/// the file `LOCK`), so it ends with the process, however that ends; the number in the file only
/// serves the message that a second process shows.
package final class DataDirectory: Sendable {
  /// The directory's path as it was given.
  package let path: String
  /// The descriptor of the locked file; nil once released.
  private let lock: Mutex<Int32?>

  package var databasePath: String { path + "/riffle.db" }
  package var artifactsPath: String { path + "/artifacts" }

  private init(path: String, descriptor: Int32) {
    self.path = path
    lock = Mutex(descriptor)
  }

  deinit { release() }

  /// Opens a directory, which is created where it does not exist, and locks it.
  ///
  /// - Throws: `data_directory_in_use` where another process holds it, `data_directory_unusable`
  ///   where it cannot be created or written.
  package static func open(_ path: String) throws(Diagnostic) -> DataDirectory {
    do {
      try FileManager.default.createDirectory(
        atPath: path + "/artifacts", withIntermediateDirectories: true)
    } catch {
      throw unusable(path, "it cannot be created")
    }
    let lockPath = path + "/LOCK"
    let descriptor = Foundation.open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw unusable(path, reason(errno)) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      let holder = readHolder(descriptor)
      Foundation.close(descriptor)
      guard code == EWOULDBLOCK else { throw unusable(path, reason(code)) }
      let process = holder.map { "process \($0)" }
      throw Diagnostic(
        .conflict, code: "data_directory_in_use",
        "The data directory `\(path)` is in use by \(process ?? "another process").", at: path,
        help: "Stop \(process ?? "that process"), or name another directory with --data-dir. "
          + "One process serves a data directory at a time.")
    }
    // The number only serves a message, so a full disk must not keep the process from starting: it can
    // still answer queries.
    let text = Array("\(getpid())\n".utf8)
    if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
    return DataDirectory(path: path, descriptor: descriptor)
  }

  /// Gives up the lock. The directory must not be used any more; a second call does nothing.
  package func release() {
    lock.withLock { descriptor in
      if let descriptor {
        // Unlocked by name: a child process that is just being started holds a copy of the descriptor
        // until it becomes another program, and would keep the lock that long.
        flock(descriptor, LOCK_UN)
        Foundation.close(descriptor)
      }
      descriptor = nil
    }
  }

  private static func readHolder(_ descriptor: Int32) -> Int? {
    var bytes = [UInt8](repeating: 0, count: 32)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    guard count > 0 else { return nil }
    return Int(
      String(decoding: bytes[..<count], as: UTF8.self).trimmingCharacters(
        in: .whitespacesAndNewlines)
    )
  }

  private static func unusable(_ path: String, _ why: String) -> Diagnostic {
    Diagnostic(
      .unavailable, code: "data_directory_unusable",
      "The data directory `\(path)` cannot be used: \(why).", at: path,
      help: "Name a directory that this user may create and write, with --data-dir.")
  }
}

/// The system's words for an error number.
func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
