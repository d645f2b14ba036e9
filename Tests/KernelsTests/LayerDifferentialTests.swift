import Kernels
import Testing

@Suite struct `Fast layers agree with the reference` {
  typealias Source = `Fast kernels agree with the reference`.Source
  static let versions = `Fast kernels agree with the reference`.versions
  static let sizes = `Fast kernels agree with the reference`.sizes

  static func pair(_ name: String) throws -> (plain: Kernels, fast: Kernels) {
    (try #require(Kernels(named: "reference")), try #require(Kernels(named: name)))
  }

  static func close(_ a: [Float], _ b: [Float], within tolerance: Float) -> Bool {
    `Fast kernels agree with the reference`.close(a, b, within: tolerance)
  }

  @Test(arguments: versions, sizes)
  func `gates, recurrent units and unit rows`(version: String, n: Int) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: UInt64(n) + 31)
    for m in [0, 1, 3, 20] {
      let count = m * n
      let x = source.array(count)
      let y = source.array(count).map { $0 * 30 }
      let z = source.array(count)
      let wide = source.array(3 * count).map { $0 * 5 }
      let other = source.array(3 * count).map { $0 * 5 }
      for probability in [Float(0), 0.3] {
        let dropout = Dropout(probability: probability, seed: UInt32(3 + n))
        func run(_ kernels: Kernels) -> [[Float]] {
          var out: [[Float]] = []
          func collect(_ size: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
            var result = [Float](repeating: 0.25, count: size + 1)
            result.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { body(base) } }
            out.append(result)
          }
          var inverse = [Float](repeating: 0, count: m + 1)
          collect(count) {
            kernels.unitRows(rows: m, columns: n, scale: 3, x, into: $0, inverse: &inverse)
          }
          out.append(inverse.map { min($0, 1e3) })
          for accumulate in [false, true] {
            collect(count) {
              kernels.unitRowsBackward(
                rows: m, columns: n, scale: 3, z, x: x, inverse: inverse, accumulate: accumulate,
                dx: $0)
            }
          }
          collect(count) { kernels.gate(count: count, x, gate: y, z, dropout, into: $0) }
          var dgate = [Float](repeating: 0, count: count + 1)
          collect(count) {
            kernels.gateBackward(count: count, x, gate: y, y: z, dropout, dgate: &dgate, dy: $0)
          }
          out.append(dgate)
          collect(count) { kernels.swiglu(rows: m, columns: n, wide, dropout, into: $0) }
          collect(2 * count) {
            kernels.swigluBackward(rows: m, columns: n, x, ab: wide, dropout, dab: $0)
          }
          var gates = [Float](repeating: 0, count: 3 * count + 1)
          collect(count) {
            kernels.recur(
              rows: m, columns: n, x: wide, h: other, before: z, gates: &gates, into: $0)
          }
          out.append(gates)
          var dh = [Float](repeating: 0, count: 3 * count + 1)
          var dbefore = [Float](repeating: 0, count: count + 1)
          collect(3 * count) {
            kernels.recurBackward(
              rows: m, columns: n, x, gates: gates, h: other, before: z, dx: $0, dh: &dh,
              dbefore: &dbefore)
          }
          return out + [dh, dbefore]
        }
        for (i, (expected, found)) in zip(run(plain), run(fast)).enumerated() {
          #expect(Self.close(expected, found, within: 1e-4), "kernel \(i), \(m)x\(n)")
        }
      }
    }
  }

  @Test(arguments: versions, [(1, 8), (2, 16), (1, 64), (4, 5)])
  func `attention both ways`(version: String, shape: (heads: Int, width: Int)) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 6)
    let offsets: [Int32] = [0, 1, 4, 4, 70, 71, 190]
    let total = 190
    let d = shape.heads * shape.width
    let qkv = source.array(total * 3 * d).map { $0 * 2 }
    let dout = source.array(total * d)
    func run(_ kernels: Kernels) -> [[Float]] {
      var out = [Float](repeating: 0, count: total * d)
      var logSumExp = [Float](repeating: 0, count: total * shape.heads)
      var scratch = [Float](
        repeating: .nan,
        count: kernels.attentionScratch(headWidth: shape.width, longest: 119) + 1)
      kernels.attention(
        qkv, heads: shape.heads, headWidth: shape.width, causal: false, offsets: offsets,
        sequences: offsets.count - 1, into: &out, logSumExp: &logSumExp, scratch: &scratch)
      var dqkv = [Float](repeating: .nan, count: total * 3 * d)
      kernels.attentionBackward(
        qkv, out: out, dout: dout, logSumExp: logSumExp, heads: shape.heads,
        headWidth: shape.width, causal: false, offsets: offsets, sequences: offsets.count - 1,
        dqkv: &dqkv, scratch: &scratch)
      return [out, logSumExp, dqkv]
    }
    for (i, (expected, found)) in zip(run(plain), run(fast)).enumerated() {
      #expect(Self.close(expected, found, within: 1e-4), "output \(i)")
    }
  }

  @Test(arguments: versions, [(1, 8), (2, 16), (1, 64), (4, 5)])
  func `attention without a softmax`(version: String, shape: (heads: Int, width: Int)) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 7)
    let offsets: [Int32] = [0, 1, 4, 4, 70, 71, 190]
    let total = 190
    let limit = 125
    let d = shape.heads * shape.width
    let stride = 4 * d
    let qkv = source.array(total * stride).map { $0 * 2 }
    let dout = source.array(total * d)
    let distances = source.array(limit)
    let times = source.array(50)
    var buckets: [UInt8] = []
    for (first, end) in zip(offsets, offsets.dropFirst()) {
      for k in 0..<(end - first) * (end - first) { buckets.append(UInt8((Int(k) * 7) % 50)) }
    }
    func run(_ kernels: Kernels, hasTimes: Bool) -> [[Float]] {
      times.withUnsafeBufferPointer { times in
        buckets.withUnsafeBufferPointer { buckets in
          distances.withUnsafeBufferPointer { distances in
            guard let start = distances.baseAddress else { return [] }
            let bias = RelativeBias(
              distances: start, limit: limit, times: hasTimes ? times.baseAddress : nil,
              buckets: hasTimes ? buckets.baseAddress : nil)
            var out = [Float](repeating: 0, count: total * d)
            var scratch = [Float](
              repeating: .nan,
              count: kernels.attentionScratch(headWidth: shape.width, longest: 119) + 1)
            kernels.siluAttention(
              qkv, stride: stride, heads: shape.heads, headWidth: shape.width, offsets: offsets,
              sequences: offsets.count - 1, bias: bias, into: &out, scratch: &scratch)
            var dqkv = [Float](repeating: 0.5, count: total * stride)
            var ddistances = [Float](repeating: 0.25, count: limit)
            var dtimes = [Float](repeating: 0.25, count: 50)
            kernels.siluAttentionBackward(
              qkv, stride: stride, dout: dout, heads: shape.heads, headWidth: shape.width,
              offsets: offsets, sequences: offsets.count - 1, bias: bias, dqkv: &dqkv,
              ddistances: &ddistances, dtimes: &dtimes, scratch: &scratch)
            return [out, dqkv, ddistances, dtimes]
          }
        }
      }
    }
    for hasTimes in [false, true] {
      let results = zip(run(plain, hasTimes: hasTimes), run(fast, hasTimes: hasTimes))
      for (i, (expected, found)) in results.enumerated() {
        #expect(Self.close(expected, found, within: 2e-4), "output \(i)")
      }
    }
  }
}
