package import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The sizes of a transformer over an item table.
package struct TransformerShape: Hashable, Sendable {
  /// Rows of the item table, `N`.
  package var itemCount: Int
  /// `d`: the width of embeddings and of the residual stream.
  package var width: Int
  package var heads: Int
  package var blocks: Int
  /// The width of the feed-forward layer inside a block.
  package var innerWidth: Int
  /// `L`: the rows of the position table.
  package var maximumLength: Int
  package var activation: Activation
  /// Added to the variance in layer norm.
  package var epsilon: Float
  /// Whether a position sees the ones after it too. The item table then has one more row, for the
  /// items that are hidden.
  package var isBidirectional: Bool
  /// Whether hidden states are compared with a table of their own instead of the item table.
  package var separatesOutput: Bool

  package init(
    itemCount: Int, width: Int, heads: Int, blocks: Int, innerWidth: Int, maximumLength: Int,
    activation: Activation = .gelu, epsilon: Float = 1e-5, isBidirectional: Bool = false,
    separatesOutput: Bool = false
  ) {
    precondition(itemCount > 0 && width > 0 && heads > 0 && blocks > 0, "an empty model")
    precondition(innerWidth > 0 && maximumLength > 0, "an empty model")
    precondition(width % heads == 0, "a width of \(width) cannot be split over \(heads) heads")
    self.itemCount = itemCount
    self.width = width
    self.heads = heads
    self.blocks = blocks
    self.innerWidth = innerWidth
    self.maximumLength = maximumLength
    self.activation = activation
    self.epsilon = epsilon
    self.isBidirectional = isBidirectional
    self.separatesOutput = separatesOutput
  }

  package var headWidth: Int { width / heads }
}

/// Where each parameter of a transformer stands in one flat buffer, which it may share with others.
package struct TransformerLayout: NetworkLayout {
  /// One block's parameters.
  struct Block: Sendable {
    var norm1Gamma, norm1Beta: Int
    var qkv, out: ParameterLayout.Linear
    var norm2Gamma, norm2Beta: Int
    var up, down: ParameterLayout.Linear
  }

  package let shape: TransformerShape
  package private(set) var table: ParameterLayout
  private(set) var positions = 0
  private(set) var blocks: [Block] = []
  private(set) var finalGamma = 0
  private(set) var finalBeta = 0

  package init(_ shape: TransformerShape) {
    self.shape = shape
    let d = shape.width
    let f = shape.innerWidth
    var table = ParameterLayout(
      itemCount: shape.itemCount, specialTokens: shape.isBidirectional ? 1 : 0, width: d,
      output: shape.separatesOutput ? .separate : .tied)
    positions = table.add("pos.weight", [shape.maximumLength, d])
    blocks = (0..<shape.blocks).map {
      Self.addBlock("blocks.\($0)", width: d, inner: f, to: &table)
    }
    finalGamma = table.add("ln.weight", [d])
    finalBeta = table.add("ln.bias", [d])
    self.table = table
  }

  /// A transformer of parts of a larger table.
  init(
    _ shape: TransformerShape, in table: ParameterLayout, positions: Int, blocks: [Block],
    finalGamma: Int, finalBeta: Int
  ) {
    precondition(blocks.count == shape.blocks, "\(blocks.count) blocks of \(shape.blocks)")
    self.shape = shape
    self.table = table
    self.positions = positions
    self.blocks = blocks
    self.finalGamma = finalGamma
    self.finalBeta = finalBeta
  }

  static func addBlock(
    _ name: String, width d: Int, inner f: Int, to table: inout ParameterLayout
  ) -> Block {
    Block(
      norm1Gamma: table.add("\(name).ln1.weight", [d]),
      norm1Beta: table.add("\(name).ln1.bias", [d]),
      qkv: table.addLinear("\(name).qkv", inputs: d, outputs: 3 * d),
      out: table.addLinear("\(name).o", inputs: d, outputs: d),
      norm2Gamma: table.add("\(name).ln2.weight", [d]),
      norm2Beta: table.add("\(name).ln2.bias", [d]),
      up: table.addLinear("\(name).f1", inputs: d, outputs: f),
      down: table.addLinear("\(name).f2", inputs: f, outputs: d))
  }
}

extension TransformerShape: SequenceNetwork {
  package var layout: ParameterLayout { TransformerLayout(self).table }
  package var maskToken: Int32? { isBidirectional ? Int32(itemCount) : nil }
  package func furtherOperations(length: Double) -> Double {
    let seen = isBidirectional ? length : length / 2
    return Double(blocks) * 2 * Double(width) * seen * 3.5
  }
  package func makePass(kernels: Kernels) -> any NetworkPass {
    TransformerPass(TransformerLayout(self), kernels: kernels)
  }
}

extension SplitMix64 {
  /// A number from the standard normal distribution (Marsaglia's polar method).
  package mutating func normal() -> Float {
    while true {
      let u = 2 * unitFloat() - 1
      let v = 2 * unitFloat() - 1
      let s = u * u + v * v
      if s > 0, s < 1 { return u * (-2 * logf(s) / s).squareRoot() }
    }
  }
}
