import Columns
import Domain
import Foundation
import Storage
import Synchronization

/// Tables of the log as columns in memory, for data queries.
///
/// A table is read when a query asks for it and kept while the log stands still; where rows are never
/// replaced, only the new ones are read. A few tables are kept: the others are read again.
final class TableReader: Sendable {
  private struct Kept {
    var through: LogPosition
    var columns: [ColumnDefinition]
    var table: ColumnTable
    var lastUsed: Int
  }
  private struct State {
    var tables: [String: Kept] = [:]
    /// Counts how often rows of a table have gone, so that what was read before is not kept after.
    var epochs: [String: Int] = [:]
    var tick = 0
  }

  private let log: LogStore
  private let state = Mutex(State())
  private static let mostTables = 4
  /// A larger table is refused: it would not fit beside everything else.
  private static let mostRows = 50_000_000

  init(_ log: LogStore) { self.log = log }

  var names: [String] { log.tables().map(\.schema.name).sorted() }

  /// Forgets what was read of a table: rows of it have gone.
  func forget(_ name: String) {
    state.withLock { state in
      state.tables[name] = nil
      state.epochs[name, default: 0] += 1
    }
  }

  /// The rows of a table as they are now, or nil where there is no such table.
  func table(_ name: String) throws -> ColumnTable? {
    guard let schema = log.table(name)?.schema else { return nil }
    let through = log.through
    let (kept, epoch) = state.withLock { state in
      state.tick += 1
      let epoch = state.epochs[name, default: 0]
      guard state.tables[name]?.columns == schema.columns else { return (nil as Kept?, epoch) }
      state.tables[name]?.lastUsed = state.tick
      return (state.tables[name], epoch)
    }
    if let kept, kept.through >= through { return kept.table }
    var table = ColumnTable(schema.columns)
    var start = LogPosition.start
    // The dictionaries of a kept table may be extended by one writer alone, so a table is read anew
    // unless it holds numbers only; reading is what replay is fast at.
    if let kept, schema.uniqueKeys.isEmpty, schema.columns.allSatisfy({ !$0.type.holdsText }) {
      table = kept.table
      start = kept.through
    }
    let end = try log.replay(tables: [name], after: start) { batches, _ in
      for batch in batches {
        for row in batch.inserted {
          if table.rowCount >= Self.mostRows {
            throw Diagnostic(
              code: "table_too_large",
              "The table `\(name)` has more than \(Self.mostRows) rows; data queries read no more.")
          }
          table.setRow(table.appendEmptyRow(), to: row.values.map(Self.cell))
        }
      }
    }
    state.withLock { state in
      if state.epochs[name, default: 0] != epoch { return }
      if let kept = state.tables[name], kept.through > end, kept.columns == schema.columns {
        return
      }
      state.tick += 1
      state.tables[name] = Kept(
        through: end, columns: schema.columns, table: table, lastUsed: state.tick)
      while state.tables.count > Self.mostTables {
        guard let oldest = state.tables.min(by: { $0.value.lastUsed < $1.value.lastUsed }) else {
          break
        }
        state.tables[oldest.key] = nil
      }
    }
    return table
  }

  /// Columns hold bytes as Base64.
  static func cell(_ value: Value) -> Value {
    if case .bytes(let bytes) = value { return .string(Data(bytes).base64EncodedString()) }
    return value
  }
}

extension ColumnType {
  fileprivate var holdsText: Bool {
    switch self {
    case .bool, .int32, .int64, .float, .double, .dateTime, .int64Array, .float64Array: false
    default: true
    }
  }
}
