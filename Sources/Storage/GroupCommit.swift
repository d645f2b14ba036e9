/// Decides which waiting appends share one commit, and when no more may wait. Holds no rows, lock
/// or clock.
///
/// There is no waiting for company: a commit takes what has gathered while the commit before it was
/// being synced. So one lone append pays for one sync, and a thousand tasks share one.
package struct GroupCommit: Sendable {
  /// A commit takes no further append once it holds this many rows.
  package let rowsPerCommit: Int
  /// Appends are refused while this many rows wait.
  package let waitingRowsLimit: Int
  /// Appends are refused while so many bytes wait.
  package let waitingBytesLimit: Int
  package private(set) var waitingRows = 0
  package private(set) var waitingBytes = 0

  package init(rowsPerCommit: Int, waitingRowsLimit: Int, waitingBytesLimit: Int = .max) {
    precondition(
      rowsPerCommit > 0 && waitingRowsLimit > 0 && waitingBytesLimit > 0,
      "limits must be positive")
    self.rowsPerCommit = rowsPerCommit
    self.waitingRowsLimit = waitingRowsLimit
    self.waitingBytesLimit = waitingBytesLimit
  }

  /// Admits an append of so many rows and bytes to the queue.
  ///
  /// - Returns: false where it must be refused. An append to an empty queue is always admitted,
  ///   however large, for otherwise it could never be.
  package mutating func admit(rows: Int, bytes: Int = 0) -> Bool {
    guard waitingRows == 0 || waitingRows + rows <= waitingRowsLimit,
      waitingBytes == 0 || waitingBytes <= waitingBytesLimit - min(bytes, waitingBytesLimit)
    else { return false }
    waitingRows += rows
    waitingBytes += bytes
    return true
  }

  /// Takes back the bytes of appends that `take` gave out.
  package mutating func release(bytes: Int) {
    waitingBytes -= bytes
    precondition(waitingBytes >= 0, "more bytes released than admitted")
  }

  /// Takes the appends that share the next commit from the head of the queue.
  ///
  /// - Parameter sizes: the rows of each waiting append, oldest first.
  /// - Returns: how many appends to take; at least one where any waits.
  package mutating func take(from sizes: some Sequence<Int>) -> Int {
    var appends = 0
    var rows = 0
    for size in sizes {
      if appends > 0, rows + size > rowsPerCommit { break }
      appends += 1
      rows += size
    }
    waitingRows -= rows
    precondition(waitingRows >= 0, "more rows taken than admitted")
    return appends
  }
}
