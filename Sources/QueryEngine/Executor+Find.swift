import Columns
import Domain

extension Executor {
  /// What a retriever finds among some rows, best first.
  ///
  /// - Parameter raised: whether its limit is raised to what `LIMIT` needs.
  mutating func find(
    _ retriever: Plan.Retriever, _ rows: Bitmap, _ available: Int, raised: Bool = true
  ) throws -> (rows: [CatalogRow], scores: [Double]) {
    let least = raised ? plan.needed : 0
    let most = min(available, retriever.limit.map { max($0, least) } ?? available)
    guard most > 0 else { return ([], []) }
    switch retriever.operation {
    case .nearest, .nearestTo, .roundRobin:
      do {
        let nearest = try search(retriever.operation, rows, most, exactly: retriever.isExact)
        lastSearch = nearest.search
        if let note = nearest.note, !notes.contains(note) { notes.append(note) }
        // The promise of hard filters does not rest on the index alone.
        guard nearest.rows.allSatisfy({ $0.index < rowCount && rows[$0.index] }) else {
          throw Diagnostic(
            .internalError, code: "filter_ignored",
            "an index returned a row that the filters forbid")
        }
        return (nearest.rows, nearest.scores.map(Double.init))
      } catch {
        throw problems.rethrown(error, retriever.span)
      }
    case .lexical(let text, let fuzziness, let fields):
      let index = lexical.index(of: source, fields: fields)
      return index.search(text, fuzziness: fuzziness, count: most, among: rows)
    case .columnOrder(let keys):
      var all: [CatalogRow] = []
      all.reserveCapacity(available)
      rows.forEach { all.append(CatalogRow($0)) }
      let columns = keys.map { self.keys($0, all, []) }
      return ranked(smallest(most, of: all.count, by: columns).map { all[$0] })
    case .rows:
      // Without an order nothing beyond the limits is ever looked at.
      let isOrdered = !plan.order.isEmpty || !plan.reorder.isEmpty
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

  private func search(
    _ operation: Plan.Retriever.Operator, _ rows: Bitmap, _ count: Int, exactly: Bool
  ) throws -> Nearest {
    switch operation {
    case .nearest(let embedding, let encoder):
      return try source.nearest(
        embedding: embedding, to: encoder, count: count, among: rows, exactly: exactly)
    case .nearestTo(let embedding, let input):
      return try source.nearest(
        embedding: embedding, toInput: input, count: count, among: rows, exactly: exactly)
        ?? Nearest(
          rows: [], scores: [],
          note: "fallback: popular (nothing is known of \(input.description))")
    case .roundRobin(let embedding, let user, let pooling, let clusters, let interactions):
      return try roundRobin(
        embedding, user, pooling, clusters: clusters, interactions: interactions, rows, count,
        exactly)
    case .lexical, .columnOrder, .rows, .ids: preconditionFailure("no search of an index")
    }
  }

  /// Clusters the vectors of the user's newest items, searches for each cluster, and takes one of
  /// each in turn; the cluster with the newest item leads.
  private func roundRobin(
    _ embedding: String, _ user: UserID, _ pooling: Encoder.Pooling, clusters: Int,
    interactions: Int, _ rows: Bitmap, _ count: Int, _ exactly: Bool
  ) throws -> Nearest {
    let history = source.history(of: user, limit: interactions)
    let vectors = try source.vectors(embedding: embedding, rows: history).compactMap { $0 }
    guard !vectors.isEmpty else {
      // The source has its own words, and items, for a user that it knows nothing of.
      return try source.nearest(
        embedding: embedding,
        to: .interactionPooling(user, pooling, interactions: interactions), count: count,
        among: rows, exactly: exactly)
    }
    let groups = Clusters(vectors.reversed(), count: clusters).groups
    var lists: [ArraySlice<(row: CatalogRow, score: Float)>] = []
    var out = Nearest(rows: [], scores: [])
    for group in groups {
      guard let center = pooled(group, pooling) else { continue }
      let found = try source.nearest(
        embedding: embedding, toVector: center, count: count, among: rows, exactly: exactly)
      // Of several searches the one that finds least tells of all.
      if let account = found.search, account.recall <= out.search?.recall ?? 1 {
        out.search = account
      }
      lists.append(Array(zip(found.rows, found.scores)).map { (row: $0, score: $1) }[...])
    }
    var isTaken: Set<CatalogRow> = []
    while out.rows.count < count, lists.contains(where: { !$0.isEmpty }) {
      for i in lists.indices where out.rows.count < count {
        while let next = lists[i].popFirst() {
          guard isTaken.insert(next.row).inserted else { continue }
          out.rows.append(next.row)
          out.scores.append(next.score)
          break
        }
      }
    }
    return out
  }
}

/// Groups of vectors that point the same way: k-means on the sphere from a fixed start.
struct Clusters {
  /// None is empty. The group of the first vector comes first.
  private(set) var groups: [[[Float]]]

  init(_ vectors: some Sequence<[Float]>, count: Int) {
    let all = Array(vectors)
    let units = all.map { vector in
      let length = dotProduct(vector, vector).squareRoot()
      return length > 0 ? vector.map { $0 / length } : vector
    }
    guard count > 1, all.count > 1 else {
      groups = all.isEmpty ? [] : [all]
      return
    }
    // The start: the first vector, then always the one farthest from those taken.
    var centers = [units[0]]
    var nearest = units.map { dotProduct($0, units[0]) }
    while centers.count < min(count, units.count) {
      guard let far = nearest.indices.min(by: { nearest[$0] < nearest[$1] }),
        nearest[far] < 1 - 1e-6
      else { break }
      centers.append(units[far])
      for i in units.indices { nearest[i] = max(nearest[i], dotProduct(units[i], units[far])) }
    }
    var home = [Int](repeating: 0, count: units.count)
    for _ in 0..<20 {
      var hasMoved = false
      for (i, unit) in units.enumerated() {
        let best =
          centers.indices.max { dotProduct(unit, centers[$0]) < dotProduct(unit, centers[$1]) } ?? 0
        if home[i] != best {
          home[i] = best
          hasMoved = true
        }
      }
      if !hasMoved { break }
      for place in centers.indices {
        let members = units.indices.filter { home[$0] == place }.map { units[$0] }
        if let mean = pooled(members, .mean) { centers[place] = mean }
      }
    }
    var order: [Int] = []
    for place in home where !order.contains(place) { order.append(place) }
    groups = order.map { place in all.indices.filter { home[$0] == place }.map { all[$0] } }
  }
}
