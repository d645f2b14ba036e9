import Columns
import Domain
import QueryEngine
import State
import VectorIndex

/// What one query reads: the newest state, the published generation, and the moment.
struct EngineSource: QuerySource {
  let engine: String
  let interactionTable: String
  let embeddings: [EngineConfiguration.Embedding]
  let state: StateSnapshot
  let generation: Generation?
  let now: Timestamp
  let popularity: RankCache<Int32>
  let trends: RankCache<Double>
  let tables: TableReader
  let lexicalSettings: LexicalSettings?
  /// Where histories and seen sets end; nil: now.
  var moment: AsOf?

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
  var filterNames: [String] { [Self.alreadySeen] }
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
    guard let vector = try vector(of: encoder, model) else {
      return popular(count, among, note: Self.popularNote(encoder))
    }
    return nearest(to: vector, model, count, among, exactly)
  }

  private static func popularNote(_ encoder: Encoder) -> String {
    let who =
      switch encoder {
      case .precomputedUser(let user), .interactionPooling(let user, _, _):
        "user '\(user.rawValue)' has no positive event that the model knows"
      case .precomputedItem(let item): "the model does not know item '\(item.rawValue)'"
      }
    return "fallback: popular (\(who))"
  }

  /// Items that the model knows by their score, then the others, newest first: an item without a
  /// vector is never lost, and never in front of one that is known to fit.
  func nearest(
    to vector: [Float], _ model: ServedModel, _ count: Int, _ among: Bitmap, _ exactly: Bool
  ) -> Nearest {
    var allowed = model.known
    allowed.formIntersection(among.prefix(allowed.count))
    var found = Nearest(rows: [], scores: [])
    let answer = model.nearest(to: vector, count: count, among: allowed, exactly: exactly)
    found.search = SearchAccount(
      method: answer.method.description, recall: answer.recall, scannedRows: answer.scannedRows)
    for hit in answer.hits {
      found.rows.append(CatalogRow(hit.row))
      found.scores.append(hit.score)
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
    let tokens: [ItemToken]
    let cachedUser: UserID?
    switch user {
    case .user(let id):
      tokens = recentTokens(of: id, model, limit: model.policy.maximumLength)
      cachedUser = id
    case .session(let items, _):
      tokens = sessionTokens(items, model)
      cachedUser = nil
    }
    guard !tokens.isEmpty else { return Array(repeating: nil, count: rows.count) }
    let vector = model.vector(for: tokens, user: cachedUser)
    let knownRows = rows.filter { model.token(of: $0) != nil }
    var scores = model.index.scores(of: knownRows.map(\.index), with: vector).makeIterator()
    return rows.map { model.token(of: $0) == nil ? nil : scores.next() }
  }

  func forbidden(filter: String, user: UserID?) throws -> [CatalogRow] {
    guard filter == Self.alreadySeen else {
      throw Diagnostic(.internalError, code: "unknown_filter", "No filter is called `\(filter)`.")
    }
    guard let user else {
      throw Diagnostic(
        code: "missing_user", "The filter `\(filter)` is personal and needs a user.",
        help: "Write prebuilt('\(filter)', input_user_id=$user_id).")
    }
    guard moment != nil else { return state.user(user)?.seen ?? [] }
    return Array(Set(events(of: user).map(\.row)))
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

  /// nil where nothing is known that could be encoded.
  private func vector(of encoder: Encoder, _ model: ServedModel) throws -> [Float]? {
    switch encoder {
    case .precomputedUser(let user):
      let tokens = recentTokens(of: user, model, limit: model.policy.maximumLength)
      return tokens.isEmpty ? nil : model.vector(for: tokens, user: user)
    case .precomputedItem(let item):
      guard let row = row(of: item) else {
        throw Diagnostic(
          .notFound, code: "unknown_item", "There is no item '\(item.rawValue)'.",
          help: "Give the id of an item of the catalog.")
      }
      return model.itemVector(row)
    case .interactionPooling(let user, let pooling, let interactions):
      let rows = recentRows(of: user, model, limit: interactions)
      guard let first = rows.first else { return nil }
      var pooled = model.index.vector(at: first.index)
      for row in rows.dropFirst() {
        for (i, value) in model.index.vector(at: row.index).enumerated() {
          pooled[i] = pooling == .max ? max(pooled[i], value) : pooled[i] + value
        }
      }
      return pooling == .max ? pooled : pooled.map { $0 / Float(rows.count) }
    }
  }

  func recentTokens(of user: UserID, _ model: ServedModel, limit: Int) -> [ItemToken] {
    recentRows(of: user, model, limit: limit).compactMap { model.token(of: $0) }
  }

  /// The newest positive items that the model knows, oldest first.
  func recentRows(of user: UserID, _ model: ServedModel, limit: Int) -> [CatalogRow] {
    model.recentRows(of: events(of: user), in: state, limit: limit)
  }
}

extension Bitmap {
  /// The first rows of the set; rows past the end are not in it.
  fileprivate func prefix(_ newCount: Int) -> Bitmap {
    if newCount == count { return self }
    let wordCount = (newCount + 63) / 64
    var words = Array(self.words.prefix(wordCount))
    words += Array(repeating: 0, count: wordCount - words.count)
    return Bitmap(words: words, count: newCount)
  }
}
