import Kernels
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Every fast version of every kernel against the plain one, over many sizes: 0, 1, odd ones, and
/// ones around the widths of vectors and tiles. Inputs are unaligned on purpose.
@Suite struct `Fast kernels agree with the reference` {
  static let versions = Kernels.available.filter { $0 != "reference" }
  static let sizes = [
    0, 1, 2, 3, 7, 12, 13, 14, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 128, 200,
  ]

  struct Source {
    var state: UInt64
    mutating func next() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(Int64(bitPattern: state) >> 40) / Float(1 << 23)
    }
    /// `count` numbers in -1...1, starting one float past an aligned address.
    mutating func array(_ count: Int) -> [Float] { (0..<count + 1).map { _ in next() } }
  }

  static func pair(_ name: String) throws -> (plain: Kernels, fast: Kernels) {
    (try #require(Kernels(named: "reference")), try #require(Kernels(named: name)))
  }

  static func close(_ a: [Float], _ b: [Float], within tolerance: Float) -> Bool {
    a.count == b.count
      && zip(a, b).allSatisfy { abs($0 - $1) <= tolerance * (1 + abs($0)) || $0 == $1 }
  }

  @Test(arguments: versions)
  func `matrix products`(version: String) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 1)
    for m in [0, 1, 5, 12, 13, 14, 27, 65] {
      for n in [1, 8, 17, 32, 33, 64, 70] {
        for k in [0, 1, 3, 64, 255, 256, 257, 300] {
          let transposedA = (m + n + k) % 2 == 0
          let transposedB = (m + k) % 3 == 0
          let a = source.array(m * k + 8)
          let b = source.array(n * k + 8)
          let c = source.array(m * (n + 3))
          let (rowStride, columnStride) = transposedA ? (1, max(1, m)) : (max(1, k), 1)
          func run(_ kernels: Kernels, _ accumulate: Bool) -> ([Float], [Float]) {
            var packed = [Float](repeating: 0, count: kernels.packedCount(columns: n, depth: k) + 1)
            var first = c
            var second = c
            a.withUnsafeBufferPointer { a in
              b.withUnsafeBufferPointer { b in
                guard let a = a.baseAddress, let b = b.baseAddress else { return }
                kernels.pack(
                  b + 1, stride: transposedB ? k : n, transposed: transposedB, columns: n, depth: k,
                  into: &packed)
                kernels.multiplyPacked(
                  rows: m, columns: n, depth: k, alpha: 0.5, a + 1, rowStride: rowStride,
                  columnStride: columnStride, packed, accumulate: accumulate, into: &first,
                  stride: n + 3)
                if !transposedB {
                  var scratch = [Float](
                    repeating: 0, count: kernels.multiplyScratch(depth: k) + 1)
                  kernels.multiply(
                    rows: m, columns: n, depth: k, alpha: 0.5, a + 1, rowStride: rowStride,
                    columnStride: columnStride, b + 1, bStride: n, accumulate: accumulate,
                    into: &second, stride: n + 3, scratch: &scratch)
                }
              }
            }
            return (first, second)
          }
          for accumulate in [false, true] {
            let expected = run(plain, accumulate)
            let found = run(fast, accumulate)
            #expect(Self.close(expected.0, found.0, within: 2e-5), "\(m)x\(n)x\(k)")
            #expect(Self.close(expected.1, found.1, within: 2e-5), "\(m)x\(n)x\(k) in place")
          }
        }
      }
    }
  }

  @Test(arguments: versions, Activation.allCases)
  func `products with an epilogue`(version: String, activation: Activation) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 12)
    let sizes = [
      (1, 1, 1), (1, 33, 9), (1, 160, 64), (1, 270, 5), (13, 32, 8), (14, 33, 9), (30, 70, 24),
      (5, 16, 2), (26, 64, 3), (2, 33, 4), (4, 40, 6), (7, 32, 5), (10, 31, 7), (50, 65, 8),
    ]
    for (m, n, k) in sizes {
      let x = source.array(m * k)
      let b = source.array(n * k)
      let bias = source.array(n)
      let residual = source.array(m * n)
      for probability in [Float(0), 0.4] {
        let dropout = Dropout(probability: probability, seed: 5)
        func run(_ kernels: Kernels) -> [[Float]] {
          var packed = [Float](repeating: 0, count: kernels.packedCount(columns: n, depth: k))
          var pairs = [BFloat16Pair](
            repeating: 0, count: kernels.packedPairCount(columns: n, depth: k))
          var rows = [BFloat16Pair](repeating: 0, count: m * ((k + 1) / 2))
          kernels.pack(b, stride: k, transposed: true, columns: n, depth: k, into: &packed)
          kernels.packPairs(b, stride: k, transposed: true, columns: n, depth: k, into: &pairs)
          kernels.roundRows(
            rows: m, columns: k, x, xStride: k, into: &rows, stride: (k + 1) / 2)
          var out: [[Float]] = []
          var slopes = residual
          bias.withUnsafeBufferPointer { bias in
            residual.withUnsafeBufferPointer { residual in
              slopes.withUnsafeMutableBufferPointer { slopes in
                guard let bias = bias.baseAddress, let residual = residual.baseAddress else {
                  return
                }
                for epilogue in [
                  Epilogue.bias(bias), .residual(residual, bias: bias, dropout),
                  .activation(activation, bias: bias, dropout, slopes: nil),
                  .activation(activation, bias: bias, dropout, slopes: slopes.baseAddress),
                ] {
                  var c = [Float](repeating: 9, count: m * n)
                  kernels.multiplyPacked(
                    rows: m, columns: n, depth: k, x, rowStride: k, packed, epilogue, into: &c)
                  out.append(c)
                  kernels.multiplyPairs(
                    rows: m, columns: n, pairs: (k + 1) / 2, rows, rowStride: (k + 1) / 2, pairs,
                    epilogue, into: &c)
                  out.append(c)
                }
              }
            }
          }
          return out + [slopes]
        }
        for (i, (expected, found)) in zip(run(plain), run(fast)).enumerated() {
          #expect(Self.close(expected, found, within: 3e-5), "\(m)x\(n)x\(k), result \(i)")
        }
      }
    }
  }

  @Test(arguments: versions)
  func `a row's product is the same alone, in company, and from a later column on`(
    version: String
  ) throws {
    let (_, kernels) = try Self.pair(version)
    var source = Source(state: 13)
    // Whole tiles: compilers may share a product between the repeated last rows of a short one, and
    // then round it by itself.
    let (m, n, k) = (156, 192, 64)
    let (x, b, bias) = (source.array(m * k), source.array(n * k), source.array(n))
    var packed = [Float](repeating: 0, count: kernels.packedCount(columns: n, depth: k))
    kernels.pack(b, stride: k, transposed: true, columns: n, depth: k, into: &packed)
    var together = [Float](repeating: 0, count: m * n)
    var alone = [Float](repeating: 0, count: n)
    bias.withUnsafeBufferPointer { bias in
      x.withUnsafeBufferPointer { x in
        guard let bias = bias.baseAddress, let x = x.baseAddress else { return }
        kernels.multiplyPacked(
          rows: m, columns: n, depth: k, x, rowStride: k, packed, .bias(bias), into: &together)
        for row in 0..<m {
          kernels.multiplyPacked(
            rows: 1, columns: n, depth: k, x + row * k, rowStride: k, packed, .bias(bias),
            into: &alone)
          #expect(alone == Array(together[row * n..<(row + 1) * n]), "row \(row)")
        }
        #expect(kernels.canMultiply(from: 64) == (version != "reference"))
        guard kernels.canMultiply(from: 64) else { return }
        for rows in [1, m] {
          let stride = 150
          var later = [Float](repeating: 7, count: rows * stride)
          kernels.multiplyPacked(
            rows: rows, from: 64, columns: 128, depth: k, x, rowStride: k, packed,
            .bias(bias + 64), into: &later, stride: stride)
          for row in 0..<rows {
            #expect(
              later[row * stride..<row * stride + 128] == together[row * n + 64..<(row + 1) * n])
            #expect(later[row * stride + 128..<(row + 1) * stride].allSatisfy { $0 == 7 })
          }
        }
      }
    }
  }

  @Test(arguments: versions)
  func `a row's product of bfloat16 is the same alone, in company, and from a later column on`(
    version: String
  ) throws {
    let (_, kernels) = try Self.pair(version)
    var source = Source(state: 14)
    let (n, k, count) = (192, 64, 32)
    let (b, bias) = (source.array(n * k), source.array(n))
    var packed = [BFloat16Pair](
      repeating: 0, count: kernels.packedPairCount(columns: n, depth: k))
    kernels.packPairs(b, stride: k, transposed: true, columns: n, depth: k, into: &packed)
    try bias.withUnsafeBufferPointer { bias in
      let bias = try #require(bias.baseAddress)
      // Every height of a tile.
      for m in [2, 3, 5, 8, 10, 12, 21, 50] {
        let x = source.array(m * k)
        var pairs = [BFloat16Pair](repeating: 0, count: m * count)
        kernels.roundRows(rows: m, columns: k, x, xStride: k, into: &pairs, stride: count)
        var together = [Float](repeating: 0, count: m * n)
        kernels.multiplyPairs(
          rows: m, columns: n, pairs: count, pairs, rowStride: count, packed, .bias(bias),
          into: &together)
        for row in 0..<m {
          var alone = [Float](repeating: 0, count: n)
          pairs.withUnsafeBufferPointer { pairs in
            guard let start = pairs.baseAddress else { return }
            kernels.multiplyPairs(
              rows: 1, columns: n, pairs: count, start + row * count, rowStride: count, packed,
              .bias(bias), into: &alone)
          }
          #expect(
            Self.close(alone, Array(together[row * n..<(row + 1) * n]), within: 1e-6),
            "row \(row) of \(m)")
          if kernels.hasNativeBFloat16 {
            #expect(alone == Array(together[row * n..<(row + 1) * n]), "row \(row) of \(m)")
          }
        }
        guard kernels.canMultiply(from: 64) else { continue }
        let stride = 150
        var later = [Float](repeating: 7, count: m * stride)
        kernels.multiplyPairs(
          rows: m, from: 64, columns: 128, pairs: count, pairs, rowStride: count, packed,
          .bias(bias + 64), into: &later, stride: stride)
        for row in 0..<m {
          let found = Array(later[row * stride..<row * stride + 128])
          #expect(Self.close(found, Array(together[row * n + 64..<(row + 1) * n]), within: 1e-6))
          #expect(later[row * stride + 128..<(row + 1) * stride].allSatisfy { $0 == 7 })
        }
      }
    }
  }

  @Test(arguments: versions)
  func `products of bfloat16`(version: String) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 11)
    for m in [1, 2, 11, 12, 13, 25, 40] {
      for n in [1, 8, 31, 32, 33, 64, 70] {
        for k in [1, 2, 3, 64, 65] {
          let pairs = (k + 1) / 2
          let x = source.array(m * k + 4)
          let b = source.array(n * k + 4)
          func run(_ kernels: Kernels) -> [[Float]] {
            var rows = [BFloat16Pair](repeating: 7, count: m * pairs + 1)
            var columns = [BFloat16Pair](repeating: 7, count: pairs * m + 1)
            var packed = [BFloat16Pair](
              repeating: 7, count: kernels.packedPairCount(columns: n, depth: k) + 1)
            var c = [Float](repeating: 0.5, count: m * (n + 2))
            var other = c
            kernels.roundRows(rows: m, columns: k, x, xStride: k, into: &rows, stride: pairs)
            kernels.packPairs(
              b, stride: k, transposed: true, columns: n, depth: k, into: &packed)
            kernels.multiplyPairs(
              rows: m, columns: n, pairs: pairs, alpha: 0.5, rows, rowStride: pairs, packed,
              accumulate: true, into: &c, stride: n + 2)
            kernels.packPairs(
              b, stride: n, transposed: false, columns: n, depth: k, into: &packed)
            kernels.roundRowPairs(
              rows: k, columns: m, x, xStride: m, into: &columns, stride: m)
            kernels.multiplyPairs(
              rows: m, columns: n, pairs: pairs, columns, rowStride: 1, columnStride: m, packed,
              into: &other, stride: n + 2)
            return [c, other]
          }
          for (expected, found) in zip(run(plain), run(fast)) {
            #expect(Self.close(expected, found, within: 1e-5), "\(m)x\(n)x\(k)")
          }
          func runExp(_ kernels: Kernels) -> [[Float]] {
            var rows = [BFloat16Pair](repeating: 0, count: m * pairs + 1)
            var packed = [BFloat16Pair](
              repeating: 0, count: kernels.packedPairCount(columns: n, depth: k) + 1)
            let width = (n + 1) / 2
            var byRows = [BFloat16Pair](repeating: 0, count: m * width)
            var byPairs = [BFloat16Pair](repeating: 0, count: (m + 1) / 2 * n)
            var sums = [Float](repeating: 0, count: m)
            kernels.roundRows(rows: m, columns: k, x, xStride: k, into: &rows, stride: pairs)
            kernels.packPairs(
              b, stride: k, transposed: true, columns: n, depth: k, into: &packed)
            kernels.multiplyPairsExp(
              rows: m, columns: n, pairs: pairs, rows, rowStride: pairs, packed,
              intoRows: &byRows, stride: width, intoRowPairs: &byPairs, pairStride: n,
              rowSums: &sums)
            func halves(_ pairs: [BFloat16Pair]) -> [Float] {
              pairs.flatMap {
                [Float(bitPattern: $0 << 16), Float(bitPattern: $0 & 0xFFFF_0000)]
              }
            }
            return [halves(byRows), halves(byPairs), sums]
          }
          for (expected, found) in zip(runExp(plain), runExp(fast)) {
            // A float between two bfloat16 may round to either, 2^-7 apart.
            #expect(Self.close(expected, found, within: 8e-3), "exp \(m)x\(n)x\(k)")
          }
        }
      }
    }
  }

  @Test(arguments: versions)
  func `exponentials of products and of rows`(version: String) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 2)
    for m in [1, 12, 13, 14, 30] {
      for n in [1, 16, 31, 32, 33, 100] {
        let k = 24
        let a = source.array(m * k).map { $0 * 1.5 }
        let b = source.array(n * k).map { $0 * 1.5 }
        func run(_ kernels: Kernels) -> [[Float]] {
          var packed = [Float](repeating: 0, count: kernels.packedCount(columns: n, depth: k))
          var c = [Float](repeating: 0, count: m * (n + 5))
          var sums = [Float](repeating: 9, count: m)
          kernels.pack(b, stride: k, transposed: true, columns: n, depth: k, into: &packed)
          kernels.multiplyExp(
            rows: m, columns: n, depth: k, a, rowStride: k, packed, into: &c, stride: n + 5,
            rowSums: &sums)
          var rows = Array(b.prefix(n)).map { $0 * 80 }
          var maximum: Float = 0
          var sum: Float = 0
          kernels.expRows(
            rows: 1, columns: n, &rows, stride: n, rowMax: &maximum, rowSums: &sum)
          return [c, sums, rows, [maximum, sum]]
        }
        for (expected, found) in zip(run(plain), run(fast)) {
          #expect(Self.close(expected, found, within: 3e-5), "\(m)x\(n)")
        }
      }
    }
  }

  @Test(arguments: versions, sizes)
  func `rows and layers`(version: String, n: Int) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: UInt64(n) + 3)
    for m in [0, 1, 3, 20] {
      let count = m * n
      let x = source.array(count)
      let y = source.array(count)
      let gains = source.array(n)
      let shifts = source.array(n)
      let factors = source.array(m)
      for probability in [Float(0), 0.3] {
        let dropout = Dropout(probability: probability, seed: UInt32(7 + n))
        func run(_ kernels: Kernels) -> [[Float]] {
          var out: [[Float]] = []
          func collect(_ size: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
            var result = [Float](repeating: 0.25, count: size + 1)
            result.withUnsafeMutableBufferPointer { if let base = $0.baseAddress { body(base) } }
            out.append(result)
          }
          collect(1) { $0[0] = kernels.dot(x, y, count: min(n, count)) }
          collect(1) { $0[0] = Float(kernels.count(x, count: min(n, count), atLeast: 0.1)) }
          collect(1) { $0[0] = Float(kernels.sumOfSquares(x, count: count)) }
          collect(count) { kernels.add(0.3, times: x, to: $0, count: count) }
          for (weights, products) in [(factors, nil), (nil, factors), (factors, factors)] {
            collect(n) {
              kernels.addWeightedRows(
                rows: m, columns: n, x, weights: weights, factors: products, of: gains, to: $0)
            }
          }
          collect(count) { kernels.blend(count: count, 0.3, of: x, into: $0) }
          collect(count) { kernels.scaleRows(rows: m, columns: n, by: factors, x, into: $0) }
          var logistic = x.map { $0 * 40 }
          collect(m) {
            kernels.logisticRows(rows: m, columns: n, &logistic, stride: n, rowLosses: $0)
          }
          out.append(logistic)
          collect(n) { kernels.addColumnSums(rows: m, columns: n, x, to: $0) }
          collect(count) { kernels.apply(dropout, to: x, count: count, into: $0) }
          collect(count) { kernels.multiply(count: count, x, y, into: $0) }
          if n > 0 {
            var mean = [Float](repeating: 0, count: m + 1)
            var inverse = mean
            collect(count) {
              kernels.layerNorm(
                rows: m, columns: n, epsilon: 1e-3, x, gamma: gains, beta: shifts, into: $0,
                mean: &mean, inverseDeviation: &inverse)
            }
            out += [mean, inverse]
            for accumulate in [false, true] {
              var dgamma = shifts
              var dbeta = gains
              collect(count) {
                kernels.layerNormBackward(
                  rows: m, columns: n, y, x: x, gamma: gains, mean: mean, inverseDeviation: inverse,
                  accumulate: accumulate, dx: $0, dgamma: &dgamma, dbeta: &dbeta)
              }
              out += [dgamma, dbeta]
            }
            collect(count) {
              kernels.rmsNorm(
                rows: m, columns: n, epsilon: 1e-3, x, gamma: gains, into: $0, inverse: &inverse)
            }
            for accumulate in [false, true] {
              var dgamma = shifts
              collect(count) {
                kernels.rmsNormBackward(
                  rows: m, columns: n, y, x: x, gamma: gains, inverse: inverse,
                  accumulate: accumulate, dx: $0, dgamma: &dgamma)
              }
              out.append(dgamma)
            }
            let tokens = (0..<m).map { Int32($0 % 3) }
            let places = (0..<m).map { Int32(($0 * 7) % 5) }
            let items = x + y + y + x
            let table = Array(repeating: shifts, count: 6).flatMap { $0.prefix(n) }
            if items.count >= 3 * n {
              collect(count) {
                kernels.embed(
                  count: m, columns: n, tokens: tokens, places: places, items: items,
                  positions: table, dropout, into: $0)
              }
              var dpositions = table
              collect(3 * n) {
                kernels.embedBackward(
                  count: m, columns: n, tokens: tokens, places: places, x, dropout, ditems: $0,
                  dpositions: &dpositions)
              }
              out.append(dpositions)
            }
          }
          var first = x
          var second = x.map { $0 * $0 }
          collect(count) {
            kernels.adam(
              count: count, $0, gradients: y, first: &first, second: &second,
              AdamStep(rate: 0.1, weightDecay: 0.01, gradientScale: 0.5, number: 3),
              correction1: 1.5, correction2: 2.5)
          }
          return out + [first, second]
        }
        for (i, (expected, found)) in zip(run(plain), run(fast)).enumerated() {
          #expect(Self.close(expected, found, within: 3e-5), "kernel \(i), \(m)x\(n)")
        }
      }
    }
  }

  @Test(arguments: versions, [(1, 8), (2, 16), (1, 64), (4, 5), (2, 32)])
  func `attention forward and backward`(version: String, shape: (heads: Int, width: Int)) throws {
    let (plain, fast) = try Self.pair(version)
    var source = Source(state: 5)
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
        qkv, heads: shape.heads, headWidth: shape.width, offsets: offsets,
        sequences: offsets.count - 1, into: &out, logSumExp: &logSumExp, scratch: &scratch)
      var dqkv = [Float](repeating: .nan, count: total * 3 * d)
      kernels.attentionBackward(
        qkv, out: out, dout: dout, logSumExp: logSumExp, heads: shape.heads,
        headWidth: shape.width, offsets: offsets, sequences: offsets.count - 1, dqkv: &dqkv,
        scratch: &scratch)
      return [out, logSumExp, dqkv]
    }
    for (i, (expected, found)) in zip(run(plain), run(fast)).enumerated() {
      #expect(Self.close(expected, found, within: 1e-4), "output \(i)")
    }
  }

  @Test func `an unknown version is refused`() {
    #expect(Kernels(named: "abacus") == nil)
    #expect(Kernels(environment: ["RIFFLE_KERNELS": "abacus"]) == nil)
    #expect(Kernels(environment: ["RIFFLE_KERNELS": "reference"])?.name == "reference")
    #expect(Kernels(environment: [:])?.name == Kernels.available.last)
  }

  @Test func `dropout keeps the stated share and scales it`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    let ones = [Float](repeating: 1, count: 100_000)
    var out = ones
    kernels.apply(Dropout(probability: 0.2, seed: 9), to: ones, count: ones.count, into: &out)
    let kept = out.count { $0 > 0 }
    #expect(abs(kept - 80_000) < 600)
    #expect(out.allSatisfy { $0 == 0 || $0 == 1.25 })
    var other = ones
    kernels.apply(Dropout(probability: 0.2, seed: 10), to: ones, count: ones.count, into: &other)
    let both = zip(out, other).count { $0 > 0 && $1 > 0 }
    #expect(abs(both - 64_000) < 800)
  }
}
