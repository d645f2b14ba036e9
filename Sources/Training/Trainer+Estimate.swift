package import Kernels
import Models
import Neural

/// What a training will take, reckoned before it starts.
package struct TrainingEstimate: Hashable, Sendable {
  package var bytes: Int
  /// For all epochs, without early stopping and validation.
  package var seconds: Double
  package var tokensPerEpoch: Int
  package var operationsPerToken: Double

  /// In words: `about 12 s at most for 72760 tokens an epoch, 45 MB`.
  package var text: String {
    "about \(Int(seconds.rounded(.up))) s at most for \(tokensPerEpoch) tokens an epoch, "
      + "\(max(1, bytes / 1_000_000)) MB"
  }
}

extension Trainer {
  /// Reckons memory from the sizes of what is allocated, and time from the products' operations and
  /// a short measurement of this core's peak, of which training reaches about 60 % (twice that in
  /// bfloat16's faster products, less what they do not cover).
  package func estimate(kernels: Kernels) -> TrainingEstimate {
    let layout = network.layout
    let linear = Double(layout.linears.reduce(0) { $0 + $1.inputs * $1.outputs })
    let compared =
      switch options.loss {
      case .softmax: Double(layout.itemCount)
      case .sampled(_, let negatives, _, _): Double(negatives)
      }
    let length = Double(
      min(network.maximumLength, max(1, inputsPerEpoch / max(1, sequenceCount))))
    // A loss is reckoned for the positions that have one, everything else for all of them.
    let share = Double(tokensPerEpoch) / Double(max(1, inputsPerEpoch))
    let operations =
      6 * (linear + share * Double(layout.width) * compared)
      + network.furtherOperations(length: length)
    let efficiency = precision == .bfloat16 ? 0.85 : 0.6
    let rate = kernels.operationsPerSecond() * efficiency * Double(options.threads)
    let parameterBytes = layout.count * 4
    let copies = 3 + options.threads + 2 + (options.averaging == nil ? 0 : 1)
    let activations = layout.linears.reduce(0) { $0 + $1.inputs + $1.outputs }
    let perToken = Double(activations + 20 * layout.width) * 4 * 1.3
    let scores = Double(options.threads) * (options.loss == .softmax ? 2.4e6 * 2 : 1e6)
    return TrainingEstimate(
      bytes: parameterBytes * copies
        + Int(perToken * Double(options.tokensPerPass * options.threads) + scores),
      seconds: operations * Double(inputsPerEpoch * options.epochs) / rate,
      tokensPerEpoch: tokensPerEpoch, operationsPerToken: operations)
  }
}

extension Kernels {
  /// The peak of this core in single precision, by a short measurement.
  func operationsPerSecond() -> Double {
    let clock = ContinuousClock()
    var best = Double.infinity
    var probed = 0.0
    for _ in 0..<5 {
      let elapsed = clock.measure { probed = probe(rounds: 50_000) }
      best = min(best, Training.seconds(elapsed))
    }
    return probed / best
  }
}
