import Columns
package import Domain
import Foundation

/// The fold from the log to the state, owned by the one writer.
///
/// A class, because a copy of it could not be folded further: copies of a dictionary share their
/// entries, and only one of them may add.
package final class StateFold {
  package private(set) var mapping: EntityMapping
  let filters: [FilterMapping]
  private var state: StateSnapshot
  private var items: Descriptions
  private var users: Descriptions

  package init(_ mapping: EntityMapping, filters: [FilterMapping] = []) {
    self.mapping = mapping
    self.filters = filters
    state = StateSnapshot(mapping, filterCount: filters.count)
    items = Descriptions(
      mapping.catalogColumns, of: mapping.itemTable, mayUncover: mapping.mayUncoverOlderItems,
      areUsers: false)
    users = Descriptions(
      mapping.userColumns, of: mapping.userTable, mayUncover: mapping.mayUncoverOlderUsers,
      areUsers: true)
  }

  /// Whether a state file holds all that this fold does: there are no rows that a later one covers.
  var fitsAFile: Bool {
    !mapping.mayUncoverOlderItems && !(mapping.userTable != nil && mapping.mayUncoverOlderUsers)
      && filters.allSatisfy(\.fitsAFile)
  }

  /// The log position of the item row that describes each catalog row; 0 where none does.
  var describedBy: [Int64] { items.describedBy }
  /// The log position of the user row that describes each user, by code; 0 where none does.
  var usersDescribedBy: [Int64] { users.describedBy }

  /// Takes up a stored state. To be called before the first commit.
  func restore(_ stored: StateSnapshot, describedBy: [Int64], usersDescribedBy: [Int64]) {
    state = stored
    items.restore(describedBy)
    users.restore(usersDescribedBy)
  }

  /// Whether rows that have gone since can be undone: the state holds every one of them. A state that
  /// does not is none of this log.
  package func holds(_ batches: [CommittedBatch]) -> Bool {
    batches.allSatisfy { batch in
      for (place, filter) in filters.enumerated() where filter.table == batch.table {
        let isHeld = filter.counted(batch.replaced).allSatisfy { logged in
          guard let (user, item) = pair(of: logged, filter) else { return true }
          guard let row = state.row(of: ItemID(item)) else { return false }
          guard let user else { return state.filters[place].holds(row, user: nil) }
          guard let code = state.userCode(UserID(user)) else { return false }
          return state.filters[place].holds(row, user: code)
        }
        if !isHeld { return false }
      }
      if let place = mapping.userTableIDPlace, batch.table == mapping.userTable?.name {
        let isHeld = batch.replaced.allSatisfy { logged in
          StateFold.text(logged.values[place]).map { state.userCode(UserID($0)) != nil } ?? true
        }
        if !isHeld { return false }
      }
      if batch.table == mapping.interactionTable.name {
        return batch.replaced.allSatisfy { logged in
          guard let (user, item) = ids(of: logged) else { return true }
          guard let code = state.userCode(UserID(user)), let row = state.row(of: ItemID(item))
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
    let old = mapping
    mapping = new
    items.adopt(new.catalogColumns, of: new.itemTable, before: old.itemTable)
    users.adopt(new.userColumns, of: new.userTable, before: old.userTable)
    state.catalog.adopt(new.catalogColumns)
    state.userTable.adopt(new.userColumns)
    state.catalogVersion += 1
    state.userVersion += 1
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
    } else if batch.table == mapping.userTable?.name {
      for row in batch.replaced { undoUser(row) }
      for row in batch.inserted { addUser(row) }
      state.userVersion += 1
    }
    for (place, filter) in filters.enumerated() where filter.table == batch.table {
      changed = fold(batch, into: place, filter) || changed
    }
    return changed
  }

  // MARK: Filters

  /// - Returns: whether the catalog grew: a filter may name an item before any other table does.
  private func fold(_ batch: CommittedBatch, into place: Int, _ filter: FilterMapping) -> Bool {
    let itemsBefore = state.itemCount
    for logged in filter.counted(batch.replaced) {
      guard let (user, item) = pair(of: logged, filter) else { continue }
      guard let row = state.row(of: ItemID(item)) else {
        preconditionFailure("a row was replaced that the filter never held")
      }
      let code = user.map { self.user($0) }
      state.filters[place].remove(row, user: code)
    }
    for logged in filter.counted(batch.inserted) {
      guard let (user, item) = pair(of: logged, filter) else { continue }
      let (row, code) = (row(of: item), user.map { self.user($0) })
      state.filters[place].add(row, user: code)
    }
    return state.itemCount > itemsBefore
  }

  /// The ids of a filter's row; nil where one is missing, which forbids nothing.
  private func pair(
    of logged: LoggedRow, _ filter: FilterMapping
  ) -> (user: String?, item: String)? {
    guard let item = StateFold.text(logged.values[filter.itemPlace]) else { return nil }
    guard let place = filter.userPlace else { return (nil, item) }
    return StateFold.text(logged.values[place]).map { ($0, item) }
  }

  // MARK: Users

  /// The code of a user, who is added where new.
  private func user(_ name: String) -> Int32 {
    if let known = state.userCode(UserID(name)) { return known }
    let code = state.userTable.appendEmptyRow()
    state.userTable.set(.string(name), row: code, column: 0)
    state.listedUsers.grow(to: code + 1)
    state.users.append(UserState())
    state.historyChanges.append(0)
    state.userVersion += 1
    users.append()
    return Int32(code)
  }

  private func addUser(_ logged: LoggedRow) {
    guard let place = mapping.userTableIDPlace, let name = StateFold.text(logged.values[place])
    else {
      state.skippedRowCount += 1
      return
    }
    let code = Int(user(name))
    users.add(logged, to: code, in: &state)
  }

  private func undoUser(_ logged: LoggedRow) {
    guard let place = mapping.userTableIDPlace, let name = StateFold.text(logged.values[place])
    else {
      state.skippedRowCount -= 1
      return
    }
    let code = Int(user(name))
    users.undo(logged, of: code, in: &state)
  }

  // MARK: Interactions

  private func addInteraction(_ logged: LoggedRow) -> Bool {
    guard let (user, item) = ids(of: logged) else {
      state.skippedRowCount += 1
      return false
    }
    let itemsBefore = state.itemCount
    let row = self.row(of: item)
    let code = Int(self.user(user))
    let interaction = interaction(of: logged, row)
    state.users[code].insert(interaction)
    historyChanged(code)
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
    guard let code = state.userCode(UserID(user)), let row = state.row(of: ItemID(item)) else {
      preconditionFailure("a row was replaced that the state never held")
    }
    let interaction = interaction(of: logged, row)
    guard state.users[Int(code)].remove(interaction) else {
      preconditionFailure("a row was replaced that the state never held")
    }
    historyChanged(Int(code))
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

  private func historyChanged(_ code: Int) {
    state.historyChanges[code] &+= 1
    let isListed = !state.users[code].history.isEmpty
    if mapping.userTable == nil, state.listedUsers[code] != isListed {
      state.listedUsers[code] = isListed
      state.userVersion += 1
    }
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
    items.append()
    return CatalogRow(row)
  }

  private func addItem(_ logged: LoggedRow) {
    guard let place = mapping.itemTableIDPlace,
      let item = StateFold.text(logged.values[place])
    else {
      state.skippedRowCount += 1
      return
    }
    let row = row(of: item).index
    items.add(logged, to: row, in: &state)
  }

  private func undoItem(_ logged: LoggedRow) {
    guard let place = mapping.itemTableIDPlace,
      let item = StateFold.text(logged.values[place])
    else {
      state.skippedRowCount -= 1
      return
    }
    let row = row(of: item).index
    items.undo(logged, of: row, in: &state)
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

/// Which row of a table describes each item, or each user.
private struct Descriptions {
  /// The log position of the row that describes each entity; 0 where none does.
  private(set) var describedBy: [Int64] = []
  /// Earlier rows of entities that a later row describes, kept only where the later one may go without
  /// them (see `EntityMapping.mayUncoverOlderItems`).
  private var older: [Int: [LoggedRow]] = [:]
  /// Where each column but the id stands in a row of the table.
  private var places: [Int]
  private let mayUncover: Bool
  private let areUsers: Bool

  init(_ columns: [ColumnDefinition], of table: TableSchema?, mayUncover: Bool, areUsers: Bool) {
    places = columns.dropFirst().compactMap { table?.index(of: $0.name) }
    self.mayUncover = mayUncover
    self.areUsers = areUsers
  }

  mutating func restore(_ describedBy: [Int64]) { self.describedBy = describedBy }

  /// Follows a change of the table: the kept rows take its new form.
  mutating func adopt(
    _ columns: [ColumnDefinition], of table: TableSchema?, before: TableSchema?
  ) {
    places = columns.dropFirst().compactMap { table?.index(of: $0.name) }
    guard let table, let before, table.columns != before.columns else { return }
    for entity in older.keys {
      older[entity] = older[entity]?.map { logged in
        LoggedRow(
          position: logged.position,
          values: table.columns.map { column in
            before.index(of: column.name).map { logged.values[$0].widened(to: column.type) }
              ?? .null
          })
      }
    }
  }

  /// Makes room for one more entity, which nothing describes.
  mutating func append() { describedBy.append(0) }

  mutating func add(_ logged: LoggedRow, to entity: Int, in state: inout StateSnapshot) {
    describe(entity, by: logged, in: &state)
    if mayUncover { older[entity, default: []].append(logged) }
  }

  mutating func undo(_ logged: LoggedRow, of entity: Int, in state: inout StateSnapshot) {
    older[entity]?.removeAll { $0.position == logged.position }
    guard describedBy[entity] == logged.position.rawValue else { return }
    if let last = older[entity]?.last {
      describe(entity, by: last, in: &state)
      return
    }
    older[entity] = nil
    for column in 1..<(places.count + 1) { set(.null, entity, column, in: &state) }
    list(entity, false, in: &state)
    describedBy[entity] = 0
  }

  private mutating func describe(
    _ entity: Int, by logged: LoggedRow, in state: inout StateSnapshot
  ) {
    for (i, place) in places.enumerated() {
      set(logged.values[place], entity, i + 1, in: &state)
    }
    list(entity, true, in: &state)
    describedBy[entity] = logged.position.rawValue
  }

  private func set(_ value: Value, _ row: Int, _ column: Int, in state: inout StateSnapshot) {
    if areUsers {
      state.userTable.set(value, row: row, column: column)
    } else {
      state.catalog.set(value, row: row, column: column)
    }
  }

  private func list(_ row: Int, _ isListed: Bool, in state: inout StateSnapshot) {
    if areUsers { state.listedUsers[row] = isListed } else { state.listed[row] = isListed }
  }
}
