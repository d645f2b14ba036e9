import CKernels

extension Kernels {
  /// Floats of scratch for sequences of up to `longest` rows, heads of `width`.
  package func attentionScratch(headWidth width: Int, longest: Int) -> Int {
    table.pointee.attention_scratch(Int32(width), Int32(longest))
  }

  /// Multi-head attention inside each sequence, without the score matrix in memory.
  ///
  /// - Parameters:
  ///   - qkv: `[T, 3 · heads · width]`, queries, keys and values side by side.
  ///   - causal: whether a row sees the rows up to itself only, instead of its whole sequence.
  ///   - offsets: sequence `s` is rows `offsets[s]..<offsets[s + 1]`.
  ///   - out: `[T, heads · width]`.
  ///   - logSumExp: `[T, heads]`, kept for the backward pass.
  package func attention(
    _ qkv: UnsafePointer<Float>, heads: Int, headWidth: Int, causal: Bool = true,
    offsets: UnsafePointer<Int32>, sequences: Int, into out: UnsafeMutablePointer<Float>,
    logSumExp: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    table.pointee.attention(
      qkv, Int32(heads), Int32(headWidth), causal ? 1 : 0, offsets, Int32(sequences), out,
      logSumExp, scratch)
  }

  /// The gradient of `attention`; `dqkv` is overwritten. Probabilities are computed again from
  /// `logSumExp` (Dao et al., *FlashAttention*, 2022, §3.1).
  package func attentionBackward(
    _ qkv: UnsafePointer<Float>, out: UnsafePointer<Float>, dout: UnsafePointer<Float>,
    logSumExp: UnsafePointer<Float>, heads: Int, headWidth: Int, causal: Bool = true,
    offsets: UnsafePointer<Int32>, sequences: Int, dqkv: UnsafeMutablePointer<Float>,
    scratch: UnsafeMutablePointer<Float>
  ) {
    table.pointee.attention_backward(
      qkv, out, dout, logSumExp, Int32(heads), Int32(headWidth), causal ? 1 : 0, offsets,
      Int32(sequences), dqkv, scratch)
  }
}

/// What is added to the products of queries and keys by how far apart they are.
package struct RelativeBias {
  /// The key `n` places before its query gets element `limit - 1 - n`, `[limit]`.
  package var distances: UnsafePointer<Float>
  package var limit: Int
  /// One for each bucket of time differences; nil where times are not known.
  package var times: UnsafePointer<Float>?
  /// The bucket of each query (row) and key, a square for each sequence one after the other; above the
  /// diagonal anything may stand.
  package var buckets: UnsafePointer<UInt8>?

  package init(
    distances: UnsafePointer<Float>, limit: Int, times: UnsafePointer<Float>? = nil,
    buckets: UnsafePointer<UInt8>? = nil
  ) {
    precondition((times == nil) == (buckets == nil), "buckets without their biases, or the reverse")
    self.distances = distances
    self.limit = limit
    self.times = times
    self.buckets = buckets
  }
}

extension Kernels {
  /// Causal attention whose weights are `silu(q · k + bias) / limit` instead of a softmax (Zhai et
  /// al., *Actions Speak Louder than Words*, ICML 2024, §3.2).
  ///
  /// - Parameters:
  ///   - qkv: queries, keys and values side by side, in rows of `stride`.
  ///   - offsets: no sequence may be longer than the bias's limit.
  ///   - scratch: `attentionScratch` floats.
  package func siluAttention(
    _ qkv: UnsafePointer<Float>, stride: Int, heads: Int, headWidth: Int,
    offsets: UnsafePointer<Int32>, sequences: Int, bias: RelativeBias,
    into out: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    table.pointee.silu_attention(
      qkv, stride, Int32(heads), Int32(headWidth), offsets, Int32(sequences), bias.limit,
      bias.distances, bias.times, bias.buckets, out, scratch)
  }

  /// The gradient of `siluAttention`: the three parts of `dqkv` are overwritten, the gradients of the
  /// biases added to.
  package func siluAttentionBackward(
    _ qkv: UnsafePointer<Float>, stride: Int, dout: UnsafePointer<Float>, heads: Int,
    headWidth: Int, offsets: UnsafePointer<Int32>, sequences: Int, bias: RelativeBias,
    dqkv: UnsafeMutablePointer<Float>, ddistances: UnsafeMutablePointer<Float>,
    dtimes: UnsafeMutablePointer<Float>?, scratch: UnsafeMutablePointer<Float>
  ) {
    table.pointee.silu_attention_backward(
      qkv, stride, dout, Int32(heads), Int32(headWidth), offsets, Int32(sequences), bias.limit,
      bias.distances, bias.times, bias.buckets, dqkv, ddistances, dtimes, scratch)
  }
}
