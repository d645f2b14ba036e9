package import Domain
import QueryLanguage

extension EngineConfiguration {
  /// Reads an engine's configuration from YAML or JSON text.
  ///
  /// - Parameter origin: what the text is called in errors, such as the file's path.
  /// - Throws: every problem of the file at once.
  package init(parsing text: String, origin: String = "engine.yaml") throws(Diagnostics) {
    let root: SettingNode
    do { root = try SettingNode(parsing: text, origin: origin) } catch {
      throw Diagnostics(error)
    }
    let reader = SettingReader(text: text, origin: origin)
    let parsed = Self.read(root, text: text, reader)
    guard reader.problems.isEmpty, var configuration = parsed else {
      throw Diagnostics(
        reader.problems.isEmpty
          ? [Diagnostic(code: "invalid_settings", "The settings hold no engine.", at: origin)]
          : reader.problems)
    }
    configuration.warnings = reader.warnings
    self = configuration
  }

  private static func read(
    _ root: SettingNode, text: String, _ reader: SettingReader
  ) -> EngineConfiguration? {
    guard var top = reader.map(root, at: "") else { return nil }
    _ = top.choice("version", of: ["v2"])
    let name = top.requiredString("name", help: "Give the engine a name: `name: for_you`.")
    if let name, !isName(name) {
      reader.report(
        "invalid_name", "`\(name)` cannot name an engine.", at: "name", root["name"]?.range,
        help: "Use letters, digits, `_` and `-`, at most 64, and begin with a letter.")
    }
    let description = top.string("description")
    let tags = top.map("tags").map { map in
      map.entries.compactMap { entry in
        reader.string(entry.value, at: map.path(of: entry.key)).map {
          Tag(name: entry.key, value: $0)
        }
      }
    }
    var data: DataSection?
    if let node = top.required(
      "data", help: "Name the table of events: `data: {interaction_table: events}`."),
      let map = reader.map(node, at: "data")
    {
      data = readData(map)
    }
    let index = top.map("index")
    let training = top.map("training")
    let models = training.map { readTraining($0) } ?? []
    let embeddings = readIndex(index, models: models, reader)
    if var deployment = top.map("deployment") { readDeployment(&deployment) }
    let queries = top.map("queries").map { readQueries($0) } ?? []
    top.finish()
    guard let name, var data else { return nil }
    data.nameQueries(of: name)
    return EngineConfiguration(
      name: name, description: description, tags: tags ?? [], data: data, embeddings: embeddings,
      models: models, queries: queries, source: text, json: root.json, warnings: [])
  }

  private static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, text.utf8.count <= 64 else { return false }
    func isLetter(_ byte: UInt8) -> Bool { (65...90).contains(byte) || (97...122).contains(byte) }
    return isLetter(first)
      && text.utf8.allSatisfy { isLetter($0) || (48...57).contains($0) || $0 == 95 || $0 == 45 }
  }

  // MARK: data

  private static func readData(_ given: SettingMap) -> DataSection? {
    var map = given
    let reader = map.reader
    var interactions: TableReference?
    if let node = map.required(
      "interaction_table", help: "Name the table of events: `interaction_table: events`.")
    {
      interactions = readTable(node, at: map.path(of: "interaction_table"), reader)
    }
    let items = map.take("item_table").flatMap {
      readTable($0, at: map.path(of: "item_table"), reader)
    }
    if let node = map.take("user_table") {
      reader.report(
        "not_available", "`data.user_table` is not available yet.", at: "data.user_table",
        node.range, help: "Leave it out: the sequence model learns from events alone.")
    }
    if let schedule = map.string("schedule") {
      reader.warn(
        "no_effect",
        "`data.schedule: \(schedule)` changes nothing here: inserted rows are visible at once.",
        at: "data.schedule", nil)
    }
    _ = map.take("compute")
    var section = interactions.map { DataSection(interactionTable: $0, itemTable: items) }
    if var override = map.map("schema_override") {
      if var item = override.map("item") {
        if let column = item.requiredString("id") { section?.itemColumn = column }
        _ = item.take("features")
        _ = item.take("created_at")
        item.finish()
      }
      if var user = override.map("user") {
        if let column = user.requiredString("id") { section?.userColumn = column }
        _ = user.take("features")
        _ = user.take("created_at")
        user.finish()
      }
      if var interaction = override.map("interaction") {
        if var label = interaction.map("label") {
          section?.labelColumn = label.requiredString("name")
          _ = label.choice("type", of: ["RatingLabel", "BinaryLabel", "RegressionLabel"])
          label.finish()
        }
        section?.timeColumn = interaction.string("created_at")
        section?.eventColumn = interaction.string("event_value")
        for key in ["session_id", "interaction_id", "features"] { _ = interaction.take(key) }
        interaction.finish()
      }
      override.finish()
    }
    if let filters = map.list("filters") {
      for (i, node) in filters.enumerated() {
        let path = "data.filters[\(i)]"
        guard var filter = reader.map(node, at: path) else { continue }
        let name = filter.requiredString("name") ?? ""
        _ = filter.take("filter_table")
        _ = filter.take("filter_type")
        filter.finish()
        reader.report(
          "not_available", "Filters of your own (`\(name)`) are not available yet.", at: path,
          node.range,
          help: "Use `prebuilt('already_seen', input_user_id=$user_id)`, which every engine has: "
            + "it leaves out every item that the user has an event with.")
      }
    }
    map.finish()
    return section
  }

  private static func readTable(
    _ node: SettingNode, at path: String, _ reader: SettingReader
  ) -> TableReference? {
    if case .string(let name) = node.content {
      return TableReference(name: name, columns: nil, query: nil, path: path)
    }
    guard var map = reader.map(node, at: path) else { return nil }
    let type = map.take("type")
    let kinds = ["table", "view", "query"]
    if let type, !kinds.contains(where: { type.content == .string($0) }) {
      reader.report(
        "invalid_setting", "A table reference is a table, a view or a query.", at: "\(path).type",
        type.range, help: "Write `type: table`, `type: view` or `type: query`.")
      return nil
    }
    // A query without a type is one, as in the documented files.
    if type?.content == .string("query") || type == nil, let query = map.take("query") {
      let text = reader.string(query, at: "\(path).query")
      let columns = map.strings("columns")
      map.finish()
      return text.map { TableReference(name: "", columns: columns, query: $0, path: path) }
    }
    if type?.content == .string("query") {
      reader.report(
        "missing_key", "The reference has no `query`.", at: "\(path).query", node.range,
        help: "Write `{type: query, query: \"SELECT ...\"}`.")
      return nil
    }
    let name = map.requiredString("name", help: "Name the table: `{type: table, name: events}`.")
    let columns = map.strings("columns")
    if let condition = map.take("where") {
      reader.report(
        "not_available", "`where` in a table reference is not available yet.", at: "\(path).where",
        condition.range,
        help: "Leave it out; put conditions on items into the query's WHERE.")
    }
    map.finish()
    return name.map { TableReference(name: $0, columns: columns, query: nil, path: path) }
  }

  // MARK: index

  private static func readIndex(
    _ given: SettingMap?, models: [SASRecPolicy], _ reader: SettingReader
  ) -> [Embedding] {
    var embeddings: [Embedding] = []
    if var map = given {
      for (i, node) in (map.list("embeddings") ?? []).enumerated() {
        let path = "index.embeddings[\(i)]"
        guard var entry = reader.map(node, at: path) else { continue }
        let name = entry.requiredString("name")
        if var encoder = entry.map("encoder") {
          let type = encoder.take("type")
          if type?.content == .string("trained_model") {
            let node = encoder.required("model_ref")
            if let node, let model = reader.string(node, at: "\(path).encoder.model_ref") {
              if let name, models.contains(where: { $0.name == model }) {
                embeddings.append(Embedding(name: name, model: model))
              } else if !models.contains(where: { $0.name == model }) {
                let near = nearestName(to: model, among: models.map(\.name))
                reader.report(
                  "unknown_model", "No model is called `\(model)`.",
                  at: "\(path).encoder.model_ref", node.range,
                  label: near.map { "did you mean `\($0)`?" } ?? "",
                  help: models.isEmpty
                    ? "Declare it in `training.models`."
                    : "Models: \(models.map { "`\($0.name)`" }.joined(separator: ", ")).")
              }
            }
            encoder.finish()
          } else {
            let found = type?.kindName ?? "nothing"
            reader.report(
              "not_available", "An embedding's encoder of type \(found) is not available yet.",
              at: "\(path).encoder.type", type?.range ?? node.range,
              help: "Write `{type: trained_model, model_ref: MODEL}`.")
          }
        } else if entry.entries.first(where: { $0.key == "encoder" }) == nil {
          reader.report(
            "missing_key", "`\(path).encoder` is missing.", at: path, node.range,
            help: "Write `encoder: {type: trained_model, model_ref: MODEL}`.")
        }
        entry.finish()
      }
      // `ServingSettings` reads it.
      _ = map.take("lexical_search")
      _ = map.take("vector_search")
      for key in ["item_column_indices", "user_column_indices"] {
        if let node = map.take(key) {
          reader.warn(
            "no_effect", "`index.\(key)` changes nothing here: every column can be filtered.",
            at: "index.\(key)", node.range)
        }
      }
      map.finish()
    }
    var names: Set<String> = []
    for embedding in embeddings where !names.insert(embedding.name).inserted {
      reader.report(
        "duplicate_name", "Two embeddings are called `\(embedding.name)`.", at: "index.embeddings",
        given?.range, help: "Give each its own name.")
    }
    // Every model's vectors are also reachable under the model's own name.
    for model in models where !names.contains(model.name) {
      embeddings.append(Embedding(name: model.name, model: model.name))
    }
    return embeddings
  }

  // MARK: training

  private static func readTraining(_ given: SettingMap) -> [SASRecPolicy] {
    var map = given
    let reader = map.reader
    if let schedule = map.string("schedule"), schedule != "@once" {
      reader.report(
        "not_available", "`training.schedule: \(schedule)` is not available yet.",
        at: "training.schedule", given.entries.first { $0.key == "schedule" }?.value.range,
        help: "Write `schedule: '@once'`, or leave it out: the engine trains when it is created.")
    }
    for key in ["compute", "data_split", "evaluation"] {
      if let node = map.take(key) {
        reader.warn(
          "no_effect",
          "`training.\(key)` changes nothing here: training uses this machine's cores, and every "
            + "model is evaluated leave-one-out on the full catalogue.",
          at: "training.\(key)", node.range)
      }
    }
    if let tuning = map.take("tuning") {
      reader.report(
        "not_available", "`training.tuning` is not available yet.", at: "training.tuning",
        tuning.range, help: "Leave it out and give each hyper-parameter one value.")
    }
    var models: [SASRecPolicy] = []
    for (i, node) in (map.list("models") ?? []).enumerated() {
      let path = "training.models[\(i)]"
      guard let entry = reader.map(node, at: path) else { continue }
      if let model = readModel(entry, range: node.range) {
        if models.contains(where: { $0.name == model.name }) {
          reader.report(
            "duplicate_name", "Two models are called `\(model.name)`.", at: "\(path).name",
            node.range, help: "Give each its own `name`.")
        }
        models.append(model)
      }
    }
    map.finish()
    return models
  }

  /// The other documented policies: real names, so that nobody is told that they were misspelt.
  private static let documentedPolicies: Set<String> = [
    "als", "elsa", "item2vec", "rising-popular", "ngram", "content-gsasrec", "two-tower",
    "two-tower-v2", "beeformer", "semantic-ids", "lightgbm", "xgboost", "gbdt", "bert4rec",
    "gsasrec", "gru4rec", "svd", "widedeep", "no-op", "ease",
  ]

  private static func readModel(_ given: SettingMap, range: Range<Int>?) -> SASRecPolicy? {
    var map = given
    let reader = map.reader
    guard let policyNode = map.required("policy_type", help: "Write `policy_type: sasrec`."),
      let policy = reader.string(policyNode, at: map.path(of: "policy_type"))
    else { return nil }
    guard policy == "sasrec" else {
      let documented = documentedPolicies.contains(policy)
      let near = nearestName(to: policy, among: ["sasrec"])
      reader.report(
        documented ? "not_available" : "unknown_policy",
        documented
          ? "The policy `\(policy)` is not available yet." : "Unknown policy `\(policy)`.",
        at: map.path(of: "policy_type"), policyNode.range,
        label: documented ? "" : near.map { "did you mean `\($0)`?" } ?? "",
        help: "Write `policy_type: sasrec`, the policy that this build trains.")
      return nil
    }
    var model = SASRecPolicy()
    if let name = map.string("name") { model.name = name }
    if !isName(model.name) || model.name.contains("-") {
      reader.report(
        "invalid_name", "`\(model.name)` cannot name a model.", at: map.path(of: "name"), range,
        help: "Use letters, digits and `_`, and begin with a letter: queries write the name bare.")
    }
    model.eventValues = map.strings("event_values")
    if let value = map.int("hidden_size", in: 4...1024) { model.width = value }
    model.innerWidth = map.int("inner_size", in: 4...4096)
    if let value = map.int("n_heads", in: 1...16) { model.heads = value }
    if let value = map.int("n_layers", in: 1...12) { model.blocks = value }
    if let value = map.int("max_seq_length", in: 1...1000) { model.maximumLength = value }
    if let value = map.choice("hidden_act", of: ["gelu", "relu", "silu"]) {
      model.activation = value
    }
    let hiddenDropout = map.double("hidden_dropout_prob", in: 0...0.9)
    let attentionDropout = map.double("attn_dropout_prob", in: 0...0.9)
    if let value = hiddenDropout ?? attentionDropout { model.dropout = value }
    if let hiddenDropout, let attentionDropout, hiddenDropout != attentionDropout {
      reader.report(
        "not_available",
        "`hidden_dropout_prob` is \(hiddenDropout) and `attn_dropout_prob` is "
          + "\(attentionDropout); this build has one dropout for both.",
        at: map.path(of: "attn_dropout_prob"),
        given.entries.first { $0.key == "attn_dropout_prob" }?.value.range,
        help: "Give both the same value, or leave one out.")
    }
    if let value = map.double("layer_norm_eps", in: 1e-14...0.1) { model.layerNormEpsilon = value }
    if let value = map.double("initializer_range", in: 1e-6...1) { model.initializerRange = value }
    if let value = map.int("n_epochs", in: 1...10_000) { model.epochs = value }
    if let value = map.int("batch_size", in: 1...65_536) { model.batchSize = value }
    if let value = map.double("learning_rate", in: 1e-7...1) { model.learningRate = value }
    if let value = map.int("early_stopping_step", in: 1...10_000) { model.patience = value }
    if let value = map.int("sample_seed", in: 0...Int(Int32.max)) { model.seed = UInt64(value) }
    readLoss(&map, into: &model)
    for key in ["append_item_features", "append_item_embeddings", "use_candidate_embeddings"]
    where map.bool(key) == true {
      reader.report(
        "not_available", "`\(map.path(of: key))` is not available yet.", at: map.path(of: key),
        given.entries.first { $0.key == key }?.value.range,
        help: "Leave it out: the model learns from item ids.")
    }
    _ = map.choice("sample_strategy", of: ["user_based"])
    let inert = [
      "eval_batch_size": "evaluation ranks in batches of its own",
      "mask_rate": "the model predicts the next item and masks nothing",
      "sample_ratio": "every event is used", "eval_step": "every epoch is evaluated",
      "device": "training uses this machine's cores",
      "normalize_numerical_features": "the model learns from item ids",
      "use_derived_timestamp_features": "the model learns from item ids",
      "balance_labels": "the model learns from positive events",
    ]
    for (key, reason) in inert.sorted(by: { $0.key < $1.key }) {
      if let node = map.take(key) {
        reader.warn(
          "no_effect", "`\(map.path(of: key))` changes nothing here: \(reason).",
          at: map.path(of: key), node.range)
      }
    }
    if model.width % model.heads != 0 {
      reader.report(
        "out_of_range",
        "`\(map.path(of: "hidden_size"))` is \(model.width), which \(model.heads) heads do not "
          + "divide.",
        at: map.path(of: "n_heads"), range,
        help: "Let `hidden_size` be a multiple of `n_heads`.")
    }
    map.finish()
    return model
  }

  /// The loss and what else of training goes beyond the documented keys.
  private static func readLoss(_ map: inout SettingMap, into model: inout SASRecPolicy) {
    let kinds = SASRecPolicy.Loss.allCases.map(\.rawValue)
    if let value = map.choice("loss_type", of: kinds) { model.loss = .init(rawValue: value) }
    if let value = map.int("negative_samples_count", in: 1...100_000) { model.negatives = value }
    if let value = map.choice("negative_sharing", of: ["batch", "sequence"]) {
      model.sharesNegativesInBatch = value == "batch"
    }
    if let value = map.double("negative_popularity_power", in: 0...1) {
      model.negativePopularityPower = value
    }
    if let value = map.double("gbce_t", in: 0...1) { model.calibration = value }
    if let value = map.double("weight_decay", in: 0...1) { model.weightDecay = value }
    model.gradientNorm = map.double("gradient_clip_norm", in: 1e-6...1e6)
    if let value = map.choice("learning_rate_schedule", of: ["constant", "cosine", "linear"]) {
      model.schedule = value
    }
    if let value = map.int("warm_up_steps", in: 0...1_000_000) { model.warmUpSteps = value }
    model.averaging = map.double("weight_averaging", in: 0...0.99999)
    if let value = map.double("older_windows", in: 0...1) { model.olderWindows = value }
    model.precision = map.choice("precision", of: ["float32", "bfloat16"])
  }

  // MARK: deployment and queries

  private static func readDeployment(_ map: inout SettingMap) {
    _ = map.choice("data_tier", of: ["fast_tier", "cold_tier"])
    // `ServingSettings` reads it.
    _ = map.take("pagination")
    for key in ["rollout", "autoscaling", "online_store"] {
      if let node = map.take(key) {
        map.reader.warn(
          "no_effect",
          "`deployment.\(key)` changes nothing here: one process serves, whole histories are kept, "
            + "and a new model goes live by one swap.", at: "deployment.\(key)", node.range)
      }
    }
    map.finish()
  }

  private static func readQueries(_ map: SettingMap) -> [SavedQuery] {
    map.entries.compactMap { entry in
      let path = map.path(of: entry.key)
      let reader = map.reader
      guard var body = reader.map(entry.value, at: path) else { return nil }
      var text: String?
      if let node = body.required("query", help: "Write the query: `query: SELECT ...`.") {
        if case .map = node.content {
          do throws(Diagnostics) {
            text = try QueryConfig.text(node.json)
          } catch {
            for problem in error.all {
              reader.report(
                problem.code, problem.message, at: "\(path).query", node.range, help: problem.help)
            }
          }
        } else {
          text = reader.string(node, at: "\(path).query")
        }
      }
      let declared = body.map("parameters")
      let alternative = body.map("params")
      body.finish()
      var parameters: [SavedQuery.Parameter] = []
      for map in [declared, alternative].compactMap({ $0 }) {
        for parameter in map.entries {
          let path = map.path(of: parameter.key)
          var value: JSON?
          var required = false
          if parameter.value.isNull {
            required = true
          } else if var body = reader.map(parameter.value, at: path) {
            value = body.take("default")?.json
            required = body.bool("required") ?? (value == nil)
            _ = body.take("type")
            body.finish()
          }
          parameters.append(.init(name: parameter.key, defaultValue: value, required: required))
        }
      }
      return text.map { SavedQuery(name: entry.key, text: $0, parameters: parameters) }
    }
  }
}
