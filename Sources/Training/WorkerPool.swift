/// `Training` turns sequences into a trained model: batches, the loop over cores, early stopping,
/// and the evaluation beside the baselines.
///
/// It works on its own threads, never on the shared pool, and does no I/O.
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A fixed set of threads that run one piece of work each, with the caller as the first of them.
///
/// Made for a handful of cores and millisecond pieces: waiting is done on a condition variable.
package final class WorkerPool: @unchecked Sendable {
  // Unchecked: everything mutable is touched under `lock` only.
  package let count: Int
  private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var generation = 0
  private var running = 0
  private var stopping = false
  private var work: (@Sendable (Int) -> Void)?
  private var threads: [pthread_t] = []

  /// - Parameter niceness: how far the extra threads stand back for others (0 to 19, Linux only).
  package init(count: Int, niceness: Int32 = 0) {
    precondition(count > 0, "a pool of \(count) workers")
    self.count = count
    pthread_mutex_init(lock, nil)
    pthread_cond_init(changed, nil)
    for index in 1..<max(1, count) {
      let start = Unmanaged.passRetained(Start(pool: self, index: index, niceness: niceness))
      #if canImport(Darwin)
        var thread: pthread_t?
      #else
        var thread = pthread_t()
      #endif
      let status = pthread_create(
        &thread, nil,
        { argument in
          #if canImport(Darwin)
            let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
          #else
            guard let argument else { return nil }
            let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
          #endif
          lowerPriority(by: start.niceness)
          start.pool.serve(start.index)
          return nil
        }, start.toOpaque())
      precondition(status == 0, "a worker thread could not start (error \(status))")
      #if canImport(Darwin)
        if let thread { threads.append(thread) }
      #else
        threads.append(thread)
      #endif
    }
  }

  private final class Start: Sendable {
    // The thread holds the pool only while it serves, see `shutDown`.
    let pool: WorkerPool
    let index: Int
    let niceness: Int32
    init(pool: WorkerPool, index: Int, niceness: Int32) {
      self.pool = pool
      self.index = index
      self.niceness = niceness
    }
  }

  /// Runs the body once for each worker, with its number from 0, and returns when all are done.
  package func run(_ body: @Sendable (Int) -> Void) {
    guard count > 1 else { return body(0) }
    withoutActuallyEscaping(body) { body in
      pthread_mutex_lock(lock)
      work = body
      generation += 1
      running = count - 1
      pthread_cond_broadcast(changed)
      pthread_mutex_unlock(lock)
      body(0)
      pthread_mutex_lock(lock)
      while running > 0 { pthread_cond_wait(changed, lock) }
      work = nil
      pthread_mutex_unlock(lock)
    }
  }

  private func serve(_ index: Int) {
    var seen = 0
    pthread_mutex_lock(lock)
    while true {
      while generation == seen && !stopping { pthread_cond_wait(changed, lock) }
      if stopping { break }
      seen = generation
      let body = work
      pthread_mutex_unlock(lock)
      body?(index)
      pthread_mutex_lock(lock)
      running -= 1
      if running == 0 { pthread_cond_broadcast(changed) }
    }
    pthread_mutex_unlock(lock)
  }

  /// Ends the threads. The pool cannot be used afterwards.
  package func shutDown() {
    pthread_mutex_lock(lock)
    stopping = true
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(lock)
    for thread in threads { pthread_join(thread, nil) }
    threads = []
  }

  deinit {
    precondition(threads.isEmpty, "a pool of workers was dropped without shutDown()")
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(lock)
    changed.deallocate()
    lock.deallocate()
  }
}

/// Makes the calling thread stand back for others, where the system can do that for one thread.
package func lowerPriority(by niceness: Int32) {
  #if canImport(Glibc)
    if niceness > 0 { _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, niceness) }
  #endif
}
