package import Kernels

/// The numbers that matrix products multiply. Sums, parameters and everything else are floats.
package enum Precision: String, Hashable, Sendable, CaseIterable {
  case float32
  /// Operands are rounded to bfloat16: 8 bits of significand, the range of a float.
  case bfloat16
}

/// The weights of a transformer as the matrix products read them: packed once for each version of
/// the parameters, shared by all threads.
package final class PackedWeights: @unchecked Sendable {
  // Unchecked: written by `update` only, while no pass runs; read by many after that.
  let shape: TransformerShape
  let layout: TransformerLayout
  package let parameters: Buffer
  package let precision: Precision
  /// Whether the item table is packed too, which only a loss over the whole catalogue needs.
  package let includesItems: Bool
  private let kernels: Kernels
  /// Floats, or pairs of bfloat16 in the same 32 bits.
  private let packed: Buffer
  private var places: [Int] = []
  /// The greatest Euclidean norm of an item vector.
  package private(set) var longestItem: Float = 0

  /// For each block: forward and backward of qkv, out, up, down; then the item table both ways.
  private let plan: [(source: Int, stride: Int, transposed: Bool, columns: Int, depth: Int)]

  package init(
    _ layout: TransformerLayout, parameters: Buffer, kernels: Kernels,
    precision: Precision = .float32, includingItems: Bool = true
  ) {
    precondition(parameters.count == layout.count, "parameters of another shape")
    self.shape = layout.shape
    self.layout = layout
    self.parameters = parameters
    self.kernels = kernels
    self.precision = precision
    includesItems = includingItems
    let d = shape.width
    let f = shape.innerWidth
    var plan: [(source: Int, stride: Int, transposed: Bool, columns: Int, depth: Int)] = []
    func linear(_ weight: Int, inputs: Int, outputs: Int) {
      plan.append((weight, inputs, true, outputs, inputs))
      plan.append((weight, inputs, false, inputs, outputs))
    }
    for block in layout.blocks {
      linear(block.qkvWeight, inputs: d, outputs: 3 * d)
      linear(block.outWeight, inputs: d, outputs: d)
      linear(block.upWeight, inputs: d, outputs: f)
      linear(block.downWeight, inputs: f, outputs: d)
    }
    if includingItems {
      plan.append((layout.items, d, true, shape.itemCount, d))
      plan.append((layout.items, d, false, d, shape.itemCount))
    }
    self.plan = plan
    var total = 0
    for entry in plan {
      places.append(total)
      let count =
        precision == .float32
        ? kernels.packedCount(columns: entry.columns, depth: entry.depth)
        : kernels.packedPairCount(columns: entry.columns, depth: entry.depth)
      total += (count + 15) / 16 * 16
    }
    packed = Buffer(count: total)
    update()
  }

  /// Packs the parameters again after they changed. No pass may be running.
  package func update() {
    for i in plan.indices { pack(i) }
    if includesItems { measureItems() }
  }

  private func pack(_ i: Int) {
    let entry = plan[i]
    switch precision {
    case .float32:
      kernels.pack(
        parameters.pointer + entry.source, stride: entry.stride, transposed: entry.transposed,
        columns: entry.columns, depth: entry.depth, into: packed.pointer + places[i])
    case .bfloat16:
      kernels.packPairs(
        parameters.pointer + entry.source, stride: entry.stride, transposed: entry.transposed,
        columns: entry.columns, depth: entry.depth, into: pairs(packed.pointer + places[i]))
    }
  }

  private func measureItems() {
    let d = shape.width
    var longest: Float = 0
    for i in 0..<shape.itemCount {
      let row = parameters.pointer + layout.items + i * d
      longest = max(longest, kernels.dot(row, row, count: d))
    }
    longestItem = longest.squareRoot()
  }

  enum Layer: Int { case qkv = 0, out, up, down }
  enum Direction: Int { case forward = 0, backward }

  /// A linear layer's weight as the right operand of `x · Wᵀ` (forward) or `dy · W` (backward).
  func layer(
    _ layer: Layer, block: Int, _ direction: Direction
  ) -> UnsafeMutablePointer<Float> {
    packed.pointer + places[block * 8 + layer.rawValue * 2 + direction.rawValue]
  }
  /// The item table as `[d, N]`, for scores.
  package var itemsForScores: UnsafeMutablePointer<Float> {
    precondition(includesItems, "the item table was not packed")
    return packed.pointer + places[shape.blocks * 8]
  }
  /// The item table as `[N, d]`, for gradients of hidden states.
  var itemsForGradients: UnsafeMutablePointer<Float> {
    precondition(includesItems, "the item table was not packed")
    return packed.pointer + places[shape.blocks * 8 + 1]
  }

  /// A parameter's place in memory.
  func parameter(_ offset: Int) -> UnsafePointer<Float> {
    UnsafePointer(parameters.pointer + offset)
  }
}

/// The same memory as pairs of bfloat16.
func pairs(_ floats: UnsafeMutablePointer<Float>) -> UnsafeMutablePointer<BFloat16Pair> {
  UnsafeMutableRawPointer(floats).assumingMemoryBound(to: BFloat16Pair.self)
}
