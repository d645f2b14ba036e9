package import Domain
package import Kernels
import Neural

/// A factorisation of who acted on what: a history is folded in by solving for the vector that fits
/// it best, with the item vectors held fixed.
///
/// - SeeAlso: Hu, Koren & Volinsky, *Collaborative Filtering for Implicit Feedback Datasets*, ICDM
///   2008: an event of weight r has the confidence `1 + alpha · r`, everything else 1.
package final class Factors: VectorRecommender {
  package static let kind = "factors"

  package let itemCount: Int
  package let width: Int
  package let alpha: Float
  package let regularization: Float
  /// What an event weighs in parts of the one after it; 1 where order does not count.
  package let recency: Recency
  package let kernels: Kernels
  private let vectors: [Float]
  /// `VᵀV + regularization · I`, `[d, d]`.
  private let gram: [Float]

  /// - Parameter vectors: `[N, d]`.
  package init(
    vectors: [Float], width: Int, alpha: Float, regularization: Float, recency: Recency,
    kernels: Kernels
  ) {
    precondition(width > 0 && vectors.count % width == 0, "\(vectors.count) numbers, \(width)")
    itemCount = vectors.count / width
    self.vectors = vectors
    self.width = width
    self.alpha = alpha
    self.regularization = regularization
    self.recency = recency
    self.kernels = kernels
    gram = Self.gram(vectors, width: width, regularization: regularization, kernels: kernels)
  }

  package var maximumLength: Int { recency.last }

  /// `VᵀV + regularization · I`.
  package static func gram(
    _ vectors: [Float], width: Int, regularization: Float, kernels: Kernels
  ) -> [Float] {
    var gram = [Float](repeating: 0, count: width * width)
    let rows = vectors.count / width
    let tile = 512
    let scratch = Buffer(count: kernels.multiplyScratch(depth: tile))
    vectors.withUnsafeBufferPointer { vectors in
      gram.withUnsafeMutableBufferPointer { gram in
        guard let vectors = vectors.baseAddress, let gram = gram.baseAddress else { return }
        for start in stride(from: 0, to: rows, by: tile) {
          let count = min(tile, rows - start)
          let part = vectors + start * width
          kernels.multiply(
            rows: width, columns: width, depth: count, part, rowStride: 1, columnStride: width,
            part, bStride: width, accumulate: true, into: gram, stride: width,
            scratch: scratch.pointer)
        }
      }
    }
    withExtendedLifetime(scratch) {}
    for i in 0..<width { gram[i * width + i] += regularization }
    return gram
  }

  package func withItemVectors<Result>(
    _ body: (UnsafeBufferPointer<Float>) -> Result
  ) -> Result {
    vectors.withUnsafeBufferPointer(body)
  }

  package func encode(_ histories: [History]) -> [Float] {
    var out = [Float](repeating: 0, count: histories.count * width)
    var matrix = [Float](repeating: 0, count: width * width)
    for (h, history) in histories.enumerated() where !history.items.isEmpty {
      matrix = gram
      let place = h * width
      matrix.withUnsafeMutableBufferPointer { matrix in
        out.withUnsafeMutableBufferPointer { out in
          vectors.withUnsafeBufferPointer { vectors in
            guard let matrix = matrix.baseAddress, let out = out.baseAddress,
              let vectors = vectors.baseAddress
            else { return }
            recency.forEach(history) { item, weight in
              let vector = vectors + item.index * width
              let extra = alpha * weight
              kernels.add(1 + extra, times: vector, to: out + place, count: width)
              for i in 0..<width {
                kernels.add(extra * vector[i], times: vector, to: matrix + i * width, count: width)
              }
            }
            solvePositive(matrix, out + place, count: width)
          }
        }
      }
    }
    return out
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind)
    recency.write(to: &file)
    file.metadata["alpha"] = String(alpha)
    file.metadata["regularization"] = String(regularization)
    file.put("item.weight", vectors, shape: [itemCount, width])
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let vectors = try file.floats("item.weight", shape: [-1, -1], path: path)
    let alpha: Float = try file.number("alpha", path: path)
    let regularization: Float = try file.number("regularization", path: path)
    self.init(
      vectors: vectors, width: max(1, file.tensors["item.weight"]?.shape[1] ?? 1), alpha: alpha,
      regularization: regularization, recency: try Recency(file, path: path), kernels: kernels)
  }
}

/// Solves `A x = b` for a symmetric positive definite A by Cholesky's decomposition, in place: b
/// becomes x, and the lower half of A its factor.
package func solvePositive(
  _ a: UnsafeMutablePointer<Float>, _ b: UnsafeMutablePointer<Float>, count n: Int
) {
  for j in 0..<n {
    var diagonal = a[j * n + j]
    for k in 0..<j { diagonal -= a[j * n + k] * a[j * n + k] }
    let root = max(diagonal, 1e-20).squareRoot()
    a[j * n + j] = root
    for i in (j + 1)..<max(n, j + 1) {
      var sum = a[i * n + j]
      for k in 0..<j { sum -= a[i * n + k] * a[j * n + k] }
      a[i * n + j] = sum / root
    }
  }
  for i in 0..<n {
    var sum = b[i]
    for k in 0..<i { sum -= a[i * n + k] * b[k] }
    b[i] = sum / a[i * n + i]
  }
  for i in stride(from: n - 1, through: 0, by: -1) {
    var sum = b[i]
    for k in (i + 1)..<max(n, i + 1) { sum -= a[k * n + i] * b[k] }
    b[i] = sum / a[i * n + i]
  }
}
