package import Domain

/// Reads records of separated values (RFC 4180): fields in double quotes may hold the separator,
/// line breaks, and quotes written twice.
package struct SeparatedValues: Sendable {
  let delimiter: UInt8
  private var at: Int
  /// The number of the line that comes next, from 1.
  private(set) var line = 1
  private let origin: String

  package init(delimiter: UInt8, at start: Int, origin: String) {
    self.delimiter = delimiter
    at = start
    self.origin = origin
  }

  /// The fields of the next record that is not an empty line; nil at the end. An empty field
  /// without quotes is nil.
  package mutating func next(_ bytes: [UInt8]) throws(Diagnostic) -> [String?]? {
    while at < bytes.count {
      let start = at
      let fields = try record(bytes)
      let isEmptyLine = fields.count == 1 && fields[0] == nil && at - start <= 2
      if !isEmptyLine { return fields }
    }
    return nil
  }

  private mutating func record(_ bytes: [UInt8]) throws(Diagnostic) -> [String?] {
    var fields: [String?] = []
    while true {
      fields.append(try field(bytes))
      guard at < bytes.count else { return fields }
      if bytes[at] == delimiter {
        at += 1
        continue
      }
      if bytes[at] == 13 { at += 1 }
      if at < bytes.count, bytes[at] == 10 { at += 1 }
      line += 1
      return fields
    }
  }

  /// Reads up to the separator or the end of the line, which stays.
  private mutating func field(_ bytes: [UInt8]) throws(Diagnostic) -> String? {
    let start = at
    guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else {
      while at < bytes.count, bytes[at] != delimiter, bytes[at] != 10,
        !(bytes[at] == 13 && (at + 1 == bytes.count || bytes[at + 1] == 10))
      { at += 1 }
      return at == start ? nil : try text(bytes[start..<at])
    }
    let firstLine = line
    var out: [UInt8] = []
    at += 1
    while at < bytes.count {
      let byte = bytes[at]
      at += 1
      if byte == UInt8(ascii: "\"") {
        if at < bytes.count, bytes[at] == UInt8(ascii: "\"") {
          at += 1
        } else {
          let isEnd =
            at == bytes.count || bytes[at] == delimiter || bytes[at] == 10
            || (bytes[at] == 13 && (at + 1 == bytes.count || bytes[at + 1] == 10))
          guard isEnd else {
            throw Diagnostic(
              code: "invalid_csv", "Something follows the closing quote of a field.",
              at: "\(origin):\(line)", help: "Write a quote inside a quoted field twice.")
          }
          return try text(out[...])
        }
      } else if byte == 10 {
        line += 1
      }
      out.append(byte)
    }
    throw Diagnostic(
      code: "invalid_csv", "A quoted field is not closed.", at: "\(origin):\(firstLine)",
      help: "Close it with a double quote.")
  }

  private func text(_ bytes: ArraySlice<UInt8>) throws(Diagnostic) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Diagnostic(
        code: "invalid_csv", "A field is not valid UTF-8.", at: "\(origin):\(line)",
        help: "Save the file as UTF-8.")
    }
    return text
  }
}
