import Columns
import Domain
import QueryLanguage

/// Runs a data query: a table, a condition, groups, and an order.
struct DataQueryRunner {
  let source: any QuerySource
  let problems: QueryProblems
  let parameters: Parameters
  /// The most rows of an answer, and what comes without LIMIT.
  static let mostRows = 10_000
  static let defaultRows = 1000
  /// More groups are refused.
  static let mostGroups = 1_000_000

  init(_ source: any QuerySource, parameters: [String: JSON], problems: QueryProblems) {
    self.source = source
    self.problems = problems
    self.parameters = Parameters(values: parameters, problems: problems) { reference in
      problems.add(
        "unknown_entity", "unknown entity `user`", reference.span,
        help: "A data query reads one table; write the column alone.")
      return nil
    }
  }

  func run(_ query: DataQuery) throws -> DataResult {
    let limit = count(query.limit, "limit", default: Self.defaultRows)
    let offset = count(query.offset, "offset", default: 0)
    guard let table = table(query.from) else { throw failure() }
    let base = TableSource(items: table, now: source.now)
    let finder = ColumnFinder(items: table, source: base, problems: problems)
    var rows = Array(0..<table.rowCount)
    if let predicate = query.predicate {
      var binder = PredicateBinder(finder)
      let filled = parameters.filled(predicate)
      if let aggregate = DataPlan.aggregate(in: filled) {
        problems.add(
          "misplaced_function", "an aggregate cannot stand in WHERE", aggregate,
          help: "Conditions on groups stand in HAVING.")
        throw failure()
      }
      if let condition = binder.condition(filled) {
        rows = PredicateScan(columns: binder.columns, rowCount: table.rowCount).rows(condition).rows
      }
    }
    var plan = DataPlan(query, table, parameters)
    if plan.isGrouped {
      guard let (grouped, all) = try group(&plan, finder, rows) else { throw failure() }
      let source = TableSource(items: grouped, now: base.now)
      let finder = ColumnFinder(items: grouped, source: source, problems: problems)
      return try project(plan, finder, all, limit, offset)
    }
    return try project(plan, finder, rows, limit, offset)
  }

  private func failure() -> any Error {
    if problems.all.isEmpty {
      return Diagnostic(.internalError, code: "internal", "a data query failed without a reason")
    }
    return Diagnostics(problems.all)
  }

  private func count(_ argument: Argument?, _ name: String, default fallback: Int) -> Int {
    guard let argument, let value = parameters.value(of: argument) else { return fallback }
    let number = value.int ?? value.string.flatMap { Int64($0) }
    guard let number, number >= 0, number <= Self.mostRows else {
      problems.add(
        "limit_exceeded",
        "Parameter '\(name)' must be a whole number from 0 to \(Self.mostRows). Got: \(value.text)",
        argument.span)
      return fallback
    }
    return Int(number)
  }

  private func table(_ from: From) -> ColumnTable? {
    let reference: TableReference
    let span: SourceSpan
    switch from {
    case .entity(let name): (reference, span) = (.entity(name.text, engine: nil), name.span)
    case .table(let namespace, let name):
      reference = .table(namespace: namespace.text, name: name.text)
      span = namespace.span.through(name.span)
    case .engine(let engine, .entity(let name)):
      (reference, span) = (.entity(name.text, engine: engine.text), engine.span.through(name.span))
    case .engine(_, _), .retrievers: return nil
    }
    do {
      if let table = try source.table(reference) { return table }
    } catch {
      problems.record(error, span)
      return nil
    }
    problems.unknown(
      "table", reference.description, span, among: source.tableNames, plural: "tables")
    return nil
  }

  // MARK: Groups

  /// What one aggregate has seen of one group.
  private struct Accumulator {
    var count: Int64 = 0
    var whole: Int64? = 0
    var sum = 0.0
    var least: Value = .null
    var most: Value = .null
    var distinct: Set<Value> = []

    mutating func add(_ value: Value, _ kind: Aggregate) {
      if value.isNull { return }
      count += 1
      switch kind {
      case .count: break
      case .countDistinct: distinct.insert(value)
      case .sum, .avg:
        if case .int(let number) = value {
          whole = whole.flatMap { sofar in
            let (sum, overflow) = sofar.addingReportingOverflow(number)
            return overflow ? nil : sum
          }
          sum += Double(number)
        } else if case .double(let number) = value {
          sum += number
        }
      case .min: if least.isNull || ValueOrder.isLess(value, least) { least = value }
      case .max: if most.isNull || ValueOrder.isLess(most, value) { most = value }
      }
    }

    func result(_ kind: Aggregate, _ type: ScalarType) -> Value {
      switch kind {
      case .count: return .int(count)
      case .countDistinct: return .int(Int64(distinct.count))
      case .sum:
        if count == 0 { return .null }
        return type == .int ? whole.map { .int($0) } ?? .null : .double(sum)
      case .avg: return count == 0 ? .null : .double(sum / Double(count))
      case .min: return least
      case .max: return most
      }
    }
  }

  /// A table with a row for each group and a column for each group's expression and each aggregate.
  private func group(
    _ plan: inout DataPlan, _ finder: ColumnFinder, _ rows: [Int]
  ) throws -> (ColumnTable, [Int])? {
    var binder = PredicateBinder(finder)
    var keys: [(scalar: Scalar, type: ScalarType)] = []
    for expression in plan.groups {
      if let bound = binder.scalar(expression) { keys.append(bound) }
    }
    var arguments: [(scalar: Scalar?, type: ScalarType)] = []
    for aggregate in plan.aggregates {
      guard let argument = aggregate.argument else {
        arguments.append((nil, .int))
        continue
      }
      guard let bound = binder.scalar(argument) else { continue }
      let needsNumber = aggregate.kind == .sum || aggregate.kind == .avg
      if bound.type.isArray || (needsNumber && !bound.type.isNumber && bound.type != .null) {
        problems.add(
          "type_mismatch",
          "\(aggregate.kind.rawValue)() needs \(needsNumber ? "a number" : "a plain value"), "
            + "not \(bound.type.name)", argument.span)
      }
      arguments.append(bound)
    }
    plan.problems.forEach { problems.add($0.code, $0.message, $0.span, help: $0.help) }
    guard problems.all.isEmpty else { return nil }
    var cells = Cells(columns: binder.columns)
    var places: [[Value]: Int] = [:]
    var groups: [(key: [Value], accumulators: [Accumulator])] = []
    let empty = [Accumulator](repeating: Accumulator(), count: arguments.count)
    if keys.isEmpty { groups.append(([], empty)) }
    for row in rows {
      cells.row = row
      var place = 0
      if !keys.isEmpty {
        let key = keys.map { $0.scalar.evaluate(cells) }
        if let known = places[key] {
          place = known
        } else {
          place = groups.count
          if place == Self.mostGroups {
            throw Diagnostics(
              Diagnostic(
                code: "too_many_groups", "The query makes more than \(Self.mostGroups) groups.",
                help: "Group by fewer columns, or narrow the rows by WHERE."))
          }
          places[key] = place
          groups.append((key, empty))
        }
      }
      for (i, argument) in arguments.enumerated() {
        let value = argument.scalar?.evaluate(cells) ?? .int(1)
        groups[place].accumulators[i].add(value, plan.aggregates[i].kind)
      }
    }
    var definitions: [ColumnDefinition] = []
    for (i, key) in keys.enumerated() {
      definitions.append(ColumnDefinition(name: DataPlan.groupName(i), type: key.type.columnType))
    }
    for (i, argument) in arguments.enumerated() {
      let type: ColumnType =
        switch plan.aggregates[i].kind {
        case .count, .countDistinct: .int64
        case .avg: .double
        case .sum: argument.type == .int ? .int64 : .double
        case .min, .max: argument.type.columnType
        }
      definitions.append(ColumnDefinition(name: DataPlan.aggregateName(i), type: type))
    }
    var table = ColumnTable(definitions)
    for group in groups {
      let results = group.accumulators.enumerated().map { i, accumulator in
        accumulator.result(plan.aggregates[i].kind, arguments[i].type)
      }
      table.setRow(table.appendEmptyRow(), to: group.key + results)
    }
    var all = Array(0..<table.rowCount)
    if let having = plan.having {
      let source = TableSource(items: table, now: source.now)
      var binder = PredicateBinder(ColumnFinder(items: table, source: source, problems: problems))
      guard let condition = binder.condition(having) else { return nil }
      all = PredicateScan(columns: binder.columns, rowCount: table.rowCount).rows(condition).rows
    }
    return (table, all)
  }

  // MARK: Answer

  private func project(
    _ plan: DataPlan, _ finder: ColumnFinder, _ rows: [Int], _ limit: Int, _ offset: Int
  ) throws -> DataResult {
    var binder = PredicateBinder(finder)
    let outputs = plan.outputs.map { binder.scalar($0.expression)?.scalar }
    let keys = plan.order.map { binder.scalar($0.expression) }
    for (key, term) in zip(keys, plan.order) {
      if let key, key.type.isArray {
        problems.add(
          "type_mismatch", "rows cannot be ordered by \(key.type.name)", term.expression.span)
      }
    }
    try problems.check()
    var cells = Cells(columns: binder.columns)
    var order = rows
    if !keys.isEmpty {
      let values = rows.map { row -> [Value] in
        cells.row = row
        return keys.map { $0?.scalar.evaluate(cells) ?? .null }
      }
      let places = rows.indices.sorted { a, b in
        for (i, term) in plan.order.enumerated() {
          let (x, y) = (values[a][i], values[b][i])
          if x == y { continue }
          if x.isNull || y.isNull { return x.isNull == term.nullsFirst }
          return ValueOrder.isLess(term.isDescending ? y : x, term.isDescending ? x : y)
        }
        return a < b
      }
      order = places.map { rows[$0] }
    }
    let shown = order.dropFirst(offset).prefix(limit)
    return DataResult(
      columns: plan.outputs.map(\.name),
      rows: shown.map { row in
        cells.row = row
        return outputs.map { $0?.evaluate(cells) ?? .null }
      })
  }
}

/// The order of values of one type.
enum ValueOrder {
  static func isLess(_ a: Value, _ b: Value) -> Bool { Scalar.compared(.less, a, b) }
}

extension ScalarType {
  /// The column that holds values of the type.
  var columnType: ColumnType {
    switch self {
    case .bool: .bool
    case .int: .int64
    case .double: .double
    case .timestamp: .dateTime
    case .string, .null: .string
    case .strings: .stringArray
    case .ints: .int64Array
    case .doubles: .float64Array
    }
  }
}
