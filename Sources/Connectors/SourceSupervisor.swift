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
  private let transport: any HTTPTransport
  private let columns: @Sendable (_ table: String) -> [String]
  private let onChange: @Sendable (SourceDefinition, SourceStatus) -> Void
  private let sources = Mutex<[String: Source]>([:])
  /// Whether sources read; a command that only looks at a directory lets them rest.
  private let runs: Bool

  package init(
    sink: any EventSink, clock: SourceClock, runs: Bool = true,
    transport: any HTTPTransport = SessionTransport(),
    factories: [SourceKind: ReaderFactory] = [:],
    columns: @escaping @Sendable (_ table: String) -> [String],
    onChange: @escaping @Sendable (SourceDefinition, SourceStatus) -> Void = { _, _ in }
  ) {
    self.sink = sink
    self.clock = clock
    self.runs = runs
    self.transport = transport
    self.factories = factories
    self.columns = columns
    self.onChange = onChange
  }

  package var all: [SourceInfo] {
    sources.withLock { Array($0.values) }.map(Self.info)
      .sorted { $0.definition.name < $1.definition.name }
  }

  package func source(_ name: String) -> SourceInfo? {
    sources.withLock { $0[name] }.map(Self.info)
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

  /// Takes up a source, in place of one of the same name, and starts it.
  package func add(_ definition: SourceDefinition, paused: Bool) async {
    await remove(definition.name)
    let worker: Worker
    if case .segment(let settings) = definition.settings {
      let receiver = SegmentReceiver(
        definition, settings, sink: sink, clock: clock,
        columns: { [columns] in columns(definition.table) })
      worker = .receiver(receiver)
    } else {
      worker = .runner(
        SourceRunner(
          definition, sink: sink, clock: clock, makeReader: reader(of: definition),
          onChange: onChange))
    }
    sources.withLock { $0[definition.name] = Source(worker: worker, isPaused: paused) }
    await start(worker, paused: paused)
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
        return KinesisReader(definition, settings, transport: transport, clock: clock)
      case .kafka, .segment: preconditionFailure("a source without a reader")
      }
    }
  }

  private func start(_ worker: Worker, paused: Bool) async {
    guard runs else { return }
    switch worker {
    case .runner(let runner):
      if paused { await runner.stop(as: .paused) } else { runner.start() }
    case .receiver(let receiver):
      await receiver.open(paused: paused)
    }
  }

  /// Lets a source rest, or go on; gives false where there is none of the name.
  package func setPaused(_ paused: Bool, _ name: String) async -> Bool {
    let source = sources.withLock { sources in
      sources[name]?.isPaused = paused
      return sources[name]
    }
    guard let source else { return false }
    guard runs else { return true }
    switch source.worker {
    case .runner(let runner):
      if paused { await runner.stop(as: .paused) } else { runner.start() }
    case .receiver(let receiver): receiver.setPaused(paused)
    }
    return true
  }

  /// Ends a source; returns when nothing of it is under way.
  package func remove(_ name: String) async {
    guard let source = sources.withLock({ $0.removeValue(forKey: name) }) else { return }
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
    let workers = sources.withLock { $0.values.map(\.worker) }
    await withTaskGroup(of: Void.self) { group in
      for worker in workers { group.addTask { await self.stop(worker) } }
    }
  }

  /// The tracking API over the sources that it feeds.
  package var endpoint: SegmentEndpoint {
    SegmentEndpoint(
      sources.withLock { sources in
        sources.sorted { $0.key < $1.key }.compactMap { source in
          if case .receiver(let receiver) = source.value.worker { receiver } else { nil }
        }
      })
  }
}
