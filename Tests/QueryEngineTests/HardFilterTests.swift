import Columns
import Domain
import QueryEngine
import Testing

/// Whatever the catalog, the filters and the form of the query: nothing forbidden comes, nothing seen
/// comes, and k rows come whenever k exist. Conditions leave from 0.001 % of the rows to all of them,
/// and rows are added, changed and removed between and during queries.
@Suite struct `Hard filters` {
  static let isFull = TestSettings.isFull

  /// A catalog whose column `draw` is uniform in 0..<100000, so that `draw < n` leaves n / 100000.
  private struct World {
    var source = FakeSource(rows: 0, seed: 0)
    var draws: [Int] = []
    var dice: Dice

    init(rows: Int, seed: UInt64) {
      dice = Dice(seed)
      source.items = ColumnTable([
        ColumnDefinition(name: "item_id", type: .string),
        ColumnDefinition(name: "draw", type: .int64),
        ColumnDefinition(name: "genre", type: .lowCardinalityString),
      ])
      source.listed = Bitmap(count: 0)
      source.seenPercent = dice.pick([0, 10, 60, 99])
      for _ in 0..<rows { append() }
    }

    mutating func append() {
      let row = source.items.appendEmptyRow()
      draws.append(0)
      source.listed.grow(to: row + 1, with: true)
      change(row)
    }

    mutating func change(_ row: Int) {
      draws[row] = dice.below(100_000)
      source.items.setRow(
        row,
        to: [
          .string("i\(row)"), .int(Int64(draws[row])), .string(dice.pick(["a", "b", "c"])),
        ])
    }

    mutating func changeSome() {
      for _ in 0..<dice.below(4) { append() }
      if !draws.isEmpty {
        for _ in 0..<dice.below(4) { change(dice.below(draws.count)) }
        for _ in 0..<dice.below(4) {
          let row = dice.below(draws.count)
          source.listed[row].toggle()
        }
      }
      source.catalogVersion += 1
    }

    func mayBeShown(_ row: Int, below most: Int) -> Bool {
      source.listed[row] && draws[row] < most
        && !source.isForbidden("already_seen", UserID("u1"), row)
        && !source.isForbidden("banned", nil, row)
    }
  }

  private static let forms = [
    ("SELECT * FROM similarity(embedding_ref='seq', input_user_id='u1', limit=7)", ""),
    (
      "SELECT * FROM similarity(embedding_ref='seq', encoder='interaction_round_robin', input_user_id='u1', num_clusters=3)",
      "ORDER BY score(expression='sasrec', input_user_id='u1')"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', encoder='session', input_interactions_item_ids=['i1','i2'])",
      ""
    ),
    (
      "SELECT * FROM column_order(columns='draw DESC', limit=3)",
      "REORDER BY diversity(0.4, diversity_attributes=['genre'])"
    ),
    (
      "SELECT * FROM items",
      "ORDER BY score(expression='clicks - sasrec', input_user_id='u1') REORDER BY diversity(0.3)"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', input_user_id='u1'), column_order(columns='draw')",
      "ORDER BY score(expression='sasrec', input_user_id='u1') REORDER BY exploration(0.4), boosted(0.3, retriever=filter(where='genre = ''a'''))"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', input_user_id='u1'), filter(where='genre = ''b''')",
      "REORDER BY exploration(0.5, retriever=column_order(columns='draw', limit=5)), column_sort(columns='genre, draw DESC')"
    ),
  ]

  @Test(arguments: 0..<(isFull ? 200 : 12) as Range<UInt64>)
  func `hold on every form of query while the catalog changes`(seed: UInt64) throws {
    var dice = Dice(seed &+ 50)
    var world = World(
      rows: dice.pick([0, 1, 63, 64, 65, 500, Self.isFull ? 5000 : 1500]), seed: seed)
    let engine = QueryEngine()
    for step in 0..<12 {
      world.changeSome()
      let most = dice.pick([1, 10, 100, 1000, 10_000, 50_000, 100_000])
      let (head, tail) = dice.pick(Self.forms)
      let k = dice.pick([1, 5, 20, 200])
      var options = QueryOptions()
      options.seed = dice.next()
      let text = """
        \(head) WHERE draw < $most AND prebuilt('already_seen', input_user_id='u1') \
        AND prebuilt('banned') \(tail) LIMIT $k
        """
      let result = try engine.run(
        QueryRequest(
          text: text, parameters: ["most": .int(Int64(most)), "k": .int(Int64(k))],
          options: options), on: world.source)
      let allowed = (0..<world.draws.count).filter { world.mayBeShown($0, below: most) }
      let comment = Comment(
        rawValue: "seed \(seed), step \(step), \(allowed.count) allowed: \(text)")
      #expect(result.rows.count == min(k, allowed.count), comment)
      #expect(Set(result.rows).count == result.rows.count, comment)
      #expect(result.rows.allSatisfy { world.mayBeShown($0.index, below: most) }, comment)
    }
  }

  /// One engine serves many versions of a catalog at once; its cache never mixes them up.
  @Test(arguments: 0..<(isFull ? 20 : 3) as Range<UInt64>)
  func `hold while versions of the catalog are read side by side`(seed: UInt64) async throws {
    var world = World(rows: 300, seed: seed)
    let engine = QueryEngine()
    var worlds: [World] = []
    for _ in 0..<16 {
      world.changeSome()
      worlds.append(world)
    }
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for world in worlds {
        group.addTask {
          for most in [100, 20_000, 100_000] {
            let result = try engine.run(
              QueryRequest(
                text: """
                  SELECT * FROM column_order(columns='draw') WHERE draw < $most
                  AND prebuilt('already_seen', input_user_id='u1') AND prebuilt('banned') LIMIT 50
                  """, parameters: ["most": .int(Int64(most))]), on: world.source)
            let allowed = (0..<world.draws.count).filter { world.mayBeShown($0, below: most) }
            guard result.rows.count == min(50, allowed.count),
              result.rows.allSatisfy({ world.mayBeShown($0.index, below: most) })
            else { return false }
          }
          return true
        }
      }
      for try await isGood in group { #expect(isGood, "seed \(seed)") }
    }
  }
}
