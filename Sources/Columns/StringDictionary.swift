import Synchronization

/// The distinct strings of a column, numbered from 0 in the order of their first appearance.
///
/// Entries are only ever added. So a copy taken with a snapshot stays right for every code that the
/// snapshot's column holds, and one copy can serve a later column as well.
package struct StringDictionary: Sendable {
  package private(set) var strings = ChunkedVector<String>()
  /// Shared between copies and only ever extended; a code past a copy's `count` is not in that
  /// copy.
  private let codes = Codes()

  package init() {}

  /// A dictionary of strings in the order of their codes; nil where one stands twice.
  package init?(distinct strings: [String]) {
    guard codes.fill(strings) else { return nil }
    self.strings = ChunkedVector(strings)
  }

  package var count: Int { strings.count }

  package subscript(code: Int32) -> String { strings[Int(code)] }

  /// The code of the string, or nil where this copy does not hold it.
  package func code(of string: String) -> Int32? {
    guard let code = codes.lookUp(string), Int(code) < count else { return nil }
    return code
  }

  /// The code of the string, which is added where it is new.
  ///
  /// - Precondition: only the newest copy may add (one writer); this is checked.
  package mutating func intern(_ string: String) -> Int32 {
    let (code, isNew) = codes.insert(string)
    if isNew {
      precondition(Int(code) == count, "an outdated copy of a dictionary was extended")
      strings.append(string)
    }
    return code
  }
}

/// The map from string to code behind all copies of a dictionary.
private final class Codes: Sendable {
  private let map = Mutex<[String: Int32]>([:])

  func fill(_ strings: [String]) -> Bool {
    map.withLock { map in
      map.reserveCapacity(strings.count)
      for (code, string) in strings.enumerated() { map[string] = Int32(code) }
      return map.count == strings.count
    }
  }

  func lookUp(_ string: String) -> Int32? { map.withLock { $0[string] } }

  func insert(_ string: String) -> (code: Int32, isNew: Bool) {
    map.withLock { map in
      if let code = map[string] { return (code, false) }
      let code = Int32(map.count)
      map[string] = code
      return (code, true)
    }
  }
}
