import Columns
import Domain

extension Executor {
  func keys(_ key: Plan.SortKey, _ rows: [CatalogRow], _ scores: [Double?]) -> [UInt64] {
    switch key.value {
    case .column(let column):
      OrderKeys(column, rows, isDescending: key.isDescending, nullsFirst: key.nullsFirst).keys
    case .score: OrderKeys(scores, isDescending: key.isDescending, nullsFirst: key.nullsFirst).keys
    }
  }

  /// The places of the answer's rows among the candidates.
  mutating func ordered() throws -> [Int] {
    let count = candidates.mainCount
    let last = plan.limit.map { $0 + plan.offset } ?? (QueryLimits.mostRows + plan.offset)
    var reach = last
    for step in plan.reorder {
      switch step {
      case .diversity(let step): reach = max(reach, step.mostCandidates)
      // Any candidate may come up.
      case .boosted, .columnSort: reach = count
      case .exploration: break
      }
    }
    let taken = min(count, reach)
    let relevance = scores ?? candidates.scores
    var order: [Int]
    if plan.order.isEmpty {
      order = Array(0..<taken)
    } else {
      let rows = Array(candidates.rows.prefix(count))
      let known = Array(relevance.prefix(count))
      order = smallest(taken, of: count, by: plan.order.map { keys($0, rows, known) })
    }
    orders.append((step: plan.score == nil ? "retrieval" : "score", places: order))
    for (number, step) in plan.reorder.enumerated() {
      let before = order
      var details: [JSON.Member] = [JSON.Member("reorder_type", .string(step.name))]
      let pool = candidates.pools[number]
      switch step {
      case .diversity(let step):
        let vectors = try self.vectors(step, order)
        order = step.reordered(
          order, rows: candidates.rows, relevance: relevance, vectors: vectors, count: last)
        details += [
          JSON.Member("strength", .double(step.strength)),
          JSON.Member("diversity_attributes", .array(step.names.map { .string($0) })),
          JSON.Member("lookback_window", .int(Int64(step.lookback))),
          JSON.Member("lookforward_window", .int(Int64(step.lookforward))),
        ]
      case .exploration(let step):
        var random = RandomNumbers(seed: seed(of: number))
        let explored = step.explored(order, pool: pool, count: last, using: &random)
        order = explored.order
        for (place, propensity) in explored.propensities {
          propensities[place] = (propensities[place] ?? 1) * propensity
        }
        details += [
          JSON.Member("strength", .double(step.strength)),
          JSON.Member("lookback_window", .int(Int64(step.window))),
          JSON.Member("diversity_retriever_item_count", .int(Int64(pool.count))),
          JSON.Member("seed", .string(String(seed(of: number)))),
        ]
      case .boosted(let step):
        order = step.boosted(
          order, pool: Set(pool), rows: candidates.rows, relevance: relevance)
        details += [
          JSON.Member("strength", .double(step.strength)),
          JSON.Member("boost_retriever_item_count", .int(Int64(pool.count))),
          JSON.Member(
            "items_boosted", .int(Int64(Set(pool).intersection(order.prefix(last)).count))),
        ]
      case .columnSort(let keys):
        let rows = order.map { candidates.rows[$0] }
        let known = order.map { relevance[$0] }
        order = smallest(order.count, of: order.count, by: keys.map { self.keys($0, rows, known) })
          .map { order[$0] }
        details.append(JSON.Member("columns", .string(Plan.text(keys))))
      }
      let moved = zip(before.prefix(last), order).count { $0 != $1 }
      details.append(JSON.Member("items_reordered", .int(Int64(moved))))
      orders.append((step: step.name, places: order))
      try record(
        .reorder, step.name, kind: step.name, before.count, order.count, details: details)
    }
    let shown = Array(order.prefix(last).dropFirst(plan.offset))
    try record(.limit, "limit", kind: "limit", count, shown.count)
    return shown
  }

  /// Unit vectors of the first candidates, by place.
  private func vectors(_ step: Plan.Diversity, _ order: [Int]) throws -> [Int: [Float]] {
    guard let embedding = step.embedding else { return [:] }
    let seen = (plan.limit.map { $0 + plan.offset } ?? order.count) + step.lookforward
    let first = Array(order.prefix(min(step.mostCandidates, seen)))
    let all = try source.vectors(embedding: embedding, rows: first.map { candidates.rows[$0] })
    var out: [Int: [Float]] = [:]
    for (place, vector) in zip(first, all) {
      guard let vector else { continue }
      let length = dotProduct(vector, vector).squareRoot()
      if length > 0 { out[place] = vector.map { $0 / length } }
    }
    return out
  }
}
