import Columns
import Domain
import Models
import QueryEngine
import State

/// What queries ask beyond rows and scores: vectors, histories, tables, and the past.
extension EngineSource {
  func model(of embedding: String) throws -> ServedModel {
    guard let found = embeddings.first(where: { $0.name == embedding }) else {
      throw Diagnostic(
        .internalError, code: "unknown_embedding", "No embedding is called `\(embedding)`.")
    }
    return try model(found.model)
  }

  func modelWithVectors(_ embedding: String) throws -> ServedModel {
    let model = try model(of: embedding)
    if model.index != nil { return model }
    throw noVectors(model)
  }

  private func noVectors(_ model: ServedModel) -> Diagnostic {
    Diagnostic(
      code: "no_vectors",
      "The model `\(model.name)` (\(model.policy.policy.name)) gives scores and has no vectors.",
      help: "Search it by user, session or item, or use it by name in a score expression; for "
        + "vectors declare a model such as `item2vec` or `sasrec`.")
  }

  func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?] {
    let model = try modelWithVectors(embedding)
    return rows.map { model.itemVector($0) }
  }

  func vector(embedding: String, of input: VectorInput) throws -> [Float]? {
    let model = try modelWithVectors(embedding)
    switch input {
    case .user(let user):
      let history = history(of: user, model)
      return history.items.isEmpty ? nil : model.wish(for: history, user: user).vector
    case .session(let items):
      let history = session(items, model)
      return history.items.isEmpty ? nil : wish(model, for: history, user: nil).vector
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
        "The embedding `\(embedding)` comes from a model of events, which has no encoder for texts.",
        help:
          "Search words: text_search(query=…, mode='lexical'). Vectors of texts need an embedding "
          + "with a text encoder: index.embeddings: [{name: …, encoder: {type: hugging_face, …}}]; "
          + "this build has none to declare.")
    case .attributes(let values, let ofUser):
      return try vector(of: values, ofUser: ofUser, model)
    }
  }

  /// Users and sessions search a model without vectors by its scores of all items.
  func nearest(
    embedding: String, toInput input: VectorInput, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest? {
    let model = try model(of: embedding)
    if model.index == nil {
      let (history, user): (History, UserID?)
      switch input {
      case .user(let id): (history, user) = (self.history(of: id, model), id)
      case .session(let items): (history, user) = (session(items, model), nil)
      default: throw noVectors(model)
      }
      if history.items.isEmpty, !model.model.answersWithoutHistory { return nil }
      return nearest(to: wish(model, for: history, user: user), model, count, among, exactly)
    }
    guard let vector = try vector(embedding: embedding, of: input) else { return nil }
    return nearest(to: .vector(vector), model, count, among, exactly)
  }

  func scores(embedding: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?] {
    try scores(model: model(of: embedding).name, for: user, rows: rows)
  }

  /// A vector for attributes: the mean, over the attributes, of the mean vectors of the items (or users)
  /// that share them.
  private func vector(
    of values: [String: JSON], ofUser: Bool, _ model: ServedModel
  ) throws -> [Float]? {
    if ofUser {
      guard userColumns.count > 0 else {
        throw Diagnostic(
          code: "not_available", "Users of the engine `\(engine)` have no attributes.",
          help: "Declare their table: data: {user_table: {type: table, name: users}}.")
      }
      let users = UserSource(base: self)
      let pooling = AttributePooling(table: state.userTable, among: state.listedUsers)
      return AttributePooling.mean(
        try pooling.groups(values).map { rows in
          try users.vectors(embedding: model.name, rows: rows).compactMap { $0 }
        })
    }
    let pooling = AttributePooling(table: items, among: listed)
    return AttributePooling.mean(
      try pooling.groups(values).map { rows in rows.compactMap { model.itemVector($0) } })
  }

  // MARK: users

  var userColumns: [ColumnDefinition] {
    let table = state.userTable
    return table.names.enumerated().dropFirst().map { place, name in
      ColumnDefinition(name: name, type: table[lending: place].type)
    }
  }

  func userCell(_ column: String, of user: UserID) -> Value {
    guard let code = state.userCode(user), let place = state.userTable.names.firstIndex(of: column)
    else { return .null }
    return state.userTable[lending: place].value(at: Int(code))
  }

  var users: (any QuerySource)? { UserSource(base: self) }

  func nearest(
    embedding: String, toVector vector: [Float], count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    nearest(to: .vector(vector), try modelWithVectors(embedding), count, among, exactly)
  }

  /// The newest items of a session that the model knows.
  func session(_ items: [ItemID], _ model: ServedModel) -> History {
    let tokens = sessions.tokens(of: items, model.name) {
      let known = state.rows(of: items).compactMap { $0.flatMap { model.token(of: $0) } }
      return Array(known.suffix(model.model.maximumLength))
    }
    return History(tokens[...], moment: now)
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

  var tableNames: [String] {
    ["items", "users", "interactions"] + tables.names.map { "data.\($0)" }
  }

  func table(_ reference: TableReference) throws -> ColumnTable? {
    switch reference {
    case .entity(let entity, let other):
      if let other, other != engine { return nil }
      switch entity {
      case "item", "items": return items
      case "user", "users": return state.userTable
      case "interactions":
        return readsNoRows
          ? tables.columns(interactionTable, roles) : try tables.table(interactionTable, roles)
      default: return nil
      }
    case .table("data", let name): return try rows(of: name)
    case .table("view", let name):
      if let kept = try rows(of: name) { return kept }
      throw Diagnostic(
        code: "unknown_view", "There is no materialised view `\(name)`.",
        help: "A plain view is read by the global endpoint: POST /v2/query.")
    case .table: return nil
    }
  }

  private func rows(of table: String) throws -> ColumnTable? {
    readsNoRows ? tables.columns(table) : try tables.table(table)
  }
}
