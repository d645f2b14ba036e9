package import Domain
package import Kernels

/// A Markov model of items with back-off: what most often followed the last items, from the longest
/// succession that training has seen down to single items.
///
/// - SeeAlso: Kneser & Ney, *Improved Backing-off for M-gram Language Modeling*, ICASSP 1995, in the
///   interpolated variant of Chen & Goodman 1999, §2.7, with one discount for all orders; and Brants
///   et al., *Large Language Models in Machine Translation*, EMNLP 2007, §4, for stupid back-off.
package final class NGram: Recommender {
  package static let kind = "ngram"

  package enum Smoothing: String, Hashable, Sendable, CaseIterable {
    /// What a longer context leaves over goes to the shorter one, whose counts are of distinct
    /// predecessors.
    case kneserNey = "kneser-ney"
    /// A shorter context counts 0.4 of a longer one, where that has not seen the item.
    case stupidBackOff = "stupid-back-off"
  }

  /// What followed contexts of one length.
  package struct Order: Sendable {
    /// `[contexts, length]`, the newest item last; ascending.
    package var contexts: [Int32]
    package var offsets: [Int]
    /// Ascending within a context.
    package var items: [Int32]
    package var counts: [Float]
    fileprivate var places: [UInt64: Int32] = [:]

    package init(contexts: [Int32], offsets: [Int], items: [Int32], counts: [Float]) {
      precondition(offsets.last == items.count && items.count == counts.count, "an order's parts")
      self.contexts = contexts
      self.offsets = offsets
      self.items = items
      self.counts = counts
    }
  }

  package let itemCount: Int
  package let smoothing: Smoothing
  /// What Kneser-Ney takes from every count, in `0..<1`.
  package let discount: Float
  /// The share of each item where no context is known, `[N]`; the shares add up to 1.
  package let base: [Float]
  /// Contexts of one item, of two, and so on.
  package let orders: [Order]

  package init(
    smoothing: Smoothing, discount: Float, base: [Float], orders: [Order]
  ) {
    self.smoothing = smoothing
    self.discount = discount
    self.base = base
    itemCount = base.count
    self.orders = orders.enumerated().map { index, order in
      var order = order
      let length = index + 1
      precondition(order.contexts.count == (order.offsets.count - 1) * length, "contexts")
      order.places.reserveCapacity(order.offsets.count)
      for place in 0..<order.offsets.count - 1 {
        let context = order.contexts[place * length..<(place + 1) * length]
        order.places[Self.hash(context)] = Int32(place)
      }
      return order
    }
  }

  package var answersWithoutHistory: Bool { true }
  package var maximumLength: Int { max(1, orders.count) }

  private static func hash(_ context: some Sequence<Int32>) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for token in context {
      hash = (hash ^ UInt64(UInt32(bitPattern: token))) &* 0x9E37_79B9_7F4A_7C15
      hash ^= hash >> 29
    }
    return hash
  }

  /// The entries of a context in its order; nil where it was never seen.
  private func entries(_ context: ArraySlice<ItemToken>) -> (Order, Range<Int>)? {
    let order = orders[context.count - 1]
    guard let found = order.places[Self.hash(context.lazy.map(\.rawValue))] else { return nil }
    let start = Int(found) * context.count
    // Two contexts may share a hash; only one of them is found then, and never the wrong one.
    guard
      zip(order.contexts[start..<start + context.count], context).allSatisfy({
        $0 == $1.rawValue
      })
    else { return nil }
    return (order, order.offsets[Int(found)]..<order.offsets[Int(found) + 1])
  }

  package func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>) {
    for (h, history) in histories.enumerated() {
      let out = scores + h * itemCount
      base.withUnsafeBufferPointer { base in
        if let base = base.baseAddress { out.update(from: base, count: itemCount) }
      }
      let longest = min(orders.count, history.items.count)
      guard longest > 0 else { continue }
      for length in 1...longest {
        guard let (order, range) = entries(history.items.suffix(length)) else { break }
        let total = range.reduce(Float(0)) { $0 + order.counts[$1] }
        switch smoothing {
        case .kneserNey:
          let left = discount * Float(range.count) / total
          for i in 0..<itemCount { out[i] *= left }
          for i in range { out[Int(order.items[i])] += (order.counts[i] - discount) / total }
        case .stupidBackOff:
          for i in 0..<itemCount { out[i] *= 0.4 }
          for i in range { out[Int(order.items[i])] = order.counts[i] / total }
        }
      }
    }
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind)
    file.metadata["smoothing"] = smoothing.rawValue
    file.metadata["discount"] = String(discount)
    file.put("base", base)
    for (index, order) in orders.enumerated() {
      file.put("order\(index + 1).contexts", order.contexts)
      file.put(
        "order\(index + 1).lengths",
        zip(order.offsets, order.offsets.dropFirst()).map { Int32($1 - $0) })
      file.put("order\(index + 1).items", order.items)
      file.put("order\(index + 1).counts", order.counts)
    }
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let base = try file.floats("base", shape: [-1], path: path)
    guard let smoothing = file.metadata["smoothing"].flatMap(Smoothing.init(rawValue:)) else {
      throw file.fault("its metadata name no smoothing", path: path)
    }
    var orders: [Order] = []
    let tokens = 0..<max(1, base.count)
    while file.tensors["order\(orders.count + 1).lengths"] != nil {
      let name = "order\(orders.count + 1)"
      let contexts = try file.integers("\(name).contexts", in: tokens, path: path)
      let lengths = try file.integers("\(name).lengths", in: 1..<Int(Int32.max), path: path)
      let items = try file.integers("\(name).items", in: tokens, path: path)
      let counts = try file.floats("\(name).counts", shape: [items.count], path: path)
      var offsets = [0]
      for length in lengths { offsets.append((offsets.last ?? 0) + Int(length)) }
      guard offsets.last == items.count, contexts.count == lengths.count * (orders.count + 1) else {
        throw file.fault("the parts of \(name) differ", path: path)
      }
      orders.append(Order(contexts: contexts, offsets: offsets, items: items, counts: counts))
    }
    self.init(
      smoothing: smoothing, discount: try file.number("discount", path: path), base: base,
      orders: orders)
  }
}
