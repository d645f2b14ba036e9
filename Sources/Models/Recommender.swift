package import Domain
package import Kernels
package import Neural

/// A trained model of any kind: it scores every item of its vocabulary for a history.
///
/// Models never change once trained and answer many threads at once. An empty history is a question
/// like any other; a model that knows nothing without events gives every item the same score.
package protocol Recommender: Sendable {
  /// What the weight file calls such models. Several policies may make models of one kind.
  static var kind: String { get }

  /// Items in the vocabulary, `N`.
  var itemCount: Int { get }
  /// How many of the newest events the model looks at; `Int.max` where it takes all.
  var maximumLength: Int { get }
  /// Whether the model makes use of `History.times` and `History.moment`.
  var usesTimes: Bool { get }

  /// Whether scores without a history mean something, such as popularity.
  var answersWithoutHistory: Bool { get }

  /// Scores every item for each history. Higher is better; scores of one history compare, those of
  /// two need not.
  ///
  /// - Parameter scores: `[histories, N]`, overwritten.
  func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>)

  /// The same model with the products of its networks in that precision; itself where it has none.
  func encoding(in precision: Precision) -> any Recommender

  /// The model as a weight file. Its metadata hold `model`, the kind, and `version`; equal
  /// models give equal bytes.
  func safetensors() -> Safetensors

  /// Restores a model from its weight file.
  ///
  /// - Parameter path: named in errors.
  init(restoring file: Safetensors, path: String, kernels: Kernels) throws(Diagnostic)
}

extension Recommender {
  package var maximumLength: Int { .max }
  package var usesTimes: Bool { false }
  package var answersWithoutHistory: Bool { false }
  package func encoding(in precision: Precision) -> any Recommender { self }

  /// The score of every item, `[N]`.
  package func scores(of history: History) -> [Float] {
    [Float](unsafeUninitializedCapacity: itemCount) { buffer, count in
      buffer.initialize(repeating: 0)
      if let base = buffer.baseAddress { score([history], into: base) }
      count = itemCount
    }
  }
}

/// A model whose scores are inner products of one vector for the history and one for each item, so
/// that a vector index can find its best items.
///
/// A model by cosine gives vectors of length 1.
package protocol VectorRecommender: Recommender {
  /// Numbers of a vector, `d`.
  var width: Int { get }
  var kernels: Kernels { get }
  /// Lends the item vectors, `[N, d]`.
  func withItemVectors<Result>(_ body: (UnsafeBufferPointer<Float>) -> Result) -> Result
  /// The vectors of histories, `[histories, d]`; zeros for a history that says nothing.
  func encode(_ histories: [History]) -> [Float]
}

/// A trained network, whose training may go on from its weights.
package protocol NetworkRecommender: Recommender {
  /// All weights, laid out by the network's layout.
  var parameters: Buffer { get }
}

extension VectorRecommender {
  package var itemVectors: [Float] { withItemVectors { Array($0) } }

  /// The vector of one history, `[d]`.
  package func encode(_ history: History) -> [Float] { encode([history]) }

  package func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>) {
    let vectors = encode(histories)
    withItemVectors { items in
      vectors.withUnsafeBufferPointer { vectors in
        guard let items = items.baseAddress, let vectors = vectors.baseAddress else { return }
        multiply(
          vectors, rows: histories.count, by: items, rows: itemCount, depth: width,
          into: scores, kernels: kernels)
      }
    }
  }
}

/// `out[i][j] = a[i] · b[j]`, a tile of rows of b at a time.
func multiply(
  _ a: UnsafePointer<Float>, rows: Int, by b: UnsafePointer<Float>, rows columns: Int, depth: Int,
  into out: UnsafeMutablePointer<Float>, kernels: Kernels
) {
  if rows < 4 {
    for i in 0..<rows {
      for j in 0..<columns {
        out[i * columns + j] = kernels.dot(a + i * depth, b + j * depth, count: depth)
      }
    }
    return
  }
  let tile = 1024
  let packed = Buffer(count: kernels.packedCount(columns: min(tile, columns), depth: depth))
  for start in stride(from: 0, to: columns, by: tile) {
    let count = min(tile, columns - start)
    kernels.pack(
      b + start * depth, stride: depth, transposed: true, columns: count, depth: depth,
      into: packed.pointer)
    kernels.multiplyPacked(
      rows: rows, columns: count, depth: depth, a, rowStride: depth, packed.pointer,
      into: out + start, stride: columns)
  }
  withExtendedLifetime(packed) {}
}
