import Columns
import Domain
import QueryLanguage

extension Executor {
  func explanation(_ result: QueryResult) -> QueryExplanation {
    QueryExplanation(
      plan: plan.description, stages: stages, nanoseconds: result.nanoseconds,
      finalResultCount: result.rows.count, limit: plan.limit, offset: plan.offset, notes: notes)
  }

  func scoreDetails(
    _ score: Plan.Score, _ values: [[Double]], _ scores: [Double?]
  ) -> [JSON.Member] {
    let known = scores.compactMap { $0 }.sorted()
    var distribution: [JSON.Member] = []
    if let least = known.first, let most = known.last {
      distribution = [
        JSON.Member("min", .double(least)), JSON.Member("max", .double(most)),
        JSON.Member("mean", .double(known.reduce(0, +) / Double(known.count))),
        JSON.Member("median", .double(known[known.count / 2])),
      ]
    }
    var policies: [JSON.Member] = []
    for (input, column) in zip(score.program.inputs, values) {
      guard case .model(let name) = input else { continue }
      policies.append(
        JSON.Member(name, .array(column.map { $0.isFinite ? .double($0) : .null })))
    }
    var interactions: Int64 = 0
    switch score.user {
    case .user(let id): interactions = Int64(source.history(of: id, limit: .max).count)
    case .session(let items, _): interactions = Int64(items.count)
    case nil: break
    }
    return [
      JSON.Member("score_type", "score_ensemble"),
      JSON.Member("value_model", .string(Printer.text(score.formula))),
      JSON.Member("score_distribution", .object(distribution)),
      JSON.Member("items_scored", .int(Int64(known.count))),
      JSON.Member("scoring_policy_scores", .object(policies)),
      JSON.Member("scoring_policy_explanations", .object([])),
      JSON.Member("is_user_found_in_feature_store", .bool(interactions > 0)),
      JSON.Member("user_interaction_count", .int(interactions)),
      JSON.Member("user_feature_column_count", .int(Int64(source.userColumns.count))),
      JSON.Member("item_feature_column_count", .int(Int64(source.items.names.count))),
      JSON.Member("candidate_item_features_count", .int(Int64(score.program.columns.count))),
    ]
  }

  private func name(_ place: Int) -> String {
    let retriever = plan.retrievers[place]
    return retriever.name ?? "\(retriever.kind)_\(place + 1)"
  }

  func journey(_ place: Int, at position: Int) -> Journey {
    let row = candidates.rows[place]
    var journey = Journey(
      id: source.itemID(of: row).rawValue, retrievedBy: [], retrievalScores: [],
      retrievalRanks: [], filters: plan.conditions.map(Plan.words),
      score: (scores ?? candidates.scores)[place], scoreRank: nil, moves: [],
      finalPosition: plan.offset + position + 1, propensity: propensities[place])
    for (number, found) in candidates.found.enumerated() {
      guard let rank = found.rows.firstIndex(of: row) else { continue }
      let score = found.scores[rank]
      journey.retrievedBy.append(name(number))
      journey.retrievalScores.append((name(number), score.isFinite ? score : nil))
      journey.retrievalRanks.append((name(number), rank + 1))
    }
    var last: Int?
    for (number, order) in orders.enumerated() {
      let now = order.places.firstIndex(of: place).map { $0 + 1 }
      if number == 0 {
        journey.scoreRank = now
      } else if let now, now != last {
        journey.moves.append(Journey.Move(step: order.step, from: last, to: now))
      }
      last = now
    }
    return journey
  }

  // MARK: WHY NOT

  /// The first step that removed an item. Call it after `run`, on the same executor.
  mutating func whyNot(_ id: String, excluded: [CatalogRow], answer: QueryResult) throws -> WhyNot {
    func why(_ step: String, _ reason: String, _ notes: [String] = []) -> WhyNot {
      WhyNot(item: id, step: step, reason: reason, notes: notes)
    }
    guard let row = source.row(of: ItemID(id)), row.index < rowCount else {
      let near = nearestName(
        to: id,
        among: (0..<min(rowCount, 10_000)).map { source.itemID(of: CatalogRow($0)).rawValue })
      return why(
        "catalog", "the catalog has no item '\(id)'",
        near.map { ["did you mean '\($0)'?"] } ?? [])
    }
    if let position = answer.rows.firstIndex(of: row) {
      return why("answer", "the item is in the answer, at position \(plan.offset + position + 1)")
    }
    guard source.listed[row.index] else {
      return why("listed", "the item is not listed: it was removed or hidden")
    }
    for condition in plan.conditions where try !meets(condition, row) {
      return why(
        "filter", "the item does not meet: \(Plan.words(condition))", cells(condition, row))
    }
    if excluded.contains(row) {
      return why("pagination", "an earlier page of this pagination key held the item")
    }
    guard let place = candidates.rows.prefix(candidates.mainCount).firstIndex(of: row) else {
      return try notRetrieved(row, why)
    }
    let score = (scores ?? candidates.scores)[place]
    let last = plan.limit.map { $0 + plan.offset } ?? (QueryLimits.mostRows + plan.offset)
    var previous: Int?
    for (number, order) in orders.enumerated() {
      guard let rank = order.places.firstIndex(of: place).map({ $0 + 1 }) else {
        return why(
          order.step, "the item ranks behind the first \(order.places.count) after `\(order.step)`",
          scored(score))
      }
      let isLast = number == orders.count - 1
      if let before = previous, before <= last, rank > last {
        return why(
          "reorder",
          "`\(order.step)` moved the item from rank \(before) to \(rank), behind the "
            + "\(last) that the answer has room for", scored(score))
      }
      if isLast {
        if rank <= plan.offset {
          return why("offset", "the item has rank \(rank); OFFSET \(plan.offset) skips it")
        }
        return why(
          "limit", "the item has rank \(rank); the answer ends at rank \(last)",
          scored(score) + worst(answer))
      }
      previous = rank
    }
    return why("limit", "the item did not reach the answer", scored(score))
  }

  private func scored(_ score: Double?) -> [String] {
    [score.map { "its score is \($0)" } ?? "it has no score"]
  }

  private func worst(_ answer: QueryResult) -> [String] {
    guard let last = answer.scores.last else { return [] }
    return last.map { ["the last item of the answer scores \($0)"] } ?? []
  }

  private func meets(_ condition: Plan.Condition, _ row: CatalogRow) throws -> Bool {
    switch condition {
    case .known(let bitmap, _): return bitmap[row.index]
    case .scan(let scalar, let columns, _, _):
      var cells = Cells(columns: columns)
      cells.row = row.index
      return scalar.evaluate(cells) == .bool(true)
    case .prebuilt(let name, let user, let span):
      do {
        return try !source.forbidden(filter: name, user: user).contains(row)
      } catch {
        throw problems.rethrown(error, span)
      }
    }
  }

  /// The cells of the item that a condition reads.
  private func cells(_ condition: Plan.Condition, _ row: CatalogRow) -> [String] {
    let text: Expression
    switch condition {
    case .known(_, let expression), .scan(_, _, let expression, _): text = expression
    case .prebuilt: return []
    }
    var names: [String] = []
    text.visitColumns { names.append($0) }
    var out: [String] = []
    for name in names where !out.contains(where: { $0.hasPrefix("\(name) = ") }) {
      let column = source.items[name] ?? source.derivedColumn(name)
      if let value = column?.value(at: row.index) { out.append("\(name) = \(value.json.text)") }
    }
    return out
  }

  private mutating func notRetrieved(
    _ row: CatalogRow, _ why: (String, String, [String]) -> WhyNot
  ) throws -> WhyNot {
    var reasons: [String] = []
    var wasFound = false
    for (place, retriever) in plan.retrievers.enumerated() {
      if candidates.found[place].rows.contains(row) {
        wasFound = true
        continue
      }
      var rows = allowed
      var refusal: String?
      for condition in retriever.conditions {
        if refusal == nil, try !meets(condition, row) {
          refusal = "\(name(place)): the item does not meet \(Plan.words(condition))"
        }
        try apply(condition, to: &rows)
      }
      if let refusal {
        reasons.append(refusal)
        continue
      }
      var wide = retriever
      if case .ids = retriever.operation {
        reasons.append("\(name(place)): the item is not among the given ids")
        continue
      }
      if case .rows = retriever.operation {
        let rank = rows.rows.firstIndex(of: row.index).map { $0 + 1 } ?? 0
        let last = candidates.found[place].rows.count
        if plan.retrievers.count == 1, retriever.limit == nil {
          return why(
            "limit",
            "items come in the order of the catalog; the item is number \(rank), and the "
              + "answer ends after \(last)", [])
        }
        reasons.append(
          "\(name(place)): number \(rank) in the order of the catalog, beyond its first \(last)")
        continue
      }
      wide.limit = nil
      wide.isExact = true
      let all = try find(wide, rows, rows.population).rows
      let foundCount = candidates.found[place].rows.count
      if let rank = all.firstIndex(of: row), rank < foundCount {
        reasons.append(
          "\(name(place)): rank \(rank + 1) of \(all.count) by exact search, and the index missed it; "
            + "use_exact_search=true misses none")
      } else if let rank = all.firstIndex(of: row) {
        reasons.append(
          "\(name(place)): rank \(rank + 1) of \(all.count), beyond its first "
            + "\(candidates.found[place].rows.count)")
      } else {
        reasons.append("\(name(place)): the item is not among what it finds")
      }
    }
    if wasFound {
      return why("truncate", "more candidates were found than truncate() lets be scored", reasons)
    }
    return why("retrieve", "no retriever brought the item among the candidates", reasons)
  }

  // MARK: Influence

  /// For each row of the answer what each of the newest events adds to its score: the query's score
  /// with the whole history, less that with the one event left out.
  mutating func influences(_ order: [Int]) throws -> [[Influence]] {
    let user = plan.score?.user ?? plan.user.map { .user($0) } ?? givenSession
    let history: [ItemID]
    var known: UserID?
    switch user {
    case .user(let id):
      history = source.history(of: id, limit: QueryLimits.influenceHistory).map {
        source.itemID(of: $0)
      }
      known = id
    case .session(let items, let id):
      history = items
      known = id
    case nil: history = []
    }
    guard !history.isEmpty else {
      notes.append("no past events: nothing is left out and scored again")
      return order.map { _ in [] }
    }
    let whole = try scores(of: order, for: .session(history, user: known))
    var out = [[Influence]](repeating: [], count: order.count)
    for place in history.indices.suffix(options.influenceCount).reversed() {
      var rest = history
      rest.remove(at: place)
      let without = try scores(of: order, for: .session(rest, user: known))
      for i in order.indices {
        let change = whole[i].flatMap { all in without[i].map { all - $0 } }
        out[i].append(Influence(event: history[place], change: change))
      }
    }
    return out
  }

  /// The session that a retriever was given.
  private var givenSession: UserInput? {
    for retriever in plan.retrievers {
      if case .nearestTo(_, .session(let items)) = retriever.operation {
        return .session(items, user: nil)
      }
    }
    return nil
  }

  /// Scores of some candidates for a user: by the query's expression, or else by the first retriever
  /// that compares with the user's vector.
  private func scores(of order: [Int], for user: UserInput) throws -> [Double?] {
    let rows = order.map { candidates.rows[$0] }
    if let score = plan.score {
      do {
        let reader = FormulaReader(source: source, user: user, found: candidates.found)
        return score.program.run(try reader.values(score.program, rows), rows: rows)
      } catch {
        throw problems.rethrown(error, score.span)
      }
    }
    for retriever in plan.retrievers {
      let embedding: String
      switch retriever.operation {
      case .nearest(let name, .precomputedUser), .nearestTo(let name, .session),
        .nearestTo(let name, .user):
        embedding = name
      default: continue
      }
      guard case .session = user else { continue }
      do {
        return try source.scores(embedding: embedding, for: user, rows: rows).map { score in
          score.map { Double($0) }
        }
      } catch {
        throw problems.rethrown(error, retriever.span)
      }
    }
    return Array(repeating: nil, count: rows.count)
  }
}

extension Expression {
  /// Calls the body with the name of each column that the expression reads.
  func visitColumns(_ body: (String) -> Void) {
    switch kind {
    case .column(let reference): body(reference.name.text)
    case .null, .bool, .int, .double, .string, .parameter, .prebuilt, .truncate: break
    case .list(let elements): for element in elements { element.visitColumns(body) }
    case .not(let a), .negate(let a), .isTest(let a, _, _), .cast(let a, _): a.visitColumns(body)
    case .binary(_, let a, let b), .isIn(let a, let b, _), .like(let a, let b, _, _):
      a.visitColumns(body)
      b.visitColumns(body)
    case .between(let a, let b, let c, _):
      a.visitColumns(body)
      b.visitColumns(body)
      c.visitColumns(body)
    case .call(_, let arguments): for argument in arguments { argument.visitColumns(body) }
    case .conditional(let branches, let otherwise):
      for branch in branches {
        branch.condition.visitColumns(body)
        branch.value.visitColumns(body)
      }
      otherwise?.visitColumns(body)
    }
  }
}
