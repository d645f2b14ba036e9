import Domain
import Foundation
import GRDB

/// The functions of the analytical dialect that views in the wild are written in, beside SQLite's
/// own. Times are text (`2024-01-31 09:30:00`, UTC), which SQLite's date functions read too; arrays
/// are JSON text.
///
/// A null argument gives null, unless a function is about nulls. What cannot be computed, such as a
/// number from `'abc'` by `toInt64`, gives null as well.
enum ViewFunctions {
  static func install(on database: Database) {
    for function in scalar + times + arrays { database.add(function: function) }
    for function in aggregates { database.add(function: function) }
  }

  /// Their names, for error messages and the documentation.
  static var names: [String] {
    Set((scalar + times + arrays + aggregates).map(\.name)).subtracting(["riffle_time"])
      .map { $0.replacing("riffle_", with: "") }.sorted()
  }

  // MARK: Choices, numbers, text

  private static let scalar: [DatabaseFunction] = [
    raw("if", 3) { isTrue($0[0]) ? $0[1] : $0[2] },
    raw("multiIf", nil) { values in
      var i = 0
      while i + 1 < values.count {
        if isTrue(values[i]) { return values[i + 1] }
        i += 2
      }
      return i < values.count ? values[i] : .null
    },
    raw("riffle_isNull", 1) { $0[0].isNull ? 1.databaseValue : 0.databaseValue },
    raw("riffle_isNotNull", 1) { $0[0].isNull ? 0.databaseValue : 1.databaseValue },
    raw("assumeNotNull", 1) { $0[0] },
    raw("toNullable", 1) { $0[0] },
    strict("toInt32", 1) { whole($0[0]) },
    strict("toInt64", 1) { whole($0[0]) },
    strict("toInt64OrNull", 1) { whole($0[0]) },
    strict("toInt64OrZero", 1) { whole($0[0]) ?? 0 },
    strict("toUInt8", 1) { whole($0[0]) },
    strict("toFloat32", 1) { number($0[0]) },
    strict("toFloat64", 1) { number($0[0]) },
    strict("toFloat64OrNull", 1) { number($0[0]) },
    strict("toFloat64OrZero", 1) { number($0[0]) ?? 0 },
    strict("toString", 1) { text($0[0]) },
    strict("toBool", 1) { isTrue($0[0]) ? 1 : 0 },
    strict("greatest", nil) { extreme($0, 1) },
    strict("least", nil) { extreme($0, -1) },
    strict("intDiv", 2) { values in
      guard let a = whole(values[0]), let b = whole(values[1]), b != 0 else { return nil }
      return a.dividedReportingOverflow(by: b).partialValue
    },
    strict("modulo", 2) { values in
      guard let a = whole(values[0]), let b = whole(values[1]), b != 0 else { return nil }
      return a.remainderReportingOverflow(dividingBy: b).partialValue
    },
    strict("concat", nil) { $0.map { text($0) ?? "" }.joined() },
    strict("lowerUTF8", 1) { text($0[0])?.lowercased() },
    strict("upperUTF8", 1) { text($0[0])?.uppercased() },
    strict("lengthUTF8", 1) { text($0[0]).map { Int64($0.unicodeScalars.count) } },
    strict("empty", 1) { ["", "[]"].contains(text($0[0])) ? 1 : 0 },
    strict("notEmpty", 1) { ["", "[]"].contains(text($0[0])) ? 0 : 1 },
    strict("startsWith", 2) { both($0) { $0.hasPrefix($1) ? 1 : 0 } },
    strict("endsWith", 2) { both($0) { $0.hasSuffix($1) ? 1 : 0 } },
    strict("position", 2) { both($0) { place(of: $1, in: $0) } },
    strict("replaceAll", 3) { values in
      guard let a = text(values[0]), let b = text(values[1]), let c = text(values[2]) else {
        return nil
      }
      return b.isEmpty ? a : a.replacing(b, with: c)
    },
    strict("JSONExtractString", 2) { member($0)?.string },
    strict("JSONExtractInt", 2) {
      member($0)?.number.flatMap { Int64(exactly: $0.rounded(.towardZero)) }
    },
    strict("JSONExtractFloat", 2) { member($0)?.number },
    strict("JSONExtractBool", 2) { member($0)?.bool.map { $0 ? 1 : 0 } },
    strict("JSONHas", 2) { member($0) == nil ? 0 : 1 },
  ]

  // MARK: Times

  private static let times: [DatabaseFunction] = [
    strict("riffle_time", 1) { values in
      Int64.fromDatabaseValue(values[0]).map { sqlText(Timestamp(microsecondsSinceEpoch: $0)) }
    },
    DatabaseFunction("now", argumentCount: 0, pure: false) { _ in sqlText(moment()) },
    DatabaseFunction("today", argumentCount: 0, pure: false) { _ in
      String(sqlText(moment()).prefix(10))
    },
    strict("toUnixTimestamp", 1) {
      time($0[0]).map { floored($0.microsecondsSinceEpoch, 1_000_000) }
    },
    strict("toUnixTimestamp64Milli", 1) {
      time($0[0]).map { floored($0.microsecondsSinceEpoch, 1000) }
    },
    strict("toDateTime", 1) { time($0[0]).map(sqlText) },
    strict("fromUnixTimestamp", 1) { time($0[0]).map(sqlText) },
    strict("parseDateTimeBestEffort", 1) { time($0[0]).map(sqlText) },
    strict("parseDateTimeBestEffortOrNull", 1) { time($0[0]).map(sqlText) },
    strict("toDate", 1) { time($0[0]).map { String(sqlText($0).prefix(10)) } },
    strict("toStartOfMinute", 1) { start($0[0], seconds: 60) },
    strict("toStartOfHour", 1) { start($0[0], seconds: 3600) },
    strict("toStartOfDay", 1) { start($0[0], seconds: 86_400) },
    // Weeks begin on Mondays; 1970-01-01 was a Thursday.
    strict("toMonday", 1) { start($0[0], seconds: 7 * 86_400, offset: 4 * 86_400) },
    strict("toStartOfWeek", 1) { start($0[0], seconds: 7 * 86_400, offset: 3 * 86_400) },
    strict("toStartOfMonth", 1) { time($0[0]).map { sqlText($0).prefix(8) + "01 00:00:00" } },
    strict("toYear", 1) { part($0[0], 0..<4) },
    strict("toMonth", 1) { part($0[0], 5..<7) },
    strict("toDayOfMonth", 1) { part($0[0], 8..<10) },
    strict("toHour", 1) { part($0[0], 11..<13) },
    strict("toMinute", 1) { part($0[0], 14..<16) },
    strict("toDayOfWeek", 1) { values in
      time(values[0]).map { time in
        let days = floored(time.microsecondsSinceEpoch, 86_400_000_000)
        return ((days + 3) % 7 + 7) % 7 + 1
      }
    },
    shift("addSeconds", 1), shift("addMinutes", 60), shift("addHours", 3600),
    shift("addDays", 86_400), shift("addWeeks", 7 * 86_400), shift("subtractSeconds", -1),
    shift("subtractMinutes", -60), shift("subtractHours", -3600), shift("subtractDays", -86_400),
    shift("subtractWeeks", -7 * 86_400),
    strict("dateDiff", 3) { values in
      let seconds: [String: Int64] = [
        "second": 1, "minute": 60, "hour": 3600, "day": 86_400,
      ]
      guard let unit = text(values[0])?.lowercased(), let length = seconds[unit],
        let a = time(values[1]), let b = time(values[2])
      else { return nil }
      let micro = length * 1_000_000
      return floored(b.microsecondsSinceEpoch, micro) - floored(a.microsecondsSinceEpoch, micro)
    },
  ]

  private static func shift(_ name: String, _ seconds: Int64) -> DatabaseFunction {
    strict(name, 2) { values in
      guard let time = time(values[0]), let count = whole(values[1]) else { return nil }
      let (product, overflow) = count.multipliedReportingOverflow(by: seconds * 1_000_000)
      let (sum, other) = time.microsecondsSinceEpoch.addingReportingOverflow(product)
      return overflow || other ? nil : sqlText(Timestamp(microsecondsSinceEpoch: sum))
    }
  }

  // MARK: Arrays

  private static let arrays: [DatabaseFunction] = [
    raw("array", nil) { JSON.array($0.map(json)).text.databaseValue },
    strict("has", 2) { values in
      let wanted = json(values[1])
      return array(values[0]).map { $0.contains(wanted) ? 1 : 0 }
    },
    strict("hasAny", 2) { values in
      guard let a = array(values[0]), let b = array(values[1]) else { return nil }
      return b.contains(where: Set(a).contains) ? 1 : 0
    },
    strict("hasAll", 2) { values in
      guard let a = array(values[0]), let b = array(values[1]) else { return nil }
      return b.allSatisfy(Set(a).contains) ? 1 : 0
    },
    strict("arrayLength", 1) { array($0[0]).map { Int64($0.count) } },
    raw("arrayElement", 2) { values in
      guard let elements = array(values[0]), let place = whole(values[1]) else { return .null }
      let index = place > 0 ? Int(place) - 1 : elements.count + Int(place)
      return elements.indices.contains(index) && place != 0 ? value(elements[index]) : .null
    },
    strict("arrayConcat", nil) { values in
      let parts = values.map(array)
      return parts.contains { $0 == nil }
        ? nil : JSON.array(parts.flatMap { $0 ?? [] }).text
    },
    strict("arrayDistinct", 1) { values in
      var seen: Set<JSON> = []
      return array(values[0]).map { JSON.array($0.filter { seen.insert($0).inserted }).text }
    },
    strict("arraySlice", 3) { values in
      guard let elements = array(values[0]), let from = whole(values[1]), from > 0,
        let count = whole(values[2]), count >= 0
      else { return nil }
      return JSON.array(
        Array(elements.dropFirst(Int(clamping: from - 1)).prefix(Int(clamping: count)))
      ).text
    },
    strict("arrayStringConcat", nil) { values in
      guard (1...2).contains(values.count), let elements = array(values[0]) else { return nil }
      let separator = values.count == 2 ? text(values[1]) ?? "" : ""
      return elements.map { $0.string ?? $0.text }.joined(separator: separator)
    },
    strict("splitByChar", 2) { values in
      guard let separator = text(values[0]), separator.count == 1, let whole = text(values[1])
      else { return nil }
      return JSON.array(whole.components(separatedBy: separator).map { .string($0) }).text
    },
  ]

  // MARK: Aggregates

  private static let aggregates: [DatabaseFunction] = [
    DatabaseFunction("countIf", argumentCount: 1, pure: true, aggregate: CountIf.self),
    DatabaseFunction("sumIf", argumentCount: 2, pure: true, aggregate: SumIf.self),
    DatabaseFunction("avgIf", argumentCount: 2, pure: true, aggregate: AverageIf.self),
    DatabaseFunction("uniq", argumentCount: 1, pure: true, aggregate: Uniques.self),
    DatabaseFunction("uniqExact", argumentCount: 1, pure: true, aggregate: Uniques.self),
    DatabaseFunction("any", argumentCount: 1, pure: true, aggregate: First.self),
    DatabaseFunction("anyLast", argumentCount: 1, pure: true, aggregate: Last.self),
    DatabaseFunction("argMax", argumentCount: 2, pure: true, aggregate: ArgumentOfMost.self),
    DatabaseFunction("argMin", argumentCount: 2, pure: true, aggregate: ArgumentOfLeast.self),
    DatabaseFunction("groupArray", argumentCount: 1, pure: true, aggregate: Collected.self),
    DatabaseFunction("groupUniqArray", argumentCount: 1, pure: true, aggregate: Distinct.self),
  ]

  private struct CountIf: DatabaseAggregate {
    var count: Int64 = 0
    mutating func step(_ values: [DatabaseValue]) { if isTrue(values[0]) { count += 1 } }
    func finalize() -> (any DatabaseValueConvertible)? { count }
  }

  private struct SumIf: DatabaseAggregate {
    var sum = 0.0
    var isWhole = true
    mutating func step(_ values: [DatabaseValue]) {
      guard isTrue(values[1]), let value = number(values[0]) else { return }
      if case .double = values[0].storage { isWhole = false }
      sum += value
    }
    func finalize() -> (any DatabaseValueConvertible)? {
      if isWhole, let whole = Int64(exactly: sum) { return whole }
      return sum
    }
  }

  private struct AverageIf: DatabaseAggregate {
    var sum = 0.0
    var count = 0
    mutating func step(_ values: [DatabaseValue]) {
      guard isTrue(values[1]), let value = number(values[0]) else { return }
      sum += value
      count += 1
    }
    func finalize() -> (any DatabaseValueConvertible)? { count == 0 ? nil : sum / Double(count) }
  }

  private struct Uniques: DatabaseAggregate {
    var seen: Set<DatabaseValue> = []
    mutating func step(_ values: [DatabaseValue]) {
      if !values[0].isNull { seen.insert(values[0]) }
    }
    func finalize() -> (any DatabaseValueConvertible)? { Int64(seen.count) }
  }

  private struct First: DatabaseAggregate {
    var value: DatabaseValue?
    mutating func step(_ values: [DatabaseValue]) {
      if value == nil, !values[0].isNull { value = values[0] }
    }
    func finalize() -> (any DatabaseValueConvertible)? { value }
  }

  private struct Last: DatabaseAggregate {
    var value: DatabaseValue?
    mutating func step(_ values: [DatabaseValue]) { if !values[0].isNull { value = values[0] } }
    func finalize() -> (any DatabaseValueConvertible)? { value }
  }

  private struct ArgumentOfMost: DatabaseAggregate {
    var best: (argument: DatabaseValue, value: DatabaseValue)?
    mutating func step(_ values: [DatabaseValue]) {
      if values[1].isNull { return }
      if let best, compare(values[1], best.value) <= 0 { return }
      best = (values[0], values[1])
    }
    func finalize() -> (any DatabaseValueConvertible)? { best?.argument }
  }

  private struct ArgumentOfLeast: DatabaseAggregate {
    var best: (argument: DatabaseValue, value: DatabaseValue)?
    mutating func step(_ values: [DatabaseValue]) {
      if values[1].isNull { return }
      if let best, compare(values[1], best.value) >= 0 { return }
      best = (values[0], values[1])
    }
    func finalize() -> (any DatabaseValueConvertible)? { best?.argument }
  }

  private struct Collected: DatabaseAggregate {
    var elements: [JSON] = []
    mutating func step(_ values: [DatabaseValue]) {
      if !values[0].isNull { elements.append(json(values[0])) }
    }
    func finalize() -> (any DatabaseValueConvertible)? { JSON.array(elements).text }
  }

  private struct Distinct: DatabaseAggregate {
    var elements: [JSON] = []
    var seen: Set<JSON> = []
    mutating func step(_ values: [DatabaseValue]) {
      if values[0].isNull { return }
      let value = json(values[0])
      if seen.insert(value).inserted { elements.append(value) }
    }
    func finalize() -> (any DatabaseValueConvertible)? { JSON.array(elements).text }
  }

  // MARK: Below

  private static func raw(
    _ name: String, _ count: Int?, _ body: @escaping @Sendable ([DatabaseValue]) -> DatabaseValue
  ) -> DatabaseFunction {
    DatabaseFunction(name, argumentCount: count, pure: true) { body($0) }
  }

  /// A function that is null where any argument is.
  private static func strict(
    _ name: String, _ count: Int?,
    _ body: @escaping @Sendable ([DatabaseValue]) -> (any DatabaseValueConvertible)?
  ) -> DatabaseFunction {
    DatabaseFunction(name, argumentCount: count, pure: true) { values in
      values.contains(where: \.isNull) ? nil : body(values)
    }
  }

  private static func moment() -> Timestamp {
    Timestamp(secondsSinceEpoch: Date().timeIntervalSince1970)
  }
}

/// `2024-01-31 09:30:00`, with microseconds where there are some: text in the order of time.
func sqlText(_ time: Timestamp) -> String {
  var text = time.iso8601.replacing("T", with: " ")
  if text.hasSuffix("Z") { text.removeLast() }
  guard let point = text.firstIndex(of: ".") else { return text }
  let fraction = text[text.index(after: point)...]
  return fraction.allSatisfy { $0 == "0" } ? String(text[..<point]) : text
}

private func isTrue(_ value: DatabaseValue) -> Bool { (number(value) ?? 0) != 0 }

private func number(_ value: DatabaseValue) -> Double? {
  switch value.storage {
  case .int64(let number): Double(number)
  case .double(let number): number
  case .string(let text): Double(text.trimmingCharacters(in: .whitespaces))
  default: nil
  }
}

private func whole(_ value: DatabaseValue) -> Int64? {
  switch value.storage {
  case .int64(let number): number
  case .string(let text):
    Int64(text.trimmingCharacters(in: .whitespaces))
      ?? number(value).flatMap { Int64(exactly: $0.rounded(.towardZero)) }
  default: number(value).flatMap { Int64(exactly: $0.rounded(.towardZero)) }
  }
}

private func text(_ value: DatabaseValue) -> String? {
  switch value.storage {
  case .string(let text): text
  case .int64(let number): String(number)
  case .double(let number):
    number == number.rounded() && abs(number) < 1e15
      ? String(Int64(number)) : String(number)
  default: nil
  }
}

private func both(
  _ values: [DatabaseValue], _ body: (String, String) -> (any DatabaseValueConvertible)?
) -> (any DatabaseValueConvertible)? {
  guard let a = text(values[0]), let b = text(values[1]) else { return nil }
  return body(a, b)
}

/// From 1; 0 where it is not there.
private func place(of part: String, in text: String) -> Int64 {
  guard let found = text.firstRange(of: part) else { return 0 }
  return Int64(text[..<found.lowerBound].utf8.count) + 1
}

private func extreme(
  _ values: [DatabaseValue], _ sign: Int
) -> (any DatabaseValueConvertible)? {
  values.dropFirst().reduce(values.first) { best, value in
    best.map { compare(value, $0) * sign > 0 ? value : $0 }
  }
}

/// SQLite's order: numbers before text.
private func compare(_ a: DatabaseValue, _ b: DatabaseValue) -> Int {
  switch (a.storage, b.storage) {
  case (.int64(let x), .int64(let y)): x < y ? -1 : x > y ? 1 : 0
  case (.string(let x), .string(let y)): x < y ? -1 : x > y ? 1 : 0
  case (.string, _): 1
  case (_, .string): -1
  default:
    (number(a) ?? 0) < (number(b) ?? 0) ? -1 : (number(a) ?? 0) > (number(b) ?? 0) ? 1 : 0
  }
}

/// Text as a time, or a number as seconds since the epoch.
private func time(_ value: DatabaseValue) -> Timestamp? {
  switch value.storage {
  case .string(let text): Timestamp(iso8601: text.trimmingCharacters(in: .whitespaces))
  case .int64(let seconds):
    abs(seconds) < 1 << 43 ? Timestamp(microsecondsSinceEpoch: seconds * 1_000_000) : nil
  case .double(let seconds):
    abs(seconds) < 8e12 ? Timestamp(secondsSinceEpoch: seconds) : nil
  default: nil
  }
}

private func start(_ value: DatabaseValue, seconds: Int64, offset: Int64 = 0) -> String? {
  time(value).map { time in
    let length = seconds * 1_000_000
    let moved = time.microsecondsSinceEpoch - offset * 1_000_000
    let start = floored(moved, length) * length + offset * 1_000_000
    return sqlText(Timestamp(microsecondsSinceEpoch: start))
  }
}

private func part(_ value: DatabaseValue, _ range: Range<Int>) -> Int64? {
  time(value).flatMap { time in
    let text = Array(sqlText(time).utf8)
    return Int64(String(decoding: text[range], as: UTF8.self))
  }
}

private func floored(_ a: Int64, _ b: Int64) -> Int64 {
  let quotient = a / b
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient
}

private func array(_ value: DatabaseValue) -> [JSON]? {
  guard case .string(let text) = value.storage else { return nil }
  return (try? JSON(parsing: text))?.array
}

private func member(_ values: [DatabaseValue]) -> JSON? {
  guard case .string(let document) = values[0].storage, let name = text(values[1]) else {
    return nil
  }
  return (try? JSON(parsing: document))?[name]
}

private func json(_ value: DatabaseValue) -> JSON {
  switch value.storage {
  case .int64(let number): .int(number)
  case .double(let number): .double(number)
  case .string(let text): .string(text)
  default: .null
  }
}

private func value(_ json: JSON) -> DatabaseValue {
  switch json {
  case .null: .null
  case .bool(let flag): (flag ? 1 : 0).databaseValue
  case .int(let number): number.databaseValue
  case .double(let number): number.databaseValue
  case .string(let text): text.databaseValue
  default: json.text.databaseValue
  }
}
