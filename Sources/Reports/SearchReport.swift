import Domain
package import Evaluation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension SearchTrials {
  /// The trials as a table for a terminal, best first.
  ///
  /// - Parameters:
  ///   - bold: how a heading is marked.
  ///   - limit: lines at most.
  package func text(limit: Int = 30, bold: (String) -> String = { $0 }) -> String {
    let shown = ranked.prefix(limit)
    let hasPolicies = policies.count > 1
    let hasShares = Set(trials.map(\.share)).count > 1
    // Columns but the first stand to the right; values of one width read better.
    let width = shown.map { described($0).count + 7 }.max() ?? 0
    func filled(_ text: String) -> String {
      text + String(repeating: " ", count: max(0, width - text.count))
    }
    let body = table(
      ["trial", "NDCG@10", "Recall@10", "seconds"] + (hasShares ? ["trained"] : [])
        + [filled("values")],
      shown.map { trial in
        [
          hasPolicies ? trial.name : "\((trials.firstIndex(of: trial) ?? 0) + 1)",
          fixed(trial.ndcg, 4), fixed(trial.recall, 4), fixed(trial.seconds, 1),
        ] + (hasShares ? [fixed(trial.share * 100, 0) + " %"] : [])
          + [filled(described(trial) + (trial.isKept ? " (kept)" : ""))]
      }, bold: bold)
    return trials.count > shown.count
      ? body + "\nand \(trials.count - shown.count) that were worse or shorter" : body
  }

  /// The search as one HTML page: no scripts, no fonts, nothing that is fetched.
  package var html: String {
    HTMLReport.document(title: "Search for \(name)", body: section(isWhole: true))
  }

  /// The search as part of a page.
  func section(isWhole: Bool = false) -> String {
    guard let best = ranked.first else { return "" }
    var html =
      isWhole
      ? "<header><p class=\"over\">Search</p><h1>\(escaped(name))</h1></header>"
      : "<h2>What the search for \(escaped(name)) tried</h2>"
    html +=
      "<p>\(trials.count) trials on the validation events; the test events were not looked at. Best of "
      + "those trained furthest: <b>\(escaped(best.name))</b>, NDCG@10 \(fixed(best.ndcg, 4))"
      + (best.values.isEmpty ? "" : " (\(escaped(described(best))))") + ".</p>"
    html +=
      "<p class=\"legend\">"
      + policies.map { "<span><i class=\"\(style($0))\"></i>\(escaped($0))</span>" }.joined()
      + "</p><div class=\"pair\">"
    html += HTMLReport.figure(
      "In time", "validation NDCG@10 of each trial at its end; line: the best so far", timePlot())
    html += HTMLReport.figure(
      "By length of training", "lines join trials of the same settings", sharePlot())
    for parameter in parameters.prefix(12) {
      html += HTMLReport.figure(
        parameter.name, "of \(parameter.policy), against validation NDCG@10", plot(parameter))
    }
    html += "</div><h2>Trials</h2><div class=\"words\">"
    html +=
      HTMLReport.htmlTable(
        ["trial", "NDCG@10", "Recall@10", "seconds", "trained", "values"],
        ranked.prefix(60).map { trial in
          [
            trial.name + (trial.isKept ? " (kept)" : ""), fixed(trial.ndcg, 4),
            fixed(trial.recall, 4), fixed(trial.seconds, 1), fixed(trial.share * 100, 0) + " %",
            described(trial),
          ]
        }) + "</div>"
    return html
  }

  private func described(_ trial: Trial) -> String {
    trial.values.sorted { $0.key < $1.key }
      .filter { !["seed", "sample_seed"].contains($0.key) }
      .map { "\($0.key)=\(word($0.value))" }.joined(separator: " ")
  }

  private func word(_ value: JSON) -> String {
    if case .double(let number) = value {
      // Four significant places are enough to tell draws apart.
      var digits = 0
      var size = abs(number)
      while digits < 8, size > 0, size < 1000 {
        size *= 10
        digits += 1
      }
      var text = fixed(number, digits)
      while text.contains("."), let last = text.last, last == "0" || last == "." {
        text.removeLast()
        if last == "." { break }
      }
      return text
    }
    return value.string ?? value.text
  }

  /// The colour of a policy.
  private func style(_ policy: String) -> String {
    let place = policies.firstIndex(of: policy) ?? 0
    return place < 5 ? "c\(place)" : "g\((place - 5) % 4)"
  }

  private func tip(_ trial: Trial) -> String {
    "\(trial.name): NDCG@10 \(fixed(trial.ndcg, 4)), \(fixed(trial.share * 100, 0)) % trained, "
      + "\(fixed(trial.seconds, 1)) s. \(described(trial))"
  }

  // MARK: Plots

  private static let frame = (left: 60.0, right: 540.0, top: 14.0, bottom: 210.0)

  private func drawn(
    up: Scale, across: Scale, unit: String, _ body: (inout Drawing) -> Void
  ) -> String {
    let frame = Self.frame
    var drawing = Drawing(width: 560, height: 250)
    for mark in up.marks {
      drawing.line(frame.left, up.place(mark), frame.right, up.place(mark), "grid")
      drawing.text(
        fixed(mark, max(2, up.digits)), frame.left - 8, up.place(mark) + 4, .end, "tick")
    }
    for mark in across.marks where mark >= 0 || across.range.lowerBound < 0 {
      drawing.text(
        fixed(mark, across.digits), across.place(mark), frame.bottom + 16, .middle, "tick")
    }
    drawing.text(unit, (frame.left + frame.right) / 2, frame.bottom + 34, .middle, "tick")
    body(&drawing)
    return drawing.svg("Validation NDCG@10 against \(unit)")
  }

  private var quality: Scale {
    Scale(
      trials.map(\.ndcg), from: Self.frame.bottom, to: Self.frame.top, startsAtZero: true)
  }

  private func timePlot() -> String {
    let up = quality
    let across = Scale(
      trials.map(\.at), from: Self.frame.left, to: Self.frame.right, startsAtZero: true, count: 8)
    return drawn(up: up, across: across, unit: "seconds") { drawing in
      var best = 0.0
      var steps: [(Double, Double)] = []
      for trial in trials.sorted(by: { $0.at < $1.at }) where trial.ndcg > best {
        if best > 0 { steps.append((across.place(trial.at), up.place(best))) }
        best = trial.ndcg
        steps.append((across.place(trial.at), up.place(best)))
      }
      if let last = trials.map(\.at).max() { steps.append((across.place(last), up.place(best))) }
      drawing.path(steps, "curve g1")
      for trial in trials {
        drawing.dot(
          across.place(trial.at), up.place(trial.ndcg), 3.5, style(trial.policy), tip: tip(trial))
      }
    }
  }

  private func sharePlot() -> String {
    let shares = Set(trials.map(\.share))
    guard shares.count > 1 else { return "" }
    let up = quality
    let across = Scale(
      shares.map { $0 * 100 }, from: Self.frame.left, to: Self.frame.right, startsAtZero: true)
    return drawn(up: up, across: across, unit: "% of the epochs") { drawing in
      var groups: [[String: JSON]: [Trial]] = [:]
      for trial in trials { groups[trial.values, default: []].append(trial) }
      for group in groups.values.map({ $0.sorted { $0.share < $1.share } }).sorted(by: {
        ($0[0].name, $0[0].at) < ($1[0].name, $1[0].at)
      }) where group.count > 1 {
        drawing.path(
          group.map { (across.place($0.share * 100), up.place($0.ndcg)) },
          "curve \(style(group[0].policy))")
      }
      for trial in trials {
        drawing.dot(
          across.place(trial.share * 100), up.place(trial.ndcg), 3.5, style(trial.policy),
          tip: tip(trial))
      }
    }
  }

  private func plot(_ parameter: Parameter) -> String {
    let up = Scale(
      parameter.points.map(\.trial.ndcg), from: Self.frame.bottom, to: Self.frame.top,
      startsAtZero: false)
    let numbers = parameter.points.compactMap(\.value.number)
    if numbers.count == parameter.points.count {
      // Values over more than two orders of ten, none of them 0, stand by their logarithms.
      let least = numbers.min() ?? 1
      let isLogarithmic = least > 0 && (numbers.max() ?? 1) / least > 30
      let places = numbers.map { isLogarithmic ? log10($0) : $0 }
      let across = Scale(
        places, from: Self.frame.left, to: Self.frame.right, startsAtZero: false)
      return drawn(
        up: up, across: across,
        unit: isLogarithmic ? "log10(\(parameter.name))" : parameter.name
      ) { drawing in
        for (place, point) in zip(places, parameter.points) {
          drawing.dot(
            across.place(place), up.place(point.trial.ndcg), 3.5, style(parameter.policy),
            tip: tip(point.trial))
        }
      }
    }
    let words = Set(parameter.points.map { word($0.value) }).sorted()
    let across = Scale(
      [0, Double(words.count)], from: Self.frame.left, to: Self.frame.right, startsAtZero: true,
      count: max(1, words.count))
    var drawing = Drawing(width: 560, height: 250)
    for mark in up.marks {
      drawing.line(Self.frame.left, up.place(mark), Self.frame.right, up.place(mark), "grid")
      drawing.text(
        fixed(mark, max(2, up.digits)), Self.frame.left - 8, up.place(mark) + 4, .end, "tick")
    }
    for (i, word) in words.enumerated() {
      drawing.text(
        shortened(word, 22), across.place(Double(i) + 0.5), Self.frame.bottom + 16, .middle, "tick")
    }
    for point in parameter.points {
      guard let i = words.firstIndex(of: word(point.value)) else { continue }
      drawing.dot(
        across.place(Double(i) + 0.5), up.place(point.trial.ndcg), 3.5, style(parameter.policy),
        tip: tip(point.trial))
    }
    return drawing.svg("Validation NDCG@10 against \(parameter.name) of \(parameter.policy)")
  }
}
