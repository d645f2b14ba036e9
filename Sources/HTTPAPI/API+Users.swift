import Domain
import Engine

extension API {
  /// `GET /v2/users/{id}/export`
  func exportUser(_ user: String) async throws -> APIReply {
    Self.json(try await offThePool { try database.exportUser(user) })
  }

  /// `DELETE /v2/users/{id}`
  func eraseUser(_ user: String) async throws -> APIReply {
    let receipt = try await database.eraseUser(user)
    let rows = receipt.rows.values.reduce(0, +)
    return Self.json([
      "message": .string("Erased \(rows) rows and \(receipt.deadLetters) dead letters."),
      "user_id": .string(user),
      "rows": .object(
        receipt.rows.sorted { $0.key < $1.key }.map { JSON.Member($0.key, .int(Int64($0.value))) }),
      "dead_letters": .int(Int64(receipt.deadLetters)),
      "as_of": .int(receipt.through.rawValue),
      "files_rewritten": .bool(receipt.isRewritten),
      "occurrences_left": .int(Int64(receipt.occurrencesLeft)),
      "engines_to_retrain": .array(receipt.enginesToRetrain.map { .string($0) }),
    ])
  }
}
