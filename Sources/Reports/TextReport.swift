/// `Reports` shows an evaluation to a person: as a table for a terminal and as one HTML page that
/// needs nothing beside itself. It computes no figures.
import Domain
package import Evaluation

extension Scorecard {
  /// The evaluation as lines for a terminal.
  ///
  /// - Parameter bold: how a heading is marked, such as by an escape sequence.
  package func text(bold: (String) -> String = { $0 }) -> String {
    var blocks: [String] = []
    blocks.append(
      bold(dataset.name)
        + "  \(dataset.users) users, \(dataset.items) items, \(dataset.events) events"
        + (dataset.ties > 0 ? " (\(dataset.ties) at the same time as the one before)" : "")
        + ", fingerprint \(dataset.fingerprint)")
    let k = depths.contains(10) ? 10 : depths.first ?? 10
    blocks.append(
      table(
        ["", "Recall@\(k)", "", "NDCG@\(k)", "", "MRR@\(k)", "first minus this", "p"],
        lines.map { line in
          let recall = line.estimate(.recall, at: k)
          let ndcg = line.estimate(.ndcg, at: k)
          return [
            line.name + (line.role == .model ? "" : "  (\(line.role.rawValue))"),
            value(recall), interval(recall), value(ndcg), interval(ndcg),
            value(line.estimate(.mrr, at: k)),
            line.behindFirst.map { signed($0.difference.value) } ?? "",
            line.behindFirst.map { $0.pValue < 0.001 ? "<0.001" : fixed($0.pValue, 3) } ?? "",
          ]
        }, bold: bold))
    if depths.count > 1, let first = lines.first {
      blocks.append(
        table(
          [first.name] + depths.map { "@\($0)" },
          Metric.allCases.map { metric in
            [metric.title] + depths.map { value(first.estimate(metric, at: $0)) }
          }, bold: bold))
    }
    blocks.append(
      table(
        ["first \(k) of all lists", "coverage", "novelty (bits)", "popularity", "personalisation"],
        lines.compactMap { line in
          line.lists.first { $0.k == k }.map { lists in
            [
              line.name, fixed(lists.figures.coverage, 3), fixed(lists.figures.novelty, 2),
              fixed(lists.figures.popularity, 3), fixed(lists.figures.personalisation, 3),
            ]
          }
        }, bold: bold))
    let shown = lines.prefix(4)
    if let first = lines.first, !first.segments.isEmpty {
      blocks.append(
        table(
          ["NDCG@10 by segment", "cases"] + shown.map(\.name),
          first.segments.map { segment in
            [segment.segment, String(segment.cases)]
              + shown.map { line in
                value(line.segments.first { $0.segment == segment.segment }?.ndcg)
              }
          }, bold: bold))
    }
    var sentences: [String] = []
    if let verdict { sentences.append(verdict.text) }
    if let sequentiality { sentences.append(sequentiality.text) }
    for finding in leaks?.findings ?? [] where finding.gravity != .fine {
      sentences.append((finding.gravity == .fault ? "LEAK: " : "") + finding.text)
    }
    for omission in omissions { sentences.append("\(omission.count) \(omission.what).") }
    sentences += notes
    sentences.append("(\(protocolText))")
    blocks.append(sentences.joined(separator: "\n"))
    return blocks.joined(separator: "\n\n")
  }
}

func value(_ estimate: Estimate?) -> String { estimate.map { fixed($0.value, 4) } ?? "-" }

func interval(_ estimate: Estimate?) -> String {
  estimate.map { "[\(fixed($0.low, 4)), \(fixed($0.high, 4))]" } ?? ""
}

func signed(_ value: Double) -> String { (value < 0 ? "" : "+") + fixed(value, 4) }

/// Columns as wide as their widest cell; the first column to the left, the others to the right.
package func table(
  _ header: [String], _ rows: [[String]], bold: (String) -> String = { $0 }
) -> String {
  let widths = header.indices.map { i in
    ([header] + rows).map { $0.count > i ? $0[i].count : 0 }.max() ?? 0
  }
  func line(_ cells: [String]) -> String {
    let padded = cells.enumerated().map { i, cell in
      let space = String(repeating: " ", count: widths[i] - cell.count)
      return i == 0 ? cell + space : space + cell
    }
    return String(padded.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
  }
  return ([bold(line(header))] + rows.map(line)).joined(separator: "\n")
}
