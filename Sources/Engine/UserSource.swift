import Columns
import Domain
import Models
import QueryEngine
import State
import VectorIndex

/// The users of an engine as what is ranked: a row is a user, and its vector is that of the user's
/// newest history.
struct UserSource: QuerySource {
  let base: EngineSource

  private var state: StateSnapshot { base.state }
  var items: ColumnTable { state.userTable }
  var listed: Bitmap { state.listedUsers }
  var catalogVersion: UInt64 { UInt64(state.userVersion) }
  var now: Timestamp { base.now }
  func itemID(of row: CatalogRow) -> ItemID { ItemID(state.userID(of: row.index).rawValue) }
  func row(of id: ItemID) -> CatalogRow? {
    state.userCode(UserID(id.rawValue)).map { CatalogRow(Int($0)) }
  }

  var embeddingNames: [String] { base.embeddingNames }
  var modelNames: [String] { [] }
  var filterNames: [String] { [] }
  var userColumns: [ColumnDefinition] { base.userColumns }
  func userCell(_ column: String, of user: UserID) -> Value { base.userCell(column, of: user) }
  func history(of user: UserID, limit: Int) -> [CatalogRow] { [] }
  var engineName: String? { base.engineName }
  var lexicalSettings: LexicalSettings? {
    var settings = base.lexicalSettings
    settings?.fields = base.userFields
    return settings
  }

  // MARK: retrieval

  func nearest(
    embedding: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    let model = try base.modelWithVectors(embedding)
    guard let vector = try base.wish(of: encoder, model)?.vector else {
      var found = Nearest(
        rows: [], scores: [], note: "fallback: any users (\(base.unknownNote(encoder)))")
      append(to: &found, count, among, without: nil)
      return found
    }
    return try nearest(
      embedding: embedding, toVector: vector, count: count, among: among, exactly: exactly)
  }

  func nearest(
    embedding: String, toVector vector: [Float], count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    let users = try vectors(embedding)
    var allowed = users.known
    allowed.formIntersection(among.resized(to: allowed.count))
    var found = Nearest(rows: [], scores: [])
    let answer = VectorSearcher(users.index).nearest(
      to: vector, count: count, among: allowed.words, useExactSearch: true)
    found.search = SearchAccount(
      method: answer.method.description, recall: 1, scannedRows: answer.scannedRows)
    for hit in answer.hits {
      found.rows.append(CatalogRow(hit.row))
      found.scores.append(hit.score)
    }
    if !users.isCurrent {
      found.note = "the vectors of users are being made anew; these are some moments old"
    }
    append(to: &found, count, among, without: users.known)
    return found
  }

  /// Adds users without a vector, so that none is lost.
  private func append(to found: inout Nearest, _ count: Int, _ among: Bitmap, without: Bitmap?) {
    for row in 0..<among.count where among[row] {
      if found.rows.count >= count { return }
      if let without, row < without.count, without[row] { continue }
      found.rows.append(CatalogRow(row))
      found.scores.append(-.infinity)
    }
  }

  private func vectors(_ embedding: String) throws -> UserIndex.Vectors {
    let model = try base.modelWithVectors(embedding)
    // A past moment has histories of its own, which nobody keeps.
    guard base.moment == nil else {
      throw Diagnostic(
        code: "not_supported", "AS OF cannot rank users: their vectors are those of now.",
        help: "Leave AS OF away.")
    }
    let state = state
    guard let vectors = model.vectors else { preconditionFailure("a model without vectors") }
    return try vectors.users.vectors(of: state) { user in
      let events = model.recentEvents(
        of: user.history, in: state, limit: model.model.maximumLength)
      guard let last = events.last else { return nil }
      return vectors.model.encode(model.history(events, at: last.time))
    }
  }

  func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?] {
    let users = try vectors(embedding)
    return rows.map { row in
      row.index < users.known.count && users.known[row.index]
        ? users.index.vector(at: row.index) : nil
    }
  }

  func vector(embedding: String, of input: VectorInput) throws -> [Float]? {
    try base.vector(embedding: embedding, of: input)
  }

  func scores(model: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?] {
    throw Diagnostic(
      code: "not_supported", "The model `\(model)` scores items, and this query ranks users.",
      help: "Order by retrieval.get_score('NAME') of a similarity() over users.")
  }

  func forbidden(filter: String, user: UserID?) throws -> [CatalogRow] {
    throw Diagnostic(
      code: "not_supported", "The filter `\(filter)` is about items, and this query ranks users.")
  }
}
