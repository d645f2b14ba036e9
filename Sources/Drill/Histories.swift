import Columns
package import Domain
package import State

/// Users' histories, folded in the plainest way: from all rows at once, with a dictionary and a sort.
package struct Histories: Sendable {
  package struct Event: Hashable, Sendable {
    package var time: Timestamp
    package var position: LogPosition
    package var item: String
  }

  private var events: [String: [Event]] = [:]
  /// How many events each item has.
  private(set) var counts: [String: Int] = [:]

  package init() {}

  package mutating func add(user: String, item: String, time: Timestamp, position: LogPosition) {
    events[user, default: []].append(Event(time: time, position: position, item: item))
    counts[item, default: 0] += 1
  }

  package var users: [String] { events.keys.sorted() }

  /// A user's events in order: by time, then by arrival.
  package func events(of user: String) -> [Event] {
    (events[user] ?? []).sorted { ($0.time, $0.position) < ($1.time, $1.position) }
  }

  /// Every item of a user's history, once.
  package func seen(by user: String) -> Set<String> { Set((events[user] ?? []).map(\.item)) }

  /// Where an engine's state is another than this; nil where it is the same.
  package func difference(from state: StateSnapshot) -> String? {
    var served: Set<String> = []
    var difference: String?
    state.forEachUser { id, user in
      served.insert(id.rawValue)
      if difference != nil { return }
      let theirs = user.history.map {
        Event(time: $0.time, position: $0.position, item: state.itemID(of: $0.row).rawValue)
      }
      let ours = events(of: id.rawValue)
      if theirs != ours {
        let place = zip(theirs, ours).prefix { $0 == $1 }.count
        difference =
          "the history of `\(id.rawValue)` has \(theirs.count) events in the engine and "
          + "\(ours.count) in a fold of the rows; event \(place) is "
          + "\(place < theirs.count ? "\(theirs[place])" : "not there") and should be "
          + "\(place < ours.count ? "\(ours[place])" : "none")"
      } else if user.seen.map({ state.itemID(of: $0).rawValue }).sorted()
        != seen(by: id.rawValue).sorted()
      {
        difference = "the set of items that `\(id.rawValue)` has seen is not that of the history"
      }
    }
    if let difference { return difference }
    if let user = users.first(where: { !served.contains($0) }) {
      return "the engine does not know the user `\(user)`, who has \(events(of: user).count) events"
    }
    for (item, count) in counts {
      let row = state.row(of: ItemID(item))
      let theirs = row.map { Int(state.interactionCounts[Int($0.rawValue)]) } ?? 0
      if theirs != count {
        return "the item `\(item)` counts \(theirs) events in the engine and \(count) in its rows"
      }
    }
    if state.interactionCount != counts.values.reduce(0, +) {
      return "the engine counts \(state.interactionCount) events; there are "
        + "\(counts.values.reduce(0, +)) rows"
    }
    return nil
  }
}
