import Columns
import Domain
import QueryLanguage

extension FormulaBinder {
  /// `user.NAME`: a value that the caller gives, or a cell of the user's row.
  func userCell(_ name: Name, _ span: SourceSpan) -> Bound? {
    if name.text == "recent_interactions" {
      problems.add(
        "type_mismatch", "`user.recent_interactions` is a list of items; a score needs a number",
        span, help: "pooled_text_encoding(user.recent_interactions, pool_fn='mean')")
      return nil
    }
    guard let value = user.value(ColumnReference(name: name), source, problems) else { return nil }
    switch value {
    case .null:
      let type = source.userColumns.first { $0.name == name.text }?.type
      return type.map { ScalarType($0) } == .string
        ? (.text(nil), .text) : (.number(.nan), .number)
    case .bool(let value): return (.number(value ? 1 : 0), .number)
    case .int(let value): return (.number(Double(value)), .number)
    case .double(let value): return (.number(value), .number)
    case .timestamp(let value): return (.number(value.secondsSinceEpoch), .number)
    case .string(let text): return (.text(text), .text)
    case .array, .bytes:
      problems.add(
        "type_mismatch", "`user.\(name.text)` holds a list; a score needs a number", span)
      return nil
    }
  }

  /// `rrf("a", "b", k=60)`: the sum of `1 / (k + rank)` over the retrievers that found the item.
  mutating func fused(
    _ name: Name, _ arguments: [FormulaArgument], _ span: SourceSpan
  ) -> Bound? {
    var k = 60.0
    var places: [Int] = []
    for argument in arguments {
      switch (argument.name?.text, argument.value.kind) {
      case ("k", .int(let value)): k = Double(value)
      case ("k", .double(let value)): k = value
      case (nil, .string(let text)):
        guard let place = retrievers.firstIndex(of: text) else {
          unknownRetriever(text, argument.value.span)
          return nil
        }
        places.append(place)
      case (nil, .name(let parts)) where parts.count == 1:
        guard let place = retrievers.firstIndex(of: parts[0].text) else {
          unknownRetriever(parts[0].text, argument.value.span)
          return nil
        }
        places.append(place)
      default:
        problems.add(
          "wrong_argument", "rrf() takes names of retrievers and k", argument.value.span,
          help: #"rrf("lex", "vec", k=60)"#)
        return nil
      }
    }
    guard !places.isEmpty else {
      problems.add(
        "missing_argument", "rrf() needs names of retrievers", name.span,
        help: #"rrf("lex", "vec", k=60)"#)
      return nil
    }
    let terms = places.map { place in
      FormulaProgram.Node.arithmetic(
        .divide, .number(1),
        .arithmetic(.add, .number(k), input(.retrievalRank(place, fallback: .infinity))))
    }
    return (terms.dropFirst().reduce(terms[0]) { .arithmetic(.add, $0, $1) }, .number)
  }

  mutating func similarity(
    _ name: Name, _ arguments: [FormulaArgument], _ span: SourceSpan
  ) -> Bound? {
    guard arguments.count == 2 else {
      problems.add(
        "wrong_argument_count", "\(name.text)() takes 2 vectors, not \(arguments.count)", span)
      return nil
    }
    let (a, b) = (vector(arguments[0].value), vector(arguments[1].value))
    guard let a, let b else { return nil }
    return (input(.similarity(a, b, isCosine: name.text == "cosine_similarity")), .number)
  }

  private func vector(_ formula: Formula) -> FormulaProgram.VectorTerm? {
    func wrong() -> FormulaProgram.VectorTerm? {
      problems.add(
        "type_mismatch", "a vector must stand here", formula.span,
        help: "text_encoding(item, embedding_ref='…'), text_encoding(user), or "
          + "pooled_text_encoding(user.recent_interactions, pool_fn='mean', embedding_ref='…')")
      return nil
    }
    guard case .call(let name, let arguments) = formula.kind,
      name.text == "text_encoding" || name.text == "pooled_text_encoding"
    else { return wrong() }
    let isPooled = name.text == "pooled_text_encoding"
    var subject: String?
    var embedding: (text: String, span: SourceSpan)?
    var pooling = Encoder.Pooling.mean
    var interactions = 1000
    for (i, argument) in arguments.enumerated() {
      switch (argument.name?.text ?? ["entity", "embedding_ref"][min(i, 1)], argument.value.kind) {
      case ("entity", .name(let parts)):
        subject = parts.map { $0.text.lowercased() }.joined(separator: ".")
      case ("embedding_ref", .string(let text)):
        embedding = (Binder.referred(text), argument.value.span)
      case ("pool_fn", .string(let text)):
        guard let known = Encoder.Pooling(rawValue: text.lowercased()) else {
          problems.unknown(
            "pooling function", text, argument.value.span,
            among: Encoder.Pooling.allCases.map(\.rawValue), plural: "pooling functions")
          return nil
        }
        pooling = known
      case ("truncate_interactions", .int(let count)) where count > 0:
        interactions = Int(min(count, 10_000))
      default:
        problems.add(
          "wrong_argument", "\(name.text)() cannot take this", argument.value.span,
          help: isPooled
            ? "pooled_text_encoding(user.recent_interactions, pool_fn='mean', embedding_ref='…')"
            : "text_encoding(item, embedding_ref='…')")
        return nil
      }
    }
    let chosen = embedding?.text ?? "text_embedding"
    guard
      let known = source.embeddingNames.contains(chosen)
        ? chosen : embedding == nil ? source.embeddingNames.first : nil
    else {
      problems.unknown(
        "embedding", chosen, embedding?.span ?? formula.span, among: source.embeddingNames,
        plural: "embeddings")
      return nil
    }
    switch (isPooled, subject) {
    case (true, "user.recent_interactions"):
      return .history(embedding: known, pooling, interactions: interactions)
    case (false, "item"): return .item(embedding: known)
    case (false, "user"): return .user(embedding: known)
    default: return wrong()
    }
  }
}
