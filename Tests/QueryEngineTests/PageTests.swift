import Columns
import Domain
import QueryEngine
import Testing

@Suite struct `Pages` {
  private func page(
    _ store: PageStore, _ source: FakeSource, key: String = "s", restarts: Bool = false
  ) throws -> [ItemID] {
    var options = QueryOptions()
    options.page = PageRequest(store: store, key: key, restarts: restarts)
    return try QueryEngine().run(
      QueryRequest(
        text: "SELECT * FROM similarity(embedding_ref='seq', input_user_id='u1', limit=10) LIMIT 7",
        options: options), on: source
    ).ids
  }

  @Test func `follow each other without a repetition to the end`() throws {
    let source = FakeSource(rows: 30, seed: 3)
    let store = PageStore(lifetimeSeconds: 60)
    var all: [ItemID] = []
    while true {
      let next = try page(store, source)
      if next.isEmpty { break }
      all += next
    }
    #expect(all.count == source.listed.population)
    #expect(Set(all).count == all.count)
    let whole = try QueryEngine().run(
      QueryRequest(
        text: "SELECT * FROM similarity(embedding_ref='seq', input_user_id='u1') LIMIT 1000"),
      on: source)
    #expect(all == whole.ids)
  }

  @Test func `begin again on request, for another key, and when their time is over`() throws {
    var source = FakeSource(rows: 30, seed: 3)
    let store = PageStore(lifetimeSeconds: 60)
    let first = try page(store, source)
    #expect(try page(store, source) != first)
    #expect(try page(store, source, key: "other") == first)
    #expect(try page(store, source, restarts: true) == first)
    #expect(try page(store, source) != first)
    source.now = Timestamp(secondsSinceEpoch: source.now.secondsSinceEpoch + 59)
    #expect(try page(store, source) != first)
    // Each page keeps its key alive.
    source.now = Timestamp(secondsSinceEpoch: source.now.secondsSinceEpoch + 59)
    #expect(try page(store, source) != first)
    source.now = Timestamp(secondsSinceEpoch: source.now.secondsSinceEpoch + 61)
    #expect(try page(store, source) == first)
  }

  @Test func `forget the oldest keys when there are too many`() {
    let store = PageStore(lifetimeSeconds: 60, mostKeys: 10)
    for key in 0..<100 {
      let now = Timestamp(secondsSinceEpoch: Double(key))
      store.next("\(key)", now: now, restarts: false) { _ in ((), [ItemID("a")]) }
      #expect(store.keyCount <= 10)
    }
    let now = Timestamp(secondsSinceEpoch: 100)
    #expect(store.next("99", now: now, restarts: false) { ($0, []) } == [ItemID("a")])
    #expect(store.next("5", now: now, restarts: false) { ($0, []) } == [])
  }

  @Test func `are made one after the other for one key`() async throws {
    let source = FakeSource(rows: 100, seed: 3)
    let store = PageStore()
    let all = try await withThrowingTaskGroup(of: [ItemID].self) { group in
      for _ in 0..<8 { group.addTask { try page(store, source) } }
      var all: [ItemID] = []
      for try await ids in group { all += ids }
      return all
    }
    #expect(all.count == 56)
    #expect(Set(all).count == 56)
  }
}
