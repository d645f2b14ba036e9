import Domain
import GRDB

/// A materialised view that follows one table row by row, ready to run.
struct RowView {
  let name: String
  let columns: [ViewColumn]
  /// The view's rows for the source rows between two positions: the source's position first.
  private let select: RawStatement
  /// The places of the columns in what `select` gives.
  private let places: [Int32]
  private let insert: RawStatement
  private let find: RawStatement
  private let delete: RawStatement

  init(
    _ view: StoredView, _ plan: ViewPlan, _ catalogue: ViewPlan.Catalogue, _ database: Database
  ) throws {
    name = view.definition.name
    columns = view.columns
    let statement = plan.statement(catalogue, rows: .between, marksSource: true)
    let names = try database.makeStatement(sql: statement).columnNames
    select = try RawStatement(database, statement)
    places = try columns.map { column in
      // The mark stands before a column of the query that may bear its name.
      guard let place = names.dropFirst().firstIndex(of: column.name) else {
        throw DatabaseError(message: "the view `\(view.definition.name)` lost `\(column.name)`")
      }
      return Int32(place)
    }
    let table = quoted(name)
    let list = columns.map { ", " + quoted($0.name) }.joined()
    let marks = String(repeating: ", ?", count: columns.count)
    insert = try RawStatement(
      database, "INSERT INTO \(table) (_position, _riffle_source\(list)) VALUES (?, ?\(marks))")
    find = try RawStatement(
      database, "SELECT _position\(list) FROM \(table) WHERE _riffle_source = ?")
    delete = try RawStatement(database, "DELETE FROM \(table) WHERE _position = ?")
  }

  /// Writes the view's rows for the table's rows between two positions.
  ///
  /// - Returns: the new rows, and how many cells did not fit their column.
  func fill(
    _ first: LogPosition, _ through: LogPosition, last: inout LogPosition
  ) throws -> (rows: [LoggedRow], misfits: Int) {
    try select.bind(first.rawValue, at: 1)
    try select.bind(through.rawValue, at: 2)
    var found: [(source: Int64, values: [Value])] = []
    var misfits = 0
    while try select.step() {
      var values: [Value] = []
      values.reserveCapacity(columns.count)
      for (column, place) in zip(columns, places) {
        let value = select.value(at: place)
        if let fitting = column.type.fitting(value) {
          values.append(fitting)
        } else {
          misfits += 1
          values.append(.null)
        }
      }
      found.append((select.int(at: 0), values))
    }
    var rows: [LoggedRow] = []
    rows.reserveCapacity(found.count)
    for (source, values) in found {
      last = last.next
      try insert.bind(last.rawValue, at: 1)
      try insert.bind(source, at: 2)
      for place in values.indices { try insert.bind(values[place], at: Int32(place + 3)) }
      _ = try insert.insert()
      rows.append(LoggedRow(position: last, values: values))
    }
    return (rows, misfits)
  }

  /// Takes out the view's rows for a row that has gone.
  func remove(_ source: LogPosition, _ schema: TableSchema) throws -> [LoggedRow] {
    try find.bind(source.rawValue, at: 1)
    var rows: [LoggedRow] = []
    while try find.step() { rows.append(try find.row(of: schema)) }
    for row in rows {
      try delete.bind(row.position.rawValue, at: 1)
      _ = try delete.step()
    }
    return rows
  }
}

extension LogWriter {
  /// Brings the views that follow tables row by row up to date with changes of this transaction,
  /// and the views that follow those views.
  ///
  /// A view that fails is set aside with its problem: rows of a table never wait for a view.
  func followRows(
    of range: Range<Int>, _ database: Database, _ last: inout LogPosition,
    _ changes: inout [Change]
  ) throws {
    let followers = try loadedRowViews(database)
    if followers.isEmpty { return }
    var at = range.lowerBound
    while at < changes.count {
      let change = changes[at]
      at += 1
      for view in followers[change.table] ?? [] {
        guard let stored = shared.views[view.name], let schema = shared.table(view.name)?.schema
        else { continue }
        let before = last
        do {
          let derived = try isolated(database, true) {
            try follow(change, view, stored, schema, database, &last)
          }
          if let derived { changes.append(derived) }
        } catch {
          guard database.isInsideTransaction else { throw error }
          last = before
          try setAside(stored, fault(error), database)
        }
      }
    }
  }

  private func follow(
    _ change: Change, _ view: RowView, _ stored: StoredView, _ schema: TableSchema,
    _ database: Database, _ last: inout LogPosition
  ) throws -> Change? {
    var derived = Change(table: view.name)
    for row in change.replaced { derived.replaced += try view.remove(row.position, schema) }
    // While the view is being filled, its filling comes to these rows later.
    if stored.status == .active, let first = change.inserted.first, let end = change.inserted.last {
      let filled = try view.fill(first.position, end.position, last: &last)
      derived.inserted = filled.rows
      if filled.misfits > 0 {
        var stored = stored
        stored.misfits += filled.misfits
        try keep(stored, database)
      }
    }
    if derived.inserted.isEmpty && derived.replaced.isEmpty { return nil }
    if derived.inserted.isEmpty { last = last.next }
    for row in derived.replaced { try keepAside(row, of: view.name, at: last, database) }
    return derived
  }

  /// Stores how a view stands.
  func keep(_ view: StoredView, _ database: Database) throws {
    try database.execute(
      sql: "UPDATE _riffle_views SET state = ? WHERE name = ?",
      arguments: [view.state.text, view.definition.name])
    shared.set(view, named: view.definition.name)
  }

  func setAside(_ view: StoredView, _ problem: Diagnostic, _ database: Database) throws {
    var view = view
    view.status = .failed
    view.problem = problem.message
    try keep(view, database)
    rowViews = nil
  }

  private func loadedRowViews(_ database: Database) throws -> [String: [RowView]] {
    if let rowViews { return rowViews }
    var loaded: [String: [RowView]] = [:]
    let views = shared.views
    let catalogue = LogStore.catalogue(shared)
    for view in views.values.sorted(by: { $0.definition.name < $1.definition.name })
    where view.upkeep == .withEachRow && view.status != .failed {
      do {
        let plan = try ViewPlan(view.definition.sql, kind: .materialised, catalogue)
        guard let table = plan.table(catalogue) else {
          throw Diagnostic(code: "invalid_view", "The table that it reads is gone.")
        }
        loaded[table, default: []].append(try RowView(view, plan, catalogue, database))
      } catch {
        try setAside(view, fault(error), database)
      }
    }
    rowViews = loaded
    return loaded
  }
}

extension ColumnType {
  /// A value that a query gave, as a cell of this column; nil where it does not fit.
  func fitting(_ value: Value) -> Value? {
    switch (self, value) {
    case (_, .null): return .null
    case (.bool, .int(let number)): return number == 0 || number == 1 ? .bool(number == 1) : nil
    case (.int64, .int): return value
    case (.int32, .int(let number)): return Int32(exactly: number) == nil ? nil : value
    case (.int64, .double(let number)):
      return Int64(exactly: number).map { .int($0) }
    case (.double, .int(let number)), (.float, .int(let number)): return .double(Double(number))
    case (.double, .double(let number)), (.float, .double(let number)):
      return number.isFinite ? value : nil
    case (.dateTime, .string(let text)): return Timestamp(iso8601: text).map { .timestamp($0) }
    case (.dateTime, .int(let seconds)):
      return abs(seconds) < 1 << 43
        ? .timestamp(Timestamp(microsecondsSinceEpoch: seconds * 1_000_000)) : nil
    case (.bytes, .bytes): return value
    case (.bytes, .string(let text)): return .bytes(Array(text.utf8))
    case (.string, .string), (.lowCardinalityString, .string), (.unknown, .string),
      (.json, .string), (.imageURL, .string):
      return value
    case (.string, .int(let number)), (.lowCardinalityString, .int(let number)),
      (.unknown, .int(let number)):
      return .string(String(number))
    case (.string, .double(let number)), (.lowCardinalityString, .double(let number)),
      (.unknown, .double(let number)):
      return .string(String(number))
    case (.stringArray, .string(let text)), (.int64Array, .string(let text)),
      (.float64Array, .string(let text)):
      guard let elements = (try? JSON(parsing: text))?.array else { return nil }
      let cells = elements.compactMap { element -> Value? in
        switch (self, element) {
        case (.stringArray, .string(let text)): .string(text)
        case (.int64Array, .int(let number)): .int(number)
        case (.float64Array, .int(let number)): .double(Double(number))
        case (.float64Array, .double(let number)): .double(number)
        default: nil
        }
      }
      return cells.count == elements.count ? .array(cells) : nil
    default: return nil
    }
  }
}
