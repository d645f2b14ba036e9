package import Domain
package import Engine
import State

/// The wire form of engines and problems; the command line prints the same.
package enum EngineDetails {
  /// What `GET /v2/engines/{engine}` answers.
  package static func json(_ engine: ServedEngine) -> JSON {
    let status = engine.status
    let skipped = engine.snapshot.skippedRowCount
    let warnings =
      (engine.configuration.warnings.map(\.message)
      + (skipped == 0
        ? [] : ["\(skipped) rows name no user or no item; they are stored, and take no part here."]))
      .joined(separator: "\n")
    var members: [JSON.Member] = [
      .init("engine_name", .string(engine.name)),
      .init("engine_uri", .string("/v2/engines/\(engine.name)")),
      .init("created_at", .string(engine.createdAt.iso8601)),
      .init("status", .string(status.state.rawValue)),
      .init("version", "v2"),
      .init("trained_at", engine.generation.map { .string($0.trainedAt.iso8601) } ?? .null),
      .init("description", engine.configuration.description.map { .string($0) } ?? .null),
      .init("config", engine.configuration.json),
      .init("input_yaml", .string(engine.configuration.source)),
      .init("error_message", status.error.map { .string($0) } ?? .null),
      .init("warning_message", warnings.isEmpty ? .null : .string(warnings)),
      .init("as_of", .int(engine.asOf.rawValue)),
      .init("skipped_row_count", .int(Int64(skipped))),
      .init("status_log_tail", .array(status.log.map(json))),
    ]
    if let progress = status.progress { members.append(.init("training", json(progress))) }
    if let generation = engine.generation {
      members.append(.init("generation", json(generation)))
    }
    return .object(members)
  }

  private static func json(_ line: EngineStatus.LogLine) -> JSON {
    [
      "timestamp": .string(line.time.iso8601), "level": .string(line.level),
      "stage": .string(line.stage), "component": .string(line.component),
      "message": .string(line.message),
    ]
  }

  package static func json(_ progress: EngineProgress) -> JSON {
    [
      "model": .string(progress.model), "epoch": .int(Int64(progress.epoch)),
      "epochs": .int(Int64(progress.epochs)), "fraction": .double(progress.fraction),
      "loss": progress.loss.map { .double($0) } ?? .null,
      "tokens_per_second": progress.tokensPerSecond.map { .double($0) } ?? .null,
      "validation_ndcg_at_10": progress.validationNDCG.map { .double($0) } ?? .null,
      "validated_epoch": progress.validatedEpoch.map { .int(Int64($0)) } ?? .null,
      "seconds_left": progress.secondsLeft.map { .double($0) } ?? .null,
    ]
  }

  package static func json(_ generation: Generation) -> JSON {
    [
      "number": .int(Int64(generation.number)),
      "trained_through": .int(generation.through.rawValue),
      "trained_at": .string(generation.trainedAt.iso8601),
      "models": .array(
        generation.models.map { model in
          [
            "name": .string(model.name), "policy_type": .string(model.policyType),
            "items": .int(Int64(model.vocabulary.count)), "evaluation": model.evaluation,
          ]
        }),
    ]
  }

  /// The body of every answer that is no success: the fields of all documented error shapes at once.
  package static func problem(_ problems: Diagnostics, status: Int) -> JSON {
    let first = problems.all[0]
    let message =
      problems.all.count == 1
      ? first.message
      : problems.all.map(\.message).joined(separator: "\n")
    let titles = [
      400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
      409: "Conflict", 413: "Content Too Large", 422: "Unprocessable Content",
      429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
    ]
    return [
      "status": .int(Int64(status)), "title": .string(titles[status] ?? "Error"),
      "type": .string(first.code), "detail": .string(message), "message": .string(message),
      "diagnostics": .array(problems.all.map { json($0) }),
    ]
  }

  /// One problem, as every answer shows it.
  static func json(_ problem: Diagnostic) -> JSON {
    var members: [JSON.Member] = [
      .init("code", .string(problem.code)), .init("message", .string(problem.message)),
    ]
    if let place = problem.place { members.append(.init("place", .string(place))) }
    if !problem.notes.isEmpty {
      members.append(.init("notes", .array(problem.notes.map { .string($0) })))
    }
    if let help = problem.help { members.append(.init("help", .string(help))) }
    members.append(.init("text", .string(problem.description)))
    return .object(members)
  }
}
