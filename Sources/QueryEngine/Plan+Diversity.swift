import Columns
import Domain

extension Plan.Diversity {
  /// Reorders by maximal marginal relevance over attributes, vectors, or both.
  ///
  /// Each place goes to the candidate with the largest `(1 − λ)·relevance − λ·similarity`, where the
  /// similarity is the largest to one of the last `lookback` rows placed: the Jaccard overlap of
  /// attribute values or the cosine of the vectors, whichever is larger. Only the next `lookforward`
  /// candidates are looked at. Relevance is the score scaled to 0...1 over the candidates.
  ///
  /// - Parameters:
  ///   - order: places of candidates, best first.
  ///   - vectors: a vector for each row of `rows` that is among the first candidates, by place.
  /// - Returns: the first `count` places, and the rest of `order` behind them.
  /// - Complexity: `count · lookforward` similarities, each worked out once, and `lookback` comparisons
  ///   for each.
  /// - SeeAlso: Carbonell & Goldstein, *The Use of MMR*, SIGIR 1998.
  func reordered(
    _ order: [Int], rows: [CatalogRow], relevance: [Double?], vectors: [Int: [Float]], count: Int
  ) -> [Int] {
    let all = Array(order.prefix(max(mostCandidates, count)))
    let scale = RelevanceScale(all.map { relevance[$0] })
    // No step looks further than the next `lookforward`, so all of them together see this many.
    let reach = Array(all.prefix(count + lookforward))
    let tags = attributeValues(reach.map { rows[$0] })
    let directions = reach.map { vectors[$0] }
    func similarity(_ a: Int, _ b: Int) -> Double {
      var out = attributes.isEmpty ? 0 : overlap(tags[a], tags[b])
      if let x = directions[a], let y = directions[b] { out = max(out, Double(dotProduct(x, y))) }
      return out
    }
    // Indexes into `reach`.
    var left = Array(reach.indices)
    var placed: [Int] = []
    // What each candidate has in common with the rows placed so far, as far as that was asked.
    var known = [[Double]](repeating: [], count: reach.count)
    while !left.isEmpty, placed.count < count {
      var best = (index: 0, value: -Double.infinity)
      let window = max(0, placed.count - lookback)..<placed.count
      for (index, candidate) in left.prefix(lookforward).enumerated() {
        var most = 0.0
        if strength > 0, !window.isEmpty {
          for place in known[candidate].count..<placed.count {
            known[candidate].append(similarity(placed[place], candidate))
          }
          most = known[candidate][window].max() ?? 0
        }
        let value = (1 - strength) * scale(relevance[reach[candidate]]) - strength * most
        if value > best.value { best = (index, value) }
      }
      placed.append(left.remove(at: best.index))
    }
    return placed.map { reach[$0] } + left.map { reach[$0] } + all[reach.count...]
      + order.dropFirst(all.count)
  }

  /// The values of each row as ascending numbers: equal numbers are equal values of one column.
  private func attributeValues(_ rows: [CatalogRow]) -> [[Int]] {
    struct Key: Hashable {
      var column: Int
      var value: Value
    }
    var numbers: [Key: Int] = [:]
    return rows.map { row in
      var out: [Int] = []
      for (i, column) in attributes.enumerated() {
        let cell = column.value(at: row.index)
        let elements: [Value]
        if case .array(let array) = cell { elements = array } else { elements = [cell] }
        for value in elements where !value.isNull {
          let key = Key(column: i, value: value)
          let number = numbers[key] ?? numbers.count
          numbers[key] = number
          if !out.contains(number) { out.append(number) }
        }
      }
      return out.sorted()
    }
  }

  /// The Jaccard overlap of two ascending lists.
  private func overlap(_ a: [Int], _ b: [Int]) -> Double {
    var shared = 0
    var (i, j) = (0, 0)
    while i < a.count, j < b.count {
      if a[i] == b[j] {
        shared += 1
        i += 1
        j += 1
      } else if a[i] < b[j] {
        i += 1
      } else {
        j += 1
      }
    }
    return shared == 0 ? 0 : Double(shared) / Double(a.count + b.count - shared)
  }
}
