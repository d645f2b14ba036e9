import Columns
import Domain
import QueryEngine
import QueryLanguage
import Testing

private let user = UserID("u1")

@Suite struct `Answers` {
  /// The promise: an answer never holds a forbidden item and holds `LIMIT` items whenever that many
  /// exist. Random queries over random catalogs are compared with brute force over all rows.
  @Test(arguments: 0..<150 as Range<UInt64>)
  func `hold k allowed items whenever k exist`(seed: UInt64) throws {
    var dice = Dice(seed)
    var source = FakeSource(rows: 30 + dice.below(400), seed: seed)
    source.seenPercent = dice.pick([0, 20, 70, 95])
    let reference = Reference(source: source)
    var maker = ConditionMaker(seed)
    let engine = QueryEngine()

    let condition = maker.condition(1)
    let excluded = (0..<dice.below(20)).map { _ in CatalogRow(dice.below(source.items.rowCount)) }
    let isPersonal = dice.chance(70)
    let isBanned = dice.chance(40)
    func isAllowed(_ row: Int) -> Bool {
      source.listed[row] && reference.truth(condition, row) == true
        && !(isPersonal && source.isForbidden("already_seen", user, row))
        && !(isBanned && source.isForbidden("banned", nil, row))
        && !excluded.contains(CatalogRow(row))
    }
    // The rows that each retriever may find.
    var retrievers: [String] = []
    var reach: [Set<Int>] = []
    for _ in 0..<1 + dice.below(3) {
      var allowed = Set((0..<source.items.rowCount).filter(isAllowed))
      let own = maker.condition(0)
      var with = ", limit=\(1 + dice.below(40))"
      let hasOwn = dice.chance(40)
      if hasOwn {
        with += ", where=\(Printer.quoted(Printer.text(own)))"
        allowed = allowed.filter { reference.truth(own, $0) == true }
      }
      switch dice.below(5) {
      case 0, 1:
        retrievers.append("similarity(embedding_ref='seq', input_user_id='u1'\(with))")
      case 2: retrievers.append("column_order(columns='year DESC, title'\(with))")
      case 3:
        let ids = (0..<50).map { _ in dice.below(source.items.rowCount + 5) }
        let list = ids.map { "'i\($0)'" }.joined(separator: ", ")
        retrievers.append("ids([\(list)]\(with))")
        allowed.formIntersection(ids)
      default:
        retrievers.append("filter(where='NOT FALSE', limit=\(1 + dice.below(40)))")
        allowed = Set((0..<source.items.rowCount).filter(isAllowed))
      }
      reach.append(allowed)
    }
    let limit = dice.below(60)
    let offset = dice.pick([0, 0, 7])
    let isScored = dice.chance(50)
    let text =
      "SELECT * FROM \(retrievers.joined(separator: ", ")) WHERE (\(Printer.text(condition)))"
      + (isPersonal ? " AND prebuilt('already_seen', input_user_id=$u)" : "")
      + (isBanned ? " AND prebuilt('ref:data.filters:banned')" : "")
      + (isScored ? " ORDER BY score(expression='sasrec', input_user_id=$u)" : "")
      + " LIMIT \(limit) OFFSET \(offset)"
    let result = try engine.run(
      QueryRequest(
        text: text, parameters: ["u": "u1"], options: QueryOptions(excluded: excluded)), on: source)
    let rows = result.rows.map(\.index)

    let possible = reach.reduce(into: Set<Int>()) { $0.formUnion($1) }
    #expect(rows.allSatisfy(isAllowed), "seed \(seed): \(text)")
    #expect(rows.allSatisfy(possible.contains), "seed \(seed): \(text)")
    #expect(Set(rows).count == rows.count, "seed \(seed): \(text)")
    #expect(
      rows.count == min(limit, max(0, possible.count - offset)), "seed \(seed): \(text)")
    if isScored {
      let scores = rows.map { source.modelScore("sasrec", .user(user), $0).map(Double.init) }
      #expect(result.scores == scores, "seed \(seed): \(text)")
      let keys = scores.map { $0 ?? -.infinity }
      #expect(zip(keys, keys.dropFirst()).allSatisfy { $0 >= $1 }, "seed \(seed): \(text)")
    }
    if retrievers.count == 1, retrievers[0].hasPrefix("similarity"), !isScored {
      let encoder = Encoder.precomputedUser(user)
      let best = possible.sorted {
        (source.similarity("seq", encoder, $1), $0) < (source.similarity("seq", encoder, $0), $1)
      }
      #expect(rows == Array(best.dropFirst(offset).prefix(limit)), "seed \(seed): \(text)")
    }
  }

  @Test func `hold k items even where the index does not hold every item`() throws {
    var source = FakeSource(rows: 30, seed: 6)
    let listed = source.listed.rows
    source.unindexed = Set(listed.dropFirst(4))
    let result = try QueryEngine().run(
      QueryRequest(
        text: "SELECT * FROM similarity(embedding_ref='seq', input_user_id='u', limit=2) LIMIT 10"),
      on: source)
    #expect(Set(result.rows.prefix(4).map(\.index)) == Set(listed.prefix(4)))
    #expect(result.rows.dropFirst(4).map(\.index) == Array(listed[4..<10]))
    #expect(result.scores.dropFirst(4).allSatisfy { $0 == nil })
    #expect(result.notes == ["6 items that the index does not hold were added to reach LIMIT"])
  }

  @Test func `give no score where the index has none`() throws {
    var source = FakeSource(rows: 30, seed: 6)
    source.unscored = Set(0..<15)
    let from = "similarity(embedding_ref='seq', input_user_id='u', name='r')"
    let plain = try QueryEngine().run(
      QueryRequest(text: "SELECT * FROM \(from) LIMIT 30"), on: source)
    #expect(
      zip(plain.rows, plain.scores).allSatisfy { row, score in (score == nil) == (row.index < 15) })
    let scored = try QueryEngine().run(
      QueryRequest(
        text: "SELECT * FROM \(from) ORDER BY score(expression='retrieval.get_score(\"r\", -1)')"),
      on: source)
    #expect(scored.scores.suffix(scored.rows.count { $0.index < 15 }).allSatisfy { $0 == -1 })
  }

  @Test(arguments: 0..<20 as Range<UInt64>)
  func `are ordered over the whole catalog by score, then by row`(seed: UInt64) throws {
    let source = FakeSource(rows: 300, seed: seed)
    let result = try QueryEngine().run(
      QueryRequest(
        text: """
          SELECT score(expression='0.7*sasrec + 0.3*clicks - item.price/100 if item.language == "en" \
          else coalesce(sasrec, -5)', input_user_id='u1') AS s, item_id, year AS y
          FROM items ORDER BY s LIMIT 50
          """), on: source)
    let reference = Reference(source: source)
    func score(_ row: Int) -> Double {
      let sasrec = source.modelScore("sasrec", .user(user), row).map(Double.init)
      guard reference.cell("language", row) == .string("en") else { return sasrec ?? -5 }
      let clicks = source.modelScore("clicks", .user(user), row).map(Double.init) ?? 0
      var price = 0.0
      if case .double(let value) = reference.cell("price", row) { price = value }
      return 0.7 * (sasrec ?? 0) + 0.3 * clicks - price / 100
    }
    let best = source.listed.rows.sorted { (score($1), $0) < (score($0), $1) }.prefix(50)
    #expect(result.rows.map(\.index) == Array(best))
    #expect(result.columns.map(\.name) == ["s", "item_id", "y"])
    for (i, row) in best.enumerated() {
      #expect(result.columns[0][i] == .double(score(row)))
      #expect(result.columns[1][i] == .string("i\(row)"))
      #expect(result.columns[2][i] == reference.cell("year", row))
    }
  }

  @Test(arguments: [
    ("year DESC, title", "year DESC NULLS LAST"), ("price", "price ASC"),
    ("published DESC NULLS FIRST", "published"), ("language ASC, item_id DESC", "language"),
    ("kids DESC", "kids"), ("_derived_popular_rank", "derived"),
  ])
  func `follow the order of columns in retrievers and in ORDER BY alike`(
    order: String, name: String
  ) throws {
    let source = FakeSource(rows: 400, seed: 11)
    let engine = QueryEngine()
    let byRetriever = try engine.run(
      QueryRequest(text: "SELECT * FROM column_order(columns='\(order)') LIMIT 37"), on: source)
    let byOrder = try engine.run(
      QueryRequest(text: "SELECT * FROM items ORDER BY \(order) LIMIT 37"), on: source)
    #expect(byRetriever.rows == byOrder.rows)
    #expect(byOrder.rows.count == 37)

    let keys = order.split(separator: ",").map { $0.split(separator: " ").map(String.init) }
    let ranks = source.derivedColumn("_derived_popular_rank")
    func isBefore(_ a: Int, _ b: Int) -> Bool {
      for key in keys {
        let (x, y) =
          key[0].hasPrefix("_")
          ? (ranks?.value(at: a) ?? .null, ranks?.value(at: b) ?? .null)
          : (Reference(source: source).cell(key[0], a), Reference(source: source).cell(key[0], b))
        if x == y { continue }
        let nullsFirst = key.contains("FIRST")
        if x == .null { return nullsFirst }
        if y == .null { return !nullsFirst }
        let isLess: Bool
        switch (x, y) {
        case (.int(let x), .int(let y)): isLess = x < y
        case (.double(let x), .double(let y)): isLess = x < y
        case (.timestamp(let x), .timestamp(let y)): isLess = x < y
        case (.string(let x), .string(let y)): isLess = x < y
        case (.bool(let x), .bool(let y)): isLess = !x && y
        default: isLess = false
        }
        return key.contains("DESC") ? !isLess : isLess
      }
      return a < b
    }
    #expect(byOrder.rows.map(\.index) == Array(source.listed.rows.sorted(by: isBefore).prefix(37)))
  }

  @Test func `keep the first retriever's place and score of an item`() throws {
    let source = FakeSource(rows: 40, seed: 2)
    let listed = source.listed.rows
    let result = try QueryEngine().run(
      QueryRequest(
        text: """
          SELECT score(expression='100*retrieval.get_rank("b", 9) + retrieval.a_rank') AS s
          FROM retrieve(ids($a, name='a'), ids($b, name='b'), ids(['unknown']))
          """,
        parameters: [
          "a": .array([listed[3], listed[1]].map { .string("i\($0)") }),
          "b": .array([listed[1], listed[5], listed[5]].map { .string("i\($0)") }),
        ]), on: source)
    #expect(result.rows.map(\.index) == [listed[3], listed[1], listed[5]])
    #expect(result.scores == [901, 102, 1199])
    #expect(result.notes == ["1 of 1 given items are not in the catalog"])
  }

  @Test func `put unknown scores last, and take them for 0 in arithmetic`() throws {
    let source = FakeSource(rows: 200, seed: 4)
    func scores(_ expression: String) throws -> [Double?] {
      try QueryEngine().run(
        QueryRequest(
          text: "SELECT * FROM items ORDER BY score(expression='\(expression)', input_user_id='u1')"
        ),
        on: source
      ).scores
    }
    let alone = try scores("sasrec")
    #expect(alone.contains(nil))
    #expect(alone.last == .some(nil))
    #expect(alone.drop { $0 != nil }.allSatisfy { $0 == nil })
    #expect(!(try scores("sasrec + 0").contains(nil)))
    #expect(try scores("1 / (year_is_not_here)".isEmpty ? "" : "1/0").allSatisfy { $0 == nil })
  }

  @Test func `ascend where the query says so`() throws {
    let source = FakeSource(rows: 100, seed: 4)
    let scores = try QueryEngine().run(
      QueryRequest(
        text: "SELECT * FROM items ORDER BY score(expression='item.year') ASC LIMIT 20"),
      on: source
    ).scores.compactMap { $0 }
    #expect(scores == scores.sorted())
  }

  @Test func `accept the legacy order by a model, with the retriever's user`() throws {
    let source = FakeSource(rows: 100, seed: 4)
    let engine = QueryEngine()
    let retriever = "similarity(embedding_ref='seq', input_user_id='u1')"
    let legacy = try engine.run(
      QueryRequest(text: "SELECT * FROM \(retriever) ORDER BY sasrec LIMIT 9"), on: source)
    let plain = try engine.run(
      QueryRequest(
        text:
          "SELECT * FROM \(retriever) ORDER BY score(expression='sasrec', input_user_id='u1') LIMIT 9"
      ), on: source)
    #expect(legacy.rows == plain.rows)
    #expect(legacy.scores == plain.scores)
  }

  @Test func `carry notes of the source and counts of every stage`() throws {
    let source = FakeSource(rows: 100, seed: 4)
    let result = try QueryEngine().run(
      QueryRequest(
        text: """
          SELECT * FROM similarity(embedding_ref='seq', input_user_id='stranger', limit=30, name='n')
          WHERE language = 'en' ORDER BY score(expression='1') LIMIT 5
          """), on: source)
    #expect(result.notes == ["the user `stranger` is unknown: popular items were taken"])
    #expect(result.stages.map(\.name) == [.filter, .retrieve, .score, .limit])
    #expect(result.stages[0].inputCount == source.listed.population)
    #expect(result.stages[1].step == "n")
    #expect(result.stages[3].outputCount == 5)
    #expect(result.columns.map(\.name) == FakeSource.definitions.map(\.name))
  }

  @Test func `spread the attribute that diversity names`() throws {
    let source = FakeSource(rows: 300, seed: 9)
    func languages(_ reorder: String) throws -> [Value] {
      let result = try QueryEngine().run(
        QueryRequest(
          text: """
            SELECT language FROM items WHERE language IS NOT NULL
            ORDER BY score(expression='100 if item.language == "en" else 1') \(reorder) LIMIT 6
            """), on: source)
      return (0..<result.rows.count).map { result.columns[0][$0] }
    }
    #expect(try Set(languages("")) == [.string("en")])
    let spread = try languages(
      "REORDER BY diversity(0.9, diversity_attributes=['language'], diversity_lookforward_window=1000)"
    )
    #expect(Set(spread) == [.string("en"), .string("de"), .string("fr")])
    #expect(spread.count == 6)
    #expect(spread[0] == .string("en"))
    // Without weight it changes nothing.
    #expect(
      try Set(languages("REORDER BY diversity(0.0, diversity_attributes=['language'])"))
        == [.string("en")])
  }

  @Test func `come from a prepared query with new parameters each time`() throws {
    let source = FakeSource(rows: 100, seed: 4)
    let engine = QueryEngine()
    let prepared = try PreparedQuery("SELECT item_id FROM items WHERE year >= $from LIMIT $n")
    for (from, count) in [(1990, 10), (2015, 3), (3000, 5)] {
      let result = try engine.run(
        prepared, parameters: ["from": .int(Int64(from)), "n": .int(Int64(count))], on: source)
      let expected = source.listed.rows.filter {
        if case .int(let year) = Reference(source: source).cell("year", $0) {
          year >= from
        } else {
          false
        }
      }
      #expect(result.rows.map(\.index) == Array(expected.prefix(count)))
    }
  }

  @Test func `are explained by the plan`() throws {
    let text = try QueryEngine().explain(
      QueryRequest(
        text: """
          SELECT * FROM similarity(embedding_ref='seq', input_user_id=$user_id, limit=5, name='a',
                                   where='year > 2000'), column_order(columns='year DESC')
          WHERE language = $l AND prebuilt('already_seen', input_user_id=$user_id)
          ORDER BY score(expression='sasrec*2', input_user_id=$user_id) LIMIT 20 OFFSET 2
          """, parameters: ["user_id": "u1", "l": "en"]), on: FakeSource(rows: 9, seed: 1))
    #expect(
      text == """
        under a bitmap of the listed rows
          and language = 'en' (column scan)
          and not in filter 'already_seen' of user 'u1'
        retrieve nearest rows of 'seq' to user 'u1', 22 at most (limit=5, raised for LIMIT) as 'a'
          where year > 2000 (column scan)
        retrieve rows by year DESC NULLS LAST, 100 at most
        unite, the first retriever of an item counts
        score sasrec * 2 with sasrec for user 'u1'
        order by score DESC NULLS LAST, then retrieval, then row
        limit 20 offset 2
        """)
  }
}
