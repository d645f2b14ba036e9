import Kernels
import Neural

/// Question: what share of a core's measured peak do the matrix products reach at the shapes of the
/// model?
struct KernelBench {
  let kernels: Kernels

  /// The best of several runs, in seconds for one call.
  private func time(_ body: () -> Void) -> Double {
    let clock = ContinuousClock()
    var best = Double.infinity
    body()
    let once = clock.measure(body)
    let calls = max(1, Int(2e-3 / max(1e-9, Self.seconds(once))))
    for _ in 0..<25 {
      let elapsed = clock.measure { for _ in 0..<calls { body() } }
      best = min(best, Self.seconds(elapsed) / Double(calls))
    }
    return best
  }

  private static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
  }

  func run() {
    var operations = 0.0
    let probe = time { operations = kernels.probe(rounds: 200_000) }
    let peak = operations / probe
    print("{\"kernel\":\"peak\",\"kernels\":\"\(kernels.name)\",\"gflops\":\(peak / 1e9)}")
    func report(_ name: String, _ operations: Double, _ body: () -> Void) {
      let rate = operations / time(body)
      print(
        "{\"kernel\":\"\(name)\",\"gflops\":\(Int(rate / 1e9)),\"share_of_peak\":\((rate / peak * 1000).rounded() / 1000)}"
      )
    }
    let big = Buffer(count: 8_000_000)
    let other = Buffer(count: 8_000_000)
    let out = Buffer(count: 8_000_000)
    let sums = Buffer(count: 8192)
    let scratch = Buffer(count: 1_000_000)
    for i in 0..<big.count {
      big.pointer[i] = Float(i % 17) * 0.01
      other.pointer[i] = Float(i % 13) * 0.01
    }
    let stride = 3432
    for (m, n, k) in [
      (500, 64, 64), (500, 192, 64), (500, 256, 64), (500, 64, 256), (2000, 64, 64),
      (2000, 256, 64), (2000, 512, 128), (2000, 128, 512),
    ] {
      let packed = Buffer(count: kernels.packedCount(columns: n, depth: k))
      kernels.pack(
        other.pointer, stride: k, transposed: true, columns: n, depth: k, into: packed.pointer)
      report("linear \(m)x\(n)x\(k)", 2 * Double(m * n * k)) {
        kernels.multiplyPacked(
          rows: m, columns: n, depth: k, big.pointer, rowStride: k, packed.pointer,
          into: out.pointer, stride: n)
      }
      report("weight gradient \(n)x\(k)x\(m)", 2 * Double(m * n * k)) {
        kernels.multiply(
          rows: n, columns: k, depth: m, big.pointer, rowStride: 1, columnStride: n, other.pointer,
          bStride: k, accumulate: true, into: out.pointer, stride: k, scratch: scratch.pointer)
      }
    }
    for d in [64, 128, 256] {
      let rows = 143
      let n = 3416
      let scores = Buffer(count: kernels.packedCount(columns: n, depth: d))
      let grads = Buffer(count: kernels.packedCount(columns: d, depth: n))
      kernels.pack(
        other.pointer, stride: d, transposed: true, columns: n, depth: d, into: scores.pointer)
      kernels.pack(
        other.pointer, stride: d, transposed: false, columns: d, depth: n, into: grads.pointer)
      let flops = 2 * Double(rows * n * d)
      report("scores with exp \(rows)x\(n)x\(d)", flops) {
        kernels.multiplyExp(
          rows: rows, columns: n, depth: d, big.pointer, rowStride: d, scores.pointer,
          into: out.pointer, stride: stride, rowSums: sums.pointer)
      }
      report("hidden gradient \(rows)x\(d)x\(n)", flops) {
        kernels.multiplyPacked(
          rows: rows, columns: d, depth: n, out.pointer, rowStride: stride, grads.pointer,
          into: scratch.pointer, stride: d)
      }
      report("item gradient \(n)x\(d)x\(rows)", flops) {
        kernels.multiply(
          rows: n, columns: d, depth: rows, out.pointer, rowStride: 1, columnStride: stride,
          big.pointer, bStride: d, accumulate: true, into: other.pointer, stride: d,
          scratch: scratch.pointer)
      }
    }
    for (length, heads, width) in [(200, 2, 32), (200, 1, 64), (50, 2, 32)] {
      let count = 1000 / length
      let offsets = (0...count).map { Int32($0 * length) }
      let area = Buffer(
        count: kernels.attentionScratch(headWidth: width, longest: length))
      let lse = Buffer(count: 1000 * heads)
      let flops = Double(count * heads * width) * Double(length * (length + 1)) * 2
      report("attention \(count)x\(length), \(heads) heads", flops) {
        kernels.attention(
          big.pointer, heads: heads, headWidth: width, offsets: offsets, sequences: count,
          into: out.pointer, logSumExp: lse.pointer, scratch: area.pointer)
      }
      report("attention backward \(count)x\(length), \(heads) heads", flops * 2.5) {
        kernels.attentionBackward(
          big.pointer, out: out.pointer, dout: out.pointer, logSumExp: lse.pointer, heads: heads,
          headWidth: width, offsets: offsets, sequences: count, dqkv: other.pointer,
          scratch: area.pointer)
      }
    }
    func rate(_ name: String, _ elements: Int, _ body: () -> Void) {
      print(
        "{\"kernel\":\"\(name)\",\"ns_per_element\":\((time(body) / Double(elements) * 1e12).rounded() / 1e3)}"
      )
    }
    let t = 500
    let dropout = Dropout(probability: 0.2, seed: 1)
    rate("layer norm \(t)x64", t * 64) {
      kernels.layerNorm(
        rows: t, columns: 64, epsilon: 1e-5, big.pointer, gamma: other.pointer,
        beta: other.pointer, into: out.pointer, mean: sums.pointer,
        inverseDeviation: sums.pointer + t)
    }
    rate("layer norm backward \(t)x64", t * 64) {
      kernels.layerNormBackward(
        rows: t, columns: 64, big.pointer, x: big.pointer, gamma: other.pointer,
        mean: sums.pointer, inverseDeviation: sums.pointer + t, accumulate: true, dx: out.pointer,
        dgamma: scratch.pointer, dbeta: scratch.pointer + 64)
    }
    for (name, n, k) in [
      ("bias", 192, 64), ("gelu, dropout, slope", 256, 64), ("residual", 64, 256),
    ] {
      let packed = Buffer(count: kernels.packedCount(columns: n, depth: k))
      let epilogue =
        switch name {
        case "bias": Epilogue.bias(sums.pointer)
        case "residual": Epilogue.residual(other.pointer, bias: sums.pointer, dropout)
        default:
          Epilogue.activation(.gelu, bias: sums.pointer, dropout, slopes: scratch.pointer)
        }
      report("linear with \(name) \(t)x\(n)x\(k)", 2 * Double(t * n * k)) {
        kernels.multiplyPacked(
          rows: t, columns: n, depth: k, big.pointer, rowStride: k, packed.pointer, epilogue,
          into: out.pointer)
      }
    }
  }
}
