import Domain
import Engine
import Foundation
import Logging
import QueryEngine
import Synchronization
import Testing

/// Hard filters while rows are inserted, changed and taken away by several writers at once.
///
/// Every answer says the log position that it was made from. So afterwards the writes are put in the
/// order of their positions, the tables as they stood at each answer's position are built the plain way,
/// and the answer is held against them: nothing forbidden, and k items wherever there were k.
@Suite struct `Hard filters under concurrent writes` {
  private static let isFull = ProcessInfo.processInfo.environment["RIFFLE_FULL"] != nil

  private struct Item: Sendable {
    var draw = 0
    var isGone = false
  }

  /// One commit, by the position of its last row.
  private struct Write: Sendable {
    enum Change: Sendable {
      case item(String, Item)
      case seen(user: String, item: String)
      case blocked(user: String, item: String, Bool)
      case banned(item: String, Bool)
    }
    var through: LogPosition
    var changes: [Change]
  }

  private struct Answer: Sendable {
    var asOf: LogPosition
    /// The newest write that the asker knew to be acknowledged.
    var acknowledged: LogPosition
    var user: String
    var most: Int
    var k: Int
    var form: String
    var ids: [String]
  }

  /// What the tasks write down together.
  private final class Records: Sendable {
    let writes = Mutex<[Write]>([])
    let answers = Mutex<[Answer]>([])
    let acknowledged = Mutex(LogPosition.start)
    let writersLeft = Mutex(3)
  }

  /// The tables as they stand at one position.
  private struct Tables {
    var items: [String: Item] = [:]
    var seen: [String: Set<String>] = [:]
    var blocked: [String: Set<String>] = [:]
    var banned: Set<String> = []

    mutating func apply(_ write: Write) {
      for change in write.changes {
        switch change {
        case .item(let id, let item): items[id] = item
        case .seen(let user, let item): seen[user, default: []].insert(item)
        case .blocked(let user, let item, true): blocked[user, default: []].insert(item)
        case .blocked(let user, let item, false): blocked[user, default: []].remove(item)
        case .banned(let item, true): banned.insert(item)
        case .banned(let item, false): banned.remove(item)
        }
      }
    }

    func allows(_ id: String, _ answer: Answer) -> Bool {
      guard let item = items[id] else { return false }
      return item.draw < answer.most && !item.isGone && !banned.contains(id)
        && seen[answer.user]?.contains(id) != true && blocked[answer.user]?.contains(id) != true
    }
  }

  private static let yaml = """
    name: e
    data:
      interaction_table: events
      item_table: items
      filters:
        - name: blocked
          filter_table: {query: "SELECT user_id, item_id FROM blocked WHERE active"}
          filter_type: personal
        - {name: banned, filter_table: {type: table, name: banned, where: active}, filter_type: global}
    index: {vector_search: {partition_from_rows: 100, recall: 0.5}}
    training:
      models: [{policy_type: sasrec, hidden_size: 8, n_layers: 1, n_epochs: 1, max_seq_length: 20}]
    """

  private static let forms = [
    "items",
    "similarity(embedding_ref='sasrec', encoder='precomputed_user', input_user_id=$user, limit=5)",
    "column_order(columns='draw DESC', limit=3)",
    "similarity(embedding_ref='sasrec', input_user_id=$user), column_order(columns='draw', limit=9)",
  ]

  @Test(arguments: isFull ? [1, 2, 3, 4, 5, 6] as [UInt64] : [1])
  func `hold at the position of every answer`(seed: UInt64) async throws {
    let path = NSTemporaryDirectory() + "riffle-concurrent-" + UUID().uuidString
    defer { try? FileManager.default.removeItem(atPath: path) }
    var options = RiffleDatabase.Options()
    options.trainingThreads = 1
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let database = try RiffleDatabase(opening: path, options: options, logger: logger)
    defer { database.close() }
    let itemCount = Self.isFull ? 100_000 : 4000
    let records = Records()
    let engine = try await Self.prepare(database, itemCount: itemCount, seed, records)
    try await withThrowingTaskGroup { group in
      for writer in 0..<3 {
        group.addTask {
          var dice = SplitMix(seed &* 100 &+ UInt64(writer))
          for _ in 0..<(Self.isFull ? 400 : 60) {
            let write = try await Self.write(&dice, writer, database, itemCount)
            records.writes.withLock { $0.append(write) }
            records.acknowledged.withLock { $0 = max($0, write.through) }
          }
          records.writersLeft.withLock { $0 -= 1 }
        }
      }
      for reader in 0..<2 {
        group.addTask {
          var dice = SplitMix(seed &* 100 &+ 50 &+ UInt64(reader))
          while records.writersLeft.withLock({ $0 }) > 0 {
            var answer = Answer(
              asOf: .start, acknowledged: records.acknowledged.withLock { $0 },
              user: "u\(dice.below(8))",
              most: dice.pick([1, 10, 100, 1000, 10_000, 50_000, 100_000]),
              k: dice.pick([1, 5, 20, 200]), form: dice.pick(Self.forms), ids: [])
            let made = try engine.answer(
              QueryCall(
                text: """
                  SELECT * FROM \(answer.form) WHERE draw < $most AND gone = false
                  AND prebuilt('already_seen', input_user_id=$user)
                  AND prebuilt('blocked', input_user_id=$user) AND prebuilt('banned') LIMIT \(answer.k)
                  """,
                parameters: [
                  "most": .int(Int64(answer.most)), "user": .string(answer.user),
                ]))
            answer.asOf = made.asOf
            answer.ids = made.result.ids.map(\.rawValue)
            let done = answer
            records.answers.withLock { $0.append(done) }
            await Task.yield()
          }
        }
      }
      try await group.waitForAll()
    }
    Self.check(
      records.answers.withLock { $0 }, against: records.writes.withLock { $0 }, seed)
  }

  /// Tables, items, some events, and an engine whose first training has ended.
  private static func prepare(
    _ database: RiffleDatabase, itemCount: Int, _ seed: UInt64, _ records: Records
  ) async throws -> ServedEngine {
    let tables: [JSON] = [
      [
        "name": "events",
        "column_schema": ["user_id": "String", "item_id": "String", "created_at": "DateTime"],
      ],
      [
        "name": "items", "unique_keys": ["item_id"],
        "column_schema": ["item_id": "String", "draw": "Int64", "gone": "Bool"],
      ],
      [
        "name": "blocked", "unique_keys": ["user_id", "item_id"],
        "column_schema": ["user_id": "String", "item_id": "String", "active": "Bool"],
      ],
      [
        "name": "banned", "unique_keys": ["item_id"],
        "column_schema": ["item_id": "String", "active": "Bool"],
      ],
    ]
    for table in tables { _ = try await database.createTable(table) }
    var dice = SplitMix(seed)
    for start in stride(from: 0, to: itemCount, by: 10_000) {
      var changes: [Write.Change] = []
      for number in start..<min(itemCount, start + 10_000) {
        changes.append(.item("i\(number)", Item(draw: dice.below(100_000))))
      }
      let through = try await insert(changes, into: database)
      let write = Write(through: through, changes: changes)
      records.writes.withLock { $0.append(write) }
    }
    var events: [Write.Change] = []
    for user in 0..<40 {
      for _ in 0..<10 {
        events.append(.seen(user: "u\(user)", item: "i\(dice.below(min(itemCount, 600)))"))
      }
    }
    let through = try await insert(events, into: database)
    let write = Write(through: through, changes: events)
    records.writes.withLock { $0.append(write) }
    let engine = try await database.createEngine(parsing: yaml)
    while !engine.status.state.isTerminal { await Task.yield() }
    #expect(engine.status.state == .active)
    return engine
  }

  /// One random commit.
  private static func write(
    _ dice: inout SplitMix, _ writer: Int, _ database: RiffleDatabase, _ itemCount: Int
  ) async throws -> Write {
    // A writer changes rows of its own alone, so that the order within its rows is known.
    func item() -> String { "i\(dice.below(itemCount / 3) * 3 + writer)" }
    let count = dice.below(4) + 1
    let kind = dice.below(5)
    var changes: [String: Write.Change] = [:]
    for _ in 0..<count {
      let (item, user) = (item(), "u\(dice.below(8))")
      switch kind {
      case 0: changes[item] = .item(item, Item(draw: dice.below(100_000)))
      case 1: changes[item] = .item(item, Item(draw: dice.below(100_000), isGone: true))
      case 2: changes["\(user) \(item)"] = .seen(user: user, item: item)
      case 3: changes["\(user) \(item)"] = .blocked(user: user, item: item, dice.below(3) > 0)
      default: changes[item] = .banned(item: item, dice.below(2) > 0)
      }
    }
    let all = Array(changes.values)
    return Write(through: try await insert(all, into: database), changes: all)
  }

  private static func insert(
    _ changes: [Write.Change], into database: RiffleDatabase
  ) async throws -> LogPosition {
    var table = ""
    let rows: [JSON] = changes.map { change in
      switch change {
      case .item(let id, let item):
        table = "items"
        return [
          "item_id": .string(id), "draw": .int(Int64(item.draw)), "gone": .bool(item.isGone),
        ]
      case .seen(let user, let item):
        table = "events"
        return [
          "user_id": .string(user), "item_id": .string(item), "created_at": 1_700_000_000_000,
        ]
      case .blocked(let user, let item, let isActive):
        table = "blocked"
        return ["user_id": .string(user), "item_id": .string(item), "active": .bool(isActive)]
      case .banned(let item, let isActive):
        table = "banned"
        return ["item_id": .string(item), "active": .bool(isActive)]
      }
    }
    return try await database.insert(["data": .array(rows)], into: table).through
  }

  private static func check(_ answers: [Answer], against writes: [Write], _ seed: UInt64) {
    let writes = writes.sorted { $0.through < $1.through }
    var tables = Tables()
    var applied = 0
    #expect(answers.count > 50, "seed \(seed): only \(answers.count) answers")
    for answer in answers.sorted(by: { $0.asOf < $1.asOf }) {
      while applied < writes.count, writes[applied].through <= answer.asOf {
        tables.apply(writes[applied])
        applied += 1
      }
      let comment = Comment(
        rawValue: "seed \(seed), draw < \(answer.most), k \(answer.k), \(answer.form) at "
          + "\(answer.asOf.rawValue)")
      #expect(answer.asOf >= answer.acknowledged, comment)
      let allowed = tables.items.keys.reduce(into: 0) { sum, id in
        if tables.allows(id, answer) { sum += 1 }
      }
      #expect(answer.ids.count == min(answer.k, allowed), comment)
      #expect(Set(answer.ids).count == answer.ids.count, comment)
      #expect(answer.ids.allSatisfy { tables.allows($0, answer) }, comment)
    }
  }
}

/// SplitMix64.
private struct SplitMix {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func below(_ bound: Int) -> Int {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return Int((z ^ (z >> 31)) % UInt64(bound))
  }
  mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }
}
