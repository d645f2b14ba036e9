package import Columns
package import Domain

/// What a vector is asked for.
package enum VectorInput: Hashable, Sendable {
  case user(UserID)
  case item(ItemID)
  /// The items of a session, oldest first.
  case session([ItemID])
  case text(String)
  /// The columns of a user or an item; given ones have taken the place of stored ones.
  case attributes([String: JSON], ofUser: Bool)

  var description: String {
    switch self {
    case .user(let user): "user '\(user.rawValue)'"
    case .item(let item): "item '\(item.rawValue)'"
    case .session(let items): "a session of \(items.count) items"
    case .text(let text): "the text '\(text)'"
    case .attributes(let values, let ofUser):
      "the \(ofUser ? "user" : "item") attributes \(values.keys.sorted().joined(separator: ", "))"
    }
  }
}

/// The moment at which histories and seen sets are read.
package enum AsOf: Hashable, Sendable {
  case position(LogPosition)
  case time(Timestamp)
}

/// A table that a data query reads.
package enum TableReference: Hashable, Sendable {
  /// `items`, `users` or `interactions` of this engine, or of the engine named.
  case entity(String, engine: String?)
  /// `data.NAME` or `view.NAME`.
  case table(namespace: String, name: String)

  package var description: String {
    switch self {
    case .entity(let entity, nil): entity
    case .entity(let entity, let engine?): "engine.\(engine).\(entity)"
    case .table(let namespace, let name): "\(namespace).\(name)"
    }
  }
}

/// What a source may know beyond its items. All of it has a default that knows nothing.
extension QuerySource {
  package func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?] {
    throw Diagnostic(
      code: "not_available", "the vectors of the embedding `\(embedding)` cannot be read here",
      help: "Use attributes of the items instead.")
  }

  package func vector(embedding: String, of input: VectorInput) throws -> [Float]? {
    if case .item(let id) = input {
      guard let row = row(of: id) else {
        throw Diagnostic(
          .notFound, code: "unknown_item", "There is no item '\(id.rawValue)'.",
          help: "Give the id of an item of the catalog.")
      }
      return try vectors(embedding: embedding, rows: [row])[0]
    }
    let help =
      switch input {
      case .text: "Search words with mode='lexical', or add a text encoder to the engine."
      case .attributes: "Use precomputed_user, precomputed_item or interaction_pooling."
      default: "Use an embedding of a sequence model."
      }
    throw Diagnostic(
      code: "not_available",
      "the embedding `\(embedding)` has no encoder for \(input.description)", help: help)
  }

  /// An exact scan; sources with an index of their own do better.
  package func nearest(
    embedding: String, toVector vector: [Float], count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    let rows = among.rows.map { CatalogRow($0) }
    let stored = try vectors(embedding: embedding, rows: rows)
    var known: [(row: CatalogRow, score: Float)] = []
    for (row, other) in zip(rows, stored) {
      if let other { known.append((row, dotProduct(vector, other))) }
    }
    known.sort { ($1.score, $0.row) < ($0.score, $1.row) }
    let best = known.prefix(count)
    return Nearest(rows: best.map(\.row), scores: best.map(\.score))
  }

  package func nearest(
    embedding: String, toInput input: VectorInput, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest? {
    guard let vector = try vector(embedding: embedding, of: input) else { return nil }
    return try nearest(
      embedding: embedding, toVector: vector, count: count, among: among, exactly: exactly)
  }

  package func scores(
    embedding: String, for user: UserInput, rows: [CatalogRow]
  ) throws -> [Float?] {
    let input: VectorInput =
      switch user {
      case .user(let id): .user(id)
      case .session(let items, _): .session(items)
      }
    guard let vector = try vector(embedding: embedding, of: input) else {
      return Array(repeating: nil, count: rows.count)
    }
    return try vectors(embedding: embedding, rows: rows).map { other in
      other.map { dotProduct(vector, $0) }
    }
  }

  package func forbiddenToAll(filter: String) -> Bitmap? { nil }
  package var engineName: String? { nil }
  package func history(of user: UserID, limit: Int) -> [CatalogRow] { [] }
  package var userColumns: [ColumnDefinition] { [] }
  package func userCell(_ column: String, of user: UserID) -> Value { .null }
  package var users: (any QuerySource)? { nil }
  package var lexicalSettings: LexicalSettings? { nil }
  package var tableNames: [String] { ["items"] }

  package func table(_ reference: TableReference) throws -> ColumnTable? {
    if case .entity(let name, nil) = reference, name.hasPrefix("item") { return items }
    return nil
  }

  package func source(asOf moment: AsOf) throws -> any QuerySource {
    throw Diagnostic(
      code: "not_available", "AS OF is not available for this engine",
      help: "Leave AS OF away: the newest state is read.")
  }
}

func dotProduct(_ a: [Float], _ b: [Float]) -> Float {
  var sum: Float = 0
  for i in 0..<min(a.count, b.count) { sum += a[i] * b[i] }
  return sum
}

func cosineSimilarity(_ a: [Float], _ b: [Float]) -> Float {
  let lengths = (dotProduct(a, a) * dotProduct(b, b)).squareRoot()
  return lengths > 0 ? dotProduct(a, b) / lengths : 0
}

/// The mean or the largest of each place of some vectors; nil of none.
func pooled(_ vectors: [[Float]], _ pooling: Encoder.Pooling) -> [Float]? {
  guard var out = vectors.first else { return nil }
  for vector in vectors.dropFirst() {
    for i in 0..<min(out.count, vector.count) {
      out[i] = pooling == .max ? max(out[i], vector[i]) : out[i] + vector[i]
    }
  }
  return pooling == .max ? out : out.map { $0 / Float(vectors.count) }
}
