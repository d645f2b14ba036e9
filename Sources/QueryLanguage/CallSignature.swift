/// What a retriever, a re-ranker, `score` or an encoder may be given.
package struct CallSignature: Sendable {
  package enum Role: Sendable { case retriever, score, reranker, encoder, mode }

  package let name: String
  package let role: Role
  package let required: [String]
  package let optional: [String]
  /// The argument that may stand first without its name.
  package let positional: String?

  init(
    _ name: String, _ role: Role, required: [String] = [], optional: [String] = [],
    positional: String? = nil
  ) {
    self.name = name
    self.role = role
    self.required = required
    self.optional = optional
    self.positional = positional
  }

  package var parameters: [String] { required + optional }

  private static let encoderArguments = [
    "input_user_id", "input_item_id", "pooling_function", "truncate_interactions", "num_clusters",
    "input_user_features", "input_item_features",
  ]

  static let all: [CallSignature] = [
    CallSignature(
      "similarity", .retriever, required: ["embedding_ref"],
      optional: ["encoder", "limit", "entity_type", "use_exact_search", "where", "name"]
        + encoderArguments),
    CallSignature(
      "text_search", .retriever, required: ["query"],
      optional: [
        "mode", "text_embedding_ref", "fuzziness", "limit", "entity_type", "where", "name",
        "use_exact_search",
      ], positional: "query"),
    CallSignature(
      "column_order", .retriever, required: ["columns"],
      optional: ["limit", "entity_type", "where", "name"], positional: "columns"),
    CallSignature(
      "filter", .retriever, required: ["where"], optional: ["limit", "entity_type", "name"],
      positional: "where"),
    CallSignature(
      "ids", .retriever, required: ["item_ids"],
      optional: ["limit", "entity_type", "where", "name"], positional: "item_ids"),
    CallSignature(
      "candidate_attributes", .retriever, required: ["item_attributes"],
      optional: ["limit", "entity_type", "where", "name"], positional: "item_attributes"),
    CallSignature(
      "score", .score, required: ["expression"],
      optional: [
        "input_user_id", "input_user_features", "input_interactions_item_ids", "signal_overrides",
        "name",
      ], positional: "expression"),
    CallSignature(
      "diversity", .reranker,
      optional: [
        "score", "strength", "diversity_lookback_window", "diversity_lookforward_window",
        "diversity_attributes", "text_encoding_embedding_ref", "max_diversity_candidates",
      ], positional: "strength"),
    CallSignature(
      "exploration", .reranker,
      optional: ["score", "retriever", "strength", "diversity_lookback_window"],
      positional: "strength"),
    CallSignature(
      "boosted", .reranker, optional: ["score", "retriever", "strength"], positional: "strength"),
    CallSignature(
      "precomputed_user", .encoder, required: ["input_user_id"], positional: "input_user_id"),
    CallSignature(
      "precomputed_item", .encoder, required: ["input_item_id"], positional: "input_item_id"),
    CallSignature(
      "interaction_pooling", .encoder, required: ["input_user_id"],
      optional: ["pooling_function", "truncate_interactions"], positional: "input_user_id"),
    CallSignature(
      "interaction_round_robin", .encoder, required: ["input_user_id"],
      optional: ["pooling_function", "num_clusters", "truncate_interactions"],
      positional: "input_user_id"),
    CallSignature(
      "user_attribute_pooling", .encoder, optional: ["input_user_id", "input_user_features"]),
    CallSignature(
      "item_attribute_pooling", .encoder, optional: ["input_item_id", "input_item_features"]),
    CallSignature("lexical", .mode, optional: ["fuzziness", "fuzziness_edit_distance"]),
    CallSignature("vector", .mode, optional: ["text_embedding_ref", "use_exact_search"]),
  ]

  private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })
  private static let aliases = ["candidate_ids": "ids", "boost": "boosted"]

  /// The one name of a function that has several.
  static func canonicalName(_ name: String) -> String { aliases[name] ?? name }

  /// The signature of a function by its name in lower case.
  package static func named(_ name: String) -> CallSignature? { byName[canonicalName(name)] }

  /// The names of the functions of a role, in alphabetical order.
  package static func names(_ role: Role) -> [String] {
    all.filter { $0.role == role }.map(\.name).sorted()
  }
}
