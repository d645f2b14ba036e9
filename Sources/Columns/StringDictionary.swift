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

  /// The code of each string, or nil where this copy does not hold it.
  package func codes(of strings: [String]) -> [Int32?] {
    let count = count
    return codes.lookUp(strings).map { code in
      code.flatMap { Int($0) < count ? $0 : nil }
    }
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
  private let table = Mutex(CodeTable())

  func fill(_ strings: [String]) -> Bool {
    table.withLock { table in
      table.reserve(strings.count)
      return strings.allSatisfy { table.insert($0).isNew }
    }
  }

  func lookUp(_ string: String) -> Int32? { table.withLock { $0.code(of: string) } }

  func lookUp(_ strings: [String]) -> [Int32?] {
    table.withLock { $0.codes(of: strings) }
  }

  func insert(_ string: String) -> (code: Int32, isNew: Bool) {
    table.withLock { $0.insert(string) }
  }
}

/// Open addressing with linear probing, at most half full. Strings are one where their bytes are.
///
/// The standard dictionary's hash (SipHash-1-3, chosen against attackers) took most of a look-up of a
/// short id. This one multiplies 8 bytes at a time and folds the product (after Wang Yi's wyhash),
/// from a secret of the process, so that nobody outside can prepare ids that collide.
private struct CodeTable {
  /// 0 where free, else the upper half of the hash and the code plus one.
  private var slots = [UInt64](repeating: 0, count: 16)
  private var strings: [String] = []

  private static let secret = (UInt64.random(in: .min ... .max), UInt64.random(in: .min ... .max))

  mutating func reserve(_ count: Int) {
    strings.reserveCapacity(count)
    var size = slots.count
    while size < 2 * count { size *= 2 }
    if size > slots.count { resize(to: size) }
  }

  func code(of string: String) -> Int32? { code(of: string, CodeTable.hash(string)) }

  private func code(of string: String, _ hash: UInt64) -> Int32? {
    let place = place(of: string, hash)
    let slot = slots[place]
    return slot == 0 ? nil : Int32(CodeTable.code(slot))
  }

  /// The codes of many strings. Slots, and then the strings they name, are read for all before the
  /// first is compared: a table that is not in the cache would else make each string wait for two
  /// reads of memory.
  func codes(of wanted: [String]) -> [Int32?] {
    let mask = slots.count - 1
    let hashes = wanted.map(CodeTable.hash)
    let found = slots.withUnsafeBufferPointer { slots in
      hashes.map { slots[Int(truncatingIfNeeded: $0 >> 32) & mask] }
    }
    let named = zip(found, hashes).map { slot, hash in
      slot >> 32 == hash >> 32 && slot != 0 ? strings[CodeTable.code(slot)] : nil
    }
    return wanted.indices.map { i in
      if let known = named[i], CodeTable.areSame(known, wanted[i]) {
        return Int32(CodeTable.code(found[i]))
      }
      return found[i] == 0 ? nil : code(of: wanted[i], hashes[i])
    }
  }

  /// The code in a slot that is taken.
  private static func code(_ slot: UInt64) -> Int {
    Int(truncatingIfNeeded: slot & 0xffff_ffff) - 1
  }

  mutating func insert(_ string: String) -> (code: Int32, isNew: Bool) {
    let hash = CodeTable.hash(string)
    let place = place(of: string, hash)
    if slots[place] != 0 {
      return (Int32(CodeTable.code(slots[place])), false)
    }
    let code = Int32(strings.count)
    strings.append(string)
    slots[place] = hash & ~0xffff_ffff | UInt64(code + 1)
    if 2 * strings.count > slots.count { resize(to: 2 * slots.count) }
    return (code, true)
  }

  /// Where the string stands, or the free slot where it would.
  private func place(of string: String, _ hash: UInt64) -> Int {
    let mask = slots.count - 1
    // The slot keeps the hash's upper half, so the place comes from it too, and survives a resize.
    var place = Int(truncatingIfNeeded: hash >> 32) & mask
    while true {
      let slot = slots[place]
      if slot == 0 { return place }
      if slot >> 32 == hash >> 32 {
        if CodeTable.areSame(strings[CodeTable.code(slot)], string) { return place }
      }
      place = (place + 1) & mask
    }
  }

  private mutating func resize(to size: Int) {
    let old = slots
    slots = [UInt64](repeating: 0, count: size)
    for slot in old where slot != 0 {
      var place = Int(truncatingIfNeeded: slot >> 32) & (size - 1)
      while slots[place] != 0 { place = (place + 1) & (size - 1) }
      slots[place] = slot
    }
  }

  /// Equal in their bytes; `==` also takes differently composed accents for equal.
  private static func areSame(_ a: String, _ b: String) -> Bool {
    var (a, b) = (a, b)
    return a.withUTF8 { a in
      b.withUTF8 { b in
        guard a.count == b.count else { return false }
        let (x, y) = (UnsafeRawBufferPointer(a), UnsafeRawBufferPointer(b))
        var at = 0
        while at + 8 <= x.count {
          if x.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            != y.loadUnaligned(fromByteOffset: at, as: UInt64.self)
          {
            return false
          }
          at += 8
        }
        while at < x.count {
          if x[at] != y[at] { return false }
          at += 1
        }
        return true
      }
    }
  }

  private static func hash(_ string: String) -> UInt64 {
    var string = string
    return string.withUTF8 { bytes in
      var state = secret.0 ^ UInt64(bytes.count)
      let raw = UnsafeRawBufferPointer(bytes)
      var at = 0
      while at + 8 <= raw.count {
        state = fold(state ^ raw.loadUnaligned(fromByteOffset: at, as: UInt64.self), secret.1)
        at += 8
      }
      var rest: UInt64 = 0
      while at < raw.count {
        rest = rest << 8 | UInt64(raw[at])
        at += 1
      }
      return fold(fold(state ^ rest, secret.1), 0x9E37_79B9_7F4A_7C15)
    }
  }

  @inline(__always)
  private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }
}
