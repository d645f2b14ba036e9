import Columns
import Domain
import QueryLanguage

extension Binder {
  // MARK: ORDER BY

  struct Aliases {
    var scores: [String: Call] = [:]
    var rerankers: [String: Call] = [:]
    var columns: [String: ColumnReference] = [:]
  }

  mutating func bindOrder(_ query: Query) {
    var aliases = Aliases()
    var scores: [Call] = []
    for item in query.select {
      switch item {
      case .call(let call, let alias) where call.name.text == "score":
        scores.append(call)
        if let alias { aliases.scores[alias.text] = call }
      case .call(let call, let alias):
        guard let alias else { continue }
        if CallSignature.named(call.name.text)?.role == .reranker {
          aliases.rerankers[alias.text] = call
        }
      case .column(let reference, let alias?): aliases.columns[alias.text] = reference
      case .column, .all: break
      }
    }
    for term in query.order {
      if case .call(let call) = term.key, call.name.text == "score" { scores.append(call) }
    }
    if scores.count > 1, scores.contains(where: { $0 != scores[0] }) {
      problems.add(
        "several_scores", "A query has one score() at most", scores[1].span,
        help: "Join both expressions into one, or name the first by AS and use the name.")
    }
    if let score = scores.first { bindScore(score) }
    for term in query.order {
      switch term.key {
      case .call(let call) where call.name.text == "score": orderByScore(term)
      case .call(let call):
        rerankers(from: call, aliases)
      case .name(let reference):
        let name = reference.name.text
        let isPlain = reference.qualifier == nil
        if isPlain, aliases.scores[name] != nil {
          orderByScore(term)
        } else if isPlain, let call = aliases.rerankers[name] {
          if query.order.count > 1 {
            problems.add(
              "not_supported", "an order by a re-ranker stands alone", term.span,
              help: "ORDER BY \(name) DESC")
          }
          rerankers(from: call, aliases)
        } else if isPlain, let column = aliases.columns[name] {
          orderByColumn(column, term)
        } else if finder.items[name] == nil, !finder.isDerived(name), isPlain,
          source.modelNames.contains(name)
        {
          bindModelScore(name, reference)
          orderByScore(term)
        } else if isPlain, finder.items[name] == nil, !finder.isDerived(name), name != "id" {
          let known =
            aliases.scores.keys.sorted() + aliases.rerankers.keys.sorted() + source.modelNames
            + finder.items.names + source.derivedColumnNames
          problems.unknown(
            "name", name, reference.span, among: known, plural: "aliases, models and columns")
        } else {
          orderByColumn(reference, term)
        }
      }
    }
    for call in query.reorder { bindReranker(call, aliases) }
  }

  mutating func orderByScore(_ term: OrderTerm) {
    plan.order.append(
      Plan.SortKey(
        value: .score, name: "score", isDescending: term.isDescending ?? true,
        nullsFirst: term.nullsFirst))
  }

  mutating func orderByColumn(_ reference: ColumnReference, _ term: OrderTerm) {
    if let key = sortKey(
      reference, isDescending: term.isDescending ?? false, nullsFirst: term.nullsFirst)
    {
      plan.order.append(key)
    }
  }

  /// The re-rankers that lead to this one, by their `score=`, and the score that they start from.
  mutating func rerankers(from last: Call, _ aliases: Aliases) {
    var chain = [last]
    while let argument = chain[chain.count - 1]["score"] {
      let name: String
      switch argument.kind {
      case .name(let text), .string(let text): name = text
      default:
        problems.add("type_mismatch", "`score` is the alias of a score or re-ranker", argument.span)
        return
      }
      if aliases.scores[name] != nil { break }
      guard let next = aliases.rerankers[name] else {
        problems.unknown(
          "alias", name, argument.span,
          among: aliases.scores.keys.sorted() + aliases.rerankers.keys.sorted(), plural: "aliases")
        return
      }
      if chain.contains(next) {
        problems.add("circular_alias", "`\(name)` leads back to itself", argument.span)
        return
      }
      chain.append(next)
    }
    if plan.score != nil {
      plan.order = [
        Plan.SortKey(value: .score, name: "score", isDescending: true, nullsFirst: false)
      ]
    }
    for call in chain.reversed() { bindReranker(call, aliases) }
  }
}
