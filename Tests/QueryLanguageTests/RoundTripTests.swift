import Domain
import QueryLanguage
import Testing

/// Makes random trees. What it makes is what the parser can give: no negative literals inside
/// expressions, positional arguments already named.
private struct TreeMaker {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  mutating func coin() -> Bool { next() & 1 == 0 }
  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
  mutating func several<T>(_ most: Int, _ make: (inout TreeMaker) -> T) -> [T] {
    (0..<below(most) + 1).map { _ in make(&self) }
  }

  mutating func word() -> String {
    pick(["a", "title", "order", "Limit", "odd name", "täg", "_x1", "a`b", "not", "data"])
  }
  mutating func text() -> String {
    pick([
      "", "x", "it's", "'", "''", "a\"b", "$", "$ x", "100 %", "--no comment", "tab\t", "é≠😀",
      "back\\slash", "new\nline",
    ])
  }
  mutating func double() -> Double { pick([0.5, 1.0, 1e-7, 3.25e20, 0.1, 123456.789]) }

  mutating func reference() -> ColumnReference {
    ColumnReference(qualifier: coin() ? Name("item") : nil, name: Name(word()))
  }

  mutating func literal() -> Expression {
    switch below(6) {
    case 0: Expression(.null)
    case 1: Expression(.bool(coin()))
    case 2: Expression(.int(Int64(below(1000))))
    case 3: Expression(.double(double()))
    case 4: Expression(.string(text()))
    default: Expression(.parameter(pick(["p", "user_id"])))
    }
  }

  mutating func expression(_ depth: Int) -> Expression {
    if depth == 0 { return coin() ? literal() : Expression(.column(reference())) }
    func make(_ maker: inout TreeMaker) -> Expression { maker.expression(depth - 1) }
    switch below(13) {
    case 12:
      return Expression(
        .conditional(
          several(3) { CaseBranch(condition: make(&$0), value: make(&$0)) },
          otherwise: coin() ? make(&self) : nil))
    case 0: return Expression(.not(make(&self)))
    case 1: return Expression(.negate(make(&self)))
    case 2, 3, 4:
      return Expression(
        .binary(pick(Expression.BinaryOperator.allCases), make(&self), make(&self)))
    case 5:
      return Expression(
        .isTest(make(&self), pick(Expression.IsTest.allCases), negated: coin()))
    case 6:
      let list =
        coin() ? Expression(.parameter("p")) : Expression(.list(several(3) { $0.literal() }))
      return Expression(.isIn(make(&self), list: list, negated: coin()))
    case 7:
      return Expression(
        .like(make(&self), pattern: make(&self), ignoresCase: coin(), negated: coin()))
    case 8:
      return Expression(
        .between(make(&self), low: make(&self), high: make(&self), negated: coin()))
    case 9: return Expression(.call(Name(pick(["length", "lower"])), several(3, make)))
    case 10: return Expression(.cast(make(&self), to: Name("double")))
    default:
      return coin()
        ? Expression(.prebuilt(name: literal(), user: coin() ? literal() : nil))
        : Expression(.truncate(literal()))
    }
  }

  mutating func formula(_ depth: Int) -> Formula {
    func make(_ maker: inout TreeMaker) -> Formula { maker.formula(depth - 1) }
    switch depth == 0 ? below(5) : 5 + below(8) {
    case 0: return Formula(.int(Int64(below(100))))
    case 1: return Formula(.double(double()))
    case 2: return Formula(.string(text()))
    case 3: return Formula(.parameter("p"))
    case 4:
      return coin()
        ? Formula(.name([Name("item"), Name(word())]))
        : pick([Formula(.null), Formula(.bool(true)), Formula(.name([Name("if")]))])
    case 5: return Formula(.not(make(&self)))
    case 6: return Formula(.negate(make(&self)))
    case 7:
      return Formula(
        .conditional(then: make(&self), condition: make(&self), otherwise: make(&self)))
    case 8:
      return Formula(
        .call(
          Name("retrieval.get_rank"),
          several(3) { maker in
            FormulaArgument(name: maker.coin() ? Name("default") : nil, value: make(&maker))
          }))
    default:
      return Formula(.binary(pick(Formula.Operator.allCases), make(&self), make(&self)))
    }
  }

  mutating func argument(_ depth: Int) -> Argument {
    switch below(depth == 0 ? 7 : 9) {
    case 0: Argument(.null)
    case 1: Argument(.bool(coin()))
    case 2: Argument(.int(Int64(below(100)) - 50))
    case 3: Argument(.double(-double()))
    case 4: Argument(.string(text()))
    case 5: Argument(.parameter("user_id"))
    case 6: Argument(.name(word()))
    case 7: Argument(.list(several(3) { $0.argument(depth - 1) }))
    default:
      Argument(
        .object(
          ["a", "it's", "é"].prefix(below(4)).map {
            ObjectMember(name: $0, value: argument(depth - 1))
          }))
    }
  }

  mutating func retriever() -> Call {
    func named(_ pairs: [(String, Argument)]) -> [CallArgument] {
      pairs.map { CallArgument(name: Name($0.0), value: $0.1) }
    }
    switch below(4) {
    case 0:
      return Call(
        name: Name("similarity"),
        arguments: named([
          ("embedding_ref", argument(1)), ("limit", argument(0)),
          ("where", Argument(.predicate(expression(2)))),
        ]))
    case 1:
      let columns = several(3) { maker in
        SortColumn(column: maker.reference(), isDescending: maker.coin(), nullsFirst: maker.coin())
      }
      return Call(
        name: Name("column_order"), arguments: named([("columns", Argument(.columns(columns)))]))
    case 2:
      return Call(
        name: Name("filter"), arguments: named([("where", Argument(.predicate(expression(2))))]))
    default:
      return Call(name: Name("ids"), arguments: named([("item_ids", argument(2))]))
    }
  }

  mutating func reranker() -> Call {
    Call(
      name: Name("exploration"),
      arguments: [
        CallArgument(name: Name("score"), value: Argument(.name("s"))),
        CallArgument(name: Name("retriever"), value: Argument(.call(retriever()))),
      ])
  }

  mutating func score() -> Call {
    Call(
      name: Name("score"),
      arguments: [
        CallArgument(name: Name("expression"), value: Argument(.formula(formula(3)))),
        CallArgument(name: Name("input_user_id"), value: argument(0)),
      ])
  }

  mutating func from() -> From {
    switch below(5) {
    case 0: .entity(Name(pick(["items", "item", "users"])))
    case 1: .table(namespace: Name(pick(["data", "view"])), name: Name(word()))
    case 2: .engine(name: Name(word()), .entity(Name("interactions")))
    case 3: .engine(name: Name(word()), .retrievers(several(2) { $0.retriever() }))
    default: .retrievers(several(3) { $0.retriever() })
    }
  }

  mutating func query() -> Query {
    Query(
      select: several(3) { maker in
        let alias = maker.coin() ? Name(maker.word()) : nil
        return switch maker.below(4) {
        case 0: .all(.none)
        case 1: .call(maker.score(), alias: alias)
        case 2: .call(maker.reranker(), alias: alias)
        default: .column(maker.reference(), alias: alias)
        }
      },
      from: coin() ? from() : nil,
      predicate: coin() ? expression(4) : nil,
      order: coin()
        ? several(2) { maker in
          OrderTerm(
            key: maker.coin() ? .name(maker.reference()) : .call(maker.score()),
            isDescending: maker.pick([nil, true, false]), nullsFirst: maker.coin())
        } : [],
      reorder: coin() ? several(2) { $0.reranker() } : [],
      limit: coin() ? Argument(.int(7)) : Argument(.parameter("n")),
      offset: coin() ? Argument(.int(3)) : nil,
      asOf: coin()
        ? pick([.init(.int(120)), .init(.string("2026-01-05T10:00:00Z")), .init(.parameter("at"))])
        : nil)
  }

  /// A query over a table: it groups, or FROM names one, so that it cannot be read as a ranking.
  mutating func dataQuery() -> DataQuery {
    func value(_ maker: inout TreeMaker) -> Expression { maker.expression(3) }
    func aggregate(_ maker: inout TreeMaker) -> Expression {
      Expression(
        .call(Name(maker.pick(["count", "sum", "max", "count_distinct"])), [maker.expression(2)]))
    }
    return DataQuery(
      select: several(3) { maker in
        maker.below(5) == 0
          ? DataColumn(nil)
          : DataColumn(
            maker.coin() ? value(&maker) : aggregate(&maker),
            alias: maker.coin() ? Name(maker.word()) : nil)
      },
      from: coin()
        ? .table(namespace: Name(pick(["data", "view"])), name: Name(word()))
        : .engine(name: Name(word()), .entity(Name(pick(["items", "users", "interactions"])))),
      predicate: coin() ? value(&self) : nil,
      groups: coin() ? several(2, value) : [],
      having: coin() ? aggregate(&self) : nil,
      order: coin()
        ? several(2) { maker in
          DataOrder(value(&maker), isDescending: maker.coin(), nullsFirst: maker.coin())
        } : [],
      limit: coin() ? Argument(.int(7)) : nil, offset: coin() ? Argument(.parameter("n")) : nil)
  }

  /// A query whose FROM names no table, so that it ranks.
  mutating func ranking() -> Query {
    var query = query()
    switch query.from {
    case .table, .engine(_, .entity): query.from = .retrievers(several(2) { $0.retriever() })
    default: break
    }
    return query
  }

  mutating func statement() -> Statement {
    switch below(6) {
    case 0: .query(ranking())
    case 1: .explain(.plan, ranking())
    case 2: .explain(.analysis, ranking())
    case 3: .explain(.influence, ranking())
    case 4: .explain(.whyNot(Argument(.string(text()))), ranking())
    default: .data(dataQuery())
    }
  }
}

@Suite struct `Printing queries` {
  @Test(arguments: 0..<200 as Range<UInt64>)
  func `prints trees that read back as the same trees`(seed: UInt64) {
    var maker = TreeMaker(state: seed)
    for _ in 0..<10 {
      let tree = maker.query()
      let text = Printer.text(tree)
      let result = Parser.parse(text)
      #expect(result.problems.isEmpty, "seed \(seed): \(text)\n\(result.problems)")
      // The trees are too large to be of use in a failure's text.
      let isSame = result.query == tree
      #expect(isSame, "seed \(seed): \(text)\n\(Printer.text(result.query))")
    }
  }
}

@Suite struct `Printing statements` {
  @Test(arguments: 0..<200 as Range<UInt64>)
  func `prints statements that read back as the same statements`(seed: UInt64) {
    var maker = TreeMaker(state: seed &+ 7_000)
    for _ in 0..<10 {
      let several = maker.several(2) { $0.statement() }
      let text = several.map { Printer.text($0) }.joined(separator: ";\n")
      let parsed = Parser.script(text)
      #expect(parsed.flatMap(\.problems).isEmpty, "seed \(seed): \(text)")
      let isSame = parsed.map(\.statement) == several
      #expect(
        isSame,
        "seed \(seed): \(text)\n\(parsed.map { Printer.text($0.statement) }.joined(separator: ";\n"))"
      )
    }
  }
}

@Suite struct `Reading damaged queries` {
  /// Cuts and swaps bytes of good queries: whatever comes out, the parser ends and points inside.
  @Test(arguments: 0..<20 as Range<UInt64>)
  func `always ends and always points inside the text`(seed: UInt64) {
    var maker = TreeMaker(state: seed)
    for text in `Reading queries`.conforming {
      var bytes = Array(text.utf8)
      for _ in 0..<maker.below(6) + 1 {
        let place = maker.below(bytes.count)
        switch maker.below(3) {
        case 0: bytes.remove(at: place)
        case 1: bytes[place] = maker.pick(Array("(),.'\"$*-= a1`[]\\".utf8))
        default: bytes.insert(maker.pick(Array("(),.'\"$*-= a1`[]\\".utf8)), at: place)
        }
      }
      let damaged = String(decoding: bytes, as: UTF8.self)
      let result = Parser.parse(damaged)
      for problem in result.problems {
        guard let range = problem.span?.range else { continue }
        #expect(range.upperBound <= damaged.utf8.count, "seed \(seed): \(damaged)")
        #expect(!problem.description.isEmpty)
      }
      if !result.isWhole { #expect(!result.problems.isEmpty, "seed \(seed): \(damaged)") }
    }
  }
}
