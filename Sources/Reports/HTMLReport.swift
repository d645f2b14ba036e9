import Domain
package import Evaluation

extension Scorecard {
  /// The evaluation as one HTML page: no scripts, no fonts, nothing that is fetched.
  package var html: String { HTMLReport.page([self]) }
}

/// Evaluations as one page that needs nothing beside itself.
package enum HTMLReport {
  package static func page(_ cards: [Scorecard]) -> String {
    let title =
      cards.first.map { "Evaluation of \($0.lines.first?.name ?? "models")" } ?? "Evaluation"
    return document(title: title, body: cards.map(section).joined(separator: "\n<hr>\n"))
  }

  /// A page around some sections.
  static func document(title: String, body: String) -> String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>\(escaped(title))</title>
    <style>\(style)</style>
    </head>
    <body>
    <main>
    \(body)
    </main>
    </body>
    </html>

    """
  }

  private static func section(_ card: Scorecard) -> String {
    let k = card.depths.contains(10) ? 10 : card.depths.first ?? 10
    var html = "<header><p class=\"over\">Evaluation · \(escaped(card.dataset.name))</p>"
    html += "<h1>\(escaped(card.lines.first?.name ?? "No model"))</h1>"
    if let verdict = card.verdict {
      html += "<p class=\"verdict \(verdict.kind.rawValue)\">\(marked(verdict.text))</p>"
    }
    html += "</header>"
    html += tiles(card, k)
    html += legend(card)
    html += "<div class=\"pair\">"
    html += figure(
      "NDCG@\(k)", "dot: mean over cases; line: 95 % bootstrap interval",
      card.intervals(.ndcg, at: k))
    html += figure(
      "Recall@\(k)", "the share of right items among the first \(k)", card.intervals(.recall, at: k)
    )
    html += figure("By segment", "NDCG@10; thin line: 95 % interval", card.segmentBars())
    html += figure(
      "Popularity bias", "where the first \(k) recommendations fall", card.popularityCurve(at: k))
    for curve in card.curves where curve.points.count > 1 {
      html += figure(
        "Training of \(curve.name)", "grey, left: loss; colour, right: validation NDCG@10",
        card.learningCurve(curve))
    }
    html += "</div>"
    html += "<h2>All figures</h2>" + allFigures(card)
    html += "<h2>What the lists are like</h2>" + lists(card, k)
    if let first = card.lines.first, !first.segments.isEmpty {
      html += "<h2>Segments</h2>" + segments(card)
    }
    html += card.searches.map { $0.section() }.joined()
    html += "<h2>How far to trust this</h2>" + trust(card)
    return html
  }

  private static func tiles(_ card: Scorecard, _ k: Int) -> String {
    guard let first = card.lines.first else { return "" }
    func tile(_ name: String, _ value: String, _ detail: String) -> String {
      "<div class=\"tile\"><span>\(escaped(name))</span><b>\(escaped(value))</b><small>\(escaped(detail))</small></div>"
    }
    let ndcg = first.estimate(.ndcg, at: k)
    let recall = first.estimate(.recall, at: k)
    var html = "<div class=\"tiles\">"
    html += tile("NDCG@\(k)", value(ndcg), interval(ndcg))
    html += tile("Recall@\(k)", value(recall), interval(recall))
    if let lists = first.lists.first(where: { $0.k == k }) {
      html += tile(
        "Coverage@\(k)", fixed(lists.figures.coverage * 100, 1) + " %", "of all items recommended")
    }
    if let order = card.sequentiality {
      html += tile(
        "Order", order.verdict.rawValue + " signal",
        "NDCG@10 \(signed(-order.drop * 100).dropLast(3)) % when shuffled")
    }
    html += tile(
      "Data", grouped(card.dataset.events) + " events",
      "\(grouped(card.dataset.users)) users, \(grouped(card.dataset.items)) items")
    return html + "</div>"
  }

  private static func legend(_ card: Scorecard) -> String {
    "<p class=\"legend\">"
      + card.lines.indices.map {
        "<span><i class=\"\(card.style($0))\"></i>\(escaped(card.lines[$0].name))</span>"
      }.joined() + "</p>"
  }

  static func figure(_ title: String, _ caption: String, _ drawing: String) -> String {
    drawing.isEmpty
      ? ""
      : "<figure><figcaption><b>\(escaped(title))</b> \(escaped(caption))</figcaption>\(drawing)</figure>"
  }

  private static func allFigures(_ card: Scorecard) -> String {
    var header = ["line"]
    for metric in Metric.allCases { for k in card.depths { header.append("\(metric.title)@\(k)") } }
    header += ["first − this, NDCG@10", "p"]
    return htmlTable(
      header,
      card.lines.map { line in
        [line.name]
          + Metric.allCases.flatMap { metric in
            card.depths.map { value(line.estimate(metric, at: $0)) }
          }
          + [
            line.behindFirst.map { signed($0.difference.value) + " " + interval($0.difference) }
              ?? "",
            line.behindFirst.map { $0.pValue < 0.001 ? "< 0.001" : fixed($0.pValue, 3) } ?? "",
          ]
      })
  }

  private static func lists(_ card: Scorecard, _ k: Int) -> String {
    htmlTable(
      ["first \(k)", "coverage", "novelty (bits)", "mean popularity", "personalisation"],
      card.lines.compactMap { line in
        line.lists.first { $0.k == k }.map {
          [
            line.name, fixed($0.figures.coverage, 4), fixed($0.figures.novelty, 2),
            fixed($0.figures.popularity, 4), fixed($0.figures.personalisation, 4),
          ]
        }
      })
  }

  private static func segments(_ card: Scorecard) -> String {
    guard let first = card.lines.first else { return "" }
    return htmlTable(
      ["segment", "what", "cases"] + card.lines.map { $0.name + " NDCG@10" },
      first.segments.map { segment in
        [segment.segment, segment.explanation, grouped(segment.cases)]
          + card.lines.map { line in
            let found = line.segments.first { $0.segment == segment.segment }?.ndcg
            return value(found) + " " + interval(found)
          }
      })
  }

  private static func trust(_ card: Scorecard) -> String {
    var items = [escaped(card.protocolText) + "."]
    items += card.omissions.map { "\(grouped($0.count)) \(escaped($0.what))." }
    if let order = card.sequentiality { items.append(marked(order.text)) }
    for finding in card.leaks?.findings ?? [] {
      let mark = finding.gravity == .fault ? "<b class=\"fault\">Leak.</b> " : ""
      items.append(mark + marked(finding.text))
    }
    items.append(
      "Data set fingerprint <code>\(escaped(card.dataset.fingerprint))</code>: the same events in the "
        + "same order. \(grouped(card.dataset.ties)) events share user and time with the event before "
        + "them and stand in the order of their arrival.")
    items += card.notes.map(marked)
    return "<ul>" + items.map { "<li>\($0)</li>" }.joined() + "</ul>"
  }

  static func htmlTable(_ header: [String], _ rows: [[String]]) -> String {
    let head = header.map { "<th>\(escaped($0))</th>" }.joined()
    let body = rows.map { row in
      "<tr>" + row.map { "<td>\(escaped($0))</td>" }.joined() + "</tr>"
    }.joined()
    return
      "<div class=\"scroll\"><table><thead><tr>\(head)</tr></thead><tbody>\(body)</tbody></table></div>"
  }

  /// Text whose back-quoted parts are code.
  private static func marked(_ text: String) -> String {
    text.split(separator: "`", omittingEmptySubsequences: false).enumerated().map { place, part in
      place % 2 == 1 ? "<code>\(escaped(String(part)))</code>" : escaped(String(part))
    }.joined()
  }

  private static func grouped(_ number: Int) -> String {
    let digits = String(number)
    return digits.enumerated().map { place, digit in
      let left = digits.count - place
      return place > 0 && left % 3 == 0 ? "\u{202F}\(digit)" : String(digit)
    }.joined()
  }

  private static let style = """
    :root { color-scheme: light dark; --ink: #1c1d22; --soft: #63666f; --paper: #fbfaf7; --card: #ffffff;
      --rule: #e4e2db; --c0: #b4451f; --c1: #1f6f8b; --c2: #6a4c93; --c3: #3a7d44; --c4: #b08900;
      --g0: #7d8088; --g1: #a3a5ab; --g2: #5c5e66; --g3: #bfc1c5; --r0: #2f7d5b; }
    @media (prefers-color-scheme: dark) { :root { --ink: #eceae4; --soft: #a1a3aa; --paper: #17181b;
      --card: #202226; --rule: #34363c; --c0: #f08a5d; --c1: #62b6cb; --c2: #b79ced; --c3: #84c08d;
      --c4: #e5c158; --g0: #8e9199; --g1: #6d7078; --g2: #b2b4ba; --g3: #55585f; --r0: #6fcf9f; } }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--paper); color: var(--ink);
      font: 15px/1.5 ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", sans-serif; }
    main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px; }
    h1 { font-size: 34px; line-height: 1.15; margin: 0 0 8px; letter-spacing: -0.01em; }
    h2 { font-size: 18px; margin: 36px 0 8px; }
    .over { margin: 0; color: var(--soft); }
    .verdict { font-size: 18px; margin: 0 0 24px; padding-left: 14px; border-left: 4px solid var(--g1); max-width: 70ch; }
    .verdict.ahead { border-color: var(--c3); } .verdict.behind { border-color: var(--c0); }
    .tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 20px; }
    .tile { flex: 1 1 160px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 16px; }
    .tile span, .tile small { display: block; color: var(--soft); } .tile b { font-size: 23px; font-variant-numeric: tabular-nums; }
    .legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 12px; color: var(--soft); }
    .legend i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 6px; background: currentColor; }
    .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px; align-items: start; }
    figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; }
    figcaption { color: var(--soft); margin-bottom: 8px; } figcaption b { color: var(--ink); margin-right: 6px; }
    svg { width: 100%; height: auto; display: block; }
    svg text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); } svg text.tick { fill: var(--soft); font-size: 11px; }
    .grid { stroke: var(--rule); stroke-width: 1; } .thin { stroke: var(--ink); stroke-width: 1; opacity: .45; }
    .whisker { stroke-width: 2.5; stroke-linecap: round; opacity: .55; } .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
    .c0 { fill: var(--c0); stroke: var(--c0); color: var(--c0); } .c1 { fill: var(--c1); stroke: var(--c1); color: var(--c1); }
    .c2 { fill: var(--c2); stroke: var(--c2); color: var(--c2); } .c3 { fill: var(--c3); stroke: var(--c3); color: var(--c3); }
    .c4 { fill: var(--c4); stroke: var(--c4); color: var(--c4); } .g0 { fill: var(--g0); stroke: var(--g0); color: var(--g0); }
    .g1 { fill: var(--g1); stroke: var(--g1); color: var(--g1); } .g2 { fill: var(--g2); stroke: var(--g2); color: var(--g2); }
    .g3 { fill: var(--g3); stroke: var(--g3); color: var(--g3); } .r0 { fill: var(--r0); stroke: var(--r0); color: var(--r0); }
    polyline.curve { fill: none; } rect { stroke: none !important; }
    .scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
    th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
    th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child, .words th:last-child, .words td:last-child { text-align: left; }
    ul { padding-left: 20px; max-width: 90ch; } li { margin: 4px 0; } code { font: 13px ui-monospace, monospace; }
    .fault { color: var(--c0); } hr { border: 0; border-top: 1px solid var(--rule); margin: 48px 0; }
    """
}
