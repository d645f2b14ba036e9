package import Kernels

/// A causal transformer that recommends, and beside it an augmenter that makes altered histories to
/// learn from.
///
/// Recommender and augmenter share the item table, the positions and the first blocks (the encoder).
/// The recommender is one more block. The augmenter is a linear layer that gives each event one of
/// three operations (keep, delete, insert before it), and a generator: one more block that starts from
/// an event's state and says item after item what to insert there, until it says the end.
///
/// - SeeAlso: *Learnable Sequence Augmenter for Triplet Contrastive Learning in Sequential
///   Recommendation* (LACLRec, TCLARec), arXiv 2503.20232; the corrector is that of STEAM, arXiv 2303.02297. This variant has pre-norm blocks with GELU as
///   `TransformerPass` describes, where the authors' are post-norm with ReLU; it trains the next item
///   at every position instead of the last one of every prefix; and altered histories keep their order
///   (see `Augmenter.keepsOrder`).
package struct LACLNetwork: SequenceNetwork, Hashable {
  package enum Operation: Int, Sendable, CaseIterable { case keep = 0, delete, insert }

  /// Items that are put in at one place at most.
  package static let insertedAtMost = 5

  /// The recommender: its last block is not the augmenter's.
  package var recommender: TransformerShape

  /// - Parameter blocks: those that recommender and augmenter share.
  package init(
    itemCount: Int, width: Int, heads: Int, blocks: Int, innerWidth: Int, maximumLength: Int,
    activation: Activation = .gelu, epsilon: Float = 1e-5
  ) {
    recommender = TransformerShape(
      itemCount: itemCount, width: width, heads: heads, blocks: blocks + 1,
      innerWidth: innerWidth, maximumLength: maximumLength, activation: activation,
      epsilon: epsilon)
  }

  package var itemCount: Int { recommender.itemCount }
  /// The token of a hidden event.
  package var hiddenToken: Int32 { Int32(itemCount) }
  /// The token that ends what is inserted.
  package var endToken: Int32 { Int32(itemCount + 1) }

  package var layout: ParameterLayout { Layout(self).table }
  package var maximumLength: Int { recommender.maximumLength }

  package func furtherOperations(length: Double) -> Double {
    // The altered histories pass through the network too, without a loss over the catalogue.
    let linear = layout.linears.reduce(0) { $0 + $1.inputs * $1.outputs }
    return recommender.furtherOperations(length: length) + 6 * Double(linear)
  }

  package func makePass(kernels: Kernels) -> any NetworkPass {
    TransformerPass(Layout(self).recommender, kernels: kernels)
  }

  struct Layout {
    var table: ParameterLayout
    var recommender: TransformerLayout
    var encoder: TransformerLayout
    var generator: TransformerLayout
    var operations: ParameterLayout.Linear

    init(_ network: LACLNetwork) {
      let shape = network.recommender
      let d = shape.width
      var table = ParameterLayout(itemCount: shape.itemCount, specialTokens: 2, width: d)
      let positions = table.add("pos.weight", [shape.maximumLength, d])
      let blocks = (0..<shape.blocks).map {
        TransformerLayout.addBlock("blocks.\($0)", width: d, inner: shape.innerWidth, to: &table)
      }
      let gamma = table.add("ln.weight", [d])
      let beta = table.add("ln.bias", [d])
      let augmenterGamma = table.add("augmenter.ln.weight", [d])
      let augmenterBeta = table.add("augmenter.ln.bias", [d])
      operations = table.addLinear(
        "augmenter.operation", inputs: d, outputs: Operation.allCases.count)
      let length = LACLNetwork.insertedAtMost
      let places = table.add("generator.pos.weight", [length, d])
      let block = TransformerLayout.addBlock(
        "generator.blocks.0", width: d, inner: shape.innerWidth, to: &table)
      let generatorGamma = table.add("generator.ln.weight", [d])
      let generatorBeta = table.add("generator.ln.bias", [d])
      self.table = table
      recommender = TransformerLayout(
        shape, in: table, positions: positions, blocks: blocks, finalGamma: gamma, finalBeta: beta)
      var encoding = shape
      encoding.blocks = shape.blocks - 1
      encoder = TransformerLayout(
        encoding, in: table, positions: positions, blocks: Array(blocks.dropLast()),
        finalGamma: augmenterGamma, finalBeta: augmenterBeta)
      var generating = shape
      generating.blocks = 1
      generating.maximumLength = length
      generator = TransformerLayout(
        generating, in: table, positions: places, blocks: [block], finalGamma: generatorGamma,
        finalBeta: generatorBeta)
    }
  }
}
