import Domain
import Foundation
import HTTPAPI
import Storage
import Synchronization
import Worlds

/// What the tasks of one round share.
final class Round: Sendable {
  let number: Int
  let faults: DiskFaults
  let books: Books
  private let over = Atomic<Bool>(false)

  init(_ number: Int, _ faults: DiskFaults, _ books: Books) {
    (self.number, self.faults, self.books) = (number, faults, books)
  }

  /// Whether nobody should begin anything any more.
  var isOver: Bool { over.load(ordering: .acquiring) }
  func end() { over.store(true, ordering: .releasing) }

  /// Waits, but not beyond the round's end.
  func pause(milliseconds: Int) async {
    if !isOver { try? await Task.sleep(for: .milliseconds(milliseconds)) }
  }
}

/// The account, and the promises that were seen broken.
final class Books: Sendable {
  private let account = Mutex(Account())
  private let found = Mutex<[DrillFault]>([])

  func with<R: Sendable>(_ body: (inout sending Account) -> sending R) -> sending R {
    account.withLock { body(&$0) }
  }

  var faults: [DrillFault] { found.withLock { $0 } }

  func note(_ faults: [DrillFault]) { found.withLock { $0 += faults } }

  func note(_ road: Road?, _ row: String? = nil, _ message: String) {
    let kills = with { $0.kills }
    note([DrillFault(kill: kills, road: road, row: row, message)])
  }
}

/// One careful client: it sends a request again until it has an answer, over the server's deaths.
struct DrillClient: Sendable {
  private struct Request: Sendable {
    var table: DrillTable
    var road: Road
    var rows: [SentRow]
    var isStream: Bool
    var key: String?
  }

  let name: String
  private var generator: SeededGenerator
  private var rowCount = 0
  private var requestCount = 0
  /// What has no answer yet.
  private var pending: Request?
  /// The newest position that an answer told.
  private var token: Int64 = 0
  /// Rows of `events` that were acknowledged, the last ones.
  private var recent: [SentRow] = []

  init(_ number: Int, seed: UInt64) {
    name = "c\(number)"
    generator = SeededGenerator(seed: seed ^ 0x0C11_E475, stream: UInt64(number))
  }

  var isWaiting: Bool { pending != nil }

  /// Sends until the round is over, the server is gone or so many requests are through.
  ///
  /// - Parameter budget: new requests; what waits for its answer comes before them.
  mutating func work(_ server: DrillServer, _ round: Round, budget: Int) async {
    guard let http = try? server.client() else { return }
    var left = budget
    while pending != nil || left > 0 {
      if round.isOver { return }
      let request: Request
      if let pending {
        request = pending
      } else {
        left -= 1
        request = next()
        pending = request
        let (rows, table, road, after) = (request.rows, request.table, request.road, token)
        round.books.with { $0.sends(rows, to: table, by: road, after: after) }
      }
      guard await send(request, http, round) else { return }
    }
  }

  /// Sends one new row of its own and waits for its acknowledgement.
  ///
  /// - Returns: whether it came in so many attempts.
  mutating func probe(_ server: DrillServer, _ round: Round, attempts: Int) async -> Bool {
    guard let http = try? server.client() else { return false }
    for _ in 0..<attempts {
      if pending == nil {
        let request = Request(
          table: .events, road: .row, rows: [newRow()], isStream: false, key: nil)
        pending = request
        let after = token
        round.books.with { $0.sends(request.rows, to: .events, by: .row, after: after) }
      }
      guard let request = pending, await send(request, http, round) else { return false }
      if pending == nil { return true }
    }
    return false
  }

  /// - Returns: false where the server is gone, or a promise was broken.
  private mutating func send(
    _ request: Request, _ http: HTTPClient, _ round: Round
  ) async -> Bool {
    let rows = request.rows.map { $0.json(for: request.table) }
    let body: [UInt8] =
      request.isStream
      ? rows.flatMap { $0.utf8 + [10] } : (["data": .array(rows)] as JSON).utf8
    let (before, changes) = (round.faults.kinds, round.faults.changes)
    let reply: HTTPConnection.Reply
    do {
      reply = try await http.send(
        "POST", "/v2/tables/\(request.table.rawValue)/insert", body: body,
        contentType: request.isStream ? "application/x-ndjson" : "application/json",
        headers: request.key.map { ["idempotency-key": $0] } ?? [:])
    } catch { return false }
    let answer = (try? JSON(parsing: reply.body)) ?? .null
    switch reply.status {
    case 200: break
    case 429, 503:
      // As the answer says: nothing was promised, so it is sent again after a moment.
      await round.pause(milliseconds: 3)
      return true
    default:
      round.books.note(
        request.road, request.rows.first?.id,
        "the insert was answered by \(reply.status): \(answer.text.prefix(600))")
      return false
    }
    let isRepeated = answer["repeated"]?.bool == true
    guard let position = answer["as_of"]?.int,
      answer["accepted"]?.int == Int64(request.rows.count)
    else {
      round.books.note(
        request.road, request.rows.first?.id,
        "\(request.rows.count) rows were sent, and the answer was \(answer.text.prefix(600))")
      return false
    }
    if !before.isEmpty, !isRepeated, changes == round.faults.changes {
      round.books.note(
        request.road, request.rows.first?.id,
        "it was acknowledged at \(position) while \(Self.words(before)): nothing can have been "
          + "stored safely")
      return false
    }
    // The repetition of an older request tells its older position.
    token = max(token, position)
    pending = nil
    let (sent, table) = (request.rows, request.table)
    round.books.with { $0.acknowledged(sent, of: table, token: position) }
    if table == .events { noteRecent(sent) }
    guard request.key != nil, generator.chance(0.2) else { return true }
    return await repeats(request, body, http, position, round)
  }

  /// Sends an acknowledged request again: the answer must be that of the first time.
  private func repeats(
    _ request: Request, _ body: [UInt8], _ http: HTTPClient, _ position: Int64, _ round: Round
  ) async -> Bool {
    guard
      let reply = try? await http.send(
        "POST", "/v2/tables/\(request.table.rawValue)/insert", body: body,
        contentType: request.isStream ? "application/x-ndjson" : "application/json",
        headers: request.key.map { ["idempotency-key": $0] } ?? [:])
    else { return false }
    if reply.status == 503 || reply.status == 429 { return true }
    let answer = (try? JSON(parsing: reply.body)) ?? .null
    // A stream's answer has come at least as far as the log had when the stream began.
    let isSame =
      request.isStream
      ? answer["as_of"]?.int ?? 0 >= position : answer["as_of"]?.int == position
    if reply.status != 200 || answer["repeated"]?.bool != true || !isSame {
      round.books.note(
        request.road, request.rows.first?.id,
        "acknowledged at \(position) and repeated with its key it was answered by "
          + "\(reply.status): \(answer.text.prefix(600))")
      return false
    }
    return true
  }

  private static func words(_ kinds: DiskFaults.Kinds) -> String {
    kinds.contains(.fullDisk) ? "the disk was full" : "every sync failed"
  }

  // MARK: Making requests

  private mutating func noteRecent(_ rows: [SentRow]) {
    let new = Set(rows.map(\.id))
    recent = (recent.filter { !new.contains($0.id) } + rows).suffix(40)
  }

  private mutating func newRow() -> SentRow {
    defer { rowCount += 1 }
    return SentRow(id: "\(name)-\(rowCount)", number: rowCount)
  }

  private mutating func next() -> Request {
    requestCount += 1
    let key = "\(name)/\(requestCount)"
    switch generator.below(10) {
    case 0, 1:
      return Request(table: .events, road: .row, rows: [newRow()], isStream: false)
    case 2, 3, 4: return batchOfEvents()
    case 5:
      let count = generator.integer(in: 2...30)
      return Request(
        table: .events, road: .stream, rows: (0..<count).map { _ in newRow() }, isStream: true)
    case 6:
      let count = generator.integer(in: 2...30)
      return Request(
        table: .plain, road: .keyed, rows: (0..<count).map { _ in newRow() }, isStream: true,
        key: key)
    default:
      let count = generator.integer(in: 1...5)
      return Request(
        table: .plain, road: .keyed, rows: (0..<count).map { _ in newRow() }, isStream: false,
        key: key)
    }
  }

  /// New rows, and new versions of older ones.
  private mutating func batchOfEvents() -> Request {
    var rows: [SentRow] = []
    for _ in 0..<generator.integer(in: 1...6) {
      if !recent.isEmpty, generator.chance(0.3) {
        var row = recent[generator.below(recent.count)]
        row.version += 1
        if !rows.contains(where: { $0.id == row.id }) { rows.append(row) }
      } else {
        rows.append(newRow())
      }
    }
    return Request(table: .events, road: .batch, rows: rows, isStream: false)
  }
}
