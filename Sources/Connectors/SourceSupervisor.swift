package import Domain
import Synchronization

/// A source and how it fares.
package struct SourceInfo: Hashable, Sendable {
  package var definition: SourceDefinition
  package var status: SourceStatus
  package var isPaused: Bool
}

/// Makes a reader for a source of a kind that lives in a target of its own.
package typealias ReaderFactory = @Sendable (SourceDefinition) throws -> any SourceReader

/// Runs all sources of one database: starts, pauses and ends them, and knows how each fares.
package final class SourceSupervisor: Sendable {
  private enum Worker: Sendable {
    case runner(SourceRunner)
    case receiver(SegmentReceiver)
  }

  private struct Source: Sendable {
    var worker: Worker
    var isPaused: Bool
  }

  /// What is made from outside: readers of Kafka, and whatever else another target brings.
  private let factories: [SourceKind: ReaderFactory]
  private let sink: any EventSink
  private let clock: SourceClock
  /// Foundation's own where nil, made when a source asks for it.
  private let transport: (any HTTPTransport)?
  private let columns: @Sendable (_ table: String) -> [String]
  private let onChange: @Sendable (SourceDefinition, SourceStatus) -> Void
  private struct State {
    var sources: [String: Source] = [:]
    /// Whether sources read; a command that only looks at a directory lets them rest.
    var isRunning = false
  }
  private let state = Mutex(State())

  package init(
    sink: any EventSink, clock: SourceClock,
    transport: (any HTTPTransport)? = nil,
    factories: [SourceKind: ReaderFactory] = [:],
    columns: @escaping @Sendable (_ table: String) -> [String],
    onChange: @escaping @Sendable (SourceDefinition, SourceStatus) -> Void = { _, _ in }
  ) {
    self.sink = sink
    self.clock = clock
    self.transport = transport
    self.factories = factories
    self.columns = columns
    self.onChange = onChange
  }

  package var all: [SourceInfo] {
    state.withLock { Array($0.sources.values) }.map(Self.info)
      .sorted { $0.definition.name < $1.definition.name }
  }

  package func source(_ name: String) -> SourceInfo? {
    state.withLock { $0.sources[name] }.map(Self.info)
  }

  private static func info(_ source: Source) -> SourceInfo {
    switch source.worker {
    case .runner(let runner):
      SourceInfo(
        definition: runner.definition, status: runner.status, isPaused: source.isPaused)
    case .receiver(let receiver):
      SourceInfo(
        definition: receiver.definition, status: receiver.status, isPaused: source.isPaused)
    }
  }

  /// Refuses a kind that this build cannot read.
  package func check(_ definition: SourceDefinition) throws(Diagnostic) {
    guard definition.kind == .kafka, factories[.kafka] == nil else { return }
    throw Diagnostic(
      code: "built_without_kafka",
      "The source `\(definition.name)` reads from Kafka, and this riffle was built without it.",
      at: "type",
      help: "Install librdkafka with its headers (Debian: librdkafka-dev; macOS: brew install "
        + "librdkafka) and build again with `swift build -c release --traits Kafka`, or with `make "
        + "build`, which does so where it finds the library.")
  }

  /// Takes up a source without starting it. There must be none of the name.
  package func register(_ definition: SourceDefinition, paused: Bool) {
    let worker: Worker
    if case .segment(let settings) = definition.settings {
      worker = .receiver(
        SegmentReceiver(
          definition, settings, sink: sink, clock: clock,
          columns: { [columns] in columns(definition.table) }))
    } else {
      worker = .runner(
        SourceRunner(
          definition, sink: sink, clock: clock, makeReader: reader(of: definition),
          onChange: onChange))
    }
    state.withLock { state in
      precondition(state.sources[definition.name] == nil, "the source is there already")
      state.sources[definition.name] = Source(worker: worker, isPaused: paused)
    }
  }

  /// Takes up a source, in place of one of the same name, and starts it where sources run.
  package func add(_ definition: SourceDefinition, paused: Bool) async {
    await remove(definition.name)
    register(definition, paused: paused)
    guard let source = state.withLock({ $0.isRunning ? $0.sources[definition.name] : nil }) else {
      return
    }
    await start(source)
  }

  /// Starts all sources that are registered, and from now on each that is added.
  package func startAll() async {
    let sources = state.withLock { state in
      state.isRunning = true
      return Array(state.sources.values)
    }
    for source in sources { await start(source) }
  }

  private func reader(
    of definition: SourceDefinition
  ) -> @Sendable () throws -> any SourceReader {
    { [self] in
      try check(definition)
      if let factory = factories[definition.kind] { return try factory(definition) }
      switch definition.settings {
      case .file(let settings): return FileReader(definition, settings)
      case .kinesis(let settings):
        return KinesisReader(
          definition, settings, transport: transport ?? SessionTransport(), clock: clock)
      case .kafka, .segment: preconditionFailure("a source without a reader")
      }
    }
  }

  private func start(_ source: Source) async {
    switch source.worker {
    case .runner(let runner):
      if source.isPaused { await runner.stop(as: .paused) } else { runner.start() }
    case .receiver(let receiver):
      await receiver.open(paused: source.isPaused)
    }
  }

  /// Lets a source rest, or go on; gives false where there is none of the name.
  package func setPaused(_ paused: Bool, _ name: String) async -> Bool {
    let (source, isRunning) = state.withLock { state in
      state.sources[name]?.isPaused = paused
      return (state.sources[name], state.isRunning)
    }
    guard let source else { return false }
    guard isRunning else { return true }
    switch source.worker {
    case .runner(let runner):
      if paused { await runner.stop(as: .paused) } else { runner.start() }
    case .receiver(let receiver): receiver.setPaused(paused)
    }
    return true
  }

  /// Ends a source; returns when nothing of it is under way.
  package func remove(_ name: String) async {
    guard let source = state.withLock({ $0.sources.removeValue(forKey: name) }) else { return }
    await stop(source.worker)
  }

  private func stop(_ worker: Worker) async {
    switch worker {
    case .runner(let runner): await runner.stop()
    case .receiver(let receiver): receiver.close()
    }
  }

  /// Ends all sources.
  package func stopAll() async {
    let workers = state.withLock { state in
      state.isRunning = false
      return state.sources.values.map(\.worker)
    }
    await withTaskGroup(of: Void.self) { group in
      for worker in workers { group.addTask { await self.stop(worker) } }
    }
  }

  /// Tells all sources to end, without waiting for them.
  package func cancelAll() {
    for worker in state.withLock({ $0.sources.values.map(\.worker) }) {
      switch worker {
      case .runner(let runner): runner.cancel()
      case .receiver(let receiver): receiver.close()
      }
    }
  }

  /// The tracking API over the sources that it feeds.
  package var endpoint: SegmentEndpoint {
    SegmentEndpoint(
      state.withLock { state in
        state.sources.sorted { $0.key < $1.key }.compactMap { source in
          if case .receiver(let receiver) = source.value.worker { receiver } else { nil }
        }
      })
  }
}
