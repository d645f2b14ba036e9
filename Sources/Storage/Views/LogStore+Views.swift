package import Domain
import GRDB

/// Views: queries over tables that have a name.
///
/// A materialised view is a table of the log whose rows come from its query, so engines, replays and
/// snapshots treat it like any other table. Where each row of one table gives at most one row of the
/// view, they are written in one commit; otherwise the view is computed anew on its schedule, and
/// only what differs is written.
extension LogStore {
  /// The rows that a scheduled view or a reading of a plain one may have at most.
  package static let mostViewRows = 5_000_000

  /// All views, by name.
  package func views() -> [StoredView] {
    queue.views.values.sorted { $0.definition.name < $1.definition.name }
  }

  package func view(_ name: String) throws(Diagnostic) -> StoredView {
    if let view = queue.views[name] { return view }
    let names = queue.views.keys.sorted()
    let near = nearestName(to: name, among: names)
    throw Diagnostic(
      .notFound, code: "unknown_view", "There is no view `\(name)`.", at: "view",
      help: near.map { "Did you mean `\($0)`?" }
        ?? (names.isEmpty
          ? "Create it first."
          : "The views are \(names.map { "`\($0)`" }.joined(separator: ", "))."))
  }

  /// Makes a view. A materialised one is then filled by `fillView`.
  ///
  /// - Throws: every fault of the definition; SQL faults point into the query.
  package func createView(
    _ definition: ViewDefinition, at time: Timestamp
  ) async throws(Diagnostics) -> StoredView {
    let queue = queue
    let outcome: Result<StoredView, Diagnostics>
    do throws(Diagnostic) {
      outcome = try await perform { [self] (writer) throws(Diagnostic) in
        if let taken = LogStore.taken(definition.name, queue) {
          throw Diagnostic(
            .conflict, code: "view_exists",
            "A \(taken) exists already under the name `\(definition.name)`.", at: "name",
            help: "Choose another name, or delete that one first. Case makes no difference.")
        }
        let view: StoredView
        do throws(Diagnostics) {
          view = try examine(definition, writer, at: time)
        } catch { return .failure(error) }
        try writer.transaction(doing: "make the view `\(definition.name)`") { database in
          try database.execute(
            sql: "INSERT INTO _riffle_views (name, definition, state, created_at) "
              + "VALUES (?, ?, ?, ?)",
            arguments: [
              definition.name, definition.json.text, view.state.text, time.microsecondsSinceEpoch,
            ])
          if definition.kind == .materialised {
            let table = StoredTable(schema: LogStore.schema(of: view), createdAt: time)
            try LogStore.make(table, in: database)
            try database.execute(
              sql: """
                ALTER TABLE \(quoted(definition.name)) ADD COLUMN _riffle_source INTEGER;
                CREATE INDEX \(quoted("_riffle_source_" + definition.name))
                  ON \(quoted(definition.name)) (_riffle_source);
                """)
          }
        }
        if definition.kind == .materialised {
          queue.set(
            StoredTable(schema: LogStore.schema(of: view), createdAt: time),
            named: definition.name)
        }
        queue.set(view, named: definition.name)
        writer.rowViews = nil
        return .success(view)
      }
    } catch { throw Diagnostics(error) }
    return try outcome.get()
  }

  /// Checks a definition as `createView` would, without making anything.
  package func checkView(_ definition: ViewDefinition) async throws(Diagnostics) {
    let outcome: Result<Void, Diagnostics>
    do throws(Diagnostic) {
      outcome = try await perform { [self] (writer) throws(Diagnostic) in
        do throws(Diagnostics) {
          _ = try examine(definition, writer, at: Timestamp(microsecondsSinceEpoch: 0))
          return .success(())
        } catch { return .failure(error) }
      }
    } catch { throw Diagnostics(error) }
    try outcome.get()
  }

  /// Deletes a view and its rows.
  ///
  /// - Throws: `view_in_use` where another view reads it.
  package func dropView(_ name: String) async throws(Diagnostic) {
    let queue = queue
    try await perform { [self] (writer) throws(Diagnostic) in
      let view = try view(name)
      let readers = queue.views.values.filter { $0.sources.contains(name) }
        .map(\.definition.name).sorted()
      if !readers.isEmpty {
        throw Diagnostic(
          .conflict, code: "view_in_use",
          "The view `\(name)` is read by \(readers.map { "`\($0)`" }.joined(separator: ", ")).",
          at: "view", help: "Delete those views first.")
      }
      writer.forget(table: name)
      try writer.transaction(doing: "delete the view `\(name)`") { database in
        try database.execute(sql: "DELETE FROM _riffle_views WHERE name = ?", arguments: [name])
        if view.definition.kind == .materialised {
          try database.execute(sql: "DROP TABLE \(quoted(name))")
          for table in ["_riffle_tables WHERE name", "_riffle_removed WHERE table_name"] {
            try database.execute(sql: "DELETE FROM \(table) = ?", arguments: [name])
          }
        }
      }
      queue.set(nil as StoredView?, named: name)
      if view.definition.kind == .materialised { queue.set(nil as StoredTable?, named: name) }
    }
  }

  /// Does the next part of filling a view that follows its table row by row.
  ///
  /// - Returns: whether there is more to do.
  package func fillView(_ name: String, rows: Int = 20_000) async throws(Diagnostic) -> Bool {
    let queue = queue
    return try await perform { [self] (writer) throws(Diagnostic) in
      let view = try view(name)
      guard view.upkeep == .withEachRow, view.status == .backfilling else { return false }
      return try writer.derive(doing: "fill the view `\(name)`") { database, last, changes in
        var view = view
        let catalogue = LogStore.catalogue(queue)
        let plan = try ViewPlan(view.definition.sql, kind: .materialised, catalogue)
        guard let table = plan.table(catalogue) else {
          throw Diagnostic(code: "invalid_view", "The table that `\(name)` reads is gone.")
        }
        let end = try Int64.fetchOne(
          database,
          sql: "SELECT _position FROM \(quoted(table)) WHERE _position > ? ORDER BY _position "
            + "LIMIT 1 OFFSET ?", arguments: [view.filledThrough.rawValue, rows - 1])
        let through = end.map { LogPosition($0) } ?? writer.through
        if through > view.filledThrough {
          let runner = try RowView(view, plan, catalogue, database)
          do {
            let filled = try runner.fill(view.filledThrough.next, through, last: &last)
            view.misfits += filled.misfits
            if !filled.rows.isEmpty {
              var change = LogWriter.Change(table: name)
              change.inserted = filled.rows
              let at = changes.count
              changes.append(change)
              try writer.followRows(of: at..<changes.count, database, &last, &changes)
            }
          } catch {
            try writer.setAside(view, writer.fault(error), database)
            return false
          }
        }
        view.filledThrough = through
        if end == nil { view.status = .active }
        try writer.keep(view, database)
        writer.rowViews = nil
        return end != nil
      }
    }
  }

  /// Computes a scheduled view anew and writes what differs from its rows.
  ///
  /// - Returns: how many rows came and went.
  @discardableResult
  package func refreshView(
    _ name: String, at time: Timestamp
  ) async throws(Diagnostic) -> (added: Int, removed: Int) {
    let view = try view(name)
    guard view.upkeep == .onSchedule else { return (0, 0) }
    let outcome: Result<ViewDifference, Diagnostic>
    do throws(Diagnostic) {
      outcome = .success(try difference(view))
    } catch { outcome = .failure(error) }
    let queue = queue
    return try await perform { (writer) throws(Diagnostic) in
      guard var view = queue.views[name] else { return (0, 0) }
      return try writer.derive(doing: "refresh the view `\(name)`") { database, last, changes in
        switch outcome {
        case .failure(let problem):
          try writer.setAside(view, problem, database)
          return (0, 0)
        case .success(let difference):
          let at = changes.count
          let batch = LogBatch.Removal(table: name, positions: difference.removed)
          _ = try writer.remove([batch], from: database, last: &last, changes: &changes)
          if !difference.added.isEmpty {
            let group = PendingBatch.Rows(
              schema: LogStore.schema(of: view), rows: difference.added)
            changes.append(try writer.insert(group, into: database, last: &last))
          }
          try writer.followRows(of: at..<changes.count, database, &last, &changes)
          view.misfits = difference.misfits
          view.status = .active
          view.problem = nil
          view.refreshedAt = time
          view.filledThrough = difference.through
          try writer.keep(view, database)
          return (difference.added.count, difference.removed.count)
        }
      }
    }
  }

  /// Runs a view's query and gives its rows to the body, at most so many.
  ///
  /// - Parameter isOver: asked now and then; true ends the query with `query_too_slow`.
  package func readView(
    _ name: String, mostRows: Int = mostViewRows, isOver: @escaping @Sendable () -> Bool,
    _ body: ([Value]) throws -> Void
  ) throws(Diagnostic) -> [Domain.ColumnDefinition] {
    let view = try view(name)
    let catalogue = LogStore.catalogue(queue)
    let plan = try ViewPlan(view.definition.sql, kind: view.definition.kind, catalogue)
    try translatingFaults(path: path, doing: "read the view `\(name)`") {
      try database.read { database in
        var count = 0
        _ = try LogStore.run(view, plan, catalogue, database, isOver: isOver) { values in
          count += 1
          guard count <= mostRows else {
            throw Diagnostic(
              code: "view_too_large", "The view `\(name)` has more than \(mostRows) rows.",
              at: "query", help: "Narrow it by a WHERE, or aggregate.")
          }
          try body(values)
        }
      }
    }
    return view.columns
  }

  // MARK: Below

  private struct ViewDifference: Sendable {
    var added: [[Value]] = []
    var removed: [LogPosition] = []
    var misfits = 0
    var through = LogPosition.start
  }

  /// What the view's query gives now against the view's rows, each a multiset.
  private func difference(_ view: StoredView) throws(Diagnostic) -> ViewDifference {
    let name = view.definition.name
    let catalogue = LogStore.catalogue(queue)
    let plan = try ViewPlan(view.definition.sql, kind: .materialised, catalogue)
    return try translatingFaults(path: path, doing: "compute the view `\(name)`") {
      try database.read { database in
        var difference = ViewDifference()
        difference.through = try LogStore.position(database)
        var present: [[Value]: [LogPosition]] = [:]
        let schema = LogStore.schema(of: view)
        let list = schema.columns.map { ", " + quoted($0.name) }.joined()
        let rows = try RawStatement(
          database, "SELECT _position\(list) FROM \(quoted(name)) ORDER BY _position")
        while try rows.step() {
          let row = try rows.row(of: schema)
          present[row.values, default: []].append(row.position)
        }
        var count = 0
        difference.misfits = try LogStore.run(
          view, plan, catalogue, database, isOver: { false }
        ) { values in
          count += 1
          guard count <= LogStore.mostViewRows else {
            throw Diagnostic(
              code: "view_too_large",
              "The view `\(name)` has more than \(LogStore.mostViewRows) rows.", at: "sql_query",
              help: "Views that are computed as a whole must be smaller: aggregate, or narrow it.")
          }
          if present[values]?.popLast() == nil { difference.added.append(values) }
        }
        difference.removed = present.values.flatMap { $0 }.sorted()
        return difference
      }
    }
  }

  private static func run(
    _ view: StoredView, _ plan: ViewPlan, _ catalogue: ViewPlan.Catalogue, _ database: Database,
    isOver: () -> Bool, _ body: ([Value]) throws -> Void
  ) throws -> Int {
    let sql = plan.statement(catalogue)
    let names = try database.makeStatement(sql: sql).columnNames
    let places = try view.columns.map { column in
      guard let place = names.firstIndex(of: column.name) else {
        throw Diagnostic(
          code: "invalid_view",
          "The view `\(view.definition.name)` no longer gives the column `\(column.name)`.",
          help: "A table that it reads has changed. Create the view again.")
      }
      return Int32(place)
    }
    let statement = try RawStatement(database, sql)
    var misfits = 0
    var count = 0
    while try statement.step() {
      count += 1
      if count % 1024 == 0, isOver() {
        statement.reset()
        throw Diagnostic(
          .unavailable, code: "query_too_slow",
          "The view `\(view.definition.name)` took too long to compute.",
          help: "Make it a MATERIALIZED_VIEW.")
      }
      let values = zip(view.columns, places).map { column, place in
        let value = statement.value(at: place)
        if let fitting = column.type.fitting(value) { return fitting }
        misfits += 1
        return .null
      }
      do { try body(values) } catch {
        statement.reset()
        throw error
      }
    }
    return misfits
  }

  static func schema(of view: StoredView) -> TableSchema {
    TableSchema(
      name: view.definition.name, columns: view.columns,
      description: view.definition.description)
  }

  static func catalogue(_ queue: WriterQueue) -> ViewPlan.Catalogue {
    var catalogue = ViewPlan.Catalogue(
      tables: Dictionary(uniqueKeysWithValues: queue.tables.map { ($0.schema.name, $0.schema) }),
      plainViews: [:])
    // A view reads only what was there before it, so each round finds at least the next one.
    var waiting = queue.views.values.filter { $0.definition.kind == .plain }
      .sorted { ($0.createdAt, $0.definition.name) < ($1.createdAt, $1.definition.name) }
    while !waiting.isEmpty {
      let before = waiting.count
      waiting.removeAll { view in
        let known = Set(catalogue.tables.keys).union(catalogue.plainViews.keys)
        guard view.sources.allSatisfy(known.contains),
          let plan = try? ViewPlan(view.definition.sql, kind: .plain, catalogue)
        else { return false }
        catalogue.plainViews[view.definition.name] = plan
        return true
      }
      if waiting.count == before { break }
    }
    return catalogue
  }

  private static func taken(_ name: String, _ queue: WriterQueue) -> String? {
    let lower = name.lowercased()
    if queue.views.keys.contains(where: { $0.lowercased() == lower }) { return "view" }
    if queue.tables.contains(where: { $0.schema.name.lowercased() == lower }) { return "table" }
    return nil
  }

  static func loadViews(_ database: Database, path: String) throws -> [StoredView] {
    try Row.fetchAll(
      database, sql: "SELECT name, definition, state, created_at FROM _riffle_views"
    ).map { row in
      let definition: String = row["definition"]
      let state: String = row["state"]
      guard let read = ViewDefinition(try JSON(parsing: definition)),
        let view = StoredView(
          read, createdAt: Timestamp(microsecondsSinceEpoch: row["created_at"]),
          state: try JSON(parsing: state))
      else {
        throw Diagnostic(
          .internalError, code: "database_damaged", "A view cannot be read: \(definition)",
          at: path, help: "Restore the last backup of the data directory.")
      }
      return view
    }
  }

  // MARK: Examination

  /// Finds out what a view gives, by its query over one made-up row of each table and over real ones.
  private func examine(
    _ definition: ViewDefinition, _ writer: LogWriter, at time: Timestamp
  ) throws(Diagnostics) -> StoredView {
    let catalogue = LogStore.catalogue(queue)
    var plan: ViewPlan
    do throws(Diagnostic) {
      plan = try ViewPlan(definition.sql, kind: definition.kind, catalogue)
    } catch { throw Diagnostics(error) }
    let outcome: Result<([ViewColumn], Bool), Diagnostics>
    do throws(Diagnostic) {
      outcome = try writer.reading(doing: "examine the view `\(definition.name)`") { database in
        do {
          return .success(
            try LogStore.columns(definition, plan, catalogue, database))
        } catch let error as DatabaseError {
          return .failure(
            Diagnostics(LogStore.fault(error, definition, plan, catalogue, database)))
        }
      }
    } catch { throw Diagnostics(error) }
    let (columns, aggregates) = try outcome.get()
    if aggregates, plan.upkeep == .withEachRow {
      plan.upkeep = .onSchedule
      plan.reason = "it aggregates"
    }
    var problems = TableSchema(name: definition.name, columns: columns).problems
    for name in definition.types.keys.sorted() where !columns.contains(where: { $0.name == name }) {
      problems.append(
        Diagnostic(
          code: "unknown_column", "The view gives no column `\(name)`.",
          at: "column_schema.\(name)",
          help: nearestName(to: name, among: columns.map(\.name)).map { "Did you mean `\($0)`?" }
            ?? "Its columns are \(columns.map { "`\($0.name)`" }.joined(separator: ", "))."))
    }
    if plan.sources.isEmpty {
      problems.append(
        Diagnostic(
          code: "invalid_sql", "The query reads no table.", at: "sql_query",
          help:
            "The tables are \(catalogue.tables.keys.sorted().map { "`\($0)`" }.joined(separator: ", "))."
        ))
    }
    if !problems.isEmpty {
      throw Diagnostics(
        problems.map { problem in
          var problem = problem
          problem.place = problem.place?.replacing("column_schema", with: "sql_query")
          return problem
        })
    }
    return StoredView(definition, createdAt: time, plan: plan, columns: columns)
  }

  /// The columns of a view's query, and whether it aggregates.
  private static func columns(
    _ definition: ViewDefinition, _ plan: ViewPlan, _ catalogue: ViewPlan.Catalogue,
    _ database: Database
  ) throws -> ([ViewColumn], Bool) {
    let sql = plan.statement(catalogue)
    let statement = try database.makeStatement(sql: sql)
    guard statement.isReadonly else {
      throw Diagnostic(code: "invalid_sql", "A view may not change anything.", at: "sql_query")
    }
    let names = statement.columnNames.filter { $0 != "_position" }
    let operations = try Row.fetchAll(database, sql: "EXPLAIN " + sql).map { row in
      row["opcode"] as String
    }
    let aggregates = operations.contains { $0.hasPrefix("Agg") || $0 == "Count" }
    var types: [String: ColumnType] = [:]
    let sources = plan.sources.compactMap { catalogue.tables[$0] }
    func look(at sql: String, limit: Int) throws {
      let rows = try Row.fetchCursor(database, sql: sql)
      var seen = 0
      while seen < limit, let row = try rows.next() {
        seen += 1
        for name in names {
          let value: DatabaseValue = row[name]
          guard let type = ColumnType(seen: value) else { continue }
          types[name] = types[name].map { $0.joined(with: type) } ?? type
        }
      }
    }
    let example = plan.statement(catalogue, rows: .example, withoutConditions: true)
    // A made-up text is no JSON document, for one: then real rows have to tell.
    do { try look(at: example, limit: 10) } catch is DatabaseError { types = [:] }
    try look(at: sql, limit: 1000)
    let columns = names.map { name in
      // A column that goes through unchanged keeps its declared type.
      let declared = Set(sources.flatMap { $0.columns.filter { $0.name == name }.map(\.type) })
      let found = types[name]
      let kept = declared.count == 1 ? declared.first : nil
      let type: ColumnType =
        if let kept, found == nil || kept.seenAs == found { kept } else { found ?? .string }
      return ViewColumn(name: name, type: definition.types[name] ?? type)
    }
    return (columns, aggregates)
  }

  /// SQLite's fault as a problem that points into the user's SQL.
  private static func fault(
    _ error: DatabaseError, _ definition: ViewDefinition, _ plan: ViewPlan,
    _ catalogue: ViewPlan.Catalogue, _ database: Database
  ) -> Diagnostic {
    let message = error.message ?? "the query cannot be run"
    let sql = definition.sql
    let tokens = (try? SQLToken.all(in: sql)) ?? []
    // SQLite names what it does not know: `no such column: a.b`, `near "FORM": syntax error`.
    let culprit: String? =
      if let colon = message.lastRange(of: ": "), message.hasPrefix("no such") {
        String(message[colon.upperBound...])
      } else if let open = message.firstRange(of: "near \""),
        let close = message[open.upperBound...].firstRange(of: "\"")
      {
        String(message[open.upperBound..<close.lowerBound])
      } else if let place = message.firstRange(of: "number of arguments to function ") {
        String(message[place.upperBound...].prefix { $0 != "(" })
      } else { nil }
    let last = culprit?.split(separator: ".").last.map { String($0).lowercased() }
    let token = tokens.first { $0.text.lowercased() == last }
    var names: [String] = []
    if message.hasPrefix("no such column") {
      names = plan.sources.flatMap { catalogue.tables[$0]?.columns.map(\.name) ?? [] }
    } else if message.hasPrefix("no such table") {
      names = Array(catalogue.tables.keys) + Array(catalogue.plainViews.keys)
    } else if message.hasPrefix("no such function") {
      names = ViewFunctions.names
    }
    let near = last.flatMap { nearestName(to: $0, among: names) }
    return Diagnostic(
      code: "invalid_sql", "The view's SQL is not valid: \(message).", at: "sql_query",
      span: token.map { Diagnostic.Span(text: sql, range: $0.range, origin: "sql_query") },
      help: near.map { "Did you mean `\($0)`?" }
        ?? (names.isEmpty || names.count > 40
          ? "Views are written in SQLite's SQL with the functions that Documentation/views.md lists."
          : "There are \(Set(names).sorted().map { "`\($0)`" }.joined(separator: ", "))."))
  }
}

extension ColumnType {
  /// The type that a value of a query shows; nil for null.
  fileprivate init?(seen value: DatabaseValue) {
    switch value.storage {
    case .null: return nil
    case .int64: self = .int64
    case .double: self = .double
    case .blob: self = .bytes
    case .string(let text):
      if text.count >= 19, Timestamp(iso8601: text) != nil {
        self = .dateTime
      } else if text.hasPrefix("["), let elements = (try? JSON(parsing: text))?.array {
        self =
          elements.allSatisfy { $0.string != nil }
          ? .stringArray
          : elements.allSatisfy { $0.int != nil }
            ? .int64Array : elements.allSatisfy { $0.number != nil } ? .float64Array : .json
      } else {
        self = .string
      }
    }
  }

  /// What a column of this type shows in a query.
  fileprivate var seenAs: ColumnType {
    switch self {
    case .int32, .int64, .bool: .int64
    case .float, .double: .double
    case .unknown, .string, .lowCardinalityString, .json, .imageURL: .string
    default: self
    }
  }

  /// The type that holds values of both.
  fileprivate func joined(with other: ColumnType) -> ColumnType {
    if self == other { return self }
    switch (self, other) {
    case (.int64, .double), (.double, .int64): return .double
    case (.int64Array, .float64Array), (.float64Array, .int64Array): return .float64Array
    // An empty array shows nothing of its elements.
    case (.stringArray, .int64Array), (.stringArray, .float64Array): return other
    case (.int64Array, .stringArray), (.float64Array, .stringArray): return self
    default: return .string
    }
  }
}

extension String {
  fileprivate func lastRange(of part: String) -> Range<String.Index>? {
    ranges(of: part).last
  }
}
