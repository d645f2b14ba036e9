import Domain
import Drill
import Testing

/// Goal: the drill's books find every kind of broken promise, and only broken ones. A row more or less
/// in what is found stands for the server's fault.
@Suite struct `The account of a drill` {
  /// Three acknowledged rows of each table and a file of four lines, as a good server stores them.
  private static func account() -> Account {
    var account = Account()
    for (i, id) in ["a", "b", "c"].enumerated() {
      let row = SentRow(id: id, number: i)
      account.sends([row], to: .events, by: .row, after: Int64(2 * i))
      account.acknowledged([row], of: .events, token: Int64(2 * i + 1))
      account.sends([row], to: .plain, by: .keyed, after: Int64(2 * i + 1))
      account.acknowledged([row], of: .plain, token: Int64(2 * i + 2))
    }
    account.hands(4, to: "f1", of: .lines)
    return account
  }

  private static let rows: [StoredRow] =
    ["a", "b", "c"].enumerated().flatMap { i, id in
      let row = SentRow(id: id, number: i)
      return [
        StoredRow(row, in: .events, at: LogPosition(Int64(2 * i + 1))),
        StoredRow(row, in: .plain, at: LogPosition(Int64(2 * i + 2))),
      ]
    }
    + (0..<4).map { StoredRow(.lines, stream: "f1", number: $0, at: LogPosition(Int64(7 + $0))) }

  private static func faults(
    _ account: inout Account, in rows: [StoredRow], end: Int64 = 10, anew: Bool = true
  ) -> [String] {
    if anew { account.beginAnew() }
    account.beginRead()
    var faults = rows.compactMap { account.takes($0) }
    faults += account.endsRead(logEnd: end)
    return faults.map(\.description)
  }

  private static func faults(in rows: [StoredRow], end: Int64 = 10) -> [String] {
    var account = account()
    account.killed()
    return faults(&account, in: rows, end: end)
  }

  @Test func `of a good server has no faults, read anew or bit by bit`() {
    var account = Self.account()
    #expect(Self.faults(&account, in: Self.rows) == [])
    #expect(Self.faults(&account, in: Self.rows) == [])
    #expect(account.rowCount(of: .events) == 3 && account.missingRecords == 0)
    #expect(account.storedRows == [.row: 3, .keyed: 3, .file: 4])
    var other = Self.account()
    #expect(Self.faults(&other, in: Self.rows, anew: false) == [])
    // Not yet acknowledged, and there or not: both are right.
    other.sends([SentRow(id: "d", number: 3)], to: .plain, by: .keyed, after: 10)
    #expect(Self.faults(&other, in: [], anew: false) == [])
    let late = StoredRow(SentRow(id: "d", number: 3), in: .plain, at: LogPosition(11))
    #expect(Self.faults(&other, in: [late], end: 11, anew: false) == [])
  }

  @Test func `names an acknowledged row that is missing`() {
    for place in 0..<6 {
      var rows = Self.rows
      let gone = rows.remove(at: place)
      let road = gone.table == .events ? "HTTP, single rows" : "HTTP, idempotency keys"
      guard case .string(let id) = gone.cells[0] else { return }
      #expect(
        Self.faults(in: rows) == [
          "after kill 1, \(road), row \(id): lost: version 1 was acknowledged at \(place + 1), "
            + "nothing is there"
        ])
    }
  }

  @Test func `names a row that stands twice`() {
    for place in 0..<6 {
      var double = Self.rows[place]
      double.position = LogPosition(20)
      let faults = Self.faults(in: Self.rows + [double], end: 20)
      #expect(faults.count == 1 && faults[0].contains("doubled"), "\(faults)")
    }
    // The second one may come much later than the first.
    var account = Self.account()
    #expect(Self.faults(&account, in: Self.rows, anew: false) == [])
    var double = Self.rows[1]
    double.position = LogPosition(20)
    let faults = Self.faults(&account, in: [double], end: 20, anew: false)
    #expect(
      faults == ["after kill 0, HTTP, idempotency keys, row a: doubled: it stands at 2 and at 20"])
  }

  @Test func `names a row that nobody sent, or not so`() {
    let stranger = StoredRow(SentRow(id: "x", number: 0), in: .plain, at: LogPosition(20))
    #expect(
      Self.faults(in: Self.rows + [stranger], end: 20)
        == ["after kill 1, row x: invented: no client has sent it; it stands at 20"])
    var rows = Self.rows
    rows[0] = StoredRow(SentRow(id: "a", number: 0, version: 2), in: .events, at: LogPosition(1))
    #expect(Self.faults(in: rows).contains { $0.contains("version 2 was never sent") })
    rows = Self.rows
    rows[4].cells[3] = .string("i-other")
    #expect(Self.faults(in: rows).contains { $0.contains("row c: changed: it holds") })
  }

  @Test func `names a change that is lost`() {
    var account = Self.account()
    let changed = SentRow(id: "a", number: 0, version: 2)
    account.sends([changed], to: .events, by: .batch, after: 6)
    account.acknowledged([changed], of: .events, token: 11)
    #expect(
      Self.faults(&account, in: Self.rows, end: 11).allSatisfy {
        $0.contains("row a: lost: version 2 was acknowledged at 11")
      })
    var rows = Self.rows
    rows[0] = StoredRow(changed, in: .events, at: LogPosition(11))
    #expect(Self.faults(&account, in: rows, end: 11) == [])
  }

  @Test func `names positions that move, are shared, or lie outside of the acknowledgement`() {
    var account = Self.account()
    #expect(Self.faults(&account, in: Self.rows) == [])
    var moved = Self.rows
    moved[9].position = LogPosition(12)
    #expect(
      Self.faults(&account, in: moved, end: 12)
        == ["after kill 0, files, row f1/3: it was at 10 and is at 12 now"])
    var beyond = Self.rows
    beyond[3].position = LogPosition(5)
    let faults = Self.faults(in: beyond)
    #expect(faults.contains { $0.contains("another row has its position too") })
    #expect(
      faults.contains { $0.contains("row b: it stands at 5, not behind 3 and up to its token 4") })
  }

  @Test func `names a log that ends before a token, or before it ended`() {
    #expect(
      Self.faults(in: Self.rows, end: 5)
        == ["after kill 1: the log ends at 5, but token 6 was acknowledged"])
    var account = Self.account()
    #expect(Self.faults(&account, in: Self.rows, end: 10) == [])
    #expect(
      Self.faults(&account, in: Self.rows, end: 9)
        == ["after kill 0: the log ends at 9; it ended at 10 before"])
  }

  @Test func `names records of a stream that are missing, doubled or invented`() {
    var rows = Self.rows
    rows.remove(at: 7)
    #expect(Self.faults(in: rows).contains { $0.contains("files, row f1/1: lost: record 2") })
    rows = Self.rows
    rows.append(StoredRow(.lines, stream: "f1", number: 2, at: LogPosition(11)))
    #expect(
      Self.faults(in: rows, end: 11)
        == ["after kill 1, files, row f1/2: doubled: it stands at 9 and at 11"])
    rows = Self.rows
    rows.append(StoredRow(.lines, stream: "f1", number: 4, at: LogPosition(11)))
    #expect(
      Self.faults(in: rows, end: 11)
        == ["after kill 1, files, row f1/4: invented: no such record was handed over"])
    var account = Self.account()
    #expect(Self.faults(&account, in: Array(Self.rows.dropLast())) == [])
    #expect(account.missingRecords == 1)
  }
}
