import Domain
import Synchronization

/// Runs one source: opens its reader at the stored positions, hands on batch after batch, and comes
/// back after failures, each wait longer than the one before.
package final class SourceRunner: Sendable {
  package let definition: SourceDefinition
  private let sink: any EventSink
  private let clock: SourceClock
  private let makeReader: @Sendable () throws -> any SourceReader
  private let onChange: @Sendable (SourceDefinition, SourceStatus) -> Void
  private let backOff: BackOff

  private struct State {
    var status = SourceStatus()
    var task: Task<Void, Never>?
  }
  private let state = Mutex(State())

  /// - Parameter onChange: is told when the state of the source becomes another one, for the log.
  package init(
    _ definition: SourceDefinition, sink: any EventSink, clock: SourceClock,
    backOff: BackOff = BackOff(),
    makeReader: @escaping @Sendable () throws -> any SourceReader,
    onChange: @escaping @Sendable (SourceDefinition, SourceStatus) -> Void = { _, _ in }
  ) {
    self.definition = definition
    self.sink = sink
    self.clock = clock
    self.backOff = backOff
    self.makeReader = makeReader
    self.onChange = onChange
  }

  package var status: SourceStatus { state.withLock { $0.status } }

  /// Starts reading; nothing where it runs already.
  package func start() {
    state.withLock { state in
      guard state.task == nil else { return }
      state.status.state = .starting
      state.task = Task { await self.run() }
    }
  }

  /// Stops reading and returns when nothing of the source is under way any more.
  package func stop(as final: SourceStatus.State = .stopped) async {
    let task = state.withLock { state in
      defer { state.task = nil }
      return state.task
    }
    task?.cancel()
    await task?.value
    update { status in
      status.state = final
      status.nextAttemptAt = nil
    }
  }

  /// Tells the source to end, without waiting for it.
  package func cancel() { state.withLock { $0.task }?.cancel() }

  private func update(_ body: (inout SourceStatus) -> Void) {
    let (before, after) = state.withLock { state in
      let before = state.status.state
      body(&state.status)
      return (before, state.status)
    }
    if before != after.state { onChange(definition, after) }
  }

  private func run() async {
    var backOff = backOff
    var generator = SystemRandomNumberGenerator()
    while !Task.isCancelled {
      update { $0.state = .starting }
      var opened: (any SourceReader)?
      do {
        let reader = try makeReader()
        opened = reader
        try await reader.open(at: try await sink.positions(of: definition.name))
        try await read(reader, &backOff)
        if !Task.isCancelled {
          await reader.close()
          update { $0.state = .finished }
          return
        }
      } catch {
        if !Task.isCancelled { note(error, backOff.failures + 1) }
      }
      await opened?.close()
      if Task.isCancelled { break }
      let wait = backOff.failed(using: &generator)
      await waitBeforeRetry(wait, as: .backingOff)
    }
  }

  /// Reads until an error, the task's end, or the source's.
  private func read(_ reader: any SourceReader, _ backOff: inout BackOff) async throws {
    while !Task.isCancelled {
      guard let batch = try await reader.next() else {
        let lag = await reader.lag
        let warning = await reader.warning
        backOff.succeeded()
        update { status in
          status.state = .running
          status.attempt = 0
          status.lag = lag
          status.warning = warning
        }
        if await reader.isFinished { return }
        if reader.pause > .zero { try await clock.sleep(reader.pause) }
        continue
      }
      try await deliver(batch)
      try await reader.delivered(batch)
      backOff.succeeded()
      let lag = await reader.lag
      let warning = await reader.warning
      update { status in
        status.lag = lag
        status.warning = warning
      }
    }
  }

  private func deliver(_ batch: SourceBatch) async throws {
    let (delivery, filtered) = definition.delivery(of: batch)
    var patience = BackOff(first: .milliseconds(50), longest: .seconds(5))
    var generator = SystemRandomNumberGenerator()
    while true {
      do {
        let receipt = try await sink.deliver(delivery)
        let newest = batch.records.compactMap(\.time).max()
        let now = clock.now()
        update { status in
          status.state = .running
          status.attempt = 0
          status.rowCount += receipt.rowCount
          status.deadLetterCount += receipt.deadLetterCount
          status.filteredCount += filtered
          status.deliveryCount += 1
          status.lastDeliveryAt = now
          status.newestRecordAt = newest ?? status.newestRecordAt
        }
        return
      } catch let problem as Diagnostic
        where problem.kind == .overloaded && !Task.isCancelled
      {
        // Nothing was stored: the same delivery waits until the log takes it.
        note(problem, patience.failures + 1)
        await waitBeforeRetry(patience.failed(using: &generator), as: .throttled)
        try Task.checkCancellation()
      }
    }
  }

  private func note(_ error: any Error, _ attempt: Int) {
    let problem = definition.diagnostic(of: error)
    let now = clock.now()
    state.withLock { state in
      state.status.errorCount += 1
      state.status.attempt = attempt
      state.status.lastError = problem
      state.status.lastErrorAt = now
    }
  }

  private func waitBeforeRetry(_ wait: Duration, as waiting: SourceStatus.State) async {
    let seconds = Double(wait.components.seconds) + Double(wait.components.attoseconds) / 1e18
    let at = Timestamp(secondsSinceEpoch: clock.now().secondsSinceEpoch + seconds)
    update { status in
      status.state = waiting
      status.nextAttemptAt = at
    }
    // Cancellation ends the wait; the caller looks for it.
    try? await clock.sleep(wait)
    state.withLock { $0.status.nextAttemptAt = nil }
  }
}
