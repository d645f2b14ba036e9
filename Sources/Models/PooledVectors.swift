package import Domain
package import Kernels

/// A model of item vectors alone: a history's vector is the weighted sum of its newest items'.
///
/// `item2vec` and `elsa` make such models; they differ in where the vectors come from.
package final class PooledVectors: VectorRecommender {
  package static let kind = "pooled-vectors"

  package let itemCount: Int
  package let width: Int
  package let recency: Recency
  /// Whether vectors of histories are scaled to length 1, which changes no order.
  package let isNormalised: Bool
  package let kernels: Kernels
  private let vectors: [Float]

  /// - Parameter vectors: `[N, d]`; of length 1 each where scores are to be cosines.
  package init(
    vectors: [Float], width: Int, recency: Recency, isNormalised: Bool, kernels: Kernels
  ) {
    precondition(width > 0 && vectors.count % width == 0, "\(vectors.count) numbers, \(width)")
    itemCount = vectors.count / width
    self.vectors = vectors
    self.width = width
    self.recency = recency
    self.isNormalised = isNormalised
    self.kernels = kernels
  }

  package var maximumLength: Int { recency.last }

  package func withItemVectors<Result>(
    _ body: (UnsafeBufferPointer<Float>) -> Result
  ) -> Result {
    vectors.withUnsafeBufferPointer(body)
  }

  package func encode(_ histories: [History]) -> [Float] {
    var out = [Float](repeating: 0, count: histories.count * width)
    out.withUnsafeMutableBufferPointer { out in
      vectors.withUnsafeBufferPointer { vectors in
        guard let out = out.baseAddress, let vectors = vectors.baseAddress else { return }
        for (h, history) in histories.enumerated() {
          let sum = out + h * width
          recency.forEach(history) { item, weight in
            kernels.add(weight, times: vectors + item.index * width, to: sum, count: width)
          }
          if isNormalised { normalise(sum, count: width, kernels) }
        }
      }
    }
    return out
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind)
    recency.write(to: &file)
    file.metadata["normalised"] = String(isNormalised)
    file.put("item.weight", vectors, shape: [itemCount, width])
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let vectors = try file.floats("item.weight", shape: [-1, -1], path: path)
    let isNormalised: Bool = try file.number("normalised", path: path)
    self.init(
      vectors: vectors, width: max(1, file.tensors["item.weight"]?.shape[1] ?? 1),
      recency: try Recency(file, path: path), isNormalised: isNormalised, kernels: kernels)
  }
}

/// Scales a vector to length 1; zeros stay zeros.
package func normalise(_ vector: UnsafeMutablePointer<Float>, count: Int, _ kernels: Kernels) {
  let length = Float(kernels.sumOfSquares(vector, count: count).squareRoot())
  guard length > 0 else { return }
  for i in 0..<count { vector[i] /= length }
}
