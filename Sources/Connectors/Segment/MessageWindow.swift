import Crypto
import Domain

/// The ids of the messages that came last, to know a repetition; kept beside the rows.
///
/// Ids are remembered as the first 8 bytes of their SHA-256: two different ids among a million meet by
/// chance once in 37 million windows. They fill numbered slots; each delivery stores the slot that it
/// adds to, in the transaction of its rows. When all slots are used the oldest is written over, which
/// is what bounds the window.
struct MessageWindow: Sendable {
  fileprivate struct Slot {
    var number: Int
    var ids: [UInt64]
  }

  /// A slot takes no further ids once it holds this many.
  static let idsPerSlot = 512
  /// How many ids are remembered; one delivery more at most.
  let limit: Int
  /// Oldest first.
  private var slots: [Slot] = []
  private var known: Set<UInt64> = []

  init(limit: Int) {
    precondition(limit >= Self.idsPerSlot, "a window of \(limit)")
    self.limit = limit
  }

  var count: Int { known.count }

  private var slotCount: Int { limit / Self.idsPerSlot + 1 }

  static func id(of message: String) -> UInt64 {
    var id: UInt64 = 0
    for byte in SHA256.hash(data: Array(message.utf8)).prefix(8) { id = id << 8 | UInt64(byte) }
    return id
  }

  func contains(_ id: UInt64) -> Bool { known.contains(id) }

  /// The slot that so many new ids go to: the stream of its stored form, and that form.
  func storing(_ new: [UInt64]) -> (stream: String, position: JSON) {
    var slot = slots.last ?? Slot(number: 0, ids: [])
    if slot.ids.count >= Self.idsPerSlot { slot = Slot(number: slot.number + 1, ids: []) }
    slot.ids += new
    return ("messages/\(slot.number % slotCount)", Self.json(slot))
  }

  /// Takes in ids whose slot is stored.
  mutating func stored(_ new: [UInt64]) {
    guard !new.isEmpty else { return }
    if let last = slots.last, last.ids.count < Self.idsPerSlot {
      slots[slots.count - 1].ids += new
    } else {
      slots.append(Slot(number: (slots.last?.number ?? -1) + 1, ids: new))
    }
    known.formUnion(new)
    forget()
  }

  /// Lets go of the oldest slots beyond the limit.
  private mutating func forget() {
    while slots.count > 1, known.count - slots[0].ids.count >= limit || slots.count > slotCount {
      known.subtract(slots.removeFirst().ids)
    }
  }

  /// Reads the stored slots back, whatever else is stored.
  mutating func restore(_ positions: [String: JSON]) {
    slots = positions.filter { $0.key.hasPrefix("messages/") }.compactMap { Self.slot($0.value) }
      .sorted { $0.number < $1.number }
    known = Set(slots.joinedIDs)
    forget()
  }

  private static func json(_ slot: Slot) -> JSON {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(slot.ids.count * 8)
    for id in slot.ids {
      for shift in stride(from: 0, to: 64, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: id >> UInt64(shift)))
      }
    }
    return ["slot": .int(Int64(slot.number)), "ids": .string(Base64.encode(bytes))]
  }

  private static func slot(_ json: JSON) -> Slot? {
    guard let number = json["slot"]?.int, let text = json["ids"]?.string,
      let bytes = Base64.decode(text), bytes.count.isMultiple(of: 8)
    else { return nil }
    var ids: [UInt64] = []
    for start in stride(from: 0, to: bytes.count, by: 8) {
      var id: UInt64 = 0
      for i in (0..<8).reversed() { id = id << 8 | UInt64(bytes[start + i]) }
      ids.append(id)
    }
    return Slot(number: Int(number), ids: ids)
  }
}

extension [MessageWindow.Slot] {
  fileprivate var joinedIDs: [UInt64] { flatMap(\.ids) }
}
