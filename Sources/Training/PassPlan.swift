package import Neural

/// The parts of users' events that train in one step.
struct TrainingWindows: Sendable {
  var tokens: [ArraySlice<Int32>] = []
  /// Seconds, where the network makes use of times.
  var times: [ArraySlice<Int64>] = []
  /// Decides which items are hidden.
  var seed: UInt64 = 0
}

/// What one step trains on.
package struct StepPlan: Sendable {
  /// Passes of the network, each position with its right item.
  package var passes: [PackedBatch] = []
  /// Groups of histories to alter, where the network learns from altered ones.
  var groups: [[[Int32]]] = []

  /// Right items of the step.
  package var targetCount: Int { passes.reduce(0) { $0 + $1.targets.count } }
}

/// How windows become packed passes of a network.
struct PassPlan: Sendable {
  /// Events of a window at most.
  let window: Int
  private let maximumLength: Int
  private let mask: Int32?
  private let tokensPerPass: Int
  private let maskedShare: Float
  private let onlyNewestMasked: Float
  /// Histories of a group and events of each, where histories are altered.
  private let altered: (groupSize: Int, length: Int)?

  init(_ network: any SequenceNetwork, _ options: TrainingOptions) {
    maximumLength = network.maximumLength
    mask = network.maskToken
    // Where items are hidden, every event is an input; else the newest is a target only.
    window = maximumLength + (mask == nil ? 1 : 0)
    tokensPerPass = options.tokensPerPass
    maskedShare = options.maskedShare
    onlyNewestMasked = options.onlyNewestMasked
    altered =
      network is LACLNetwork
      ? (max(2, options.alterations.groupSize), max(2, options.alterations.length)) : nil
  }

  /// What a step trains on.
  func step(of windows: TrainingWindows) -> StepPlan {
    var plan = StepPlan(passes: passes(of: windows))
    guard let altered else { return plan }
    // The newest event of a window is a target only, as it is in the passes.
    let histories = windows.tokens.map { Array($0.dropLast().suffix(altered.length)) }
    for start in stride(from: 0, to: histories.count, by: altered.groupSize) {
      let group = histories[start..<min(histories.count, start + altered.groupSize)]
      // One history alone can be told from none.
      if group.count > 1 || histories.count == 1 { plan.groups.append(Array(group)) }
    }
    return plan
  }

  /// Inputs that a window of some events gives.
  func inputs(ofLength length: Int) -> Int { mask == nil ? length - 1 : length }

  /// Divides a step's windows into passes of nearly equal token counts: longest first, each to the
  /// pass with the fewest tokens so far. Depends on the windows alone, not on the threads.
  func passes(of windows: TrainingWindows) -> [PackedBatch] {
    let tokens = windows.tokens.reduce(0) { $0 + inputs(ofLength: $1.count) }
    let wanted = max(1, (tokens + tokensPerPass - 1) / tokensPerPass)
    let count = max(1, min(windows.tokens.count, (wanted + 3) / 4 * 4))
    var members = [[Int]](repeating: [], count: count)
    var sizes = [Int](repeating: 0, count: count)
    for i in windows.tokens.indices.sorted(by: {
      (windows.tokens[$0].count, $1) > (windows.tokens[$1].count, $0)
    }) {
      var least = 0
      for j in 1..<count where sizes[j] < sizes[least] { least = j }
      members[least].append(i)
      sizes[least] += inputs(ofLength: windows.tokens[i].count)
    }
    return members.filter { !$0.isEmpty }.map { places in
      var batch = PackedBatch()
      for i in places { append(i, of: windows, to: &batch) }
      return batch
    }
  }

  private func append(_ i: Int, of windows: TrainingWindows, to batch: inout PackedBatch) {
    let tokens = windows.tokens[i]
    if let mask {
      var generator = SplitMix64(seed: windows.seed &+ UInt64(i) &* 0x9E37_79B9_7F4A_7C15)
      batch.append(
        masked: tokens, hidden: hidden(tokens.count, using: &generator), mask: mask,
        maximumLength: maximumLength)
    } else if !windows.times.isEmpty {
      batch.append(training: tokens, maximumLength: maximumLength, times: windows.times[i])
    } else {
      batch.append(training: tokens, maximumLength: maximumLength)
    }
  }

  /// Which events of a sequence are hidden: at least one.
  private func hidden(_ count: Int, using generator: inout SplitMix64) -> [Bool] {
    var result = [Bool](repeating: false, count: count)
    if generator.unitFloat() < onlyNewestMasked {
      result[count - 1] = true
      return result
    }
    for t in 0..<count { result[t] = generator.unitFloat() < maskedShare }
    if !result.contains(true) { result[Int.random(in: 0..<count, using: &generator)] = true }
    return result
  }
}
