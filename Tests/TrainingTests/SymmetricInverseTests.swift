import Domain
import Kernels
import Models
import Neural
import Testing
import Training

@Suite struct `The inverse of a symmetric matrix` {
  /// Aᵀ A + I of random numbers; the upper triangle is left wrong, because nothing may read it.
  static func matrix(_ n: Int, seed: UInt64) -> (Buffer, [Double]) {
    var generator = SplitMix64(seed: seed)
    let factor = (0..<n * n).map { _ in Double(generator.unitFloat()) - 0.5 }
    var full = [Double](repeating: 0, count: n * n)
    for i in 0..<n {
      for j in 0..<n {
        for k in 0..<n { full[i * n + j] += factor[k * n + i] * factor[k * n + j] }
        if i == j { full[i * n + j] += 1 }
      }
    }
    let buffer = Buffer(count: n * n)
    for i in 0..<n {
      for j in 0..<n { buffer.pointer[i * n + j] = j <= i ? Float(full[i * n + j]) : .nan }
    }
    return (buffer, full)
  }

  @Test(arguments: [1, 2, 7, 8, 9, 31, 64, 101], [8, 24])
  func `times the matrix is one`(n: Int, block: Int) throws {
    for name in Kernels.available {
      let kernels = try #require(Kernels(named: name))
      for threads in [1, 3] {
        let pool = WorkerPool(count: threads)
        defer { pool.shutDown() }
        let (inverse, full) = Self.matrix(n, seed: UInt64(n))
        try SymmetricInverse.invert(
          inverse.pointer, size: n, kernels: kernels, pool: pool, block: block)
        var worst = 0.0
        for i in 0..<n {
          for j in 0..<n {
            var sum = 0.0
            for k in 0..<n { sum += Double(inverse.pointer[i * n + k]) * full[k * n + j] }
            worst = max(worst, abs(sum - (i == j ? 1 : 0)))
            #expect(inverse.pointer[i * n + j] == inverse.pointer[j * n + i])
          }
        }
        #expect(worst < 2e-4, "\(name), \(threads) threads: \(worst)")
      }
    }
  }

  @Test func `is the same with any number of workers`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    let results = try [1, 2, 5].map { threads in
      let pool = WorkerPool(count: threads)
      defer { pool.shutDown() }
      let (buffer, _) = Self.matrix(90, seed: 3)
      try SymmetricInverse.invert(
        buffer.pointer, size: 90, kernels: kernels, pool: pool, block: 16)
      return buffer.array
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  @Test func `ends where it is told to`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    let pool = WorkerPool(count: 2)
    defer { pool.shutDown() }
    let (buffer, _) = Self.matrix(40, seed: 3)
    #expect(throws: TrainingCancelled.self) {
      try SymmetricInverse.invert(
        buffer.pointer, size: 40, kernels: kernels, pool: pool, block: 8
      ) { done, _ throws(TrainingCancelled) in if done >= 16 { throw TrainingCancelled() } }
    }
  }
}
