import Storage
import Testing

@Suite struct `Group commit` {
  @Test func `takes all that waits, up to a commit's rows`() {
    var decision = GroupCommit(rowsPerCommit: 10, waitingRowsLimit: 100)
    let admitted = [4, 4, 4].map { decision.admit(rows: $0) }
    #expect(admitted == [true, true, true])
    let first = decision.take(from: [4, 4, 4])
    #expect(first == 2)
    #expect(decision.waitingRows == 4)
    let second = decision.take(from: [4])
    #expect(second == 1)
    #expect(decision.waitingRows == 0)
    let none = decision.take(from: [])
    #expect(none == 0)
  }

  @Test func `takes an append that is larger than a commit alone`() {
    var decision = GroupCommit(rowsPerCommit: 10, waitingRowsLimit: 100)
    let admitted = [50, 1].map { decision.admit(rows: $0) }
    #expect(admitted == [true, true])
    let taken = decision.take(from: [50, 1])
    #expect(taken == 1)
    #expect(decision.waitingRows == 1)
  }

  @Test func `refuses what would wait beyond the limit, unless nothing waits`() {
    var decision = GroupCommit(rowsPerCommit: 10, waitingRowsLimit: 100)
    let huge = [1000, 1].map { decision.admit(rows: $0) }
    #expect(huge == [true, false])
    let taken = decision.take(from: [1000])
    #expect(taken == 1)
    let more = [99, 1, 1].map { decision.admit(rows: $0) }
    #expect(more == [true, true, false])
    #expect(decision.waitingRows == 100)
  }
}
