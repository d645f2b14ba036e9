/// What one statement of a request asks for.
package indirect enum Statement: Hashable, Sendable {
  case query(Query)
  case data(DataQuery)
  case explain(Explained, Query)

  /// What `EXPLAIN` tells of a query.
  package enum Explained: Hashable, Sendable {
    /// The plan; nothing runs.
    case plan
    /// The plan, and what every step of it took in and gave out.
    case analysis
    /// `WHY NOT item 'x'`: the first step that removed the item.
    case whyNot(Argument)
    /// Which past events carried each item of the answer.
    case influence
  }
}

/// `SELECT` over the rows of a table, with or without groups.
package struct DataQuery: Hashable, Sendable {
  package var select: [DataColumn]
  package var from: From
  package var predicate: Expression?
  package var groups: [Expression]
  package var having: Expression?
  package var order: [DataOrder]
  package var limit: Argument?
  package var offset: Argument?
  package var span: SourceSpan

  package init(
    select: [DataColumn], from: From, predicate: Expression? = nil, groups: [Expression] = [],
    having: Expression? = nil, order: [DataOrder] = [], limit: Argument? = nil,
    offset: Argument? = nil, span: SourceSpan = .none
  ) {
    self.select = select
    self.from = from
    self.predicate = predicate
    self.groups = groups
    self.having = having
    self.order = order
    self.limit = limit
    self.offset = offset
    self.span = span
  }
}

/// One entry of the `SELECT` list of a data query.
package struct DataColumn: Hashable, Sendable {
  /// nil: `*`.
  package var expression: Expression?
  package var alias: Name?
  package init(_ expression: Expression?, alias: Name? = nil) {
    self.expression = expression
    self.alias = alias
  }
  /// The column's name in the answer.
  package var name: String {
    if let alias { return alias.text }
    guard let expression else { return "*" }
    if case .column(let reference) = expression.kind { return reference.name.text }
    return Printer.text(expression)
  }
}

/// One term of the order of a data query.
package struct DataOrder: Hashable, Sendable {
  package var expression: Expression
  package var isDescending: Bool
  package var nullsFirst: Bool
  package init(_ expression: Expression, isDescending: Bool = false, nullsFirst: Bool = false) {
    self.expression = expression
    self.isDescending = isDescending
    self.nullsFirst = nullsFirst
  }
}

/// The names of the functions over groups of rows.
package enum Aggregate: String, Hashable, Sendable, CaseIterable {
  case count, sum, avg, min, max
  case countDistinct = "count_distinct"
}
