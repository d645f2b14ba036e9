import Columns
import Domain
import Models
import QueryEngine
import State
import VectorIndex

/// What one query reads: the newest state, the published generation, and the moment.
struct EngineSource: QuerySource {
  let engine: String
  let interactionTable: String
  /// The columns of the interaction table that tell sessions.
  let roles: InteractionColumns.Roles
  let embeddings: [EngineConfiguration.Embedding]
  let filters: [EngineConfiguration.Filter]
  let state: StateSnapshot
  let generation: Generation?
  let now: Timestamp
  let popularity: RankCache<Int32>
  let trends: RankCache<Double>
  let tables: TableReader
  let lexicalSettings: LexicalSettings?
  /// What `text_search` over users reads; nil: every text column.
  let userFields: [String]?
  /// Where histories and seen sets end; nil: now.
  var moment: AsOf?
  /// The sessions that this query has encoded: retrieval and score ask for the same one.
  let sessions = SessionCache()
  /// Whether tables are asked for their columns alone.
  var readsNoRows = false

  static let alreadySeen = "already_seen"

  var items: ColumnTable { state.catalog }
  var listed: Bitmap { state.listed }
  var catalogVersion: UInt64 { UInt64(state.catalogVersion) }
  func itemID(of row: CatalogRow) -> ItemID { state.itemID(of: row) }
  func row(of id: ItemID) -> CatalogRow? { state.row(of: id) }

  var embeddingNames: [String] { embeddings.map(\.name) }
  var modelNames: [String] {
    var names: [String] = []
    for embedding in embeddings where !names.contains(embedding.model) {
      names.append(embedding.model)
    }
    return names
  }
  var filterNames: [String] { [Self.alreadySeen] + filters.map(\.name) }
  var derivedColumnNames: [String] {
    [
      "_derived_popular_rank", "_derived_trending_rank", "_derived_chronological_rank",
      "_derived_interaction_count",
    ]
  }

  func derivedColumn(_ name: String) -> Column? {
    func column(_ values: some Sequence<Int64>) -> Column {
      Column(
        type: .int64, dictionary: StringDictionary(),
        present: ChunkedVector([UInt8](repeating: 1, count: state.itemCount)),
        values: .int(ChunkedVector(Array(values))))
    }
    switch name {
    case "_derived_popular_rank": return popularity.column(in: state)
    case "_derived_trending_rank": return trends.column(in: state)
    case "_derived_chronological_rank":
      return column((0..<state.itemCount).lazy.map { Int64(state.itemCount - $0) })
    case "_derived_interaction_count":
      return column((0..<state.itemCount).lazy.map { Int64(state.interactionCounts[$0]) })
    default: return nil
    }
  }

  // MARK: retrieval and scores

  func nearest(
    embedding name: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    guard let embedding = embeddings.first(where: { $0.name == name }) else {
      throw Diagnostic(
        .internalError, code: "unknown_embedding", "No embedding is called `\(name)`.")
    }
    let model = try model(embedding.model)
    guard let wish = try wish(of: encoder, model) else {
      return popular(count, among, note: "fallback: popular (\(unknownNote(encoder)))")
    }
    return nearest(to: wish, model, count, among, exactly)
  }

  /// Why there is no vector to search with.
  func unknownNote(_ encoder: Encoder) -> String {
    switch encoder {
    case .precomputedUser(let user), .interactionPooling(let user, _, _):
      "user '\(user.rawValue)' has no positive event that the model knows"
    case .precomputedItem(let item): "the model does not know item '\(item.rawValue)'"
    }
  }

  /// Items that the model knows by their score, then the others, newest first: an item without a
  /// vector is never lost, and never in front of one that is known to fit.
  func nearest(
    to wish: Wish, _ model: ServedModel, _ count: Int, _ among: Bitmap, _ exactly: Bool
  ) -> Nearest {
    var allowed = model.known
    allowed.formIntersection(among.resized(to: allowed.count))
    var found = Nearest(rows: [], scores: [])
    switch wish {
    case .vector(let vector):
      guard
        let answer = model.nearest(to: vector, count: count, among: allowed, exactly: exactly)
      else { break }
      found.search = SearchAccount(
        method: answer.method.description, recall: answer.recall,
        scannedRows: answer.scannedRows)
      for hit in answer.hits {
        found.rows.append(CatalogRow(hit.row))
        found.scores.append(hit.score)
      }
    case .scores(let scores):
      found.search = SearchAccount(
        method: "scores of all items", recall: 1, scannedRows: allowed.population)
      for hit in model.best(scores, count: count, among: allowed) {
        found.rows.append(CatalogRow(hit.row))
        found.scores.append(hit.score)
      }
    }
    guard found.rows.count < count else { return found }
    for row in stride(from: among.count - 1, through: 0, by: -1) {
      if found.rows.count == count { break }
      if among[row], row >= model.known.count || !model.known[row] {
        found.rows.append(CatalogRow(row))
        found.scores.append(-.infinity)
      }
    }
    return found
  }

  private func popular(_ count: Int, _ among: Bitmap, note: String) -> Nearest {
    var found = Nearest(rows: [], scores: [], note: note)
    for row in popularity.order(in: state) where among[row.index] {
      if found.rows.count == count { break }
      found.rows.append(row)
      found.scores.append(Float(state.interactionCounts[row.index]))
    }
    return found
  }

  func scores(model name: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?] {
    let model = try model(name)
    let history: History
    let cachedUser: UserID?
    switch user {
    case .user(let id):
      history = self.history(of: id, model)
      cachedUser = id
    case .session(let items, _):
      history = session(items, model)
      cachedUser = nil
    }
    // A model that knows the user by events alone has no opinion without any.
    guard !history.items.isEmpty || model.model.answersWithoutHistory else {
      return Array(repeating: nil, count: rows.count)
    }
    switch wish(model, for: history, user: cachedUser) {
    case .scores(let scores):
      return rows.map { row in model.token(of: row).map { scores[$0.index] } }
    case .vector(let vector):
      let knownRows = rows.filter { model.token(of: $0) != nil }
      var scores = (model.index?.scores(of: knownRows.map(\.index), with: vector) ?? [])
        .makeIterator()
      return rows.map { model.token(of: $0) == nil ? nil : scores.next() }
    }
  }

  func forbidden(filter: String, user: UserID?) throws -> [CatalogRow] {
    let place = filters.firstIndex { $0.name == filter }
    guard filter == Self.alreadySeen || place != nil else {
      throw Diagnostic(.internalError, code: "unknown_filter", "No filter is called `\(filter)`.")
    }
    if let place, filters[place].userColumn == nil {
      return state.forbidden(filter: place).rows.map { CatalogRow($0) }
    }
    guard let user else {
      throw Diagnostic(
        code: "missing_user", "The filter `\(filter)` is personal and needs a user.",
        help: "Write prebuilt('\(filter)', input_user_id=$user_id).")
    }
    if let place { return state.forbidden(filter: place, user: user) }
    guard moment != nil else { return state.user(user)?.seen ?? [] }
    return Array(Set(events(of: user).map(\.row)))
  }

  func forbiddenToAll(filter: String) -> Bitmap? {
    guard let place = filters.firstIndex(where: { $0.name == filter && $0.userColumn == nil })
    else { return nil }
    return state.forbidden(filter: place)
  }

  // MARK: vectors

  func model(_ name: String) throws -> ServedModel {
    if let model = generation?.model(named: name) { return model }
    throw Diagnostic(
      .unavailable, code: "not_trained",
      "The model `\(name)` of the engine `\(engine)` is still in its first training.",
      help: "Ask again when GET /v2/engines/\(engine) shows ACTIVE; until then "
        + "column_order(columns='_derived_popular_rank ASC') answers.")
  }

  /// What a history or, where there is no user, a session looks for.
  func wish(_ model: ServedModel, for history: History, user: UserID?) -> Wish {
    guard user == nil, !model.model.usesTimes else { return model.wish(for: history, user: user) }
    let values = sessions.vector(of: Array(history.items), model.name) {
      model.wish(for: history, user: nil).values
    }
    return model.vectors == nil ? .scores(values) : .vector(values)
  }

  /// nil where nothing is known that could be encoded.
  func wish(of encoder: Encoder, _ model: ServedModel) throws -> Wish? {
    switch encoder {
    case .precomputedUser(let user):
      let history = history(of: user, model)
      return history.items.isEmpty && !model.model.answersWithoutHistory
        ? nil : model.wish(for: history, user: user)
    case .precomputedItem(let item):
      guard let row = row(of: item) else {
        throw Diagnostic(
          .notFound, code: "unknown_item", "There is no item '\(item.rawValue)'.",
          help: "Give the id of an item of the catalog.")
      }
      if let vector = model.itemVector(row) { return .vector(vector) }
      // A model without vectors is asked for what goes with the item alone.
      return model.token(of: row).map { model.wish(for: History([$0]), user: nil) }
    case .interactionPooling(let user, let pooling, let interactions):
      let events = recentEvents(of: user, model, limit: interactions)
      guard let first = events.first else { return nil }
      guard let index = model.index else {
        return model.wish(for: model.history(events, at: questionTime), user: nil)
      }
      var pooled = index.vector(at: first.row.index)
      for event in events.dropFirst() {
        for (i, value) in index.vector(at: event.row.index).enumerated() {
          pooled[i] = pooling == .max ? max(pooled[i], value) : pooled[i] + value
        }
      }
      return .vector(pooling == .max ? pooled : pooled.map { $0 / Float(events.count) })
    }
  }

  /// The user's newest events as the model sees them.
  func history(of user: UserID, _ model: ServedModel) -> History {
    model.history(
      recentEvents(of: user, model, limit: model.model.maximumLength), at: questionTime)
  }

  /// When the question is asked: now, or the moment that the query goes back to.
  private var questionTime: Timestamp {
    if case .time(let time) = moment { time } else { now }
  }

  private func recentEvents(
    of user: UserID, _ model: ServedModel, limit: Int
  ) -> [Interaction] {
    model.recentEvents(of: events(of: user), in: state, limit: limit)
  }
}

extension Bitmap {
  /// The set over more or fewer rows; rows past the end are not in it.
  func resized(to newCount: Int) -> Bitmap {
    if newCount == count { return self }
    let wordCount = (newCount + 63) / 64
    var words = Array(self.words.prefix(wordCount))
    words += Array(repeating: 0, count: wordCount - words.count)
    return Bitmap(words: words, count: newCount)
  }
}
