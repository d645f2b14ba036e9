import Domain

/// A promise that was not kept.
package struct DrillFault: Error, Hashable, Sendable, CustomStringConvertible {
  /// How many times the server had been killed.
  package var kill: Int
  package var road: Road?
  /// Which row, or nil where it is about none.
  package var row: String?
  package var message: String

  package init(kill: Int, road: Road? = nil, row: String? = nil, _ message: String) {
    (self.kill, self.road, self.row, self.message) = (kill, road, row, message)
  }

  package var description: String {
    let place = [road?.rawValue, row.map { "row \($0)" }].compactMap { $0 }
    return "after kill \(kill)" + (place.isEmpty ? "" : ", " + place.joined(separator: ", "))
      + ": \(message)"
  }
}

/// What was sent, what was acknowledged, and what was found: the books of a drill.
///
/// A value without a clock, a file or a socket. Rows are found in reads. A read begins where the last
/// one of its table ended, and sees what came since; a read after `beginAnew` sees all. In one read a row
/// must be there once; a row without a unique key must never be there a second time.
package struct Account: Sendable {
  struct Entry: Sendable {
    var road: Road
    var number: Int
    /// The newest version that was sent.
    var sent = 1
    /// The newest version that was acknowledged; 0 where none was.
    var acknowledged = 0
    /// What the client knew to be stored when it first sent the newest version.
    var after: Int64
    /// The token of the acknowledgement.
    var token: Int64 = 0
    /// The row as it was found last.
    var found: (version: Int, position: Int64, read: Int, sweep: Int)?
    /// Where the row was found once its newest version was acknowledged: there it must stay.
    var place: (version: Int, position: Int64)?
  }

  struct Stream: Sendable {
    var road: Road
    /// Records that were handed over, or that are just being handed over.
    var sent = 0
    /// Where the records were found, in their order.
    var positions: [Int64] = []
    /// How many of them this sweep has found.
    var found = 0
  }

  package private(set) var kills = 0
  /// The greatest token that anybody was given.
  package private(set) var token: Int64 = 0
  /// Acknowledgements of requests.
  package private(set) var acknowledgements = 0
  private(set) var entries: [DrillTable: [String: Entry]] = [.events: [:], .plain: [:]]
  private(set) var streams: [DrillTable: [String: Stream]] = [.lines: [:], .messages: [:]]
  private var end: Int64 = 0
  private var read = 0
  private var sweep = 0
  private var doubtful: Set<Name> = []
  private var positions: Set<Int64> = []
  private var isWhole = false

  private struct Name: Hashable {
    var table: DrillTable
    var id: String
  }

  package init() {}

  package mutating func killed() { kills += 1 }

  // MARK: What is sent

  /// Notes rows that are about to be sent for the first time in this version.
  ///
  /// - Parameter after: the newest token that the client has: the rows will come behind it.
  package mutating func sends(
    _ rows: [SentRow], to table: DrillTable, by road: Road, after: Int64
  ) {
    for row in rows {
      var entry =
        entries[table]?[row.id] ?? Entry(road: road, number: row.number, after: after)
      entry.road = road
      entry.sent = row.version
      entry.after = after
      entries[table]?[row.id] = entry
    }
  }

  /// Notes that a request was acknowledged.
  package mutating func acknowledged(_ rows: [SentRow], of table: DrillTable, token: Int64) {
    acknowledgements += 1
    self.token = max(self.token, token)
    for row in rows {
      entries[table]?[row.id]?.acknowledged = row.version
      entries[table]?[row.id]?.token = token
      doubtful.insert(Name(table: table, id: row.id))
    }
  }

  /// Notes that the next records of a stream are about to be handed over.
  package mutating func hands(_ count: Int, to stream: String, of table: DrillTable) {
    streams[table, default: [:]][
      stream, default: Stream(road: table == .lines ? .file : .kafka)
    ].sent += count
  }

  /// How many records of all streams were handed over and were not found.
  package var missingRecords: Int {
    streams.values.reduce(0) { $0 + $1.values.reduce(0) { $0 + $1.sent - $1.found } }
  }

  package func foundRecords(of table: DrillTable) -> Int {
    streams[table]?.values.reduce(0) { $0 + $1.found } ?? 0
  }

  // MARK: What is found

  /// Begins to read all rows from the first position on: everything that is acknowledged must come.
  package mutating func beginAnew() {
    sweep += 1
    isWhole = true
    positions = []
    for table in streams.keys {
      for name in streams[table]?.keys.map({ $0 }) ?? [] { streams[table]?[name]?.found = 0 }
    }
    for (table, rows) in entries {
      for (id, entry) in rows where entry.acknowledged > 0 {
        doubtful.insert(Name(table: table, id: id))
      }
    }
  }

  /// Begins to read the rows of the tables that came since the last read.
  package mutating func beginRead() { read += 1 }

  /// Takes in a row that was found.
  package mutating func takes(_ row: StoredRow) -> DrillFault? {
    if isWhole, !positions.insert(row.position.rawValue).inserted {
      return fault(nil, "\(row.table.rawValue) \(row.cells)", "another row has its position too")
    }
    return row.table.holdsStreams ? takesRecord(row) : takesEntry(row)
  }

  private func fault(_ road: Road?, _ row: String?, _ message: String) -> DrillFault {
    DrillFault(kill: kills, road: road, row: row, message)
  }

  private mutating func takesEntry(_ row: StoredRow) -> DrillFault? {
    guard case .string(let id)? = row.cells.first, row.cells.count > 2,
      case .int(let cell) = row.cells[1]
    else { return fault(nil, "\(row.cells)", "invented: no client has sent such a row") }
    let position = row.position.rawValue
    guard var entry = entries[row.table]?[id] else {
      return fault(nil, id, "invented: no client has sent it; it stands at \(position)")
    }
    let version = Int(cell)
    let road = entry.road
    guard version >= 1, version <= entry.sent else {
      return fault(road, id, "invented: version \(version) was never sent, only \(entry.sent)")
    }
    let right = StoredRow(
      SentRow(id: id, number: entry.number, version: version), in: row.table, at: row.position)
    if right.cells != row.cells {
      return fault(road, id, "changed: it holds \(row.cells) and was sent as \(right.cells)")
    }
    if version < entry.acknowledged {
      return fault(
        road, id,
        "lost: version \(entry.acknowledged) was acknowledged at \(entry.token), "
          + "version \(version) is there")
    }
    if let found = entry.found, found.sweep == sweep,
      found.read == read || row.table == .plain
    {
      return fault(
        road, id, "doubled: it stands at \(found.position) and at \(position)")
    }
    if version == entry.acknowledged, version == entry.sent,
      position <= entry.after || position > entry.token
    {
      return fault(
        road, id,
        "it stands at \(position), not behind \(entry.after) and up to its token \(entry.token)")
    }
    if let place = entry.place, place.version == version, place.position != position {
      return fault(road, id, "it was at \(place.position) and is at \(position) now")
    }
    entry.found = (version, position, read, sweep)
    entries[row.table]?[id] = entry
    return nil
  }

  private mutating func takesRecord(_ row: StoredRow) -> DrillFault? {
    let road: Road = row.table == .lines ? .file : .kafka
    guard case .string(let name)? = row.cells.first, row.cells.count == 3,
      case .int(let cell) = row.cells[1]
    else { return fault(road, "\(row.cells)", "invented: no such record was handed over") }
    let (number, position) = (Int(cell), row.position.rawValue)
    let id = "\(name)/\(number)"
    guard var stream = streams[row.table]?[name], number >= 0, number < stream.sent else {
      return fault(road, id, "invented: no such record was handed over")
    }
    let right = StoredRow(row.table, stream: name, number: number, at: row.position)
    if right.cells != row.cells {
      return fault(road, id, "changed: it holds \(row.cells) and was sent as \(right.cells)")
    }
    if number < stream.found {
      return fault(
        road, id, "doubled: it stands at \(stream.positions[number]) and at \(position)")
    }
    if number > stream.found {
      return fault(
        road, "\(name)/\(stream.found)",
        "lost: record \(number) of its stream is there, at \(position)")
    }
    if number < stream.positions.count {
      let old = stream.positions[number]
      if old != position { return fault(road, id, "it was at \(old) and is at \(position) now") }
    } else {
      stream.positions.append(position)
    }
    stream.found += 1
    streams[row.table]?[name] = stream
    return nil
  }

  /// Ends a read: what was acknowledged must have been found.
  ///
  /// - Parameter end: where the log ended after the read.
  package mutating func endsRead(logEnd: Int64) -> [DrillFault] {
    var faults: [DrillFault] = []
    if logEnd < token {
      faults.append(
        fault(nil, nil, "the log ends at \(logEnd), but token \(token) was acknowledged"))
    }
    if logEnd < end {
      faults.append(fault(nil, nil, "the log ends at \(logEnd); it ended at \(end) before"))
    }
    end = max(end, logEnd)
    for name in doubtful {
      guard var entry = entries[name.table]?[name.id] else { continue }
      guard let found = entry.found, found.sweep == sweep, found.version >= entry.acknowledged
      else {
        let there =
          entry.found.flatMap { $0.sweep == sweep ? "version \($0.version)" : nil } ?? "nothing"
        faults.append(
          fault(
            entry.road, name.id,
            "lost: version \(entry.acknowledged) was acknowledged at \(entry.token), "
              + "\(there) is there"))
        continue
      }
      if entry.acknowledged == entry.sent {
        if found.position > entry.token || found.position <= entry.after {
          faults.append(
            fault(
              entry.road, name.id,
              "it stands at \(found.position), not behind \(entry.after) and up to its token "
                + "\(entry.token)"))
        }
        entry.place = (found.version, found.position)
        entries[name.table]?[name.id] = entry
      }
    }
    doubtful = []
    isWhole = false
    positions = []
    return faults.sorted { $0.description < $1.description }
  }

  // MARK: What follows from it

  /// How many rows of a table were found.
  package func rowCount(of table: DrillTable) -> Int {
    if table.holdsStreams { return foundRecords(of: table) }
    return entries[table]?.values.count { $0.found?.sweep == sweep } ?? 0
  }

  /// Rows that were acknowledged, by road; of files and Kafka, records that were handed over.
  package var acknowledgedRows: [Road: Int] {
    var counts: [Road: Int] = [:]
    for rows in entries.values {
      for entry in rows.values where entry.acknowledged > 0 { counts[entry.road, default: 0] += 1 }
    }
    for streams in streams.values {
      for stream in streams.values { counts[stream.road, default: 0] += stream.sent }
    }
    return counts
  }

  /// Rows that were found, by road.
  package var storedRows: [Road: Int] {
    var counts: [Road: Int] = [:]
    for rows in entries.values {
      for entry in rows.values where entry.found?.sweep == sweep {
        counts[entry.road, default: 0] += 1
      }
    }
    for streams in streams.values {
      for stream in streams.values { counts[stream.road, default: 0] += stream.found }
    }
    return counts
  }

  /// The fold from scratch of the rows of `events` that were found.
  package var histories: Histories {
    var histories = Histories()
    for (id, entry) in entries[.events] ?? [:] {
      guard let found = entry.found, found.sweep == sweep else { continue }
      let content = EventContent(id: id, number: entry.number, version: found.version)
      histories.add(
        user: content.user, item: content.item, time: content.time,
        position: LogPosition(found.position))
    }
    return histories
  }
}
