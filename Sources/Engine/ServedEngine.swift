package import Domain
import Evaluation
import Foundation
import QueryEngine
package import State
import Storage
import Synchronization

/// One declared engine: its state, which follows the log; its published generation; its status.
package final class ServedEngine: Sendable {
  package let configuration: EngineConfiguration
  package let createdAt: Timestamp
  /// Which tables and columns make the users and items; it changes when a table is altered.
  var mapping: EntityMapping { mappings.current }
  private let mappings: Published<EntityMapping>
  /// The tables whose rows make the state.
  let tableNames: Set<String>
  private let follower: Mutex<Follower>
  private let state: Published<StateSnapshot>
  private let published: Published<Generation?>
  private let statusBox = Mutex(EngineStatus())
  private let popularity = RankCache<Int32> { $0.interactionCounts }
  private let trends = RankCache<Double> { $0.trendWeights }
  private let tables: TableReader
  private let placements: PlacementLog
  let filters: [FilterMapping]
  let serving: ServingSettings
  private let pages: PageStore
  private let queries = QueryEngine()
  private let preparedQueries = Mutex<[String: PreparedQuery]>([:])

  /// The fold and what it has not seen yet. While the log is replayed, new commits wait.
  private struct Follower {
    var fold: StateFold
    /// Everything up to here is in the fold.
    var through = LogPosition.start
    /// nil once the replay is over.
    var waiting: [(batches: [CommittedBatch], through: LogPosition)]? = []
  }

  init(
    _ configuration: EngineConfiguration, _ mapping: EntityMapping, filters: [FilterMapping],
    createdAt: Timestamp, serving: ServingSettings, tables: TableReader, placements: PlacementLog
  ) {
    self.placements = placements
    self.filters = filters
    tableNames = Set(
      [mapping.interactionTable, mapping.itemTable, mapping.userTable].compactMap { $0?.name }
        + filters.map(\.table))
    self.serving = serving
    self.tables = tables
    pages = PageStore(lifetimeSeconds: serving.pageSeconds)
    self.configuration = configuration
    mappings = Published(mapping)
    self.createdAt = createdAt
    let fold = StateFold(mapping, filters: filters)
    state = Published(fold.snapshot())
    follower = Mutex(Follower(fold: fold))
    published = Published(nil)
  }

  package var name: String { configuration.name }
  /// The newest state: it holds everything that is acknowledged.
  package var snapshot: StateSnapshot { state.current }
  /// The log position of the newest state.
  package var asOf: LogPosition { snapshot.through }
  /// nil before the first training has ended.
  package var generation: Generation? { published.current }
  package var status: EngineStatus { statusBox.withLock { $0 } }

  // MARK: following the log

  /// Folds everything that the log holds already. Commits may go on meanwhile.
  func replay(_ log: LogStore, after start: LogPosition = .start) throws {
    let end = try log.replay(
      tables: tableNames.sorted(), after: start, undoing: start > .start
    ) { batches, through in
      follower.withLock { $0.fold.apply(batches, through: through) }
    }
    follower.withLock { follower in
      follower.fold.apply([], through: end)
      for commit in follower.waiting ?? [] where commit.through > end {
        follower.fold.apply(commit.batches, through: commit.through)
      }
      follower.through = max(end, follower.waiting?.last?.through ?? .start)
      follower.waiting = nil
      state.publish(follower.fold.snapshot())
    }
  }

  /// Takes up the stored fold and folds only what came after it. To be called at the start, before
  /// anything is committed.
  ///
  /// - Returns: false where there is none, or one that is none of this log; nothing has changed then.
  func resume(from states: StateKeeper, _ log: LogStore) throws -> Bool {
    let tables = tableNames.sorted()
    let start: LogPosition? = try follower.withLock { follower in
      guard let stored = states.fold(of: self) else { return nil }
      let through = stored.snapshot().through
      guard stored.holds(try log.removedRows(tables: tables, after: through)) else { return nil }
      follower.fold = stored
      return through
    }
    guard let start else { return false }
    try replay(log, after: start)
    return true
  }

  /// The state to be stored, as it is now; nil while the log is folded, or where it cannot be.
  func image() -> StateImage? {
    follower.withLock { $0.waiting == nil ? $0.fold.image() : nil }
  }

  /// Whether the engine reads a table.
  package func reads(table: String) -> Bool {
    tableNames.contains(table)
  }

  /// The user of a row of the interaction table.
  package func user(of row: [Value], in table: String) -> String? {
    guard mapping.interactionTable.name == table,
      let place = mapping.interactionTable.index(of: configuration.data.userColumn),
      place < row.count
    else { return nil }
    switch row[place] {
    case .string(let text): return text
    case .int(let number): return String(number)
    default: return nil
    }
  }

  /// Forgets what is kept in memory of a user beside the state.
  func forgetCaches(of user: UserID) {
    for model in generation?.models ?? [] { model.forget(user) }
    preparedQueries.withLock { $0.removeAll() }
  }

  /// Waits until the state holds a position of the log.
  ///
  /// - Throws: `position_not_reached` where the log itself has not come so far within a second.
  package func reach(_ position: LogPosition) async throws {
    for _ in 0..<200 {
      if asOf >= position { return }
      try await Task.sleep(for: .milliseconds(5))
    }
    throw notReached(position)
  }

  package static let notReached = "position_not_reached"

  /// The problem of a query that asks for a position which the state has not come to.
  package func notReached(_ position: LogPosition) -> Diagnostic {
    Diagnostic(
      .unavailable, code: Self.notReached,
      "The engine `\(name)` is at position \(asOf.rawValue); the query asks for "
        + "\(position.rawValue).", at: "at_least",
      help: "Send the query again, or leave at_least out.")
  }

  /// Sees one commit, on the log's own thread and in its order.
  func observe(_ batches: [CommittedBatch], _ through: LogPosition) {
    follower.withLock { follower in
      if follower.waiting != nil {
        follower.waiting?.append((batches, through))
      } else if through > follower.through {
        // A commit can be on the disk, and so in the replay, before the log's thread tells of it.
        follower.through = through
        follower.fold.apply(batches, through: through)
        state.publish(follower.fold.snapshot())
      }
    }
  }

  /// Whether the log is still being replayed for the first time.
  var isReplaying: Bool { follower.withLock { $0.waiting != nil } }

  /// Follows a change of its tables, on the log's own thread: no commit comes between.
  func adopt(_ mapping: EntityMapping) {
    mappings.publish(mapping)
    follower.withLock { follower in
      follower.fold.adopt(mapping)
      state.publish(follower.fold.snapshot())
    }
  }

  // MARK: life

  private let retired = Atomic<Bool>(false)
  /// Whether the engine was deleted.
  var isRetired: Bool { retired.load(ordering: .relaxed) }
  func retire() { retired.store(true, ordering: .relaxed) }

  func publish(_ generation: Generation) { published.publish(generation) }

  func updateStatus(_ body: (inout EngineStatus) -> Void) { statusBox.withLock { body(&$0) } }

  /// Judges the published model again, beside further rankings, on the events of now.
  ///
  /// - Parameter others: name, and the scores of a user for some items.
  package func judge(
    _ model: String, others: [(name: String, scores: (UserID, [ItemID]) -> [Float])]
  ) throws -> EvaluationTable? {
    guard let served = generation?.model(named: model) else { return nil }
    let data = TrainingData(snapshot, served.policy)
    // With new items since the training the tokens would mean something else.
    guard data.vocabulary == served.vocabulary else { return nil }
    let training = try ModelTraining(
      policy: served.policy, threads: allowedCoreCount, niceness: 0)
    return training.judge(
      served.model, on: data, data.split,
      others: others.map { other in
        (name: other.name, scores: { other.scores($0, data.vocabulary) })
      })
  }

  // MARK: queries

  /// Answers a query from the newest state and the published generation.
  package func answer(_ call: QueryCall) throws -> EngineAnswer {
    let clock = ContinuousClock()
    let start = clock.now
    let state = snapshot
    let generation = generation
    let now = Timestamp.now()
    let source = source(state, generation, now)
    var options = QueryOptions()
    options.explains = call.explains
    options.showsJourneys = call.showsJourneys
    options.influenceCount = call.influenceCount
    options.seed = call.seed ?? UInt64(bitPattern: now.microsecondsSinceEpoch)
    options.mostNanoseconds = Self.mostNanoseconds
    options.stopwatch = {
      let parts = (clock.now - start).components
      return parts.seconds * 1_000_000_000 + parts.attoseconds / 1_000_000_000
    }
    if let key = call.paginationKey {
      options.page = PageRequest(store: pages, key: key, restarts: call.ignoresPagination)
    }
    var statements =
      if let query = prepared(call.text) {
        try queries.answers(query, parameters: call.parameters, options: options, on: source)
      } else {
        // Run as text, a faulty query has all its problems named, those of its names among them.
        try queries.answers(
          QueryRequest(text: call.text, parameters: call.parameters, options: options), on: source)
      }
    if let name = call.queryName { statements = statements.map { $0.named(name) } }
    let answer = EngineAnswer(
      engine: name, statements: statements, asOf: state.through, generation: generation, now: now,
      duration: clock.now - start)
    placements.record(answer, query: call.queryName)
    return answer
  }

  /// Whether a query of this engine takes so little that the thread which read it may answer it, with
  /// others waiting behind.
  package var isQuick: Bool { snapshot.itemCount <= Self.rowsAnsweredAtOnce }
  private static let rowsAnsweredAtOnce = 20_000

  /// Whether a query reads tables from the disk.
  package func waitsForDisk(_ call: QueryCall) -> Bool {
    prepared(call.text)?.readsTables ?? false
  }

  /// The columns of the interaction table that tell sessions.
  var interactionRoles: InteractionColumns.Roles {
    let data = configuration.data
    return InteractionColumns.Roles(
      user: data.userColumn, time: data.timeColumn ?? EntityColumns().createdAt,
      session: data.sessionColumn, interaction: data.interactionColumn)
  }

  private func source(
    _ state: StateSnapshot, _ generation: Generation?, _ now: Timestamp
  ) -> EngineSource {
    EngineSource(
      engine: name, interactionTable: mapping.interactionTable.name, roles: interactionRoles,
      embeddings: configuration.embeddings, filters: configuration.data.filters, state: state,
      generation: generation, now: now, popularity: popularity, trends: trends, tables: tables,
      lexicalSettings: serving.lexical, userFields: serving.lexicalUserFields)
  }

  /// What is wrong with the saved queries, as far as that can be told before they are asked: their
  /// form, and the names of columns, models, embeddings, filters and tables.
  func problemsOfQueries() -> [Diagnostic] {
    var source = source(snapshot, nil, .now())
    source.readsNoRows = true
    return configuration.queries.flatMap { query -> [Diagnostic] in
      var values: [String: JSON] = [:]
      for parameter in query.parameters {
        if let value = parameter.defaultValue { values[parameter.name] = value }
      }
      let problems: [Diagnostic]
      do throws(Diagnostics) {
        problems = queries.problems(
          of: try PreparedQuery(query.text), parameters: values, on: source)
      } catch {
        problems = error.all
      }
      return problems.map { $0.placed(at: "queries.\(query.name)") }
    }
  }

  /// A query that runs longer is ended.
  private static let mostNanoseconds: Int64 = 10_000_000_000

  /// The parsed query of a text, kept for the next call; nil where it has problems.
  private func prepared(_ text: String) -> PreparedQuery? {
    if let kept = preparedQueries.withLock({ $0[text] }) { return kept }
    guard let query = try? PreparedQuery(text) else { return nil }
    preparedQueries.withLock { queries in
      // Texts with values written into them would fill the memory; those with parameters come back.
      if queries.count >= 256 { queries.removeAll(keepingCapacity: true) }
      queries[text] = query
    }
    return query
  }

  /// - Throws: `unknown_query` with the nearest name.
  package func savedQuery(
    named query: String
  ) throws(Diagnostic) -> EngineConfiguration.SavedQuery {
    if let saved = configuration.query(named: query) { return saved }
    let names = configuration.queries.map(\.name)
    let help =
      nearestName(to: query, among: names).map { "Did you mean `\($0)`?" }
      ?? (names.isEmpty
        ? "The engine `\(name)` has no saved queries."
        : "Saved queries: \(names.map { "`\($0)`" }.joined(separator: ", ")).")
    throw Diagnostic(
      .notFound, code: "unknown_query", "Saved query '\(query)' not found.", at: "queries",
      help: help)
  }
}
