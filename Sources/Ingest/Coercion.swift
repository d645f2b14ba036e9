import Domain

/// What came of one cell.
enum Coerced {
  case value(Value)
  /// What the cell holds instead, and how to mend it.
  case problem(String, help: String?)
}

/// Brings a JSON value into a column's type; the rules stand above `RowDecoder`.
func coerce(_ json: JSON, to type: ColumnType) -> Coerced {
  if json == .null { return .value(.null) }
  switch type {
  case .string, .lowCardinalityString, .imageURL:
    if let text = plainText(json) { return .value(.string(text)) }
    return .problem(json.kindName, help: nil)
  case .unknown:
    return .value(.string(plainText(json) ?? json.text))
  case .int64, .int32:
    return integer(json, type)
  case .double, .float:
    guard let number = number(json) else { return notANumber(json) }
    return .value(.double(number))
  case .bool:
    return boolean(json)
  case .dateTime:
    return time(json)
  case .json:
    // Text from a CSV file, or from a client that encoded the document itself.
    if case .string(let text) = json, let first = text.utf8.first,
      first == UInt8(ascii: "{") || first == UInt8(ascii: "["), let inner = try? JSON(parsing: text)
    {
      return .value(.string(inner.text))
    }
    return .value(.string(json.text))
  case .bytes:
    if case .string(let text) = json, let bytes = Base64.decode(text) {
      return .value(.bytes(bytes))
    }
    return .problem(
      json.string == nil ? json.kindName : "text that is not Base64", help: "Encode it in Base64.")
  case .stringArray: return array(json, of: .string)
  case .int64Array: return array(json, of: .int64)
  case .float64Array: return array(json, of: .double)
  }
}

/// Text, numbers and booleans as text; nil for the rest.
private func plainText(_ json: JSON) -> String? {
  switch json {
  case .string(let text): text
  case .bool, .int, .double: json.text
  default: nil
  }
}

private func integer(_ json: JSON, _ type: ColumnType) -> Coerced {
  let whole: Int64
  switch json {
  case .int(let number): whole = number
  case .bool(let flag): whole = flag ? 1 : 0
  case .double(let number):
    guard let exact = Int64(exactly: number) else {
      return .problem("\(number)", help: "Give a whole number, or make the column a Double.")
    }
    whole = exact
  case .string(let text):
    if let number = Int64(text) {
      whole = number
    } else if let number = number(json), let exact = Int64(exactly: number) {
      whole = exact
    } else {
      return notANumber(json)
    }
  default: return notANumber(json)
  }
  if type == .int32, Int32(exactly: whole) == nil {
    return .problem(
      "\(whole)", help: "An Int32 lies between -2147483648 and 2147483647; Int64 holds more.")
  }
  return .value(.int(whole))
}

/// The number that a value is or spells, finite.
private func number(_ json: JSON) -> Double? {
  switch json {
  case .int(let number): return Double(number)
  case .double(let number): return number
  case .bool(let flag): return flag ? 1 : 0
  case .string(let text):
    // `Double` also reads hexadecimal digits and `nan`, which no client means.
    guard
      text.utf8.allSatisfy({ byte in
        (48...57).contains(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
          || byte == UInt8(ascii: "+") || byte | 32 == UInt8(ascii: "e")
      }), let number = Double(text), number.isFinite
    else { return nil }
    return number
  default: return nil
  }
}

private func notANumber(_ json: JSON) -> Coerced {
  .problem(excerpt(json), help: "Give a number.")
}

/// A short text in quotes, or the kind of the value.
private func excerpt(_ json: JSON) -> String {
  guard case .string(let text) = json else { return json.kindName }
  return text.count <= 40 ? "\"\(text)\"" : "\"\(text.prefix(40))…\""
}

private func boolean(_ json: JSON) -> Coerced {
  switch json {
  case .bool(let flag): return .value(.bool(flag))
  case .int(0), .double(0): return .value(.bool(false))
  case .int(1), .double(1): return .value(.bool(true))
  case .string(let text):
    switch text.lowercased() {
    case "true", "1": return .value(.bool(true))
    case "false", "0": return .value(.bool(false))
    default: break
    }
  default: break
  }
  return .problem(
    json.number == nil ? excerpt(json) : json.text, help: "Give true or false, or 1 or 0.")
}

private func time(_ json: JSON) -> Coerced {
  if case .string(let text) = json, let time = Timestamp(iso8601: text) {
    return .value(.timestamp(time))
  }
  let help = "Give milliseconds since 1970, or ISO 8601 such as 2026-01-05T10:00:00Z."
  if case .bool = json { return .problem(json.kindName, help: help) }
  // As milliseconds these fall between 1970-01-02 and 1973-03-03, as seconds between 1973 and 5138:
  // nobody means the former, and the latter would be stored without a word as the oldest of events.
  if let given = number(json), (1e8..<1e11).contains(given.magnitude) {
    return .problem(
      json.text, help: "This looks like seconds. Give milliseconds since 1970, or ISO 8601.")
  }
  if case .int(let milliseconds) = json {
    let (microseconds, overflow) = milliseconds.multipliedReportingOverflow(by: 1000)
    if overflow { return .problem(json.text, help: help) }
    return .value(.timestamp(Timestamp(microsecondsSinceEpoch: microseconds)))
  }
  guard let milliseconds = number(json),
    let microseconds = Int64(exactly: (milliseconds * 1000).rounded())
  else { return .problem(excerpt(json), help: help) }
  return .value(.timestamp(Timestamp(microsecondsSinceEpoch: microseconds)))
}

private func array(_ json: JSON, of element: ColumnType) -> Coerced {
  var elements = json.array
  if elements == nil, case .string(let text) = json, let inner = try? JSON(parsing: text) {
    elements = inner.array
  }
  guard let elements else {
    return .problem(excerpt(json), help: "Give an array, such as [1, 2].")
  }
  var values: [Value] = []
  values.reserveCapacity(elements.count)
  for (i, json) in elements.enumerated() {
    if json == .null {
      return .problem("null in its element \(i)", help: "Leave the element out.")
    }
    switch coerce(json, to: element) {
    case .value(let value): values.append(value)
    case .problem(let why, let help): return .problem("\(why) in its element \(i)", help: help)
    }
  }
  return .value(.array(values))
}
