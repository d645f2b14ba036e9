import Domain
import Engine
import Foundation
import HTTPAPI

/// Prints a query's answer as a table.
enum AnswerPrinter {
  static func print(_ answer: JSON) {
    let results = answer["results"]?.array ?? []
    var header = ["#", "id", "score"]
    let columns = (results.first?["metadata"]?.object ?? []).map(\.name).filter {
      $0 != "item_id" && $0 != "id"
    }
    header += columns
    var rows = [header]
    for (i, result) in results.enumerated() {
      var cells = [String(i + 1), result["id"]?.string ?? ""]
      cells.append(result["score"]?.number.map { Terminal.fixed($0, 3) } ?? "-")
      for column in columns { cells.append(text(result["metadata"]?[column])) }
      rows.append(cells)
    }
    let widths = header.indices.map { i in rows.map { $0[i].count }.max() ?? 0 }
    for (i, row) in rows.enumerated() {
      let line = row.indices.map { Terminal.padded(row[$0], widths[$0]) }.joined(separator: "  ")
      let trimmed = line.replacing(/\s+$/, with: "")
      printLine(i == 0 ? Terminal.bold(trimmed) : trimmed)
    }
    for note in answer["notes"]?.array ?? [] { printLine("note: \(note.string ?? "")") }
    let generation = answer["generation"]?.int.map { ", generation \($0)" } ?? ""
    printLine(
      "\(results.count) items, as of log position \(answer["as_of"]?.int ?? 0)\(generation)")
  }

  private static func text(_ value: JSON?) -> String {
    switch value {
    case nil, .null?: "-"
    case .string(let text)?: text.count > 48 ? text.prefix(47) + "…" : text
    case .array(let elements)?: elements.map { $0.string ?? $0.text }.joined(separator: ", ")
    case let other?: other.text
    }
  }
}

/// Prints a model's figures beside the baselines.
enum EvaluationPrinter {
  static func print(ofEngine engine: JSON) {
    for model in engine["generation"]?["models"]?.array ?? [] {
      if let json = model["evaluation"], let table = EvaluationTable(json) { print(table) }
    }
  }

  static func print(_ table: EvaluationTable) {
    func cell(_ figure: EvaluationTable.Figure) -> String {
      "\(Terminal.fixed(figure.value, 4))  [\(Terminal.fixed(figure.low, 4)), "
        + "\(Terminal.fixed(figure.high, 4))]"
    }
    let width = max(22, (table.lines.map(\.name.count).max() ?? 0) + 2)
    printLine()
    printLine(
      Terminal.bold(
        Terminal.padded("", width) + Terminal.padded("Recall@10", 28) + "NDCG@10"))
    for line in table.lines {
      printLine(
        Terminal.padded(line.name, width) + Terminal.padded(cell(line.recallAt10), 28)
          + cell(line.ndcgAt10))
    }
    printLine("(\(table.protocolText))")
  }
}

/// Shows a training from the engine's progress document.
final class TrainingProgressLine {
  private let line = ProgressLine()

  func show(_ progress: JSON?) {
    guard let progress, let epoch = progress["epoch"]?.int, let epochs = progress["epochs"]?.int
    else { return }
    // Policies without epochs, losses or tokens say nothing of them.
    var parts = epochs > 1 ? ["epoch \(epoch)/\(epochs)"] : []
    if let loss = progress["loss"]?.number, loss != 0 {
      parts.append("loss \(Terminal.fixed(loss, 3))")
    }
    if let speed = progress["tokens_per_second"]?.number, speed > 0 {
      parts.append("\(Terminal.grouped(Int(speed))) tokens/s")
    }
    if let ndcg = progress["validation_ndcg_at_10"]?.number {
      let after = progress["validated_epoch"]?.int.map { " after epoch \($0)" } ?? ""
      parts.append("validation NDCG@10 \(Terminal.fixed(ndcg, 4))\(after)")
    }
    if let left = progress["seconds_left"]?.number, left > 0 {
      parts.append("at most \(Terminal.duration(left)) left")
    }
    line.show(
      "training", fraction: progress["fraction"]?.number ?? 0,
      detail: parts.joined(separator: " · "), step: String(epoch))
  }

  func show(_ progress: EngineProgress) { show(EngineDetails.json(progress)) }

  func finish() { line.finish() }
}
