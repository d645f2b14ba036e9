import Evaluation

extension Scorecard {
  /// The colour of a line of the card: models in colours, baselines in greys.
  func style(_ place: Int) -> String {
    guard lines.indices.contains(place) else { return "c0" }
    let same = lines[..<place].count { $0.role == lines[place].role }
    switch lines[place].role {
    case .model: return "c\(same % 5)"
    case .baseline: return "g\(same % 4)"
    case .reference: return "r0"
    }
  }

  /// One metric of every line as a dot with its interval.
  func intervals(_ metric: Metric, at k: Int) -> String {
    let rowHeight = 26.0
    let left = 190.0
    var drawing = Drawing(width: 560, height: Double(lines.count) * rowHeight + 34)
    let estimates = lines.map { $0.estimate(metric, at: k) }
    let scale = Scale(
      estimates.compactMap { $0 }.flatMap { [$0.low, $0.high] }, from: left, to: 545,
      startsAtZero: true)
    let bottom = Double(lines.count) * rowHeight + 8
    for mark in scale.marks {
      drawing.line(scale.place(mark), 8, scale.place(mark), bottom, "grid")
      drawing.text(
        fixed(mark, max(2, scale.digits)), scale.place(mark), bottom + 16, .middle, "tick")
    }
    for (place, line) in lines.enumerated() {
      let y = 8 + (Double(place) + 0.5) * rowHeight
      drawing.text(shortened(line.name, 27), left - 10, y + 4, .end)
      guard let estimate = estimates[place] else { continue }
      let style = style(place)
      drawing.line(scale.place(estimate.low), y, scale.place(estimate.high), y, "whisker \(style)")
      drawing.dot(
        scale.place(estimate.value), y, 5, style,
        tip: "\(line.name): \(value(estimate)) \(interval(estimate))")
    }
    return drawing.svg("\(metric.title)@\(k) of each line with its interval")
  }

  /// NDCG@10 of the first lines in each segment.
  func segmentBars() -> String {
    guard let first = lines.first, !first.segments.isEmpty else { return "" }
    let shown = Array(lines.indices.prefix(5))
    let barHeight = 11.0
    let rowHeight = Double(shown.count) * barHeight + 16
    let left = 190.0
    var drawing = Drawing(width: 560, height: Double(first.segments.count) * rowHeight + 30)
    func estimate(_ line: Int, _ segment: String) -> Estimate? {
      lines[line].segments.first { $0.segment == segment }?.ndcg
    }
    let all = first.segments.flatMap { segment in
      shown.compactMap { estimate($0, segment.segment)?.high }
    }
    let scale = Scale(all, from: left, to: 545, startsAtZero: true)
    let bottom = Double(first.segments.count) * rowHeight
    for mark in scale.marks {
      drawing.line(scale.place(mark), 0, scale.place(mark), bottom, "grid")
      drawing.text(
        fixed(mark, max(2, scale.digits)), scale.place(mark), bottom + 16, .middle, "tick")
    }
    for (row, segment) in first.segments.enumerated() {
      let top = Double(row) * rowHeight + 8
      drawing.text(segment.segment, left - 10, top + rowHeight / 2 - 8, .end)
      drawing.text("\(segment.cases) cases", left - 10, top + rowHeight / 2 + 6, .end, "tick")
      for (i, line) in shown.enumerated() {
        guard let found = estimate(line, segment.segment) else { continue }
        let y = top + Double(i) * barHeight
        drawing.bar(
          left, y, scale.place(found.value) - left, barHeight - 2, style(line),
          tip: "\(lines[line].name), \(segment.segment): \(value(found)) \(interval(found))")
        drawing.line(
          scale.place(found.low), y + (barHeight - 2) / 2, scale.place(found.high),
          y + (barHeight - 2) / 2, "thin")
      }
    }
    return drawing.svg("NDCG@10 of the first lines in each segment")
  }

  /// The share of recommendations on each tenth of the catalogue, most popular tenth first.
  func popularityCurve(at k: Int) -> String {
    let curves = lines.indices.compactMap { place in
      lines[place].lists.first { $0.k == k }.map { (place, $0.figures.tenths) }
    }
    var drawing = Drawing(width: 560, height: 260)
    let across = Scale([1, 10], from: 60, to: 540, startsAtZero: false, count: 9)
    let up = Scale(curves.flatMap(\.1), from: 220, to: 12, startsAtZero: true)
    for mark in up.marks {
      drawing.line(60, up.place(mark), 540, up.place(mark), "grid")
      drawing.text(
        fixed(mark * 100, up.digits > 2 ? 1 : 0) + " %", 52, up.place(mark) + 4, .end, "tick")
    }
    for tenth in 1...10 {
      drawing.text("\(tenth)", across.place(Double(tenth)), 236, .middle, "tick")
    }
    drawing.text("tenth of the catalogue, the most popular first", 300, 254, .middle, "tick")
    for (place, tenths) in curves {
      let points = tenths.enumerated().map { tenth, share in
        (across.place(Double(tenth + 1)), up.place(share))
      }
      drawing.path(points, "curve \(style(place))")
      for (tenth, point) in points.enumerated() {
        drawing.dot(
          point.0, point.1, 3, style(place),
          tip: "\(lines[place].name), tenth \(tenth + 1): \(fixed(tenths[tenth] * 100, 1)) %")
      }
    }
    return drawing.svg("Share of recommendations by popularity of the item")
  }

  /// Loss and validation NDCG@10 by epoch.
  func learningCurve(_ curve: Curve) -> String {
    var drawing = Drawing(width: 560, height: 250)
    let epochs = curve.points.map { Double($0.epoch) }
    let across = Scale([0] + epochs, from: 56, to: 500, startsAtZero: true, count: 8)
    let losses = Scale(curve.points.map(\.loss), from: 210, to: 14, startsAtZero: false)
    let judged = curve.points.compactMap { point in
      point.validationNDCG.map { (point.epoch, $0) }
    }
    for mark in losses.marks {
      drawing.line(56, losses.place(mark), 500, losses.place(mark), "grid")
      drawing.text(fixed(mark, max(1, losses.digits)), 48, losses.place(mark) + 4, .end, "tick")
    }
    for mark in across.marks where mark >= 0 {
      drawing.text(fixed(mark, 0), across.place(mark), 226, .middle, "tick")
    }
    drawing.text("epoch", 278, 244, .middle, "tick")
    drawing.path(
      curve.points.map { (across.place(Double($0.epoch)), losses.place($0.loss)) }, "curve g1")
    if !judged.isEmpty {
      let quality = Scale(judged.map(\.1), from: 210, to: 14, startsAtZero: false)
      for mark in quality.marks {
        drawing.text(
          fixed(mark, max(2, quality.digits)), 508, quality.place(mark) + 4, .start, "tick")
      }
      drawing.path(
        judged.map { (across.place(Double($0.0)), quality.place($0.1)) }, "curve c0")
      for (epoch, ndcg) in judged {
        drawing.dot(
          across.place(Double(epoch)), quality.place(ndcg), 3, "c0",
          tip: "epoch \(epoch): validation NDCG@10 \(fixed(ndcg, 4))")
      }
    }
    return drawing.svg("Loss and validation NDCG@10 of \(curve.name) by epoch")
  }
}

func shortened(_ text: String, _ count: Int) -> String {
  text.count <= count ? text : text.prefix(count - 1) + "…"
}
