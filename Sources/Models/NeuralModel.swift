package import Domain
package import Kernels
package import Neural
import Synchronization

/// A trained network of any kind, ready to serve: a history becomes one vector, and an item's score is
/// its inner product with the item's vector.
package final class NeuralModel: VectorRecommender, NetworkRecommender {
  package static let kind = "network"

  package let configuration: NeuralConfiguration
  package let network: any SequenceNetwork
  package let weights: PackedWeights
  package let kernels: Kernels
  /// Passes that no query uses at the moment.
  private let idle = Mutex<[Idle]>([])

  /// Unchecked: a pass is in the pool or with one query, never both.
  private struct Idle: @unchecked Sendable { let pass: any NetworkPass }

  /// - Parameters:
  ///   - parameters: laid out by the network's layout; the model owns it from now on.
  ///   - precision: of the products of encoding. Item vectors and scores are floats always.
  package init(
    _ configuration: NeuralConfiguration, parameters: Buffer, kernels: Kernels,
    precision: Precision = .float32
  ) {
    self.configuration = configuration
    self.kernels = kernels
    let network = configuration.network
    self.network = network
    weights = PackedWeights(
      network.layout, parameters: parameters, kernels: kernels, precision: precision,
      includingItems: false)
  }

  package var parameters: Buffer { weights.parameters }

  package func encoding(in precision: Precision) -> any Recommender {
    precision == weights.precision
      ? self
      : NeuralModel(
        configuration, parameters: weights.parameters, kernels: kernels, precision: precision)
  }

  /// The vectors of sequences that `network.append` put into a batch, `[sequences, d]`.
  package func encode(_ batch: PackedBatch) -> [Float] {
    let pass = idle.withLock { $0.popLast() } ?? Idle(pass: network.makePass(kernels: kernels))
    let hidden = pass.pass.encodeLast(batch, weights)
    let result = Array(
      UnsafeBufferPointer(start: hidden, count: batch.sequenceCount * configuration.width))
    idle.withLock { $0.append(pass) }
    return result
  }

  package var itemCount: Int { configuration.itemCount }
  package var width: Int { configuration.width }
  package var maximumLength: Int { configuration.maximumLength }
  package var usesTimes: Bool { network.usesTimes }

  /// The vectors of histories, `[histories, d]`; zeros for an empty one, unless the network guesses
  /// hidden items.
  package func encode(_ histories: [History]) -> [Float] {
    var vectors = [Float](repeating: 0, count: histories.count * width)
    let known = histories.indices.filter {
      !histories[$0].items.isEmpty || network.maskToken != nil
    }
    // Bounds the memory of activations.
    let together = 32
    for start in stride(from: 0, to: known.count, by: together) {
      let places = known[start..<min(known.count, start + together)]
      var batch = PackedBatch()
      for i in places { network.append(histories[i], to: &batch) }
      let found = encode(batch)
      for (place, i) in places.enumerated() {
        vectors.replaceSubrange(
          i * width..<(i + 1) * width, with: found[place * width..<(place + 1) * width])
      }
    }
    return vectors
  }

  /// Lends the vectors that hidden states are compared with, `[N, d]`.
  package func withItemVectors<Result>(
    _ body: (UnsafeBufferPointer<Float>) -> Result
  ) -> Result {
    body(
      UnsafeBufferPointer(
        start: weights.outputs, count: configuration.itemCount * configuration.width))
  }

  /// The same weights as a SASRec.
  ///
  /// - Precondition: they are those of one.
  package var sasrec: SASRec {
    precondition(configuration.kind == .sasrec, "a \(configuration.kind) is no SASRec")
    var sasrec = SASRecConfiguration(itemCount: configuration.itemCount)
    sasrec.width = configuration.width
    sasrec.heads = configuration.heads
    sasrec.blocks = configuration.blocks
    sasrec.innerWidth = configuration.innerWidth
    sasrec.maximumLength = configuration.maximumLength
    sasrec.activation = configuration.activation
    sasrec.normEpsilon = configuration.normEpsilon
    return SASRec(sasrec, parameters: weights.parameters, kernels: kernels)
  }

  // MARK: Weight files

  /// The weights as a safetensors file, with PyTorch's layouts; the metadata hold every size.
  package func safetensors() -> Safetensors {
    var file = Safetensors()
    for entry in weights.layout.entries {
      let values = UnsafeBufferPointer(
        start: weights.parameters.pointer + entry.offset, count: entry.count)
      file.tensors[entry.name] = Safetensors.Tensor(
        shape: entry.shape, values: .float32(Array(values)))
    }
    file.metadata = configuration.metadata
    return file
  }

  /// Restores a model from its weight file.
  ///
  /// - Parameter path: named in errors.
  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let configuration = try NeuralConfiguration(file, path: path)
    // Sizes are believed only where the tensors bear them out, before anything is allocated.
    func fault(_ message: String) -> Diagnostic {
      Diagnostic(
        code: "invalid_weights",
        "The weights do not make a model `\(configuration.kind.rawValue)`: \(message).", at: path,
        help: "Restore the file from a copy, or train the model again.")
    }
    guard configuration.blocks <= file.tensors.count else {
      throw fault("\(configuration.blocks) blocks do not fit into \(file.tensors.count) tensors")
    }
    let layout = configuration.network.layout
    for entry in layout.entries {
      guard let tensor = file.tensors[entry.name], tensor.shape == entry.shape,
        case .float32 = tensor.values
      else { throw fault("\(entry.name) should be a float tensor of shape \(entry.shape)") }
    }
    let parameters = Buffer(count: layout.count)
    for entry in layout.entries {
      for (i, value) in (file.floats(entry.name) ?? []).enumerated() {
        parameters.pointer[entry.offset + i] = value
      }
    }
    self.init(configuration, parameters: parameters, kernels: kernels)
  }
}

extension SequenceNetwork {
  /// Adds a history to a batch, as this network encodes it. Where it makes use of times that the
  /// history does not have, all events count as if they had been at the moment of the question.
  package func append(_ history: History, to batch: inout PackedBatch) {
    let items = history.items.suffix(maximumLength).map(\.rawValue)
    guard usesTimes else {
      return append(history: items, times: [], moment: 0, to: &batch)
    }
    let times =
      history.times.map { $0.suffix(maximumLength).map(\.seconds) }
      ?? items.map { _ in history.moment?.seconds ?? 0 }
    append(
      history: items, times: times, moment: history.moment?.seconds ?? times.last ?? 0, to: &batch)
  }
}

extension Timestamp {
  /// Whole seconds, as networks count time.
  package var seconds: Int64 { microsecondsSinceEpoch / 1_000_000 }
}
