import Domain
import Engine
import Foundation
import HTTPAPI
import Logging
import Storage

/// What the drill looks at, after each restart and from time to time.
extension Drill {
  /// What is cheap: the rows that came since the last look, and a few answers.
  mutating func check(_ server: DrillServer, seed: UInt64) async throws {
    try read(dataDirectory, anew: false)
    if let fault = books.faults.first { throw fault }
    let http = try server.client()
    let books = books
    for table in [DrillTable.events, .plain] {
      let answer = try await http.send("GET", "/v2/tables/\(table.rawValue)", json: .null)
      let count = books.with { $0.rowCount(of: table) }
      guard answer.json?["row_count"]?.int == Int64(count) else {
        // Which row it is, a look at all of them tells.
        try read(dataDirectory, anew: true)
        throw fault(
          "the server tells \(answer.json?["row_count"]?.int ?? -1) rows of `\(table.rawValue)`; "
            + "there are \(count)")
      }
    }
    let (histories, token) = books.with { ($0.histories, $0.token) }
    let counts = try await query(
      http, "SELECT item_id, _derived_interaction_count AS n FROM items LIMIT 1000", token)
    var served: [String: Int] = [:]
    for row in counts {
      served[row["id"]?.string ?? ""] = row["metadata"]?["n"]?.int.map { Int($0) } ?? -1
    }
    guard served == histories.counts else {
      throw fault("the engine's counts of events by item are not those of the rows")
    }
    let users = histories.users
    if users.isEmpty { return }
    for i in 0..<3 {
      // The newest users, and one of all.
      let user =
        i == 0
        ? users[Int(stableHash("\(seed)") % UInt64(users.count))]
        : users[max(0, users.count - 1 - Int(stableHash("\(seed) \(i)") % 10))]
      let rows = try await query(
        http,
        "SELECT item_id FROM items WHERE prebuilt('already_seen', input_user_id='\(user)') "
          + "LIMIT 1000", token)
      let unseen = Set(rows.compactMap { $0["id"]?.string })
      guard unseen == Set(histories.counts.keys).subtracting(histories.seen(by: user)) else {
        throw fault("the engine's set of items that `\(user)` has seen is not that of the rows")
      }
    }
  }

  private func query(_ http: HTTPClient, _ text: String, _ token: Int64) async throws -> [JSON] {
    let (status, answer) = try await http.send(
      "POST", "/v2/engines/drill/query", json: ["query": .string(text), "return_metadata": true])
    guard status == 200, let rows = answer?["results"]?.array, let asOf = answer?["as_of"]?.int
    else { throw fault("a query is answered by \(status): \(answer?.text.prefix(600) ?? "")") }
    guard asOf >= token else {
      throw fault("an answer stands at \(asOf), but token \(token) was acknowledged before")
    }
    return rows
  }

  /// Reads rows beside the server and takes them into the account.
  mutating func read(_ directory: String, anew: Bool) throws {
    let witness = try LogWitness(directory)
    if anew { readThrough = [:] }
    var through = readThrough
    let books = books
    let broken: [DrillFault] = try Result { () throws -> [DrillFault] in
      var broken: [DrillFault] = []
      books.with { account in
        if anew { account.beginAnew() }
        account.beginRead()
      }
      for table in DrillTable.allCases {
        var rows: [StoredRow] = []
        try witness.rows(
          of: table.rawValue, columns: table.columns, after: through[table] ?? .start
        ) { position, cells in rows.append(StoredRow(table, position, cells)) }
        through[table] = rows.last?.position ?? through[table]
        let found = rows
        broken += books.with { account in
          var broken: [DrillFault] = []
          for row in found {
            if let fault = account.takes(row) { broken.append(fault) }
            if broken.count == 20 { break }
          }
          return broken
        }
      }
      let end = try witness.end().rawValue
      broken += books.with { $0.endsRead(logEnd: end) }.prefix(20)
      return broken
    }.get()
    readThrough = through
    books.note(broken)
  }

  /// What is dear: all rows from the first on, the file's integrity, and all histories. On a copy, so that
  /// the next start still finds what the kill has left.
  mutating func sweep() async throws {
    let copy = options.directory + "/copy"
    try? FileManager.default.removeItem(atPath: copy)
    defer { if books.faults.isEmpty { try? FileManager.default.removeItem(atPath: copy) } }
    try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: true)
    for name in ["riffle.db", "riffle.db-wal", "states", "artifacts"]
    where FileManager.default.fileExists(atPath: "\(dataDirectory)/\(name)") {
      try FileManager.default.copyItem(
        atPath: "\(dataDirectory)/\(name)", toPath: "\(copy)/\(name)")
    }
    report.sweeps += 1
    let database = try await outsideThePool {
      var databaseOptions = RiffleDatabase.Options()
      databaseOptions.trains = false
      return try RiffleDatabase(
        opening: copy, options: databaseOptions,
        logger: Logger(label: "drill") { _ in SwiftLogNoOpLogHandler() })
    }
    defer { database.close() }
    try read(copy, anew: true)
    if let problem = try await outsideThePool({ try database.integrityProblems() }).first {
      books.note([fault("SQLite finds the database damaged: \(problem)")])
    }
    let histories = books.with { $0.histories }
    let state = try database.engine(named: "drill").snapshot
    if let difference = histories.difference(from: state) { books.note([fault(difference)]) }
    if let letter = try database.deadLetterCounts().first {
      books.note([
        fault(
          "\(letter.count) records of `\(letter.source)` became dead letters: \(letter.code)")
      ])
    }
  }
}
