import Columns
import Domain
import QueryEngine
import Synchronization
import Testing

@Suite struct `Explanations` {
  private func run(_ text: String, _ change: (inout QueryOptions) -> Void) throws -> QueryResult {
    var options = QueryOptions()
    change(&options)
    return try QueryEngine().run(
      QueryRequest(text: text, parameters: ["user_id": "u1"], options: options),
      on: FakeSource(rows: 60, seed: 4))
  }

  private static let feed = """
    SELECT * FROM similarity(embedding_ref='seq', input_user_id=$user_id, name='a'), \
    column_order(columns='price DESC', limit=5) WHERE language = 'en' \
    AND prebuilt('already_seen', input_user_id=$user_id) \
    ORDER BY score(expression='sasrec', input_user_id=$user_id) \
    REORDER BY diversity(0.5, diversity_attributes=['region']) LIMIT 4
    """

  @Test func `hold the documented fields`() throws {
    let ticks = Atomic<Int64>(0)
    let result = try run(Self.feed) { options in
      options.explains = true
      options.stopwatch = { ticks.wrappingAdd(1000, ordering: .relaxed).newValue }
    }
    let json = try #require(result.explanation?.json)
    for name in [
      "query_name", "query_type", "parameters", "pagination_id", "retrieve_stage", "filter_stage",
      "score_stage", "reorder_stage", "total_execution_time_ms", "final_result_count",
      "limit_applied", "offset_applied",
    ] {
      #expect(json[name] != nil, "\(name)")
    }
    #expect(json["parameters"]?["user_id"] == "u1")
    #expect(json["final_result_count"] == 4)
    let steps = try #require(json["filter_stage"]?["steps"]?.array)
    #expect(steps.map { $0["step_type"] } == ["expression", "prebuilt"])
    #expect(steps[0]["expression"] == "language = 'en'")
    #expect(steps[0]["execution_time_ms"]?.number ?? 0 > 0)
    let retrieved = try #require(json["retrieve_stage"]?["steps"]?.array)
    #expect(retrieved.map { $0["step_name"] } == ["a", "column_order"])
    #expect(retrieved[0]["retrieval_method"] == "similarity")
    let score = try #require(json["score_stage"]?["steps"]?.array?.first)
    #expect(score["value_model"] == "sasrec")
    #expect(
      score["scoring_policy_scores"]?["sasrec"]?.array?.count
        == score["input_count"].flatMap { Int($0.int ?? -1) })
    #expect(score["user_interaction_count"] == 12)
    let reorder = try #require(json["reorder_stage"]?["steps"]?.array?.first)
    #expect(reorder["reorder_type"] == "diversity" && reorder["lookback_window"] == 30)
  }

  @Test func `tell each item's way`() throws {
    let result = try run(Self.feed) { $0.showsJourneys = true }
    let journeys = try #require(result.journeys)
    #expect(journeys.map(\.id) == result.ids.map(\.rawValue))
    #expect(journeys.map(\.finalPosition) == [1, 2, 3, 4])
    #expect(journeys.allSatisfy { $0.retrievedBy.contains("a") && $0.filters.count == 2 })
    #expect(Set(journeys.compactMap(\.scoreRank)).count == 4)
    let json = journeys[0].json
    for name in [
      "entity_id", "inner_entity_id", "retrieved_by", "retrieval_scores", "retrieval_rank",
      "filter_results", "filtered_out_by", "score", "score_rank", "reorder_changes",
      "final_position", "final_score",
    ] {
      #expect(json[name] != nil, "\(name)")
    }
  }

  @Test func `are absent where nobody asks`() throws {
    let result = try run(Self.feed) { _ in }
    #expect(result.explanation == nil && result.journeys == nil && result.influences == nil)
  }

  @Test func `find for every item of the catalog why it is not there`() throws {
    let source = FakeSource(rows: 60, seed: 4)
    let engine = QueryEngine()
    let shown = try engine.run(
      QueryRequest(text: Self.feed, parameters: ["user_id": "u1"]), on: source
    ).rows
    for row in 0..<60 {
      let answers = try engine.answers(
        QueryRequest(
          text: "EXPLAIN WHY NOT item 'i\(row)' \(Self.feed)", parameters: ["user_id": "u1"]),
        on: source)
      guard case .whyNot(let why) = answers[0] else {
        Issue.record("no reason")
        continue
      }
      let expected: Set<String>
      if shown.contains(CatalogRow(row)) {
        expected = ["answer"]
      } else if !source.listed[row] {
        expected = ["listed"]
      } else if source.cells[row][2] != .string("en")
        || source.isForbidden("already_seen", UserID("u1"), row)
      {
        expected = ["filter"]
      } else {
        expected = ["limit", "reorder"]
      }
      #expect(expected.contains(why.step), "i\(row): \(why.text)")
    }
  }

  @Test func `work out what past events carry`() throws {
    let result = try run(
      """
      SELECT * FROM items ORDER BY score(expression='dot(text_encoding(user, embedding_ref="seq"), \
      text_encoding(item, embedding_ref="seq"))', input_interactions_item_ids=['i1','i2','i3']) LIMIT 2
      """
    ) { $0.influenceCount = 2 }
    let influences = try #require(result.influences)
    #expect(influences.map { $0.map(\.event.rawValue) } == [["i3", "i2"], ["i3", "i2"]])
    let source = FakeSource(rows: 60, seed: 4)
    let (all, without) = (
      try source.vector(embedding: "seq", of: .session(["i1", "i2", "i3"].map { ItemID($0) })),
      try source.vector(embedding: "seq", of: .session(["i1", "i2"].map { ItemID($0) }))
    )
    let item = try #require(source.storedVector("seq", result.rows[0].index))
    let (a, b) = (try #require(all), try #require(without))
    let expected =
      zip(item, a).map { $0 * $1 }.reduce(0, +) - zip(item, b).map { $0 * $1 }.reduce(0, +)
    #expect(abs((influences[0][0].change ?? .nan) - Double(expected)) < 1e-4)
  }

  @Test func `end a query that takes too long`() throws {
    let ticks = Atomic<Int64>(0)
    #expect(throws: Diagnostics.self) {
      try run(Self.feed) { options in
        options.stopwatch = { ticks.wrappingAdd(1_000_000_000, ordering: .relaxed).newValue }
        options.mostNanoseconds = 2_500_000_000
      }
    }
  }

  /// Over many seeds each item stands in first place as often as its propensity says.
  @Test func `give propensities that are the true chances`() throws {
    let source = FakeSource(rows: 12, seed: 4)
    let engine = QueryEngine()
    let prepared = try PreparedQuery(
      "SELECT * FROM column_order(columns='price DESC') REORDER BY exploration(0.4, retriever=column_order(columns='price DESC', limit=6)) LIMIT 3"
    )
    var counts: [ItemID: Int] = [:]
    var chances: [ItemID: Double] = [:]
    let runs = 4000
    for seed in 0..<runs {
      var options = QueryOptions()
      options.seed = UInt64(seed) &* 7919
      let result = try engine.run(prepared, options: options, on: source)
      counts[result.ids[0], default: 0] += 1
      chances[result.ids[0]] = result.propensities?[0]
      let again = try engine.run(prepared, options: options, on: source)
      #expect(again.ids == result.ids)
      if again.ids != result.ids { return }
    }
    #expect(counts.count == 6)
    for (id, count) in counts {
      let share = Double(count) / Double(runs)
      #expect(abs(share - (chances[id] ?? 0)) < 0.03, "\(id.rawValue)")
    }
    #expect(abs(chances.values.reduce(0, +) - 1) < 1e-9)
  }
}
