import Columns
import Domain
import QueryLanguage

extension Binder {
  mutating func bindReranker(_ call: Call, _ aliases: Aliases) {
    switch call.name.text {
    case "diversity":
      if let step = diversity(call) { plan.reorder.append(.diversity(step)) }
    case "exploration":
      var seed: UInt64?
      if let given = call["seed"] {
        seed = count(given, "seed", most: Int(Int32.max)).map { UInt64($0) }
      }
      var window = 20
      if let given = call["diversity_lookback_window"] {
        window = max(1, count(given, "diversity_lookback_window", most: 1000) ?? 20)
      }
      guard let pool = pool(call) else { return }
      plan.reorder.append(
        .exploration(
          Plan.Exploration(
            strength: fraction(call, "strength", default: 0.5), window: window, seed: seed,
            pool: pool)))
    case "boosted":
      guard call["retriever"] != nil else {
        problems.add(
          "missing_argument", "boosted() needs `retriever`", call.name.span,
          help: "boosted(0.3, retriever=filter(where='is_new'))")
        return
      }
      guard let pool = pool(call) else { return }
      let weight = finder.items["boost"].flatMap { column in
        [.int, .double, .bool].contains(ScalarType(column.type)) ? column : nil
      }
      plan.reorder.append(
        .boosted(
          Plan.Boost(
            strength: fraction(call, "strength", default: 0.5), pool: pool, weight: weight)))
    case "column_sort":
      guard case .columns(let columns)? = call["columns"]?.kind else { return }
      let keys = columns.compactMap { column -> Plan.SortKey? in
        let name = column.column.name.text
        if column.column.qualifier == nil, finder.items[name] == nil,
          aliases.scores[name] != nil || name == "score"
        {
          return Plan.SortKey(
            value: .score, name: "score", isDescending: column.isDescending,
            nullsFirst: column.nullsFirst)
        }
        return sortKey(
          aliases.columns[name] ?? column.column, isDescending: column.isDescending,
          nullsFirst: column.nullsFirst)
      }
      if keys.count == columns.count { plan.reorder.append(.columnSort(keys)) }
    default: break
    }
  }

  /// Where the items of an exploration or a boost come from.
  private mutating func pool(_ call: Call) -> Plan.Pool? {
    guard let argument = call["retriever"] else { return .anything }
    switch argument.kind {
    case .call(let inner):
      guard CallSignature.named(inner.name.text)?.role == .retriever,
        inner.name.text != "candidate_attributes"
      else {
        problems.add(
          "type_mismatch", "`retriever` is a retriever's name or call", argument.span,
          help: "retriever=column_order(columns='published DESC', limit=100)")
        return nil
      }
      return retriever(inner).map { .retriever($0) }
    case .name(let name), .string(let name):
      let names = plan.retrievers.map(\.name)
      if let place = names.firstIndex(of: name) { return .named(place) }
      problems.unknown(
        "retriever", name, argument.span, among: names.compactMap { $0 },
        plural: "named retrievers")
      return nil
    case .null: return .anything
    default:
      problems.add(
        "type_mismatch", "`retriever` is a retriever's name or call", argument.span)
      return nil
    }
  }

  private func diversity(_ call: Call) -> Plan.Diversity? {
    var step = Plan.Diversity(
      strength: fraction(call, "strength", default: 0.5), lookback: 30, lookforward: 30,
      mostCandidates: 1000, attributes: [], names: [])
    if let given = text(call, "text_encoding_embedding_ref") {
      let name = Binder.referred(given.text)
      guard source.embeddingNames.contains(name) else {
        problems.unknown(
          "embedding", name, given.span, among: source.embeddingNames, plural: "embeddings")
        return nil
      }
      step.embedding = name
    }
    if let argument = call["diversity_attributes"] {
      guard let names = parameters.value(of: argument)?.array else {
        problems.add(
          "type_mismatch", "`diversity_attributes` is a list of columns", argument.span,
          help: "diversity_attributes=['creator_id']")
        return nil
      }
      for name in names {
        guard case .string(let name) = name else {
          problems.add(
            "type_mismatch", "`diversity_attributes` is a list of columns", argument.span)
          continue
        }
        let written = name.hasPrefix("item.") ? String(name.dropFirst(5)) : name
        if let column = finder.column(ColumnReference(name: Name(written, argument.span))) {
          step.attributes.append(column)
          step.names.append(written)
        }
      }
    } else if step.embedding == nil {
      // As the published demos write it: over the vectors that there are.
      guard let first = source.embeddingNames.first else {
        problems.add(
          "missing_argument", "diversity() needs `diversity_attributes`", call.name.span,
          help: "diversity(0.3, diversity_attributes=['creator_id'])")
        return nil
      }
      step.embedding = first
    }
    if let lookback = call["diversity_lookback_window"] {
      step.lookback = count(lookback, "diversity_lookback_window", most: 1000) ?? 30
    }
    if let lookforward = call["diversity_lookforward_window"] {
      step.lookforward =
        max(1, count(lookforward, "diversity_lookforward_window", most: 1000) ?? 30)
    }
    if let most = call["max_diversity_candidates"] {
      step.mostCandidates = count(most, "max_diversity_candidates", most: 10_000) ?? 1000
    }
    return step
  }
}
