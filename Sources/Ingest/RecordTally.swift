package import Domain

/// The kinds of JSON values, as far as a change of them is worth telling.
package enum ValueKind: Int, CaseIterable, Sendable {
  case null
  case bool
  case number
  case string
  case array
  case object

  package init(_ json: JSON) {
    switch json {
    case .null: self = .null
    case .bool: self = .bool
    case .int, .double: self = .number
    case .string: self = .string
    case .array: self = .array
    case .object: self = .object
    }
  }

  /// With its article, as in "a number".
  package var words: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "text"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// Counts of what a batch of records looked like before and after its types were applied.
package struct RecordTally: Sendable {
  /// All records, among them those that did not fit.
  package var recordCount = 0
  package var misfitCount = 0
  /// Values given, by column and kind: `kinds[column * ValueKind.allCases.count + kind]`. What a
  /// record leaves out is counted nowhere.
  package var kinds: [Int]
  /// Members that name no column, and how often they came.
  package var unknownMembers: [String: Int] = [:]

  package static let kindCount = 6
  /// So many names are told apart; a client that makes up names must not fill the memory.
  static let mostUnknownMembers = 64

  package init(columnCount: Int) {
    kinds = Array(repeating: 0, count: columnCount * RecordTally.kindCount)
  }

  mutating func count(_ kind: ValueKind, column: Int) {
    kinds[column * RecordTally.kindCount + kind.rawValue] += 1
  }

  mutating func countUnknown(_ name: String) {
    if unknownMembers[name] != nil || unknownMembers.count < RecordTally.mostUnknownMembers {
      unknownMembers[name, default: 0] += 1
    }
  }
}
