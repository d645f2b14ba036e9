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
