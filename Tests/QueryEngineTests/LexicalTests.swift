import Columns
import Domain
import QueryEngine
import Testing

@Suite struct `Searching words` {
  @Test func `cuts English words to their stems`() {
    let settings = LexicalSettings()
    #expect(
      settings.terms("Caresses ponies cats feed agreed plastered motoring hopping falling hoping")
        == [
          "caress", "poni", "cat", "feed", "agre", "plaster", "motor", "hop", "fall", "hope",
        ])
    #expect(
      settings.terms("relational conditional vietnamization predication operator feudalism")
        == ["relat", "condit", "vietnam", "predic", "oper", "feudal"])
    #expect(
      settings.terms("triplicate formative electrical hopeful goodness revival adjustable adoption")
        == ["triplic", "form", "electr", "hope", "good", "reviv", "adjust", "adopt"])
    #expect(
      settings.terms("happy sky controll roll probate rate cease") == [
        "happi", "sky", "control", "roll", "probat", "rate", "ceas",
      ])
  }

  @Test func `leaves out stop words, folds marks and lowers case as the settings say`() {
    #expect(
      LexicalSettings().terms("The Ünder-Ça of Łódź, straße") == ["under", "ca", "lodz", "strass"])
    let plain = LexicalSettings(
      tokenizer: .whitespace, lowersCase: false, foldsToASCII: false, removesStopWords: false)
    #expect(plain.terms("The Ünder-Ça  of") == ["The", "Ünder-Ça", "of"])
    let pieces = LexicalSettings(tokenizer: .ngram(lengths: 2...3, prefixOnly: false))
    #expect(pieces.terms("Abcd") == ["ab", "abc", "bc", "bcd", "cd"])
    let prefixes = LexicalSettings(tokenizer: .ngram(lengths: 1...3, prefixOnly: true))
    #expect(prefixes.terms("abcd") == ["a", "ab", "abc"])
    #expect(LexicalSettings(mostTermLength: 3).terms("red greenish") == ["red"])
  }

  private func found(_ text: String, _ fuzziness: Int = 0) throws -> QueryResult {
    try QueryEngine().run(
      QueryRequest(
        text: "SELECT title FROM text_search(query=$q, fuzziness=\(fuzziness)) LIMIT 500",
        parameters: ["q": .string(text)]), on: FakeSource(rows: 400, seed: 8))
  }

  @Test func `finds every row with a word and no other, best first`() throws {
    let result = try found("fox")
    #expect(result.rows.count > 5)
    for position in result.rows.indices {
      guard case .string(let title) = result.columns[0][position] else {
        Issue.record("no title")
        continue
      }
      #expect(title.contains("fox"))
    }
    let scores = result.scores.compactMap { $0 }
    #expect(scores == scores.sorted(by: >) && scores.count == result.rows.count)
    let source = FakeSource(rows: 400, seed: 8)
    let expected = source.listed.rows.filter {
      if case .string(let title) = source.cells[$0][1] { title.contains("fox") } else { false }
    }
    #expect(Set(result.rows.map(\.index)) == Set(expected))
  }

  @Test func `finds misspelt words within the edits that are allowed`() throws {
    #expect(try found("fxo").rows.isEmpty)
    #expect(try found("fix", 1).rows.count >= found("fox").rows.count)
    #expect(try found("grean", 1).rows == found("green").rows)
    #expect(try found("", 2).rows.isEmpty)
    #expect(try found("the of and").rows.isEmpty)
  }

  @Test func `weighs rare words more than common ones`() throws {
    let both = try found("red fox")
    guard case .string(let first) = both.columns[0][0] else {
      Issue.record("no title")
      return
    }
    #expect(first.contains("red fox"))
  }

  /// An index that followed a catalog's changes answers as one that is made from scratch.
  @Test(arguments: 0..<6 as Range<UInt64>)
  func `follows changes of the catalog`(seed: UInt64) throws {
    var source = FakeSource(rows: 150, seed: seed)
    var dice = Dice(seed)
    let following = QueryEngine()
    for step in 0..<12 {
      for _ in 0..<dice.below(6) {
        let isNew = dice.chance(40)
        let row = isNew ? source.items.appendEmptyRow() : dice.below(source.items.rowCount)
        if isNew { source.listed.grow(to: row + 1, with: true) }
        var cells = source.cells[dice.below(source.cells.count)]
        cells[0] = .string("i\(row)")
        if dice.chance(50) { cells[1] = .string(dice.pick(["brown fox", "new red", "grey sea"])) }
        if dice.chance(20) { cells[1] = .null }
        source.items.setRow(row, to: cells)
      }
      source.catalogVersion += 1
      for words in ["red", "fox grey", "sea new brown", "gren"] {
        let request = QueryRequest(
          text: "SELECT * FROM text_search(query=$q, fuzziness=1, limit=1000) LIMIT 1000",
          parameters: ["q": .string(words)])
        let followed = try following.run(request, on: source)
        let fresh = try QueryEngine().run(request, on: source)
        let comment = Comment(rawValue: "seed \(seed), step \(step): \(words)")
        #expect(followed.rows == fresh.rows, comment)
        #expect(
          zip(followed.scores, fresh.scores).allSatisfy { abs(($0 ?? 0) - ($1 ?? 0)) < 1e-9 },
          comment)
      }
    }
  }
}
