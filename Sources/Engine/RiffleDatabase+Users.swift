package import Domain
import Foundation
import Ingest
import Logging
import State
import Storage

/// What was done to erase a person.
package struct ErasureReceipt: Hashable, Sendable {
  package var user: String
  /// Rows that were taken out, by table.
  package var rows: [String: Int] = [:]
  package var deadLetters = 0
  /// The log position of the removal: a state that has come this far holds nothing of the person.
  package var through: LogPosition
  /// Whether the database's file was written anew, because deleting had left copies in its free
  /// space.
  package var isRewritten = false
  /// Places in the data directory's files that still hold the bytes of the id. They belong to
  /// others where the id is part of another text, such as `u1` of `u12`.
  package var occurrencesLeft = 0
  /// Engines whose published model learned from the person's events; their next training does not.
  package var enginesToRetrain: [String] = []
}

/// Erasure and export of a person's data.
extension RiffleDatabase {
  /// Everything that is kept under a user's id: rows and dead letters.
  package func exportUser(_ user: String) throws -> JSON {
    try checkUser(user)
    var tables: [JSON.Member] = []
    for (schema, column) in try userColumns() {
      let rows = try log.rows(of: schema.name, where: column, is: user)
      if rows.isEmpty { continue }
      tables.append(
        JSON.Member(
          schema.name,
          .array(
            rows.map { row in
              .object(
                [JSON.Member("_position", .int(row.position.rawValue))]
                  + zip(schema.columns, row.values).map { JSON.Member($0.name, $1.exported) })
            })))
    }
    let letters = try log.deadLetters(holding: user)
    return [
      "user_id": .string(user), "as_of": .int(log.through.rawValue), "tables": .object(tables),
      "dead_letters": .array(
        letters.map { letter in
          [
            "id": .int(letter.id), "table": .string(letter.letter.table),
            "source": .string(letter.letter.source),
            "raw": .string(String(decoding: letter.letter.raw, as: UTF8.self)),
          ]
        }),
    ]
  }

  /// Takes everything out that is kept under a user's id: rows, dead letters, stored states, what
  /// was learned of the records' shape, and the copies that deleting leaves on the disk.
  ///
  /// The intent is stored first, so that a start after a kill finishes what was begun. Published
  /// models stay until the next training, which does not see the person.
  package func eraseUser(_ user: String) async throws -> ErasureReceipt {
    try checkUser(user)
    try await log.setEntry(kind: Self.erasureKind, name: user, json: "{}")
    let receipt = try await erase(user)
    logger.info(
      "Erased a user",
      metadata: [
        "rows": "\(receipt.rows.values.reduce(0, +))", "dead_letters": "\(receipt.deadLetters)",
        "through": "\(receipt.through.rawValue)",
      ])
    return receipt
  }

  static let erasureKind = "erasure"

  /// Finishes erasures that a kill interrupted.
  func finishErasures() async {
    do {
      for entry in try log.entries(kind: Self.erasureKind) { _ = try await erase(entry.name) }
    } catch {
      logger.error("An erasure could not be finished", metadata: ["error": "\(error)"])
    }
  }

  private func checkUser(_ user: String) throws(Diagnostic) {
    guard !user.isEmpty, user.utf8.count <= 4096 else {
      throw Diagnostic(
        code: "invalid_user", "The user's id is empty or longer than 4096 bytes.", at: "user",
        help: "Give the id as it stands in the tables.")
    }
  }

  private func erase(_ user: String) async throws -> ErasureReceipt {
    var receipt = ErasureReceipt(user: user, through: log.through)
    var firstPosition = LogPosition(.max)
    for (schema, column) in try userColumns() {
      // Rows may come in while this runs, so it ends only where none is found.
      while true {
        let rows = try await outsideThePool { [log] in
          try log.rows(of: schema.name, where: column, is: user)
        }
        if rows.isEmpty { break }
        firstPosition = min(firstPosition, rows[0].position)
        receipt.rows[schema.name, default: 0] += rows.count
        for start in stride(from: 0, to: rows.count, by: 5000) {
          var batch = LogBatch()
          batch.removals = [
            LogBatch.Removal(
              table: schema.name,
              positions: rows[start..<min(start + 5000, rows.count)].map(\.position))
          ]
          receipt.through = try await log.commit(batch).through
        }
      }
    }
    let letters = try await outsideThePool { [log] in try log.deadLetters(holding: user) }
    if !letters.isEmpty {
      var batch = LogBatch()
      batch.settledDeadLetters = letters.map(\.id)
      _ = try await log.commit(batch)
      receipt.deadLetters = letters.count
    }
    // What was derived of the rows goes with them.
    await refreshViews(evenIfNotDue: true)
    desk.erase(user)
    for engine in engines {
      engine.forgetCaches(of: UserID(user))
      if let generation = engine.generation, generation.through >= firstPosition {
        receipt.enginesToRetrain.append(engine.name)
      }
    }
    states.pauseAndDiscard()
    defer { states.resume() }
    try await log.purge(user, entryKinds: [IngestDesk.entryKind, RegistryKind.checkpoint])
    try await log.removeEntry(kind: Self.erasureKind, name: user)
    try await log.emptyWriteAheadLog()
    receipt.occurrencesLeft = try await occurrences(of: user)
    if receipt.occurrencesLeft > 0 {
      try await log.vacuum()
      receipt.isRewritten = true
      receipt.occurrencesLeft = try await occurrences(of: user)
    }
    return receipt
  }

  /// Searches every file of the data directory.
  private func occurrences(of text: String) async throws -> Int {
    let root = path
    return try await outsideThePool {
      var total = 0
      for name in FileManager.default.enumerator(atPath: root)?.allObjects ?? [] {
        guard let name = name as? String else { continue }
        total += ByteSearch.count(of: Array(text.utf8), inFileAt: root + "/" + name)
      }
      return total
    }
  }

  /// The columns that hold users' ids: those that engines read as such, and every `user_id`.
  private func userColumns() throws -> [(table: TableSchema, column: String)] {
    var found: [(table: TableSchema, column: String)] = []
    let names = Set(engines.map(\.configuration.data.userColumn)).union(["user_id"])
    for table in log.tables().sorted(by: { $0.schema.name < $1.schema.name }) {
      for column in table.schema.columns where names.contains(column.name) {
        found.append((table.schema, column.name))
      }
    }
    return found
  }
}

extension Value {
  /// The cell as JSON: times in RFC 3339, bytes as Base64.
  fileprivate var exported: JSON {
    switch self {
    case .null: .null
    case .bool(let flag): .bool(flag)
    case .int(let number): .int(number)
    case .double(let number): .double(number)
    case .string(let text): .string(text)
    case .timestamp(let time): .string(time.iso8601)
    case .bytes(let bytes): .string(Base64.encode(bytes))
    case .array(let elements): .array(elements.map(\.exported))
    }
  }
}
