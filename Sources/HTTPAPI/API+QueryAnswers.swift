import Domain
import Engine
import QueryEngine

extension API {
  /// Writes the answer's bytes directly: this is the hot path of the whole server.
  static func answer(_ answer: EngineAnswer, withMetadata: Bool) -> APIReply {
    let result = answer.result
    var out: [UInt8] = []
    out.reserveCapacity(256 + result.ids.count * (withMetadata ? 192 : 48))
    out += "{".utf8
    if case .table(let table) = answer.statements[0] {
      write(table, into: &out)
      out += ",\"explanation\":null".utf8
    } else {
      write(result, withMetadata: withMetadata, into: &out)
      out += ",\"explanation\":".utf8
      write(explanation: answer.statements[0], into: &out)
    }
    out += ",\"engine\":".utf8
    JSON.write(string: answer.engine, into: &out)
    out += ",\"as_of\":".utf8
    out += String(answer.asOf.rawValue).utf8
    if let generation = answer.generation {
      out += ",\"generation\":".utf8
      out += String(generation.number).utf8
      out += ",\"models\":[".utf8
      for (i, model) in generation.models.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        JSON.write(string: model.name, into: &out)
      }
      out += "],\"trained_through\":".utf8
      out += String(generation.through.rawValue).utf8
      out += ",\"model_age_seconds\":".utf8
      let age = answer.now.microsecondsSinceEpoch - generation.trainedAt.microsecondsSinceEpoch
      out += String(max(0, age / 1_000_000)).utf8
    }
    if !result.notes.isEmpty {
      out += ",\"notes\":".utf8
      JSON.array(result.notes.map { .string($0) }).write(into: &out)
    }
    if answer.statements.count > 1 {
      // The first answer stands in front, where clients that know nothing of several look.
      out += ",\"statements\":[".utf8
      for (i, statement) in answer.statements.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        write(statement, withMetadata: withMetadata, into: &out)
      }
      out.append(UInt8(ascii: "]"))
    }
    out.append(UInt8(ascii: "}"))
    let parts = answer.duration.components
    let milliseconds = Double(parts.seconds) * 1e3 + Double(parts.attoseconds / 1_000_000_000) / 1e6
    return bytes(out, headers: ["server-timing": "query;dur=\(milliseconds)"])
  }

  /// The answers of the global endpoint.
  static func statements(_ answers: [StatementAnswer]) -> JSON {
    func document(_ answer: StatementAnswer) -> JSON {
      guard case .table(let table) = answer else {
        return answer.text.map { ["text": .string($0)] } ?? .object([])
      }
      return [
        "columns": .array(table.columns.map { .string($0) }),
        "data": .array(
          table.rows.map { row in
            .object(zip(table.columns, row).map { JSON.Member($0, $1.json) })
          }),
        "row_count": .int(Int64(table.rows.count)),
      ]
    }
    guard answers.count > 1 else { return document(answers[0]) }
    return ["statements": .array(answers.map(document))]
  }

  private static func write(
    _ answer: StatementAnswer, withMetadata: Bool, into out: inout [UInt8]
  ) {
    out.append(UInt8(ascii: "{"))
    switch answer {
    case .rows(let result), .analysis(let result), .influence(let result):
      write(result, withMetadata: withMetadata, into: &out)
      out.append(UInt8(ascii: ","))
    case .table(let table):
      write(table, into: &out)
      out.append(UInt8(ascii: ","))
    case .plan, .whyNot: break
    }
    out += "\"explanation\":".utf8
    write(explanation: answer, into: &out)
    out.append(UInt8(ascii: "}"))
  }

  private static func write(
    _ result: QueryResult, withMetadata: Bool, into out: inout [UInt8]
  ) {
    out += "\"results\":[".utf8
    for position in result.ids.indices {
      if position > 0 { out.append(UInt8(ascii: ",")) }
      out += "{\"id\":".utf8
      JSON.write(string: result.ids[position].rawValue, into: &out)
      out += ",\"score\":".utf8
      JSON.write(number: result.scores[position], into: &out)
      if withMetadata {
        out += ",\"metadata\":{".utf8
        for (i, column) in result.columns.enumerated() {
          if i > 0 { out.append(UInt8(ascii: ",")) }
          JSON.write(string: column.name, into: &out)
          out.append(UInt8(ascii: ":"))
          column[position].write(into: &out)
        }
        out.append(UInt8(ascii: "}"))
      }
      if let propensities = result.propensities {
        out += ",\"propensity\":".utf8
        JSON.write(number: propensities[position], into: &out)
      }
      if !result.embeddings.isEmpty {
        let vectors = result.embeddings.map { embedding in
          JSON.Member(
            embedding.name,
            embedding.vectors[position].map { .array($0.map { .double(Double($0)) }) } ?? .null)
        }
        out += ",\"embeddings\":".utf8
        JSON.object(vectors).write(into: &out)
      }
      if let journeys = result.journeys {
        out += ",\"journey\":".utf8
        journeys[position].json.write(into: &out)
      }
      if let influences = result.influences {
        out += ",\"influences\":".utf8
        JSON.array(
          influences[position].map { influence in
            [
              "item_id": .string(influence.event.rawValue),
              "change": influence.change.map { .double($0) } ?? .null,
            ]
          }
        ).write(into: &out)
      }
      out.append(UInt8(ascii: "}"))
    }
    out += "],\"entity_type\":\"\(result.entityType.rawValue)\"".utf8
  }

  /// Rows of a table in the form of results: numbered, with their cells as metadata.
  private static func write(_ table: DataResult, into out: inout [UInt8]) {
    out += "\"results\":[".utf8
    for (number, row) in table.rows.enumerated() {
      if number > 0 { out.append(UInt8(ascii: ",")) }
      out += "{\"id\":\"\(number)\",\"score\":null,\"metadata\":{".utf8
      for (i, cell) in row.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        JSON.write(string: table.columns[i], into: &out)
        out.append(UInt8(ascii: ":"))
        cell.write(into: &out)
      }
      out += "}}".utf8
    }
    out += "],\"entity_type\":\"item\"".utf8
  }

  private static func write(explanation answer: StatementAnswer, into out: inout [UInt8]) {
    switch answer {
    case .rows(let result), .analysis(let result):
      (result.explanation?.json ?? .null).write(into: &out)
    case .influence: (["text": .string(answer.text ?? "")] as JSON).write(into: &out)
    case .plan(let text): (["text": .string(text)] as JSON).write(into: &out)
    case .whyNot(let why):
      (["text": .string(why.text), "why_not": why.json] as JSON).write(into: &out)
    case .table: out += "null".utf8
    }
  }
}
