import Columns
import Domain
import QueryLanguage

/// Runs a plan and keeps what its steps found, so that the answer can be explained.
struct Executor {
  let plan: Plan
  let source: any QuerySource
  let problems: QueryProblems
  let cache: PredicateCache
  let lexical: LexicalCache
  let options: QueryOptions
  let rowCount: Int
  private let version: UInt64
  var notes: [String]
  var stages: [QueryStage] = []
  /// The rows that every condition leaves.
  var allowed = Bitmap(count: 0)
  var candidates = Candidates()
  /// The candidates' scores, where the query scores.
  var scores: [Double?]?
  /// The order after sorting and after each re-ranker.
  var orders: [(step: String, places: [Int])] = []
  /// The probability of each explored placement, by place.
  var propensities: [Int: Double] = [:]
  /// How the newest search of vectors found its rows.
  var lastSearch: SearchAccount?
  private var lastMark: Int64 = 0
  private var started: Int64 = 0

  /// The rows that the retrievers found, each once, in the order of retrieval.
  struct Candidates {
    var rows: [CatalogRow] = []
    var scores: [Double?] = []
    /// The first so many compete; those behind them are there for exploration and boosts alone.
    var mainCount = 0
    /// How many there were before `truncate()`.
    var untruncatedCount = 0
    /// What each retriever found, best first.
    var found: [(rows: [CatalogRow], scores: [Double])] = []
    /// The places of each re-ranker's own items.
    var pools: [[Int]] = []
  }

  init(
    _ plan: Plan, _ source: any QuerySource, _ problems: QueryProblems, _ cache: PredicateCache,
    _ lexical: LexicalCache, _ options: QueryOptions
  ) {
    self.plan = plan
    self.source = source
    self.problems = problems
    self.cache = cache
    self.lexical = lexical
    self.options = options
    rowCount = source.items.rowCount
    version = source.catalogVersion
    notes = plan.notes
  }

  mutating func run(excluded: [CatalogRow]) throws -> QueryResult {
    started = options.stopwatch?() ?? 0
    lastMark = started
    try filter(excluded)
    try retrieve()
    scores = try score(plan.score?.user)
    let order = try ordered()
    var result = result(order)
    result.nanoseconds = (options.stopwatch?() ?? 0) - started
    if options.explains {
      result.explanation = explanation(result)
    }
    if options.showsJourneys { result.journeys = order.indices.map { journey(order[$0], at: $0) } }
    if options.influenceCount > 0 { result.influences = try influences(order) }
    return result
  }

  /// Records a step, and ends the query where it has taken too long.
  mutating func record(
    _ name: QueryStage.Name, _ step: String, kind: String, _ input: Int, _ output: Int,
    details: [JSON.Member] = []
  ) throws {
    let now = options.stopwatch?() ?? 0
    stages.append(
      QueryStage(
        name: name, step: step, inputCount: input, outputCount: output, kind: kind,
        nanoseconds: now - lastMark, details: details))
    lastMark = now
    if let most = options.mostNanoseconds, options.stopwatch != nil, now - started > most {
      throw Diagnostics(
        Diagnostic(
          .overloaded, code: "query_timeout",
          "The query took longer than \(most / 1_000_000) ms and was ended after the step `\(step)`.",
          help: "Narrow it by WHERE, fewer candidates, or fewer models in score()."))
    }
  }

  // MARK: Filters

  private mutating func filter(_ excluded: [CatalogRow]) throws {
    allowed = source.listed
    precondition(allowed.count == rowCount, "\(allowed.count) listed of \(rowCount) rows")
    var count = allowed.population
    let listedCount = count
    for condition in plan.conditions {
      try apply(condition, to: &allowed)
      if options.explains {
        let left = allowed.population
        try record(
          .filter, Plan.words(condition), kind: condition.kind, count, left,
          details: condition.details + [JSON.Member("items_filtered", .int(Int64(count - left)))])
        count = left
      }
    }
    for row in excluded where row.index < rowCount { allowed[row.index] = false }
    if options.explains {
      if !excluded.isEmpty {
        try record(.filter, "pagination", kind: "pagination", count, allowed.population)
      }
    } else {
      try record(.filter, "where", kind: "expression", listedCount, allowed.population)
    }
  }

  /// Takes the rows away for which the condition is not true.
  func apply(_ condition: Plan.Condition, to rows: inout Bitmap) throws {
    switch condition {
    case .known(let bitmap, _): rows.formIntersection(bitmap)
    case .scan(let scalar, let columns, _, let key):
      let bitmap = PredicateScan(columns: columns, rowCount: rowCount).rows(scalar)
      if let key { cache.keep(bitmap, for: key, version: version) }
      rows.formIntersection(bitmap)
    case .prebuilt(let name, let user, let span):
      do {
        for row in try source.forbidden(filter: name, user: user) where row.index < rowCount {
          rows[row.index] = false
        }
      } catch {
        throw problems.rethrown(error, span)
      }
    }
  }

  // MARK: Retrieval

  private mutating func retrieve() throws {
    var isTaken = Bitmap(count: plan.retrievers.count > 1 ? rowCount : 0)
    // Rows that an index was allowed to return and does not know, such as items without a vector.
    var unfound: Bitmap?
    for retriever in plan.retrievers {
      var rows = allowed
      for condition in retriever.conditions { try apply(condition, to: &rows) }
      let available = rows.population
      lastSearch = nil
      let found = try find(retriever, rows, available)
      try record(
        .retrieve, retriever.name ?? retriever.kind, kind: retriever.kind, available,
        found.rows.count,
        details: options.explains ? details(retriever, found.rows.count) : [])
      if plan.retrievers.count == 1 {
        candidates.rows = found.rows
        candidates.scores = found.scores.map { $0.isFinite ? $0 : nil }
      } else {
        for (row, score) in zip(found.rows, found.scores) where !isTaken[row.index] {
          isTaken[row.index] = true
          candidates.rows.append(row)
          candidates.scores.append(score.isFinite ? score : nil)
        }
      }
      candidates.found.append(found)
      if retriever.isIndexed, found.rows.count < min(available, plan.needed) {
        unfound?.formUnion(rows)
        unfound = unfound ?? rows
      }
    }
    if let unfound { fill(from: unfound) }
    candidates.untruncatedCount = candidates.rows.count
    if let truncation = plan.truncation {
      let most = max(truncation, plan.needed)
      if candidates.rows.count > most {
        candidates.rows.removeSubrange(most...)
        candidates.scores.removeSubrange(most...)
      }
    }
    candidates.mainCount = candidates.rows.count
    try addPools()
  }

  private func details(_ retriever: Plan.Retriever, _ count: Int) -> [JSON.Member] {
    [
      JSON.Member("retrieval_method", .string(retriever.kind)),
      JSON.Member("retrieved_count", .int(Int64(count))),
      JSON.Member("limit", retriever.limit.map { .int(Int64(max($0, plan.needed))) } ?? .null),
      JSON.Member("pagination_offset", .int(0)),
      JSON.Member(
        "filter_predicate",
        retriever.conditions.isEmpty
          ? .null : .string(retriever.conditions.map(Plan.words).joined(separator: " AND "))),
    ]
      + (lastSearch.map { search in
        [
          JSON.Member("search", .string(search.method)),
          JSON.Member("recall", .double(search.recall)),
          JSON.Member("scanned_rows", .int(Int64(search.scannedRows))),
        ]
      } ?? [])
  }

  /// Adds rows that no retriever ranked, behind all others and without a score, until `LIMIT` is met:
  /// the promise does not rest on an index that holds every item. Popular ones come first.
  private mutating func fill(from rows: Bitmap) {
    let missing = plan.needed - candidates.rows.count
    guard missing > 0 else { return }
    var rows = rows
    for row in candidates.rows { rows[row.index] = false }
    let left = rows.rows.map { CatalogRow($0) }
    var added = Array(left.prefix(missing))
    if left.count > missing, source.derivedColumnNames.contains("_derived_popular_rank"),
      let ranks = source.derivedColumn("_derived_popular_rank")
    {
      let keys = OrderKeys(ranks, left, isDescending: false, nullsFirst: false).keys
      added = smallest(missing, of: left.count, by: [keys]).map { left[$0] }
    }
    guard !added.isEmpty else { return }
    candidates.rows += added
    candidates.scores += Array(repeating: nil, count: added.count)
    notes.append("\(added.count) items that the index does not hold were added to reach LIMIT")
  }

  /// Finds the items of explorations and boosts; those that no retriever found are scored too, and
  /// stand behind the candidates.
  private mutating func addPools() throws {
    let hasPools = plan.reorder.contains { $0.pool != nil }
    var places: [CatalogRow: Int] = [:]
    if hasPools {
      places = Dictionary(
        zip(candidates.rows, candidates.rows.indices), uniquingKeysWith: { first, _ in first })
    }
    for (number, step) in plan.reorder.enumerated() {
      let rows: [CatalogRow]
      switch step.pool {
      case nil: rows = []
      case .named(let place): rows = candidates.found[place].rows
      case .retriever(let retriever):
        var among = allowed
        for condition in retriever.conditions { try apply(condition, to: &among) }
        rows = try find(retriever, among, among.population, raised: false).rows
      case .anything: rows = sample(QueryLimits.exploredCandidates, seed: seed(of: number))
      }
      candidates.pools.append(
        rows.map { row in
          if let place = places[row] { return place }
          let place = candidates.rows.count
          places[row] = place
          candidates.rows.append(row)
          candidates.scores.append(nil)
          return place
        })
    }
  }

  /// The seed of a re-ranker: its own, or the request's.
  func seed(of step: Int) -> UInt64 {
    if case .exploration(let exploration) = plan.reorder[step], let seed = exploration.seed {
      return seed
    }
    return options.seed &+ UInt64(step) &* 0x9E37_79B9
  }

  /// Some of the allowed rows at random, each with the same chance.
  private func sample(_ count: Int, seed: UInt64) -> [CatalogRow] {
    var random = RandomNumbers(seed: ~seed)
    var kept: [CatalogRow] = []
    var seen = 0
    allowed.forEach { row in
      seen += 1
      if kept.count < count {
        kept.append(CatalogRow(row))
      } else {
        let place = random.below(seen)
        if place < count { kept[place] = CatalogRow(row) }
      }
    }
    return kept
  }

  // MARK: Scores

  /// The scores of all candidates for a user, or nil where the query scores nothing.
  mutating func score(_ user: UserInput?) throws -> [Double?]? {
    guard let score = plan.score else { return nil }
    let rows = candidates.rows
    do {
      let reader = FormulaReader(source: source, user: user, found: candidates.found)
      let values = try reader.values(score.program, rows)
      let out = score.program.run(values, rows: rows)
      try record(
        .score, "score", kind: "score_ensemble", rows.count, rows.count,
        details: options.explains ? scoreDetails(score, values, out) : [])
      return out
    } catch {
      throw problems.rethrown(error, score.span)
    }
  }

  private func result(_ order: [Int]) -> QueryResult {
    let shown = scores ?? candidates.scores
    let rows = order.map { candidates.rows[$0] }
    let ids = rows.map { source.itemID(of: $0) }
    let chosen = order.map { shown[$0] }
    let columns = plan.output.map { output in
      switch output {
      case .column(let name, let column):
        ResultColumn(name: name, source: .column(column, rows: rows))
      case .ids(let name): ResultColumn(name: name, source: .ids(ids))
      case .score(let name): ResultColumn(name: name, source: .numbers(chosen))
      }
    }
    var result = QueryResult(
      rows: rows, ids: ids, scores: chosen, columns: columns, notes: notes, stages: stages)
    if !propensities.isEmpty { result.propensities = order.map { propensities[$0] } }
    for name in plan.embeddings {
      let vectors = try? source.vectors(embedding: name, rows: rows)
      if vectors == nil { result.notes.append("the vectors of `\(name)` cannot be read here") }
      result.embeddings.append((name, vectors ?? Array(repeating: nil, count: rows.count)))
    }
    return result
  }
}

extension Plan.Retriever {
  /// Whether an index that may not hold every item answers.
  var isIndexed: Bool {
    switch operation {
    case .nearest, .nearestTo, .roundRobin: true
    case .lexical, .columnOrder, .rows, .ids: false
    }
  }
}

extension Plan.Condition {
  var kind: String {
    switch self {
    case .known, .scan: "expression"
    case .prebuilt: "prebuilt"
    }
  }

  var details: [JSON.Member] {
    switch self {
    case .known(_, let text), .scan(_, _, let text, _):
      [
        JSON.Member("filter_type", "expression"),
        JSON.Member("expression", .string(Printer.text(text))),
      ]
    case .prebuilt(let name, _, _):
      [JSON.Member("filter_type", "prebuilt"), JSON.Member("filter_name", .string(name))]
    }
  }
}
