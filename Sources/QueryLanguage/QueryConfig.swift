package import Domain

/// Reads the JSON form of a query (`RankQueryConfig`) into the same tree as text gives.
///
/// Members with a null value count as absent and unknown members are ignored, because the published
/// clients send both. Parameters are written `"$name"` wherever a value stands.
package enum QueryConfig {
  /// - Throws: every problem at once, each with its path in the document.
  package static func query(_ config: JSON) throws(Diagnostics) -> Query {
    var reader = ConfigReader()
    let query = reader.query(config)
    if !reader.problems.isEmpty { throw Diagnostics(reader.problems) }
    return query
  }

  /// The query as canonical text: what its errors point into, and what a plan is made of.
  package static func text(_ config: JSON) throws(Diagnostics) -> String {
    Printer.text(try query(config))
  }
}

private struct ConfigReader {
  var problems: [Diagnostic] = []

  private mutating func add(
    _ code: String, _ message: String, at place: String, help: String? = nil
  ) {
    problems.append(Diagnostic(code: code, message, at: place, help: help))
  }

  mutating func query(_ config: JSON) -> Query {
    guard config.object != nil else {
      add("not_a_query", "a query is a text or an object, not \(config.kindName)", at: "query")
      return Query(select: [])
    }
    var query = Query(select: select(config["columns"], at: "query.columns"))
    query.from = from(config)
    for (i, step) in list(config["filter"]).enumerated() {
      guard let term = filter(step, at: "query.filter[\(i)]") else { continue }
      query.predicate =
        query.predicate.map { Expression(.binary(.and, $0, term)) } ?? term
    }
    score(config["score"], into: &query)
    for (i, step) in list(config["reorder"]).enumerated() {
      if let call = reranker(step, at: "query.reorder[\(i)]") { query.reorder.append(call) }
    }
    query.limit = count(config["limit"], at: "query.limit")
    query.offset = count(config["offset"], at: "query.offset")
    return query
  }

  /// Several steps, one alone, or none.
  private func list(_ value: JSON?) -> [JSON] {
    switch value {
    case nil, .null: []
    case .array(let elements): elements
    case .some(let one): [one]
    }
  }

  private mutating func count(_ value: JSON?, at place: String) -> Argument? {
    switch value {
    case nil, .null: return nil
    case .int(let number): return Argument(.int(number))
    case .some(let other):
      if let parameter = parameter(other) { return Argument(.parameter(parameter)) }
      add("type_mismatch", "expected a whole number, found \(other.text)", at: place)
      return nil
    }
  }

  private func parameter(_ value: JSON) -> String? {
    value.string.flatMap { TextParser.parameterName(Array($0.utf8)[...]) }
  }

  /// A plain value; nil for null and for objects.
  private func argument(_ value: JSON?) -> Argument? {
    switch value {
    case nil, .null, .object: nil
    case .bool(let value): Argument(.bool(value))
    case .int(let value): Argument(.int(value))
    case .double(let value): Argument(.double(value))
    case .string(let text):
      Argument(parameter(.string(text)).map { .parameter($0) } ?? .string(text))
    case .array(let elements): Argument(.list(elements.compactMap(argument)))
    }
  }

  /// Copies members under the names that the text form gives them.
  private func arguments(
    _ object: JSON, _ names: [(member: String, argument: String)]
  ) -> [CallArgument] {
    names.compactMap { name in
      argument(object[name.member]).map { CallArgument(name: Name(name.argument), value: $0) }
    }
  }

  private mutating func text(_ object: JSON, _ member: String, at place: String) -> String? {
    switch object[member] {
    case nil, .null:
      add("missing_field", "Missing required field: '\(place).\(member)'", at: place)
      return nil
    case .string(let text): return text
    case .some(let other):
      add(
        "type_mismatch", "expected a text, found \(other.kindName)", at: "\(place).\(member)")
      return nil
    }
  }

  private mutating func predicate(_ text: String, at place: String) -> Expression? {
    do throws(Diagnostics) {
      return try Parser.predicate(text)
    } catch {
      keep(error, at: place)
      return nil
    }
  }

  private mutating func keep(_ error: Diagnostics, at place: String) {
    problems += error.all.map { problem in
      var problem = problem
      problem.place = place
      problem.span?.origin = place
      return problem
    }
  }

  private mutating func select(_ columns: JSON?, at place: String) -> [SelectItem] {
    let names = list(columns)
    if names.isEmpty { return [.all(.none)] }
    var out: [SelectItem] = []
    for name in names {
      if let name = name.string {
        out.append(
          name == "*" ? .all(.none) : .column(ColumnReference(name: Name(name)), alias: nil))
      } else {
        add("type_mismatch", "expected a column's name, found \(name.kindName)", at: place)
      }
    }
    return out
  }

  private mutating func from(_ config: JSON) -> From {
    let steps = list(config["retrieve"])
    if steps.isEmpty {
      let entity = config["from"]?.string?.lowercased() ?? "items"
      return .entity(Name(entity.hasPrefix("user") ? "users" : "items"))
    }
    var calls: [Call] = []
    for (i, step) in steps.enumerated() {
      if let call = retriever(step, at: "query.retrieve[\(i)]") { calls.append(call) }
    }
    return .retrievers(calls)
  }

  private mutating func retriever(_ step: JSON, at place: String) -> Call? {
    guard let type = text(step, "type", at: place) else { return nil }
    let name = type == "candidate_ids" ? "ids" : type
    var call = Call(name: Name(name))
    var names = [("name", "name"), ("limit", "limit")]
    switch name {
    case "similarity":
      names += [("embedding_ref", "embedding_ref"), ("use_exact_search", "use_exact_search")]
      if let encoder = step["query_encoder"], encoder.object != nil {
        call.arguments += arguments(
          encoder,
          [("type", "encoder")]
            + [
              "input_user_id", "input_item_id", "pooling_function", "truncate_interactions",
              "num_clusters",
            ].map { ($0, $0) })
      }
    case "text_search":
      names += [("input_text_query", "query")]
      if let mode = step["mode"] {
        call.arguments += arguments(
          mode,
          [
            ("type", "mode"), ("fuzziness_edit_distance", "fuzziness"),
            ("text_embedding_ref", "text_embedding_ref"), ("use_exact_search", "use_exact_search"),
          ])
      }
    case "column_order":
      let columns = list(step["columns"]).compactMap { column in
        column["name"]?.string.map {
          SortColumn(
            column: ColumnReference(name: Name($0)),
            isDescending: column["ascending"]?.bool == false,
            nullsFirst: column["nulls_first"]?.bool == true)
        }
      }
      if columns.isEmpty {
        add("missing_field", "Missing required field: '\(place).columns'", at: place)
        return nil
      }
      call.arguments.append(
        CallArgument(name: Name("columns"), value: Argument(.columns(columns))))
    case "ids": names += [("item_ids", "item_ids")]
    case "candidate_attributes": names += [("item_attributes", "item_attributes")]
    case "filter": break
    default:
      let known = [
        "candidate_attributes", "candidate_ids", "column_order", "filter", "similarity",
        "text_search",
      ]
      let near = nearestName(to: type, among: known)
      add(
        "unknown_function",
        "Unknown retriever type: '\(type)'. Supported: \(known.joined(separator: ", "))."
          + (near.map { " Did you mean: \($0)?" } ?? ""), at: "\(place).type")
      return nil
    }
    call.arguments += arguments(step, names)
    if let condition = step["where"]?.string {
      guard let predicate = predicate(condition, at: "\(place).where") else { return nil }
      call.arguments.append(
        CallArgument(name: Name("where"), value: Argument(.predicate(predicate))))
    } else if name == "filter" {
      // The published builder sends filters without a condition.
      call.arguments.append(
        CallArgument(name: Name("where"), value: Argument(.predicate(Expression(.bool(true))))))
    }
    return call
  }

  private mutating func filter(_ step: JSON, at place: String) -> Expression? {
    func literal(_ value: JSON?) -> Expression? {
      guard let value else { return nil }
      if let parameter = parameter(value) { return Expression(.parameter(parameter)) }
      return switch value {
      case .string(let text): Expression(.string(text))
      case .int(let number): Expression(.int(number))
      default: nil
      }
    }
    guard let type = text(step, "type", at: place) else { return nil }
    switch type {
    case "prebuilt":
      guard let name = text(step, "filter_ref", at: place) else { return nil }
      return Expression(
        .prebuilt(name: Expression(.string(name)), user: literal(step["input_user_id"])))
    case "expression":
      guard let condition = text(step, "expression", at: place) else { return nil }
      return predicate(condition, at: "\(place).expression")
    case "truncate":
      return Expression(.truncate(literal(step["max_length"]) ?? Expression(.int(500))))
    default:
      let near = nearestName(to: type, among: ["prebuilt", "expression", "truncate"])
      add(
        "unknown_function",
        "Unknown filter type: '\(type)'. Supported: expression, prebuilt, truncate."
          + (near.map { " Did you mean: \($0)?" } ?? ""), at: "\(place).type")
      return nil
    }
  }

  private mutating func score(_ step: JSON?, into query: inout Query) {
    guard let step, step != .null, step["type"]?.string != "passthrough" else { return }
    guard let model = text(step, "value_model", at: "query.score") else { return }
    do throws(Diagnostics) {
      let formula = try Parser.formula(model)
      var call = Call(
        name: Name("score"),
        arguments: [CallArgument(name: Name("expression"), value: Argument(.formula(formula)))])
      call.arguments += arguments(
        step,
        ["input_user_id", "input_interactions_item_ids"].map { ($0, $0) })
      if step["preserve_order"]?.bool == true {
        query.select.append(
          .call(call, alias: Name(step["output_alias"]?.string ?? "score")))
      } else {
        query.order = [OrderTerm(key: .call(call))]
      }
    } catch {
      keep(error, at: "query.score.value_model")
    }
  }

  private mutating func reranker(_ step: JSON, at place: String) -> Call? {
    guard let type = text(step, "type", at: place) else { return nil }
    guard let signature = CallSignature.named(type), signature.role == .reranker else {
      add(
        "unknown_function",
        "Unknown re-ranker type: '\(type)'. Supported: "
          + CallSignature.names(.reranker).joined(separator: ", ") + ".", at: "\(place).type")
      return nil
    }
    var call = Call(name: Name(signature.name))
    call.arguments = arguments(step, signature.parameters.map { ($0, $0) })
    if let inner = step["retriever"], inner.object != nil {
      guard let retriever = retriever(inner, at: "\(place).retriever") else { return nil }
      call.arguments.append(
        CallArgument(name: Name("retriever"), value: Argument(.call(retriever))))
    }
    return call
  }
}
