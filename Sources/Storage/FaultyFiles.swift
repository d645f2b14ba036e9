import Foundation
import GRDBSQLite
import Synchronization

/// SQLite's files with the faults of a drill: a layer over the system's own, which only stands there
/// once `DiskFaults.install` was called.
///
/// A file is opened by the system's layer. Then its table of functions is replaced by a copy in which
/// `xWrite` and `xSync` are ours. The copy lies in front of the original, so that ours find theirs.
enum FaultyFiles {
  /// Makes the layer the one that databases are opened with from now on.
  static func register() {
    guard let system = sqlite3_vfs_find(nil) else {
      preconditionFailure("SQLite has no layer for files")
    }
    // Lives as long as the process: SQLite keeps the pointer.
    let layer = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
    layer.initialize(to: system.pointee)
    layer.pointee.pNext = nil
    layer.pointee.zName = UnsafePointer(strdup("riffle-drill"))
    // Only the opening of the system's layer reads this member, and that gets the original.
    layer.pointee.pAppData = UnsafeMutableRawPointer(system)
    layer.pointee.xOpen = { layer, name, file, flags, outFlags in
      guard
        let system = layer?.pointee.pAppData?.assumingMemoryBound(to: sqlite3_vfs.self),
        let open = system.pointee.xOpen
      else { return SQLITE_CANTOPEN }
      let code = open(system, name, file, flags, outFlags)
      if code == SQLITE_OK, let file, let original = file.pointee.pMethods {
        file.pointee.pMethods = FaultyFiles.methods(
          over: original, isDatabase: flags & SQLITE_OPEN_MAIN_DB != 0)
      }
      return code
    }
    sqlite3_vfs_register(layer, 1)
  }

  private struct Key: Hashable {
    var original: UInt
    var isDatabase: Bool
  }
  /// Addresses of the pairs, which live as long as the process: there is one for each kind of file.
  private static let pairs = Mutex<[Key: UInt]>([:])

  private typealias Methods = sqlite3_io_methods

  private static func methods(
    over original: UnsafePointer<sqlite3_io_methods>, isDatabase: Bool
  ) -> UnsafePointer<sqlite3_io_methods>? {
    let key = Key(original: UInt(bitPattern: original), isDatabase: isDatabase)
    let address = pairs.withLock { pairs in
      if let known = pairs[key] { return known }
      let pair = UnsafeMutablePointer<Methods>.allocate(capacity: 2)
      pair.initialize(repeating: original.pointee, count: 2)
      pair.pointee.xWrite = { file, bytes, count, offset in
        FaultyFiles.write(file, bytes, count, offset)
      }
      if isDatabase {
        pair.pointee.xWrite = { file, bytes, count, offset in
          DiskFaults.note(.checkpointWrites)
          return FaultyFiles.write(file, bytes, count, offset)
        }
      }
      pair.pointee.xSync = { file, flags in
        if DiskFaults.installed?.failsSync() == true { return FaultyFiles.syncFailed }
        return FaultyFiles.original(of: file)?.xSync(file, flags) ?? SQLITE_IOERR
      }
      let made = UInt(bitPattern: pair)
      pairs[key] = made
      return made
    }
    return UnsafePointer(bitPattern: address)
  }

  /// SQLITE_IOERR_FSYNC, which is a macro of an expression.
  private static let syncFailed: Int32 = SQLITE_IOERR | (4 << 8)

  private static func original(
    of file: UnsafeMutablePointer<sqlite3_file>?
  ) -> sqlite3_io_methods? {
    file?.pointee.pMethods.map { $0[1] }
  }

  private static func write(
    _ file: UnsafeMutablePointer<sqlite3_file>?, _ bytes: UnsafeRawPointer?, _ count: Int32,
    _ offset: sqlite3_int64
  ) -> Int32 {
    guard let original = original(of: file) else { return SQLITE_IOERR }
    if DiskFaults.installed?.refusesWrite() == true {
      // A disk is full in the middle of a write.
      if count > 1 { _ = original.xWrite(file, bytes, count / 2, offset) }
      return SQLITE_FULL
    }
    return original.xWrite(file, bytes, count, offset)
  }
}
