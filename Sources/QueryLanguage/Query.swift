/// `QueryLanguage` turns the text of a query into a tree and back.
///
/// Text comes in; a `Query` with a place in the text for every node goes out, together with every
/// problem found on the way. Both dialects give the same tree. The target knows no catalog: whether
/// a column exists is asked later, by `QueryEngine`. It must never stop at the first problem, and it
/// must never take a parameter for text.

/// Where a node stands in the query's text, as UTF-8 offsets.
///
/// Two trees are equal when they say the same, wherever they stand; so all spans compare equal.
package struct SourceSpan: Hashable, Sendable {
  package var lower: Int32
  package var upper: Int32

  package init(_ lower: Int32, _ upper: Int32) {
    self.lower = lower
    self.upper = upper
  }

  package init(_ range: Range<Int>) {
    self.init(Int32(range.lowerBound), Int32(range.upperBound))
  }

  package static let none = SourceSpan(0, 0)
  package var range: Range<Int> { Int(lower)..<max(Int(lower), Int(upper)) }
  /// From the start of this span to the end of the other.
  package func through(_ other: SourceSpan) -> SourceSpan {
    SourceSpan(lower, max(upper, other.upper))
  }

  package static func == (a: SourceSpan, b: SourceSpan) -> Bool { true }
  package func hash(into hasher: inout Hasher) {}
}

/// A word of the query with its place.
package struct Name: Hashable, Sendable {
  package var text: String
  package var span: SourceSpan
  package init(_ text: String, _ span: SourceSpan = .none) {
    self.text = text
    self.span = span
  }
}

/// A parsed query.
package struct Query: Hashable, Sendable {
  package var select: [SelectItem]
  package var from: From?
  package var predicate: Expression?
  package var order: [OrderTerm]
  /// The legacy `REORDER BY` calls.
  package var reorder: [Call]
  package var limit: Argument?
  package var offset: Argument?
  package var span: SourceSpan

  package init(
    select: [SelectItem], from: From? = nil, predicate: Expression? = nil,
    order: [OrderTerm] = [], reorder: [Call] = [], limit: Argument? = nil,
    offset: Argument? = nil, span: SourceSpan = .none
  ) {
    self.select = select
    self.from = from
    self.predicate = predicate
    self.order = order
    self.reorder = reorder
    self.limit = limit
    self.offset = offset
    self.span = span
  }
}

/// One entry of the `SELECT` list.
package enum SelectItem: Hashable, Sendable {
  case all(SourceSpan)
  case column(ColumnReference, alias: Name?)
  /// `score(...)` or a re-ranker.
  case call(Call, alias: Name?)
}

/// A column by its name, with the entity before the dot where one is written (`item.category`).
package struct ColumnReference: Hashable, Sendable {
  package var qualifier: Name?
  package var name: Name
  package init(qualifier: Name? = nil, name: Name) {
    self.qualifier = qualifier
    self.name = name
  }
  package var span: SourceSpan { qualifier.map { $0.span.through(name.span) } ?? name.span }
}

/// Where the candidates come from.
package indirect enum From: Hashable, Sendable {
  /// `retrieve(...)`, or the legacy list of retrievers.
  case retrievers([Call])
  /// `items`, `item`, `users` or `user`.
  case entity(Name)
  /// `data.NAME` or `view.NAME`, of the global endpoint.
  case table(namespace: Name, name: Name)
  /// `engine.NAME.…`, of the global endpoint.
  case engine(name: Name, From)
}

/// A call of a retriever, an encoder, `score` or a re-ranker. The name is in lower case.
package struct Call: Hashable, Sendable {
  package var name: Name
  package var arguments: [CallArgument]
  package var span: SourceSpan
  package init(name: Name, arguments: [CallArgument] = [], span: SourceSpan = .none) {
    self.name = name
    self.arguments = arguments
    self.span = span
  }

  /// The argument of the name, or nil.
  package subscript(name: String) -> Argument? {
    arguments.first { $0.name?.text == name }?.value
  }
}

/// An argument of a call; a positional one has no name.
package struct CallArgument: Hashable, Sendable {
  package var name: Name?
  package var value: Argument
  package init(name: Name? = nil, value: Argument) {
    self.name = name
    self.value = value
  }
}

/// What an argument is set to.
package struct Argument: Hashable, Sendable {
  package indirect enum Kind: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    /// `$name`, without the dollar sign and without `param.`.
    case parameter(String)
    case list([Argument])
    /// A bare word: an alias.
    case name(String)
    case call(Call)
    /// The text of `score(expression=…)`.
    case formula(Formula)
    /// The text of a retriever's `where=…`.
    case predicate(Expression)
    /// The text of `columns=…`.
    case columns([SortColumn])
  }
  package var kind: Kind
  package var span: SourceSpan
  package init(_ kind: Kind, _ span: SourceSpan = .none) {
    self.kind = kind
    self.span = span
  }
}

/// A column of a sort order.
package struct SortColumn: Hashable, Sendable {
  package var column: ColumnReference
  package var isDescending: Bool
  package var nullsFirst: Bool
  package init(column: ColumnReference, isDescending: Bool = false, nullsFirst: Bool = false) {
    self.column = column
    self.isDescending = isDescending
    self.nullsFirst = nullsFirst
  }
}

/// One term of `ORDER BY`.
package struct OrderTerm: Hashable, Sendable {
  package enum Key: Hashable, Sendable {
    /// An alias, a column or a model.
    case name(ColumnReference)
    case call(Call)
  }
  package var key: Key
  /// nil where neither `ASC` nor `DESC` is written: scores then descend and columns ascend.
  package var isDescending: Bool?
  package var nullsFirst: Bool
  package init(key: Key, isDescending: Bool? = nil, nullsFirst: Bool = false) {
    self.key = key
    self.isDescending = isDescending
    self.nullsFirst = nullsFirst
  }
  package var span: SourceSpan {
    switch key {
    case .name(let reference): reference.span
    case .call(let call): call.span
    }
  }
}
