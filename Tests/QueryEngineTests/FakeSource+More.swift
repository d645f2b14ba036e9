import Columns
import Domain
import QueryEngine

extension FakeSource {
  static let vectorWidth = 6

  /// A vector that depends on words and a number alone; every eleventh row has none.
  func storedVector(_ embedding: String, _ row: Int) -> [Float]? {
    if row % 11 == 10 { return nil }
    return (0..<Self.vectorWidth).map { place in
      Float(mixed("\(embedding) \(place)", row) % 200) / 100 - 1
    }
  }

  func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?] {
    rows.map { storedVector(embedding, $0.index) }
  }

  func vector(embedding: String, of input: VectorInput) throws -> [Float]? {
    switch input {
    case .user(let user):
      return try vector(
        embedding: embedding,
        of: .session(history(of: user, limit: 50).map { itemID(of: $0) }))
    case .item(let id):
      guard let row = row(of: id) else {
        throw Diagnostic(.notFound, code: "unknown_item", "unknown item `\(id.rawValue)`")
      }
      return storedVector(embedding, row.index)
    case .session(let items):
      // Newer items weigh more, so that the order of a session counts.
      var out = [Float](repeating: 0, count: Self.vectorWidth)
      var isEmpty = true
      for (place, id) in items.enumerated() {
        guard let row = row(of: id), let vector = storedVector(embedding, row.index) else {
          continue
        }
        isEmpty = false
        for i in out.indices { out[i] = out[i] * 0.5 + vector[i] * Float(place + 1) }
      }
      return isEmpty ? nil : out
    case .text(let text):
      guard embedding == "title_embedding" else {
        throw Diagnostic(
          code: "not_available", "the embedding `\(embedding)` has no encoder for texts")
      }
      return storedVector(embedding, text.utf8.count)
    case .attributes(let values, _):
      return storedVector(embedding, values.keys.sorted().joined().utf8.count)
    }
  }

  func history(of user: UserID, limit: Int) -> [CatalogRow] {
    guard user.rawValue != "stranger", items.rowCount > 0 else { return [] }
    return (0..<min(12, limit)).map { place in
      CatalogRow(Int(mixed("history \(user.rawValue)", place) % UInt64(items.rowCount)))
    }
  }

  var userColumns: [ColumnDefinition] {
    [
      ColumnDefinition(name: "country", type: .string),
      ColumnDefinition(name: "age", type: .int32),
      ColumnDefinition(name: "likes", type: .stringArray),
    ]
  }

  func userCell(_ column: String, of user: UserID) -> Value {
    guard user.rawValue != "stranger" else { return .null }
    return switch column {
    case "country": .string("de")
    case "age": .int(30)
    case "likes": .array([.string("a"), .string("c")])
    default: .null
    }
  }

  var users: (any QuerySource)? {
    var users = FakeSource(rows: 30, seed: 77)
    users.catalogVersion = 9
    return users
  }

  var tableNames: [String] { ["items", "interactions", "data.events"] }

  func table(_ reference: TableReference) throws -> ColumnTable? {
    switch reference {
    case .entity(let name, _) where name.hasPrefix("item"): return items
    case .entity("interactions", _), .table("data", "events"):
      var table = ColumnTable([
        ColumnDefinition(name: "user_id", type: .string),
        ColumnDefinition(name: "item_id", type: .string),
        ColumnDefinition(name: "weight", type: .double),
        ColumnDefinition(name: "count", type: .int64),
      ])
      for row in 0..<200 {
        table.setRow(
          table.appendEmptyRow(),
          to: [
            .string("u\(mixed("user", row) % 7)"), .string("i\(mixed("item", row) % 20)"),
            row % 9 == 0 ? .null : .double(Double(mixed("weight", row) % 50) / 10),
            .int(Int64(mixed("count", row) % 5)),
          ])
      }
      return table
    default: return nil
    }
  }

  func source(asOf moment: AsOf) throws -> any QuerySource {
    var old = self
    // Nothing had been seen at the start.
    if case .position(.start) = moment { old.seenPercent = 0 }
    return old
  }
}
