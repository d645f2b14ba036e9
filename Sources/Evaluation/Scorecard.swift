import Domain

/// Everything that an evaluation found out, ready to be stored, printed and drawn.
///
/// Models stand beside the baselines on the same cases; the verdict says whether the first model is
/// worth having.
package struct Scorecard: Hashable, Sendable {
  package static let format: Int64 = 1

  package struct Dataset: Hashable, Sendable {
    package var name: String
    package var users: Int
    package var items: Int
    package var events: Int
    /// Events at the same time as the one before them, whose order is that of their arrival.
    package var ties: Int
    /// Of the events in their order, in hexadecimal.
    package var fingerprint: String
  }

  /// A figure at a depth.
  package struct Figure: Hashable, Sendable {
    package var metric: Metric
    package var k: Int
    package var estimate: Estimate
  }

  package struct SegmentFigure: Hashable, Sendable {
    package var segment: String
    package var explanation: String
    package var cases: Int
    package var recall: Estimate
    package var ndcg: Estimate
  }

  package struct Lists: Hashable, Sendable {
    package var k: Int
    package var figures: ListFigures
  }

  package struct Line: Hashable, Sendable {
    package var name: String
    package var role: Contender.Role
    package var figures: [Figure]
    package var lists: [Lists]
    package var segments: [SegmentFigure]
    /// NDCG@10 of the first model minus this line's; nil for the first model itself.
    package var behindFirst: PairedDifference?

    package func estimate(_ metric: Metric, at k: Int) -> Estimate? {
      figures.first { $0.metric == metric && $0.k == k }?.estimate
    }
  }

  /// A training's course.
  package struct Curve: Hashable, Sendable {
    package struct Point: Hashable, Sendable {
      package var epoch: Int
      package var loss: Double
      package var validationNDCG: Double?
      package init(epoch: Int, loss: Double, validationNDCG: Double?) {
        self.epoch = epoch
        self.loss = loss
        self.validationNDCG = validationNDCG
      }
    }
    package var name: String
    package var points: [Point]
    package init(name: String, points: [Point]) {
      self.name = name
      self.points = points
    }
  }

  package var dataset: Dataset
  package var protocolText: String
  package var omissions: [Omission]
  package var caseCount: Int
  package var depths: [Int]
  package var lines: [Line]
  package var sequentiality: Sequentiality?
  package var leaks: LeakCheck?
  package var curves: [Curve] = []
  /// What was tried to find the models.
  package var searches: [SearchTrials] = []
  /// Further sentences, such as how settings were chosen.
  package var notes: [String] = []
}

/// How an evaluation is done.
package struct EvaluationOptions: Sendable {
  /// Depths at which figures are given; NDCG@10 and Recall@10 are always among them.
  package var depths = [5, 10, 20]
  package var seed: UInt64 = 1
  package var threads = 1
  /// Shuffle the first model's histories too.
  package var checksOrder = true
  package init() {}
}

extension Scorecard {
  /// Judges contenders on the test questions of a split, the baselines with them.
  ///
  /// - Parameters:
  ///   - contenders: the first is the one that the verdict is about.
  ///   - learned: what the models were trained on, for the leak check; nil skips it.
  package init(
    _ contenders: [Contender], on split: some EvaluationSplit, dataset name: String,
    learned: SequenceDataset? = nil, options: EvaluationOptions = EvaluationOptions()
  ) {
    let cases = split.cases(.test)
    let training = split.trainingSet
    let itemCount = split.dataset.itemCount
    let depths = Set(options.depths + [10]).filter { $0 > 0 }.sorted()
    let popularity = ItemPopularity(training)
    let segments = Segment.standard(cases, popularity: popularity)
    let judgements = (contenders + Baselines(training).contenders).map {
      judge(
        $0, on: cases, itemCount: itemCount, topCount: depths.last ?? 10,
        threads: options.threads)
    }
    let firstValues = judgements[0].values(.ndcg, at: 10)
    lines = judgements.enumerated().map { place, judgement in
      Line(
        name: judgement.name, role: judgement.role,
        figures: Metric.allCases.flatMap { metric in
          depths.map {
            Figure(
              metric: metric, k: $0,
              estimate: judgement.estimate(metric, at: $0, seed: options.seed))
          }
        },
        lists: depths.map {
          Lists(k: $0, figures: ListFigures(judgement.top, at: $0, popularity: popularity))
        },
        segments: segments.map { segment in
          let ranks = segment.ranks(judgement, cases)
          return SegmentFigure(
            segment: segment.name, explanation: segment.explanation, cases: ranks.count,
            recall: bootstrap(ranks.map { Metric.recall.value($0, at: 10) }, seed: options.seed),
            ndcg: bootstrap(ranks.map { Metric.ndcg.value($0, at: 10) }, seed: options.seed))
        },
        behindFirst: place == 0
          ? nil
          : PairedDifference(firstValues, judgement.values(.ndcg, at: 10), seed: options.seed))
    }
    let all = split.dataset
    dataset = Dataset(
      name: name, users: all.sequences.count, items: itemCount, events: all.eventCount,
      ties: all.tieCount, fingerprint: String(all.fingerprint, radix: 16))
    protocolText =
      split.protocolText + "; all \(itemCount) items ranked, items of the history removed, ties "
      + "against the model; 95 % bootstrap intervals over \(cases.count) cases"
    omissions = split.omissions(.test)
    caseCount = cases.count
    self.depths = depths
    if options.checksOrder, let first = contenders.first {
      sequentiality = Sequentiality(
        first, inOrder: judgements[0], on: cases, itemCount: itemCount, seed: options.seed,
        threads: options.threads)
    }
    if let learned { leaks = LeakCheck(learned: learned, split: split, cases: cases) }
  }

  /// What the first model's figures mean.
  package struct Verdict: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable {
      /// Better than every baseline, and not by luck.
      case ahead
      /// Better than every baseline, perhaps by luck.
      case level
      /// Some baseline is at least as good.
      case behind
    }
    package var kind: Kind
    package var text: String
  }

  /// Nil where there is no baseline.
  package var verdict: Verdict? {
    let baselines = lines.filter { $0.role == .baseline }
    let scored = baselines.map { ($0, $0.estimate(.ndcg, at: 10)?.value ?? 0) }
    guard let model = lines.first, let best = scored.max(by: { $0.1 < $1.1 }),
      let own = model.estimate(.ndcg, at: 10)?.value, let difference = best.0.behindFirst
    else { return nil }
    let percent = best.1 > 0 ? Int(((own / best.1 - 1) * 100).rounded()) : 100
    let p = difference.pValue < 0.001 ? "p < 0.001" : "p = \(fixed(difference.pValue, 3))"
    if own <= best.1 {
      return Verdict(
        kind: .behind,
        text: "`\(model.name)` does not beat the baseline `\(best.0.name)` (NDCG@10 "
          + "\(fixed(own, 4)) against \(fixed(best.1, 4)), \(p)). Use the baseline, or tune.")
    }
    if !difference.isSignificant {
      return Verdict(
        kind: .level,
        text:
          "`\(model.name)` is \(percent) % above the best baseline, `\(best.0.name)`, in NDCG@10, "
          + "which may be luck (\(p)).")
    }
    return Verdict(
      kind: .ahead,
      text: "`\(model.name)` is \(percent) % above the best baseline, `\(best.0.name)`, in NDCG@10 "
        + "(\(p)).")
  }
}

/// A number with so many digits behind the point.
package func fixed(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite else { return "-" }
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  let whole = Int64((abs(value) * scale).rounded())
  let sign = value < 0 && whole != 0 ? "-" : ""
  if digits == 0 { return sign + String(whole) }
  let text = String(whole)
  let padded = String(repeating: "0", count: max(0, digits + 1 - text.count)) + text
  return sign + padded.dropLast(digits) + "." + padded.suffix(digits)
}
