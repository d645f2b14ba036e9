import Domain
import Engine
import Models
import Testing
import Training

/// The problems of a settings text, as people see them.
private func problems(_ text: String) -> [String] {
  do {
    _ = try EngineConfiguration(parsing: text)
    return []
  } catch {
    return error.all.map(\.description)
  }
}

@Suite struct `Engine configuration` {
  @Test func `reads the smallest engine`() throws {
    let engine = try EngineConfiguration(
      parsing: """
        name: for_you
        data: {interaction_table: events}
        training: {models: [{policy_type: sasrec}]}
        """)
    #expect(engine.name == "for_you")
    #expect(engine.data.interactionTable.name == "events")
    #expect(engine.data.itemTable == nil)
    #expect(engine.models == [PolicySettings(SASRecTraining.description)])
    #expect(engine.embeddings == [.init(name: "sasrec", model: "sasrec")])
    #expect(engine.warnings.isEmpty)
  }

  @Test func `reads every key of a full engine`() throws {
    let engine = try EngineConfiguration(
      parsing: """
        version: v2
        name: for_you
        description: "Videos: the feed"
        tags: {team: feed}
        data:
          interaction_table: {type: table, name: video_events, columns: [user_id, item_id]}
          item_table: {type: table, name: videos}
        index:
          embeddings:
            - {name: taste, encoder: {type: trained_model, model_ref: seq}}
        training:
          schedule: '@once'
          models:
            - policy_type: sasrec
              name: seq
              hidden_size: 32
              inner_size: 64
              n_heads: 4
              n_layers: 1
              max_seq_length: 100
              hidden_act: relu
              hidden_dropout_prob: 0.1
              attn_dropout_prob: 0.1
              n_epochs: 7
              batch_size: 64
              learning_rate: 0.002
              early_stopping_step: 3
              sample_seed: 9
              loss_type: CE
              event_values: [like, share]
        deployment: {data_tier: fast_tier}
        queries:
          feed:
            query: SELECT * FROM similarity(embedding_ref='taste') LIMIT $n
            parameters: {user_id: {default: u1}, n: {default: 20}, language: null}
        """)
    #expect(engine.description == "Videos: the feed")
    #expect(engine.tags == [.init(name: "team", value: "feed")])
    #expect(engine.data.interactionTable.columns == ["user_id", "item_id"])
    #expect(engine.data.itemTable?.name == "videos")
    #expect(
      engine.embeddings == [.init(name: "taste", model: "seq"), .init(name: "seq", model: "seq")])
    let model = try #require(engine.model(named: "seq"))
    #expect(model.eventValues == ["like", "share"])
    #expect(model["hidden_size"] == .integer(32) && model["inner_size"] == .integer(64))
    #expect(model["n_heads"] == .integer(4) && model["n_layers"] == .integer(1))
    #expect(model["max_seq_length"] == .integer(100) && model["hidden_act"] == .text("relu"))
    #expect(model["attn_dropout_prob"] == .number(0.1) && model["n_epochs"] == .integer(7))
    #expect(model["batch_size"] == .integer(64) && model["early_stopping_step"] == .integer(3))
    #expect(model["seed"] == .integer(9))
    let query = try #require(engine.query(named: "feed"))
    #expect(query.text == "SELECT * FROM similarity(embedding_ref='taste') LIMIT $n")
    #expect(
      query.parameters == [
        .init(name: "user_id", defaultValue: "u1", required: false),
        .init(name: "n", defaultValue: 20, required: false),
        .init(name: "language", defaultValue: nil, required: true),
      ])
    #expect(engine.json["data"]?["item_table"]?["name"]?.string == "videos")
  }

  @Test func `reads every loss and what training adds to the documented keys`() throws {
    func model(_ keys: String) throws -> PolicySettings {
      let engine = try EngineConfiguration(
        parsing: """
          name: e
          data: {interaction_table: events}
          training:
            models:
              - {policy_type: sasrec, \(keys)}
          """)
      return try #require(engine.models.first)
    }
    let plain = try model("name: m")
    #expect(plain["loss_type"] == nil && plain["older_windows"] == .number(0.5))
    for loss in ["CE", "sampled_softmax", "gBCE", "BCE", "BPR"] {
      #expect(try model("loss_type: \(loss)")["loss_type"] == .text(loss))
    }
    let full = try model(
      """
      loss_type: gBCE, gbce_t: 0.5, negative_samples_count: 64, negative_sharing: sequence,
      negative_popularity_power: 0.5, weight_decay: 0.01, gradient_clip_norm: 1,
      learning_rate_schedule: cosine, warm_up_steps: 50, weight_averaging: 0.99,
      older_windows: 0, precision: float32
      """)
    #expect(full.integer("negative_samples_count") == 64 && full.number("gbce_t") == 0.5)
    #expect(full.number("gradient_clip_norm") == 1 && full.integer("warm_up_steps") == 50)
    #expect(full.text("precision") == "float32" && full.number("older_windows") == 0)
    #expect(throws: Diagnostics.self) { try model("loss_type: gbce") }
    #expect(throws: Diagnostics.self) { try model("older_windows: 2") }
    #expect(throws: Diagnostics.self) { try model("n_heads: 3") }
    #expect(throws: Diagnostics.self) {
      try model("attn_dropout_prob: 0.1, hidden_dropout_prob: 0.3")
    }
  }

  @Test func `refuses a file whose aliases would fill the memory`() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1..<9 {
      let one = "*a\(level - 1)"
      text +=
        "a\(level): &a\(level) [\(Array(repeating: one, count: 9).joined(separator: ", "))]\n"
    }
    let found = problems(text)
    #expect(found.count == 1)
    #expect(found.first?.contains("has more than 20000 values") == true)
  }

  @Test func `reads JSON as well`() throws {
    let engine = try EngineConfiguration(
      parsing: #"{"version": "v2", "name": "a\u00e9b", "description": null, "data": {}}"#
        .replacing(#"a\u00e9b"#, with: "ab").replacing(
          #""data": {}"#, with: #""data": {"interaction_table": {"name": "events"}}"#))
    #expect(engine.name == "ab")
    #expect(engine.data.interactionTable.name == "events")
  }

  @Test func `names all problems at once, each with its line`() {
    let found = problems(
      """
      name: for_you
      data:
        interaction_tabel: events
      training:
        models:
          - policy_type: sasrec
            hidden_size: many
            n_head: 2
          - policy_type: lightgbm
      querys: {}
      """)
    #expect(
      found == [
        """
        error: `data.interaction_table` is missing.
         --> engine.yaml:3:3
        3 |   interaction_tabel: events
          |   ^
          help: Name the table of events: `interaction_table: events`.
        """,
        """
        error: Unknown key `interaction_tabel` in `data`.
         --> engine.yaml:3:3
        3 |   interaction_tabel: events
          |   ^^^^^^^^^^^^^^^^^ did you mean `interaction_table`?
          help: Did you mean `interaction_table`?
        """,
        """
        error: `training.models[0].hidden_size` is `many`; it must be a whole number from 4 to 1024.
         --> engine.yaml:7:20
        7 |       hidden_size: many
          |                    ^^^^
        """,
        """
        error: Unknown key `n_head` in `training.models[0]`.
         --> engine.yaml:8:7
        8 |       n_head: 2
          |       ^^^^^^ did you mean `n_heads`?
          help: Did you mean `n_heads`?
        """,
        """
        error: The policy `lightgbm` is not available here.
         --> engine.yaml:9:20
        9 |     - policy_type: lightgbm
          |                    ^^^^^^^^
          help: The nearest is `policy_type: retrieve-rank`: it orders candidates by a sequence model, not by trees.
        """,
        """
        error: Unknown key `querys`.
          --> engine.yaml:10:1
        10 | querys: {}
           | ^^^^^^ did you mean `queries`?
          help: Did you mean `queries`?
        """,
      ])
  }

  @Test(arguments: [
    (
      "interaction_table: {type: file, path: p}", "A table reference is a table, a view or a query."
    ),
    (
      "interaction_table: events, filters: [{name: watched, filter_table: {type: file, path: p}, filter_type: global}]",
      "A filter's table of type `file` is not available."
    ),
    ("interaction_table: [events]", "`data.interaction_table` is a list; it must be a map."),
  ])
  func `says what is not available`(data: String, message: String) {
    let found = problems("name: e\ndata: {\(data)}")
    #expect(found.count == 1 && found[0].contains(message), "\(found)")
    #expect(found.allSatisfy { $0.contains("engine.yaml:2:") })
  }

  @Test func `points at text that is not YAML`() {
    let found = problems("name: e\ndata: {interaction_table: events\n")
    #expect(found.count == 1)
    #expect(found[0].hasPrefix("error: The text is not valid YAML: "))
    #expect(found[0].contains("--> engine.yaml:"))
  }

  @Test func `refuses a key that stands twice`() {
    let found = problems("name: a\nname: b\n")
    #expect(found.count == 1 && found[0].contains("`name` stands more than once in one map."))
  }

  @Test func `keeps words that YAML 1.1 would turn into booleans`() throws {
    let engine = try EngineConfiguration(
      parsing: "name: on\ndescription: no\ndata: {interaction_table: yes}")
    #expect(engine.name == "on" && engine.description == "no")
    #expect(engine.data.interactionTable.name == "yes")
  }

  @Test func `lists settings that change nothing`() throws {
    let engine = try EngineConfiguration(
      parsing: """
        name: e
        data: {interaction_table: events, schedule: '@hourly'}
        training: {models: [{policy_type: sasrec, mask_rate: 0.2}]}
        """)
    #expect(
      engine.warnings.map(\.message) == [
        "`data.schedule: @hourly` changes nothing here: inserted rows are visible at once.",
        "`training.models[0].mask_rate` changes nothing here: the model predicts the next item and "
          + "masks nothing.",
      ])
  }

  @Test func `refuses an embedding of an unknown model`() {
    let found = problems(
      """
      name: e
      data: {interaction_table: events}
      index: {embeddings: [{name: taste, encoder: {type: trained_model, model_ref: sek}}]}
      training: {models: [{policy_type: sasrec, name: seq}]}
      """)
    #expect(
      found.count == 1
        && found[0].contains("No model is called `sek`.\n --> engine.yaml:3:78"), "\(found)")
    #expect(found[0].contains("did you mean `seq`?"))
  }
}
