package import Kernels
import Neural
import Synchronization

/// The inverse of a large symmetric positive definite matrix, by all workers.
package enum SymmetricInverse {
  /// Rows and columns of a tile: two tiles and their product fit into a core's second cache.
  package static let blockSize = 192

  /// Inverts in place, `[n, n]`; reads the lower triangle alone, writes both.
  ///
  /// The matrix is swept block by block (Goodnight, *A Tutorial on the SWEEP Operator*, The American
  /// Statistician 1979): for a block k with D on the diagonal and P its columns, `P D⁻¹ Pᵀ` is taken
  /// from everything else, `P D⁻¹` takes the place of P, and `-D⁻¹` that of D. The matrix stays
  /// symmetric, so half of it is enough: n³ operations, where Gauss-Jordan elimination takes twice as
  /// many. Tiles are independent of one another, so the result does not depend on the workers.
  ///
  /// - Parameter block: rows of a tile; tests take small ones.
  package static func invert(
    _ matrix: UnsafeMutablePointer<Float>, size n: Int, kernels: Kernels, pool: WorkerPool,
    block: Int = blockSize,
    progress: (_ done: Int, _ all: Int) throws(TrainingCancelled) -> Void = {
      _, _ throws(TrainingCancelled) in
    }
  ) throws(TrainingCancelled) {
    guard n > 0 else { return }
    let sweep = Sweep(matrix, size: n, block: block, kernels: kernels)
    for k in 0..<sweep.tiles {
      try progress(k * block, n)
      sweep.invertDiagonal(k)
      // Columns of the block, and what takes their place.
      shared(sweep.tiles, pool) { sweep.gather($0, k) }
      let pairs = sweep.tiles * (sweep.tiles + 1) / 2
      shared(pairs, pool) { place in
        let (i, j) = row(ofPair: place)
        if i != k, j != k { sweep.reduce(i, j) }
      }
      shared(sweep.tiles, pool) { sweep.scatter($0, k) }
    }
    shared(sweep.tiles, pool) { sweep.finish($0) }
    withExtendedLifetime(sweep) {}
  }

  /// Row and column of a pair `(i, j)`, `j <= i`, counted by rows.
  static func row(ofPair place: Int) -> (Int, Int) {
    var i = Int((Double(8 * place + 1).squareRoot() - 1) / 2)
    while (i + 1) * (i + 2) / 2 <= place { i += 1 }
    while i * (i + 1) / 2 > place { i -= 1 }
    return (i, place - i * (i + 1) / 2)
  }

  /// Runs pieces of work, each once, on whichever worker is free.
  private static func shared(
    _ count: Int, _ pool: WorkerPool, _ body: @Sendable (Int) -> Void
  ) {
    let next = Atomic(0)
    pool.run { _ in
      while true {
        let place = next.wrappingAdd(1, ordering: .relaxed).oldValue
        if place >= count { return }
        body(place)
      }
    }
  }
}

/// The matrix in work, its tiles, and the columns of the block that is swept.
private final class Sweep: @unchecked Sendable {
  // Unchecked: workers write disjoint tiles; the panels are written between two parallel parts.
  let n: Int
  let block: Int
  let tiles: Int
  private let a: UnsafeMutablePointer<Float>
  private let kernels: Kernels
  /// The block's columns of every row, `[n, block]`.
  private let panel: Buffer
  /// The same times D⁻¹.
  private let scaled: Buffer
  /// The panel's transpose, a packed piece for each tile.
  private let packed: Buffer
  private let packedTile: Int
  private let inverse: Buffer
  private let packedInverse: Buffer
  private var doubles: [Double]
  /// Columns of the block that is swept.
  private var depth = 0

  init(_ a: UnsafeMutablePointer<Float>, size n: Int, block: Int, kernels: Kernels) {
    self.a = a
    self.n = n
    self.block = block
    self.kernels = kernels
    tiles = (n + block - 1) / block
    panel = Buffer(count: n * block)
    scaled = Buffer(count: n * block)
    packedTile = kernels.packedCount(columns: block, depth: block)
    packed = Buffer(count: tiles * packedTile)
    inverse = Buffer(count: block * block)
    packedInverse = Buffer(count: packedTile)
    doubles = [Double](repeating: 0, count: block * block)
  }

  private func range(_ tile: Int) -> Range<Int> { tile * block..<min(n, (tile + 1) * block) }

  /// D⁻¹ in double precision, by Gauss-Jordan elimination.
  func invertDiagonal(_ k: Int) {
    let rows = range(k)
    let size = rows.count
    depth = size
    doubles.withUnsafeMutableBufferPointer { m in
      for i in 0..<size {
        for j in 0...i {
          let value = Double(a[(rows.lowerBound + i) * n + rows.lowerBound + j])
          m[i * size + j] = value
          m[j * size + i] = value
        }
      }
      for k in 0..<size {
        let pivot = 1 / m[k * size + k]
        m[k * size + k] = 1
        for j in 0..<size { m[k * size + j] *= pivot }
        for i in 0..<size where i != k {
          let factor = m[i * size + k]
          m[i * size + k] = 0
          for j in 0..<size { m[i * size + j] -= factor * m[k * size + j] }
        }
      }
      for i in 0..<size * size { inverse.pointer[i] = Float(m[i]) }
    }
    kernels.pack(
      inverse.pointer, stride: size, transposed: false, columns: size, depth: size,
      into: packedInverse.pointer)
  }

  /// Fetches a tile of the block's columns, packs its transpose and multiplies it by D⁻¹.
  func gather(_ tile: Int, _ k: Int) {
    guard tile != k else { return }
    let rows = range(tile)
    let columns = range(k)
    let width = columns.count
    for i in rows {
      let out = panel.pointer + i * block
      if tile > k {
        out.update(from: a + i * n + columns.lowerBound, count: width)
      } else {
        for j in 0..<width { out[j] = a[(columns.lowerBound + j) * n + i] }
      }
    }
    kernels.pack(
      panel.pointer + rows.lowerBound * block, stride: block, transposed: true,
      columns: rows.count, depth: width, into: packed.pointer + tile * packedTile)
    kernels.multiplyPacked(
      rows: rows.count, columns: width, depth: width, panel.pointer + rows.lowerBound * block,
      rowStride: block, packedInverse.pointer, into: scaled.pointer + rows.lowerBound * block,
      stride: block)
  }

  /// Takes the block's part from one tile of the lower triangle.
  func reduce(_ i: Int, _ j: Int) {
    let rows = range(i)
    let columns = range(j)
    kernels.multiplyPacked(
      rows: rows.count, columns: columns.count, depth: depth, alpha: -1,
      scaled.pointer + rows.lowerBound * block, rowStride: block,
      packed.pointer + j * packedTile, accumulate: true,
      into: a + rows.lowerBound * n + columns.lowerBound, stride: n)
  }

  /// Puts the new columns in their place.
  func scatter(_ tile: Int, _ k: Int) {
    let rows = range(tile)
    let columns = range(k)
    let width = columns.count
    if tile == k {
      for i in 0..<width {
        for j in 0..<width {
          a[(columns.lowerBound + i) * n + columns.lowerBound + j] = -inverse.pointer[i * width + j]
        }
      }
      return
    }
    for i in rows {
      let new = scaled.pointer + i * block
      if tile > k {
        (a + i * n + columns.lowerBound).update(from: new, count: width)
      } else {
        for j in 0..<width { a[(columns.lowerBound + j) * n + i] = new[j] }
      }
    }
  }

  /// Turns the sign of a row of tiles and copies it into the upper triangle.
  func finish(_ tile: Int) {
    for i in range(tile) {
      for j in 0...i {
        let value = -a[i * n + j]
        a[i * n + j] = value
        if j < i { a[j * n + i] = value }
      }
    }
  }
}
