import Domain

/// How the events of a history count when they are summed up: the newest ones, each older one by a
/// factor less.
package struct Recency: Hashable, Sendable {
  /// Newest events that count; `Int.max` for all.
  package var last: Int
  /// What an event weighs in parts of the one after it; 1 is no decay.
  package var decay: Float

  package init(last: Int, decay: Float) {
    precondition(last > 0 && decay > 0 && decay <= 1, "last \(last), decay \(decay)")
    self.last = last
    self.decay = decay
  }

  /// Calls the body for the events that count, newest first, with their weights.
  @inline(__always)
  func forEach(_ history: History, _ body: (ItemToken, Float) -> Void) {
    var weight: Float = 1
    var index = history.items.endIndex
    let start = max(history.items.startIndex, last == .max ? .min : index - last)
    while index > start {
      index -= 1
      var own = weight
      if let weights = history.weights {
        own *= weights[weights.endIndex - (history.items.endIndex - index)]
      }
      body(history.items[index], own)
      weight *= decay
    }
  }

  func write(to file: inout Safetensors) {
    file.metadata["last"] = String(last)
    file.metadata["decay"] = String(decay)
  }

  init(_ file: Safetensors, path: String) throws(Diagnostic) {
    let last: Int = try file.number("last", path: path)
    let decay: Float = try file.number("decay", path: path)
    guard last > 0, decay > 0, decay <= 1 else {
      throw file.fault("its metadata name last \(last) and decay \(decay)", path: path)
    }
    self.init(last: last, decay: decay)
  }
}
