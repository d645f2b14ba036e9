import Columns
import Domain

/// Reads what a formula needs, in columns: one call of the source for each model and vector.
struct FormulaReader {
  let source: any QuerySource
  let user: UserInput?
  /// What each retriever of the plan found.
  let found: [(rows: [CatalogRow], scores: [Double])]

  /// For each input of the program its value for each row; NaN where there is none.
  func values(_ program: FormulaProgram, _ rows: [CatalogRow]) throws -> [[Double]] {
    try program.inputs.map { input in
      switch input {
      case .model(let name):
        guard !rows.isEmpty, let user else { return Array(repeating: .nan, count: rows.count) }
        let scores = try source.scores(model: name, for: user, rows: rows)
        precondition(scores.count == rows.count, "\(scores.count) scores for \(rows.count) rows")
        return scores.map { $0.map(Double.init) ?? .nan }
      case .column(let place): return numbers(program.columns[place], rows)
      case .retrievalScore(let place, let fallback):
        let known = Dictionary(
          zip(found[place].rows, found[place].scores), uniquingKeysWith: { first, _ in first })
        return rows.map { row in
          guard let score = known[row], score.isFinite else { return fallback }
          return score
        }
      case .retrievalRank(let place, let fallback):
        let known = Dictionary(
          zip(found[place].rows, 1...), uniquingKeysWith: { first, _ in first })
        return rows.map { row in known[row].map { Double($0) } ?? fallback }
      case .similarity(let a, let b, let isCosine):
        let (x, y) = (try vectors(a, rows), try vectors(b, rows))
        return rows.indices.map { i in
          guard let u = x.at(i), let v = y.at(i) else { return .nan }
          return Double(isCosine ? cosineSimilarity(u, v) : dotProduct(u, v))
        }
      }
    }
  }

  private enum Vectors {
    case one([Float]?)
    case each([[Float]?])

    func at(_ i: Int) -> [Float]? {
      switch self {
      case .one(let vector): vector
      case .each(let vectors): vectors[i]
      }
    }
  }

  private func vectors(_ term: FormulaProgram.VectorTerm, _ rows: [CatalogRow]) throws -> Vectors {
    switch term {
    case .item(let embedding): return .each(try source.vectors(embedding: embedding, rows: rows))
    case .user(let embedding):
      switch user {
      case .user(let id): return .one(try source.vector(embedding: embedding, of: .user(id)))
      case .session(let items, _):
        return .one(try source.vector(embedding: embedding, of: .session(items)))
      case nil: return .one(nil)
      }
    case .history(let embedding, let pooling, let interactions):
      let history: [CatalogRow] =
        switch user {
        case .user(let id): source.history(of: id, limit: interactions)
        case .session(let items, _):
          items.suffix(interactions).compactMap { source.row(of: $0) }
        case nil: []
        }
      let all = try source.vectors(embedding: embedding, rows: history).compactMap { $0 }
      return .one(pooled(all, pooling))
    }
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
}
