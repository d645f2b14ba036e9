import CKernels

extension Kernels {
  /// `y = scale · x / ‖x‖`, row by row.
  package func unitRows(
    rows m: Int, columns n: Int, scale: Float = 1, _ x: UnsafePointer<Float>,
    into y: UnsafeMutablePointer<Float>, inverse: UnsafeMutablePointer<Float>
  ) {
    table.pointee.unit_rows(m, n, scale, x, y, inverse)
  }

  /// The gradient of `unitRows`: `dx` is set, or added to where `accumulate`.
  package func unitRowsBackward(
    rows m: Int, columns n: Int, scale: Float = 1, _ dy: UnsafePointer<Float>,
    x: UnsafePointer<Float>, inverse: UnsafePointer<Float>, accumulate: Bool,
    dx: UnsafeMutablePointer<Float>
  ) {
    table.pointee.unit_rows_backward(m, n, scale, dy, x, inverse, accumulate ? 1 : 0, dx)
  }

  /// `out = x + σ(gate) · dropout(y)`, element by element; `out` may be `x`.
  package func gate(
    count: Int, _ x: UnsafePointer<Float>, gate: UnsafePointer<Float>, _ y: UnsafePointer<Float>,
    _ dropout: Dropout, into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.gate(count, x, gate, y, dropout.c, out)
  }

  /// The gradients of `gate` by the gate and by `y` (that by `x` is `dout` itself); `dy` may be
  /// `dout`.
  package func gateBackward(
    count: Int, _ dout: UnsafePointer<Float>, gate: UnsafePointer<Float>,
    y: UnsafePointer<Float>, _ dropout: Dropout, dgate: UnsafeMutablePointer<Float>,
    dy: UnsafeMutablePointer<Float>
  ) {
    table.pointee.gate_backward(count, dout, gate, y, dropout.c, dgate, dy)
  }

  /// `out = dropout(silu(a) · b)` with a and b side by side in rows of `2n` (Shazeer, *GLU Variants
  /// Improve Transformer*, 2020).
  package func swiglu(
    rows m: Int, columns n: Int, _ ab: UnsafePointer<Float>, _ dropout: Dropout,
    into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.swiglu(m, n, ab, dropout.c, out)
  }

  /// The gradient of `swiglu`.
  package func swigluBackward(
    rows m: Int, columns n: Int, _ dout: UnsafePointer<Float>, ab: UnsafePointer<Float>,
    _ dropout: Dropout, dab: UnsafeMutablePointer<Float>
  ) {
    table.pointee.swiglu_backward(m, n, dout, ab, dropout.c, dab)
  }

  /// One step of gated recurrent units (Cho et al., EMNLP 2014; the reset gate acts after the product
  /// with the state, as in cuDNN and PyTorch).
  ///
  /// - Parameters:
  ///   - x, h: products of the input and of the state before with their weights and biases, for
  ///     reset, update and candidate side by side, `[m, 3n]`.
  ///   - before: the state before, `[m, n]`.
  ///   - gates: gets reset, update and candidate, `[m, 3n]`.
  ///   - out: the state after, `[m, n]`.
  package func recur(
    rows m: Int, columns n: Int, x: UnsafePointer<Float>, h: UnsafePointer<Float>,
    before: UnsafePointer<Float>, gates: UnsafeMutablePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) {
    table.pointee.gru(m, n, x, h, before, gates, out)
  }

  /// The gradients of `recur`, all overwritten; `dbefore` holds only what goes by the update gate.
  package func recurBackward(
    rows m: Int, columns n: Int, _ dout: UnsafePointer<Float>, gates: UnsafePointer<Float>,
    h: UnsafePointer<Float>, before: UnsafePointer<Float>, dx: UnsafeMutablePointer<Float>,
    dh: UnsafeMutablePointer<Float>, dbefore: UnsafeMutablePointer<Float>
  ) {
    table.pointee.gru_backward(m, n, dout, gates, h, before, dx, dh, dbefore)
  }
}
