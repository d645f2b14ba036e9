import Domain
import Foundation
import QueryEngine
import QueryLanguage
import Testing

/// Runs every script of the folder `Tests/Golden/queries` and compares its answers with those in the script.
///
/// A script is queries, each between a line `>>>` and a line `---`; what follows up to the next `>>>` is
/// the answer. `RIFFLE_GOLDEN=rewrite` writes new answers into the scripts; read the difference before it
/// is kept.
@Suite struct `Golden queries` {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .appendingPathComponent("Golden/queries")

  static let parameters: [String: JSON] = [
    "user_id": "u1", "item_id": "i3", "language": "en", "page_size": 4, "q": "red fox",
    "session": ["i3", "i8", "i12"], "n": 3, "params_boost": 2.5, "features": ["country": "fr"],
    "item_attributes": [
      ["item_id": "new", "price": 9.5, "language": "en", "score": 1],
      ["item_id": "i3", "price": 1],
    ],
  ]

  private func lines(_ result: QueryResult) -> [String] {
    var out: [String] = []
    for position in result.rows.indices {
      var parts = [result.ids[position].rawValue]
      parts.append(result.scores[position].map { short($0) } ?? "no score")
      for column in result.columns.prefix(4) {
        parts.append("\(column.name)=\(cell(column[position]))")
      }
      if let propensity = result.propensities?[position] { parts.append("p=\(short(propensity))") }
      for (name, vectors) in result.embeddings {
        parts.append("\(name)=\(vectors[position].map { "\($0.count) numbers" } ?? "none")")
      }
      out.append(parts.joined(separator: " | "))
    }
    if result.entityType == .user { out.append("entity: user") }
    return out + result.notes.map { "note: \($0)" }
  }

  private func short(_ value: Double) -> String {
    String(format: "%.4f", value)
  }

  private func cell(_ value: Value) -> String {
    if case .double(let number) = value { return short(number) }
    return value.json.text
  }

  private func answer(_ text: String) -> String {
    let source = FakeSource(rows: 40, seed: 12)
    let engine = QueryEngine()
    let request = QueryRequest(text: text, parameters: Self.parameters)
    do {
      var out: [String] = []
      for one in try engine.answers(request, on: source) {
        switch one {
        case .rows(let result):
          let plan = try? engine.explain(request, on: source)
          out += (plan ?? "").split(separator: "\n").map { "  " + $0 } + lines(result)
        case .table(let table):
          out.append(table.columns.joined(separator: " | "))
          out += table.rows.map { $0.map(cell).joined(separator: " | ") }
        case .plan, .analysis, .whyNot, .influence: out.append(one.text ?? "")
        }
      }
      return out.joined(separator: "\n")
    } catch {
      return "\(error)"
    }
  }

  @Test func `give the answers that were kept`() throws {
    let rewrites = TestSettings.rewritesGolden
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path).sorted()
      .filter { $0.hasSuffix(".txt") }
    #expect(files.count >= 5)
    for file in files {
      let url = Self.folder.appendingPathComponent(file)
      let text = try String(contentsOf: url, encoding: .utf8)
      var rewritten = ""
      for block in text.components(separatedBy: ">>>\n").dropFirst() {
        let parts = block.components(separatedBy: "\n---\n")
        let raw = parts[0].hasSuffix("\n---") ? String(parts[0].dropLast(4)) : parts[0]
        let query = raw.trimmingCharacters(in: .newlines)
        let found = answer(query)
        rewritten += ">>>\n\(query)\n---\n\(found)\n\n"
        if !rewrites {
          let kept = parts.dropFirst().joined(separator: "\n---\n")
            .trimmingCharacters(in: .newlines)
          #expect(kept == found.trimmingCharacters(in: .newlines), "\(file): \(query)")
        }
      }
      if rewrites { try rewritten.write(to: url, atomically: true, encoding: .utf8) }
    }
  }
}
