package import Domain

/// Watches the shape of one source's records for one table and tells when it changes.
///
/// It learns from what came before: which kinds of values each column brings, how often it is
/// empty, how its few values are mixed, where its numbers lie. The traffic of now is gathered in a
/// window of some seconds and compared when the window closes. A value type without a clock: the
/// caller says what time it is.
///
/// The bars are wide on purpose: an alert that comes for nothing is an alert that nobody reads.
/// Shares are compared by the two-proportion z-test and by their difference, mixes by their total
/// variation distance beyond what chance gives.
package struct DriftMonitor: Sendable {
  /// When a window closes and how far the new must lie from the old.
  package struct Settings: Sendable {
    package var windowSeconds = 10.0
    /// A window closes early once it holds this many records.
    package var windowRecords = 20_000
    /// Fewer records say nothing; the window stays open for more.
    package var leastRecords = 50
    /// What must have come before anything is compared with it.
    package var leastBaseline = 200
    /// What came before weighs at most as much as this many records, so that it can change.
    package var mostBaseline = 100_000.0
    package var nullShareJump = 0.1
    package var mixDistance = 0.2
    package var deadShare = 0.05
    package init() {}
  }

  /// Counts of the baseline or of the window; scaled down in the baseline, so not whole.
  struct Counts: Sendable {
    var records = 0.0
    var misfits = 0.0
    var kinds: [Double]
    /// Values of the columns that have few.
    var mixes: [[String: Double]]
    var minimum: [Double]
    var maximum: [Double]
    var unknown: [String: Double] = [:]

    init(_ columnCount: Int) {
      kinds = Array(repeating: 0, count: columnCount * RecordTally.kindCount)
      mixes = Array(repeating: [:], count: columnCount)
      minimum = Array(repeating: .infinity, count: columnCount)
      maximum = Array(repeating: -.infinity, count: columnCount)
    }

    func given(_ column: Int) -> Double {
      let start = column * RecordTally.kindCount
      return kinds[(start + 1)..<(start + RecordTally.kindCount)].reduce(0, +)
    }
  }

  package let table: String
  package let source: String
  let settings: Settings
  private(set) var columns: [ColumnDefinition]
  var baseline: Counts
  private var window: Counts
  private var windowStart: Timestamp?
  /// Columns with more values than a mix may have.
  var hasManyValues: [Bool]
  /// Unknown members that were told of already.
  var toldMembers: Set<String> = []

  static let mostMixedValues = 64

  package init(_ schema: TableSchema, source: String, settings: Settings = Settings()) {
    table = schema.name
    self.source = source
    self.settings = settings
    columns = schema.columns
    baseline = Counts(schema.columns.count)
    window = Counts(schema.columns.count)
    hasManyValues = Array(repeating: false, count: schema.columns.count)
  }

  /// Takes in what one batch looked like.
  ///
  /// - Returns: the alerts that this batch completes; most batches complete none.
  package mutating func observe(
    _ tally: RecordTally, rows: [[Value]], at time: Timestamp
  ) -> [SchemaAlert] {
    guard tally.kinds.count == window.kinds.count else { return [] }
    var alerts: [SchemaAlert] = []
    window.records += Double(tally.recordCount)
    window.misfits += Double(tally.misfitCount)
    for i in tally.kinds.indices { window.kinds[i] += Double(tally.kinds[i]) }
    for (name, count) in tally.unknownMembers {
      window.unknown[name, default: 0] += Double(count)
      if toldMembers.count < 256, toldMembers.insert(name).inserted {
        alerts.append(newColumn(name, count, at: time))
      }
    }
    for column in columns.indices { gather(rows, column) }
    let start = windowStart ?? time
    windowStart = start
    let age = time.secondsSinceEpoch - start.secondsSinceEpoch
    if window.records >= Double(settings.leastRecords),
      age >= settings.windowSeconds || window.records >= Double(settings.windowRecords)
    {
      alerts += closeWindow(at: time)
    }
    return alerts
  }

  /// Follows a change of the table. Columns that stay keep what was learned of them.
  package mutating func adopt(_ schema: TableSchema) {
    if columns == schema.columns { return }
    func moved(_ old: Counts) -> Counts {
      var new = Counts(schema.columns.count)
      new.records = old.records
      new.misfits = old.misfits
      for (place, column) in schema.columns.enumerated() {
        guard let before = columns.firstIndex(where: { $0.name == column.name }) else { continue }
        let count = RecordTally.kindCount
        for kind in 0..<count {
          new.kinds[place * count + kind] = old.kinds[before * count + kind]
        }
        new.mixes[place] = old.mixes[before]
        new.minimum[place] = old.minimum[before]
        new.maximum[place] = old.maximum[before]
      }
      return new
    }
    baseline = moved(baseline)
    window = moved(window)
    hasManyValues = schema.columns.map { column in
      columns.firstIndex { $0.name == column.name }.map { hasManyValues[$0] } ?? false
    }
    columns = schema.columns
    toldMembers.subtract(columns.map(\.name))
  }

  // MARK: Gathering

  private mutating func gather(_ rows: [[Value]], _ column: Int) {
    switch columns[column].type {
    case .int32, .int64, .float, .double:
      var low = window.minimum[column]
      var high = window.maximum[column]
      for row in rows {
        let number: Double
        switch row[column] {
        case .int(let whole): number = Double(whole)
        case .double(let value): number = value
        default: continue
        }
        if number < low { low = number }
        if number > high { high = number }
      }
      window.minimum[column] = low
      window.maximum[column] = high
    case .string, .lowCardinalityString, .bool:
      if hasManyValues[column] { return }
      for row in rows {
        let text: String
        switch row[column] {
        case .string(let value): text = value
        case .bool(let flag): text = flag ? "true" : "false"
        default: continue
        }
        window.mixes[column][text, default: 0] += 1
        if window.mixes[column].count > DriftMonitor.mostMixedValues {
          hasManyValues[column] = true
          window.mixes[column] = [:]
          baseline.mixes[column] = [:]
          return
        }
      }
    default: return
    }
  }

  // MARK: Comparing

  private mutating func closeWindow(at time: Timestamp) -> [SchemaAlert] {
    var alerts: [SchemaAlert] = []
    func tell(_ kind: SchemaAlert.Kind, _ column: String?, _ message: String) {
      alerts.append(
        SchemaAlert(
          table: table, source: source, kind: kind, column: column, message: message, at: time))
    }
    for (name, count) in window.unknown.sorted(by: { $0.key < $1.key }) {
      alerts.append(newColumn(name, Int(count), at: time))
    }
    let deadShare = window.misfits / window.records
    if deadShare >= settings.deadShare, window.misfits >= 3 {
      tell(
        .deadLetters, nil,
        "\(percent(deadShare)) of the records for `\(table)` from \(source) do not fit: "
          + "\(Int(window.misfits)) of \(Int(window.records)).")
    }
    if baseline.records >= Double(settings.leastBaseline) {
      for column in columns.indices { compare(column, tell) }
    }
    merge()
    windowStart = nil
    return alerts
  }

  private func compare(
    _ column: Int, _ tell: (SchemaAlert.Kind, String?, String) -> Void
  ) {
    let name = columns[column].name
    let before = baseline.given(column) / baseline.records
    let now = window.given(column) / window.records
    if before >= 0.5, now == 0 {
      tell(
        .vanishedColumn, name,
        "The column `\(name)` of `\(table)` comes no more from \(source): "
          + "\(percent(before)) of the records had it, of the last \(Int(window.records)) none has."
      )
    } else if abs(now - before) >= settings.nullShareJump {
      let pooled =
        (baseline.given(column) + window.given(column)) / (baseline.records + window.records)
      let error = (pooled * (1 - pooled) * (1 / baseline.records + 1 / window.records))
        .squareRoot()
      if error > 0, abs(now - before) / error >= 4 {
        tell(
          .nullShare, name,
          "The column `\(name)` of `\(table)` from \(source) is empty in \(percent(1 - now)) of the "
            + "records; it was in \(percent(1 - before)).")
      }
    }
    compareKinds(column, name, tell)
    compareMix(column, name, tell)
    compareRange(column, name, tell)
  }

  private func compareKinds(
    _ column: Int, _ name: String, _ tell: (SchemaAlert.Kind, String?, String) -> Void
  ) {
    let start = column * RecordTally.kindCount
    let before = baseline.given(column)
    guard before >= Double(settings.leastRecords),
      let usual = ValueKind.allCases.dropFirst().max(by: {
        baseline.kinds[start + $0.rawValue] < baseline.kinds[start + $1.rawValue]
      })
    else { return }
    for kind in ValueKind.allCases.dropFirst() where kind != usual {
      let was = baseline.kinds[start + kind.rawValue] / before
      let count = window.kinds[start + kind.rawValue]
      let share = count / max(1, window.given(column))
      if was < 0.01, count >= 3, share >= 0.05 {
        tell(
          .changedType, name,
          "The column `\(name)` of `\(table)` from \(source) comes as \(kind.words) in "
            + "\(percent(share)) of the records; it came as \(usual.words).")
      }
    }
  }

  private func compareMix(
    _ column: Int, _ name: String, _ tell: (SchemaAlert.Kind, String?, String) -> Void
  ) {
    let old = baseline.mixes[column]
    let new = window.mixes[column]
    let oldTotal = old.values.reduce(0, +)
    let newTotal = new.values.reduce(0, +)
    guard !hasManyValues[column], oldTotal >= Double(settings.leastBaseline),
      newTotal >= Double(settings.leastRecords)
    else { return }
    let values = Set(old.keys).union(new.keys)
    var distance = 0.0
    var most: (value: String, was: Double, share: Double)?
    for value in values.sorted() {
      let was = old[value, default: 0] / oldTotal
      let share = new[value, default: 0] / newTotal
      distance += abs(share - was) / 2
      if abs(share - was) > most.map({ abs($0.share - $0.was) }) ?? 0 {
        most = (value, was, share)
      }
    }
    // What two samples of one mix differ by: about the root of values over records.
    let chance = (Double(values.count) / newTotal).squareRoot()
    guard distance >= settings.mixDistance + chance, let most else { return }
    tell(
      .eventMix, name,
      "The values of `\(name)` of `\(table)` from \(source) are mixed otherwise than before: "
        + "`\(most.value.prefix(40))` is \(percent(most.share)) of the records and was "
        + "\(percent(most.was)).")
  }

  private func compareRange(
    _ column: Int, _ name: String, _ tell: (SchemaAlert.Kind, String?, String) -> Void
  ) {
    let low = baseline.minimum[column]
    let high = baseline.maximum[column]
    guard low <= high, window.minimum[column] <= window.maximum[column] else { return }
    // Ten times as far out as all that came before: another unit, not a growing counter.
    let reach = 10 * max(high - low, max(abs(low), abs(high)), 1)
    guard window.minimum[column] < low - reach || window.maximum[column] > high + reach else {
      return
    }
    tell(
      .range, name,
      "The numbers of `\(name)` of `\(table)` from \(source) lie between \(window.minimum[column]) "
        + "and \(window.maximum[column]); they lay between \(low) and \(high).")
  }

  private func newColumn(_ name: String, _ count: Int, at time: Timestamp) -> SchemaAlert {
    SchemaAlert(
      table: table, source: source, kind: .newColumn, column: name,
      message: "Records from \(source) carry `\(name)`, which `\(table)` has no column for.",
      at: time)
  }

  /// What was new is now part of what came before.
  private mutating func merge() {
    baseline.records += window.records
    baseline.misfits += window.misfits
    for i in baseline.kinds.indices { baseline.kinds[i] += window.kinds[i] }
    for column in columns.indices {
      baseline.minimum[column] = min(baseline.minimum[column], window.minimum[column])
      baseline.maximum[column] = max(baseline.maximum[column], window.maximum[column])
      baseline.mixes[column].merge(window.mixes[column], uniquingKeysWith: +)
      if baseline.mixes[column].count > DriftMonitor.mostMixedValues {
        hasManyValues[column] = true
        baseline.mixes[column] = [:]
      }
    }
    if baseline.records > settings.mostBaseline {
      let scale = settings.mostBaseline / baseline.records
      baseline.records *= scale
      baseline.misfits *= scale
      for i in baseline.kinds.indices { baseline.kinds[i] *= scale }
      for column in columns.indices {
        for value in baseline.mixes[column].keys { baseline.mixes[column][value]? *= scale }
      }
    }
    window = Counts(columns.count)
  }

  private func percent(_ share: Double) -> String {
    let tenths = (share * 1000).rounded() / 10
    return tenths == tenths.rounded() ? "\(Int(tenths)) %" : "\(tenths) %"
  }
}

// MARK: What it keeps over a restart

extension DriftMonitor {
  /// What was learned, as a document.
  package var json: JSON {
    let kindCount = RecordTally.kindCount
    return [
      "records": .double(baseline.records), "misfits": .double(baseline.misfits),
      "told": .array(toldMembers.sorted().map { .string($0) }),
      "columns": .object(
        columns.enumerated().map { place, column in
          var members: [JSON.Member] = [
            JSON.Member("type", .string(column.type.rawValue)),
            JSON.Member(
              "kinds",
              .array((0..<kindCount).map { .double(baseline.kinds[place * kindCount + $0]) })),
          ]
          if hasManyValues[place] { members.append(JSON.Member("many", true)) }
          if !baseline.mixes[place].isEmpty {
            members.append(
              JSON.Member(
                "mix",
                .object(
                  baseline.mixes[place].sorted { $0.key < $1.key }.map {
                    JSON.Member($0.key, .double($0.value))
                  })))
          }
          if baseline.minimum[place] <= baseline.maximum[place] {
            members.append(JSON.Member("min", .double(baseline.minimum[place])))
            members.append(JSON.Member("max", .double(baseline.maximum[place])))
          }
          return JSON.Member(column.name, .object(members))
        }),
    ]
  }

  /// Takes up what `json` wrote. Columns that the table has no more are passed over.
  package mutating func restore(_ json: JSON) {
    baseline.records = json["records"]?.number ?? 0
    baseline.misfits = json["misfits"]?.number ?? 0
    toldMembers = Set((json["told"]?.array ?? []).compactMap(\.string))
    for member in json["columns"]?.object ?? [] {
      guard let place = columns.firstIndex(where: { $0.name == member.name }) else { continue }
      let kindCount = RecordTally.kindCount
      for (kind, count) in (member.value["kinds"]?.array ?? []).prefix(kindCount).enumerated() {
        baseline.kinds[place * kindCount + kind] = count.number ?? 0
      }
      hasManyValues[place] = member.value["many"]?.bool ?? false
      for value in member.value["mix"]?.object ?? [] {
        baseline.mixes[place][value.name] = value.value.number ?? 0
      }
      if let low = member.value["min"]?.number, let high = member.value["max"]?.number {
        baseline.minimum[place] = low
        baseline.maximum[place] = high
      }
    }
  }
}

extension DriftMonitor {
  /// Forgets a value of the mixes, for the erasure of a person.
  package mutating func erase(_ text: String) {
    for column in columns.indices {
      baseline.mixes[column][text] = nil
      window.mixes[column][text] = nil
    }
  }
}
