package import Kernels

/// The numbers that matrix products multiply. Sums, parameters and everything else are floats.
package enum Precision: String, Hashable, Sendable, CaseIterable {
  case float32
  /// Operands are rounded to bfloat16: 8 bits of significand, the range of a float.
  case bfloat16
}

/// The weights of a network as the matrix products read them: packed once for each version of
/// the parameters, shared by all threads.
package final class PackedWeights: @unchecked Sendable {
  // Unchecked: written by `update` only, while no pass runs; read by many after that.
  package let layout: ParameterLayout
  package let parameters: Buffer
  package let precision: Precision
  /// Whether the item table is packed too, which only a loss over the whole catalogue needs.
  package let includesItems: Bool
  private let kernels: Kernels
  /// Floats, or pairs of bfloat16 in the same 32 bits.
  private let packed: Buffer
  private var places: [Int] = []
  /// One over the length of each item's row, where hidden states are compared with unit rows.
  private let inverseLengths: Buffer
  /// The greatest Euclidean norm of an output vector.
  package private(set) var longestItem: Float = 0

  /// For each linear layer: forward and backward; then the output table both ways.
  private let plan: [(source: Int, stride: Int, transposed: Bool, columns: Int, depth: Int)]

  package init(
    _ layout: some NetworkLayout, parameters: Buffer, kernels: Kernels,
    precision: Precision = .float32, includingItems: Bool = true
  ) {
    precondition(parameters.count == layout.count, "parameters of another shape")
    let layout = layout.table
    self.layout = layout
    self.parameters = parameters
    self.kernels = kernels
    self.precision = precision
    includesItems = includingItems
    inverseLengths = Buffer(count: layout.output == .unit ? layout.itemCount : 0)
    var plan: [(source: Int, stride: Int, transposed: Bool, columns: Int, depth: Int)] = []
    for layer in layout.linears {
      plan.append((layer.weight, layer.inputs, true, layer.outputs, layer.inputs))
      plan.append((layer.weight, layer.inputs, false, layer.inputs, layer.outputs))
    }
    if includingItems {
      let (d, n) = (layout.width, layout.itemCount)
      plan.append((layout.outputs, d, true, n, d))
      plan.append((layout.outputs, d, false, d, n))
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
    if layout.output == .unit {
      kernels.unitRows(
        rows: layout.itemCount, columns: layout.width, parameters.pointer + layout.items,
        into: parameters.pointer + layout.outputs, inverse: inverseLengths.pointer)
    }
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
    let d = layout.width
    var longest: Float = 0
    for i in 0..<layout.itemCount {
      let row = parameters.pointer + layout.outputs + i * d
      longest = max(longest, kernels.dot(row, row, count: d))
    }
    longestItem = longest.squareRoot()
  }

  /// Moves gradients from the computed output rows to the item rows that they were computed from, and
  /// clears them there; does nothing where the output table has parameters.
  ///
  /// - Parameter rows: the rows that have a gradient; nil for all.
  package func foldOutputGradients(_ gradients: Buffer, rows: [Int32]? = nil) {
    guard layout.output == .unit else { return }
    let d = layout.width
    let from = gradients.pointer + layout.outputs
    let to = gradients.pointer + layout.items
    let items = parameters.pointer + layout.items
    func fold(_ start: Int, _ count: Int) {
      kernels.unitRowsBackward(
        rows: count, columns: d, from + start * d, x: items + start * d,
        inverse: inverseLengths.pointer + start, accumulate: true, dx: to + start * d)
      (from + start * d).update(repeating: 0, count: count * d)
    }
    if let rows {
      for row in rows where row < layout.itemCount { fold(Int(row), 1) }
    } else {
      fold(0, layout.itemCount)
    }
  }

  enum Direction: Int { case forward = 0, backward }

  /// A linear layer's weight as the right operand of `x · Wᵀ` (forward) or `dy · W` (backward).
  func packed(
    _ layer: ParameterLayout.Linear, _ direction: Direction
  ) -> UnsafeMutablePointer<Float> {
    packed.pointer + places[layer.index * 2 + direction.rawValue]
  }
  /// The output table as `[d, N]`, for scores.
  package var itemsForScores: UnsafeMutablePointer<Float> {
    precondition(includesItems, "the item table was not packed")
    return packed.pointer + places[layout.linears.count * 2]
  }
  /// The output table as `[N, d]`, for gradients of hidden states.
  var itemsForGradients: UnsafeMutablePointer<Float> {
    precondition(includesItems, "the item table was not packed")
    return packed.pointer + places[layout.linears.count * 2 + 1]
  }
  /// What hidden states are compared with, `[N, d]`.
  package var outputs: UnsafePointer<Float> { parameter(layout.outputs) }

  /// The bias of a layer that has one.
  func bias(_ layer: ParameterLayout.Linear) -> UnsafePointer<Float> {
    guard let bias = layer.bias else { preconditionFailure("a layer without a bias") }
    return parameter(bias)
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
