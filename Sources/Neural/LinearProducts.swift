import Kernels

/// Products of linear layers in the precision of their packed weights, with the room that they need.
struct LinearProducts {
  private let kernels: Kernels
  private let scratch: UnsafeMutablePointer<Float>
  /// Room for a product's left operand in bfloat16, and for a right one.
  private let left: UnsafeMutablePointer<Float>
  private let right: UnsafeMutablePointer<Float>

  /// Floats of an arena that `init` takes, in three pieces.
  static func count(rows: Int, widest: Int, scratch: Int) -> Int {
    scratch + 2 * roundedCount(rows, widest)
  }

  /// Pairs that the widest operand of a product takes, with room for packing.
  private static func roundedCount(_ rows: Int, _ widest: Int) -> Int {
    (rows + 2) * (widest + 64) / 2
  }

  /// - Parameter scratch: floats of scratch, those of `multiplyScratch(depth: 4096)` or more.
  init(rows: Int, widest: Int, scratch: Int, from arena: Arena, _ kernels: Kernels) {
    self.kernels = kernels
    self.scratch = arena.take(scratch)
    left = arena.take(Self.roundedCount(rows, widest))
    right = arena.take(Self.roundedCount(rows, widest))
  }

  /// `out = x · Wᵀ`, with the layer's bias and an epilogue where they are given.
  func apply(
    _ layer: ParameterLayout.Linear, to x: UnsafePointer<Float>, rows: Int,
    _ weights: PackedWeights, _ epilogue: Epilogue? = nil, into out: UnsafeMutablePointer<Float>
  ) {
    multiply(
      x, rows: rows, inputs: layer.inputs, outputs: layer.outputs, weights,
      weights.packed(layer, .forward),
      epilogue ?? layer.bias.map { .bias(weights.parameter($0)) }, into: out)
  }

  /// Columns of `out = x · Wᵀ + bias`, into rows of `stride` floats.
  ///
  /// - Parameter columns: begin where `canMultiply(from:)`.
  func apply(
    _ layer: ParameterLayout.Linear, columns: Range<Int>, to x: UnsafePointer<Float>, rows: Int,
    _ weights: PackedWeights, into out: UnsafeMutablePointer<Float>, stride: Int
  ) {
    let packed = weights.packed(layer, .forward)
    let epilogue = Epilogue.bias(weights.bias(layer) + columns.lowerBound)
    switch weights.precision {
    case .float32:
      kernels.multiplyPacked(
        rows: rows, from: columns.lowerBound, columns: columns.count, depth: layer.inputs, x,
        rowStride: layer.inputs, packed, epilogue, into: out, stride: stride)
    case .bfloat16:
      let count = (layer.inputs + 1) / 2
      let left = pairs(left)
      kernels.roundRows(
        rows: rows, columns: layer.inputs, x, xStride: layer.inputs, into: left, stride: count)
      kernels.multiplyPairs(
        rows: rows, from: columns.lowerBound, columns: columns.count, pairs: count, left,
        rowStride: count, pairs(packed), epilogue, into: out, stride: stride)
    }
  }

  /// `dx = dy · W`
  func applyBackward(
    _ layer: ParameterLayout.Linear, to dy: UnsafePointer<Float>, rows: Int,
    _ weights: PackedWeights, into dx: UnsafeMutablePointer<Float>
  ) {
    multiply(
      dy, rows: rows, inputs: layer.outputs, outputs: layer.inputs, weights,
      weights.packed(layer, .backward), nil, into: dx)
  }

  private func multiply(
    _ x: UnsafePointer<Float>, rows: Int, inputs: Int, outputs: Int, _ weights: PackedWeights,
    _ right: UnsafeMutablePointer<Float>, _ epilogue: Epilogue?,
    into out: UnsafeMutablePointer<Float>
  ) {
    switch weights.precision {
    case .float32:
      if let epilogue {
        return kernels.multiplyPacked(
          rows: rows, columns: outputs, depth: inputs, x, rowStride: inputs, right, epilogue,
          into: out)
      }
      kernels.multiplyPacked(
        rows: rows, columns: outputs, depth: inputs, x, rowStride: inputs, right, into: out,
        stride: outputs)
    case .bfloat16:
      let count = (inputs + 1) / 2
      let left = pairs(left)
      kernels.roundRows(
        rows: rows, columns: inputs, x, xStride: inputs, into: left, stride: count)
      if let epilogue {
        return kernels.multiplyPairs(
          rows: rows, columns: outputs, pairs: count, left, rowStride: count, pairs(right),
          epilogue, into: out)
      }
      kernels.multiplyPairs(
        rows: rows, columns: outputs, pairs: count, left, rowStride: count, pairs(right), into: out,
        stride: outputs)
    }
  }

  /// dW `[outputs, inputs]` += dyᵀ · x, and db += the column sums of dy.
  func addGradients(
    of layer: ParameterLayout.Linear, rows: Int, x: UnsafePointer<Float>,
    dy: UnsafePointer<Float>, _ weights: PackedWeights, into g: UnsafeMutablePointer<Float>
  ) {
    let (inputs, outputs) = (layer.inputs, layer.outputs)
    switch weights.precision {
    case .float32:
      kernels.multiply(
        rows: outputs, columns: inputs, depth: rows, dy, rowStride: 1, columnStride: outputs, x,
        bStride: inputs, accumulate: true, into: g + layer.weight, stride: inputs,
        scratch: scratch)
    case .bfloat16:
      let left = pairs(left)
      let right = pairs(right)
      kernels.roundRowPairs(
        rows: rows, columns: outputs, dy, xStride: outputs, into: left, stride: outputs)
      kernels.packPairs(
        x, stride: inputs, transposed: false, columns: inputs, depth: rows, into: right)
      kernels.multiplyPairs(
        rows: outputs, columns: inputs, pairs: (rows + 1) / 2, left, rowStride: 1,
        columnStride: outputs, right, accumulate: true, into: g + layer.weight, stride: inputs)
    }
    if let bias = layer.bias {
      kernels.addColumnSums(rows: rows, columns: outputs, dy, to: g + bias)
    }
  }
}
