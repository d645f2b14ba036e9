import Columns
import Domain
import Foundation
import State
import Testing

@Suite struct `State file` {
  private static let interactions = TableSchema(
    name: "events",
    columns: [
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "item_id", type: .string),
      ColumnDefinition(name: "created_at", type: .dateTime),
      ColumnDefinition(name: "event_value", type: .string),
    ])

  private static let items = TableSchema(
    name: "items",
    columns: [ColumnDefinition(name: "item_id", type: .string)]
      + ColumnType.allCases.enumerated().map {
        ColumnDefinition(name: "c\($0.offset)", type: $0.element)
      }, uniqueKeys: ["item_id"])

  private struct Random: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ (state >> 29)
    }
  }

  private static func cell(_ type: ColumnType, _ random: inout Random) -> Value {
    if Int.random(in: 0..<4, using: &random) == 0 { return .null }
    let number = Int.random(in: -3...3, using: &random)
    return switch type {
    case .unknown, .string, .lowCardinalityString, .json, .imageURL: .string("s\(number)")
    case .bytes: .bytes([UInt8(number + 3)])
    case .stringArray: .array((0..<(number + 3)).map { .string("t\($0)") })
    case .int64Array: .array((0..<(number + 3)).map { .int(Int64($0)) })
    case .float64Array: .array((0..<(number + 3)).map { .double(Double($0)) })
    case .int32, .int64: .int(Int64(number))
    case .float, .double: .double(Double(number) / 2)
    case .bool: .bool(number > 0)
    case .dateTime: .timestamp(Timestamp(microsecondsSinceEpoch: Int64(number)))
    }
  }

  private static func commits(
    _ count: Int, from start: Int64, _ random: inout Random
  ) -> [[CommittedBatch]] {
    var position = start
    return (0..<count).map { _ in
      position += 1
      if Int.random(in: 0..<3, using: &random) == 0 {
        return [
          CommittedBatch(
            table: "items",
            inserted: [
              LoggedRow(
                position: LogPosition(position),
                values: [.string("i\(Int.random(in: 0..<40, using: &random))")]
                  + ColumnType.allCases.map { cell($0, &random) })
            ])
        ]
      }
      return [
        CommittedBatch(
          table: "events",
          inserted: [
            LoggedRow(
              position: LogPosition(position),
              values: [
                Int.random(in: 0..<20, using: &random) == 0
                  ? .null : .string("u\(Int.random(in: 0..<30, using: &random))"),
                .string("i\(Int.random(in: 0..<60, using: &random))"),
                .timestamp(
                  Timestamp(
                    microsecondsSinceEpoch: Int64.random(in: -500...500, using: &random))),
                .string(Bool.random(using: &random) ? "view" : "like"),
              ])
          ])
      ]
    }
  }

  private static func bytes(_ fold: StateFold) throws -> [UInt8] {
    var out: [UInt8] = []
    let image = try #require(fold.image())
    try image.write(database: 7) { out += $0 }
    return out
  }

  private static func read(
    _ bytes: [UInt8], _ mapping: EntityMapping, filters: [FilterMapping] = [],
    database: UInt64 = 7
  ) throws -> StateFold {
    try bytes.withUnsafeBytes { raw throws(StateFileFault) in
      try StateFold(mapping, filters: filters, reading: raw, database: database)
    }
  }

  // MARK: users and filters

  private static let people = TableSchema(
    name: "people",
    columns: [
      ColumnDefinition(name: "user_id", type: .string),
      ColumnDefinition(name: "country", type: .lowCardinalityString),
      ColumnDefinition(name: "tags", type: .stringArray),
      ColumnDefinition(name: "age", type: .int32),
    ], uniqueKeys: ["user_id"])

  /// A personal filter of a table of its own, one for everybody under a condition, and one of the
  /// interactions.
  private static let filters = [
    FilterMapping(table: "blocked", userPlace: 0, itemPlace: 1),
    FilterMapping(
      table: "recalled", userPlace: nil, itemPlace: 0,
      condition: { $0.map { $0.values[1] == .bool(true) } }, conditionText: "is_active"),
    FilterMapping(table: "events", userPlace: 0, itemPlace: 1),
  ]

  /// Commits of all tables. Rows of users and filters go again later, as the log says.
  private static func richCommits(
    _ count: Int, from start: Int64, _ random: inout Random,
    _ alive: inout [(table: String, row: LoggedRow)]
  ) -> [[CommittedBatch]] {
    commits(count, from: start, &random).enumerated().map { i, commit in
      let position = LogPosition(start + Int64(i) + 1)
      func user() -> Value { .string("u\(Int.random(in: 0..<40, using: &random))") }
      func item() -> Value { .string("i\(Int.random(in: 0..<70, using: &random))") }
      let made: (String, [Value])
      switch Int.random(in: 0..<6, using: &random) {
      case 0:
        made = (
          "people",
          [
            user(), cell(.lowCardinalityString, &random), cell(.stringArray, &random),
            cell(.int32, &random),
          ]
        )
      case 1: made = ("blocked", [Bool.random(using: &random) ? user() : .null, item()])
      case 2: made = ("recalled", [item(), cell(.bool, &random)])
      default: return commit
      }
      let row = LoggedRow(position: position, values: made.1)
      var replaced: [LoggedRow] = []
      // The same key again, or a row that is taken back by a later one.
      if made.0 == "people" {
        replaced = alive.filter { $0.table == "people" && $0.row.values[0] == made.1[0] }.map(\.row)
      } else if let old = alive.filter({ $0.table == made.0 }).randomElement(using: &random),
        Bool.random(using: &random)
      {
        replaced = [old.row]
      }
      alive.removeAll { one in replaced.contains { $0.position == one.row.position } }
      alive.append((made.0, row))
      return [CommittedBatch(table: made.0, inserted: [row], replaced: replaced)]
    }
  }

  private static func expectEqualUsers(_ a: StateSnapshot, _ b: StateSnapshot) {
    for number in 0..<40 {
      let id = UserID("u\(number)")
      let (x, y) = (a.userCode(id).map(Int.init), b.userCode(id).map(Int.init))
      for name in a.userTable.names {
        let value = x.flatMap { a.userTable[name]?.value(at: $0) }
        let other = y.flatMap { b.userTable[name]?.value(at: $0) }
        // A user of whom nothing is known need not be there.
        if x != nil, y != nil || a.listedUsers[x ?? 0] { #expect(value == other, "\(id) \(name)") }
      }
      #expect((x.map { a.listedUsers[$0] } ?? false) == (y.map { b.listedUsers[$0] } ?? false))
      for filter in a.filters.indices {
        #expect(
          a.forbidden(filter: filter, user: id) == b.forbidden(filter: filter, user: id),
          "\(id), filter \(filter)")
      }
    }
    for filter in a.filters.indices {
      let (x, y) = (a.forbidden(filter: filter), b.forbidden(filter: filter))
      for row in 0..<a.itemCount {
        #expect((row < x.count && x[row]) == (row < y.count && y[row]))
      }
    }
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func `with users and filters goes on as if nothing had been`(seed: UInt64) throws {
    var random = Random(state: seed)
    let mapping = try EntityMapping(
      interactions: Self.interactions, items: Self.items, users: Self.people)
    var alive: [(table: String, row: LoggedRow)] = []
    let fold = StateFold(mapping, filters: Self.filters)
    for (i, commit) in Self.richCommits(500, from: 0, &random, &alive).enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 1)))
    }
    let again = try Self.read(try Self.bytes(fold), mapping, filters: Self.filters)
    Self.expectEqual(fold.snapshot(), again.snapshot())
    Self.expectEqualUsers(fold.snapshot(), again.snapshot())
    let after = Self.richCommits(300, from: 500, &random, &alive)
    #expect(after.contains { $0.contains { !$0.replaced.isEmpty } })
    #expect(again.holds(after.flatMap { $0 }.map { CommittedBatch(table: $0.table, inserted: []) }))
    for (i, commit) in after.enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 501)))
      again.apply(commit, through: LogPosition(Int64(i + 501)))
    }
    Self.expectEqual(fold.snapshot(), again.snapshot())
    Self.expectEqualUsers(fold.snapshot(), again.snapshot())
    // And once more from there.
    let third = try Self.read(try Self.bytes(again), mapping, filters: Self.filters)
    Self.expectEqualUsers(fold.snapshot(), third.snapshot())
  }

  @Test func `leaves out users of whom nothing is known any more`() throws {
    let mapping = try EntityMapping(
      interactions: Self.interactions, items: Self.items, users: Self.people)
    let fold = StateFold(mapping, filters: Self.filters)
    func row(_ position: Int64, _ values: [Value]) -> LoggedRow {
      LoggedRow(position: LogPosition(position), values: values)
    }
    let person = row(1, [.string("gone"), .string("nowhere"), .null, .int(3)])
    let block = row(2, [.string("gone"), .string("i1")])
    fold.apply([CommittedBatch(table: "people", inserted: [person])], through: LogPosition(1))
    fold.apply([CommittedBatch(table: "blocked", inserted: [block])], through: LogPosition(2))
    fold.apply(
      [
        CommittedBatch(
          table: "people", inserted: [row(3, [.string("stays"), .null, .null, .int(4)])],
          replaced: [person]),
        CommittedBatch(table: "blocked", inserted: [], replaced: [block]),
      ], through: LogPosition(3))
    let bytes = try Self.bytes(fold)
    for word in ["gone", "nowhere"] {
      #expect(String(decoding: bytes, as: UTF8.self).contains(word) == false)
    }
    let again = try Self.read(bytes, mapping, filters: Self.filters).snapshot()
    #expect(again.userCode(UserID("gone")) == nil && again.userCount == 1)
    #expect(again.userTable["age"]?.value(at: 0) == .int(4))
  }

  @Test func `of other filters is refused, and of a condition without a text not stored`() throws {
    let mapping = try EntityMapping(interactions: Self.interactions, items: Self.items)
    let bytes = try Self.bytes(StateFold(mapping, filters: Self.filters))
    var others = Self.filters
    others[1].conditionText = "NOT is_active"
    for filters in [others, [], Array(Self.filters.reversed())] {
      #expect(throws: StateFileFault.self) { try Self.read(bytes, mapping, filters: filters) }
    }
    others[1].conditionText = nil
    #expect(StateFold(mapping, filters: others).image() == nil)
  }

  private static func expectEqual(_ a: StateSnapshot, _ b: StateSnapshot) {
    #expect(a.through == b.through && a.itemCount == b.itemCount)
    #expect(a.interactionCount == b.interactionCount && a.skippedRowCount == b.skippedRowCount)
    #expect(a.listed == b.listed)
    for row in 0..<min(a.itemCount, b.itemCount) {
      #expect(a.interactionCounts[row] == b.interactionCounts[row])
      #expect(a.trendWeights[row] == b.trendWeights[row])
      for name in a.catalog.names {
        #expect(a.catalog[name]?.value(at: row) == b.catalog[name]?.value(at: row))
      }
    }
    var users = 0
    a.forEachUser { id, user in
      users += 1
      #expect(b.user(id) == user)
    }
    var others = 0
    b.forEachUser { _, _ in others += 1 }
    #expect(users == others)
  }

  @Test(arguments: [1, 2, 3] as [UInt64])
  func `gives back the state, which goes on as if nothing had been`(seed: UInt64) throws {
    var random = Random(state: seed)
    let mapping = try EntityMapping(interactions: Self.interactions, items: Self.items)
    let fold = StateFold(mapping)
    let before = Self.commits(400, from: 0, &random)
    for (i, commit) in before.enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 1)))
    }
    let again = try Self.read(try Self.bytes(fold), mapping)
    Self.expectEqual(fold.snapshot(), again.snapshot())
    // New rows, and some of the old ones that go.
    var after = Self.commits(200, from: 400, &random)
    for i in after.indices {
      guard let old = before.indices.randomElement(using: &random),
        let row = before[old].first?.inserted.first, before[old].first?.table == "events",
        !after.contains(where: { $0.contains { $0.replaced.contains(row) } })
      else { continue }
      if let place = after[i].firstIndex(where: { $0.table == "events" }) {
        after[i][place].replaced.append(row)
      }
    }
    #expect(again.holds(after.flatMap { $0 }))
    for (i, commit) in after.enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 401)))
      again.apply(commit, through: LogPosition(Int64(i + 401)))
    }
    Self.expectEqual(fold.snapshot(), again.snapshot())
  }

  @Test func `is refused where a byte has changed or the end is missing`() throws {
    var random = Random(state: 5)
    let mapping = try EntityMapping(interactions: Self.interactions, items: Self.items)
    let fold = StateFold(mapping)
    for (i, commit) in Self.commits(60, from: 0, &random).enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 1)))
    }
    let whole = try Self.bytes(fold)
    for place in stride(from: 0, to: whole.count, by: 97) {
      var changed = whole
      changed[place] ^= 1 << UInt8(place % 8)
      #expect(throws: StateFileFault.self) { try Self.read(changed, mapping) }
      #expect(throws: StateFileFault.self) { try Self.read(Array(whole[..<place]), mapping) }
    }
    #expect(throws: StateFileFault.self) { try Self.read(whole, mapping, database: 8) }
  }

  @Test func `of other tables is refused`() throws {
    let mapping = try EntityMapping(interactions: Self.interactions, items: Self.items)
    var wider = Self.items
    wider.columns.append(ColumnDefinition(name: "more", type: .string))
    let other = try EntityMapping(interactions: Self.interactions, items: wider)
    let bytes = try Self.bytes(StateFold(mapping))
    let fault = #expect(throws: StateFileFault.self) { try Self.read(bytes, other) }
    #expect(fault?.description == "the tables or the engine have changed since")
  }

  @Test func `of format 2 is read as it was written`() throws {
    var random = Random(state: 43)
    let mapping = try EntityMapping(
      interactions: Self.interactions, items: Self.items, users: Self.people)
    var alive: [(table: String, row: LoggedRow)] = []
    let fold = StateFold(mapping, filters: Self.filters)
    for (i, commit) in Self.richCommits(80, from: 0, &random, &alive).enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 1)))
    }
    let name = "Fixtures/state-2.state"
    if ProcessInfo.processInfo.environment["RIFFLE_WRITE_FIXTURES"] != nil {
      let folder = URL(filePath: #filePath).deletingLastPathComponent()
      try Data(Self.bytes(fold)).write(to: folder.appending(path: name))
    }
    let url = try #require(Bundle.module.url(forResource: name, withExtension: nil))
    let stored = [UInt8](try Data(contentsOf: url))
    let again = try Self.read(stored, mapping, filters: Self.filters)
    Self.expectEqual(fold.snapshot(), again.snapshot())
    Self.expectEqualUsers(fold.snapshot(), again.snapshot())
  }

  /// A file that an earlier build wrote must stay readable. This one is of a build that is gone;
  /// `RIFFLE_WRITE_FIXTURES=1` writes that of the newest format anew.
  @Test func `of format 1 is read as it was written`() throws {
    var random = Random(state: 42)
    let mapping = try EntityMapping(interactions: Self.interactions, items: Self.items)
    let fold = StateFold(mapping)
    for (i, commit) in Self.commits(60, from: 0, &random).enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 1)))
    }
    let name = "Fixtures/state-1.state"
    let url = try #require(Bundle.module.url(forResource: name, withExtension: nil))
    let stored = [UInt8](try Data(contentsOf: url))
    Self.expectEqual(fold.snapshot(), try Self.read(stored, mapping).snapshot())
  }

  @Test func `follows a table that gets wider`() throws {
    var random = Random(state: 9)
    let mapping = try EntityMapping(interactions: Self.interactions, items: Self.items)
    let fold = StateFold(mapping)
    for (i, commit) in Self.commits(100, from: 0, &random).enumerated() {
      fold.apply(commit, through: LogPosition(Int64(i + 1)))
    }
    let before = fold.snapshot()
    var wider = Self.items
    wider.columns.append(ColumnDefinition(name: "more", type: .int64))
    let place = try #require(wider.index(of: "c7"))
    #expect(wider.columns[place].type == .int32)
    wider.columns[place].type = .double
    fold.adopt(try EntityMapping(interactions: Self.interactions, items: wider))
    let after = fold.snapshot()
    #expect(after.catalogVersion > before.catalogVersion && after.itemCount == before.itemCount)
    for row in 0..<after.itemCount {
      #expect(after.catalog["more"]?.value(at: row) == .null)
      #expect(
        after.catalog["c7"]?.value(at: row)
          == before.catalog["c7"]?.value(at: row).widened(to: .double))
    }
    #expect(before.catalog["more"] == nil)
  }
}
