package import Columns
package import Domain

/// The state at one position of the log. It never changes; a later state is another snapshot that
/// shares most of its memory with this one.
///
/// Catalog rows are numbered in the order in which items first appeared to this process. They mean
/// the same in all later snapshots of one fold, but not in another process: what is stored names
/// items by `ItemID`.
package struct StateSnapshot: Sendable {
  /// The last commit that this state holds.
  package internal(set) var through: LogPosition
  /// A number that grows whenever `catalog` or `listed` changes.
  package internal(set) var catalogVersion: Int
  /// The columns of the item table by catalog row; `item_id` is always there, never null.
  package internal(set) var catalog: ColumnTable
  /// The rows that may be recommended: those of the item table, or every item with an interaction
  /// where the engine declares no item table.
  package internal(set) var listed: Bitmap
  /// Interactions by catalog row, whatever their labels.
  package internal(set) var interactionCounts: ChunkedVector<Int32>
  /// What makes an item trend, by catalog row: each positive interaction weighs twice as much as one
  /// a week older. Only comparisons mean something; see `StateFold.trendWeight`.
  package internal(set) var trendWeights: ChunkedVector<Double>
  /// Interactions that every user's history holds together.
  package internal(set) var interactionCount: Int
  /// Rows of the interaction table without a user or an item, and rows of the item table without an
  /// item: nothing can be learned from them.
  package internal(set) var skippedRowCount: Int
  /// What each declared filter forbids, in the order of the declaration.
  package internal(set) var filters: [FilterState]
  /// The columns of the user table; `user_id` is always there, never null. A row's number is the
  /// user's code, and is no more stable than a catalog row's.
  package internal(set) var userTable: ColumnTable
  /// The users that may be ranked: those of the user table, or every user with an interaction where
  /// the engine declares no user table.
  package internal(set) var listedUsers: Bitmap
  /// A number that grows whenever `userTable` or `listedUsers` changes.
  package internal(set) var userVersion: Int
  /// How often each user's history has changed in this process, by the user's code.
  package internal(set) var historyChanges: ChunkedVector<Int32>
  var users: ChunkedVector<UserState>
  var eventNames: StringDictionary

  init(_ mapping: EntityMapping, filterCount: Int) {
    through = .start
    catalogVersion = 0
    catalog = ColumnTable(mapping.catalogColumns)
    listed = Bitmap(count: 0)
    interactionCounts = ChunkedVector()
    trendWeights = ChunkedVector()
    interactionCount = 0
    skippedRowCount = 0
    filters = Array(repeating: FilterState(), count: filterCount)
    userTable = ColumnTable(mapping.userColumns)
    listedUsers = Bitmap(count: 0)
    userVersion = 0
    historyChanges = ChunkedVector()
    users = ChunkedVector()
    eventNames = StringDictionary()
  }

  init(
    _ mapping: EntityMapping, through: LogPosition, catalog: ColumnTable, listed: Bitmap,
    counts: ChunkedVector<Int32>, trends: ChunkedVector<Double>, interactionCount: Int,
    skippedRowCount: Int, userTable: ColumnTable, users: [UserState], listedUsers: Bitmap,
    filters: [FilterState], eventNames: StringDictionary
  ) {
    self.through = through
    catalogVersion = 1
    self.catalog = catalog
    self.listed = listed
    interactionCounts = counts
    trendWeights = trends
    self.interactionCount = interactionCount
    self.skippedRowCount = skippedRowCount
    self.filters = filters
    self.userTable = userTable
    self.listedUsers = listedUsers
    userVersion = 1
    historyChanges = ChunkedVector([Int32](repeating: 0, count: users.count))
    self.users = ChunkedVector(users)
    self.eventNames = eventNames
  }

  /// Catalog rows: every item ever named, listed or not.
  package var itemCount: Int { catalog.rowCount }

  /// Users ever named; some may have no history left.
  package var userCount: Int { users.count }

  package func itemID(of row: CatalogRow) -> ItemID {
    ItemID(catalog[lending: 0].dictionary[row.rawValue])
  }

  /// The row of an item, or nil where this state does not know it.
  package func row(of item: ItemID) -> CatalogRow? {
    // Row r put in the r-th distinct id, so the dictionary's code is the row.
    catalog[lending: 0].dictionary.code(of: item.rawValue).map { CatalogRow($0) }
  }

  /// The row of each item, or nil where this state does not know it.
  package func rows(of items: [ItemID]) -> [CatalogRow?] {
    catalog[lending: 0].dictionary.codes(of: items.map(\.rawValue)).map { code in
      code.map { CatalogRow($0) }
    }
  }

  /// The code of a user, or nil where this state does not know the name.
  package func userCode(_ id: UserID) -> Int32? {
    userTable[lending: 0].dictionary.code(of: id.rawValue)
  }

  package func userID(of code: Int) -> UserID {
    UserID(userTable[lending: 0].dictionary[Int32(code)])
  }

  /// What is known of the user of a code.
  package func user(at code: Int) -> UserState { users[code] }

  /// What is known of a user; nil where there is no interaction.
  package func user(_ id: UserID) -> UserState? {
    guard let code = userCode(id) else { return nil }
    let user = users[Int(code)]
    return user.history.isEmpty ? nil : user
  }

  /// The rows that a personal filter forbids a user, ascending.
  package func forbidden(filter: Int, user: UserID) -> [CatalogRow] {
    userCode(user).map { filters[filter].rows(ofUser: $0) } ?? []
  }

  /// The rows that a filter forbids everybody; rows past its end are none.
  package func forbidden(filter: Int) -> Bitmap { filters[filter].global }

  /// Calls the body for every user with a history, in the order in which they first appeared.
  package func forEachUser(_ body: (UserID, UserState) throws -> Void) rethrows {
    try users.forEachChunk { start, chunk in
      for (i, user) in chunk.enumerated() where !user.history.isEmpty {
        try body(userID(of: start + i), user)
      }
    }
  }

  /// The kind of an event, as the interaction table named it.
  package func eventName(_ code: Int32) -> String? {
    code >= 0 && Int(code) < eventNames.count ? eventNames[code] : nil
  }

  /// The code of an event's kind, to compare with `Interaction.event`.
  package func eventCode(_ name: String) -> Int32? { eventNames.code(of: name) }
}
