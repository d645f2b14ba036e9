import Domain
import Ingest
import Storage
import Synchronization

/// What is counted and watched where records come in: contracts, drift, totals. In memory, and from
/// time to time in the registry.
final class IngestDesk: Sendable {
  /// What a table has taken in since the process began.
  struct Totals: Sendable {
    var accepted = 0
    var dead = 0
    var replaced = 0
    var refusedRequests = 0
    var repeatedRequests = 0
    /// Requests refused because too much waited for the disk.
    var overloads = 0
  }

  fileprivate struct Stream: Hashable {
    var table: String
    var source: String
    /// The name under which the registry keeps what was learned.
    var entryName: String { "\(table)\u{1F}\(source)" }
  }

  fileprivate struct Watch {
    var monitor: DriftMonitor
    var savedAt: Timestamp
  }

  fileprivate struct State {
    var decoders: [String: RowDecoder] = [:]
    var watches: [Stream: Watch] = [:]
    /// What was learned before the process began, until its stream shows up.
    var remembered: [String: JSON] = [:]
    var alerts: [SchemaAlert.Identity: SchemaAlert] = [:]
    var alertCounts: [String: [SchemaAlert.Kind: Int]] = [:]
    var totals: [String: Totals] = [:]
  }

  private let state = Mutex(State())
  /// What was learned is stored this often, with the rows of a commit.
  private static let saveSeconds = 60.0
  /// An alert is shown for so long after it was last seen.
  static let alertSeconds = 86_400.0
  /// Sources beyond this share one watch: a client that makes up names must not fill the memory.
  private static let mostWatches = 1024

  static let entryKind = "profile"

  init(_ entries: [RegistryEntry]) {
    state.withLock { state in
      for entry in entries { state.remembered[entry.name] = try? JSON(parsing: entry.json) }
    }
  }

  func decoder(_ schema: TableSchema) -> RowDecoder {
    state.withLock { state in
      if let known = state.decoders[schema.name], known.schema == schema { return known }
      let made = RowDecoder(schema)
      state.decoders[schema.name] = made
      return made
    }
  }

  /// Takes in what the records of one table looked like.
  ///
  /// - Returns: the alerts that were not there before, and what should be stored of the learned.
  func observe(
    _ decoded: DecodedRecords, of schema: TableSchema, source: String, at time: Timestamp
  ) -> (alerts: [SchemaAlert], entry: RegistryEntry?) {
    state.withLock { state in
      var stream = Stream(table: schema.name, source: source)
      if state.watches[stream] == nil, state.watches.count >= Self.mostWatches {
        stream.source = "other"
      }
      var watch =
        state.watches.removeValue(forKey: stream)
        ?? {
          var monitor = DriftMonitor(schema, source: stream.source)
          if let json = state.remembered.removeValue(forKey: stream.entryName) {
            monitor.restore(json)
          }
          return Watch(monitor: monitor, savedAt: time)
        }()
      watch.monitor.adopt(schema)
      let found = watch.monitor.observe(decoded.tally, rows: decoded.rows, at: time)
      var entry: RegistryEntry?
      if time.secondsSinceEpoch - watch.savedAt.secondsSinceEpoch >= Self.saveSeconds {
        watch.savedAt = time
        entry = RegistryEntry(
          kind: Self.entryKind, name: stream.entryName, json: watch.monitor.json.text)
      }
      state.watches[stream] = watch
      return (found.filter { state.note($0) }, entry)
    }
  }

  func count(table: String, _ body: (inout Totals) -> Void) {
    state.withLock { body(&$0.totals[table, default: Totals()]) }
  }

  var totals: [String: Totals] { state.withLock { $0.totals } }

  /// How often each kind of alert was raised, by table.
  var alertCounts: [String: [SchemaAlert.Kind: Int]] { state.withLock { $0.alertCounts } }

  /// The alerts of a table, or of all, that were seen within a day; the newest first.
  func alerts(table: String? = nil, now: Timestamp) -> [SchemaAlert] {
    state.withLock { state in
      state.alerts.values.filter {
        (table == nil || $0.table == table)
          && now.secondsSinceEpoch - $0.lastSeen.secondsSinceEpoch <= Self.alertSeconds
      }.sorted { ($0.lastSeen, $0.message) > ($1.lastSeen, $1.message) }
    }
  }

  /// Takes a table's alerts off the list: somebody has seen them.
  func clearAlerts(table: String) -> Int {
    state.withLock { state in
      let gone = state.alerts.filter { $0.value.table == table }.map(\.key)
      for identity in gone { state.alerts[identity] = nil }
      return gone.count
    }
  }

  /// Everything learned since it was last stored.
  func unsaved() -> [RegistryEntry] {
    state.withLock { state in
      state.watches.map { stream, watch in
        RegistryEntry(
          kind: Self.entryKind, name: stream.entryName, json: watch.monitor.json.text)
      }
    }
  }

  /// Stores what was learned, before the log is closed.
  func save(into log: LogStore) {
    for entry in unsaved() { try? log.setEntryAndWait(entry) }
  }

  /// Forgets a table that is gone.
  ///
  /// - Returns: the names of the documents about it.
  func forget(table: String) -> [String] {
    state.withLock { state in
      let streams = state.watches.keys.filter { $0.table == table }
      for stream in streams { state.watches[stream] = nil }
      let names =
        streams.map(\.entryName)
        + state.remembered.keys.filter { $0.hasPrefix(table + "\u{1F}") }
      for name in names { state.remembered[name] = nil }
      state.alerts = state.alerts.filter { $0.value.table != table }
      state.decoders[table] = nil
      state.totals[table] = nil
      return names
    }
  }

  /// Forgets a text wherever it was learned, for the erasure of a person.
  func erase(_ text: String) {
    state.withLock { state in
      for stream in state.watches.keys { state.watches[stream]?.monitor.erase(text) }
      state.alerts = state.alerts.filter { !$0.value.message.contains(text) }
    }
  }
}

extension IngestDesk.State {
  /// - Returns: whether the alert is new, and not one more look at the same change.
  fileprivate mutating func note(_ alert: SchemaAlert) -> Bool {
    let identity = alert.identity
    alertCounts[alert.table, default: [:]][alert.kind, default: 0] += 1
    if var known = alerts[identity] {
      let isOld = alert.lastSeen.secondsSinceEpoch - known.lastSeen.secondsSinceEpoch > 600
      known.lastSeen = alert.lastSeen
      known.message = alert.message
      known.count += 1
      alerts[identity] = known
      return isOld
    }
    alerts[identity] = alert
    return true
  }
}
