package import Columns
package import Domain

/// What a caller asks for: the text of a query, the values of its parameters, and flags.
package struct QueryRequest: Sendable {
  package var text: String
  /// Bound as values, never as text.
  package var parameters: [String: JSON]
  package var options: QueryOptions

  package init(
    text: String, parameters: [String: JSON] = [:], options: QueryOptions = QueryOptions()
  ) {
    self.text = text
    self.parameters = parameters
    self.options = options
  }
}

/// Flags beside a query's text.
package struct QueryOptions: Sendable {
  /// Rows that must not be returned.
  package var excluded: [CatalogRow] = []
  /// Earlier pages, whose items are not returned again.
  package var page: PageRequest?
  /// Where random choices start; the same seed gives the same answer.
  package var seed: UInt64 = 0
  /// `return_explanation`
  package var explains = false
  /// `return_journey_explanations`
  package var showsJourneys = false
  /// How many of the newest past events are left out, each once, to see what it carries.
  package var influenceCount = 0
  /// Nanoseconds since any fixed moment, for the times of an explanation; the engine reads no clock.
  package var stopwatch: (@Sendable () -> Int64)?
  /// A query that takes longer is ended between two of its steps.
  package var mostNanoseconds: Int64?

  package init(excluded: [CatalogRow] = []) { self.excluded = excluded }
}

/// The answer to a query, in columns: entry `i` of each belongs to position `i`.
package struct QueryResult: Sendable {
  package enum EntityType: String, Hashable, Sendable { case item, user }

  package var rows: [CatalogRow]
  package var ids: [ItemID]
  /// The score that decided the order, or the retriever's where nothing was scored. nil where a model
  /// does not know the item or the expression has no finite value; those come last.
  package var scores: [Double?]
  /// The columns that `SELECT` names, in its order.
  package var columns: [ResultColumn]
  /// What the reader should know, such as a fallback for an unknown user.
  package var notes: [String]
  /// What each stage took in and gave out.
  package var stages: [QueryStage]
  package var entityType = EntityType.item
  /// The user that the query names, where it is one.
  package var user: UserID?
  /// The probability with which exploration put each row at its place; nil without exploration.
  package var propensities: [Double?]?
  /// The vectors that `SELECT embedding('…')` asks for.
  package var embeddings: [(name: String, vectors: [[Float]?])] = []
  package var explanation: QueryExplanation?
  package var journeys: [Journey]?
  /// For each row what past events add to its score, newest event first.
  package var influences: [[Influence]]?
  package var nanoseconds: Int64 = 0

  package init(
    rows: [CatalogRow], ids: [ItemID], scores: [Double?], columns: [ResultColumn],
    notes: [String], stages: [QueryStage]
  ) {
    self.rows = rows
    self.ids = ids
    self.scores = scores
    self.columns = columns
    self.notes = notes
    self.stages = stages
  }
}

/// One stage of a query and how many rows went through it.
package struct QueryStage: Hashable, Sendable {
  package enum Name: String, Hashable, Sendable { case filter, retrieve, score, reorder, limit }
  package var name: Name
  /// The step in words, such as `similarity(embedding_ref='e')`.
  package var step: String
  package var inputCount: Int
  package var outputCount: Int
  /// What sort of step it is: `similarity`, `expression`, `diversity`.
  package var kind = ""
  /// 0 without a stopwatch.
  package var nanoseconds: Int64 = 0
  /// What else is known of the step, under the names of the published answer format.
  package var details: [JSON.Member] = []
}

/// One column of an answer. Cells are read when asked for.
package struct ResultColumn: Sendable {
  package enum Source: Sendable {
    /// Cells of a column of the catalog at these rows.
    case column(Column, rows: [CatalogRow])
    case ids([ItemID])
    /// A computed score.
    case numbers([Double?])
  }

  package var name: String
  package var source: Source

  /// The cell at a position of the answer.
  package subscript(position: Int) -> Value {
    switch source {
    case .column(let column, let rows): column.value(at: rows[position].index)
    case .ids(let ids): .string(ids[position].rawValue)
    case .numbers(let numbers): numbers[position].map { .double($0) } ?? .null
    }
  }
}

/// The answer to a data query.
package struct DataResult: Sendable {
  package var columns: [String]
  /// Cells in the order of the columns.
  package var rows: [[Value]]
}

/// The answer to one statement.
package enum StatementAnswer: Sendable {
  case rows(QueryResult)
  case table(DataResult)
  /// `EXPLAIN`
  case plan(String)
  /// `EXPLAIN ANALYZE`; the result holds an explanation.
  case analysis(QueryResult)
  case whyNot(WhyNot)
  /// `EXPLAIN INFLUENCE`; the result holds influences.
  case influence(QueryResult)

  /// What the statement tells as text; nil for rows.
  package var text: String? {
    switch self {
    case .rows, .table: return nil
    case .plan(let text): return text
    case .analysis(let result): return result.explanation?.text
    case .whyNot(let why): return why.text
    case .influence(let result):
      guard let influences = result.influences else { return nil }
      return zip(result.ids, influences).map { id, events in
        let parts = events.map { event in
          "\(event.event.rawValue) \(event.change.map { String($0) } ?? "unknown")"
        }
        return "\(id.rawValue): "
          + (parts.isEmpty ? "no past events" : parts.joined(separator: ", "))
      }.joined(separator: "\n")
    }
  }
}
