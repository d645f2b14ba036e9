extension Timestamp {
  /// Parses an ISO 8601 / RFC 3339 date or date-time: `2026-01-05`, `2026-01-05T10:00:00Z`,
  /// `2026-01-05 10:00:00.25+02:00`. Without an offset the time is read as UTC.
  ///
  /// - Returns: nil where the text is not of that form or names a day that does not exist.
  package init?(iso8601 text: some StringProtocol) {
    var bytes = Array(text.utf8)[...]
    func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
    func number(_ digits: Int) -> Int? {
      guard bytes.count >= digits, bytes.prefix(digits).allSatisfy(isDigit) else { return nil }
      let value = bytes.prefix(digits).reduce(0) { $0 * 10 + Int($1) - 48 }
      bytes = bytes.dropFirst(digits)
      return value
    }
    func skip(_ character: Character) -> Bool {
      guard bytes.first == character.asciiValue else { return false }
      bytes = bytes.dropFirst()
      return true
    }
    guard let year = number(4), skip("-"), let month = number(2), skip("-"), let day = number(2),
      (1...12).contains(month), day >= 1, day <= Timestamp.days(inMonth: month, year: year)
    else { return nil }
    var microseconds: Int64 = 0
    if !bytes.isEmpty {
      guard skip("T") || skip("t") || skip(" "), let hour = number(2), hour < 24, skip(":"),
        let minute = number(2), minute < 60
      else { return nil }
      var second = 0
      var fraction: Int64 = 0
      if skip(":") {
        guard let value = number(2), value <= 60 else { return nil }
        second = value
        if skip(".") || skip(",") {
          var scale: Int64 = 100_000
          guard let first = bytes.first, isDigit(first) else { return nil }
          while let byte = bytes.first, isDigit(byte) {
            fraction += Int64(byte - 48) * scale
            scale /= 10
            bytes = bytes.dropFirst()
          }
        }
      }
      var offsetMinutes = 0
      if skip("Z") || skip("z") {
      } else if let sign = bytes.first, sign == 43 || sign == 45 {
        bytes = bytes.dropFirst()
        guard let hours = number(2), hours < 24 else { return nil }
        let minutes = skip(":") || !bytes.isEmpty ? number(2) : 0
        guard let minutes, minutes < 60 else { return nil }
        offsetMinutes = (hours * 60 + minutes) * (sign == 45 ? -1 : 1)
      }
      guard bytes.isEmpty else { return nil }
      let seconds = Int64((hour * 60 + minute - offsetMinutes) * 60 + second)
      microseconds = seconds * 1_000_000 + fraction
    }
    let days = Timestamp.daysSinceEpoch(year: year, month: month, day: day)
    self.init(microsecondsSinceEpoch: Int64(days) * 86_400_000_000 + microseconds)
  }

  /// Reads the form that programs write, `2026-01-05T10:00:00Z` with or without a fraction, without
  /// allocating; nil for any other form, which `init(iso8601:)` may still know.
  package init?(fixedForm bytes: UnsafeBufferPointer<UInt8>) {
    guard bytes.count >= 20, bytes.count <= 30, bytes[bytes.count - 1] == UInt8(ascii: "Z"),
      bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
      bytes[10] == UInt8(ascii: "T"), bytes[13] == UInt8(ascii: ":"),
      bytes[16] == UInt8(ascii: ":")
    else { return nil }
    var isNumber = true
    func number(_ start: Int, _ count: Int) -> Int {
      var value = 0
      for place in start..<(start + count) {
        let digit = Int(bytes[place]) - 48
        if digit < 0 || digit > 9 { isNumber = false }
        value = value * 10 + digit
      }
      return value
    }
    let (year, month, day) = (number(0, 4), number(5, 2), number(8, 2))
    let (hour, minute, second) = (number(11, 2), number(14, 2), number(17, 2))
    guard isNumber, (1...12).contains(month), day >= 1,
      day <= Timestamp.days(inMonth: month, year: year), hour < 24, minute < 60, second <= 60
    else { return nil }
    var fraction: Int64 = 0
    if bytes.count > 20 {
      guard bytes[19] == UInt8(ascii: "."), bytes.count > 21 else { return nil }
      var scale: Int64 = 100_000
      for place in 20..<(bytes.count - 1) {
        let digit = Int64(bytes[place]) - 48
        guard digit >= 0, digit <= 9 else { return nil }
        fraction += digit * scale
        scale /= 10
      }
    }
    let days = Timestamp.daysSinceEpoch(year: year, month: month, day: day)
    let seconds = Int64((hour * 60 + minute) * 60 + second)
    self.init(
      microsecondsSinceEpoch: Int64(days) * 86_400_000_000 + seconds * 1_000_000 + fraction)
  }

  /// The time in RFC 3339 with a `Z`, with as many fraction digits as it needs (0, 3 or 6).
  package var iso8601: String {
    let days = microsecondsSinceEpoch.flooredDivision(by: 86_400_000_000)
    let inDay = microsecondsSinceEpoch - days * 86_400_000_000
    let (year, month, day) = Timestamp.date(daysSinceEpoch: Int(days))
    func padded(_ value: Int64, _ width: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, width - text.count)) + text
    }
    let seconds = inDay / 1_000_000
    let micros = inDay % 1_000_000
    var text = "\(padded(Int64(year), 4))-\(padded(Int64(month), 2))-\(padded(Int64(day), 2))T"
    text +=
      "\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))"
    if micros % 1000 != 0 {
      text += "." + padded(micros, 6)
    } else if micros != 0 {
      text += "." + padded(micros / 1000, 3)
    }
    return text + "Z"
  }

  private static func days(inMonth month: Int, year: Int) -> Int {
    switch month {
    case 2: (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Days from 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, *chrono-Compatible
  /// Low-Level Date Algorithms*, `days_from_civil`).
  private static func daysSinceEpoch(year: Int, month: Int, day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }

  /// The inverse of `daysSinceEpoch` (the same source, `civil_from_days`).
  private static func date(daysSinceEpoch days: Int) -> (year: Int, month: Int, day: Int) {
    let z = days + 719_468
    let era = (z >= 0 ? z : z - 146_096) / 146_097
    let dayOfEra = z - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }
}

extension Int64 {
  /// The quotient rounded towards minus infinity.
  fileprivate func flooredDivision(by divisor: Int64) -> Int64 {
    let quotient = self / divisor
    return (self % divisor != 0 && (self < 0) != (divisor < 0)) ? quotient - 1 : quotient
  }
}
