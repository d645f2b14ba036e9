import Domain
import QueryEngine
import QueryLanguage
import Testing

private func problems(_ text: String, _ parameters: [String: JSON] = [:]) -> [Diagnostic] {
  do {
    _ = try QueryEngine().run(
      QueryRequest(text: text, parameters: parameters), on: FakeSource(rows: 50, seed: 1))
    return []
  } catch let problems as Diagnostics {
    return problems.all
  } catch {
    Issue.record("\(error)")
    return []
  }
}

@Suite struct `Errors of queries` {
  @Test func `quote the place and suggest the nearest name`() {
    #expect(
      problems("SELECT titel FROM items").map(\.description) == [
        """
        error: unknown column `titel`
         --> query:1:8
        1 | SELECT titel FROM items
          |        ^^^^^ did you mean `title`?
          note: columns: item_id, title, language, region, year, price, published, kids, tags, \
        sizes, _derived_popular_rank
        """
      ])
  }

  @Test func `come all at once`() {
    let all = problems(
      """
      SELECT titel FROM similarity(embedding_ref='sq', input_user_id=$user_id),
                        column_order(columns='yaer DESC'), similiarity(embedding_ref='seq')
      WHERE langauge = 'en' AND year = 'soon' AND prebuilt('allready_seen', input_user_id=$user_id)
      ORDER BY score(expression='0.7*sasrek + retrieval.get_rank("x") + item.prise', input_user_id='u')
      LIMIT 5000
      """)
    #expect(
      all.map(\.message) == [
        """
        Unknown retriever function: 'similiarity'. Supported: candidate_attributes, column_order, \
        filter, ids, similarity, text_search. Did you mean: similarity?
        """,
        "Parameter 'limit' exceeds maximum allowed value of 1000. Got: 5000",
        "unknown embedding `sq`",
        """
        Missing required field: 'parameters.user_id'. The query uses $user_id and the request does \
        not give it.
        """,
        "unknown column `yaer`",
        "unknown column `langauge`",
        "a whole number cannot be compared with a text",
        """
        Missing required field: 'parameters.user_id'. The query uses $user_id and the request does \
        not give it.
        """,
        "unknown model `sasrek`",
        "unknown retriever `x`",
        "unknown column `prise`",
        "unknown column `titel`",
      ])
    #expect(all.allSatisfy { $0.span != nil })
  }

  @Test func `point into texts inside of strings`() {
    #expect(
      problems(
        "SELECT * FROM filter(where='language = ''en'' AND yeer > 3') ORDER BY "
          + "score(expression='sasrec * sqr(2)', input_user_id='u')"
      ).map {
        $0.span.map { Array($0.text.utf8)[$0.range] }.map { String(decoding: $0, as: UTF8.self) }
      }
        == ["yeer", "sqr"])
  }

  @Test(arguments: [
    ("", "SQL query cannot be empty"),
    (
      "SELECT * FROM items LIMIT $n",
      "Missing required field: 'parameters.n'. The query uses $n and the request does not give it."
    ),
    (
      "SELECT * FROM items LIMIT $many",
      "Parameter 'limit' exceeds maximum allowed value of 1000. Got: 1001"
    ),
    (
      "SELECT * FROM items LIMIT $user",
      "Parameter 'limit' must be a whole number from 0 to 1000. Got: \"u1\""
    ),
    (
      "SELECT * FROM items LIMIT -1",
      "Parameter 'limit' must be a whole number from 0 to 1000. Got: -1"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq')",
      "similarity() needs to know what to search for"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', encoder='precomputed_user')",
      "the encoder `precomputed_user` needs `input_user_id`"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', encoder='precomputed_usr', input_user_id='u')",
      "unknown encoder `precomputed_usr`"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', encoder='interaction_round_robin', input_user_id='u')",
      "the encoder `interaction_round_robin` is not available in this build"
    ),
    ("SELECT * FROM similarity(embedding_ref='seq', input_item_id='nope')", "unknown item `nope`"),
    ("SELECT * FROM text_search(query='x')", "text_search() is not available in this build"),
    (
      "SELECT * FROM candidate_attributes($list)",
      "candidate_attributes() is not available in this build"
    ),
    (
      "SELECT * FROM similarity(embedding_ref='seq', input_user_id='u', entity_type='items'), ids(['i1'], entity_type='users')",
      "All retrievers must use the same entity_type. Found: items and users"
    ),
    ("SELECT * FROM users", "FROM users is not available in this build"),
    ("SELECT * FROM data.videos", "FROM data.videos is not available in this build"),
    ("SELECT * FROM items WHERE year", "a condition must be true or false; this is a whole number"),
    ("SELECT * FROM items WHERE year LIKE 'x'", "LIKE needs a text, not a whole number"),
    ("SELECT * FROM items WHERE title + 1 > 2", "`+` needs numbers, not a text"),
    ("SELECT * FROM items WHERE published > 'yesterday'", "a time cannot be compared with a text"),
    ("SELECT * FROM items WHERE tags = 'a'", "a list of texts cannot be compared with a text"),
    (
      "SELECT * FROM items WHERE array_has(title, 'a')",
      "array_has() needs a column that holds lists, not a text"
    ),
    (
      "SELECT * FROM items WHERE lenght(title) > 2",
      "Unknown function: 'lenght'. Supported: abs, array_has, array_has_all, array_has_any, array_length, cast, ceil, coalesce, concat, contains, ends_with, exp, floor, length, ln, log10, lower, ltrim, now, nullif, power, prebuilt, regexp_like, regexp_match, replace, round, rtrim, sqrt, starts_with, strpos, substr, trim, truncate, upper. Did you mean: length?"
    ),
    (
      "SELECT * FROM items WHERE regexp_match(title, '(a')",
      "this regular expression cannot be used: a `(` is not closed"
    ),
    (
      "SELECT * FROM items WHERE prebuilt('already_seen')",
      "the filter `already_seen` is personal and needs `input_user_id`"
    ),
    (
      "SELECT * FROM items WHERE user.country = 'de'",
      "a user's column (`user.country`) is not available in this build"
    ),
    ("SELECT * FROM items ORDER BY tags", "rows cannot be ordered by `tags`, which holds lists"),
    ("SELECT * FROM items ORDER BY sasrec", "ORDER BY sasrec needs a user"),
    (
      "SELECT * FROM items ORDER BY score(expression='sasrec')",
      "score() needs a user for the model `sasrec`"
    ),
    ("SELECT * FROM items ORDER BY score(expression='price')", "unknown model `price`"),
    (
      "SELECT * FROM items ORDER BY score(expression='item.title')",
      "a score must be a number; this is a text"
    ),
    (
      "SELECT * FROM items ORDER BY score(expression='item.title == 3')",
      "a number cannot be compared with a text"
    ),
    (
      "SELECT * FROM items ORDER BY score(expression='text_encoding(item)')",
      "text_encoding() is not available in this build"
    ),
    (
      "SELECT * FROM items ORDER BY score(expression='user.age')",
      "`user.age` is not available in this build"
    ),
    (
      "SELECT * FROM items ORDER BY score(expression='1') REORDER BY exploration(0.2)",
      "exploration() is not available in this build"
    ),
    (
      "SELECT * FROM items ORDER BY score(expression='1') REORDER BY diversity(0.2)",
      "diversity() needs `diversity_attributes`"
    ),
    (
      "SELECT score(expression='1') AS a, score(expression='2') AS b FROM items ORDER BY a",
      "A query has one score() at most"
    ),
    ("SELECT * FROM ids($user)", "`item_ids` is a list of ids, not a string"),
    (
      "SELECT * FROM items WHERE year = $object",
      "The parameter `object` is an object; a condition needs a plain value"
    ),
  ])
  func `say what is wrong`(text: String, message: String) {
    let all = problems(
      text, ["many": 1001, "user": "u1", "list": [["a": 1]], "object": ["a": 1]])
    #expect(all.map(\.message) == [message])
    if !text.isEmpty { #expect(all.allSatisfy { $0.span != nil }) }
  }

  @Test func `of a prepared query come before it runs`() {
    #expect(throws: Diagnostics.self) { try PreparedQuery("SELECT * FROM similiarity()") }
  }
}
