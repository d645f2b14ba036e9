/// Sequences laid end to end, without padding.
package struct PackedBatch: Sendable {
  /// Input tokens of all sequences, `[T]`.
  package private(set) var tokens: [Int32] = []
  /// The right item for each row that has a loss; empty where the batch is only encoded.
  package private(set) var targets: [Int32] = []
  /// The rows that have a loss, ascending; nil where every row has one.
  package private(set) var targetRows: [Int32]?
  /// The row of the position table for each input, `[T]`: counted from the end, so that the newest
  /// input of every sequence has the last row.
  package private(set) var places: [Int32] = []
  /// Sequence `s` is inputs `offsets[s]..<offsets[s + 1]`.
  package private(set) var offsets: [Int32] = [0]
  /// Sequence `s` has targets `targetOffsets[s]..<targetOffsets[s + 1]`.
  package private(set) var targetOffsets: [Int32] = [0]
  /// When each input was, `[T]`, in seconds; empty where times are not known.
  package private(set) var times: [Int64] = []
  /// When the item after each input was, or the question is, `[T]`; empty likewise.
  package private(set) var nextTimes: [Int64] = []

  package init() {}

  package var tokenCount: Int { tokens.count }
  package var sequenceCount: Int { offsets.count - 1 }
  /// The length of the longest sequence.
  package var longest: Int {
    zip(offsets, offsets.dropFirst()).map { Int($1 - $0) }.max() ?? 0
  }

  /// Adds a sequence's newest tokens: the last `maximumLength` become inputs.
  package mutating func append(
    history: some RandomAccessCollection<Int32>, maximumLength: Int
  ) {
    let inputs = history.suffix(maximumLength)
    tokens += inputs
    addPlaces(inputs.count, maximumLength)
  }

  /// Adds a sequence's newest tokens with their times.
  ///
  /// - Parameter moment: when the question is asked.
  package mutating func append(
    history: some RandomAccessCollection<Int32>, maximumLength: Int,
    times: some RandomAccessCollection<Int64>, moment: Int64
  ) {
    precondition(times.count == history.count, "\(times.count) times of \(history.count) events")
    let window = times.suffix(maximumLength)
    self.times += window
    nextTimes += window.dropFirst()
    if !window.isEmpty { nextTimes.append(moment) }
    append(history: history, maximumLength: maximumLength)
  }

  /// Adds a training sequence: each input's target is the token after it, so `n + 1` tokens give `n`
  /// inputs, of which the newest `maximumLength` are taken.
  package mutating func append(
    training sequence: some RandomAccessCollection<Int32>, maximumLength: Int
  ) {
    let window = sequence.suffix(maximumLength + 1)
    tokens += window.dropLast()
    targets += window.dropFirst()
    addPlaces(max(0, window.count - 1), maximumLength)
  }

  /// Adds a training sequence with the times of its tokens.
  package mutating func append(
    training sequence: some RandomAccessCollection<Int32>, maximumLength: Int,
    times: some RandomAccessCollection<Int64>
  ) {
    precondition(times.count == sequence.count, "\(times.count) times of \(sequence.count) events")
    let window = times.suffix(maximumLength + 1)
    self.times += window.dropLast()
    nextTimes += window.dropFirst()
    append(training: sequence, maximumLength: maximumLength)
  }

  /// Adds a training sequence of which some tokens are hidden and to be guessed: the newest
  /// `maximumLength` tokens are inputs.
  ///
  /// - Parameter hidden: whether each of them is hidden, oldest first.
  package mutating func append(
    masked sequence: some RandomAccessCollection<Int32>, hidden: [Bool], mask: Int32,
    maximumLength: Int
  ) {
    let window = sequence.suffix(maximumLength)
    precondition(hidden.count == window.count, "\(hidden.count) choices for \(window.count) tokens")
    var rows = targetRows ?? []
    for (token, isHidden) in zip(window, hidden) {
      if isHidden {
        rows.append(Int32(tokens.count))
        targets.append(token)
      }
      tokens.append(isHidden ? mask : token)
    }
    targetRows = rows
    addPlaces(window.count, maximumLength)
  }

  /// Adds a training sequence whose places are counted from its start, so that they do not tell how
  /// much is still to come: `n + 1` tokens give `n` inputs.
  package mutating func append(sentence: some RandomAccessCollection<Int32>) {
    tokens += sentence.dropLast()
    targets += sentence.dropFirst()
    places += (0..<max(0, sentence.count - 1)).map { Int32($0) }
    offsets.append(Int32(tokens.count))
    targetOffsets.append(Int32(targets.count))
  }

  private mutating func addPlaces(_ count: Int, _ maximumLength: Int) {
    for t in 0..<count { places.append(Int32(maximumLength - count + t)) }
    offsets.append(Int32(tokens.count))
    targetOffsets.append(Int32(targets.count))
  }
}
