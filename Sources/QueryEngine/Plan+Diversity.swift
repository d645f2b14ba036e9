import Columns
import Domain

extension Plan.Diversity {
  /// Reorders by maximal marginal relevance over attributes.
  ///
  /// Each place goes to the candidate with the largest `(1 − λ)·relevance − λ·similarity`, where the
  /// similarity is the largest Jaccard overlap of attribute values with the last `lookback` rows
  /// placed, and only the next `lookforward` candidates are looked at. Relevance is the score scaled to
  /// 0...1 over the candidates, so that λ means the same for every model.
  ///
  /// - Parameter order: places of candidates, best first.
  /// - Returns: the first `count` places, and the rest of `order` behind them.
  /// - Complexity: `count · lookforward · lookback`.
  /// - SeeAlso: Carbonell & Goldstein, *The Use of MMR*, SIGIR 1998.
  func reordered(
    _ order: [Int], rows: [CatalogRow], relevance: [Double?], count: Int
  ) -> [Int] {
    var left = Array(order.prefix(max(mostCandidates, count)))
    let tail = order.dropFirst(left.count)
    let values = attributeValues(left.map { rows[$0] })
    let tags = Dictionary(uniqueKeysWithValues: zip(left, values))
    let known = left.compactMap { relevance[$0] }
    let (low, high) = (known.min() ?? 0, known.max() ?? 0)
    func scaled(_ place: Int) -> Double {
      guard let score = relevance[place] else { return 0 }
      return high > low ? (score - low) / (high - low) : 1
    }
    var placed: [Int] = []
    while !left.isEmpty, placed.count < count {
      var best = (index: 0, value: -Double.infinity)
      for (index, place) in left.prefix(lookforward).enumerated() {
        let similarity =
          placed.suffix(lookback).lazy.map { overlap(tags[$0] ?? [], tags[place] ?? []) }.max() ?? 0
        let value = (1 - strength) * scaled(place) - strength * similarity
        if value > best.value { best = (index, value) }
      }
      placed.append(left.remove(at: best.index))
    }
    return placed + left + tail
  }

  /// The set of values of each row, as numbers: equal numbers are equal values of one column.
  private func attributeValues(_ rows: [CatalogRow]) -> [Set<Int>] {
    struct Key: Hashable {
      var column: Int
      var value: Value
    }
    var numbers: [Key: Int] = [:]
    return rows.map { row in
      var out: Set<Int> = []
      for (i, column) in attributes.enumerated() {
        let cell = column.value(at: row.index)
        let elements: [Value]
        if case .array(let array) = cell { elements = array } else { elements = [cell] }
        for value in elements where !value.isNull {
          let key = Key(column: i, value: value)
          let number = numbers[key] ?? numbers.count
          numbers[key] = number
          out.insert(number)
        }
      }
      return out
    }
  }

  private func overlap(_ a: Set<Int>, _ b: Set<Int>) -> Double {
    let shared = a.intersection(b).count
    return shared == 0 ? 0 : Double(shared) / Double(a.count + b.count - shared)
  }
}
