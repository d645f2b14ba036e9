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
  /// Rows that must not be returned, such as those of earlier pages.
  package var excluded: [CatalogRow] = []
  package init(excluded: [CatalogRow] = []) { self.excluded = excluded }
}

/// The answer to a query, in columns: entry `i` of each belongs to position `i`.
package struct QueryResult: Sendable {
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
}

/// One stage of a query and how many rows went through it.
package struct QueryStage: Hashable, Sendable {
  package enum Name: String, Hashable, Sendable { case filter, retrieve, score, reorder, limit }
  package var name: Name
  /// The step in words, such as `similarity(embedding_ref='e')`.
  package var step: String
  package var inputCount: Int
  package var outputCount: Int
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
