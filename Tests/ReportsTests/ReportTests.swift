import Domain
import Evaluation
import Foundation
import Reports
import Testing

@Suite struct `An evaluation's report` {
  static func card(named name: String = "sasrec <b>") -> Scorecard {
    let sequences = (0..<40).map { user in (0..<4 + user % 30).map { ItemToken(($0 + user) % 30) } }
    let split = LeaveOneOut(SequenceDataset(itemCount: 30, sequences: sequences))
    var card = Scorecard(
      [
        Contender(name, .model) { one in
          var scores = [Float](repeating: 0, count: 30)
          if let last = one.history.last { scores[(last.index + 1) % 30] = 1 }
          return scores
        }
      ], on: split, dataset: "A & B")
    card.curves = [
      Scorecard.Curve(
        name: "sasrec",
        points: (1...12).map {
          .init(epoch: $0, loss: 5 / Double($0), validationNDCG: $0 % 3 == 0 ? 0.1 : nil)
        })
    ]
    return card
  }

  @Test func `is one page that fetches nothing and escapes every name`() throws {
    let html = Self.card().html
    #expect(!html.contains("<script") && !html.contains("http") && !html.contains("url("))
    #expect(!html.contains("sasrec <b>") && html.contains("sasrec &lt;b&gt;"))
    #expect(html.contains("A &amp; B"))
    #expect(!html.contains("nan") && !html.contains("inf\""))
  }

  @Test func `is well formed`() throws {
    // What a browser forgives, an XML parser does not: every tag but the void ones is closed.
    var body = Self.card().html
    body = body.replacingOccurrences(of: "<!doctype html>", with: "")
    for void in ["meta charset=\"utf-8\"", "hr"] {
      body = body.replacingOccurrences(of: "<\(void)>", with: "<\(void)/>")
    }
    body = body.replacing(/<meta name=[^>]*>/, with: "")
    var open: [Substring] = []
    for tag in body.matches(of: /<(\/?)([a-z0-9]+)[^>]*?(\/?)>/) {
      if !tag.3.isEmpty { continue }
      if tag.1.isEmpty { open.append(tag.2) } else { #expect(open.popLast() == tag.2) }
    }
    #expect(open.isEmpty)
  }

  @Test func `draws each line, segment and epoch that was judged`() {
    let card = Self.card()
    let html = card.html
    let dots = html.ranges(of: "<circle ").count
    // Two plots of intervals, ten tenths for each line, four judged epochs.
    #expect(dots == card.lines.count * 2 + card.lines.count * 10 + 4)
    #expect(
      html.ranges(of: "<rect ").count == (card.lines.first?.segments.count ?? 0) * card.lines.count)
  }

  @Test func `is a table in a terminal`() {
    let card = Self.card(named: "sasrec")
    let text = card.text()
    let rows = text.split(separator: "\n").filter { $0.hasPrefix("sasrec") }
    #expect(
      rows.contains { $0.contains(fixed(card.lines[0].estimate(.ndcg, at: 10)?.value ?? 0, 4)) })
    #expect(text.contains("last-item transition  (baseline)"))
    #expect(text.contains(card.protocolText))
    #expect(!text.contains(" \n"))
  }

  @Test func `writes numbers in full`() {
    #expect(fixed(0.12345, 4) == "0.1235" && fixed(-0.00004, 4) == "0.0000")
    #expect(fixed(12, 0) == "12" && fixed(-1.5, 1) == "-1.5" && fixed(.nan, 2) == "-")
  }
}

@Suite struct `A search's report` {
  static let search = SearchTrials(
    name: "tuned <b>",
    trials: (0..<9).flatMap { draw -> [SearchTrials.Trial] in
      let shares = draw < 3 ? [1.0 / 9, 1] : [1.0 / 9]
      return shares.map { share in
        SearchTrials.Trial(
          policy: draw % 2 == 0 ? "sasrec" : "item-knn", name: "trial_\(draw)",
          values: [
            "rate": .double(0.001 * Double(draw + 1)),
            "kind": .string(draw % 3 == 0 ? "a & b" : "c"), "sample_seed": .int(42),
          ], share: share, ndcg: 0.01 * Double(draw) * share, recall: 0.02, seconds: 2,
          at: Double(draw) * 3 + share, isKept: draw == 1)
      }
    })

  @Test func `shows each trial in time, by length and by setting`() {
    let html = Self.search.html
    #expect(!html.contains("<script") && !html.contains("http") && !html.contains("tuned <b>"))
    #expect(html.contains("a &amp; b"))
    #expect(!html.contains("nan") && !html.contains("inf\""))
    let shown = Self.search.parameters
    #expect(shown.contains { $0.policy == "sasrec" && $0.name == "rate" })
    #expect(!shown.contains { $0.name == "sample_seed" }, "nobody searches a seed")
    // Twelve trials in time and by length, and the points of each parameter.
    #expect(
      html.ranges(of: "<circle ").count == 24 + shown.reduce(0) { $0 + $1.points.count })
    #expect(html.contains("trial_1 (kept)"))
  }

  @Test func `has the trials that were trained furthest first, in the terminal too`() {
    #expect(Self.search.ranked.prefix(3).map(\.name) == ["trial_2", "trial_1", "trial_0"])
    let lines = Self.search.text(limit: 4).split(separator: "\n")
    #expect(lines.count == 6)
    #expect(lines[1].hasPrefix("trial_2") && lines[1].contains("100 %"))
    #expect(lines[1].contains("kind=c rate=0.003"))
    #expect(lines[5] == "and 8 that were worse or shorter")
  }

  @Test func `stands in the page of an evaluation and survives its JSON`() throws {
    var card = `An evaluation's report`.card()
    card.searches = [Self.search]
    #expect(card.html.contains("What the search for tuned &lt;b&gt; tried"))
    let read = try #require(Scorecard(try JSON(parsing: Array(card.json.text.utf8))))
    #expect(read.searches == card.searches)
  }
}
