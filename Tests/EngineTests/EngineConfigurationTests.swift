import Domain
import Engine
import Testing

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
    #expect(engine.models == [SASRecPolicy()])
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
    #expect(model.width == 32 && model.innerWidth == 64 && model.heads == 4 && model.blocks == 1)
    #expect(model.maximumLength == 100 && model.activation == "relu" && model.dropout == 0.1)
    #expect(model.epochs == 7 && model.batchSize == 64 && model.patience == 3 && model.seed == 9)
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
    func model(_ keys: String) throws -> SASRecPolicy {
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
    #expect(plain.loss == nil && plain.olderWindows == 0.5 && plain.averaging == nil)
    for loss in SASRecPolicy.Loss.allCases {
      #expect(try model("loss_type: \(loss.rawValue)").loss == loss)
    }
    let full = try model(
      """
      loss_type: gBCE, gbce_t: 0.5, negative_samples_count: 64, negative_sharing: sequence,
      negative_popularity_power: 0.5, weight_decay: 0.01, gradient_clip_norm: 1,
      learning_rate_schedule: cosine, warm_up_steps: 50, weight_averaging: 0.99,
      older_windows: 0, precision: float32
      """)
    #expect(full.negatives == 64 && !full.sharesNegativesInBatch && full.calibration == 0.5)
    #expect(full.negativePopularityPower == 0.5 && full.weightDecay == 0.01)
    #expect(full.gradientNorm == 1 && full.schedule == "cosine" && full.warmUpSteps == 50)
    #expect(full.averaging == 0.99 && full.olderWindows == 0 && full.precision == "float32")
    #expect(throws: Diagnostics.self) { try model("loss_type: gbce") }
    #expect(throws: Diagnostics.self) { try model("older_windows: 2") }
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
          - policy_type: bert4rec
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
        error: The policy `bert4rec` is not available yet.
         --> engine.yaml:9:20
        9 |     - policy_type: bert4rec
          |                    ^^^^^^^^
          help: Write `policy_type: sasrec`, the policy that this build trains.
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
      "interaction_table: {type: query, query: SELECT 1}",
      "A table reference of type `query` is not available yet."
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

  @Test func `refuses a search over values and says what to write`() {
    let found = problems(
      """
      name: e
      data: {interaction_table: events}
      training:
        models:
          - policy_type: sasrec
            learning_rate: {type: tunable_float, min: 0.0005, max: 0.01, scale: log}
      """)
    #expect(
      found == [
        """
        error: `training.models[0].learning_rate` asks for a search over values (`tunable_float`), which is not available yet.
         --> engine.yaml:6:29
        6 |       learning_rate: {type: tunable_float, min: 0.0005, max: 0.01, scale: log}
          |                             ^^^^^^^^^^^^^
          help: Write one value, for example the middle of the range, or leave the key out.
        """
      ])
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
