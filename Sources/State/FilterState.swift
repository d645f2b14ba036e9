import Columns
package import Domain

/// A table whose rows name items that must not be recommended: to one user each, or to anyone.
package struct FilterMapping: Sendable {
  package var table: String
  /// The place of the user's id in a row; nil where the filter holds for everybody.
  package var userPlace: Int?
  /// The place of the item's id.
  package var itemPlace: Int
  /// Whether each row counts; nil: all do. It must depend on the rows' cells alone, so that a row that is
  /// replaced is taken back as it was counted.
  package var condition: (@Sendable ([LoggedRow]) -> [Bool])?
  /// Tells this condition from others in a stored state; without it a state of it is not stored.
  package var conditionText: String?

  package init(
    table: String, userPlace: Int?, itemPlace: Int,
    condition: (@Sendable ([LoggedRow]) -> [Bool])? = nil, conditionText: String? = nil
  ) {
    self.table = table
    self.userPlace = userPlace
    self.itemPlace = itemPlace
    self.condition = condition
    self.conditionText = conditionText
  }

  /// Whether a state of it can be stored.
  var fitsAFile: Bool { condition == nil || conditionText != nil }

  /// A text that differs where a state of one filter is none of another.
  var fingerprint: String {
    "\(table)(\(userPlace ?? -1),\(itemPlace))" + (conditionText ?? "")
  }

  /// The rows that count.
  func counted(_ rows: [LoggedRow]) -> [LoggedRow] {
    guard let condition, !rows.isEmpty else { return rows }
    return zip(rows, condition(rows)).filter(\.1).map(\.0)
  }
}

/// The items that one filter forbids, exactly: an item stands in it as long as any row names it.
package struct FilterState: Sendable {
  /// What each user may not get, by the code of the user's name; shorter than the users where the last
  /// ones have nothing.
  private var personal = ChunkedVector<FilterSet>()
  /// How many rows name each catalog row, where the filter holds for everybody.
  private var counts = ChunkedVector<Int32>()
  private var forEverybody = Bitmap(count: 0)

  /// The rows that a user may not get, ascending.
  func rows(ofUser code: Int32) -> [CatalogRow] {
    Int(code) < personal.count ? personal[Int(code)].rows : []
  }

  /// What a user may not get, with the number of rows that name each item.
  func set(ofUser code: Int) -> FilterSet {
    code < personal.count ? personal[code] : FilterSet()
  }

  /// How many rows name each catalog row, for everybody; rows past its end are named by none.
  var namedBy: ChunkedVector<Int32> { counts }

  init() {}

  /// A stored filter.
  ///
  /// - Parameters:
  ///   - personal: by the user's code.
  ///   - counts: by the catalog row.
  init(personal: [FilterSet], counts: [Int32]) {
    self.personal = ChunkedVector(personal)
    self.counts = ChunkedVector(counts)
    var forEverybody = Bitmap(count: counts.count)
    for (row, count) in counts.enumerated() where count > 0 { forEverybody[row] = true }
    self.forEverybody = forEverybody
  }

  /// Whether a row of the filter can be taken back.
  func holds(_ row: CatalogRow, user: Int32?) -> Bool {
    guard let user else { return row.index < counts.count && counts[row.index] > 0 }
    return set(ofUser: Int(user)).rows.contains(row)
  }

  /// The rows that nobody may get; rows past its end are none.
  var global: Bitmap { forEverybody }

  mutating func add(_ row: CatalogRow, user: Int32?) {
    guard let user else {
      while counts.count <= row.index { counts.append(0) }
      counts[row.index] += 1
      if forEverybody.count <= row.index { forEverybody.grow(to: row.index + 1) }
      forEverybody[row.index] = true
      return
    }
    while personal.count <= Int(user) { personal.append(FilterSet()) }
    personal[Int(user)].add(row)
  }

  mutating func remove(_ row: CatalogRow, user: Int32?) {
    guard let user else {
      precondition(
        row.index < counts.count && counts[row.index] > 0,
        "a row was replaced that the filter never held")
      counts[row.index] -= 1
      if counts[row.index] == 0 { forEverybody[row.index] = false }
      return
    }
    precondition(Int(user) < personal.count, "a row was replaced that the filter never held")
    personal[Int(user)].remove(row)
  }
}

/// A set of rows with the number of times that each was put in.
struct FilterSet: Sendable {
  /// Ascending.
  private(set) var rows: [CatalogRow] = []
  private(set) var counts: [Int32] = []

  init() {}

  /// - Parameter rows: ascending, each once, with as many counts.
  init(rows: [CatalogRow], counts: [Int32]) {
    self.rows = rows
    self.counts = counts
  }

  mutating func add(_ row: CatalogRow) {
    // Rows mostly come in the order in which items became known.
    if let last = rows.last, last < row {
      rows.append(row)
      counts.append(1)
      return
    }
    let place = place(of: row)
    if place < rows.count, rows[place] == row {
      counts[place] += 1
    } else {
      rows.insert(row, at: place)
      counts.insert(1, at: place)
    }
  }

  mutating func remove(_ row: CatalogRow) {
    let place = place(of: row)
    precondition(
      place < rows.count && rows[place] == row, "a row was replaced that the filter never held")
    counts[place] -= 1
    if counts[place] == 0 {
      rows.remove(at: place)
      counts.remove(at: place)
    }
  }

  private func place(of row: CatalogRow) -> Int {
    var low = 0
    var high = rows.count
    while low < high {
      let middle = (low + high) / 2
      if rows[middle] < row { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
