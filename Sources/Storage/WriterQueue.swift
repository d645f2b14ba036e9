import Dispatch
import Domain
import Synchronization

/// An append as it waits for its commit.
struct PendingAppend: Sendable {
  var schema: TableSchema
  var rows: [[Value]]
  /// Called once, after the commit and its observer, or with what went wrong.
  var finish: @Sendable (Result<AppendReceipt, Diagnostic>) -> Void
}

/// What `LogStore` and its writer's thread share: the queue of waiting work, the tables and the
/// observer.
///
/// A lock is held for moments only, never while the database works.
final class WriterQueue: Sendable {
  enum Job {
    case append(PendingAppend)
    /// Work that wants the log to itself, such as making a table.
    case perform(@Sendable (LogWriter) -> Void)
  }

  enum Work {
    case appends([PendingAppend])
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

  // MARK: Tables

  var tables: [StoredTable] { state.withLock { Array($0.tables.values) } }

  func table(_ name: String) -> StoredTable? { state.withLock { $0.tables[name] } }

  func set(_ table: StoredTable?, named name: String) {
    state.withLock { $0.tables[name] = table }
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

  /// Puts an append or other work at the end of the queue.
  func enqueue(_ job: Job) throws(Diagnostic) {
    let (problem, mustWake): (Diagnostic?, Bool) = state.withLock { state in
      if state.isClosed {
        return (
          Diagnostic(
            .unavailable, code: "storage_closed", "The data directory is closed.",
            help: "The server is stopping; send the request again once it is back."), false
        )
      }
      if case .append(let append) = job, !state.groupCommit.admit(rows: append.rows.count) {
        let waiting = state.groupCommit.waitingRows
        return (
          Diagnostic(
            .overloaded, code: "too_many_waiting_rows",
            "\(waiting) rows wait for the disk already; nothing of this request was stored.",
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
        case .append:
          var waiting: [PendingAppend] = []
          for job in state.jobs.prefix(WriterQueue.appendsPerCommit) {
            guard case .append(let append) = job else { break }
            waiting.append(append)
          }
          let count = state.groupCommit.take(from: waiting.lazy.map(\.rows.count))
          state.jobs.removeFirst(count)
          return (.appends(Array(waiting.prefix(count))), false)
        }
      }
      if let work { return work }
      if isOver { return nil }
      wake.wait()
    }
  }

  private static let appendsPerCommit = 4096

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
