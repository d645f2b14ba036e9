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
    /// The user that it was given, for a score that names none.
    var user: UserID?

    var kind: String {
      switch operation {
      case .nearest: "similarity"
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

  struct Diversity {
    var strength: Double
    var lookback: Int
    var lookforward: Int
    var mostCandidates: Int
    var attributes: [Column]
    var names: [String]
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
  var diversity: [Diversity] = []
  var limit: Int?
  var offset = 0
  var output: [Output] = []
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
      case .columnOrder(let keys): line += " rows by \(Plan.text(keys))"
      case .rows: line += " rows in the order of the catalog"
      case .ids(let rows): line += " \(rows.count) given rows"
      }
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
    for step in diversity {
      lines.append(
        "diversify over \(step.names.joined(separator: ", ")), strength \(step.strength)")
    }
    lines.append("limit \(limit.map(String.init) ?? "\(QueryLimits.mostRows)") offset \(offset)")
    return lines.joined(separator: "\n")
  }

  private static func text(_ keys: [SortKey]) -> String {
    keys.map {
      "\($0.name) \($0.isDescending ? "DESC" : "ASC") NULLS \($0.nullsFirst ? "FIRST" : "LAST")"
    }.joined(separator: ", ")
  }

  private static func text(_ condition: Condition) -> String {
    switch condition {
    case .known(_, let text): "\(Printer.text(text)) (cached bitmap)"
    case .scan(_, _, let text, _): "\(Printer.text(text)) (column scan)"
    case .prebuilt(let name, let user, _):
      "not in filter '\(name)'" + (user.map { " of user '\($0.rawValue)'" } ?? "")
    }
  }
}

/// Bounds of what a query may ask for.
enum QueryLimits {
  /// The most rows in an answer.
  static let mostRows = 1000
  /// The most rows that may be skipped.
  static let mostOffset = 10_000
  /// The most candidates that a retriever may be told to find.
  static let mostCandidates = 10_000
  /// The candidates of a retriever that names no limit.
  static let candidates = 100
}
