import Columns
import Domain
import QueryEngine
import State

/// What queries ask beyond rows and scores: vectors, histories, tables, and the past.
extension EngineSource {
  private func model(of embedding: String) throws -> ServedModel {
    guard let found = embeddings.first(where: { $0.name == embedding }) else {
      throw Diagnostic(
        .internalError, code: "unknown_embedding", "No embedding is called `\(embedding)`.")
    }
    return try model(found.model)
  }

  func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?] {
    let model = try model(of: embedding)
    return rows.map { model.itemVector($0) }
  }

  func vector(embedding: String, of input: VectorInput) throws -> [Float]? {
    let model = try model(of: embedding)
    switch input {
    case .user(let user):
      let tokens = recentTokens(of: user, model, limit: model.policy.maximumLength)
      return tokens.isEmpty ? nil : model.vector(for: tokens, user: user)
    case .session(let items):
      let tokens = sessionTokens(items, model)
      return tokens.isEmpty ? nil : model.vector(for: tokens, user: nil)
    case .item(let id):
      guard let row = row(of: id) else {
        throw Diagnostic(
          .notFound, code: "unknown_item", "There is no item '\(id.rawValue)'.",
          help: "Give the id of an item of the catalog.")
      }
      return model.itemVector(row)
    case .text:
      throw Diagnostic(
        code: "not_available",
        "The embedding `\(embedding)` comes from a model of events; it has no "
          + "encoder for texts.", help: "Search words: text_search(query=…, mode='lexical').")
    case .attributes:
      throw Diagnostic(
        code: "not_available",
        "The embedding `\(embedding)` comes from a model of events; it has no "
          + "encoder for attributes.",
        help: "Use precomputed_user, precomputed_item, interaction_pooling or session.")
    }
  }

  func nearest(
    embedding: String, toVector vector: [Float], count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    nearest(to: vector, try model(of: embedding), count, among, exactly)
  }

  /// The newest items of a session that the model knows, oldest first.
  func sessionTokens(_ items: [ItemID], _ model: ServedModel) -> [ItemToken] {
    let known = items.compactMap { row(of: $0).flatMap { model.token(of: $0) } }
    return Array(known.suffix(model.policy.maximumLength))
  }

  // MARK: histories

  /// The user's events up to the moment of the query, oldest first.
  func events(of user: UserID) -> [Interaction] {
    guard let history = state.user(user)?.history else { return [] }
    switch moment {
    case nil: return history
    case .position(let position): return history.filter { $0.position <= position }
    case .time(let time): return history.filter { $0.time <= time }
    }
  }

  func history(of user: UserID, limit: Int) -> [CatalogRow] {
    Array(events(of: user).lazy.filter(\.isPositive).map(\.row).suffix(limit))
  }

  /// Histories and seen sets end at the moment; items, models and popularity are those of now.
  func source(asOf moment: AsOf) throws -> any QuerySource {
    if case .position(let position) = moment, position > state.through {
      throw Diagnostic(
        code: "unknown_position",
        "The log ends at position \(state.through.rawValue); AS OF \(position.rawValue) is later.")
    }
    var past = self
    past.moment = moment
    return past
  }

  // MARK: tables

  var engineName: String? { engine }

  var tableNames: [String] { ["items", "interactions"] + tables.names.map { "data.\($0)" } }

  func table(_ reference: TableReference) throws -> ColumnTable? {
    switch reference {
    case .entity(let entity, let other):
      if let other, other != engine { return nil }
      switch entity {
      case "item", "items": return items
      case "interactions": return try tables.table(interactionTable)
      default: return nil
      }
    case .table("data", let name): return try tables.table(name)
    case .table: return nil
    }
  }
}
