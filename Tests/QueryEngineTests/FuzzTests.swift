import Domain
import QueryEngine
import QueryLanguage
import Testing

/// Good queries, expressions and documents are damaged at random and put through everything that reads
/// them. Nothing may crash or run on without end, errors must point inside the text, what can be read
/// must print and read back, and what runs must keep its limits.
@Suite struct `Damaged input` {
  static let corpus = [
    """
    SELECT score(expression='0.7*sasrec + 0.2*clicks + 0.1*exp(-(now_seconds()-item.published)/86400)', \
    input_user_id=$user_id) AS s, diversity(score=s, strength=0.3, diversity_attributes=['language']) AS d, \
    exploration(score=d, strength=0.1, retriever=column_order(columns='published DESC', limit=100)) AS r, \
    item_id, title FROM retrieve(similarity(embedding_ref='seq', encoder='precomputed_user', \
    input_user_id=$user_id, limit=300, name='a'), column_order(columns='price ASC', limit=10, name='b')) \
    WHERE prebuilt('already_seen', input_user_id=$user_id) AND language = '$language' ORDER BY r DESC LIMIT $n
    """,
    "SELECT * FROM text_search(query='red fox', mode='lexical', fuzziness=2, name='lex') ORDER BY score(expression='rrf(\"lex\", k=60)') LIMIT 30",
    "SELECT * FROM items WHERE NOT (year BETWEEN 2000 AND 2010 OR title ILIKE '%e_%') AND language IN ('en', 'de', NULL) LIMIT 5 OFFSET 2",
    "SELECT * FROM items WHERE CASE language WHEN 'en' THEN price / 0 > 10 ELSE array_has_any(tags, ['a','b']) END AND regexp_match(title, '^(r|g)[a-z]+', 'i')",
    "SELECT * FROM items REORDER BY boosted(0.4, retriever=filter(where='kids')), column_sort(columns='price DESC'), exploration(0.2, seed=3) LIMIT 9",
    "SELECT computed_column(expression='item.price ** 2 if item.kids else -1') AS c, embedding('seq') FROM similarity(embedding_ref='seq', encoder='interaction_round_robin', input_user_id='u1') WHERE c > 4 LIMIT 3",
    "SELECT language, COUNT(*) AS n, SUM(price) FROM items WHERE year > 1995 GROUP BY language HAVING n > 1 ORDER BY n DESC NULLS FIRST LIMIT 10",
    "EXPLAIN WHY NOT item 'i3' SELECT * FROM similarity(embedding_ref='seq', input_user_id='u1') LIMIT 2; SELECT COUNT(DISTINCT user_id) FROM data.events",
    "RECOMMEND FOR HISTORY ('i1', 'i2') USING seq WHERE language = 'en' LIMIT 4 AS OF '2026-01-05'",
    "SELECT * FROM candidate_attributes($list) ORDER BY score(expression='dot(text_encoding(item, embedding_ref=\"seq\"), text_encoding(user, embedding_ref=\"seq\"))', input_user_id='u1', signal_overrides={'sasrec': 1})",
  ]

  private static let pieces = [
    "(", ")", "[", "]", "{", "}", "'", "\"", "`", ",", ".", ";", "$", "--", "\\", "\n", "*", "**",
    "||",
    "=", "<>", "NOT ", "AND ", "OR ", "CASE WHEN ", " END", "NULL", "IN ", "LIKE ", "BETWEEN ",
    "SELECT ", "FROM ", "WHERE ", "GROUP BY ", "HAVING ", "ORDER BY ", "LIMIT ", "AS OF ", "1e308",
    "-9223372036854775808", "99999999999999999999", "0", "$user_id", "$missing", "score(",
    "diversity(", "similarity(", "count(*)", "\u{0}", "é", "😀", "user.country", "item.price",
  ]

  private static func damaged(_ text: String, _ dice: inout Dice) -> String {
    var bytes = Array(text.utf8)
    for _ in 0..<dice.below(5) + 1 {
      let place = dice.below(bytes.count + 1)
      switch dice.below(6) {
      case 0: bytes.removeSubrange(place..<min(bytes.count, place + dice.below(12)))
      case 1: bytes.insert(contentsOf: dice.pick(pieces).utf8, at: place)
      case 2:
        let other = Array(dice.pick(corpus).utf8)
        let start = dice.below(other.count)
        bytes.insert(
          contentsOf: other[start..<min(other.count, start + dice.below(60))], at: place)
      case 3: bytes.insert(contentsOf: bytes.prefix(dice.below(80)), at: place)
      case 4: if place < bytes.count { bytes[place] = UInt8(truncatingIfNeeded: dice.next()) }
      default:
        let piece = dice.pick(pieces)
        bytes.insert(
          contentsOf: String(repeating: piece, count: dice.below(200)).utf8, at: place)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static let parameters: [String: JSON] = [
    "user_id": "u1", "language": "en", "n": 7,
    "list": [["item_id": "x", "price": 3], ["item_id": "i2", "tags": ["a"]]],
  ]

  private func check(_ text: String, _ source: FakeSource, _ engine: QueryEngine, seed: UInt64) {
    for one in Parser.script(text) {
      for problem in one.problems {
        if let range = problem.span?.range {
          #expect(range.upperBound <= text.utf8.count, "seed \(seed): \(text)")
        }
        #expect(!problem.description.isEmpty)
      }
      if !one.isWhole { #expect(!one.problems.isEmpty, "seed \(seed): \(text)") }
      if one.isWhole, one.problems.isEmpty {
        let printed = Printer.text(one.statement)
        let again = Parser.script(printed)
        #expect(
          again.count == 1 && again[0].statement == one.statement, "seed \(seed): \(printed)")
      }
    }
    do {
      for answer in try engine.answers(
        QueryRequest(text: text, parameters: Self.parameters), on: source)
      {
        switch answer {
        case .rows(let result), .analysis(let result), .influence(let result):
          #expect(result.rows.count <= 1000)
          #expect(result.scores.allSatisfy { $0?.isFinite ?? true }, "seed \(seed): \(text)")
        case .table(let table): #expect(table.rows.count <= 10_000)
        case .plan, .whyNot: break
        }
      }
    } catch let problems as Diagnostics {
      #expect(problems.kind != .internalError, "seed \(seed): \(text)\n\(problems)")
    } catch let problem as Diagnostic {
      #expect(problem.kind != .internalError, "seed \(seed): \(text)\n\(problem)")
    } catch {
      Issue.record("seed \(seed): \(text)\n\(error)")
    }
  }

  @Test(arguments: 0..<(TestSettings.isFull ? 400 : 10) as Range<UInt64>)
  func `of queries is refused or answered`(seed: UInt64) {
    var dice = Dice(seed &+ 7000)
    let source = FakeSource(rows: 30, seed: 5)
    let engine = QueryEngine()
    for _ in 0..<100 {
      check(Self.damaged(dice.pick(Self.corpus), &dice), source, engine, seed: seed)
    }
  }

  @Test func `leaves the good queries good`() {
    let source = FakeSource(rows: 30, seed: 5)
    for text in Self.corpus {
      let problems = Parser.script(text).flatMap(\.problems)
      #expect(problems.isEmpty, "\(text)\n\(problems)")
      #expect(throws: Never.self, "\(text)") {
        try QueryEngine().answers(
          QueryRequest(text: text, parameters: Self.parameters), on: source)
      }
    }
  }

  private static let documents = [
    #"{"type":"rank","from":"item","retrieve":[{"type":"similarity","name":"a","embedding_ref":"seq","limit":300,"query_encoder":{"type":"precomputed_user","input_user_id":"$user_id"}},{"type":"column_order","limit":100,"columns":[{"name":"price","ascending":true}]}],"filter":[{"type":"prebuilt","filter_ref":"ref:data.filters:already_seen","input_user_id":"$user_id"},{"type":"expression","expression":"language = '$language'"},{"type":"truncate","max_length":50}],"score":{"type":"score_ensemble","value_model":"0.7*sasrec + 0.2*clicks","input_user_id":"$user_id"},"reorder":[{"type":"diversity","strength":0.3,"diversity_attributes":["language"]},{"type":"exploration","strength":0.1,"retriever":{"type":"column_order","limit":10,"columns":[{"name":"price","ascending":false}]}}],"limit":5,"columns":["title"],"embeddings":["seq"]}"#,
    #"{"type":"rank","retrieve":[{"type":"text_search","input_text_query":"red","mode":{"type":"lexical","fuzziness_edit_distance":1}},{"type":"candidate_ids","item_ids":["i1","i2"]},{"type":"filter","where":"year > 3"}],"computed_columns":[{"type":"computed_column","value_model":"item.price*2","output_alias":"double_price"}],"score":{"type":"passthrough"},"reorder":[{"type":"column_sort","columns":[{"name":"double_price","ascending":false,"nulls_first":true}]},{"type":"boosted","strength":0.2,"retriever":{"type":"filter","where":"kids"}}],"limit":4,"offset":1}"#,
    #"{"type":"rank","retrieve":[{"type":"candidate_attributes","item_attributes":[{"item_id":"z","price":4},{"item_id":"i1"}]}],"score":{"type":"score_ensemble","value_model":"item.price","input_user_features":{"country":"de"},"signal_overrides":{"sasrec":1},"preserve_order":true,"output_alias":"s"}}"#,
  ]

  @Test(arguments: 0..<(TestSettings.isFull ? 400 : 10) as Range<UInt64>)
  func `of documents is refused or answered`(seed: UInt64) {
    var dice = Dice(seed &+ 9000)
    let source = FakeSource(rows: 30, seed: 5)
    let engine = QueryEngine()
    for round in 0..<60 {
      let text =
        round < Self.documents.count
        ? Self.documents[round] : Self.damaged(dice.pick(Self.documents), &dice)
      guard let document = try? JSON(parsing: text) else { continue }
      do {
        let written = try QueryConfig.text(document)
        check(written, source, engine, seed: seed)
        if round < Self.documents.count {
          #expect(throws: Never.self, "\(written)") {
            try engine.run(
              QueryRequest(text: written, parameters: Self.parameters), on: source)
          }
        }
      } catch {
        for problem in error.all { #expect(!problem.description.isEmpty) }
      }
    }
  }

  @Test(arguments: 0..<(TestSettings.isFull ? 200 : 5) as Range<UInt64>)
  func `of expressions gives finite numbers or none`(seed: UInt64) {
    var dice = Dice(seed &+ 11_000)
    let source = FakeSource(rows: 20, seed: 5)
    let engine = QueryEngine()
    let pieces = [
      "sasrec", "item.price", "item.year", "1e308", "0", "-1", "2", "(", ")", " + ", " - ", " * ",
      " / ", " % ", " ** ", " and ", " or ", " not ", " if ", " else ", " < ", " == ", "exp(",
      "log(", "sqrt(", "pow(", "coalesce(", "min(", ",", "round(", "None", "item.language", "'en'",
      "user.age", "retrieval.get_rank(", "case when ", " then ", " end",
    ]
    for _ in 0..<200 {
      let text = (0..<dice.below(14) + 1).map { _ in dice.pick(pieces) }.joined()
      guard let formula = try? Parser.formula(text) else { continue }
      let printed = Printer.text(formula)
      let isSame = (try? Parser.formula(printed)) == formula
      #expect(isSame, "seed \(seed): \(text) printed \(printed)")
      check(
        "SELECT * FROM items ORDER BY score(expression=\(Printer.quoted(printed)), input_user_id='u1') LIMIT 20",
        source, engine, seed: seed)
    }
  }
}
