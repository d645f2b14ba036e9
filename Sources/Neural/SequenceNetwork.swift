package import Kernels

/// The architecture of a network that turns a sequence of items into hidden states, which are then
/// compared with item vectors.
///
/// A value: sizes and nothing else. Parameters live in buffers, activations in passes.
package protocol SequenceNetwork: Sendable {
  var layout: ParameterLayout { get }
  /// Inputs that it looks at, `L`.
  var maximumLength: Int { get }
  /// The token that stands for an item to be guessed. With one, positions see both ways, training
  /// hides some inputs, and a history is encoded with this token at its end; nil where every
  /// position predicts the item after it.
  var maskToken: Int32? { get }
  /// Whether it makes use of the times of events and of the question.
  var usesTimes: Bool { get }
  /// Floating-point operations of one position that are not products of linear layers, forward and
  /// backward, for sequences of a length.
  func furtherOperations(length: Double) -> Double
  func makePass(kernels: Kernels) -> any NetworkPass
}

extension SequenceNetwork {
  package var maskToken: Int32? { nil }
  package var usesTimes: Bool { false }
  package func furtherOperations(length: Double) -> Double { 0 }

  /// Adds the history of a question to a batch, as this network encodes it.
  ///
  /// - Parameters:
  ///   - history: not empty, unless the network has a mask token.
  ///   - times: as many as the history has events; none where the network makes no use of them.
  ///   - moment: when the question is asked.
  package func append(
    history: some RandomAccessCollection<Int32>, times: some RandomAccessCollection<Int64>,
    moment: Int64, to batch: inout PackedBatch
  ) {
    if let maskToken {
      batch.append(
        history: Array(history.suffix(maximumLength - 1)) + [maskToken],
        maximumLength: maximumLength)
    } else if usesTimes {
      batch.append(
        history: history, maximumLength: maximumLength, times: times, moment: moment)
    } else {
      batch.append(history: history, maximumLength: maximumLength)
    }
  }
}

/// The forward and backward pass of a network, with the activations of the latest forward pass.
///
/// One object serves one thread.
package protocol NetworkPass: AnyObject {
  /// Encodes a batch.
  ///
  /// - Parameters:
  ///   - dropout: the probability of dropping an element; 0 outside of training.
  ///   - seed: the dropout's stream for this pass.
  /// - Returns: hidden states, `[T, d]`, valid until the next pass.
  func forward(
    _ batch: PackedBatch, _ weights: PackedWeights, dropout: Float, seed: UInt32
  ) -> UnsafeMutablePointer<Float>

  /// Adds the gradients of the latest forward pass to `gradients`.
  ///
  /// - Parameters:
  ///   - dhidden: the loss's gradient by the hidden states, `[T, d]`.
  ///   - gradients: laid out as the parameters are.
  func backward(
    _ batch: PackedBatch, _ weights: PackedWeights, dhidden: UnsafePointer<Float>,
    into gradients: Buffer)

  /// The newest hidden state of each sequence, as serving and validation need it: equal to the last
  /// rows of `forward` without dropout.
  ///
  /// - Parameter batch: no sequence may be empty.
  /// - Returns: `[sequences, d]`, valid until the next pass.
  func encodeLast(_ batch: PackedBatch, _ weights: PackedWeights) -> UnsafeMutablePointer<Float>
}

extension NetworkPass {
  package func encodeLast(
    _ batch: PackedBatch, _ weights: PackedWeights
  ) -> UnsafeMutablePointer<Float> {
    let hidden = forward(batch, weights, dropout: 0, seed: 0)
    let d = weights.layout.width
    for s in 0..<batch.sequenceCount {
      let newest = Int(batch.offsets[s + 1]) - 1
      precondition(newest >= Int(batch.offsets[s]), "sequence \(s) is empty")
      // Row s is never behind the newest of a later sequence.
      if newest != s { (hidden + s * d).update(from: hidden + newest * d, count: d) }
    }
    return hidden
  }
}

/// Numbers the dropout sites of one pass, which must not share masks.
struct DropoutSites {
  var probability: Float = 0
  var seed: UInt32 = 0

  subscript(number: Int) -> Dropout {
    probability == 0
      ? .none
      : Dropout(
        probability: probability,
        seed: (seed &+ UInt32(truncatingIfNeeded: number) &* 0x0100_0193) &* 0x9E37_79B1 ^ seed)
  }
}
