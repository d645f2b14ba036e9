package import Columns
package import Domain
package import Kernels
package import Models
package import VectorIndex

/// One published set of trained models; the next one replaces it by one swap.
package struct Generation: Sendable {
  /// From 1; grows with every publication.
  package let number: Int
  /// The log position up to which the models have learned.
  package let through: LogPosition
  package let trainedAt: Timestamp
  package let models: [ServedModel]

  package func model(named name: String) -> ServedModel? { models.first { $0.name == name } }
}

/// A trained model laid over the catalog: vectors in catalog-row order, so that a filter's bitmap fits.
package final class ServedModel: Sendable {
  package let name: String
  package let policy: SASRecPolicy
  package let model: SASRec
  /// The item of each token.
  package let vocabulary: [ItemID]
  /// Metrics beside the baselines, as `Training` reported them.
  package let evaluation: JSON
  /// The item vectors by catalog row; rows that the model does not know are zero.
  package let index: ExactIndex
  /// The rows that have a vector, at least 0 and at most all rows of the catalog at publication.
  package let known: Bitmap
  /// The token of each catalog row, or -1.
  private let tokens: [Int32]
  private let vectors = UserVectorCache()
  /// The same rows with the quickest search that there is by now.
  let searcher: Published<VectorSearcher>

  package init(
    name: String, policy: SASRecPolicy, model: SASRec, vocabulary: [ItemID], evaluation: JSON,
    catalog: CatalogView, kernels: Kernels
  ) {
    self.name = name
    self.policy = policy
    self.model = model
    self.vocabulary = vocabulary
    self.evaluation = evaluation
    let width = model.configuration.width
    let count = catalog.rowCount
    var tokens = [Int32](repeating: -1, count: count)
    var rows = [Float](repeating: 0, count: count * width)
    var known = Bitmap(count: count)
    let itemVectors = model.itemVectors
    for (token, item) in vocabulary.enumerated() {
      guard let row = catalog.row(item)?.index, row < count else { continue }
      tokens[row] = Int32(token)
      known[row] = true
      for i in 0..<width { rows[row * width + i] = itemVectors[token * width + i] }
    }
    self.tokens = tokens
    self.known = known
    index = ExactIndex(vectors: rows, width: width, kernels: kernels)
    searcher = Published(VectorSearcher(index))
  }

  /// What is needed of a catalog to lay a model over it.
  package struct CatalogView {
    package var rowCount: Int
    package var row: (ItemID) -> CatalogRow?
    package init(rowCount: Int, row: @escaping (ItemID) -> CatalogRow?) {
      self.rowCount = rowCount
      self.row = row
    }
  }

  /// The model's token of a catalog row, or nil where it does not know the item.
  package func token(of row: CatalogRow) -> ItemToken? {
    guard row.index < tokens.count, tokens[row.index] >= 0 else { return nil }
    return ItemToken(tokens[row.index])
  }

  /// The vector of a row that has one.
  func itemVector(_ row: CatalogRow) -> [Float]? {
    token(of: row) == nil ? nil : index.vector(at: row.index)
  }

  /// Forgets what is kept of a user.
  func forget(_ user: UserID) { vectors.forget(user) }

  /// The query vector of a history; the same history is encoded once.
  ///
  /// - Parameter user: nil for a session, which is not kept.
  func vector(for tokens: [ItemToken], user: UserID?) -> [Float] {
    guard let user else { return model.encode(tokens) }
    return vectors.vector(of: user, for: tokens) { model.encode(tokens) }
  }
}
