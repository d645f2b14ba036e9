package import Domain
import Foundation
import GRDB

/// Finding and purging what belongs to one person.
///
/// The database deletes securely: SQLite overwrites what goes with zeros. Copies of rows can remain
/// in the free space of pages that were once rearranged, so after an erasure the file is searched,
/// and rewritten where something is found.
extension LogStore {
  /// The rows of a table whose column holds a text or the number that it spells.
  package func rows(
    of table: String, where column: String, is text: String
  ) throws(Diagnostic) -> [LoggedRow] {
    let schema = try schema(of: table)
    guard let place = schema.index(of: column) else { return [] }
    let value: Value
    switch schema.columns[place].type {
    case .int32, .int64:
      guard let number = Int64(text), String(number) == text else { return [] }
      value = .int(number)
    default: value = .string(text)
    }
    return try translatingFaults(path: path, doing: "find rows of `\(table)`") {
      try database.read { database in
        let columns = schema.columns.map { ", " + quoted($0.name) }.joined()
        let statement = try RawStatement(
          database,
          "SELECT _position\(columns) FROM \(quoted(table)) WHERE \(quoted(column)) = ? "
            + "ORDER BY _position")
        try statement.bind(value, at: 1)
        var rows: [LoggedRow] = []
        while try statement.step() { rows.append(try statement.row(of: schema)) }
        return rows
      }
    }
  }

  /// Positions of the oldest rows that a table's retention lets go, at most so many.
  ///
  /// - Parameter time: rows whose time is before it go; nil where age does not matter.
  package func expiredPositions(
    of table: String, timeColumn: String?, before time: Timestamp?, keepingNewest maximumRows: Int?,
    limit: Int
  ) throws(Diagnostic) -> [LogPosition] {
    _ = try schema(of: table)
    return try translatingFaults(path: path, doing: "find old rows of `\(table)`") {
      try database.read { database in
        var positions: [Int64] = []
        if let maximumRows,
          let newestToGo = try Int64.fetchOne(
            database,
            sql: "SELECT _position FROM \(quoted(table)) ORDER BY _position DESC LIMIT 1 OFFSET ?",
            arguments: [maximumRows])
        {
          positions = try Int64.fetchAll(
            database,
            sql: "SELECT _position FROM \(quoted(table)) WHERE _position <= ? "
              + "ORDER BY _position LIMIT ?", arguments: [newestToGo, limit])
        }
        if positions.count < limit, let timeColumn, let time {
          positions += try Int64.fetchAll(
            database,
            sql: "SELECT _position FROM \(quoted(table)) WHERE \(quoted(timeColumn)) < ? LIMIT ?",
            arguments: [time.microsecondsSinceEpoch, limit - positions.count])
        }
        return Set(positions).sorted().map { LogPosition($0) }
      }
    }
  }

  /// Dead letters whose record holds a text as a word of its own, such as a value in quotes.
  package func deadLetters(holding text: String) throws(Diagnostic) -> [StoredDeadLetter] {
    let bytes = Array(text.utf8)
    return try translatingFaults(path: path, doing: "search the dead letters") {
      try database.read { database in
        try Row.fetchAll(
          database,
          sql: """
            SELECT * FROM _riffle_dead_letters
            WHERE instr(raw, ?) > 0 OR instr(CAST(position AS BLOB), ?) > 0
              OR instr(CAST(reason AS BLOB), ?) > 0
            """, arguments: [Data(bytes), Data(bytes), Data(bytes)]
        ).map(LogStore.deadLetter).filter { letter in
          ByteSearch.holdsWord(bytes, in: letter.letter.raw)
            || ByteSearch.holdsWord(bytes, in: Array(letter.letter.position.text.utf8))
            || ByteSearch.holdsWord(bytes, in: Array(letter.letter.reason.utf8))
        }
      }
    }
  }

  /// Takes away what else the database keeps of a text: rows that were kept to be undone, stored
  /// answers to requests, and documents of the given kinds.
  package func purge(_ text: String, entryKinds: [String]) async throws(Diagnostic) {
    let bytes = Data(text.utf8)
    try await perform { (writer) throws(Diagnostic) in
      // No stored state is left that could hold these rows.
      writer.undoHorizon = .start
      try writer.transaction(doing: "purge the database") { database in
        try database.execute(
          sql: """
            DELETE FROM _riffle_removed;
            UPDATE _riffle_meta SET value = 0 WHERE name = 'undo_horizon';
            """)
        try database.execute(
          sql: "DELETE FROM _riffle_answers WHERE instr(CAST(receipt AS BLOB), ?) > 0 "
            + "OR instr(CAST(key AS BLOB), ?) > 0", arguments: [bytes, bytes])
        for kind in entryKinds {
          try database.execute(
            sql: "DELETE FROM _riffle_entries WHERE kind = ? "
              + "AND instr(CAST(json AS BLOB), ?) > 0", arguments: [kind, bytes])
        }
      }
    }
  }

  /// Moves everything from the write-ahead log into the database's file and empties the log.
  ///
  /// - Throws: `database_busy` where a reader has held it for some seconds.
  package func emptyWriteAheadLog() async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.emptyWriteAheadLog()
    }
  }

  /// Writes the whole database anew. Nothing is committed meanwhile.
  package func vacuum() async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.outsideTransactions(doing: "rewrite the database") { database in
        try database.execute(sql: "VACUUM")
      }
      try writer.emptyWriteAheadLog()
    }
  }
}

/// Looks for bytes among bytes.
package enum ByteSearch {
  /// Whether the bytes stand somewhere with no letter, digit, `_` or `-` beside them.
  package static func holdsWord(_ word: [UInt8], in bytes: [UInt8]) -> Bool {
    count(of: word, in: bytes, asWord: true) > 0
  }

  /// How often the bytes stand in a file, whatever is beside them, read piece by piece; 0 where there
  /// is no such file. (In the database's file a cell begins right behind the one before it.)
  package static func count(of word: [UInt8], inFileAt path: String) -> Int {
    guard let file = FileHandle(forReadingAtPath: path) else { return 0 }
    defer { try? file.close() }
    var total = 0
    var carried: [UInt8] = []
    while let data = try? file.read(upToCount: 4 << 20), !data.isEmpty {
      let bytes = carried + data
      // The last bytes are looked at again with what follows them.
      let keep = min(bytes.count, word.count + 1)
      total += count(of: word, in: Array(bytes), before: bytes.count - keep, asWord: false)
      carried = Array(bytes.suffix(keep))
    }
    return total + count(of: word, in: carried, asWord: false)
  }

  private static func count(
    of word: [UInt8], in bytes: [UInt8], before end: Int = .max, asWord: Bool
  ) -> Int {
    guard let first = word.first, bytes.count >= word.count else { return 0 }
    let last = min(bytes.count - word.count, end == .max ? Int.max : end - 1)
    var total = 0
    var at = 0
    while at <= last {
      guard let place = find(first, in: bytes, from: at, through: last) else { break }
      at = place + 1
      guard word.indices.allSatisfy({ bytes[place + $0] == word[$0] }) else { continue }
      let behind = place + word.count
      let isPart =
        (place > 0 && isWordByte(bytes[place - 1]))
        || (behind < bytes.count && isWordByte(bytes[behind]))
      if !asWord || !isPart { total += 1 }
    }
    return total
  }

  /// The first place of a byte, or nil.
  private static func find(
    _ byte: UInt8, in bytes: [UInt8], from start: Int, through end: Int
  ) -> Int? {
    bytes.withUnsafeBytes { raw -> Int? in
      guard let base = raw.baseAddress,
        let found = memchr(base + start, Int32(byte), end - start + 1)
      else { return nil }
      return UnsafeRawPointer(found) - base
    }
  }

  private static func isWordByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
      true
    default: false
    }
  }
}
