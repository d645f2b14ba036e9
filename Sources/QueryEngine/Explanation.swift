package import Domain

/// What a query did, under the names that the published clients read.
package struct QueryExplanation: Sendable {
  package var queryName: String?
  package var queryType = "sql"
  package var parameters: [String: JSON] = [:]
  package var paginationID: String?
  /// The plan as text.
  package var plan: String
  package var stages: [QueryStage]
  package var nanoseconds: Int64
  package var finalResultCount: Int
  package var limit: Int?
  package var offset: Int
  package var notes: [String]

  package var json: JSON {
    func milliseconds(_ nanoseconds: Int64) -> JSON { .double(Double(nanoseconds) / 1e6) }
    func stage(_ name: String, _ steps: [QueryStage]) -> JSON.Member {
      let all: [JSON] = steps.map { step in
        .object(
          [
            JSON.Member("step_name", .string(step.step)),
            JSON.Member("step_type", .string(step.kind)),
            JSON.Member("input_count", .int(Int64(step.inputCount))),
            JSON.Member("output_count", .int(Int64(step.outputCount))),
            JSON.Member("filtered_count", .int(Int64(max(0, step.inputCount - step.outputCount)))),
            JSON.Member("execution_time_ms", milliseconds(step.nanoseconds)),
            JSON.Member("metadata", .object([])),
          ] + step.details)
      }
      return JSON.Member(
        "\(name)_stage",
        [
          "stage_name": .string(name),
          "total_execution_time_ms": milliseconds(steps.reduce(0) { $0 + $1.nanoseconds }),
          "input_count": .int(Int64(steps.first?.inputCount ?? 0)),
          "output_count": .int(Int64(steps.last?.outputCount ?? 0)),
          "steps": .array(all),
        ])
    }
    let names: [QueryStage.Name] = [.retrieve, .filter, .score, .reorder]
    return .object(
      [
        JSON.Member("query_name", queryName.map { .string($0) } ?? .null),
        JSON.Member("query_type", .string(queryType)),
        JSON.Member(
          "parameters",
          .object(parameters.sorted { $0.key < $1.key }.map { JSON.Member($0.key, $0.value) })),
        JSON.Member("pagination_id", paginationID.map { .string($0) } ?? .null),
      ]
        + names.map { name in stage(name.rawValue, stages.filter { $0.name == name }) }
        + [
          JSON.Member("total_execution_time_ms", milliseconds(nanoseconds)),
          JSON.Member("final_result_count", .int(Int64(finalResultCount))),
          JSON.Member("limit_applied", limit.map { .int(Int64($0)) } ?? .null),
          JSON.Member("offset_applied", .int(Int64(offset))),
          JSON.Member("plan", .array(plan.split(separator: "\n").map { .string(String($0)) })),
          JSON.Member("notes", .array(notes.map { .string($0) })),
        ])
  }

  /// The explanation as text: the plan, then a line for each step that ran.
  package var text: String {
    var lines = [plan, ""]
    for stage in stages {
      let time = String(Double(stage.nanoseconds / 1000) / 1000)
      lines.append(
        "\(stage.name.rawValue): \(stage.step): \(stage.inputCount) -> \(stage.outputCount)"
          + (stage.nanoseconds > 0 ? " in \(time) ms" : ""))
    }
    return (lines + notes.map { "note: \($0)" }).joined(separator: "\n")
  }
}

/// The way of one item of an answer through the query.
package struct Journey: Sendable {
  package struct Move: Hashable, Sendable {
    package var step: String
    /// From 1; nil where the item was not in the order before.
    package var from: Int?
    package var to: Int
  }
  package var id: String
  package var retrievedBy: [String]
  package var retrievalScores: [(name: String, score: Double?)]
  package var retrievalRanks: [(name: String, rank: Int)]
  /// The conditions, all of which an item of the answer meets.
  package var filters: [String]
  package var score: Double?
  /// From 1, among the candidates.
  package var scoreRank: Int?
  package var moves: [Move]
  /// From 1.
  package var finalPosition: Int
  /// The probability with which exploration put the item here; nil without exploration.
  package var propensity: Double?

  package var json: JSON {
    func number(_ value: Double?) -> JSON { value.map { .double($0) } ?? .null }
    return .object([
      JSON.Member("entity_id", .string(id)),
      JSON.Member("inner_entity_id", .null),
      JSON.Member("retrieved_by", .array(retrievedBy.map { .string($0) })),
      JSON.Member(
        "retrieval_scores",
        .object(
          retrievalScores.compactMap { entry in
            entry.score.map { JSON.Member(entry.name, .double($0)) }
          })),
      JSON.Member(
        "retrieval_rank",
        .object(retrievalRanks.map { JSON.Member($0.name, .int(Int64($0.rank))) })),
      JSON.Member("filter_results", .object(filters.map { JSON.Member($0, true) })),
      JSON.Member("filtered_out_by", .null),
      JSON.Member("score", number(score)),
      JSON.Member("score_rank", scoreRank.map { .int(Int64($0)) } ?? .null),
      JSON.Member(
        "reorder_changes",
        .array(
          moves.map { move in
            [
              "step": .string(move.step),
              "from": move.from.map { .int(Int64($0)) } ?? .null,
              "to": .int(Int64(move.to)),
            ]
          })),
      JSON.Member("final_position", .int(Int64(finalPosition))),
      JSON.Member("final_score", number(score)),
      JSON.Member("propensity", number(propensity)),
    ])
  }
}

/// How much one past event carries an item: the score with all events less the score without it.
package struct Influence: Sendable {
  package var event: ItemID
  /// nil where one of the two scores is unknown.
  package var change: Double?
}

/// Why an item is not in an answer, or where it stands.
package struct WhyNot: Sendable {
  package var item: String
  /// The first step that removed the item: `catalog`, `listed`, `filter`, `pagination`, `retrieve`,
  /// `truncate`, `reorder`, `limit`; `answer` where nothing did.
  package var step: String
  package var reason: String
  /// What else there is to know, a line each.
  package var notes: [String]

  package var text: String {
    ["\(step): \(reason)"].joined() + notes.map { "\n  \($0)" }.joined()
  }
  package var json: JSON {
    [
      "item": .string(item), "step": .string(step), "reason": .string(reason),
      "notes": .array(notes.map { .string($0) }),
    ]
  }
}
