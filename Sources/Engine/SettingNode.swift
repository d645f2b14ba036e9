package import Domain
import Yams

/// A settings file as a tree in which each value knows where it stands.
struct SettingNode: Hashable, Sendable {
  enum Content: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case list([SettingNode])
    case map([Entry])
  }

  struct Entry: Hashable, Sendable {
    var key: String
    var keyRange: Range<Int>?
    var value: SettingNode
  }

  var content: Content
  /// UTF-8 offsets in the file; nil where the tree came from JSON.
  var range: Range<Int>?

  subscript(key: String) -> SettingNode? {
    guard case .map(let entries) = content else { return nil }
    return entries.first { $0.key == key }?.value
  }

  /// What kind of thing this is, for error messages.
  var kindName: String {
    switch content {
    case .null: "nothing"
    case .bool(let value): "\(value)"
    case .int(let value): "\(value)"
    case .double(let value): "\(value)"
    case .string(let value): "`\(value)`"
    case .list: "a list"
    case .map: "a map"
    }
  }

  var isNull: Bool { content == .null }

  /// The same tree as JSON.
  var json: JSON {
    switch content {
    case .null: .null
    case .bool(let value): .bool(value)
    case .int(let value): .int(value)
    case .double(let value): .double(value)
    case .string(let value): .string(value)
    case .list(let elements): .array(elements.map(\.json))
    case .map(let entries): .object(entries.map { JSON.Member($0.key, $0.value.json) })
    }
  }

  init(content: Content, range: Range<Int>? = nil) {
    self.content = content
    self.range = range
  }

  init(_ json: JSON) {
    range = nil
    content =
      switch json {
      case .null: .null
      case .bool(let value): .bool(value)
      case .int(let value): .int(value)
      case .double(let value): .double(value)
      case .string(let value): .string(value)
      case .array(let elements): .list(elements.map { SettingNode($0) })
      case .object(let members):
        .map(members.map { Entry(key: $0.name, keyRange: nil, value: SettingNode($0.value)) })
      }
  }

  /// Parses YAML or JSON text.
  ///
  /// - Throws: `Diagnostic` with the place of the first fault of the text's form.
  init(parsing text: String, origin: String) throws(Diagnostic) {
    let firstCharacter = text.first { !$0.isWhitespace }
    if firstCharacter == "{", let json = try? JSON(parsing: text) {
      self.init(json)
      return
    }
    let places = LineIndex(text)
    do {
      guard let node = try compose(yaml: text) else {
        throw Diagnostic(code: "empty_settings", "The file holds nothing.", at: origin)
      }
      var budget = SettingNode.nodesAtMost
      self = try SettingNode(node, places, &budget, origin)
    } catch let error as Diagnostic {
      throw error
    } catch let error as YamlError {
      throw SettingNode.diagnostic(error, text, places, origin)
    } catch {
      throw Diagnostic(
        code: "invalid_yaml", "The text is not valid YAML: \(error).", at: origin)
    }
  }

  /// Nodes of a file with its aliases written out. A few lines of aliases of aliases could name
  /// millions.
  private static let nodesAtMost = 20_000

  private init(
    _ node: Node, _ places: LineIndex, _ budget: inout Int, _ origin: String
  ) throws(Diagnostic) {
    budget -= 1
    guard budget >= 0 else {
      throw Diagnostic(
        code: "settings_too_large",
        "The file has more than \(SettingNode.nodesAtMost) values, its aliases written out.",
        at: origin, help: "Write it without so many aliases.")
    }
    let start = node.mark.flatMap { places.offset(line: $0.line, column: $0.column) }
    switch node {
    case .scalar(let scalar):
      content =
        scalar.style == .plain ? SettingNode.plain(scalar.string) : .string(scalar.string)
      let quotes = scalar.style == .singleQuoted || scalar.style == .doubleQuoted ? 2 : 0
      let length =
        scalar.style == .literal || scalar.style == .folded ? 1 : scalar.string.utf8.count + quotes
      range = start.map { $0..<($0 + max(1, length)) }
    case .sequence(let sequence):
      var elements: [SettingNode] = []
      for element in sequence {
        elements.append(try SettingNode(element, places, &budget, origin))
      }
      content = .list(elements)
      range = start.map { $0..<($0 + 1) }
    case .mapping(let mapping):
      var entries: [Entry] = []
      for (key, value) in mapping {
        let keyNode = try SettingNode(key, places, &budget, origin)
        entries.append(
          Entry(
            key: key.string ?? keyNode.json.text, keyRange: keyNode.range,
            value: try SettingNode(value, places, &budget, origin)))
      }
      content = .map(entries)
      range = start.map { $0..<($0 + 1) }
    case .alias:
      content = .null
      range = nil
    }
  }

  /// The value of an unquoted scalar by YAML 1.2's core schema: `yes`, `no` and `on` are text.
  private static func plain(_ text: String) -> Content {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE": return .bool(true)
    case "false", "False", "FALSE": return .bool(false)
    case ".inf", "-.inf", ".nan": return .string(text)
    default: break
    }
    guard let first = text.utf8.first,
      (48...57).contains(first) || first == UInt8(ascii: "-") || first == UInt8(ascii: "+")
        || first == UInt8(ascii: ".")
    else { return .string(text) }
    if let int = Int64(text) { return .int(int) }
    let isNumber = text.utf8.allSatisfy {
      (48...57).contains($0) || "+-.eE".utf8.contains($0)
    }
    if isNumber, let double = Double(text), double.isFinite { return .double(double) }
    return .string(text)
  }

  private static func diagnostic(
    _ error: YamlError, _ text: String, _ places: LineIndex, _ origin: String
  ) -> Diagnostic {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      let start = places.offset(line: mark.line, column: mark.column) ?? text.utf8.count
      return Diagnostic(
        code: "invalid_yaml", "The text is not valid YAML: \(problem).",
        span: .init(text: text, range: start..<(start + 1), origin: origin),
        help: "Indent with spaces, and quote text that holds `: ` or ` #`.")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let names = duplicates.sorted().map { "`\($0)`" }.joined(separator: ", ")
      let start = places.offset(line: context.mark.line, column: context.mark.column)
      return Diagnostic(
        code: "duplicate_key", "\(names) stands more than once in one map.", at: origin,
        span: start.map {
          .init(text: text, range: $0..<($0 + 1), origin: origin, label: "in this map")
        }, help: "Keep one of them.")
    default:
      return Diagnostic(code: "invalid_yaml", "The text is not valid YAML: \(error).", at: origin)
    }
  }
}

/// Where the lines of a text begin, to turn YAML's marks into UTF-8 offsets.
private struct LineIndex {
  private let text: String
  private var starts: [String.UTF8View.Index]

  init(_ text: String) {
    self.text = text
    starts = [text.utf8.startIndex]
    for index in text.utf8.indices where text.utf8[index] == 10 {
      starts.append(text.utf8.index(after: index))
    }
  }

  /// The offset of a place; line and column count from 1, columns in Unicode scalars.
  func offset(line: Int, column: Int) -> Int? {
    guard line >= 1, line <= starts.count else { return nil }
    let scalars = text.unicodeScalars
    let place =
      scalars.index(starts[line - 1], offsetBy: column - 1, limitedBy: scalars.endIndex)
      ?? scalars.endIndex
    return text.utf8.distance(from: text.utf8.startIndex, to: place)
  }
}

extension JSON {
  /// Reads YAML or JSON text, such as a table's definition.
  ///
  /// - Throws: `Diagnostic` with the place of the first fault of the text's form.
  package init(settings text: String, origin: String) throws(Diagnostic) {
    self = try SettingNode(parsing: text, origin: origin).json
  }
}
