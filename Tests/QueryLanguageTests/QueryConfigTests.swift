import Domain
import QueryLanguage
import Testing

@Suite struct `The JSON form` {
  private static let feed: JSON = [
    "type": "rank", "from": "item",
    "retrieve": [
      [
        "type": "similarity", "name": "seq_r", "embedding_ref": "seq_embedding", "limit": 300,
        "query_encoder": ["type": "precomputed_user", "input_user_id": "$user_id"],
        "anyof_schema_1_validator": nil, "actual_instance": nil,
      ],
      [
        "type": "column_order", "name": "trend_r", "limit": 100,
        "columns": [["name": "_derived_trending_rank", "ascending": true]],
      ],
    ],
    "filter": [
      [
        "type": "prebuilt", "filter_ref": "ref:data.filters:already_watched",
        "input_user_id": "$user_id",
      ],
      ["type": "expression", "expression": "language = '$language'"],
    ],
    "score": [
      "type": "score_ensemble", "value_model": "0.7*seq + 0.2*clicks", "input_user_id": "$user_id",
    ],
    "reorder": [
      ["type": "diversity", "strength": 0.3, "diversity_attributes": ["creator_id"]],
      [
        "type": "exploration", "strength": 0.1,
        "retriever": [
          "type": "column_order", "limit": 100,
          "columns": [["name": "published_ts", "ascending": false]],
        ],
      ],
    ],
    "limit": 20, "columns": ["title", "creator_id"], "embeddings": nil,
  ]

  @Test func `reads as the query that its text would be`() throws {
    let text = try QueryConfig.text(Self.feed)
    #expect(
      text == """
        SELECT title, creator_id FROM retrieve(similarity(encoder='precomputed_user', \
        input_user_id=$user_id, name='seq_r', limit=300, embedding_ref='seq_embedding'), \
        column_order(columns='_derived_trending_rank ASC', name='trend_r', limit=100)) \
        WHERE prebuilt('ref:data.filters:already_watched', input_user_id=$user_id) AND \
        language = $language ORDER BY score(expression='0.7 * seq + 0.2 * clicks', \
        input_user_id=$user_id) REORDER BY diversity(strength=0.3, \
        diversity_attributes=['creator_id']), exploration(strength=0.1, \
        retriever=column_order(columns='published_ts DESC', limit=100)) LIMIT 20
        """)
    let parsed = Parser.parse(text)
    #expect(parsed.problems.isEmpty)
    let isSame = try parsed.query == QueryConfig.query(Self.feed)
    #expect(isSame)
  }

  @Test func `accepts what the published builder sends`() throws {
    #expect(
      try QueryConfig.text([
        "type": "rank_items", "retrieve": [["type": "filter", "limit": 100]],
        "filter": [["type": "truncate", "max_length": 500]], "score": ["type": "passthrough"],
        "limit": 5,
      ]) == "SELECT * FROM retrieve(filter(limit=100, where='TRUE')) WHERE truncate(500) LIMIT 5")
    #expect(try QueryConfig.text(["from": "item"]) == "SELECT * FROM items")
  }

  @Test func `reports all problems with their paths`() {
    do throws(Diagnostics) {
      _ = try QueryConfig.query([
        "retrieve": [["type": "similarty"], ["limit": 3]],
        "filter": [["type": "expression", "expression": "a = "]],
        "score": ["value_model": "1 +"], "limit": "many",
      ])
      Issue.record("no problem was found")
    } catch {
      #expect(
        error.all.map { "\($0.place ?? ""): \($0.message)" } == [
          """
          query.retrieve[0].type: Unknown retriever type: 'similarty'. Supported: \
          candidate_attributes, candidate_ids, column_order, filter, similarity, text_search. \
          Did you mean: similarity?
          """,
          "query.retrieve[1]: Missing required field: 'query.retrieve[1].type'",
          "query.filter[0].expression: The text ends where a column or a value should stand.",
          "query.score.value_model: The text ends where a name, a number or `(` should stand.",
          #"query.limit: expected a whole number, found "many""#,
        ])
    }
  }
}
