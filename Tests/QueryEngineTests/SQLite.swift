#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A database in memory, through the system's SQLite, which is looked up when a test needs it: no
/// target of the package depends on it.
final class SQLite {
  private typealias Open =
    @convention(c) (UnsafePointer<CChar>, UnsafeMutablePointer<OpaquePointer?>)
    -> Int32
  private typealias Prepare =
    @convention(c) (
      OpaquePointer?, UnsafePointer<CChar>, Int32, UnsafeMutablePointer<OpaquePointer?>,
      UnsafeMutablePointer<UnsafePointer<CChar>?>?
    ) -> Int32
  private typealias Step = @convention(c) (OpaquePointer?) -> Int32
  private typealias ColumnInt = @convention(c) (OpaquePointer?, Int32) -> Int64
  private typealias Message = @convention(c) (OpaquePointer?) -> UnsafePointer<CChar>?

  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  private let database: OpaquePointer?
  private let prepare: Prepare
  private let step: Step
  private let finalize: Step
  private let columnInt: ColumnInt
  private let message: Message
  private let close: Step

  /// nil where the system has no SQLite.
  init?() {
    let names = ["libsqlite3.so.0", "libsqlite3.so", "libsqlite3.dylib"]
    guard let library = names.lazy.compactMap({ dlopen($0, RTLD_NOW) }).first else { return nil }
    func function<T>(_ name: String, _ type: T.Type) -> T? {
      dlsym(library, name).map { unsafeBitCast($0, to: type) }
    }
    guard let open = function("sqlite3_open", Open.self),
      let prepare = function("sqlite3_prepare_v2", Prepare.self),
      let step = function("sqlite3_step", Step.self),
      let finalize = function("sqlite3_finalize", Step.self),
      let columnInt = function("sqlite3_column_int64", ColumnInt.self),
      let message = function("sqlite3_errmsg", Message.self),
      let close = function("sqlite3_close", Step.self)
    else { return nil }
    var opened: OpaquePointer?
    guard open(":memory:", &opened) == 0 else { return nil }
    database = opened
    self.prepare = prepare
    self.step = step
    self.finalize = finalize
    self.columnInt = columnInt
    self.message = message
    self.close = close
  }

  deinit { _ = close(database) }

  /// Runs a statement and gives the first column of its rows.
  @discardableResult func rows(_ sql: String) throws -> [Int64] {
    var statement: OpaquePointer?
    guard prepare(database, sql, -1, &statement, nil) == 0 else { throw failure(sql) }
    defer { _ = finalize(statement) }
    var out: [Int64] = []
    while true {
      switch step(statement) {
      case 100: out.append(columnInt(statement, 0))
      case 101: return out
      default: throw failure(sql)
      }
    }
  }

  private func failure(_ sql: String) -> Failure {
    Failure(description: "\(message(database).map { String(cString: $0) } ?? "?"): \(sql)")
  }
}
