extension JSON {
  /// Parses a JSON text (RFC 8259).
  ///
  /// - Parameter maximumDepth: nesting beyond it is refused, so that a hostile body cannot exhaust
  ///   the stack.
  /// - Throws: `Diagnostic` with the line and column of the first fault.
  package init(parsing bytes: some Collection<UInt8>, maximumDepth: Int = 64) throws(Diagnostic) {
    var result: Result<JSON, Diagnostic>?
    let contiguous: Void? = bytes.withContiguousStorageIfAvailable { buffer in
      result = JSON.parse(buffer, maximumDepth)
    }
    if contiguous == nil {
      Array(bytes).withUnsafeBufferPointer { buffer in
        result = JSON.parse(buffer, maximumDepth)
      }
    }
    guard let result else { preconditionFailure("the parser always answers") }
    self = try result.get()
  }

  package init(parsing text: String, maximumDepth: Int = 64) throws(Diagnostic) {
    try self.init(parsing: Array(text.utf8), maximumDepth: maximumDepth)
  }

  private static func parse(
    _ buffer: UnsafeBufferPointer<UInt8>, _ maximumDepth: Int
  ) -> Result<JSON, Diagnostic> {
    var parser = JSONParser(bytes: buffer, maximumDepth: maximumDepth)
    do throws(Diagnostic) {
      let value = try parser.value(depth: 0)
      try parser.expectEnd()
      return .success(value)
    } catch {
      return .failure(error)
    }
  }

  /// The document as compact text. Numbers that JSON cannot hold (infinities, NaN) become null.
  package var text: String { String(decoding: utf8, as: UTF8.self) }

  /// The document as compact UTF-8.
  package var utf8: [UInt8] {
    var out: [UInt8] = []
    write(into: &out)
    return out
  }

  package func write(into out: inout [UInt8]) {
    switch self {
    case .null: out += "null".utf8
    case .bool(let value): out += (value ? "true" : "false").utf8
    case .int(let value): out += String(value).utf8
    case .double(let value): out += (value.isFinite ? value.description : "null").utf8
    case .string(let value): JSON.write(string: value, into: &out)
    case .array(let elements):
      out.append(UInt8(ascii: "["))
      for (i, element) in elements.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        element.write(into: &out)
      }
      out.append(UInt8(ascii: "]"))
    case .object(let members):
      out.append(UInt8(ascii: "{"))
      for (i, member) in members.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        JSON.write(string: member.name, into: &out)
        out.append(UInt8(ascii: ":"))
        member.value.write(into: &out)
      }
      out.append(UInt8(ascii: "}"))
    }
  }

  /// Appends a string in quotes with the escapes that JSON asks for.
  package static func write(string: String, into out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    for byte in string.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        out.append(UInt8(ascii: "\\"))
        out.append(byte)
      case 10: out += "\\n".utf8
      case 13: out += "\\r".utf8
      case 9: out += "\\t".utf8
      case 0..<32:
        let digits = Array("0123456789abcdef".utf8)
        out += "\\u00".utf8
        out.append(digits[Int(byte >> 4)])
        out.append(digits[Int(byte & 15)])
      default: out.append(byte)
      }
    }
    out.append(UInt8(ascii: "\""))
  }

  /// The document with line breaks and two spaces per level, for people.
  package var prettyText: String {
    func render(_ value: JSON, _ indent: String) -> String {
      let inner = indent + "  "
      switch value {
      case .array(let elements) where !elements.isEmpty:
        return "[\n" + elements.map { inner + render($0, inner) }.joined(separator: ",\n")
          + "\n\(indent)]"
      case .object(let members) where !members.isEmpty:
        return "{\n"
          + members.map { "\(inner)\(JSON.string($0.name).text): \(render($0.value, inner))" }
          .joined(separator: ",\n") + "\n\(indent)}"
      default: return value.text
      }
    }
    return render(self, "")
  }
}

private struct JSONParser {
  let bytes: UnsafeBufferPointer<UInt8>
  let maximumDepth: Int
  var at = 0

  init(bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int) {
    self.bytes = bytes
    self.maximumDepth = maximumDepth
  }

  func fault(_ message: String, at offset: Int? = nil) -> Diagnostic {
    let place = min(offset ?? at, bytes.count)
    var line = 1
    var column = 1
    for i in 0..<place {
      if bytes[i] == 10 {
        line += 1
        column = 1
      } else if bytes[i] & 0xC0 != 0x80 {
        column += 1
      }
    }
    return Diagnostic(
      code: "invalid_json", "The text is not valid JSON: \(message).",
      at: "line \(line), column \(column)")
  }

  mutating func skipSpace() {
    while at < bytes.count {
      switch bytes[at] {
      case 32, 9, 10, 13: at += 1
      default: return
      }
    }
  }

  mutating func expectEnd() throws(Diagnostic) {
    skipSpace()
    if at < bytes.count { throw fault("there is something after the end of the value") }
  }

  mutating func value(depth: Int) throws(Diagnostic) -> JSON {
    skipSpace()
    guard at < bytes.count else { throw fault("it ends where a value should stand") }
    switch bytes[at] {
    case UInt8(ascii: "{"):
      guard depth < maximumDepth else {
        throw fault("it is nested more than \(maximumDepth) levels deep")
      }
      return try object(depth: depth)
    case UInt8(ascii: "["):
      guard depth < maximumDepth else {
        throw fault("it is nested more than \(maximumDepth) levels deep")
      }
      return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), 48...57: return try number()
    default: throw fault("a value cannot start with this character")
    }
  }

  mutating func word(_ text: StaticString, _ value: JSON) throws(Diagnostic) -> JSON {
    let count = text.utf8CodeUnitCount
    guard at + count <= bytes.count,
      (0..<count).allSatisfy({ bytes[at + $0] == text.utf8Start[$0] })
    else { throw fault("expected `\(text)`") }
    at += count
    return value
  }

  mutating func array(depth: Int) throws(Diagnostic) -> JSON {
    at += 1
    var elements: [JSON] = []
    skipSpace()
    if at < bytes.count, bytes[at] == UInt8(ascii: "]") {
      at += 1
      return .array([])
    }
    while true {
      elements.append(try value(depth: depth + 1))
      skipSpace()
      guard at < bytes.count else { throw fault("the array is not closed") }
      if bytes[at] == UInt8(ascii: ",") {
        at += 1
      } else if bytes[at] == UInt8(ascii: "]") {
        at += 1
        return .array(elements)
      } else {
        throw fault("expected `,` or `]`")
      }
    }
  }

  mutating func object(depth: Int) throws(Diagnostic) -> JSON {
    at += 1
    var members: [JSON.Member] = []
    var names: Set<String> = []
    skipSpace()
    if at < bytes.count, bytes[at] == UInt8(ascii: "}") {
      at += 1
      return .object([])
    }
    while true {
      skipSpace()
      guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else {
        throw fault("expected the name of a member in double quotes")
      }
      let start = at
      let name = try string()
      if isRepeated(name, in: members, &names) {
        throw fault("`\(name)` stands twice in one object", at: start)
      }
      skipSpace()
      guard at < bytes.count, bytes[at] == UInt8(ascii: ":") else { throw fault("expected `:`") }
      at += 1
      members.append(JSON.Member(name, try value(depth: depth + 1)))
      skipSpace()
      guard at < bytes.count else { throw fault("the object is not closed") }
      if bytes[at] == UInt8(ascii: ",") {
        at += 1
      } else if bytes[at] == UInt8(ascii: "}") {
        at += 1
        return .object(members)
      } else {
        throw fault("expected `,` or `}`")
      }
    }
  }

  /// Whether an object has a member of this name: readers differ in which of two they take, so neither
  /// is. A few names are compared one by one, more are kept in a set.
  private func isRepeated(
    _ name: String, in members: [JSON.Member], _ names: inout Set<String>
  ) -> Bool {
    if members.count < 16 { return members.contains { $0.name == name } }
    if names.isEmpty { names = Set(members.map(\.name)) }
    return !names.insert(name).inserted
  }

  mutating func number() throws(Diagnostic) -> JSON {
    let start = at
    var isWhole = true
    if bytes[at] == UInt8(ascii: "-") { at += 1 }
    let digits = at
    while at < bytes.count, bytes[at] >= 48, bytes[at] <= 57 { at += 1 }
    guard at > digits, bytes[digits] != 48 || at == digits + 1 else {
      throw fault("this is not a number", at: start)
    }
    if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
      isWhole = false
      at += 1
      let fraction = at
      while at < bytes.count, bytes[at] >= 48, bytes[at] <= 57 { at += 1 }
      guard at > fraction else { throw fault("a digit must follow the decimal point") }
    }
    if at < bytes.count, bytes[at] | 32 == UInt8(ascii: "e") {
      isWhole = false
      at += 1
      if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") {
        at += 1
      }
      let exponent = at
      while at < bytes.count, bytes[at] >= 48, bytes[at] <= 57 { at += 1 }
      guard at > exponent else { throw fault("a digit must follow the exponent's sign") }
    }
    let text = String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<at]), as: UTF8.self)
    if isWhole, let value = Int64(text) { return .int(value) }
    guard let value = Double(text), value.isFinite else {
      throw fault("the number `\(text)` is out of range", at: start)
    }
    return .double(value)
  }

  mutating func string() throws(Diagnostic) -> String {
    let start = at + 1
    var end = start
    // The common case holds no escape: one pass, one copy, and nothing to validate where all is ASCII.
    var all: UInt8 = 0
    while end < bytes.count {
      let byte = bytes[end]
      if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte < 32 { break }
      all |= byte
      end += 1
    }
    if end < bytes.count, bytes[end] == UInt8(ascii: "\"") {
      at = end + 1
      let text = UnsafeBufferPointer(rebasing: bytes[start..<end])
      return all < 0x80 ? String(decoding: text, as: UTF8.self) : try decoded(text, from: start)
    }
    var out = Array(bytes[start..<end])
    at = end
    while true {
      guard at < bytes.count else { throw fault("the string is not closed", at: start - 1) }
      let byte = bytes[at]
      switch byte {
      case UInt8(ascii: "\""):
        at += 1
        return try out.withUnsafeBufferPointer { buffer throws(Diagnostic) in
          try decoded(buffer, from: start)
        }
      case UInt8(ascii: "\\"):
        try escape(into: &out)
      case 0..<32: throw fault("a control character in a string must be escaped")
      default:
        out.append(byte)
        at += 1
      }
    }
  }

  private func decoded(
    _ buffer: UnsafeBufferPointer<UInt8>, from start: Int
  ) throws(Diagnostic) -> String {
    guard let text = String(validating: buffer, as: UTF8.self) else {
      throw fault("the string is not valid UTF-8", at: start)
    }
    return text
  }

  private mutating func escape(into out: inout [UInt8]) throws(Diagnostic) {
    guard at + 1 < bytes.count else { throw fault("the string is not closed") }
    at += 2
    switch bytes[at - 1] {
    case UInt8(ascii: "\""): out.append(UInt8(ascii: "\""))
    case UInt8(ascii: "\\"): out.append(UInt8(ascii: "\\"))
    case UInt8(ascii: "/"): out.append(UInt8(ascii: "/"))
    case UInt8(ascii: "b"): out.append(8)
    case UInt8(ascii: "f"): out.append(12)
    case UInt8(ascii: "n"): out.append(10)
    case UInt8(ascii: "r"): out.append(13)
    case UInt8(ascii: "t"): out.append(9)
    case UInt8(ascii: "u"):
      var unit = try hexadecimal()
      if (0xD800..<0xDC00).contains(unit) {
        guard at + 1 < bytes.count, bytes[at] == UInt8(ascii: "\\"),
          bytes[at + 1] == UInt8(ascii: "u")
        else { throw fault("a high surrogate stands without its low one") }
        at += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else {
          throw fault("a high surrogate stands without its low one")
        }
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(unit) else {
        throw fault("a low surrogate stands without its high one")
      }
      out += Character(scalar).utf8
    default: throw fault("`\\` cannot stand before this character", at: at - 1)
    }
  }

  private mutating func hexadecimal() throws(Diagnostic) -> UInt32 {
    var value: UInt32 = 0
    for place in at..<at + 4 {
      guard place < bytes.count, let digit = Character(Unicode.Scalar(bytes[place])).hexDigitValue
      else { throw fault("four hexadecimal digits must follow `\\u`") }
      value = value << 4 | UInt32(digit)
    }
    at += 4
    return value
  }
}
