/// `Models` holds the sequence models: their settings, their weight files, and how they encode a
/// history when a query asks.
///
/// It knows item tokens but no catalog rows, and it does no I/O: weights come and go as bytes.
package import Domain
package import Kernels
package import Neural
import Synchronization

/// The settings of a SASRec.
package struct SASRecConfiguration: Hashable, Sendable {
  /// Items in the vocabulary, `N`.
  package var itemCount: Int
  /// `d`.
  package var width = 64
  package var heads = 2
  package var blocks = 2
  /// The width of the feed-forward layer; nil is `4 · width`.
  package var innerWidth: Int?
  /// Newest events that the model looks at, `L`.
  package var maximumLength = 200
  package var activation = Activation.gelu
  package var normEpsilon: Float = 1e-5

  package init(itemCount: Int) { self.itemCount = itemCount }

  package var shape: TransformerShape {
    TransformerShape(
      itemCount: itemCount, width: width, heads: heads, blocks: blocks,
      innerWidth: innerWidth ?? 4 * width, maximumLength: maximumLength, activation: activation,
      epsilon: normEpsilon)
  }
}

/// A trained SASRec, ready to serve: self-attentive sequential recommendation with the item table as
/// output layer.
///
/// A history becomes one vector, and an item's score is its inner product with the item's vector.
///
/// - SeeAlso: Kang & McAuley, *Self-Attentive Sequential Recommendation*, ICDM 2018. The variant is
///   described at `TransformerPass`; the loss at `CatalogueSoftmax`.
package final class SASRec: VectorRecommender, NetworkRecommender {
  package static let kind = "sasrec"

  package let configuration: SASRecConfiguration
  private let neural: NeuralModel
  private let layout: ParameterLayout
  package let kernels: Kernels

  package var parameters: Buffer { weights.parameters }

  /// - Parameter parameters: laid out by `TransformerLayout`; the model owns it from now on.
  package init(
    _ configuration: SASRecConfiguration, parameters: Buffer, kernels: Kernels,
    precision: Precision = .float32
  ) {
    self.configuration = configuration
    self.kernels = kernels
    neural = NeuralModel(
      NeuralConfiguration(configuration), parameters: parameters, kernels: kernels,
      precision: precision)
    layout = neural.weights.layout
  }

  package func encoding(in precision: Precision) -> any Recommender {
    precision == weights.precision
      ? self
      : SASRec(
        configuration, parameters: weights.parameters, kernels: kernels, precision: precision)
  }

  package var weights: PackedWeights { neural.weights }

  /// The vector of a history.
  ///
  /// - Parameter history: item tokens, oldest first; the newest `maximumLength` count. Not empty.
  /// - Returns: `[d]`.
  package func encode(_ history: some RandomAccessCollection<ItemToken>) -> [Float] {
    var batch = PackedBatch()
    batch.append(
      history: history.suffix(configuration.maximumLength).map(\.rawValue),
      maximumLength: configuration.maximumLength)
    return encode(batch)
  }

  /// The vectors of several histories, `[sequences, d]`.
  package func encode(_ batch: PackedBatch) -> [Float] { neural.encode(batch) }

  package var itemCount: Int { configuration.itemCount }
  package var width: Int { configuration.width }
  package var maximumLength: Int { configuration.maximumLength }

  package func encode(_ histories: [History]) -> [Float] { neural.encode(histories) }

  package func withItemVectors<Result>(
    _ body: (UnsafeBufferPointer<Float>) -> Result
  ) -> Result {
    let entry = layout.entries[0]
    return body(
      UnsafeBufferPointer(start: weights.parameters.pointer + entry.offset, count: entry.count))
  }

  // MARK: Weight files

  /// The weights as a safetensors file, with PyTorch's names and layouts.
  package func safetensors() -> Safetensors { safetensors(metadata: [:]) }

  /// The weights with further metadata.
  package func safetensors(metadata: [String: String]) -> Safetensors {
    var file = Safetensors()
    for entry in layout.entries {
      let values = UnsafeBufferPointer(
        start: weights.parameters.pointer + entry.offset, count: entry.count)
      file.tensors[entry.name] = Safetensors.Tensor(
        shape: entry.shape, values: .float32(Array(values)))
    }
    file.metadata = metadata
    file.metadata["model"] = Self.kind
    file.metadata["version"] = "1"
    file.metadata["heads"] = String(configuration.heads)
    file.metadata["activation"] = configuration.activation.rawValue
    file.metadata["norm_epsilon"] = String(configuration.normEpsilon)
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    try self.init(file, path: path, kernels: kernels)
  }

  /// Restores a model from its weight file.
  ///
  /// - Parameter path: named in errors.
  package convenience init(_ file: Safetensors, path: String, kernels: Kernels) throws(Diagnostic) {
    func fault(_ message: String) -> Diagnostic {
      Diagnostic(
        code: "invalid_weights", "The weights do not make a SASRec: \(message).", at: path,
        help: "Restore the file from a copy, or train the model again.")
    }
    guard let items = file.tensors["item.weight"], items.shape.count == 2,
      let positions = file.tensors["pos.weight"], positions.shape.count == 2,
      let up = file.tensors["blocks.0.f1.weight"], up.shape.count == 2
    else { throw fault("item.weight, pos.weight or blocks.0.f1.weight is missing") }
    guard let heads = file.metadata["heads"].flatMap(Int.init), heads > 0,
      items.shape.allSatisfy({ $0 > 0 }), items.shape[1] % heads == 0,
      let activation = file.metadata["activation"].flatMap(Activation.init(rawValue:))
    else { throw fault("its metadata name no heads that divide the width, or no activation") }
    var configuration = SASRecConfiguration(itemCount: items.shape[0])
    configuration.width = items.shape[1]
    configuration.heads = heads
    configuration.innerWidth = up.shape[0]
    configuration.maximumLength = positions.shape[0]
    configuration.activation = activation
    configuration.blocks = file.tensors.keys.count { $0.hasSuffix(".ln1.weight") }
    if let epsilon = file.metadata["norm_epsilon"].flatMap(Float.init) {
      configuration.normEpsilon = epsilon
    }
    let layout = TransformerLayout(configuration.shape)
    let parameters = Buffer(count: layout.count)
    for entry in layout.entries {
      guard let tensor = file.tensors[entry.name], tensor.shape == entry.shape,
        case .float32(let values) = tensor.values
      else { throw fault("\(entry.name) should be a float tensor of shape \(entry.shape)") }
      for (i, value) in values.enumerated() { parameters.pointer[entry.offset + i] = value }
    }
    self.init(configuration, parameters: parameters, kernels: kernels)
  }
}
