/// `QueryEngine` binds a parsed query to a catalog, plans it and runs it.
///
/// A query and its parameters come in; rows of the catalog in their final order go out, still in
/// columns. Data is asked for through `QuerySource`, per batch and never per row. The target reads
/// no clock, does no I/O and knows neither models nor indexes.

package import Columns
package import Domain

/// What a query reads: one model generation and one state of the catalog and the histories.
///
/// A source does not change while a query runs. Errors that it throws as `Diagnostic` reach the
/// caller with the place in the query added; so a source says what is wrong and leaves the place out.
package protocol QuerySource: Sendable {
  /// The catalog's columns. A row's number is its `CatalogRow`.
  var items: ColumnTable { get }
  /// The rows that may be returned at all; `count` equals `items.rowCount`.
  var listed: Bitmap { get }
  /// Grows when any cell of `items` changes. Bitmaps of predicates are cached under it.
  var catalogVersion: UInt64 { get }
  /// The moment of the query: the engine reads no clock.
  var now: Timestamp { get }

  func itemID(of row: CatalogRow) -> ItemID
  func row(of id: ItemID) -> CatalogRow?

  var embeddingNames: [String] { get }
  var modelNames: [String] { get }
  var filterNames: [String] { get }
  /// Columns that are computed from the events, such as `_derived_popular_rank`.
  var derivedColumnNames: [String] { get }
  /// One of `derivedColumnNames`, with a cell for each row of `items`, or nil for another name.
  func derivedColumn(_ name: String) -> Column?

  /// The best rows of the bitmap for an encoded user or item, best first.
  ///
  /// - Parameters:
  ///   - count: at least 1. The answer holds that many rows whenever `among` does.
  ///   - exactly: whether no index may stand between the vectors and the answer.
  func nearest(
    embedding: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest

  /// A model's score of each row for a user; nil where the model does not know the item.
  func scores(model: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?]

  /// The rows that a prebuilt filter removes; a personal filter needs the user.
  ///
  /// - Returns: rows below `items.rowCount`, in any order.
  func forbidden(filter: String, user: UserID?) throws -> [CatalogRow]
  /// The rows that a filter removes for everybody, where it is such a filter; rows past its end are
  /// none. nil sends the caller to `forbidden`.
  func forbiddenToAll(filter: String) -> Bitmap?

  /// The stored vector of each row in an embedding, nil where it holds none.
  func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?]
  /// A vector to search an embedding with; nil where nothing is known that could be encoded.
  func vector(embedding: String, of input: VectorInput) throws -> [Float]?
  /// The best rows of the bitmap for a vector, best first: as many as `among` and the embedding hold.
  func nearest(
    embedding: String, toVector vector: [Float], count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest

  /// The best rows of the bitmap for an input, best first; nil where nothing is known that could be
  /// encoded.
  func nearest(
    embedding: String, toInput input: VectorInput, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest?
  /// What an embedding makes of each row for a user; nil where it does not hold the item.
  func scores(embedding: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?]

  /// The engine's name, where queries may write `engine.NAME`.
  var engineName: String? { get }
  /// The newest items that the user acted on, oldest first.
  func history(of user: UserID, limit: Int) -> [CatalogRow]
  var userColumns: [ColumnDefinition] { get }
  /// A cell of the user's row; null where the user or the cell is unknown.
  func userCell(_ column: String, of user: UserID) -> Value
  /// The users as what is ranked: rows of users in the place of items.
  var users: (any QuerySource)? { get }
  /// How `text_search` reads the catalog; nil: every text column, words by the rules of English.
  var lexicalSettings: LexicalSettings? { get }
  /// What data queries may read here, for messages.
  var tableNames: [String] { get }
  /// A table for a data query, or nil where there is none of the name.
  func table(_ reference: TableReference) throws -> ColumnTable?
  /// The source as it was: histories and seen sets of that moment.
  func source(asOf moment: AsOf) throws -> any QuerySource
}

extension QuerySource {
  package var derivedColumnNames: [String] { [] }
  package func derivedColumn(_ name: String) -> Column? { nil }
}

/// What a similarity search looks for.
package enum Encoder: Hashable, Sendable {
  package enum Pooling: String, Hashable, Sendable, CaseIterable { case mean, max }

  /// The user's vector, encoded from the newest history.
  case precomputedUser(UserID)
  /// The stored vector of an item.
  case precomputedItem(ItemID)
  /// The pooled vectors of the last `interactions` items that the user acted on.
  case interactionPooling(UserID, Pooling, interactions: Int)

  package var description: String {
    switch self {
    case .precomputedUser(let user): "user '\(user.rawValue)'"
    case .precomputedItem(let item): "item '\(item.rawValue)'"
    case .interactionPooling(let user, let pooling, let interactions):
      "\(pooling.rawValue) of the last \(interactions) items of user '\(user.rawValue)'"
    }
  }
}

/// Whom a model scores for.
package enum UserInput: Hashable, Sendable {
  /// A user, by the newest stored history.
  case user(UserID)
  /// A session given by the caller, oldest item first, in place of the stored history.
  case session([ItemID], user: UserID?)
}

/// The rows that a similarity search found, best first, with a score for each. A score that is not
/// finite stands for none: the row is there, and nothing is known of how well it fits.
package struct Nearest: Sendable {
  package var rows: [CatalogRow]
  package var scores: [Float]
  /// What the caller should know, such as a fallback for an unknown user.
  package var note: String?
  /// How the rows were found; nil where no vectors were searched.
  package var search: SearchAccount?

  package init(rows: [CatalogRow], scores: [Float], note: String? = nil) {
    precondition(rows.count == scores.count, "\(rows.count) rows, \(scores.count) scores")
    self.rows = rows
    self.scores = scores
    self.note = note
  }
}

/// How a search of vectors found its rows.
package struct SearchAccount: Hashable, Sendable {
  /// Such as `exact, bytes` or `partitioned, 24 of 1000 lists`.
  package var method: String
  /// The share of the true answer that such a search finds on average: 1 where it is exact, else what
  /// was measured when the index was made.
  package var recall: Double
  /// Rows that were looked at.
  package var scannedRows: Int

  package init(method: String, recall: Double, scannedRows: Int) {
    self.method = method
    self.recall = recall
    self.scannedRows = scannedRows
  }
}
