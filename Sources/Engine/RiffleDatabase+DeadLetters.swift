package import Domain
import Ingest
import Logging
package import Storage

/// What came of sending dead letters in again.
package struct DeadLetterReplay: Hashable, Sendable {
  /// Letters whose records are rows now; they are gone from the dead letters.
  package var mended = 0
  /// Letters that still do not fit, or cannot be read; they stay.
  package var remaining = 0
  /// What is wrong with those that stay, at most `RowDecoder.maximumProblems`.
  package var problems: [Diagnostic] = []
  package var through: LogPosition
}

/// Records that did not fit: looked at, counted, sent in again once the table or its rules are
/// mended, or thrown away.
extension RiffleDatabase {
  /// - Throws: `unknown_table` where the query names one that is not there.
  package func deadLetters(_ query: DeadLetterQuery) throws -> [StoredDeadLetter] {
    if let table = query.table { _ = try log.schema(of: table) }
    return try log.deadLetters(query)
  }

  package func deadLetterCounts(table: String? = nil) throws -> [DeadLetterCount] {
    if let table { _ = try log.schema(of: table) }
    return try log.deadLetterCounts(table: table)
  }

  /// - Throws: `unknown_dead_letter`.
  package func deadLetter(_ id: Int64) throws -> StoredDeadLetter {
    if let letter = try log.deadLetter(id) { return letter }
    throw Diagnostic(
      .notFound, code: "unknown_dead_letter", "There is no dead letter \(id).", at: "id",
      help: "List them: GET /v2/dead-letters, or riffle dead-letters list.")
  }

  /// Sends dead letters in again. Those that fit now become rows and are gone from the dead letters,
  /// in one commit for each thousand; the others stay as they are.
  ///
  /// Their rows take new places in the log, at its end. A row that came in meanwhile under the same
  /// unique key is replaced, as by any later row.
  package func replayDeadLetters(_ query: DeadLetterQuery) async throws -> DeadLetterReplay {
    var query = query
    let most = query.limit
    query.limit = min(most, 1000)
    var replay = DeadLetterReplay(through: log.through)
    var read = 0
    while read < most {
      query.limit = min(1000, most - read)
      let letters = try deadLetters(query)
      guard let last = letters.last else { break }
      query.after = last.id
      read += letters.count
      var byTable: [String: [StoredDeadLetter]] = [:]
      for letter in letters { byTable[letter.letter.table, default: []].append(letter) }
      for (table, letters) in byTable.sorted(by: { $0.key < $1.key }) {
        try await replayLetters(letters, of: table, into: &replay)
      }
    }
    logger.info(
      "Replayed dead letters",
      metadata: ["mended": "\(replay.mended)", "remaining": "\(replay.remaining)"])
    return replay
  }

  private func replayLetters(
    _ letters: [StoredDeadLetter], of table: String, into replay: inout DeadLetterReplay
  ) async throws {
    let schema = try log.schema(of: table)
    let decoder = desk.decoder(schema)
    var batch = LogBatch()
    var rows: [[Value]] = []
    for letter in letters {
      let record = SourceRecord(.bytes(letter.letter.raw), at: letter.letter.position)
      var decoded = decoder.decode(records: [record], at: "dead_letters")
      if letter.letter.isTruncated, decoded.misfits.isEmpty { decoded.rows = [] }
      if let row = decoded.rows.first {
        rows.append(row)
        batch.settledDeadLetters.append(letter.id)
      } else {
        replay.remaining += 1
        let found = (decoded.misfits.first?.problems ?? []).map { problem in
          var problem = problem
          problem.place =
            "dead letter \(letter.id)"
            + (problem.place.map { $0.replacing("dead_letters[0]", with: "") } ?? "")
          return problem
        }
        replay.problems += found.prefix(RowDecoder.maximumProblems - replay.problems.count)
      }
    }
    if rows.isEmpty { return }
    batch.rows = [LogBatch.Rows(table: table, rows: rows)]
    let receipt = try await log.commit(batch)
    replay.mended += rows.count
    replay.through = receipt.through
    desk.count(table: table) { $0.accepted += rows.count }
  }

  /// Throws dead letters away for good.
  ///
  /// - Returns: how many there were.
  package func dropDeadLetters(_ query: DeadLetterQuery) async throws -> Int {
    if let table = query.table { _ = try log.schema(of: table) }
    return try await log.dropDeadLetters(query)
  }
}
