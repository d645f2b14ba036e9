package import Domain
import Models
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
    let (models, tuning) = training.map { readTraining($0) } ?? ([], nil)
    let embeddings = readIndex(index, models: models, reader)
    if var deployment = top.map("deployment") { readDeployment(&deployment) }
    let queries = top.map("queries").map { readQueries($0) } ?? []
    top.finish()
    guard let name, var data else { return nil }
    data.nameQueries(of: name)
    return EngineConfiguration(
      name: name, description: description, tags: tags ?? [], data: data, embeddings: embeddings,
      models: models, tuning: tuning, queries: queries, source: text, json: root.json, warnings: [])
  }

  static func isName(_ text: String) -> Bool {
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
    let users = map.take("user_table").flatMap {
      readTable($0, at: map.path(of: "user_table"), reader)
    }
    if let schedule = map.string("schedule") {
      reader.warn(
        "no_effect",
        "`data.schedule: \(schedule)` changes nothing here: inserted rows are visible at once.",
        at: "data.schedule", nil)
    }
    _ = map.take("compute")
    var section = interactions.map {
      DataSection(interactionTable: $0, itemTable: items, userTable: users)
    }
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
        section?.sessionColumn = interaction.string("session_id")
        section?.interactionColumn = interaction.string("interaction_id")
        _ = interaction.take("features")
        interaction.finish()
      }
      override.finish()
    }
    if let filters = map.list("filters") {
      section?.filters = readFilters(filters, reader)
    }
    map.finish()
    return section
  }

  static func readTable(
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
    _ given: SettingMap?, models: [PolicySettings], _ reader: SettingReader
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
