package import Columns
package import Domain
package import Kernels
package import Models
import Neural
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

/// A trained model laid over the catalog: what it knows of, by catalog row, so that a filter's bitmap
/// fits.
package final class ServedModel: Sendable {
  package let name: String
  package let policy: PolicySettings
  /// Its networks multiply in the policy's `precision`, by default in bfloat16 where the processor does.
  package let model: any Recommender
  /// The item of each token.
  package let vocabulary: [ItemID]
  /// Metrics beside the baselines, as `Training` reported them.
  package let evaluation: JSON
  /// The vectors of a model that has some.
  let vectors: ServedVectors?
  /// The rows that the model knows, at least 0 and at most all rows of the catalog at publication.
  package let known: Bitmap
  /// The token of each catalog row, or -1.
  private let tokens: [Int32]
  private let encoded = UserVectorCache()
  /// Scores of all items, of a model without vectors: at most 32 MB of them.
  private let scored: UserVectorCache

  package init(
    name: String, policy: PolicySettings, model: any Recommender, vocabulary: [ItemID],
    evaluation: JSON, catalog: CatalogView, kernels: Kernels
  ) {
    self.name = name
    self.policy = policy
    let wanted =
      policy.policy.parameter("precision") == nil ? nil : policy.optionalText("precision")
    let precision =
      wanted.flatMap(Precision.init(rawValue:))
      ?? (kernels.hasNativeBFloat16 ? .bfloat16 : .float32)
    let model = model.encoding(in: precision)
    self.model = model
    self.vocabulary = vocabulary
    self.evaluation = evaluation
    let count = catalog.rowCount
    var tokens = [Int32](repeating: -1, count: count)
    var known = Bitmap(count: count)
    for (token, item) in vocabulary.enumerated() {
      guard let row = catalog.row(item)?.index, row < count else { continue }
      tokens[row] = Int32(token)
      known[row] = true
    }
    self.tokens = tokens
    self.known = known
    vectors = (model as? any VectorRecommender).map {
      ServedVectors($0, tokens: tokens, kernels: kernels)
    }
    scored = UserVectorCache(capacity: max(4, 4_000_000 / max(1, vocabulary.count)))
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

  /// The kind of model, as engine YAML names it.
  package var policyType: String { policy.policy.name }

  /// The vectors of all catalog rows by row; nil where the model gives scores alone.
  package var index: ExactIndex? { vectors?.index }

  /// The model's token of a catalog row, or nil where it does not know the item.
  package func token(of row: CatalogRow) -> ItemToken? {
    guard row.index < tokens.count, tokens[row.index] >= 0 else { return nil }
    return ItemToken(tokens[row.index])
  }

  /// The vector of a row that has one.
  func itemVector(_ row: CatalogRow) -> [Float]? {
    token(of: row) == nil ? nil : vectors?.index.vector(at: row.index)
  }

  /// Forgets what is kept of a user.
  func forget(_ user: UserID) {
    encoded.forget(user)
    scored.forget(user)
  }

  /// What a history looks for: a vector, or the scores of all tokens.
  ///
  /// The same history of a user is worked out once, unless its times matter.
  ///
  /// - Parameter user: nil for a session, which is not kept.
  func wish(for history: History, user: UserID?) -> Wish {
    func kept(_ cache: UserVectorCache, _ work: () -> [Float]) -> [Float] {
      guard let user, !model.usesTimes else { return work() }
      return cache.vector(of: user, for: Array(history.items), encode: work)
    }
    if let vectors { return .vector(kept(encoded) { vectors.model.encode(history) }) }
    return .scores(kept(scored) { model.scores(of: history) })
  }
}

/// What a history asks of a model's items.
enum Wish {
  /// To be compared with the items' vectors.
  case vector([Float])
  /// By token.
  case scores([Float])

  var values: [Float] {
    switch self {
    case .vector(let values), .scores(let values): values
    }
  }

  var vector: [Float]? { if case .vector(let vector) = self { vector } else { nil } }
}

/// The vectors of a model by catalog row, and how they are searched.
final class ServedVectors: Sendable {
  let model: any VectorRecommender
  /// Rows that the model does not know are zero.
  let index: ExactIndex
  /// The same rows with the quickest search that there is by now.
  let searcher: Published<VectorSearcher>
  /// The vectors of all users, for queries that rank them.
  let users: UserIndex

  init(_ model: any VectorRecommender, tokens: [Int32], kernels: Kernels) {
    self.model = model
    let width = model.width
    var rows = [Float](repeating: 0, count: tokens.count * width)
    model.withItemVectors { vectors in
      for (row, token) in tokens.enumerated() where token >= 0 {
        let start = Int(token) * width
        for i in 0..<width { rows[row * width + i] = vectors[start + i] }
      }
    }
    index = ExactIndex(vectors: rows, width: width, kernels: kernels)
    searcher = Published(VectorSearcher(index))
    users = UserIndex(width: width, kernels: kernels)
  }
}
