import Domain
import QueryLanguage
import Testing

private func parsed(_ text: String) throws -> Query {
  let result = Parser.parse(text)
  if !result.problems.isEmpty { throw Diagnostics(result.problems) }
  return result.query
}

private func problems(_ text: String) -> [String] {
  Parser.parse(text).problems.map(\.description)
}

private func messages(_ text: String) -> [String] { Parser.parse(text).problems.map(\.message) }

@Suite struct `Reading queries` {
  /// Forms seen in the field, both dialects.
  static let conforming = [
    """
    SELECT * FROM similarity(input_user_id='$user_id', embedding_ref='collab', limit=50),
                  text_search(name='tm', query='$query', mode='lexical', fuzziness=0, limit=50)
    """,
    """
    SELECT * FROM similarity(embedding_ref="collab" , entity_type="items", limit=200, encoder='precomputed_user',
      -- a comment inside the argument list
      input_user_id='105')
    """,
    """
    SELECT * FROM similarity(embedding_ref='collab', encoder='precomputed_user', input_user_id='120'),
                  column_order( columns='_derived_popular_rank asc', )
    """,
    #"""
    SELECT * FROM items ORDER BY score(expression='0.2 * ctr + \
       0.8 * cosine_similarity(pooled_text_encoding(user.recent_interactions, pool_fn=''mean'', embedding_ref="desc"), \
                               text_encoding(item, embedding_ref="desc"))', input_user_id='$user_id')
      -- comment between clauses
      REORDER BY exploration(0.2)
      LIMIT 200
    """#,
    """
    SELECT * FROM similarity(embedding_ref='collab', encoder='interaction_round_robin', input_user_id='$user_id'),
           similarity(embedding_ref='title',  encoder='interaction_round_robin', input_user_id='$user_id')
    """,
    "SELECT id FROM item LIMIT 5",
    """
    SELECT score(expression='score_a', input_user_id=$user_id) AS s,
           diversity(score=s, strength=0.4, diversity_attributes=['creator_id']) AS r,
           video_id, title
    FROM retrieve( similarity(embedding_ref='e'), text_search(query='q'), column_order(columns='a') )
    WHERE prebuilt('already_watched', input_user_id=$user_id) AND language = 'en'
    ORDER BY r DESC
    LIMIT 20
    """,
    """
    SELECT * FROM similarity(embedding_ref='e'), text_search(query='q')
    WHERE language = 'en'
    ORDER BY score(expression='0.7*sasrec + 0.3*clicks', input_user_id='$user_id')
    REORDER BY diversity(0.2, text_encoding_embedding_ref='title_embedding')
    LIMIT 50
    """,
    """
    SELECT score(expression='0.7*seq + 0.2*clicks + 0.1*exp(-(now_seconds()-item.published_ts)/86400)',
                 input_user_id=$user_id) AS s,
           diversity(score=s, strength=0.3, diversity_attributes=['creator_id']) AS d,
           exploration(score=d, strength=0.1,
             retriever=column_order(columns='published_ts DESC', limit=100)) AS r,
           item_id, title, creator_id
    FROM retrieve(
      similarity(embedding_ref='seq_embedding', encoder='precomputed_user', input_user_id=$user_id, limit=300, name='seq_r'),
      similarity(embedding_ref='title_embedding', encoder='interaction_pooling', input_user_id=$user_id,
                 pooling_function='mean', truncate_interactions=10, limit=150, name='content_r'),
      column_order(columns='_derived_trending_rank ASC', limit=100, name='trend_r'))
    WHERE prebuilt('already_watched', input_user_id=$user_id) AND language = '$language'
    ORDER BY r DESC
    LIMIT $page_size
    """,
    """
    SELECT * FROM similarity(embedding_ref='seq_embedding', encoder='precomputed_item', input_item_id='$item_id', limit=50)
    WHERE item_id != '$item_id' LIMIT 20
    """,
    """
    SELECT *
    FROM text_search(query='$q', mode='lexical', fuzziness=1, limit=100, name='lex'),
         text_search(query='$q', mode='vector', text_embedding_ref='title_embedding', limit=100, name='vec')
    ORDER BY score(expression='1.0/(60+retrieval.get_rank("lex",999)) + 1.0/(60+retrieval.get_rank("vec",999)) + 0.01*seq',
                   input_user_id='$user_id')
    LIMIT 30
    """,
    "SELECT * FROM items ORDER BY score(expression='seq', input_interactions_item_ids=$session)",
    "SELECT * FROM column_order(columns='_derived_popular_rank ASC') LIMIT 5",
    "SELECT * FROM similarity(embedding_ref='e', encoder=precomputed_user(input_user_id=$u))",
    "select * from text_search(query='x', mode=lexical(fuzziness=1)), candidate_ids($ids);",
    "SELECT * FROM items ORDER BY lightgbm LIMIT 3 OFFSET 6",
    "SELECT video_id FROM data.videos WHERE duration_s > 3 ORDER BY published_at DESC LIMIT 10",
    "SELECT * FROM engine.for_you.items LIMIT 3",
    "SELECT * FROM engine.for_you.retrieve(similarity(embedding_ref='e')) LIMIT 3",
    "SELECT * FROM column_order(columns='a DESC, b ASC NULLS LAST', where='a > 3 AND b <> ''x''')",
    "SELECT * FROM candidate_attributes($item_attributes)",
    """
    SELECT * FROM items WHERE NOT (a == 1 OR b <> 2) AND c IS NOT NULL AND d NOT IN ['x','y',]
      AND e IN ('x', 'y') AND f IN $list AND g NOT LIKE '%a_' AND h ILIKE "b%"
      AND i NOT BETWEEN 1 AND 2 + 3 AND j IS NOT TRUE AND regexp_match(k, '^a') AND CAST(l AS INT) > 1
      AND array_has(m,'x') AND array_has_any(n,['x','y']) AND LENGTH(o) > 3 AND truncate(500)
    """,
    "SELECT * FROM items ORDER BY score(expression='sasrec if sasrec else -item._derived_popular_rank/1000')",
  ]

  @Test(arguments: conforming)
  func `reads every form, and its print reads back as the same tree`(text: String) throws {
    let tree = try parsed(text)
    #expect(try parsed(Printer.text(tree)) == tree)
  }

  @Test func `gives both dialects the same tree`() throws {
    #expect(
      try parsed("SELECT * FROM similarity(embedding_ref='e'), ids(['a'])")
        == parsed(#"select * from RETRIEVE(similarity(embedding_ref="e"), candidate_ids(["a"]),);"#)
    )
  }

  @Test(arguments: [
    "$user_id", "'$user_id'", "$param.user_id", "\"$params.user_id\"", "$parameter.user_id",
  ])
  func `takes a parameter in every spelling`(spelling: String) throws {
    let query = try parsed("SELECT * FROM items WHERE a = \(spelling) LIMIT $n")
    #expect(
      query.predicate
        == Expression(
          .binary(
            .equal, Expression(.column(ColumnReference(name: Name("a")))),
            Expression(.parameter("user_id")))))
  }

  @Test func `reads escaped quotes and joined lines`() throws {
    let query = try parsed(
      "SELECT * FROM items WHERE a = 'it''s \\\n here' AND b = \"say \"\"x\"\"\"")
    #expect(Printer.text(query).contains("a = 'it''s  here' AND b = 'say \"x\"'"))
  }

  @Test func `reads operators by their rank`() throws {
    func shape(_ text: String) throws -> String { Printer.text(try Parser.formula(text)) }
    #expect(try shape("((a+b))*c - (d*e)") == "(a + b) * c - d * e")
    #expect(try shape("-a**2") == "-a ** 2")
    #expect(try shape("(-a)**2") == "(-a) ** 2")
    #expect(try shape("a--b") == "a - -b")
    #expect(try shape("(a - b) - (c - d)") == "a - b - (c - d)")
    #expect(try shape("(a if b else c) + 1") == "(a if b else c) + 1")
    let predicate = try Parser.predicate("NOT a = 1 AND (b = 2 OR c = 3) OR d")
    #expect(Printer.text(predicate) == "NOT a = 1 AND (b = 2 OR c = 3) OR d")
  }

  @Test func `names an unknown retriever and the nearest one`() {
    #expect(
      problems("SELECT * FROM similiarity(embedding_ref='e') LIMIT 5") == [
        """
        error: Unknown retriever function: 'similiarity'. Supported: candidate_attributes, \
        column_order, filter, ids, similarity, text_search. Did you mean: similarity?
         --> query:1:15
        1 | SELECT * FROM similiarity(embedding_ref='e') LIMIT 5
          |               ^^^^^^^^^^^
        """
      ])
  }

  @Test func `points into the expression inside a string`() {
    #expect(
      problems("SELECT *\nFROM items\nORDER BY score(expression='it''s + 2')") == [
        """
        error: This text is not closed.
         --> query:3:30
        3 | ORDER BY score(expression='it''s + 2')
          |                              ^^ opened here
          help: Close it with `'`; write a quote inside it twice.
        """
      ])
    #expect(
      problems("SELECT *\nFROM items\nORDER BY score(expression='a + * 2')") == [
        """
        error: Expected a name, a number or `(`, found `*`.
         --> query:3:32
        3 | ORDER BY score(expression='a + * 2')
          |                                ^
        """
      ])
  }

  @Test func `reports all problems at once`() {
    #expect(
      messages(
        """
        SELECT titel,, FROM similiarity(embeding_ref='e'), filter(limit=3)
        WHERE a = AND b IN 3 AND c LIKE
        ODER BY x
        LIMIT many
        """) == [
          "Expected a column, found `,`.",
          """
          Unknown retriever function: 'similiarity'. Supported: candidate_attributes, column_order, \
          filter, ids, similarity, text_search. Did you mean: similarity?
          """,
          "Expected a column or a value, found `AND`.",
          "Expected a list, found `3`.",
          "Expected a clause or the end, found `BY`.",
          "LIMIT takes a whole number or a parameter.",
        ])
  }

  @Test func `suggests arguments and clauses`() {
    #expect(
      problems("SELECT * FROM similarity(embeding_ref='e') LIMT 3") == [
        """
        error: similarity() has no argument `embeding_ref`.
         --> query:1:26
        1 | SELECT * FROM similarity(embeding_ref='e') LIMT 3
          |                          ^^^^^^^^^^^^ did you mean `embedding_ref`?
          help: Arguments: embedding_ref, encoder, limit, entity_type, use_exact_search, where, name, \
        input_user_id, input_item_id, pooling_function, truncate_interactions, num_clusters, \
        input_user_features, input_item_features.
        """,
        """
        error: similarity() needs `embedding_ref`.
         --> query:1:15
        1 | SELECT * FROM similarity(embeding_ref='e') LIMT 3
          |               ^^^^^^^^^^
          help: Arguments: embedding_ref, encoder, limit, entity_type, use_exact_search, where, name, \
        input_user_id, input_item_id, pooling_function, truncate_interactions, num_clusters, \
        input_user_features, input_item_features.
        """,
        """
        error: Expected a clause or the end, found `LIMT`.
         --> query:1:44
        1 | SELECT * FROM similarity(embeding_ref='e') LIMT 3
          |                                            ^^^^ did you mean `LIMIT`?
          help: Clauses: FROM, WHERE, ORDER BY, REORDER BY, LIMIT, OFFSET.
        """,
      ])
  }

  @Test(arguments: [
    ("", "SQL query cannot be empty"),
    ("  -- nothing\n", "SQL query cannot be empty"),
    (
      "SELECT * FROM items JOIN users",
      "JOINs are not supported: the engine's tables are joined when it is set up."
    ),
    ("SELECT * FROM (SELECT 1)", "Sub-queries are not supported."),
    ("SELECT * FROM items; SELECT 1", "A query is one statement; this text goes on after it."),
    ("SELECT * FROM items GROUP BY a", "GROUP BY is not supported."),
    ("SELECT * FROM items WHERE a = 'x", "This text is not closed."),
    ("SELECT * FROM items WHERE a = 1e999", "The number `1e999` is out of range."),
    ("SELECT * FROM items WHERE CASE a", "CASE is not supported in a condition."),
    ("SELECT * FROM itms", "Unknown source: 'itms'."),
    ("SELECT limit FROM items", "Expected a column, found `limit`."),
    (
      "SELECT * FROM items ORDER BY score(expression=$e)",
      "The expression cannot come from a parameter: parameters are values."
    ),
    (
      "SELECT * FROM items ORDER BY score(expression='a < b < c')", "Comparisons cannot be chained."
    ),
    ("SELECT * FROM filter(where='a = ')", "The text ends where a column or a value should stand."),
    ("SELECT * FROM items WHERE @a", "`@` has no meaning here."),
  ])
  func `says what is wrong`(text: String, message: String) {
    #expect(messages(text).first == message)
  }

  @Test func `refuses chains that would make a tree too deep`() {
    for (operand, link) in [("a", " + "), ("a = 1", " OR "), ("a = 1", " AND "), ("a", " || ")] {
      let chain = Array(repeating: operand, count: 700).joined(separator: link)
      #expect(
        messages("SELECT * FROM items WHERE \(chain)")
          == ["An expression holds at most 500 operators; this one goes on."])
    }
    let sum = Array(repeating: "a", count: 700).joined(separator: " + ")
    #expect(
      messages("SELECT * FROM items ORDER BY score(expression='\(sum)')")
        == ["An expression holds at most 500 operators; this one goes on."])
    let list = (0..<5000).map(String.init).joined(separator: ", ")
    #expect(messages("SELECT * FROM items WHERE a IN (\(list))").isEmpty)
  }

  @Test func `refuses texts that are too long or nest too deep`() {
    let long = "SELECT * FROM items WHERE a IN (" + String(repeating: "1,", count: 40_000) + "1)"
    #expect(
      messages(long) == ["The query is \(long.utf8.count) bytes long; at most 65536 are read."])
    for open in ["(", "NOT ", "- "] {
      let deep = "SELECT * FROM items WHERE " + String(repeating: open, count: 5000) + "a"
      #expect(messages(deep).first == "The query nests deeper than 64 levels.")
    }
    let formula =
      "SELECT * FROM items ORDER BY score(expression='" + String(repeating: "(", count: 5000) + "')"
    #expect(messages(formula).first == "The query nests deeper than 64 levels.")
  }
}
