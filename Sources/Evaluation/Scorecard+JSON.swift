package import Domain

extension Scorecard {
  package var json: JSON {
    .object([
      .init("format", .int(Self.format)),
      .init(
        "dataset",
        [
          "name": .string(dataset.name), "users": .int(Int64(dataset.users)),
          "items": .int(Int64(dataset.items)), "events": .int(Int64(dataset.events)),
          "ties": .int(Int64(dataset.ties)), "fingerprint": .string(dataset.fingerprint),
        ]),
      .init("protocol", .string(protocolText)),
      .init(
        "omissions",
        .array(omissions.map { ["count": .int(Int64($0.count)), "what": .string($0.what)] })),
      .init("cases", .int(Int64(caseCount))),
      .init("depths", .array(depths.map { .int(Int64($0)) })),
      .init(
        "verdict",
        verdict.map { ["kind": .string($0.kind.rawValue), "text": .string($0.text)] } ?? .null),
      .init("lines", .array(lines.map(Self.json))),
      .init("order", sequentiality.map(Self.json) ?? .null),
      .init("leaks", leaks.map(Self.json) ?? .null),
      .init(
        "curves",
        .array(
          curves.map { curve in
            [
              "name": .string(curve.name),
              "points": .array(
                curve.points.map {
                  [
                    "epoch": .int(Int64($0.epoch)), "loss": .double($0.loss),
                    "validation_ndcg_at_10": $0.validationNDCG.map { .double($0) } ?? .null,
                  ]
                }),
            ]
          })),
      .init("searches", .array(searches.map(\.json))),
      .init("notes", .array(notes.map { .string($0) })),
    ])
  }

  private static func json(_ estimate: Estimate) -> JSON {
    [
      "value": .double(estimate.value), "low": .double(estimate.low),
      "high": .double(estimate.high),
    ]
  }

  private static func json(_ difference: PairedDifference) -> JSON {
    ["difference": json(difference.difference), "p": .double(difference.pValue)]
  }

  private static func json(_ line: Line) -> JSON {
    [
      "name": .string(line.name), "role": .string(line.role.rawValue),
      "figures": .array(
        line.figures.map {
          [
            "metric": .string($0.metric.rawValue), "k": .int(Int64($0.k)),
            "estimate": json($0.estimate),
          ]
        }),
      "lists": .array(
        line.lists.map {
          [
            "k": .int(Int64($0.k)), "coverage": .double($0.figures.coverage),
            "novelty": .double($0.figures.novelty), "popularity": .double($0.figures.popularity),
            "personalisation": .double($0.figures.personalisation),
            "tenths": .array($0.figures.tenths.map { .double($0) }),
          ]
        }),
      "segments": .array(
        line.segments.map {
          [
            "segment": .string($0.segment), "explanation": .string($0.explanation),
            "cases": .int(Int64($0.cases)), "recall_at_10": json($0.recall),
            "ndcg_at_10": json($0.ndcg),
          ]
        }),
      "first_minus_this": line.behindFirst.map(json) ?? .null,
    ]
  }

  private static func json(_ order: Sequentiality) -> JSON {
    [
      "verdict": .string(order.verdict.rawValue), "text": .string(order.text),
      "in_order": json(order.inOrder), "shuffled": json(order.shuffled), "loss": json(order.loss),
    ]
  }

  private static func json(_ leaks: LeakCheck) -> JSON {
    .array(
      leaks.findings.map { ["gravity": .string($0.gravity.rawValue), "text": .string($0.text)] })
  }

  /// Reads what `json` wrote; nil where it is something else or another format.
  package init?(_ json: JSON) {
    guard json["format"]?.int == Self.format, let data = json["dataset"],
      let name = data["name"]?.string, let users = data["users"]?.int,
      let items = data["items"]?.int, let events = data["events"]?.int,
      let ties = data["ties"]?.int, let fingerprint = data["fingerprint"]?.string,
      let text = json["protocol"]?.string, let cases = json["cases"]?.int,
      let lines = json["lines"]?.array
    else { return nil }
    dataset = Dataset(
      name: name, users: Int(users), items: Int(items), events: Int(events), ties: Int(ties),
      fingerprint: fingerprint)
    protocolText = text
    caseCount = Int(cases)
    depths = (json["depths"]?.array ?? []).compactMap { $0.int.map { Int($0) } }
    omissions = (json["omissions"]?.array ?? []).compactMap {
      guard let count = $0["count"]?.int, let what = $0["what"]?.string else { return nil }
      return Omission(Int(count), what)
    }
    self.lines = lines.compactMap(Self.line)
    sequentiality = json["order"].flatMap(Self.order)
    leaks = json["leaks"]?.array.map { findings in
      LeakCheck(
        findings: findings.compactMap {
          guard let gravity = $0["gravity"]?.string.flatMap(LeakCheck.Finding.Gravity.init),
            let text = $0["text"]?.string
          else { return nil }
          return LeakCheck.Finding(gravity: gravity, text: text)
        })
    }
    curves = (json["curves"]?.array ?? []).compactMap { curve in
      guard let name = curve["name"]?.string, let points = curve["points"]?.array else {
        return nil
      }
      return Curve(
        name: name,
        points: points.compactMap {
          guard let epoch = $0["epoch"]?.int, let loss = $0["loss"]?.number else { return nil }
          return Curve.Point(
            epoch: Int(epoch), loss: loss, validationNDCG: $0["validation_ndcg_at_10"]?.number)
        })
    }
    searches = (json["searches"]?.array ?? []).compactMap { SearchTrials($0) }
    notes = (json["notes"]?.array ?? []).compactMap(\.string)
    guard !self.lines.isEmpty, self.lines.count == lines.count else { return nil }
  }

  private static func estimate(_ json: JSON?) -> Estimate? {
    guard let value = json?["value"]?.number, let low = json?["low"]?.number,
      let high = json?["high"]?.number
    else { return nil }
    return Estimate(value: value, low: low, high: high)
  }

  private static func difference(_ json: JSON?) -> PairedDifference? {
    guard let difference = estimate(json?["difference"]), let p = json?["p"]?.number else {
      return nil
    }
    return PairedDifference(difference: difference, pValue: p)
  }

  private static func line(_ json: JSON) -> Line? {
    guard let name = json["name"]?.string,
      let role = json["role"]?.string.flatMap(Contender.Role.init)
    else { return nil }
    return Line(
      name: name, role: role,
      figures: (json["figures"]?.array ?? []).compactMap {
        guard let metric = $0["metric"]?.string.flatMap(Metric.init), let k = $0["k"]?.int,
          let estimate = estimate($0["estimate"])
        else { return nil }
        return Figure(metric: metric, k: Int(k), estimate: estimate)
      },
      lists: (json["lists"]?.array ?? []).compactMap {
        guard let k = $0["k"]?.int, let figures = ListFigures($0) else { return nil }
        return Lists(k: Int(k), figures: figures)
      },
      segments: (json["segments"]?.array ?? []).compactMap {
        guard let segment = $0["segment"]?.string, let explanation = $0["explanation"]?.string,
          let cases = $0["cases"]?.int, let recall = estimate($0["recall_at_10"]),
          let ndcg = estimate($0["ndcg_at_10"])
        else { return nil }
        return SegmentFigure(
          segment: segment, explanation: explanation, cases: Int(cases), recall: recall, ndcg: ndcg)
      },
      behindFirst: difference(json["first_minus_this"]))
  }

  private static func order(_ json: JSON) -> Sequentiality? {
    guard let inOrder = estimate(json["in_order"]), let shuffled = estimate(json["shuffled"]),
      let loss = difference(json["loss"])
    else { return nil }
    return Sequentiality(inOrder: inOrder, shuffled: shuffled, loss: loss)
  }
}

extension ListFigures {
  init?(_ json: JSON) {
    guard let coverage = json["coverage"]?.number, let novelty = json["novelty"]?.number,
      let popularity = json["popularity"]?.number,
      let personalisation = json["personalisation"]?.number,
      let tenths = json["tenths"]?.array?.compactMap(\.number), tenths.count == 10
    else { return nil }
    self.coverage = coverage
    self.novelty = novelty
    self.popularity = popularity
    self.personalisation = personalisation
    self.tenths = tenths
  }
}
