import Domain
import GRDB

/// Turns what the database reports into a problem that a person can mend.
enum StorageFault {
  static func diagnostic(_ error: any Error, path: String, doing action: String) -> Diagnostic {
    if let diagnostic = error as? Diagnostic { return diagnostic }
    guard let fault = error as? DatabaseError else {
      return Diagnostic(
        .internalError, code: "storage_failed", "Could not \(action): \(error).", at: path)
    }
    let cause = fault.message ?? "no further words"
    switch fault.resultCode {
    case .SQLITE_FULL:
      return Diagnostic(
        .unavailable, code: "disk_full", "Could not \(action): the disk is full.", at: path,
        notes: ["Nothing of this request was stored."],
        help: "Free space on the disk that holds the data directory, then send the request again.")
    case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_AUTH:
      return Diagnostic(
        .unavailable, code: "data_directory_read_only",
        "Could not \(action): the data directory cannot be written (\(cause)).", at: path,
        help: "Give the user that runs this process the right to write the directory and its files."
      )
    case .SQLITE_CORRUPT, .SQLITE_NOTADB:
      return Diagnostic(
        .internalError, code: "database_damaged",
        "Could not \(action): the database file is damaged (\(cause)).", at: path,
        help: "Stop the process, keep a copy of the directory, and restore the last backup.")
    case .SQLITE_IOERR:
      return Diagnostic(
        .unavailable, code: "disk_error",
        "Could not \(action): the disk reported an error (\(cause)).", at: path,
        notes: ["Whether this request is stored is not certain."],
        help: "Check the disk and the system's log, then send the request again, under the same "
          + "Idempotency-Key or with unique keys: then it is stored once.")
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      return Diagnostic(
        .unavailable, code: "database_busy",
        "Could not \(action): another program holds the database locked.", at: path,
        help: "Close other programs that have riffle.db open for writing.")
    default:
      return Diagnostic(
        .internalError, code: "database_error",
        "Could not \(action): the database answered \(fault.resultCode.rawValue) (\(cause)).",
        at: path)
    }
  }
}

/// Runs a body of database calls and throws what goes wrong as a `Diagnostic`.
func translatingFaults<Result>(
  path: String, doing action: String, _ body: () throws -> Result
) throws(Diagnostic) -> Result {
  do {
    return try body()
  } catch {
    throw StorageFault.diagnostic(error, path: path, doing: action)
  }
}
