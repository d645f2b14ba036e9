/// Sequences laid end to end, without padding.
package struct PackedBatch: Sendable {
  /// Input tokens of all sequences, `[T]`.
  package private(set) var tokens: [Int32] = []
  /// The token that follows each input, `[T]`; empty where the batch is only encoded.
  package private(set) var targets: [Int32] = []
  /// The row of the position table for each input, `[T]`: counted from the end, so that the newest
  /// input of every sequence has the last row.
  package private(set) var places: [Int32] = []
  /// Sequence `s` is inputs `offsets[s]..<offsets[s + 1]`.
  package private(set) var offsets: [Int32] = [0]

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

  private mutating func addPlaces(_ count: Int, _ maximumLength: Int) {
    for t in 0..<count { places.append(Int32(maximumLength - count + t)) }
    offsets.append(Int32(tokens.count))
  }
}
