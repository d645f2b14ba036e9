package import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The sizes of a causal transformer over an item table.
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

  package init(
    itemCount: Int, width: Int, heads: Int, blocks: Int, innerWidth: Int, maximumLength: Int,
    activation: Activation = .gelu, epsilon: Float = 1e-5
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
  }

  package var headWidth: Int { width / heads }
}

/// Where each parameter of a transformer stands in one flat buffer.
///
/// Names and layouts are those of PyTorch's modules (a linear layer's weight is `[out, in]`), so a
/// saved state opens there unchanged.
package struct TransformerLayout: Sendable {
  /// One named parameter.
  package struct Entry: Hashable, Sendable {
    package var name: String
    package var shape: [Int]
    package var offset: Int
    package var count: Int { shape.reduce(1, *) }
  }

  /// The offsets of one block's parameters.
  package struct Block: Sendable {
    var norm1Gamma = 0, norm1Beta = 0, qkvWeight = 0, qkvBias = 0, outWeight = 0, outBias = 0
    var norm2Gamma = 0, norm2Beta = 0, upWeight = 0, upBias = 0, downWeight = 0, downBias = 0
  }

  package let shape: TransformerShape
  package private(set) var entries: [Entry] = []
  package private(set) var count = 0
  /// The item table comes first: `[itemCount, width]`.
  package private(set) var items = 0
  private(set) var positions = 0
  private(set) var blocks: [Block] = []
  private(set) var finalGamma = 0
  private(set) var finalBeta = 0

  package init(_ shape: TransformerShape) {
    self.shape = shape
    let d = shape.width
    let f = shape.innerWidth
    items = add("item.weight", [shape.itemCount, d])
    positions = add("pos.weight", [shape.maximumLength, d])
    for i in 0..<shape.blocks {
      var block = Block()
      block.norm1Gamma = add("blocks.\(i).ln1.weight", [d])
      block.norm1Beta = add("blocks.\(i).ln1.bias", [d])
      block.qkvWeight = add("blocks.\(i).qkv.weight", [3 * d, d])
      block.qkvBias = add("blocks.\(i).qkv.bias", [3 * d])
      block.outWeight = add("blocks.\(i).o.weight", [d, d])
      block.outBias = add("blocks.\(i).o.bias", [d])
      block.norm2Gamma = add("blocks.\(i).ln2.weight", [d])
      block.norm2Beta = add("blocks.\(i).ln2.bias", [d])
      block.upWeight = add("blocks.\(i).f1.weight", [f, d])
      block.upBias = add("blocks.\(i).f1.bias", [f])
      block.downWeight = add("blocks.\(i).f2.weight", [d, f])
      block.downBias = add("blocks.\(i).f2.bias", [d])
      blocks.append(block)
    }
    finalGamma = add("ln.weight", [d])
    finalBeta = add("ln.bias", [d])
  }

  private mutating func add(_ name: String, _ shape: [Int]) -> Int {
    let entry = Entry(name: name, shape: shape, offset: count)
    entries.append(entry)
    // Every parameter starts on a 64-byte line.
    count += (entry.count + 15) / 16 * 16
    return entry.offset
  }

  /// Fills the buffer as the model starts: weights and tables from `N(0, deviation²)`, gains 1,
  /// biases 0.
  package func initialise(
    _ parameters: Buffer, deviation: Float, using generator: inout SplitMix64
  ) {
    precondition(parameters.count == count, "\(parameters.count) parameters, \(count) expected")
    parameters.clear()
    for entry in entries {
      let start = parameters.pointer + entry.offset
      if entry.name.hasSuffix("bias") { continue }
      if entry.shape.count == 1 {
        start.update(repeating: 1, count: entry.count)
      } else {
        for i in 0..<entry.count { start[i] = deviation * generator.normal() }
      }
    }
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
