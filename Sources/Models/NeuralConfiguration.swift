import Domain
package import Kernels
package import Neural

/// The kinds of networks, by the name of their policy.
package enum NeuralKind: String, Hashable, Sendable, CaseIterable {
  case sasrec, gsasrec, bert4rec, esasrec, hstu, gru4rec, laclrec
}

/// The sizes and the kind of a network.
package struct NeuralConfiguration: Hashable, Sendable {
  package var kind: NeuralKind
  /// Items in the vocabulary, `N`.
  package var itemCount: Int
  /// `d`.
  package var width = 64
  package var heads = 2
  /// Blocks, layers or stacked units; of `laclrec` those that recommender and augmenter share.
  package var blocks = 2
  /// The width of the feed-forward layer, or of the state of recurrent units; nil is `4 · width`, and
  /// `2 · width` for the state.
  package var innerWidth: Int?
  /// Newest events that the model looks at, `L`.
  package var maximumLength = 200
  package var activation = Activation.gelu
  package var normEpsilon: Float = 1e-5
  /// Whether hidden states are compared with a table of their own (`gsasrec`).
  package var separatesOutput = false
  /// Whether the times of events are known (`hstu`).
  package var usesTimes = false
  /// What cosines are divided by (`hstu`).
  package var temperature: Float = 0.05

  package init(_ kind: NeuralKind, itemCount: Int) {
    self.kind = kind
    self.itemCount = itemCount
  }

  package init(_ configuration: SASRecConfiguration) {
    self.init(.sasrec, itemCount: configuration.itemCount)
    width = configuration.width
    heads = configuration.heads
    blocks = configuration.blocks
    innerWidth = configuration.innerWidth
    maximumLength = configuration.maximumLength
    activation = configuration.activation
    normEpsilon = configuration.normEpsilon
  }

  package var network: any SequenceNetwork {
    switch kind {
    case .sasrec, .gsasrec, .bert4rec:
      TransformerShape(
        itemCount: itemCount, width: width, heads: heads, blocks: blocks,
        innerWidth: innerWidth ?? 4 * width, maximumLength: maximumLength, activation: activation,
        epsilon: normEpsilon, isBidirectional: kind == .bert4rec,
        separatesOutput: separatesOutput)
    case .esasrec:
      GatedNetwork(
        itemCount: itemCount, width: width, heads: heads, blocks: blocks,
        innerWidth: innerWidth ?? 4 * width, maximumLength: maximumLength, epsilon: normEpsilon)
    case .hstu:
      HSTUNetwork(
        itemCount: itemCount, width: width, heads: heads, layers: blocks,
        maximumLength: maximumLength, usesTimes: usesTimes, temperature: temperature,
        epsilon: normEpsilon)
    case .gru4rec:
      GRUNetwork(
        itemCount: itemCount, width: width, stateWidth: innerWidth ?? 2 * width, layers: blocks,
        maximumLength: maximumLength)
    case .laclrec:
      LACLNetwork(
        itemCount: itemCount, width: width, heads: heads, blocks: blocks,
        innerWidth: innerWidth ?? 4 * width, maximumLength: maximumLength, activation: activation,
        epsilon: normEpsilon)
    }
  }

  // MARK: Weight files

  /// What a weight file says beside its tensors.
  var metadata: [String: String] {
    [
      "model": NeuralModel.kind, "version": "1", "network": kind.rawValue,
      "items": String(itemCount), "width": String(width),
      "heads": String(heads), "blocks": String(blocks),
      "inner_width": String(innerWidth ?? (kind == .gru4rec ? 2 : 4) * width),
      "max_seq_length": String(maximumLength), "activation": activation.rawValue,
      "norm_epsilon": String(normEpsilon), "separate_output": String(separatesOutput),
      "times": String(usesTimes), "temperature": String(temperature),
    ]
  }

  /// Reads what `metadata` wrote.
  init(_ file: Safetensors, path: String) throws(Diagnostic) {
    func fault(_ message: String) -> Diagnostic {
      Diagnostic(
        code: "invalid_weights",
        "The weights do not make a model `\(file.metadata["network"] ?? "")`: \(message).",
        at: path,
        help: "Restore the file from a copy, or train the model again.")
    }
    func value<Value: LosslessStringConvertible>(_ name: String) throws(Diagnostic) -> Value {
      guard let value = file.metadata[name].flatMap({ Value($0) }) else {
        throw fault("its metadata name no `\(name)`")
      }
      return value
    }
    func size(_ name: String) throws(Diagnostic) -> Int {
      let size: Int = try value(name)
      guard (1...1_000_000_000).contains(size) else { throw fault("its \(name) is \(size)") }
      return size
    }
    guard let kind = NeuralKind(rawValue: file.metadata["network"] ?? "") else {
      throw fault("no network has that name")
    }
    self.init(kind, itemCount: try size("items"))
    width = try size("width")
    heads = try size("heads")
    blocks = try size("blocks")
    innerWidth = try size("inner_width")
    maximumLength = try size("max_seq_length")
    let bends: String = try value("activation")
    guard let activation = Activation(rawValue: bends) else {
      throw fault("its activation is `\(bends)`")
    }
    self.activation = activation
    normEpsilon = try value("norm_epsilon")
    separatesOutput = try value("separate_output")
    usesTimes = try value("times")
    temperature = try value("temperature")
    guard width % heads == 0 else { throw fault("\(heads) heads do not divide \(width)") }
    guard temperature > 0, temperature.isFinite else {
      throw fault("its temperature is \(temperature)")
    }
  }
}
