extension Printer {
  package static func text(_ statement: Statement) -> String {
    switch statement {
    case .query(let query): text(query)
    case .data(let query): text(query)
    case .explain(let what, let query):
      switch what {
      case .plan: "EXPLAIN " + text(query)
      case .analysis: "EXPLAIN ANALYZE " + text(query)
      case .whyNot(let item): "EXPLAIN WHY NOT item " + text(item) + " " + text(query)
      case .influence: "EXPLAIN INFLUENCE " + text(query)
      }
    }
  }

  package static func text(_ query: DataQuery) -> String {
    let columns = query.select.map { column in
      (column.expression.map(text) ?? "*") + (column.alias.map { " AS " + word($0.text) } ?? "")
    }
    var parts = ["SELECT " + commas(columns), "FROM " + text(query.from)]
    if let predicate = query.predicate { parts.append("WHERE " + text(predicate)) }
    if !query.groups.isEmpty { parts.append("GROUP BY " + commas(query.groups.map(text))) }
    if let having = query.having { parts.append("HAVING " + text(having)) }
    if !query.order.isEmpty {
      let terms = query.order.map { term in
        text(term.expression) + (term.isDescending ? " DESC" : " ASC")
          + (term.nullsFirst ? " NULLS FIRST" : "")
      }
      parts.append("ORDER BY " + commas(terms))
    }
    if let limit = query.limit { parts.append("LIMIT " + text(limit)) }
    if let offset = query.offset { parts.append("OFFSET " + text(offset)) }
    return parts.joined(separator: " ")
  }
}
