package import Connectors
import Dispatch
package import Domain
import Ingest
package import Logging
import Models
package import QueryEngine
import State
import Storage
import Synchronization

/// A table and how much it holds.
package struct TableInfo: Sendable {
  package var schema: TableSchema
  package var createdAt: Timestamp
  package var rowCount: Int
}

/// One data directory, opened: tables, engines, training and queries.
///
/// Everything survives a restart: rows by the log, engines by the registry, published models by their
/// artifact files. Nothing is trained again that was published.
package final class RiffleDatabase: Sendable {
  package struct Options: Sendable {
    /// Threads that a training uses. Default: all cores.
    package var trainingThreads: Int?
    /// Whether engines that have no model yet are trained. A command that only looks does not.
    package var trains = true
    /// Makes the readers of sources that live in targets of their own, such as Kafka's.
    package var readerFactories: [SourceKind: ReaderFactory] = [:]
    package var upkeep = Upkeep()
    package init() {}
  }

  /// When that is done which nobody waits for. A drill does it often, to be able to disturb it.
  package struct Upkeep: Sendable {
    package var firstAfter = Duration.seconds(5)
    package var every = Duration.seconds(30)
    /// Engines' states are stored anew when so many positions came since.
    package var statePositions: Int64 = 200_000
    /// The same where the directory is closed.
    package var statePositionsAtClosing: Int64 = 20_000
    /// The write-ahead log is emptied when it has so many pages.
    package var checkpointPages = 16_384
    package init() {}

    /// As often as goes without holding up the rest.
    package static var incessant: Upkeep {
      var upkeep = Upkeep()
      upkeep.firstAfter = .milliseconds(20)
      upkeep.every = .milliseconds(60)
      upkeep.statePositions = 100
      upkeep.statePositionsAtClosing = 1
      upkeep.checkpointPages = 150
      return upkeep
    }
  }

  private struct Engines {
    /// Those that answer.
    var served: [String: ServedEngine] = [:]
    /// Those that see every commit: the served ones, and those that are still folding the log.
    var following: [String: ServedEngine] = [:]
    /// Those that could not be opened, with why. They stay in the registry until they are deleted.
    var broken: [String: String] = [:]
  }

  let log: LogStore
  let options: Options
  let logger: Logger
  private let registered = Mutex(Engines())
  let trainer: TrainingQueue
  let desk: IngestDesk
  /// The sources that bring events in.
  let supervisor: SourceSupervisor
  let states: StateKeeper
  let moreMetrics = Mutex<[@Sendable (inout MetricsText) -> Void]>([])
  private let chores = ChoreTimer()
  private let tableReader: TableReader
  private let placements: PlacementLog
  private let dataQueries = QueryEngine(cacheBytes: 0)

  /// Opens a directory, which is made where there is none, and everything in it.
  ///
  /// - Throws: `Diagnostic` where another process holds it or it cannot be used.
  package init(
    opening path: String, options: Options = Options(), logger: Logger
  ) throws {
    self.options = options
    self.logger = logger
    var limits = LogStore.Limits()
    limits.checkpointPages = options.upkeep.checkpointPages
    log = try LogStore(try DataDirectory.open(path), limits: limits)
    tableReader = TableReader(log)
    desk = IngestDesk(try log.entries(kind: IngestDesk.entryKind))
    states = StateKeeper(log, upkeep: options.upkeep, logger: logger)
    placements = PlacementLog(log, logger: logger)
    trainer = TrainingQueue(log: log, threads: options.trainingThreads, logger: logger)
    let sink = LogSink()
    supervisor = SourceSupervisor(
      sink: sink, clock: SourceClock(now: { .now() }), factories: options.readerFactories,
      columns: { [log] table in log.table(table)?.schema.columns.map(\.name) ?? [] },
      onChange: { source, status in
        logger.log(
          level: status.state == .backingOff ? .warning : .info,
          "A source is \(status.state.rawValue)",
          metadata: [
            "source": "\(source.name)",
            "error": "\(status.state == .backingOff ? status.lastError?.message ?? "" : "")",
          ])
      })
    log.onCommit { [weak self] batches, through in self?.observe(batches, through) }
    sink.attach(to: self)
    addMetrics { [supervisor] text in text.add(sources: supervisor.all) }
    try restoreSources()
    try restoreEngines()
    continueFillingViews()
    startChores()
  }

  /// Stores the engines' states now, so that a start folds only what comes later.
  package func storeStates() async throws {
    try await outsideThePool { [states, engines] in states.store(engines) }
  }

  /// What is done from time to time: old rows go, states are stored, erasures are finished.
  private func startChores() {
    let flag = ChoreFlag()
    chores.start(options.upkeep) { [weak self] in
      guard let self else { return }
      states.storeIfDue(engines)
      guard flag.begin() else { return }
      Task { [weak self] in
        await self?.finishErasures()
        await self?.refreshViews()
        do { try await self?.applyRetention() } catch {
          self?.logger.warning("Old rows could not go", metadata: ["error": "\(error)"])
        }
        flag.end()
      }
    }
  }

  package var path: String { log.directory.path }

  /// The position of the last acknowledged row.
  package var through: LogPosition { log.through }

  /// Stops training, finishes what is being written and gives up the directory.
  package func close() {
    supervisor.cancelAll()
    chores.cancel()
    trainer.stop()
    states.stop(engines)
    desk.save(into: log)
    placements.close()
    log.close()
  }

  private func observe(_ batches: [CommittedBatch], _ through: LogPosition) {
    for batch in batches where !batch.replaced.isEmpty { tableReader.rowsGone(batch) }
    for engine in followingEngines { engine.observe(batches, through) }
  }

  /// What SQLite finds wrong with the database's file; empty where it is sound. Reads all of it.
  package func integrityProblems() throws -> [String] { try log.integrityProblems() }

  // MARK: tables

  package var tables: [TableInfo] {
    log.tables().filter { table in !log.views().contains { $0.definition.name == table.schema.name }
    }
    .map { TableInfo(schema: $0.schema, createdAt: $0.createdAt, rowCount: 0) }
  }

  /// - Throws: `unknown_table` with the nearest name.
  package func table(named name: String) throws -> TableInfo {
    let schema = try log.schema(of: name)
    let createdAt = log.table(name)?.createdAt ?? Timestamp(microsecondsSinceEpoch: 0)
    return TableInfo(
      schema: schema, createdAt: createdAt, rowCount: try log.rowCount(of: name))
  }

  /// Makes a table from its definition, the body of `POST /v2/tables`.
  ///
  /// A definition of a connector's schema type (`KAFKA`, `SEGMENT`, ...) makes the table and a source of
  /// the same name that fills it.
  package func createTable(_ definition: JSON) async throws -> TableSchema {
    if let type = definition["schema_type"]?.string, SourceKind(anyCase: type) != nil {
      let source = try await createSource(definition)
      return try log.schema(of: source.table)
    }
    let schema = try TableDefinition(definition).schema
    try await log.createTable(schema, at: .now())
    logger.info("Made a table", metadata: ["table": "\(schema.name)"])
    return schema
  }

  /// Gives a table's rows in log order, some at a time.
  package func rows(of table: String, _ body: ([LoggedRow]) throws -> Void) throws {
    try log.replay(tables: [table]) { batches, _ in
      for batch in batches { try body(batch.inserted) }
    }
  }

  /// Answers a query of the global endpoint: over tables, or over an engine that it names.
  package func answer(_ call: QueryCall) throws -> [StatementAnswer] {
    let source = GlobalSource(tables: tableReader, log: log, now: .now()) { name in
      self.registered.withLock { $0.served[name] }
    }
    return try dataQueries.answers(
      QueryRequest(text: call.text, parameters: call.parameters), on: source)
  }

  // MARK: engines

  package var engines: [ServedEngine] {
    registered.withLock { $0.served.values.sorted { $0.name < $1.name } }
  }

  /// - Throws: `unknown_engine` with the nearest name.
  package func engine(named name: String) throws(Diagnostic) -> ServedEngine {
    let (engine, names) = registered.withLock { engines in
      let engine = engines.served[name]
      return (engine, engine == nil ? engines.served.keys.sorted() : [])
    }
    if let engine { return engine }
    if let why = brokenEngines[name] {
      throw Diagnostic(
        .unavailable, code: "engine_broken", "The engine `\(name)` could not be opened: \(why)",
        help: "Mend the cause and start again, or delete the engine: riffle delete-engine "
          + "--engine-name \(name).")
    }
    let help =
      nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
      ?? (names.isEmpty
        ? "There are no engines yet. Create one: POST /v2/engines, or riffle create-engine."
        : "The engines are \(names.map { "`\($0)`" }.joined(separator: ", ")).")
    throw Diagnostic(
      .notFound, code: "unknown_engine", "There is no engine `\(name)`.", at: "engine", help: help)
  }

  /// Declares an engine from its YAML or JSON and starts its training.
  ///
  /// Returns once the engine has folded the log: queries that need no model are answered from then on.
  package func createEngine(
    parsing text: String, origin: String = "engine.yaml"
  ) async throws -> ServedEngine {
    let configuration: EngineConfiguration
    do throws(Diagnostics) {
      configuration = try EngineConfiguration(parsing: text, origin: origin)
    } catch {
      throw Diagnostics(error.all + furtherProblems(in: text, origin: origin))
    }
    let made = try await makeViews(of: configuration)
    let engine: ServedEngine
    do {
      engine = try prepare(configuration, createdAt: .now(), isRestored: false)
    } catch {
      await dropViews(made)
      throw error
    }
    let isTaken = registered.withLock { engines in
      if engines.following[engine.name] != nil { return true }
      engines.following[engine.name] = engine
      return false
    }
    if isTaken {
      throw Diagnostic(
        .conflict, code: "engine_exists", "An engine `\(engine.name)` exists already.", at: "name",
        help: "Choose another name.")
    }
    states.remove(engine.name)
    do {
      try await outsideThePool { [log] in try engine.replay(log) }
      try await log.setEntry(
        kind: RegistryKind.engine, name: engine.name,
        json: EngineRecord(source: configuration.source, createdAt: engine.createdAt).json.text)
    } catch {
      registered.withLock { $0.following[engine.name] = nil }
      throw error
    }
    registered.withLock { $0.served[engine.name] = engine }
    logger.info("Created an engine", metadata: ["engine": "\(engine.name)"])
    if options.trains { trainer.schedule(engine) }
    return engine
  }

  /// Deletes an engine with its models; its tables stay. A training of it that runs is not published.
  package func deleteEngine(named name: String) async throws {
    if brokenEngines[name] == nil { try self.engine(named: name).retire() }
    registered.withLock { engines in
      engines.broken[name] = nil
      engines.served[name] = nil
      engines.following[name] = nil
    }
    states.remove(name)
    try await log.removeEntry(kind: RegistryKind.engine, name: name)
    try await log.removeEntry(kind: RegistryKind.generation, name: name)
    await dropViews(log.views().filter { $0.definition.owner == name }.map(\.definition.name))
    for entry in try log.entries(kind: RegistryKind.partition)
    where entry.name.hasPrefix("\(name)/") {
      try await log.removeEntry(kind: RegistryKind.partition, name: entry.name)
    }
    // Waits for a training that stores its model, whose own steps need the shared pool.
    try await outsideThePool { [trainer] in try trainer.removeUnusedArtifacts() }
    logger.info("Deleted an engine", metadata: ["engine": "\(name)"])
  }

  /// Deletes a table with its rows.
  ///
  /// - Throws: `table_in_use` where an engine reads it; `unknown_table`.
  package func deleteTable(named name: String) async throws {
    let users = registered.withLock { Array($0.following.values) }.filter {
      $0.tableNames.contains(name)
    }
    guard users.isEmpty else {
      throw Diagnostic(
        .conflict, code: "table_in_use",
        "The table `\(name)` is read by \(users.map { "`\($0.name)`" }.joined(separator: ", ")).",
        help: "Delete the engine first: DELETE /v2/engines/\(users[0].name).")
    }
    if let source = sourceNames(deliveringTo: name).first {
      throw Diagnostic(
        .conflict, code: "table_in_use", "The source `\(source)` delivers to the table `\(name)`.",
        help: "Delete the source first: DELETE /v2/sources/\(source).")
    }
    try await log.dropTable(name)
    for entry in desk.forget(table: name) {
      try await log.removeEntry(kind: IngestDesk.entryKind, name: entry)
    }
    logger.info("Deleted a table", metadata: ["table": "\(name)"])
  }

  /// What else is wrong with settings that cannot be read as a whole: tables that do not exist and
  /// saved queries that do not parse, so that all problems are told at once.
  private func furtherProblems(in text: String, origin: String) -> [Diagnostic] {
    guard let settings = try? SettingNode(parsing: text, origin: origin).json else { return [] }
    var problems: [Diagnostic] = []
    for key in ["interaction_table", "item_table", "user_table"] {
      let reference = settings["data"]?[key]
      if reference?["query"] != nil { continue }
      guard let name = reference?.string ?? reference?["name"]?.string else { continue }
      do throws(Diagnostic) {
        _ = try log.schema(of: name)
      } catch {
        problems.append(error.placed(at: "data.\(key)"))
      }
    }
    for query in settings["queries"]?.object ?? [] {
      guard let text = query.value["query"]?.string else { continue }
      do throws(Diagnostics) {
        _ = try PreparedQuery(text)
      } catch {
        problems += error.all.map { $0.placed(at: "queries.\(query.name)") }
      }
    }
    return problems
  }

  /// Checks a configuration against the tables and its saved queries.
  private func prepare(
    _ configuration: EngineConfiguration, createdAt: Timestamp, isRestored: Bool
  ) throws -> ServedEngine {
    var problems: [Diagnostic] = []
    let mapping = mapping(of: configuration, &problems) { name throws(Diagnostic) in
      try log.schema(of: name)
    }
    var filters: [FilterMapping] = []
    for filter in configuration.data.filters {
      var table: TableSchema?
      do throws(Diagnostic) {
        table = try log.schema(of: filter.table.name).keeping(filter.table)
      } catch {
        var problem = error
        problem.place = filter.table.path
        problems.append(problem)
      }
      guard let table else { continue }
      do throws(Diagnostics) {
        filters.append(try FilterMapping(filter, of: table))
      } catch { problems += error.all }
    }
    var serving: ServingSettings?
    do throws(Diagnostics) {
      serving = try ServingSettings(configuration.json)
    } catch { problems += error.all }
    guard let mapping, let serving, problems.isEmpty || !isRestored else {
      throw Diagnostics(problems + furtherProblems(in: configuration.queries))
    }
    let engine = ServedEngine(
      configuration, mapping, filters: filters, createdAt: createdAt, serving: serving,
      tables: tableReader, placements: placements)
    // An engine that was good when it was made goes on serving, whatever its queries name.
    if !isRestored { problems += engine.problemsOfQueries() }
    if !problems.isEmpty { throw Diagnostics(problems) }
    return engine
  }

  /// Problems of saved queries' form alone, where there is no engine to check their names with.
  private func furtherProblems(in queries: [EngineConfiguration.SavedQuery]) -> [Diagnostic] {
    queries.flatMap { query -> [Diagnostic] in
      do throws(Diagnostics) {
        _ = try PreparedQuery(query.text)
        return []
      } catch {
        return error.all.map { $0.placed(at: "queries.\(query.name)") }
      }
    }
  }

  /// Finds the columns of an engine's users and items; nil where there are problems.
  func mapping(
    of configuration: EngineConfiguration, _ problems: inout [Diagnostic],
    schema: (String) throws(Diagnostic) -> TableSchema
  ) -> EntityMapping? {
    func find(_ reference: EngineConfiguration.TableReference?) -> TableSchema? {
      guard let reference else { return nil }
      do throws(Diagnostic) {
        return try schema(reference.name).keeping(reference)
      } catch {
        var problem = error
        problem.place = reference.path
        problems.append(problem)
        return nil
      }
    }
    let data = configuration.data
    let interactions = find(data.interactionTable)
    let items = find(data.itemTable)
    let users = find(data.userTable)
    var columns = EntityColumns()
    columns.userID = data.userColumn
    columns.itemID = data.itemColumn
    if let label = data.labelColumn { columns.label = label }
    if let time = data.timeColumn { columns.createdAt = time }
    if let event = data.eventColumn { columns.eventValue = event }
    let haveAll =
      (items != nil || data.itemTable == nil) && (users != nil || data.userTable == nil)
    guard let interactions, haveAll else { return nil }
    let named = [("session_id", data.sessionColumn), ("interaction_id", data.interactionColumn)]
    for case (let key, let name?) in named where interactions.index(of: name) == nil {
      let names = interactions.columns.map(\.name)
      problems.append(
        Diagnostic(
          code: "missing_column",
          "The interaction table `\(interactions.name)` has no column `\(name)`.",
          at: "data.schema_override.interaction.\(key)",
          help: (nearestName(to: name, among: names).map { "Did you mean `\($0)`? " } ?? "")
            + "Leave `\(key)` out to have it derived."))
    }
    do throws(Diagnostics) {
      return try EntityMapping(
        interactions: interactions, items: items, users: users, columns: columns)
    } catch {
      problems += error.all
      return nil
    }
  }

  /// Engines that see every commit, those that still fold the log among them.
  var followingEngines: [ServedEngine] { registered.withLock { Array($0.following.values) } }

  // MARK: restart

  private func restoreEngines() throws {
    for entry in try log.entries(kind: RegistryKind.engine) {
      do {
        try restoreEngine(entry)
      } catch {
        // The others serve; this one says what is wrong with it until it is deleted.
        let why = (error as? Diagnostics)?.description ?? "\(error)"
        logger.error(
          "An engine cannot be opened", metadata: ["engine": "\(entry.name)", "error": "\(why)"])
        registered.withLock { engines in
          engines.following[entry.name] = nil
          engines.broken[entry.name] = why
        }
      }
    }
  }

  private func restoreEngine(_ entry: RegistryEntry) throws {
    let record = try EngineRecord(JSON(parsing: entry.json))
    let configuration = try EngineConfiguration(parsing: record.source, origin: entry.name)
    let engine = try prepare(configuration, createdAt: record.createdAt, isRestored: true)
    registered.withLock { $0.following[engine.name] = engine }
    if try engine.resume(from: states, log) {
      logger.debug("Took up a stored state", metadata: ["engine": "\(engine.name)"])
    } else {
      try engine.replay(log)
    }
    registered.withLock { $0.served[engine.name] = engine }
    do {
      if try trainer.restore(engine) {
        if options.trains { trainer.scheduleIndexes(of: engine) }
        logger.info("Restored an engine", metadata: ["engine": "\(engine.name)"])
        return
      }
    } catch {
      // The rows are whole, so the model can be made again; until then the engine says what happened.
      let message = "The stored model cannot be read: \(error)"
      logger.error(
        "A model is lost", metadata: ["engine": "\(engine.name)", "error": "\(error)"])
      engine.updateStatus { status in
        status.state = .error
        status.error = message
        status.note(message, component: "restore", at: .now(), level: "ERROR")
      }
    }
    if options.trains { trainer.schedule(engine) }
  }

  /// Engines that could not be opened, with why.
  package var brokenEngines: [String: String] { registered.withLock { $0.broken } }
}

/// Calls a body from time to time, until it is cancelled.
private final class ChoreTimer: Sendable {
  // Unchecked: a dispatch source may be used from any thread, and this is never replaced.
  private nonisolated(unsafe) let timer = DispatchSource.makeTimerSource(
    queue: DispatchQueue(label: "riffle chores", qos: .utility))
  private let isStarted = Atomic<Bool>(false)

  func start(_ upkeep: RiffleDatabase.Upkeep, _ body: @escaping @Sendable () -> Void) {
    timer.schedule(
      deadline: .now() + .nanoseconds(upkeep.firstAfter.nanoseconds),
      repeating: .nanoseconds(upkeep.every.nanoseconds))
    timer.setEventHandler(handler: body)
    isStarted.store(true, ordering: .releasing)
    timer.resume()
  }

  func cancel() { timer.cancel() }

  deinit {
    timer.cancel()
    // A source that was never resumed must be, before it goes.
    if !isStarted.load(ordering: .acquiring) { timer.resume() }
  }
}

extension Duration {
  fileprivate var nanoseconds: Int {
    Int(components.seconds) * 1_000_000_000 + Int(components.attoseconds / 1_000_000_000)
  }
}

/// Lets one round of chores run at a time.
private final class ChoreFlag: Sendable {
  private let isBusy = Atomic<Bool>(false)
  func begin() -> Bool { !isBusy.exchange(true, ordering: .acquiringAndReleasing) }
  func end() { isBusy.store(false, ordering: .releasing) }
}

/// The kinds of documents that the engine keeps in the registry.
enum RegistryKind {
  static let engine = "engine"
  static let generation = "generation"
  static let source = "source"
  /// The state of a training that has not ended, by `engine/model`.
  static let checkpoint = "checkpoint"
  /// The partition of a model's vectors, by `engine/model`.
  static let partition = "partition"
}

/// How an engine stands in the registry.
struct EngineRecord {
  var source: String
  var createdAt: Timestamp

  init(source: String, createdAt: Timestamp) {
    self.source = source
    self.createdAt = createdAt
  }

  init(_ json: JSON) throws {
    guard let source = json["source"]?.string, let time = json["created_at_us"]?.int else {
      throw Diagnostic(
        .internalError, code: "registry_damaged", "An engine's record cannot be read.",
        help: "Restore the last backup of the data directory.")
    }
    self.init(source: source, createdAt: Timestamp(microsecondsSinceEpoch: time))
  }

  var json: JSON {
    ["source": .string(source), "created_at_us": .int(createdAt.microsecondsSinceEpoch)]
  }
}

extension TableSchema {
  /// Checks the columns that a reference names; the engine reads what it needs of them.
  fileprivate func keeping(
    _ reference: EngineConfiguration.TableReference
  ) throws(Diagnostic) -> TableSchema {
    for column in reference.columns ?? [] where index(of: column) == nil {
      let names = columns.map(\.name)
      throw Diagnostic(
        code: "unknown_column", "The table `\(name)` has no column `\(column)`.",
        help: nearestName(to: column, among: names).map { "Did you mean `\($0)`?" }
          ?? "Its columns are \(names.map { "`\($0)`" }.joined(separator: ", ")).")
    }
    return self
  }
}

extension Diagnostic {
  /// The problem with its place, where it has none; a span keeps its text and names where it stands.
  func placed(at place: String) -> Diagnostic {
    var copy = self
    if copy.place == nil { copy.place = place }
    if copy.span?.origin == "query" { copy.span?.origin = place }
    return copy
  }
}
