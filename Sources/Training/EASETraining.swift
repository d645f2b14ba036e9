import Domain
import Kernels
package import Models
import Neural

/// The `ease` policy: the linear model of items by items that restores all histories best.
///
/// - SeeAlso: Steck, *Embarrassingly Shallow Autoencoders for Sparse Data*, WWW 2019: with the Gram
///   matrix G of users by items and `P = (G + λI)⁻¹`, the weights are `-P[i][j] / P[j][j]`. The
///   inverse is found by Gauss-Jordan elimination in blocks, in single precision; λ keeps it stable.
package enum EASETraining: Policy {
  package static let description = PolicyDescription(
    name: "ease",
    summary: "The linear autoencoder of histories in closed form (Steck 2019).",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "regularization", aliases: ["lambda", "l2"], .number(1e-3...1e7), default: .number(250),
        search: .numbers(20...2000, logarithmic: true),
        "λ, added to the diagonal: more of it trusts the data less."),
      Hyperparameter(
        "neighbours", aliases: ["neighbors"], .integer(1...1_000_000),
        "Largest weights that are kept for each item; by default all, as long as that is no more "
          + "than 100 million over the catalogue."),
    ] + recencyParameters(last: nil, decay: 1))

  /// Beyond this the matrices take more than 3 GB.
  static let itemCountAtMost = 20_000

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.itemCount <= itemCountAtMost else {
      throw Diagnostic(
        .unavailable, code: "too_many_items",
        "The model `\(settings.name)` inverts a matrix of items by items; \(data.itemCount) items are "
          + "more than the \(itemCountAtMost) that it takes.", at: "training.models",
        help: "Use the policy `elsa`, which finds nearly the same weights as vectors of items.")
    }
    guard data.histories.contains(where: { $0.items.count >= 2 }) else {
      throw nothingToLearn(settings, data)
    }
    let n = data.itemCount
    let neighbours =
      settings.optionalInteger("neighbours") ?? max(100, 100_000_000 / max(1, n))
    let lambda = Float(settings.number("regularization"))
    let (rows, seconds) = try context.withPool { pool in
      try timed {
        let matrix = InteractionMatrix(data)
        let gram = Buffer(count: n * n)
        pool.run { worker in
          for item in stride(from: worker, to: n, by: pool.count) {
            let row = gram.pointer + item * n
            for p in matrix.itemOffsets[item]..<matrix.itemOffsets[item + 1] {
              let user = Int(matrix.users[p])
              for q in matrix.userOffsets[user]..<matrix.userOffsets[user + 1] {
                row[Int(matrix.items[q])] += 1
              }
            }
            row[item] += lambda
          }
        }
        try invert(gram, size: n, kernels: context.kernels, pool: pool) {
          done, all throws(TrainingCancelled) in
          try context.report(step: done, steps: all)
        }
        return SimilarRows.gather(itemCount: n, pool: pool) { scratch in
          { item in
            // Row `item` of the weights: what this item of a history says of every other.
            let row = gram.pointer + item * n
            for other in 0..<n { scratch.sums[other] = row[other] }
            scratch.finish(item, keeping: neighbours) { other, value in
              -value / gram.pointer[other * n + other]
            }
          }
        }
      }
    }
    return TrainedModel(
      rows.model(recency: recency(settings)), secondsTraining: seconds,
      summary: "Solved for \(n) items, kept \(rows.columns.count) weights, in "
        + "\(text(seconds: seconds)).")
  }
}

/// Inverts a symmetric positive definite matrix in place, `[n, n]`, a block of columns at a time.
///
/// Gauss-Jordan elimination without pivots: for each block k, with D the block on the diagonal,
/// `R = D⁻¹ A[k,:]` takes the place of the block's rows, `A[k,i] R` is taken from all other rows, and
/// `-A[:,k] D⁻¹` takes the place of the block's columns. The products are shared by the workers.
func invert(
  _ matrix: Buffer, size n: Int, kernels: Kernels, pool: WorkerPool,
  progress: (_ done: Int, _ all: Int) throws(TrainingCancelled) -> Void
) throws(TrainingCancelled) {
  let block = 64
  let a = matrix.pointer
  let rows = Buffer(count: block * n)
  let columns = Buffer(count: n * block)
  let packed = Buffer(count: kernels.packedCount(columns: n, depth: block))
  let scratch = Buffer(count: kernels.multiplyScratch(depth: block))
  let inverse = Buffer(count: block * block)
  for start in stride(from: 0, to: n, by: block) {
    try progress(start, n)
    let width = min(block, n - start)
    // D⁻¹ in double precision.
    invertSmall(a + start * n + start, stride: n, size: width, into: inverse.pointer)
    kernels.multiply(
      rows: width, columns: n, depth: width, inverse.pointer, rowStride: width, a + start * n,
      bStride: n, into: rows.pointer, stride: n, scratch: scratch.pointer)
    for i in 0..<n {
      for j in 0..<width { columns.pointer[i * width + j] = a[i * n + start + j] }
    }
    kernels.pack(
      rows.pointer, stride: n, transposed: false, columns: n, depth: width, into: packed.pointer)
    let share = (n + pool.count - 1) / pool.count
    pool.run { worker in
      let low = min(n, worker * share)
      let high = min(n, low + share)
      for (from, to) in [(low, min(high, start)), (max(low, start + width), high)]
      where from < to {
        kernels.multiplyPacked(
          rows: to - from, columns: n, depth: width, alpha: -1, columns.pointer + from * width,
          rowStride: width, packed.pointer, accumulate: true, into: matrix.pointer + from * n,
          stride: n)
      }
    }
    // The block's columns: -A[:,k] D⁻¹, and D⁻¹ on the diagonal.
    for i in 0..<n where i < start || i >= start + width {
      for j in 0..<width {
        var sum: Float = 0
        for k in 0..<width {
          sum += columns.pointer[i * width + k] * inverse.pointer[k * width + j]
        }
        a[i * n + start + j] = -sum
      }
    }
    for k in 0..<width {
      (a + (start + k) * n).update(from: rows.pointer + k * n, count: n)
      for j in 0..<width {
        a[(start + k) * n + start + j] = inverse.pointer[k * width + j]
      }
    }
  }
  withExtendedLifetime((rows, columns, packed, scratch, inverse)) {}
}

/// Inverts a small symmetric positive definite block by Gauss-Jordan elimination in double precision.
private func invertSmall(
  _ a: UnsafePointer<Float>, stride: Int, size: Int, into out: UnsafeMutablePointer<Float>
) {
  var m = [Double](repeating: 0, count: size * size)
  for i in 0..<size { for j in 0..<size { m[i * size + j] = Double(a[i * stride + j]) } }
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
  for i in m.indices { out[i] = Float(m[i]) }
}
