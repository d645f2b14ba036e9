package import Domain
import Foundation
import Synchronization

/// Faults of the disk that a drill asks for, and what it wants to know of the disk: one page of memory
/// that it shares with the server.
///
/// The page is a file that both processes map. The drill sets which faults there are, the server looks
/// there at each write and each sync and counts what it refused. Where no page is installed nothing of
/// this stands in the way: SQLite has its own files, and `Disk` asks for one pointer.
package final class DiskFaults: Sendable {
  /// What goes wrong.
  package struct Kinds: OptionSet, Hashable, Sendable {
    package let rawValue: Int64
    package init(rawValue: Int64) { self.rawValue = rawValue }
    /// Every write is refused for lack of space; half of its bytes may have gone in.
    package static let fullDisk = Kinds(rawValue: 1)
    /// Every sync fails.
    package static let failingSyncs = Kinds(rawValue: 2)
  }

  /// What the server counts.
  package enum Count: Int, CaseIterable, Sendable {
    case refusedWrites = 3
    case failedSyncs
    /// Writes into the database's own file: with a write-ahead log, those of a checkpoint.
    case checkpointWrites
    /// Writes of engines' states.
    case stateWrites
  }

  // Slots of the page.
  private static let magicSlot = 0
  private static let kindsSlot = 1
  private static let changesSlot = 2
  private static let slotCount = 7
  private static let magic: Int64 = 0x5249_4646_4C45_4431

  // Unchecked: a mapping that lives as long as this does, of numbers that are read and written at once.
  private nonisolated(unsafe) let slots: UnsafeMutablePointer<Atomic<Int64>>
  private static let byteCount = 4096

  /// Maps the page of a file.
  ///
  /// - Parameter creates: whether the file is made anew, without faults.
  package init(_ path: String, creates: Bool) throws(Diagnostic) {
    let descriptor = open(path, creates ? O_RDWR | O_CREAT | O_TRUNC : O_RDWR, 0o600)
    guard descriptor >= 0 else { throw DiskFaults.unusable(path, reason(errno)) }
    defer { close(descriptor) }
    if creates, ftruncate(descriptor, off_t(Self.byteCount)) != 0 {
      throw DiskFaults.unusable(path, reason(errno))
    }
    guard lseek(descriptor, 0, SEEK_END) >= off_t(Self.byteCount) else {
      throw DiskFaults.unusable(path, "it is too short")
    }
    guard
      let page = mmap(
        nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
      page != MAP_FAILED
    else { throw DiskFaults.unusable(path, reason(errno)) }
    slots = page.bindMemory(to: Atomic<Int64>.self, capacity: Self.slotCount)
    if creates {
      slots[Self.magicSlot].store(Self.magic, ordering: .sequentiallyConsistent)
    } else if slots[Self.magicSlot].load(ordering: .sequentiallyConsistent) != Self.magic {
      munmap(page, Self.byteCount)
      throw DiskFaults.unusable(path, "it holds something else")
    }
  }

  deinit { munmap(slots, Self.byteCount) }

  private static func unusable(_ path: String, _ why: String) -> Diagnostic {
    Diagnostic(
      code: "invalid_drill_page", "`\(path)` is no page of faults: \(why).",
      at: "--drill",
      help: "The option belongs to `riffle selftest`, which makes that file.")
  }

  // MARK: the drill's side

  /// The faults that there are now.
  package var kinds: Kinds {
    get { Kinds(rawValue: slots[Self.kindsSlot].load(ordering: .sequentiallyConsistent)) }
    set {
      slots[Self.kindsSlot].store(newValue.rawValue, ordering: .sequentiallyConsistent)
      slots[Self.changesSlot].wrappingAdd(1, ordering: .sequentiallyConsistent)
    }
  }

  /// A number that grows with each change of the faults: the same before and after means the same
  /// faults all the while.
  package var changes: Int64 { slots[Self.changesSlot].load(ordering: .sequentiallyConsistent) }

  package func count(_ what: Count) -> Int {
    Int(slots[what.rawValue].load(ordering: .sequentiallyConsistent))
  }

  // MARK: the server's side

  // Unchecked: set once, by a command that has opened nothing yet and has no other thread at work.
  nonisolated(unsafe) private(set) static var installed: DiskFaults?

  /// Lets this process's disk have the faults of a page. To be called before anything is opened.
  package static func install(_ path: String) throws(Diagnostic) {
    installed = try DiskFaults(path, creates: false)
    FaultyFiles.register()
  }

  /// Notes something that the drill waits for.
  package static func note(_ what: Count) {
    installed?.slots[what.rawValue].wrappingAdd(1, ordering: .relaxed)
  }

  /// Whether a write is to be refused now.
  func refusesWrite() -> Bool {
    guard kinds.contains(.fullDisk) else { return false }
    DiskFaults.note(.refusedWrites)
    return true
  }

  /// Whether a sync is to fail now.
  func failsSync() -> Bool {
    guard kinds.contains(.failingSyncs) else { return false }
    DiskFaults.note(.failedSyncs)
    return true
  }
}

/// The system's calls for files that are not SQLite's, by way of a drill's faults where there are any.
package enum Disk {
  /// `write(2)`
  package static func write(
    _ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int
  ) -> Int {
    if let faults = DiskFaults.installed, faults.refusesWrite() {
      errno = ENOSPC
      return -1
    }
    return Foundation.write(descriptor, bytes, count)
  }

  /// `fsync(2)`
  package static func sync(_ descriptor: Int32) -> Int32 {
    if let faults = DiskFaults.installed, faults.failsSync() {
      errno = EIO
      return -1
    }
    return fsync(descriptor)
  }
}
