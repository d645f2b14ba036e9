package import Domain

/// `Drill` kills a server again and again while rows come in by every road, and looks whether it kept
/// its promises.
///
/// The server is this program as a process of its own, on a directory of its own. What the clients were
/// told is kept in an `Account`; what is stored is read by SQLite beside the server, and compared. The
/// drill never looks into the server but through HTTP and the files that it leaves.

/// By which road a row comes.
package enum Road: String, Hashable, Sendable, CaseIterable {
  case row = "HTTP, single rows"
  case batch = "HTTP, batches"
  case stream = "HTTP, streams"
  case keyed = "HTTP, idempotency keys"
  case file = "files"
  case kafka = "Kafka"
}

/// The tables of a drill.
package enum DrillTable: String, Hashable, Sendable, CaseIterable {
  /// Rows with unique keys, which their clients change; the engine reads it.
  case events
  /// Rows without unique keys, whose requests bear idempotency keys.
  case plain
  /// Rows of files.
  case lines
  /// Rows of Kafka.
  case messages

  /// Whether rows are known by streams and numbers, and not one by one.
  var holdsStreams: Bool { self == .lines || self == .messages }

  /// The columns that a reader asks for; `check` comes last.
  package var columns: [String] {
    switch self {
    case .events: ["id", "version", "user_id", "item_id", "created_at", "check"]
    case .plain: ["id", "version", "check"]
    case .lines, .messages: ["stream", "n", "check"]
    }
  }

  var definition: JSON {
    let types: [(String, JSON)] = columns.map { column in
      switch column {
      case "version", "n": (column, "Int64")
      case "created_at": (column, "DateTime")
      default: (column, "String")
      }
    }
    var members: [JSON.Member] = [
      JSON.Member("name", .string(rawValue)),
      JSON.Member("column_schema", .object(types.map { JSON.Member($0.0, $0.1) })),
    ]
    if self == .events { members.append(JSON.Member("unique_keys", ["id"])) }
    return .object(members)
  }
}

/// What a row of `events` says, which follows from its name and version: so a cell that is wrong shows.
package struct EventContent: Hashable, Sendable {
  package var user: String
  package var item: String
  package var time: Timestamp
  package var check: String

  static let itemCount = 150

  /// - Parameter number: the row's number among those of its client. It bounds how many rows a user has
  ///   and makes times that come nearly, but not quite, in order, some of them equal.
  package init(id: String, number: Int, version: Int) {
    let hash = stableHash("\(id)/\(version)")
    user = "u\(number / 150)-\(hash % 5)"
    item = "i\((hash >> 8) % UInt64(Self.itemCount))"
    let seconds = Int64(number / 4) + Int64((hash >> 20) % 3) * 5
    time = Timestamp(microsecondsSinceEpoch: (1_700_000_000 + seconds) * 1_000_000)
    check = checkWord("\(id)/\(version)")
  }
}

/// A row that a client sends.
package struct SentRow: Hashable, Sendable {
  package var id: String
  package var number: Int
  package var version: Int

  package init(id: String, number: Int, version: Int = 1) {
    (self.id, self.number, self.version) = (id, number, version)
  }

  func json(for table: DrillTable) -> JSON {
    let content = EventContent(id: id, number: number, version: version)
    let head: [JSON.Member] = [
      JSON.Member("id", .string(id)), JSON.Member("version", .int(Int64(version))),
    ]
    let check = JSON.Member("check", .string(content.check))
    guard table == .events else { return .object(head + [check]) }
    return .object(
      head + [
        JSON.Member("user_id", .string(content.user)),
        JSON.Member("item_id", .string(content.item)),
        JSON.Member("created_at", .int(content.time.microsecondsSinceEpoch / 1000)), check,
      ])
  }
}

/// A row as it was found.
package struct StoredRow: Hashable, Sendable {
  package var table: DrillTable
  package var position: LogPosition
  /// In the order of `DrillTable.columns`.
  package var cells: [Value]

  package init(_ table: DrillTable, _ position: LogPosition, _ cells: [Value]) {
    (self.table, self.position, self.cells) = (table, position, cells)
  }

  /// A row of `events` or `plain`, as the server should have stored it.
  package init(_ row: SentRow, in table: DrillTable, at position: LogPosition) {
    let content = EventContent(id: row.id, number: row.number, version: row.version)
    let head: [Value] = [.string(row.id), .int(Int64(row.version))]
    self.init(
      table, position,
      table == .plain
        ? head + [.string(content.check)]
        : head + [
          .string(content.user), .string(content.item),
          .int(content.time.microsecondsSinceEpoch), .string(content.check),
        ])
  }

  /// A row of a stream, as the server should have stored it.
  package init(_ table: DrillTable, stream: String, number: Int, at position: LogPosition) {
    self.init(
      table, position,
      [.string(stream), .int(Int64(number)), .string(checkWord("\(stream)/\(number)"))])
  }
}

/// A record of a file or of Kafka.
func streamRecord(_ stream: String, _ number: Int) -> JSON {
  [
    "stream": .string(stream), "n": .int(Int64(number)),
    "check": .string(checkWord("\(stream)/\(number)")),
  ]
}

/// Fowler, Noll and Vo's hash (FNV-1a), with a finish that moves every bit: the same in every process.
func stableHash(_ text: String) -> UInt64 {
  var hash: UInt64 = 0xCBF2_9CE4_8422_2325
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
  hash = (hash ^ (hash >> 31)) &* 0x94D0_49BB_1331_11EB
  return hash ^ (hash >> 29)
}

func checkWord(_ text: String) -> String { String(stableHash("check " + text), radix: 36) }
