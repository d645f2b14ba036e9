package import Domain

/// One thing that one user did to one item.
package struct Interaction: Hashable, Sendable {
  package var time: Timestamp
  package var position: LogPosition
  package var row: CatalogRow
  /// The code of the event's kind (see `StateSnapshot.eventName`), or -1 where it has none.
  package var event: Int32
  /// How much the user liked it; above 0 is positive. 1 where the row gave none.
  package var label: Float

  package init(
    time: Timestamp, position: LogPosition, row: CatalogRow, event: Int32 = -1, label: Float = 1
  ) {
    self.time = time
    self.position = position
    self.row = row
    self.event = event
    self.label = label
  }

  package var isPositive: Bool { label > 0 }

  /// Event order: time, then arrival.
  static func precedes(_ a: Interaction, _ b: Interaction) -> Bool {
    (a.time, a.position) < (b.time, b.position)
  }
}

/// What is known of one user.
package struct UserState: Hashable, Sendable {
  /// Every interaction in event order: time, then position.
  package private(set) var history: [Interaction] = []
  /// Every item of the history once, ascending, whatever the labels.
  package private(set) var seen: [CatalogRow] = []

  package init() {}

  /// - Parameters:
  ///   - history: in event order.
  ///   - seen: each item of the history once, ascending.
  init(history: [Interaction], seen: [CatalogRow]) {
    self.history = history
    self.seen = seen
  }

  /// The positive interactions, oldest first.
  package var positives: some BidirectionalCollection<Interaction> & Sendable {
    history.lazy.filter { $0.isPositive }
  }

  /// The items of the newest positive interactions, oldest first.
  package func recentPositives(_ limit: Int) -> [CatalogRow] {
    var rows: [CatalogRow] = []
    rows.reserveCapacity(min(limit, history.count))
    for interaction in history.reversed() where interaction.isPositive {
      if rows.count == limit { break }
      rows.append(interaction.row)
    }
    rows.reverse()
    return rows
  }

  package func hasSeen(_ row: CatalogRow) -> Bool {
    let place = seenPlace(of: row)
    return place < seen.count && seen[place] == row
  }

  /// Puts an interaction in its place. Most come last.
  mutating func insert(_ interaction: Interaction) {
    if let last = history.last, Interaction.precedes(interaction, last) {
      history.insert(interaction, at: historyPlace(of: interaction))
    } else {
      history.append(interaction)
    }
    let place = seenPlace(of: interaction.row)
    if place == seen.count {
      seen.append(interaction.row)
    } else if seen[place] != interaction.row {
      seen.insert(interaction.row, at: place)
    }
  }

  func holds(_ interaction: Interaction) -> Bool {
    let place = historyPlace(of: interaction)
    return place < history.count && history[place].position == interaction.position
  }

  /// Takes an interaction out, as if it never was.
  ///
  /// - Returns: whether it was there.
  mutating func remove(_ interaction: Interaction) -> Bool {
    let place = historyPlace(of: interaction)
    guard place < history.count, history[place].position == interaction.position else {
      return false
    }
    let row = history.remove(at: place).row
    if !history.contains(where: { $0.row == row }) { seen.remove(at: seenPlace(of: row)) }
    return true
  }

  /// The place of the first interaction that does not come before this one.
  private func historyPlace(of interaction: Interaction) -> Int {
    var low = 0
    var high = history.count
    while low < high {
      let middle = (low + high) / 2
      if Interaction.precedes(history[middle], interaction) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  private func seenPlace(of row: CatalogRow) -> Int {
    var low = 0
    var high = seen.count
    while low < high {
      let middle = (low + high) / 2
      if seen[middle] < row { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
