import Columns
import Domain
import QueryLanguage

/// A query that is bound to one source: what runs, in which order, with which limits.
///
/// There is one plan and its steps are the operators. It differs from the closed service in one point: there
/// `WHERE` runs after the retrievers and may leave fewer than `LIMIT` rows. Here every condition
/// becomes a bitmap over the catalog that the retrievers search under, and a retriever's own `limit`
/// never takes it below `LIMIT` rows. So an answer holds `LIMIT` rows whenever that many exist.
struct Plan {
  /// A term of a conjunction.
  enum Condition {
    /// Rows found in the cache.
    case known(Bitmap, text: Expression)
    /// To be scanned; kept in the cache under `key` where it depends on the catalog alone.
    case scan(Scalar, [Column], text: Expression, key: Expression?)
    case prebuilt(name: String, user: UserID?, span: SourceSpan)
  }

  struct Retriever {
    enum Operator {
      case nearest(embedding: String, Encoder)
      case nearestTo(embedding: String, VectorInput)
      /// A search for each cluster of the user's newest items, and one from each in turn.
      case roundRobin(
        embedding: String, UserID, Encoder.Pooling, clusters: Int, interactions: Int)
      case lexical(String, fuzziness: Int, fields: [String])
      case columnOrder([SortKey])
      /// Rows in the order of the catalog.
      case rows
      case ids([CatalogRow])
    }
    var name: String?
    var operation: Operator
    var conditions: [Condition] = []
    /// nil: as many as there are.
    var limit: Int?
    var span: SourceSpan
    /// Whether the search is exact whatever the size of the catalog.
    var isExact = false
    /// The user that it was given, for a score that names none.
    var user: UserID?

    var kind: String {
      switch operation {
      case .nearest, .nearestTo, .roundRobin: "similarity"
      case .lexical: "text_search"
      case .columnOrder: "column_order"
      case .rows: "filter"
      case .ids: "ids"
      }
    }
  }

  struct SortKey {
    enum Value { case column(Column), score }
    var value: Value
    var name: String
    var isDescending: Bool
    var nullsFirst: Bool
  }

  struct Score {
    var program: FormulaProgram
    var formula: Formula
    var user: UserInput?
    var span: SourceSpan
  }

  /// Where exploration and boosts take their items from.
  enum Pool {
    case retriever(Retriever)
    /// One of the plan's retrievers.
    case named(Int)
    /// Any allowed row.
    case anything
  }

  struct Exploration {
    var strength: Double
    var window: Int
    var seed: UInt64?
    var pool: Pool
  }

  struct Boost {
    var strength: Double
    var pool: Pool
    /// The column `boost`; without one every item weighs 1.
    var weight: Column?
  }

  enum Reorder {
    case diversity(Diversity)
    case exploration(Exploration)
    case boosted(Boost)
    case columnSort([SortKey])

    var name: String {
      switch self {
      case .diversity: "diversity"
      case .exploration: "exploration"
      case .boosted: "boosted"
      case .columnSort: "column_sort"
      }
    }

    var pool: Pool? {
      switch self {
      case .exploration(let step): step.pool
      case .boosted(let step): step.pool
      case .diversity, .columnSort: nil
      }
    }
  }

  struct Diversity {
    var strength: Double
    var lookback: Int
    var lookforward: Int
    var mostCandidates: Int
    var attributes: [Column]
    var names: [String]
    var embedding: String?
  }

  enum Output {
    case column(String, Column)
    case ids(String)
    case score(String)
  }

  var retrievers: [Retriever] = []
  var conditions: [Condition] = []
  var truncation: Int?
  var score: Score?
  /// Empty: the order of retrieval.
  var order: [SortKey] = []
  var reorder: [Reorder] = []
  var limit: Int?
  var offset = 0
  var output: [Output] = []
  /// The embeddings whose vectors the answer shows.
  var embeddings: [String] = []
  /// The user that the query names, where it is one.
  var user: UserID?
  var notes: [String] = []

  /// The candidates that the limits ask for; a retriever gives no fewer while there are any.
  var needed: Int { (limit ?? 0) + offset }

  /// The plan as text, a line for each step, in the order of the work.
  var description: String {
    var lines = ["under a bitmap of the listed rows"]
    for condition in conditions { lines.append("  and \(Plan.text(condition))") }
    for retriever in retrievers {
      var line = "retrieve"
      switch retriever.operation {
      case .nearest(let embedding, let encoder):
        line += " nearest rows of '\(embedding)' to \(encoder.description)"
      case .nearestTo(let embedding, let input):
        line += " nearest rows of '\(embedding)' to \(input.description)"
      case .roundRobin(let embedding, let user, let pooling, let clusters, let interactions):
        line +=
          " nearest rows of '\(embedding)' to the \(pooling.rawValue) of each of \(clusters) clusters "
          + "of the last \(interactions) items of user '\(user.rawValue)', in turn"
      case .lexical(let text, let fuzziness, let fields):
        line +=
          " rows with words of '\(text)' in \(fields.joined(separator: ", ")), fuzziness \(fuzziness)"
      case .columnOrder(let keys): line += " rows by \(Plan.text(keys))"
      case .rows: line += " rows in the order of the catalog"
      case .ids(let rows): line += " \(rows.count) given rows"
      }
      if retriever.isExact { line += ", by exact search" }
      if let limit = retriever.limit {
        line += ", \(max(limit, needed)) at most"
        if needed > limit { line += " (limit=\(limit), raised for LIMIT)" }
      }
      if let name = retriever.name { line += " as '\(name)'" }
      lines.append(line)
      for condition in retriever.conditions { lines.append("  where \(Plan.text(condition))") }
    }
    if retrievers.count > 1 { lines.append("unite, the first retriever of an item counts") }
    if let truncation {
      lines.append("keep \(max(truncation, needed)) candidates")
    }
    if let score {
      let models = score.program.models
      let whom =
        switch score.user {
        case .user(let user): " for user '\(user.rawValue)'"
        case .session(let items, _): " for a session of \(items.count) items"
        case nil: ""
        }
      lines.append(
        "score \(Printer.text(score.formula))"
          + (models.isEmpty ? "" : " with \(models.joined(separator: ", "))\(whom)"))
    }
    if !order.isEmpty { lines.append("order by \(Plan.text(order)), then retrieval, then row") }
    for step in reorder { lines.append(Plan.text(step)) }
    lines.append("limit \(limit.map(String.init) ?? "\(QueryLimits.mostRows)") offset \(offset)")
    return lines.joined(separator: "\n")
  }

  static func text(_ keys: [SortKey]) -> String {
    keys.map {
      "\($0.name) \($0.isDescending ? "DESC" : "ASC") NULLS \($0.nullsFirst ? "FIRST" : "LAST")"
    }.joined(separator: ", ")
  }

  private static func text(_ step: Reorder) -> String {
    func from(_ pool: Pool) -> String {
      switch pool {
      case .retriever(let retriever): retriever.name ?? retriever.kind
      case .named(let place): "retriever \(place + 1)"
      case .anything: "all allowed rows"
      }
    }
    return switch step {
    case .diversity(let step):
      "diversify over "
        + (step.names + (step.embedding.map { ["embedding '\($0)'"] } ?? []))
        .joined(separator: ", ") + ", strength \(step.strength)"
    case .exploration(let step): "explore \(from(step.pool)), strength \(step.strength)"
    case .boosted(let step): "boost \(from(step.pool)), strength \(step.strength)"
    case .columnSort(let keys): "sort by \(text(keys))"
    }
  }

  /// The condition and how it is answered.
  static func text(_ condition: Condition) -> String {
    switch condition {
    case .known: "\(words(condition)) (cached bitmap)"
    case .scan: "\(words(condition)) (column scan)"
    case .prebuilt: words(condition)
    }
  }

  /// The condition alone.
  static func words(_ condition: Condition) -> String {
    switch condition {
    case .known(_, let text), .scan(_, _, let text, _): Printer.text(text)
    case .prebuilt(let name, let user, _):
      "not in filter '\(name)'" + (user.map { " of user '\($0.rawValue)'" } ?? "")
    }
  }
}
