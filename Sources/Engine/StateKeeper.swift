import Dispatch
import Domain
import Foundation
import Logging
import State
import Storage
import Synchronization

/// Keeps the engines' states in files, so that a start folds only what is newer.
///
/// A state is taken in microseconds on the log's own thread and written on a thread of its own. The
/// log remembers rows that go while a stored state may hold them; see `LogStore.markState`. What a
/// file lacks or cannot give, the log has: a file that cannot be read costs time and nothing else.
final class StateKeeper: Sendable {
  private struct Progress {
    /// Where the newest stored states stand.
    var through = LogPosition.start
    var isBusy = false
    /// Erasures that run: nothing may be stored meanwhile.
    var pauses = 0
    /// Grows with each discard; a state that was taken before one is not stored after it.
    var epoch = 0
    var isStopped = false
  }

  private let log: LogStore
  private let logger: Logger
  private let folder: String
  private let progress = Mutex(Progress())
  private let queue = DispatchQueue(label: "riffle states", qos: .utility)
  private let upkeep: RiffleDatabase.Upkeep

  init(_ log: LogStore, upkeep: RiffleDatabase.Upkeep = .init(), logger: Logger) {
    self.log = log
    self.upkeep = upkeep
    self.logger = logger
    folder = log.directory.path + "/states"
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where name.hasPrefix(".partial-") {
      unlink(folder + "/" + name)
    }
  }

  private func file(_ engine: String) -> String {
    let name = engine.utf8.map { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
        UInt8(ascii: "_"), UInt8(ascii: "-"):
        String(UnicodeScalar(byte))
      default: "%" + String(byte, radix: 16)
      }
    }.joined()
    return folder + "/" + name + ".state"
  }

  // MARK: Reading

  /// The stored fold of an engine, or nil where there is none that fits.
  func fold(of engine: ServedEngine) -> sending StateFold? {
    let path = file(engine.name)
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do {
      let data = try Data(contentsOf: URL(filePath: path), options: .mappedIfSafe)
      let identity = try log.identity()
      let fold = try data.withUnsafeBytes { bytes throws(StateFileFault) in
        try StateFold(
          engine.mapping, filters: engine.filters, reading: bytes, database: identity)
      }
      let through = fold.snapshot().through
      guard through <= log.through else {
        throw StateFileFault("it stands at position \(through.rawValue), behind the log's end")
      }
      progress.withLock { $0.through = max($0.through, through) }
      return fold
    } catch {
      logger.warning(
        "A stored state is not used; the log is folded instead",
        metadata: ["engine": "\(engine.name)", "why": "\(error)"])
      unlink(path)
      return nil
    }
  }

  // MARK: Writing

  /// Stores the engines' states where enough has come since the last time.
  func storeIfDue(_ engines: [ServedEngine]) {
    let isDue = progress.withLock {
      !$0.isBusy && !$0.isStopped && $0.pauses == 0
        && log.through.rawValue - $0.through.rawValue >= upkeep.statePositions
    }
    guard isDue else { return }
    queue.async { self.store(engines) }
  }

  /// Stores the states on the calling thread, which must be none of the shared pool's.
  func store(_ engines: [ServedEngine]) {
    let epoch: Int? = progress.withLock { progress in
      guard !progress.isBusy, !progress.isStopped, progress.pauses == 0 else { return nil }
      progress.isBusy = true
      return progress.epoch
    }
    guard let epoch else { return }
    defer { progress.withLock { $0.isBusy = false } }
    do {
      let identity = try log.identity()
      let images = try log.markState {
        engines.compactMap { engine in
          engine.image().map { (engine.name, $0) }
        }
      }
      guard let first = images.map(\.1.through).min() else { return }
      for (engine, image) in images {
        guard try write(image, identity, to: file(engine), epoch) else { return }
      }
      // Files of engines that could not be taken would need older rows; there are none of those.
      let kept = Set(images.map { file($0.0) })
      for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
        let path = folder + "/" + name
        if name.hasSuffix(".state"), !kept.contains(path) { unlink(path) }
      }
      try log.forgetRemoved(through: first)
      progress.withLock { $0.through = first }
      logger.debug("Stored the states", metadata: ["through": "\(first.rawValue)"])
    } catch {
      logger.warning("The states could not be stored", metadata: ["why": "\(error)"])
    }
  }

  /// - Returns: false where the states were discarded meanwhile.
  private func write(
    _ image: StateImage, _ identity: UInt64, to path: String, _ epoch: Int
  ) throws -> Bool {
    let partial = folder + "/.partial-" + (path as NSString).lastPathComponent
    let descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw StateFileFault("the file cannot be made") }
    defer {
      close(descriptor)
      unlink(partial)
    }
    DiskFaults.note(.stateWrites)
    try image.write(database: identity) { bytes in
      var done = 0
      while done < bytes.count {
        let count = Disk.write(
          descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
        if count < 0 {
          if errno == EINTR { continue }
          throw StateFileFault(String(cString: strerror(errno)))
        }
        done += count
      }
    }
    guard Disk.sync(descriptor) == 0 else { throw StateFileFault("the file cannot be synced") }
    let isCurrent = progress.withLock { progress in
      guard progress.epoch == epoch else { return false }
      return rename(partial, path) == 0
    }
    guard isCurrent else { return false }
    let directory = open(folder, O_RDONLY | O_CLOEXEC)
    if directory >= 0 {
      _ = Disk.sync(directory)
      close(directory)
    }
    return true
  }

  // MARK: Taking away

  /// Takes an engine's file away.
  func remove(_ engine: String) { unlink(file(engine)) }

  /// Takes all files away and stores nothing until `resume` is called as often.
  func pauseAndDiscard() {
    progress.withLock { progress in
      progress.pauses += 1
      progress.epoch += 1
      progress.through = .start
      for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
        unlink(folder + "/" + name)
      }
    }
  }

  func resume() { progress.withLock { $0.pauses -= 1 } }

  /// Stores the states a last time where that spares the next start some work, and ends.
  func stop(_ engines: [ServedEngine]) {
    queue.sync {
      let behind = log.through.rawValue - progress.withLock { $0.through.rawValue }
      if behind >= upkeep.statePositionsAtClosing { store(engines) }
      progress.withLock { $0.isStopped = true }
    }
  }
}
