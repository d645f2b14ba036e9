import Columns
package import Domain

/// A fold at one position of the log as bytes, so that a start need not fold the whole log again.
///
/// Little-endian: `RIFFLEST`, format version (u32), reserved (u32), identity of the database (u64),
/// log position (u64), the mapping's fingerprint (text), then the sections in the order of
/// `StateImage.write`, and at the end a checksum (u64) of everything before it. Texts are a u32
/// length and UTF-8; lists are a u64 count and their elements. Users of whom nothing is known are left
/// out.
/// `Documentation/formats/state.md` is the grammar.
package enum StateFile {
  static let magic: [UInt8] = Array("RIFFLEST".utf8)
  /// Format 2 added the table of users and the filters.
  package static let currentVersion: UInt32 = 2
  package static let oldestReadable: UInt32 = 1
}

/// What a state file cannot be read for. The log has everything, so this is no loss.
package struct StateFileFault: Error, Hashable, Sendable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}

/// What a fold is at one moment, taken in microseconds and written at leisure.
package struct StateImage: Sendable {
  let state: StateSnapshot
  let mapping: EntityMapping
  let describedBy: [Int64]
  let usersDescribedBy: [Int64]
  let fingerprint: String
  package var through: LogPosition { state.through }

  /// Writes the image.
  ///
  /// - Parameter sink: is given the bytes in order, some hundred kilobytes at a time.
  package func write(
    database: UInt64, to sink: @escaping (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    var out = ByteWriter(sink)
    try out.bytes(StateFile.magic)
    try out.number(StateFile.currentVersion)
    try out.number(UInt32(0))
    try out.number(database)
    try out.number(UInt64(state.through.rawValue))
    try out.text(fingerprint)
    try out.number(UInt64(state.skippedRowCount))
    try out.number(UInt64(state.eventNames.count))
    for code in 0..<state.eventNames.count { try out.text(state.eventNames[Int32(code)]) }
    try write(catalog: state.catalog, to: &out)
    for word in state.listed.words { try out.number(word) }
    try state.interactionCounts.forEachChunk { _, chunk in try out.raw(chunk) }
    try state.trendWeights.forEachChunk { _, chunk in try out.raw(chunk) }
    try out.raw(describedBy)
    let codes = (0..<state.userCount).filter(isKnown)
    try out.number(UInt64(codes.count))
    for code in codes { try write(user: code, to: &out) }
    if mapping.userTable != nil {
      try out.raw(codes.map { usersDescribedBy[$0] })
      try write(catalog: usersTable(codes), to: &out)
    }
    for filter in state.filters {
      for code in codes {
        let set = filter.set(ofUser: code)
        try out.number(UInt32(set.rows.count))
        try out.raw(set.rows.map(\.rawValue))
        try out.raw(set.counts)
      }
      let named = filter.namedBy
      try named.forEachChunk { _, chunk in try out.raw(chunk) }
      try out.raw([Int32](repeating: 0, count: state.itemCount - named.count))
    }
    try out.finish()
  }

  /// Whether anything is known of a user: an event, a row of the user table, or a filter's row.
  private func isKnown(_ code: Int) -> Bool {
    !state.users[code].history.isEmpty || usersDescribedBy[code] != 0
      || state.filters.contains { !$0.rows(ofUser: Int32(code)).isEmpty }
  }

  /// The table of users with the rows of these codes alone, and no text of others.
  private func usersTable(_ codes: [Int]) -> ColumnTable {
    var table = ColumnTable(mapping.userColumns)
    for code in codes {
      let row = table.appendEmptyRow()
      for column in mapping.userColumns.indices {
        table.set(state.userTable.column(at: column).value(at: code), row: row, column: column)
      }
    }
    return table
  }

  private func write(
    catalog: ColumnTable, to out: inout ByteWriter
  ) throws {
    try out.number(UInt64(catalog.rowCount))
    try out.number(UInt64(catalog.names.count))
    for place in catalog.names.indices {
      let column = catalog.column(at: place)
      try out.text(column.type.rawValue)
      try column.present.forEachChunk { _, chunk in try out.raw(chunk) }
      let strings = column.dictionary.strings
      try out.number(UInt64(strings.count))
      try strings.forEachChunk { _, chunk in for text in chunk { try out.text(text) } }
      switch column.values {
      case .bool(let values):
        try values.forEachChunk { _, chunk in try out.raw(chunk.map { $0 ? UInt8(1) : 0 }) }
      case .int(let values), .timestamp(let values):
        try values.forEachChunk { _, chunk in try out.raw(chunk) }
      case .double(let values): try values.forEachChunk { _, chunk in try out.raw(chunk) }
      case .string(let values): try values.forEachChunk { _, chunk in try out.raw(chunk) }
      case .strings(let values): try writeLists(values, to: &out)
      case .ints(let values): try writeLists(values, to: &out)
      case .doubles(let values): try writeLists(values, to: &out)
      }
    }
  }

  private func writeLists<Element: BitwiseCopyable & Sendable>(
    _ lists: ChunkedVector<[Element]>, to out: inout ByteWriter
  ) throws {
    try lists.forEachChunk { _, chunk in
      for list in chunk {
        try out.number(UInt32(list.count))
        try out.raw(list)
      }
    }
  }

  private func write(user code: Int, to out: inout ByteWriter) throws {
    let user = state.users[code]
    try out.text(state.userID(of: code).rawValue)
    try out.number(UInt32(user.history.count))
    for event in user.history {
      try out.number(UInt64(bitPattern: event.time.microsecondsSinceEpoch))
      try out.number(UInt64(event.position.rawValue))
      try out.number(UInt32(bitPattern: event.row.rawValue))
      try out.number(UInt32(bitPattern: event.event))
      try out.number(event.label.bitPattern)
    }
    try out.number(UInt32(user.seen.count))
    for row in user.seen { try out.number(UInt32(bitPattern: row.rawValue)) }
  }
}

extension StateFold {
  /// The fold as it is now; nil where it holds what a file does not; see `fitsAFile`.
  package func image() -> StateImage? {
    guard fitsAFile else { return nil }
    return StateImage(
      state: snapshot(), mapping: mapping, describedBy: describedBy,
      usersDescribedBy: usersDescribedBy, fingerprint: fingerprint)
  }

  /// Takes up what an image wrote.
  ///
  /// - Parameter database: the identity that the file must bear.
  /// - Throws: `StateFileFault`, with why the file is of no use.
  package convenience init(
    _ mapping: EntityMapping, filters: [FilterMapping] = [], reading bytes: UnsafeRawBufferPointer,
    database: UInt64
  ) throws(StateFileFault) {
    self.init(mapping, filters: filters)
    guard fitsAFile else { throw StateFileFault("a state of this engine cannot be stored") }
    var reader = try ByteReader(checking: bytes)
    guard try reader.bytes(8).elementsEqual(StateFile.magic) else {
      throw StateFileFault("it is no state file")
    }
    let version: UInt32 = try reader.number()
    guard (StateFile.oldestReadable...StateFile.currentVersion).contains(version) else {
      throw StateFileFault(
        "it has format \(version); this build reads \(StateFile.oldestReadable) to "
          + "\(StateFile.currentVersion)")
    }
    _ = try reader.number() as UInt32
    guard try reader.number() as UInt64 == database else {
      throw StateFileFault("it belongs to another database")
    }
    let through: UInt64 = try reader.number()
    guard try reader.text() == fingerprint else {
      throw StateFileFault("the tables or the engine have changed since")
    }
    let skipped: UInt64 = try reader.number()
    guard let eventNames = StringDictionary(distinct: try reader.texts()) else {
      throw StateFileFault("an event's kind stands twice")
    }
    let catalog = try Self.table(&reader, mapping.catalogColumns)
    let rows = catalog.rowCount
    let words: [UInt64] = try reader.array((rows + 63) / 64)
    let counts: [Int32] = try reader.array(rows)
    let trends: [Double] = try reader.array(rows)
    let described: [Int64] = try reader.array(rows)
    var interactionCount = 0
    let userCount = try reader.count(elementBytes: 12)
    var names: [String] = []
    var users: [UserState] = []
    names.reserveCapacity(userCount)
    users.reserveCapacity(userCount)
    for _ in 0..<userCount {
      names.append(try reader.text())
      users.append(try Self.user(&reader, rows: rows, kinds: eventNames.count))
      interactionCount += users[users.count - 1].history.count
    }
    guard let userNames = StringDictionary(distinct: names) else {
      throw StateFileFault("a user stands twice")
    }
    var usersDescribedBy = [Int64](repeating: 0, count: userCount)
    var listedUsers = Bitmap(count: userCount)
    let userTable: ColumnTable
    if mapping.userTable == nil {
      let userIDs = Column(
        type: .string, dictionary: userNames,
        present: ChunkedVector([UInt8](repeating: 1, count: names.count)),
        values: .string(ChunkedVector((0..<Int32(names.count)).map { $0 })))
      userTable = ColumnTable(mapping.userColumns, [userIDs], rowCount: names.count)
      // Without a table of users those with a history may be ranked.
      for code in users.indices where !users[code].history.isEmpty { listedUsers[code] = true }
    } else {
      usersDescribedBy = try reader.array(userCount)
      userTable = try Self.table(&reader, mapping.userColumns)
      guard userTable.rowCount == userCount,
        names.indices.allSatisfy({ userTable[lending: 0].value(at: $0) == .string(names[$0]) })
      else { throw StateFileFault("the table of users holds others") }
      for code in users.indices where usersDescribedBy[code] != 0 { listedUsers[code] = true }
    }
    var filterStates: [FilterState] = []
    for _ in filters {
      var personal: [FilterSet] = []
      personal.reserveCapacity(userCount)
      for _ in 0..<userCount { personal.append(try Self.filterSet(&reader, rows: rows)) }
      filterStates.append(FilterState(personal: personal, counts: try reader.array(rows)))
    }
    try reader.expectEnd()
    restore(
      StateSnapshot(
        mapping, through: LogPosition(Int64(through)), catalog: catalog,
        listed: Bitmap(words: words, count: rows), counts: ChunkedVector(counts),
        trends: ChunkedVector(trends),
        interactionCount: interactionCount, skippedRowCount: Int(skipped),
        userTable: userTable, users: users, listedUsers: listedUsers, filters: filterStates,
        eventNames: eventNames),
      describedBy: described, usersDescribedBy: usersDescribedBy)
  }

  private static func filterSet(
    _ reader: inout ByteReader, rows: Int
  ) throws(StateFileFault) -> FilterSet {
    let length: UInt32 = try reader.number()
    let named: [Int32] = try reader.array(Int(length))
    let counts: [Int32] = try reader.array(Int(length))
    guard named.allSatisfy({ $0 >= 0 && Int($0) < rows }), counts.allSatisfy({ $0 > 0 }),
      zip(named, named.dropFirst()).allSatisfy({ $0 < $1 })
    else { throw StateFileFault("a filter names an item that is not there") }
    return FilterSet(rows: named.map { CatalogRow($0) }, counts: counts)
  }

  private static func user(
    _ reader: inout ByteReader, rows: Int, kinds: Int
  ) throws(StateFileFault) -> UserState {
    let length: UInt32 = try reader.number()
    var history: [Interaction] = []
    history.reserveCapacity(try reader.checked(Int(length), elementBytes: 28))
    for _ in 0..<length {
      let time: UInt64 = try reader.number()
      let position: UInt64 = try reader.number()
      let row = Int32(bitPattern: try reader.number())
      let event = Int32(bitPattern: try reader.number())
      let label = Float(bitPattern: try reader.number())
      guard row >= 0, Int(row) < rows, event >= -1, Int(event) < kinds else {
        throw StateFileFault("an event names an item that is not there")
      }
      history.append(
        Interaction(
          time: Timestamp(microsecondsSinceEpoch: Int64(bitPattern: time)),
          position: LogPosition(Int64(bitPattern: position)), row: CatalogRow(row), event: event,
          label: label))
    }
    let seenCount: UInt32 = try reader.number()
    let seen: [Int32] = try reader.array(Int(seenCount))
    guard seen.allSatisfy({ $0 >= 0 && Int($0) < rows }) else {
      throw StateFileFault("a seen item is not there")
    }
    return UserState(history: history, seen: seen.map { CatalogRow($0) })
  }

  private static func table(
    _ reader: inout ByteReader, _ definitions: [ColumnDefinition]
  ) throws(StateFileFault) -> ColumnTable {
    let rows = try reader.count(elementBytes: 1)
    guard try reader.count(elementBytes: 1) == definitions.count else {
      throw StateFileFault("a table has other columns")
    }
    var columns: [Column] = []
    for definition in definitions {
      guard try reader.text() == definition.type.rawValue else {
        throw StateFileFault("a column has another type")
      }
      let present: [UInt8] = try reader.array(rows)
      guard let dictionary = StringDictionary(distinct: try reader.texts()) else {
        throw StateFileFault("a text of a column stands twice")
      }
      let codes = 0..<Int32(max(1, dictionary.count))
      let values: Column.Values
      switch definition.type {
      case .bool: values = .bool(ChunkedVector((try reader.array(rows) as [UInt8]).map { $0 != 0 }))
      case .int32, .int64: values = .int(ChunkedVector(try reader.array(rows) as [Int64]))
      case .dateTime: values = .timestamp(ChunkedVector(try reader.array(rows) as [Int64]))
      case .float, .double: values = .double(ChunkedVector(try reader.array(rows) as [Double]))
      case .stringArray:
        let lists: [[Int32]] = try reader.lists(rows)
        guard lists.allSatisfy({ $0.allSatisfy { codes.contains($0) } }) else {
          throw StateFileFault("a text of a column is not there")
        }
        values = .strings(ChunkedVector(lists))
      case .int64Array: values = .ints(ChunkedVector(try reader.lists(rows) as [[Int64]]))
      case .float64Array: values = .doubles(ChunkedVector(try reader.lists(rows) as [[Double]]))
      case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL:
        let list: [Int32] = try reader.array(rows)
        guard list.allSatisfy({ codes.contains($0) }) else {
          throw StateFileFault("a text of a column is not there")
        }
        values = .string(ChunkedVector(list))
      }
      columns.append(
        Column(
          type: definition.type, dictionary: dictionary, present: ChunkedVector(present),
          values: values))
    }
    return ColumnTable(definitions, columns, rowCount: rows)
  }
}

extension StateFold {
  /// A text that differs where a state of one engine is none of another.
  var fingerprint: String {
    ([mapping.fingerprint] + filters.map(\.fingerprint)).joined(separator: "|")
  }
}

extension EntityMapping {
  /// A text that differs where a state of one mapping is none of another.
  var fingerprint: String {
    func text(_ schema: TableSchema) -> String {
      schema.name + "("
        + schema.columns.map { "\($0.name):\($0.type.rawValue)" }.joined(
          separator: ",") + ")" + schema.uniqueKeys.joined(separator: ",")
    }
    let places = [userPlace, itemPlace, timePlace, labelPlace ?? -1, eventPlace ?? -1]
    return
      ([text(interactionTable)] + places.map(String.init)
      + [itemTable.map(text) ?? "", itemTableIDPlace.map(String.init) ?? ""]
      + catalogColumns.map(\.name)
      // Nothing where there is no such table, as before there were any.
      + (userTable.map { [text($0)] + userColumns.map(\.name) } ?? [])).joined(separator: "|")
  }
}
