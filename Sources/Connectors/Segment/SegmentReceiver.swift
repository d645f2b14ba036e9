package import Domain
import Synchronization

/// Takes the events that are sent to one source, knows repetitions by their `messageId`, and answers
/// once they are on the disk.
///
/// Requests that come while a delivery is under way share the next one, as appends share a commit; so
/// there is one delivery at a time, and the window of message ids needs no further order.
package final class SegmentReceiver: Sendable {
  private struct Pending: Sendable {
    var events: [Prepared]
    var done: CheckedContinuation<Void, any Error>
  }

  private struct Prepared: Sendable {
    var id: UInt64?
    var outcome: Outcome
  }

  private enum Outcome: Sendable {
    case row(Delivery.Row)
    case reject(Delivery.Reject)
  }

  private struct State {
    var isOpen = false
    var isPaused = false
    var pending: [Pending] = []
    var pendingCount = 0
    var isDelivering = false
    var status = SourceStatus()
  }

  package let definition: SourceDefinition
  package let settings: SegmentSettings
  private let sink: any EventSink
  private let clock: SourceClock
  /// The columns of the source's table, for a definition without a mapping.
  private let columns: @Sendable () -> [String]
  private let state = Mutex(State())
  /// Apart from the rest, for it is large and must never be copied.
  private let window: Mutex<MessageWindow>

  /// Events that may wait; more are refused until some are stored.
  private static let waitingEventsLimit = 50_000
  /// Events of one delivery, but for a single larger request.
  private static let eventsPerDelivery = 2000

  package init(
    _ definition: SourceDefinition, _ settings: SegmentSettings, sink: any EventSink,
    clock: SourceClock, columns: @escaping @Sendable () -> [String]
  ) {
    self.definition = definition
    self.settings = settings
    self.sink = sink
    self.clock = clock
    self.columns = columns
    window = Mutex(MessageWindow(limit: settings.rememberedMessages))
  }

  package var status: SourceStatus { state.withLock { $0.status } }

  /// Reads the remembered message ids and takes events from then on. Where they cannot be read it takes
  /// none, and says why.
  package func open(paused: Bool) async {
    do {
      let positions = try await sink.positions(of: definition.name)
      window.withLock { $0.restore(positions) }
    } catch {
      let problem = definition.diagnostic(of: error)
      state.withLock { $0.status.lastError = problem }
      return
    }
    state.withLock { state in
      state.isOpen = true
      state.isPaused = paused
      state.status.state = paused ? .paused : .running
    }
  }

  package func setPaused(_ paused: Bool) {
    state.withLock { state in
      state.isPaused = paused
      state.status.state = paused ? .paused : .running
    }
  }

  package func close() {
    state.withLock { state in
      state.isOpen = false
      state.status.state = .stopped
    }
  }

  /// Whether the key that a request bears is this source's.
  package func hasWriteKey(_ key: String) -> Bool {
    guard let secret = settings.writeKey, let wanted = try? secret.value(at: "write_key") else {
      return false
    }
    return equalInConstantTime(Array(key.utf8), Array(wanted.utf8))
  }

  /// Stores the events of a request, made ready by `SegmentEvent`.
  ///
  /// - Throws: `overloaded` or `unavailable` where nothing was stored and the sender should come back.
  package func accept(_ events: [JSON], receivedAt: Timestamp) async throws {
    let mapping = definition.mapping ?? SegmentEvent.mapping(for: columns())
    var filtered = 0
    let prepared = events.compactMap { event -> Prepared? in
      let one = prepare(event, mapping)
      if one == nil { filtered += 1 }
      return one
    }
    let passedOver = filtered
    if passedOver > 0 { state.withLock { $0.status.filteredCount += passedOver } }
    // Nothing to store needs no transaction, but a source that is not there must say so.
    do throws(Diagnostic) {
      try check(prepared.count)
    } catch {
      note(error)
      throw error
    }
    if prepared.isEmpty { return }
    try await withCheckedThrowingContinuation { done in
      let mustDeliver = state.withLock { state in
        state.pending.append(Pending(events: prepared, done: done))
        state.pendingCount += prepared.count
        defer { state.isDelivering = true }
        return !state.isDelivering
      }
      if mustDeliver { Task { await self.deliverPending() } }
    }
  }

  private func check(_ count: Int) throws(Diagnostic) {
    let problem: Diagnostic? = state.withLock { state in
      if !state.isOpen {
        return Diagnostic(
          .unavailable, code: "source_closed", "The source `\(definition.name)` is not open.",
          help: "Send the events again in a moment.")
      }
      if state.isPaused {
        return Diagnostic(
          .unavailable, code: "source_paused", "The source `\(definition.name)` is paused.",
          help: "Send the events again later; `riffle sources resume \(definition.name)` ends the "
            + "pause.")
      }
      if state.pendingCount > 0, state.pendingCount + count > Self.waitingEventsLimit {
        return Diagnostic(
          .overloaded, code: "too_many_waiting_events",
          "\(state.pendingCount) events wait for the disk already; none of this request was stored.",
          help: "Send them again in a moment.")
      }
      return nil
    }
    if let problem { throw problem }
  }

  /// The row of an event; nil where the filter passes it over.
  private func prepare(_ event: JSON, _ mapping: RecordMapping) -> Prepared? {
    let message = event["messageId"]?.string
    let id = message.map { MessageWindow.id(of: $0) }
    let place: JSON = ["message_id": message.map { .string($0) } ?? .null]
    func reject(_ code: String, _ words: String, _ help: String) -> Prepared {
      Prepared(
        id: id,
        outcome: .reject(
          .init(
            table: definition.table, raw: event.utf8, place: place,
            problem: Diagnostic(code: code, words, help: help))))
    }
    guard event.object != nil else {
      return reject(
        "invalid_event", "An event must be an object, not \(event.kindName).",
        "Send events as the tracking API describes them.")
    }
    if let filter = definition.filter, !filter.accepts(event) { return nil }
    return Prepared(
      id: id,
      outcome: .row(
        .init(
          table: definition.table, columns: mapping.row(of: event), raw: event.utf8, place: place)))
  }

  // MARK: delivering

  /// Delivers until nothing waits.
  private func deliverPending() async {
    while let requests = take() {
      var ids: [UInt64] = []
      var duplicates = 0
      var delivery = Delivery(source: definition.name, stream: "messages/0", position: nil)
      let events = requests.flatMap(\.events)
      // The window changes between deliveries only, and there is one at a time.
      let isKnown = window.withLock { window in
        events.map { $0.id.map { window.contains($0) } ?? false }
      }
      var fresh: Set<UInt64> = []
      for (event, isKnown) in zip(events, isKnown) {
        if let id = event.id {
          if isKnown || !fresh.insert(id).inserted {
            duplicates += 1
            continue
          }
          ids.append(id)
        }
        switch event.outcome {
        case .row(let row): delivery.rows.append(row)
        case .reject(let reject): delivery.rejects.append(reject)
        }
      }
      if !ids.isEmpty {
        (delivery.stream, delivery.position) = window.withLock { $0.storing(ids) }
      }
      do {
        var receipt = DeliveryReceipt(rowCount: 0, deadLetterCount: 0)
        if !delivery.rows.isEmpty || !delivery.rejects.isEmpty {
          receipt = try await sink.deliver(delivery)
        }
        let now = clock.now()
        let (stored, repeated) = (receipt, duplicates)
        window.withLock { $0.stored(ids) }
        state.withLock { state in
          state.status.rowCount += stored.rowCount
          state.status.deadLetterCount += stored.deadLetterCount
          state.status.duplicateCount += repeated
          state.status.deliveryCount += 1
          state.status.attempt = 0
          state.status.lastDeliveryAt = now
          state.status.newestRecordAt = now
        }
        for request in requests { request.done.resume() }
      } catch {
        note(error)
        // What was stored is in doubt after other errors than these; the stored window tells.
        if (error as? Diagnostic)?.kind != .overloaded { await restoreWindow() }
        for request in requests { request.done.resume(throwing: error) }
      }
    }
  }

  private func note(_ error: any Error) {
    let problem = definition.diagnostic(of: error)
    let now = clock.now()
    state.withLock { state in
      state.status.errorCount += 1
      state.status.attempt += 1
      state.status.lastError = problem
      state.status.lastErrorAt = now
    }
  }

  private func restoreWindow() async {
    guard let positions = try? await sink.positions(of: definition.name) else { return }
    window.withLock { $0.restore(positions) }
  }

  private func take() -> [Pending]? {
    state.withLock { state in
      guard !state.pending.isEmpty else {
        state.isDelivering = false
        return nil
      }
      var count = 0
      var requests = 0
      for request in state.pending {
        if requests > 0, count + request.events.count > Self.eventsPerDelivery { break }
        count += request.events.count
        requests += 1
      }
      let taken = Array(state.pending.prefix(requests))
      state.pending.removeFirst(requests)
      state.pendingCount -= count
      return taken
    }
  }
}

/// Takes the same time wherever the first difference lies.
func equalInConstantTime(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  var difference = a.count ^ b.count
  for i in 0..<Swift.min(a.count, b.count) { difference |= Int(a[i] ^ b[i]) }
  return difference == 0
}
