import Columns
package import Domain

/// A fold at one position of the log as bytes, so that a start need not fold the whole log again.
///
/// Little-endian: `RIFFLEST`, format version (u32), reserved (u32), identity of the database (u64),
/// log position (u64), the mapping's fingerprint (text), then the sections in the order of
/// `StateImage.write`, and at the end a checksum (u64) of everything before it. Texts are a u32
/// length and UTF-8; lists are a u64 count and their elements. Users without a history are left out.
/// `Documentation/formats/state.md` is the grammar.
package enum StateFile {
  static let magic: [UInt8] = Array("RIFFLEST".utf8)
  package static let currentVersion: UInt32 = 1
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
  let describedBy: [Int64]
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
    try writeUsers(to: &out)
    try out.finish()
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

  private func writeUsers(to out: inout ByteWriter) throws {
    var count: UInt64 = 0
    state.forEachUser { _, _ in count += 1 }
    try out.number(count)
    try state.forEachUser { id, user in
      try out.text(id.rawValue)
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
}

extension StateFold {
  /// The fold as it is now; nil where it holds what a file does not; see `fitsAFile`.
  package func image() -> StateImage? {
    guard fitsAFile else { return nil }
    return StateImage(
      state: snapshot(), describedBy: describedBy, fingerprint: mapping.fingerprint)
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
    guard try reader.text() == mapping.fingerprint else {
      throw StateFileFault("the tables or the engine have changed since")
    }
    let skipped: UInt64 = try reader.number()
    guard let eventNames = StringDictionary(distinct: try reader.texts()) else {
      throw StateFileFault("an event's kind stands twice")
    }
    let catalog = try Self.catalog(&reader, mapping)
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
    try reader.expectEnd()
    guard let userNames = StringDictionary(distinct: names) else {
      throw StateFileFault("a user stands twice")
    }
    let userIDs = Column(
      type: .string, dictionary: userNames,
      present: ChunkedVector([UInt8](repeating: 1, count: names.count)),
      values: .string(ChunkedVector((0..<Int32(names.count)).map { $0 })))
    restore(
      StateSnapshot(
        mapping, through: LogPosition(Int64(through)), catalog: catalog,
        listed: Bitmap(words: words, count: rows), counts: ChunkedVector(counts),
        trends: ChunkedVector(trends),
        interactionCount: interactionCount, skippedRowCount: Int(skipped),
        userTable: ColumnTable(mapping.userColumns, [userIDs], rowCount: names.count),
        users: users, eventNames: eventNames),
      describedBy: described)
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

  private static func catalog(
    _ reader: inout ByteReader, _ mapping: EntityMapping
  ) throws(StateFileFault) -> ColumnTable {
    let rows = try reader.count(elementBytes: 1)
    guard try reader.count(elementBytes: 1) == mapping.catalogColumns.count else {
      throw StateFileFault("the catalog has other columns")
    }
    var columns: [Column] = []
    for definition in mapping.catalogColumns {
      guard try reader.text() == definition.type.rawValue else {
        throw StateFileFault("a column of the catalog has another type")
      }
      let present: [UInt8] = try reader.array(rows)
      guard let dictionary = StringDictionary(distinct: try reader.texts()) else {
        throw StateFileFault("a text of the catalog stands twice")
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
          throw StateFileFault("a text of the catalog is not there")
        }
        values = .strings(ChunkedVector(lists))
      case .int64Array: values = .ints(ChunkedVector(try reader.lists(rows) as [[Int64]]))
      case .float64Array: values = .doubles(ChunkedVector(try reader.lists(rows) as [[Double]]))
      case .unknown, .bytes, .string, .lowCardinalityString, .json, .imageURL:
        let list: [Int32] = try reader.array(rows)
        guard list.allSatisfy({ codes.contains($0) }) else {
          throw StateFileFault("a text of the catalog is not there")
        }
        values = .string(ChunkedVector(list))
      }
      columns.append(
        Column(
          type: definition.type, dictionary: dictionary, present: ChunkedVector(present),
          values: values))
    }
    return ColumnTable(mapping.catalogColumns, columns, rowCount: rows)
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
      + catalogColumns.map(\.name)).joined(separator: "|")
  }
}
