import Columns
import Domain
import QueryLanguage

/// Runs a plan.
struct Executor {
  let plan: Plan
  let source: any QuerySource
  let problems: QueryProblems
  let cache: PredicateCache
  private let rowCount: Int
  private let version: UInt64
  private var notes: [String]
  private var stages: [QueryStage] = []
  private var candidates = Candidates()

  /// The rows that the retrievers found, each once, in the order of retrieval.
  private struct Candidates {
    var rows: [CatalogRow] = []
    var scores: [Double?] = []
    /// What each retriever found, best first.
    var found: [(rows: [CatalogRow], scores: [Double])] = []
  }

  init(_ plan: Plan, _ source: any QuerySource, _ problems: QueryProblems, _ cache: PredicateCache)
  {
    self.plan = plan
    self.source = source
    self.problems = problems
    self.cache = cache
    rowCount = source.items.rowCount
    version = source.catalogVersion
    notes = plan.notes
  }

  mutating func run(excluded: [CatalogRow]) throws -> QueryResult {
    var allowed = source.listed
    precondition(allowed.count == rowCount, "\(allowed.count) listed of \(rowCount) rows")
    let listedCount = allowed.population
    for condition in plan.conditions { try apply(condition, to: &allowed) }
    for row in excluded where row.index < rowCount { allowed[row.index] = false }
    stages.append(
      QueryStage(
        name: .filter, step: "where", inputCount: listedCount, outputCount: allowed.population))
    try retrieve(under: allowed)
    let scores = try score()
    let order = ordered(scores)
    return result(order, scores ?? candidates.scores)
  }

  /// Takes the rows away for which the condition is not true.
  private func apply(_ condition: Plan.Condition, to rows: inout Bitmap) throws {
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

  private mutating func retrieve(under allowed: Bitmap) throws {
    var isTaken = Bitmap(count: plan.retrievers.count > 1 ? rowCount : 0)
    // Rows that an index was allowed to return and does not know, such as items without a vector.
    var unfound: Bitmap?
    for retriever in plan.retrievers {
      var rows = allowed
      for condition in retriever.conditions { try apply(condition, to: &rows) }
      let available = rows.population
      let found = try find(retriever, rows, available)
      stages.append(
        QueryStage(
          name: .retrieve, step: retriever.name ?? retriever.kind, inputCount: available,
          outputCount: found.rows.count))
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
      if case .nearest = retriever.operation, found.rows.count < min(available, plan.needed) {
        unfound =
          unfound.map { both in
            var both = both
            both.formUnion(rows)
            return both
          } ?? rows
      }
    }
    if let unfound { fill(from: unfound) }
    if let truncation = plan.truncation {
      let most = max(truncation, plan.needed)
      if candidates.rows.count > most {
        candidates.rows.removeSubrange(most...)
        candidates.scores.removeSubrange(most...)
      }
    }
  }

  /// Adds rows that no retriever ranked, behind all others and without a score, until `LIMIT` is met:
  /// the promise does not rest on an index that holds every item.
  private mutating func fill(from rows: Bitmap) {
    let missing = plan.needed - candidates.rows.count
    guard missing > 0 else { return }
    var rows = rows
    for row in candidates.rows { rows[row.index] = false }
    let added = rows.rows.prefix(missing).map { CatalogRow($0) }
    guard !added.isEmpty else { return }
    candidates.rows += added
    candidates.scores += Array(repeating: nil, count: added.count)
    notes.append("\(added.count) items that the index does not hold were added to reach LIMIT")
  }

  private mutating func find(
    _ retriever: Plan.Retriever, _ rows: Bitmap, _ available: Int
  ) throws -> (rows: [CatalogRow], scores: [Double]) {
    let most = min(available, retriever.limit.map { max($0, plan.needed) } ?? available)
    guard most > 0 else { return ([], []) }
    switch retriever.operation {
    case .nearest(let embedding, let encoder):
      do {
        let nearest = try source.nearest(
          embedding: embedding, to: encoder, count: most, among: rows)
        if let note = nearest.note, !notes.contains(note) { notes.append(note) }
        // The promise of hard filters does not rest on the index alone.
        guard nearest.rows.allSatisfy({ $0.index < rowCount && rows[$0.index] }) else {
          throw Diagnostic(
            .internalError, code: "filter_ignored",
            "the index of `\(embedding)` returned a row that the filters forbid")
        }
        return (nearest.rows, nearest.scores.map(Double.init))
      } catch {
        throw problems.rethrown(error, retriever.span)
      }
    case .columnOrder(let keys):
      var all: [CatalogRow] = []
      all.reserveCapacity(available)
      rows.forEach { all.append(CatalogRow($0)) }
      let columns = keys.map { self.keys($0, all, []) }
      return ranked(smallest(most, of: all.count, by: columns).map { all[$0] })
    case .rows:
      // Without an order nothing beyond the limits is ever looked at.
      let isOrdered = !plan.order.isEmpty || !plan.diversity.isEmpty
      let enough =
        retriever.limit == nil && !isOrdered
        ? min(most, plan.limit == nil ? QueryLimits.mostRows + plan.offset : plan.needed) : most
      var first: [CatalogRow] = []
      first.reserveCapacity(enough)
      for (w, word) in rows.words.enumerated() where first.count < enough {
        var rest = word
        while rest != 0, first.count < enough {
          first.append(CatalogRow((w << 6) + rest.trailingZeroBitCount))
          rest &= rest &- 1
        }
      }
      return ranked(first)
    case .ids(let given):
      var left = rows
      var out: [CatalogRow] = []
      for row in given where out.count < most && left[row.index] {
        left[row.index] = false
        out.append(row)
      }
      return ranked(out)
    }
  }

  /// Rows of a retriever that has no scores of its own: the reciprocal of the rank stands for one.
  private func ranked(_ rows: [CatalogRow]) -> (rows: [CatalogRow], scores: [Double]) {
    (rows, (0..<rows.count).map { 1 / Double($0 + 1) })
  }

  // MARK: Scores

  private mutating func score() throws -> [Double?]? {
    guard let score = plan.score else { return nil }
    let rows = candidates.rows
    var values: [[Double]] = []
    for input in score.program.inputs {
      switch input {
      case .model(let name):
        guard !rows.isEmpty, let user = score.user else {
          values.append(Array(repeating: .nan, count: rows.count))
          continue
        }
        do {
          let scores = try source.scores(model: name, for: user, rows: rows)
          precondition(scores.count == rows.count, "\(scores.count) scores for \(rows.count) rows")
          values.append(scores.map { $0.map(Double.init) ?? .nan })
        } catch {
          throw problems.rethrown(error, score.span)
        }
      case .column(let place): values.append(numbers(score.program.columns[place], rows))
      case .retrievalScore(let place, let fallback):
        let found = candidates.found[place]
        let known = Dictionary(
          zip(found.rows, found.scores), uniquingKeysWith: { first, _ in first })
        values.append(
          rows.map { row in
            guard let score = known[row], score.isFinite else { return fallback }
            return score
          })
      case .retrievalRank(let place, let fallback):
        let found = candidates.found[place].rows
        let known = Dictionary(
          zip(found, 1...), uniquingKeysWith: { first, _ in first })
        values.append(rows.map { row in known[row].map { Double($0) } ?? fallback })
      }
    }
    stages.append(
      QueryStage(
        name: .score, step: "score", inputCount: rows.count, outputCount: rows.count))
    return score.program.run(values, rows: rows)
  }

  private func numbers(_ column: Column, _ rows: [CatalogRow]) -> [Double] {
    let present = column.present.gathered(rows)
    func read<T>(_ values: ChunkedVector<T>, _ number: (T) -> Double) -> [Double] {
      var out = values.gathered(rows).map(number)
      for i in out.indices where present[i] == 0 { out[i] = .nan }
      return out
    }
    return switch column.values {
    case .int(let values): read(values) { Double($0) }
    case .double(let values): read(values) { $0 }
    case .timestamp(let values): read(values) { Double($0) / 1e6 }
    case .bool(let values): read(values) { $0 ? 1 : 0 }
    case .string, .strings, .ints, .doubles: preconditionFailure("a column without numbers")
    }
  }

  // MARK: Order

  private func keys(
    _ key: Plan.SortKey, _ rows: [CatalogRow], _ scores: [Double?]
  ) -> [UInt64] {
    switch key.value {
    case .column(let column):
      OrderKeys(column, rows, isDescending: key.isDescending, nullsFirst: key.nullsFirst).keys
    case .score: OrderKeys(scores, isDescending: key.isDescending, nullsFirst: key.nullsFirst).keys
    }
  }

  /// The places of the answer's rows among the candidates.
  private mutating func ordered(_ scores: [Double?]?) -> [Int] {
    let count = candidates.rows.count
    let last = plan.limit.map { $0 + plan.offset } ?? (QueryLimits.mostRows + plan.offset)
    let reach = plan.diversity.reduce(last) { max($0, $1.mostCandidates) }
    let taken = min(count, reach)
    var order: [Int]
    if plan.order.isEmpty {
      order = Array(0..<taken)
    } else {
      let columns = plan.order.map { keys($0, candidates.rows, scores ?? candidates.scores) }
      order = smallest(taken, of: count, by: columns)
    }
    for step in plan.diversity {
      let diversified = step.reordered(
        order, rows: candidates.rows, relevance: scores ?? candidates.scores, count: last)
      stages.append(
        QueryStage(
          name: .reorder, step: "diversity", inputCount: order.count,
          outputCount: diversified.count))
      order = diversified
    }
    stages.append(
      QueryStage(
        name: .limit, step: "limit", inputCount: count,
        outputCount: max(0, min(order.count, last) - plan.offset)))
    return Array(order.prefix(last).dropFirst(plan.offset))
  }

  private func result(_ order: [Int], _ scores: [Double?]) -> QueryResult {
    let rows = order.map { candidates.rows[$0] }
    let ids = rows.map { source.itemID(of: $0) }
    let chosen = order.map { scores[$0] }
    let columns = plan.output.map { output in
      switch output {
      case .column(let name, let column):
        ResultColumn(name: name, source: .column(column, rows: rows))
      case .ids(let name): ResultColumn(name: name, source: .ids(ids))
      case .score(let name): ResultColumn(name: name, source: .numbers(chosen))
      }
    }
    return QueryResult(
      rows: rows, ids: ids, scores: chosen, columns: columns, notes: notes, stages: stages)
  }
}
