/// `Kernels` gives Swift names to the C functions of `CKernels`.
///
/// Buffers come in as pointers with stated shapes, results go out through pointers; nothing here
/// allocates, keeps state or knows of items and users. Matrices are row-major.
import CKernels

/// One version of the kernels, picked by what the processor can do.
package struct Kernels: Sendable {
  // Unchecked: a table of constant function pointers in the binary's read-only data.
  nonisolated(unsafe) let table: UnsafePointer<rk_table>

  private init(_ table: UnsafePointer<rk_table>) { self.table = table }

  /// The version of that name (`reference`, `portable`, `avx2`, `avx512`, `avx512bf16`), or nil where this
  /// processor or build cannot run it.
  package init?(named name: String) {
    guard let table = rk_select(name) else { return nil }
    self.init(table)
  }

  /// The names of all versions that can run here, slowest first.
  package static var available: [String] {
    ["reference", "portable", "avx2", "avx512", "avx512bf16"].filter { Kernels(named: $0) != nil }
  }

  /// The version for an environment: the one that `RIFFLE_KERNELS` names, else the fastest.
  ///
  /// - Returns: nil where the variable names a version that cannot run here.
  package init?(environment: [String: String]) {
    if let name = environment["RIFFLE_KERNELS"], !name.isEmpty {
      self.init(named: name)
    } else {
      guard let fastest = rk_select(nil) else { return nil }
      self.init(fastest)
    }
  }

  package var name: String { String(cString: table.pointee.name) }
}

/// How an activation bends.
package enum Activation: String, Hashable, Sendable, CaseIterable {
  /// `max(x, 0)`
  case relu
  /// `x · Φ(x)` with the exact normal distribution function.
  case gelu
  /// `x · σ(x)`
  case silu

  var code: Int32 {
    switch self {
    case .relu: Int32(rk_relu)
    case .gelu: Int32(rk_gelu)
    case .silu: Int32(rk_silu)
    }
  }
}

/// What happens to a product before it leaves the registers. Every part is laid out as the result;
/// dropout counts its elements along the result's rows.
package struct Epilogue {
  var c: rk_epilogue

  /// `x + bias`
  package static func bias(_ bias: UnsafePointer<Float>) -> Epilogue {
    Epilogue(
      c: rk_epilogue(
        kind: Int32(rk_add_bias), activation: 0, bias: bias, residual: nil, slopes: nil,
        dropout: Dropout.none.c, columns: 0))
  }

  /// `residual + dropout(x + bias)`; the residual may be the result's own memory.
  package static func residual(
    _ residual: UnsafePointer<Float>, bias: UnsafePointer<Float>, _ dropout: Dropout
  ) -> Epilogue {
    Epilogue(
      c: rk_epilogue(
        kind: Int32(rk_bias_dropout_add), activation: 0, bias: bias, residual: residual,
        slopes: nil, dropout: dropout.c, columns: 0))
  }

  /// `dropout(activation(x + bias))`.
  ///
  /// - Parameter slopes: gets the derivative of the result by `x`, dropout included, so that the
  ///   backward pass is one product; nil where none follows.
  package static func activation(
    _ activation: Activation, bias: UnsafePointer<Float>, _ dropout: Dropout,
    slopes: UnsafeMutablePointer<Float>?
  ) -> Epilogue {
    Epilogue(
      c: rk_epilogue(
        kind: Int32(rk_bias_activation), activation: activation.code, bias: bias, residual: nil,
        slopes: slopes, dropout: dropout.c, columns: 0))
  }
}

/// Which elements of a buffer dropout keeps: a function of seed and index alone, so that the
/// backward pass makes the same mask again and no mask is stored.
package struct Dropout: Sendable {
  package var seed: UInt32
  /// In `0..<1`.
  package var probability: Float

  package init(probability: Float, seed: UInt32) {
    precondition(probability >= 0 && probability < 1, "dropout of \(probability)")
    self.probability = probability
    self.seed = seed
  }

  /// Keeps everything.
  package static let none = Dropout(probability: 0, seed: 0)

  var c: rk_dropout {
    rk_dropout(
      seed: seed, threshold: UInt32(probability * 16_777_216), scale: 1 / (1 - probability))
  }
}

// MARK: - Matrix products

extension Kernels {
  /// Floats that a packed `k × n` matrix takes.
  package func packedCount(columns n: Int, depth k: Int) -> Int {
    table.pointee.packed_floats(n, k)
  }

  /// Packs B (`k × n`, or `n × k` where `transposed`) into column panels for `multiplyPacked`.
  package func pack(
    _ b: UnsafePointer<Float>, stride: Int, transposed: Bool, columns n: Int, depth k: Int,
    into packed: UnsafeMutablePointer<Float>
  ) {
    table.pointee.pack(transposed ? 1 : 0, n, k, b, stride, packed)
  }

  /// C (`m × n`) `= alpha · A · B`, or `+=` where `accumulate`, with B packed before.
  ///
  /// Element `(i, p)` of A stands at `a[i * rowStride + p * columnStride]`, so a transposed A needs
  /// no copy.
  package func multiplyPacked(
    rows m: Int, columns n: Int, depth k: Int, alpha: Float = 1, _ a: UnsafePointer<Float>,
    rowStride: Int, columnStride: Int = 1, _ packed: UnsafePointer<Float>,
    accumulate: Bool = false, into c: UnsafeMutablePointer<Float>, stride: Int
  ) {
    table.pointee.gemm_packed(
      m, n, k, alpha, a, rowStride, columnStride, packed, accumulate ? 1 : 0, c, stride)
  }

  /// C (`m × n`, rows of `n`) `= epilogue(A · B)` with A by rows and B packed.
  package func multiplyPacked(
    rows m: Int, columns n: Int, depth k: Int, _ a: UnsafePointer<Float>, rowStride: Int,
    _ packed: UnsafePointer<Float>, _ epilogue: Epilogue, into c: UnsafeMutablePointer<Float>
  ) {
    var epilogue = epilogue.c
    epilogue.columns = n
    table.pointee.gemm_epilogue(m, n, k, a, rowStride, packed, &epilogue, c, n)
  }

  /// The same for the columns from `first` on: `columns` of them, into rows of `stride` floats.
  ///
  /// - Parameters:
  ///   - packed: all columns of B; `first` must be one at which `canMultiply(from:)`.
  ///   - epilogue: of the columns from `first` on; its arrays have rows of `stride` too.
  package func multiplyPacked(
    rows m: Int, from first: Int, columns n: Int, depth k: Int, _ a: UnsafePointer<Float>,
    rowStride: Int, _ packed: UnsafePointer<Float>, _ epilogue: Epilogue,
    into c: UnsafeMutablePointer<Float>, stride: Int
  ) {
    precondition(canMultiply(from: first), "column \(first) begins no panel")
    var epilogue = epilogue.c
    epilogue.columns = n
    table.pointee.gemm_epilogue(m, n, k, a, rowStride, packed + first * k, &epilogue, c, stride)
  }

  /// Whether a product can begin at this column of a packed matrix.
  package func canMultiply(from column: Int) -> Bool {
    table.pointee.panel_columns > 0 && column % table.pointee.panel_columns == 0
  }

  /// Floats of scratch that `multiply` needs for a depth of `k`.
  package func multiplyScratch(depth k: Int) -> Int { table.pointee.gemm_scratch(k) }

  /// C (`m × n`) `= alpha · A · B`, or `+=` where `accumulate`, with B (`k × n`) read in place.
  package func multiply(
    rows m: Int, columns n: Int, depth k: Int, alpha: Float = 1, _ a: UnsafePointer<Float>,
    rowStride: Int, columnStride: Int = 1, _ b: UnsafePointer<Float>, bStride: Int,
    accumulate: Bool = false, into c: UnsafeMutablePointer<Float>, stride: Int,
    scratch: UnsafeMutablePointer<Float>
  ) {
    table.pointee.gemm(
      m, n, k, alpha, a, rowStride, columnStride, b, bStride, accumulate ? 1 : 0, c, stride,
      scratch)
  }

  /// C (`m × n`) `= exp(A · B)` with each row's sum, in one pass.
  ///
  /// Nothing is subtracted first, so the caller must know that every product lies within ±60.
  package func multiplyExp(
    rows m: Int, columns n: Int, depth k: Int, _ a: UnsafePointer<Float>, rowStride: Int,
    _ packed: UnsafePointer<Float>, into c: UnsafeMutablePointer<Float>, stride: Int,
    rowSums: UnsafeMutablePointer<Float>
  ) {
    table.pointee.gemm_exp(m, n, k, a, rowStride, packed, c, stride, rowSums)
  }
}

// MARK: - Matrix products of bfloat16

/// Two bfloat16 numbers, neighbours along the dimension that a product adds over; the even one in the
/// lower half. A bfloat16 is the upper half of a float, rounded to nearest even.
package typealias BFloat16Pair = UInt32

extension Kernels {
  /// Whether the processor multiplies bfloat16 pairs itself. Elsewhere the same is computed with
  /// floats, no faster than in single precision.
  package var hasNativeBFloat16: Bool { table.pointee.native_bf16 != 0 }

  /// `out[i * stride + p / 2]` gets elements `p` and `p + 1` of row `i` of x (`m × k`).
  package func roundRows(
    rows m: Int, columns k: Int, _ x: UnsafePointer<Float>, xStride: Int,
    into out: UnsafeMutablePointer<BFloat16Pair>, stride: Int
  ) {
    table.pointee.bf16_rows(m, k, x, xStride, out, stride)
  }

  /// `out[p / 2 * stride + j]` gets elements `j` of rows `p` and `p + 1` of x (`k × n`).
  package func roundRowPairs(
    rows k: Int, columns n: Int, _ x: UnsafePointer<Float>, xStride: Int,
    into out: UnsafeMutablePointer<BFloat16Pair>, stride: Int
  ) {
    table.pointee.bf16_row_pairs(k, n, x, xStride, out, stride)
  }

  /// Pairs that a packed `k × n` matrix takes.
  package func packedPairCount(columns n: Int, depth k: Int) -> Int {
    table.pointee.bf16_packed(n, k)
  }

  /// Rounds and packs B (`k × n`, or `n × k` where `transposed`).
  package func packPairs(
    _ b: UnsafePointer<Float>, stride: Int, transposed: Bool, columns n: Int, depth k: Int,
    into packed: UnsafeMutablePointer<BFloat16Pair>
  ) {
    table.pointee.bf16_pack(transposed ? 1 : 0, n, k, b, stride, packed)
  }

  /// C (`m × n`) `= alpha · A · B`, or `+=`, in bfloat16 with sums in float.
  ///
  /// Pair `(i, p)` of A stands at `a[i * rowStride + p * columnStride]`; one of the strides is 1.
  package func multiplyPairs(
    rows m: Int, columns n: Int, pairs: Int, alpha: Float = 1, _ a: UnsafePointer<BFloat16Pair>,
    rowStride: Int, columnStride: Int = 1, _ packed: UnsafePointer<BFloat16Pair>,
    accumulate: Bool = false, into c: UnsafeMutablePointer<Float>, stride: Int
  ) {
    table.pointee.bf16_gemm(
      m, n, pairs, alpha, a, rowStride, columnStride, packed, accumulate ? 1 : 0, c, stride)
  }

  /// C (`m × n`, rows of `n`) `= epilogue(A · B)` in bfloat16, A by rows.
  package func multiplyPairs(
    rows m: Int, columns n: Int, pairs: Int, _ a: UnsafePointer<BFloat16Pair>, rowStride: Int,
    _ packed: UnsafePointer<BFloat16Pair>, _ epilogue: Epilogue,
    into c: UnsafeMutablePointer<Float>
  ) {
    var epilogue = epilogue.c
    epilogue.columns = n
    table.pointee.bf16_gemm_epilogue(m, n, pairs, a, rowStride, packed, &epilogue, c, n)
  }

  /// The same for the columns from `first` on: `columns` of them, into rows of `stride` floats.
  ///
  /// - Parameters:
  ///   - packed: all columns of B; `first` must be one at which `canMultiply(from:)`.
  ///   - epilogue: of the columns from `first` on; its arrays have rows of `stride` too.
  package func multiplyPairs(
    rows m: Int, from first: Int, columns n: Int, pairs: Int, _ a: UnsafePointer<BFloat16Pair>,
    rowStride: Int, _ packed: UnsafePointer<BFloat16Pair>, _ epilogue: Epilogue,
    into c: UnsafeMutablePointer<Float>, stride: Int
  ) {
    precondition(canMultiply(from: first), "column \(first) begins no panel")
    var epilogue = epilogue.c
    epilogue.columns = n
    table.pointee.bf16_gemm_epilogue(
      m, n, pairs, a, rowStride, packed + first * pairs, &epilogue, c, stride)
  }

  /// `exp(A · B)` in bfloat16, by rows and by pairs of rows, with each row's sum before rounding.
  ///
  /// Every product must lie within ±60.
  package func multiplyPairsExp(
    rows m: Int, columns n: Int, pairs: Int, _ a: UnsafePointer<BFloat16Pair>, rowStride: Int,
    _ packed: UnsafePointer<BFloat16Pair>, intoRows: UnsafeMutablePointer<BFloat16Pair>,
    stride: Int, intoRowPairs: UnsafeMutablePointer<BFloat16Pair>, pairStride: Int,
    rowSums: UnsafeMutablePointer<Float>
  ) {
    table.pointee.bf16_gemm_exp(
      m, n, pairs, a, rowStride, packed, intoRows, stride, intoRowPairs, pairStride, rowSums)
  }
}

// MARK: - Rows

extension Kernels {
  /// `c[i][j] = exp(c[i][j] − max of row i)` in place, with each row's maximum and sum.
  package func expRows(
    rows m: Int, columns n: Int, _ c: UnsafeMutablePointer<Float>, stride: Int,
    rowMax: UnsafeMutablePointer<Float>, rowSums: UnsafeMutablePointer<Float>
  ) {
    table.pointee.exp_rows(m, n, c, stride, rowMax, rowSums)
  }

  /// `c[i][j] = σ(c[i][j])` in place, with each row's sum of `log(1 + exp(c[i][j]))` of before.
  package func logisticRows(
    rows m: Int, columns n: Int, _ c: UnsafeMutablePointer<Float>, stride: Int,
    rowLosses: UnsafeMutablePointer<Float>
  ) {
    table.pointee.logistic_rows(m, n, c, stride, rowLosses)
  }

  /// The number of elements that are at least the threshold.
  package func count(
    _ row: UnsafePointer<Float>, count n: Int, atLeast threshold: Float
  ) -> Int {
    table.pointee.count_at_least(row, n, threshold)
  }

  package func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count n: Int) -> Float {
    table.pointee.dot(a, b, n)
  }

  /// `y += alpha · x`
  package func add(
    _ alpha: Float, times x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, count n: Int
  ) {
    table.pointee.axpy(n, alpha, x, y)
  }

  /// `y += Vᵀ (a + c ⊙ V x)`: the rows of `v` (`[m, n]`), each weighted by what is given and by its
  /// product with `x`.
  ///
  /// - Parameters:
  ///   - a: the weights that are given, `[m]`; nil for zeros.
  ///   - c: factors of the products with `x`, `[m]`; nil for zeros.
  ///   - x: `[n]`; may be nil where `c` is.
  package func addWeightedRows(
    rows m: Int, columns n: Int, _ v: UnsafePointer<Float>, weights a: UnsafePointer<Float>? = nil,
    factors c: UnsafePointer<Float>? = nil, of x: UnsafePointer<Float>? = nil,
    to y: UnsafeMutablePointer<Float>
  ) {
    precondition(c == nil || x != nil, "factors of products with nothing")
    table.pointee.add_weighted_rows(m, n, v, a, c, x, y)
  }

  /// `y += share · (x − y)`
  package func blend(
    count n: Int, _ share: Float, of x: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>
  ) {
    table.pointee.blend(n, share, x, y)
  }

  /// Row `i` of `out` is `factors[i]` times row `i` of `x`.
  package func scaleRows(
    rows m: Int, columns n: Int, by factors: UnsafePointer<Float>, _ x: UnsafePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.scale_rows(m, n, factors, x, out)
  }

  /// `sums[j] +=` the sum of column `j`.
  package func addColumnSums(
    rows m: Int, columns n: Int, _ x: UnsafePointer<Float>, to sums: UnsafeMutablePointer<Float>
  ) {
    table.pointee.column_sums(m, n, x, sums)
  }

  /// The sum of squares, added up in double precision.
  package func sumOfSquares(_ x: UnsafePointer<Float>, count n: Int) -> Double {
    table.pointee.sum_of_squares(n, x)
  }
}

// MARK: - Layers

extension Kernels {
  /// `y = gamma · (x − mean) / sqrt(variance + epsilon) + beta`, row by row.
  package func layerNorm(
    rows m: Int, columns n: Int, epsilon: Float, _ x: UnsafePointer<Float>,
    gamma: UnsafePointer<Float>, beta: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    mean: UnsafeMutablePointer<Float>, inverseDeviation: UnsafeMutablePointer<Float>
  ) {
    table.pointee.layer_norm(m, n, epsilon, x, gamma, beta, y, mean, inverseDeviation)
  }

  /// Gradients of `layerNorm`: `dx` is set, or added to where `accumulate`; `dgamma` and `dbeta` are
  /// added to.
  package func layerNormBackward(
    rows m: Int, columns n: Int, _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>,
    gamma: UnsafePointer<Float>, mean: UnsafePointer<Float>,
    inverseDeviation: UnsafePointer<Float>, accumulate: Bool, dx: UnsafeMutablePointer<Float>,
    dgamma: UnsafeMutablePointer<Float>, dbeta: UnsafeMutablePointer<Float>
  ) {
    table.pointee.layer_norm_backward(
      m, n, dy, x, gamma, mean, inverseDeviation, accumulate ? 1 : 0, dx, dgamma, dbeta)
  }

  /// `y = gamma · x / sqrt(mean of x² + epsilon)`, row by row (Zhang & Sennrich, *Root Mean Square
  /// Layer Normalization*, 2019).
  package func rmsNorm(
    rows m: Int, columns n: Int, epsilon: Float, _ x: UnsafePointer<Float>,
    gamma: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    inverse: UnsafeMutablePointer<Float>
  ) {
    table.pointee.rms_norm(m, n, epsilon, x, gamma, y, inverse)
  }

  /// Gradients of `rmsNorm`: `dx` is set, or added to where `accumulate`; `dgamma` is added to.
  package func rmsNormBackward(
    rows m: Int, columns n: Int, _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>,
    gamma: UnsafePointer<Float>, inverse: UnsafePointer<Float>, accumulate: Bool,
    dx: UnsafeMutablePointer<Float>, dgamma: UnsafeMutablePointer<Float>
  ) {
    table.pointee.rms_norm_backward(
      m, n, dy, x, gamma, inverse, accumulate ? 1 : 0, dx, dgamma)
  }

  /// `out = a · b`, element by element; `out` may be either.
  package func multiply(
    count: Int, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.multiply(count, a, b, out)
  }

  /// `out = dropout(x)`; `out` may be `x`.
  package func apply(
    _ dropout: Dropout, to x: UnsafePointer<Float>, count: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.apply_dropout(count, x, dropout.c, out)
  }

  /// `out[t] = dropout(items[tokens[t]] + positions[places[t]])`
  package func embed(
    count: Int, columns n: Int, tokens: UnsafePointer<Int32>, places: UnsafePointer<Int32>,
    items: UnsafePointer<Float>, positions: UnsafePointer<Float>, _ dropout: Dropout,
    into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.embed(count, n, tokens, places, items, positions, dropout.c, out)
  }

  /// Adds the gradients of `embed` to the two tables.
  package func embedBackward(
    count: Int, columns n: Int, tokens: UnsafePointer<Int32>, places: UnsafePointer<Int32>,
    _ d: UnsafePointer<Float>, _ dropout: Dropout, ditems: UnsafeMutablePointer<Float>,
    dpositions: UnsafeMutablePointer<Float>
  ) {
    table.pointee.embed_backward(count, n, tokens, places, d, dropout.c, ditems, dpositions)
  }
}

extension Kernels {
  /// Runs independent multiply-adds in registers and returns the floating-point operations done: the
  /// measure of a core's peak.
  package func probe(rounds: Int) -> Double { table.pointee.probe(rounds) }
}

// MARK: - Optimiser

/// The constants of one AdamW step.
package struct AdamStep: Sendable {
  package var rate: Float
  package var beta1: Float
  package var beta2: Float
  package var epsilon: Float
  /// Decoupled: multiplied by the rate and the parameter itself.
  package var weightDecay: Float
  /// Multiplied into every gradient first (clipping).
  package var gradientScale: Float
  /// From 1.
  package var number: Int

  package init(
    rate: Float, beta1: Float = 0.9, beta2: Float = 0.98, epsilon: Float = 1e-8,
    weightDecay: Float = 0, gradientScale: Float = 1, number: Int
  ) {
    self.rate = rate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.gradientScale = gradientScale
    self.number = number
  }
}

extension Kernels {
  /// One step of AdamW (Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, 2019, with the
  /// bias correction of Kingma & Ba 2015) over `count` parameters.
  package func adam(
    count: Int, _ parameters: UnsafeMutablePointer<Float>, gradients: UnsafePointer<Float>,
    first: UnsafeMutablePointer<Float>, second: UnsafeMutablePointer<Float>, _ step: AdamStep,
    correction1: Float, correction2: Float
  ) {
    table.pointee.adam(
      count, parameters, gradients, first, second, step.gradientScale, step.rate, step.beta1,
      step.beta2, step.epsilon, step.weightDecay, correction1, correction2)
  }
}
