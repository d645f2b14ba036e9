import Columns
package import Domain
import Foundation

/// The fold from the log to the state, owned by the one writer.
///
/// A class, because a copy of it could not be folded further: copies of a dictionary share their
/// entries, and only one of them may add.
package final class StateFold {
  package private(set) var mapping: EntityMapping
  private var state: StateSnapshot
  /// The log position of the item row that describes each catalog row; 0 where none does.
  private(set) var describedBy: [Int64] = []
  /// Earlier rows of items that a later row describes, kept only where the later one may go without
  /// them (see `EntityMapping.mayUncoverOlderItems`).
  private var olderDescriptions: [CatalogRow: [LoggedRow]] = [:]
  /// Where each column of the catalog stands in a row of the item table, after `item_id`.
  private var catalogPlaces: [Int]

  package init(_ mapping: EntityMapping) {
    self.mapping = mapping
    state = StateSnapshot(mapping)
    catalogPlaces = StateFold.places(mapping)
  }

  private static func places(_ mapping: EntityMapping) -> [Int] {
    mapping.catalogColumns.dropFirst().compactMap { mapping.itemTable?.index(of: $0.name) }
  }

  /// Takes up a stored state. To be called before the first commit.
  func restore(_ stored: StateSnapshot, describedBy: [Int64]) {
    state = stored
    self.describedBy = describedBy
  }

  /// Whether rows that have gone since can be undone: the state holds every one of them. A state that
  /// does not is none of this log.
  package func holds(_ batches: [CommittedBatch]) -> Bool {
    batches.allSatisfy { batch in
      if batch.table == mapping.interactionTable.name {
        return batch.replaced.allSatisfy { logged in
          guard let (user, item) = ids(of: logged) else { return true }
          guard let code = state.userNames.code(of: user), let row = state.row(of: ItemID(item))
          else { return false }
          return state.users[Int(code)].holds(interaction(of: logged, row))
        }
      }
      guard batch.table == mapping.itemTable?.name, let place = mapping.itemTableIDPlace else {
        return true
      }
      return batch.replaced.allSatisfy { logged in
        StateFold.text(logged.values[place]).map { state.row(of: ItemID($0)) != nil } ?? true
      }
    }
  }

  /// Follows a change of the tables: columns were added or widened. Rows that come from now on are
  /// those of the new form.
  package func adopt(_ new: EntityMapping) {
    let earlier = mapping.itemTable
    mapping = new
    catalogPlaces = StateFold.places(new)
    state.catalog.adopt(new.catalogColumns)
    state.catalogVersion += 1
    guard let items = new.itemTable, let earlier, items.columns != earlier.columns else { return }
    for row in olderDescriptions.keys {
      olderDescriptions[row] = olderDescriptions[row]?.map { logged in
        LoggedRow(
          position: logged.position,
          values: items.columns.map { column in
            earlier.index(of: column.name).map { logged.values[$0].widened(to: column.type) }
              ?? .null
          })
      }
    }
  }

  /// The state as of now. Takes microseconds: the structures are shared until either side changes.
  package func snapshot() -> StateSnapshot { state }

  /// Folds one commit. Batches of tables that the mapping does not name only move the position.
  package func apply(_ batches: [CommittedBatch], through: LogPosition) {
    let before = state.catalogVersion
    var catalogChanged = false
    for batch in batches { catalogChanged = apply(rowsOf: batch) || catalogChanged }
    state.catalogVersion = before + (catalogChanged ? 1 : 0)
    state.through = max(state.through, through)
  }

  /// Folds a commit that touched one table.
  package func apply(_ batch: CommittedBatch) {
    apply([batch], through: batch.inserted.last?.position ?? .start)
  }

  /// - Returns: whether the catalog or the listed rows changed.
  private func apply(rowsOf batch: CommittedBatch) -> Bool {
    var changed = false
    if batch.table == mapping.interactionTable.name {
      // What is replaced goes first: a new row may name the same item and put it back.
      for row in batch.replaced { changed = undoInteraction(row) || changed }
      for row in batch.inserted { changed = addInteraction(row) || changed }
    } else if batch.table == mapping.itemTable?.name {
      for row in batch.replaced { undoItem(row) }
      for row in batch.inserted { addItem(row) }
      changed = !batch.replaced.isEmpty || !batch.inserted.isEmpty
    }
    return changed
  }

  // MARK: Interactions

  private func addInteraction(_ logged: LoggedRow) -> Bool {
    guard let (user, item) = ids(of: logged) else {
      state.skippedRowCount += 1
      return false
    }
    let itemsBefore = state.itemCount
    let row = self.row(of: item)
    let code = Int(state.userNames.intern(user))
    if code == state.users.count { state.users.append(UserState()) }
    let interaction = interaction(of: logged, row)
    state.users[code].insert(interaction)
    state.interactionCounts[row.index] += 1
    if interaction.isPositive {
      state.trendWeights[row.index] += StateFold.trendWeight(interaction.time)
    }
    state.interactionCount += 1
    if mapping.itemTable == nil, !state.listed[row.index] {
      state.listed[row.index] = true
      return true
    }
    return state.itemCount > itemsBefore
  }

  private func undoInteraction(_ logged: LoggedRow) -> Bool {
    guard let (user, item) = ids(of: logged) else {
      state.skippedRowCount -= 1
      return false
    }
    guard let code = state.userNames.code(of: user), let row = state.row(of: ItemID(item)) else {
      preconditionFailure("a row was replaced that the state never held")
    }
    let interaction = interaction(of: logged, row)
    guard state.users[Int(code)].remove(interaction) else {
      preconditionFailure("a row was replaced that the state never held")
    }
    state.interactionCounts[row.index] -= 1
    if state.interactionCounts[row.index] == 0 {
      // Nothing is left, not even what subtracting leaves of a sum.
      state.trendWeights[row.index] = 0
    } else if interaction.isPositive {
      state.trendWeights[row.index] = max(
        0, state.trendWeights[row.index] - StateFold.trendWeight(interaction.time))
    }
    state.interactionCount -= 1
    if mapping.itemTable == nil, state.interactionCounts[row.index] == 0 {
      state.listed[row.index] = false
      return true
    }
    return false
  }

  /// The weight of a positive interaction in its item's trend.
  ///
  /// It doubles with each week since 2020, so that sums need not be scaled down as time goes on and
  /// their order does not depend on the moment (forward decay: Cormode, Shkapenyuk, Srivastava, Xu,
  /// *Forward Decay*, ICDE 2009). The exponent is held within what a double can hold.
  static func trendWeight(_ time: Timestamp) -> Double {
    let weeks = (time.secondsSinceEpoch - 1_577_836_800) / 604_800
    return exp2(min(max(weeks, -1000), 1000))
  }

  private func ids(of logged: LoggedRow) -> (user: String, item: String)? {
    guard let user = StateFold.text(logged.values[mapping.userPlace]),
      let item = StateFold.text(logged.values[mapping.itemPlace])
    else { return nil }
    return (user, item)
  }

  private func interaction(of logged: LoggedRow, _ row: CatalogRow) -> Interaction {
    // An event without a time is the oldest: it is seen, and says nothing of what is wanted now.
    var time = Timestamp(microsecondsSinceEpoch: 0)
    if case .timestamp(let given) = logged.values[mapping.timePlace] { time = given }
    let label: Float =
      switch mapping.labelPlace.map({ logged.values[$0] }) {
      case .bool(let flag): flag ? 1 : 0
      case .int(let number): Float(number)
      case .double(let number): Float(number)
      default: 1
      }
    let event = mapping.eventPlace.flatMap { StateFold.text(logged.values[$0]) }
    return Interaction(
      time: time, position: logged.position, row: row,
      event: event.map { state.eventNames.intern($0) } ?? -1, label: label)
  }

  // MARK: Items

  /// The catalog row of an item, which is added where it is new.
  private func row(of item: String) -> CatalogRow {
    if let known = state.row(of: ItemID(item)) { return known }
    let row = state.catalog.appendEmptyRow()
    state.catalog.set(.string(item), row: row, column: 0)
    state.listed.grow(to: row + 1)
    state.interactionCounts.append(0)
    state.trendWeights.append(0)
    describedBy.append(0)
    return CatalogRow(row)
  }

  private func addItem(_ logged: LoggedRow) {
    guard let place = mapping.itemTableIDPlace,
      let item = StateFold.text(logged.values[place])
    else {
      state.skippedRowCount += 1
      return
    }
    let row = row(of: item)
    describe(row, by: logged)
    if mapping.mayUncoverOlderItems { olderDescriptions[row, default: []].append(logged) }
  }

  private func undoItem(_ logged: LoggedRow) {
    guard let place = mapping.itemTableIDPlace,
      let item = StateFold.text(logged.values[place])
    else {
      state.skippedRowCount -= 1
      return
    }
    guard let row = state.row(of: ItemID(item)) else {
      preconditionFailure("a row was replaced that the state never held")
    }
    olderDescriptions[row]?.removeAll { $0.position == logged.position }
    guard describedBy[row.index] == logged.position.rawValue else { return }
    if let older = olderDescriptions[row]?.last {
      describe(row, by: older)
    } else {
      olderDescriptions[row] = nil
      for column in 1..<(catalogPlaces.count + 1) {
        state.catalog.set(.null, row: row.index, column: column)
      }
      state.listed[row.index] = false
      describedBy[row.index] = 0
    }
  }

  private func describe(_ row: CatalogRow, by logged: LoggedRow) {
    for (i, place) in catalogPlaces.enumerated() {
      state.catalog.set(logged.values[place], row: row.index, column: i + 1)
    }
    state.listed[row.index] = true
    describedBy[row.index] = logged.position.rawValue
  }

  /// An id or an event's kind as text; nil for null.
  private static func text(_ value: Value) -> String? {
    switch value {
    case .string(let text): text
    case .int(let number): String(number)
    case .double(let number): number.description
    case .bool(let flag): flag ? "true" : "false"
    default: nil
    }
  }
}
