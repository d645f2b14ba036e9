import Columns
import Domain

/// The derived columns of an interaction table: `_derived_interaction_id`, the row's position in the log,
/// and `_derived_session_id`, the session of its user in which it lies.
///
/// A session ends where a user does nothing for half an hour, the usual bound of web analytics. Its id is
/// the user's and the time of its first event in milliseconds, `u1-1767607200000`, so later events leave
/// it as it is. Where the engine's YAML names columns for them, those are shown instead.
struct InteractionColumns: Sendable {
  /// The columns of the table that say who and when; sessions are told by them.
  struct Roles: Hashable, Sendable {
    var user: String
    var time: String
    /// Columns of the table that hold what would be derived.
    var session: String?
    var interaction: String?
  }

  static let interactionID = "_derived_interaction_id"
  static let sessionID = "_derived_session_id"
  /// 30 minutes.
  static let longestPause: Int64 = 30 * 60 * 1_000_000

  private struct Event {
    var time: Int64
    var row: Int32
  }

  private var sessions = Column(type: .string)
  /// Each user's events, by time and then by row.
  private var events: [String: [Event]] = [:]
  /// Who stands in a row, for when it is replaced.
  private var users: [String?] = []

  /// Takes in a new row, or what has replaced an old one.
  mutating func take(row: Int, user: Value, time: Value) {
    while sessions.count <= row {
      sessions.append(.null)
      users.append(nil)
    }
    if let old = users[row] {
      events[old]?.removeAll { $0.row == row }
      users[row] = nil
      sessions.set(.null, at: row)
      name(old, from: 0, isWhole: true)
    }
    guard let user = InteractionColumns.text(user), case .timestamp(let time) = time else { return }
    users[row] = user
    let event = Event(time: time.microsecondsSinceEpoch, row: Int32(row))
    var place = events[user]?.count ?? 0
    while let before = events[user], place > 0,
      (before[place - 1].time, before[place - 1].row) > (event.time, event.row)
    {
      place -= 1
    }
    events[user, default: []].insert(event, at: place)
    name(user, from: place)
  }

  /// Names the sessions of a user's events from a place on. An earlier one keeps its name.
  ///
  /// - Parameter isWhole: goes to the end; otherwise to the first event that has its name already, behind
  ///   which nothing changes where one event came in.
  private mutating func name(_ user: String, from place: Int, isWhole: Bool = false) {
    guard let events = events[user], place < events.count else { return }
    var start = events[place].time
    if place > 0, start - events[place - 1].time <= Self.longestPause {
      var first = place - 1
      while first > 0, events[first].time - events[first - 1].time <= Self.longestPause {
        first -= 1
      }
      start = events[first].time
    }
    for i in place..<events.count {
      if i > place, events[i].time - events[i - 1].time > Self.longestPause {
        start = events[i].time
      }
      let name = Value.string("\(user)-\(start / 1000)")
      if !isWhole, i > place, sessions.value(at: Int(events[i].row)) == name { break }
      sessions.set(name, at: Int(events[i].row))
    }
  }

  private static func text(_ value: Value) -> String? {
    switch value {
    case .string(let text): text
    case .int(let number): String(number)
    default: nil
    }
  }

  /// The table with the two columns at its end.
  ///
  /// - Parameter positions: where each row stands in the log.
  func added(
    to table: ColumnTable, positions: ChunkedVector<Int64>, _ roles: Roles
  ) -> ColumnTable {
    var definitions: [ColumnDefinition] = []
    var columns: [Column] = []
    for (place, name) in table.names.enumerated() {
      columns.append(table.column(at: place))
      definitions.append(ColumnDefinition(name: name, type: columns[place].type))
    }
    let ids =
      roles.interaction.flatMap { table[$0] }
      ?? Column(
        type: .int64, dictionary: StringDictionary(),
        present: ChunkedVector([UInt8](repeating: 1, count: table.rowCount)),
        values: .int(positions))
    let named = roles.session.flatMap { table[$0] } ?? sessions
    for (name, column) in [(Self.interactionID, ids), (Self.sessionID, named)]
    where table[name] == nil {
      definitions.append(ColumnDefinition(name: name, type: column.type))
      columns.append(column)
    }
    return ColumnTable(definitions, columns, rowCount: table.rowCount)
  }
}
