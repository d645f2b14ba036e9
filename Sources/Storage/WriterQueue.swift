import Dispatch
import Domain
import Synchronization

/// A batch as it waits for its commit.
struct PendingBatch: Sendable {
  /// Rows with the schema that they were checked against.
  struct Rows: Sendable {
    var schema: TableSchema
    var rows: [[Value]]
  }

  /// All of the batch but its rows.
  var batch: LogBatch
  var rows: [Rows]
  let rowCount: Int
  /// Called once, after the commit and its observer, or with what went wrong.
  var finish: @Sendable (Result<CommitReceipt, Diagnostic>) -> Void

  init(
    batch: LogBatch, rows: [Rows],
    finish: @escaping @Sendable (Result<CommitReceipt, Diagnostic>) -> Void
  ) {
    self.rows = rows
    self.finish = finish
    rowCount = batch.waitingRows
    self.batch = batch
    self.batch.rows = []
  }
}

/// What `LogStore` and its writer's thread share: the queue of waiting work, the tables and the
/// observer.
///
/// A lock is held for moments only, never while the database works.
final class WriterQueue: Sendable {
  enum Job {
    case batch(PendingBatch)
    /// Work that wants the log to itself, such as making a table.
    case perform(@Sendable (LogWriter) -> Void)
  }

  enum Work {
    case batches([PendingBatch])
    case perform(@Sendable (LogWriter) -> Void)
  }

  private struct State {
    var jobs: [Job] = []
    var groupCommit: GroupCommit
    var isClosed = false
    var writerSleeps = false
    var tables: [String: StoredTable]
    var observer: (@Sendable ([CommittedBatch], LogPosition) -> Void)?
    var through: LogPosition
    var views: [String: StoredView] = [:]
  }

  private let state: Mutex<State>
  private let wake = DispatchSemaphore(value: 0)

  init(groupCommit: GroupCommit, tables: [String: StoredTable], through: LogPosition) {
    state = Mutex(State(groupCommit: groupCommit, tables: tables, through: through))
  }

  var through: LogPosition {
    get { state.withLock { $0.through } }
    set { state.withLock { $0.through = newValue } }
  }

  var waiting: (rows: Int, bytes: Int) {
    state.withLock { ($0.groupCommit.waitingRows, $0.groupCommit.waitingBytes) }
  }

  // MARK: Tables

  var tables: [StoredTable] { state.withLock { Array($0.tables.values) } }

  func table(_ name: String) -> StoredTable? { state.withLock { $0.tables[name] } }

  func set(_ table: StoredTable?, named name: String) {
    state.withLock { $0.tables[name] = table }
  }

  // MARK: Views

  var views: [String: StoredView] { state.withLock { $0.views } }

  func set(_ view: StoredView?, named name: String) {
    state.withLock { $0.views[name] = view }
  }

  // MARK: Observer

  func setObserver(_ body: @escaping @Sendable ([CommittedBatch], LogPosition) -> Void) {
    state.withLock { state in
      precondition(state.observer == nil, "the log has an observer already")
      state.observer = body
    }
  }

  func observe(_ batches: [CommittedBatch], _ through: LogPosition) {
    let observer = state.withLock { $0.observer }
    observer?(batches, through)
  }

  // MARK: Work

  /// Puts a batch or other work at the end of the queue.
  func enqueue(_ job: Job) throws(Diagnostic) {
    let (problem, mustWake): (Diagnostic?, Bool) = state.withLock { state in
      if state.isClosed {
        return (
          Diagnostic(
            .unavailable, code: "storage_closed", "The data directory is closed.",
            help: "The server is stopping; send the request again once it is back."), false
        )
      }
      if case .batch(let batch) = job,
        !state.groupCommit.admit(rows: batch.rowCount, bytes: batch.batch.byteCount)
      {
        let waiting = state.groupCommit.waitingRows
        let bytes = state.groupCommit.waitingBytes
        return (
          Diagnostic(
            .overloaded, code: "too_many_waiting_rows",
            "\(waiting) rows (\(bytes) bytes) wait for the disk already; "
              + "nothing of this request was stored.",
            help: "Send it again after a moment, or send larger and fewer requests."), false
        )
      }
      state.jobs.append(job)
      defer { state.writerSleeps = false }
      return (nil, state.writerSleeps)
    }
    if let problem { throw problem }
    if mustWake { wake.signal() }
  }

  /// The writer's next piece of work; waits for one.
  ///
  /// - Returns: nil once the queue is closed and everything in it is done.
  func next() -> Work? {
    while true {
      let (work, isOver): (Work?, Bool) = state.withLock { state in
        switch state.jobs.first {
        case nil:
          state.writerSleeps = !state.isClosed
          return (nil, state.isClosed)
        case .perform(let body):
          state.jobs.removeFirst()
          return (.perform(body), false)
        case .batch:
          var waiting: [PendingBatch] = []
          for job in state.jobs.prefix(WriterQueue.batchesPerCommit) {
            guard case .batch(let batch) = job else { break }
            waiting.append(batch)
          }
          let count = state.groupCommit.take(from: waiting.lazy.map(\.rowCount))
          waiting.removeLast(waiting.count - count)
          state.groupCommit.release(bytes: waiting.reduce(0) { $0 + $1.batch.byteCount })
          state.jobs.removeFirst(count)
          return (.batches(waiting), false)
        }
      }
      if let work { return work }
      if isOver { return nil }
      wake.wait()
    }
  }

  private static let batchesPerCommit = 4096

  /// Lets no more work in; what waits is still done.
  func close() {
    let mustWake = state.withLock { state in
      state.isClosed = true
      defer { state.writerSleeps = false }
      return state.writerSleeps
    }
    if mustWake { wake.signal() }
  }
}
