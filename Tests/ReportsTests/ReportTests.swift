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
