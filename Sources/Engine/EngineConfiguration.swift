package import Domain

/// What a person declares of an engine: its tables, its models and its saved queries.
///
/// The keys are those of the documented engine YAML, version 2. A key, a policy or a kind of table
/// reference that this build does not serve is an error that says what to write instead; nothing is
/// silently ignored. Keys that are accepted but change nothing here are listed in `warnings`.
package struct EngineConfiguration: Hashable, Sendable {
  package var name: String
  package var description: String?
  /// Name and value, in the order of the file.
  package var tags: [Tag]
  package var data: DataSection
  package var embeddings: [Embedding]
  package var models: [SASRecPolicy]
  package var queries: [SavedQuery]
  /// The file's text as it came in (YAML or JSON).
  package var source: String
  /// The whole configuration as JSON, as `GET /v2/engines/{engine}` shows it.
  package var json: JSON
  package var warnings: [Diagnostic]

  package struct Tag: Hashable, Sendable {
    package var name: String
    package var value: String
    package init(name: String, value: String) { (self.name, self.value) = (name, value) }
  }

  /// A table and the columns that the engine takes from it.
  package struct TableReference: Hashable, Sendable {
    package var name: String
    /// All columns where nil.
    package var columns: [String]?
    /// The query whose rows are read; they are kept as a view of the name.
    package var query: String?
    /// Where the reference stands in the file, for errors.
    package var path: String
  }

  package struct DataSection: Hashable, Sendable {
    package var interactionTable: TableReference
    package var itemTable: TableReference?
    /// Columns of the interaction table (the item and user columns are also the item table's).
    package var itemColumn = "item_id"
    package var userColumn = "user_id"
    package var labelColumn: String?
    package var timeColumn: String?
    package var eventColumn: String?
    /// Queries that are read in place of tables are kept as views under names of the engine's own.
    mutating func nameQueries(of engine: String) {
      if interactionTable.query != nil { interactionTable.name = "\(engine)-interactions" }
      if itemTable?.query != nil { itemTable?.name = "\(engine)-items" }
    }

    /// The references that are queries.
    var queries: [TableReference] {
      [interactionTable, itemTable].compactMap { $0 }.filter { $0.query != nil }
    }

    /// Names that `prebuilt('...')` accepts beside `already_seen`.
    package var filters: [String] = []
  }

  package struct Embedding: Hashable, Sendable {
    package var name: String
    package var model: String
    package init(name: String, model: String) { (self.name, self.model) = (name, model) }
  }

  package struct SavedQuery: Hashable, Sendable {
    package struct Parameter: Hashable, Sendable {
      package var name: String
      package var defaultValue: JSON?
      package var required: Bool
      package init(name: String, defaultValue: JSON?, required: Bool) {
        (self.name, self.defaultValue, self.required) = (name, defaultValue, required)
      }
    }
    package var name: String
    package var text: String
    package var parameters: [Parameter]
  }

  package func model(named name: String) -> SASRecPolicy? { models.first { $0.name == name } }
  package func query(named name: String) -> SavedQuery? { queries.first { $0.name == name } }
}

/// The `sasrec` policy: a self-attentive sequence model and how it is trained.
///
/// Defaults differ from the documented service's where its own are known to be weak (one epoch, BPR
/// with two negatives): the loss is full-catalogue cross-entropy, and training stops early on the
/// validation metric. Each default stands beside its property.
package struct SASRecPolicy: Hashable, Sendable {
  package var name = "sasrec"
  /// `event_values`: the kinds of events that count as positives; every positive event where nil.
  package var eventValues: [String]?
  /// `hidden_size`, the width of item vectors. Default 64.
  package var width = 64
  /// `inner_size`, the width of the feed-forward layer. Default four times `hidden_size`.
  package var innerWidth: Int?
  /// `n_heads`. Default 2.
  package var heads = 2
  /// `n_layers`. Default 2.
  package var blocks = 2
  /// `max_seq_length`, the number of newest events that the model sees. Default 200: sequences are
  /// packed, so that a short one costs nothing more.
  package var maximumLength = 200
  /// `hidden_act`: `gelu` (default) or `relu`.
  package var activation = "gelu"
  /// `hidden_dropout_prob` and `attn_dropout_prob`: one value serves both. Default 0.2.
  package var dropout = 0.2
  /// `layer_norm_eps`. Default 1e-5.
  package var layerNormEpsilon = 1e-5
  /// `initializer_range`, the standard deviation of the first weights. Default 0.02.
  package var initializerRange = 0.02
  /// `n_epochs`, at most. Default 60.
  package var epochs = 60
  /// `batch_size`, in users. Default (nil) a sixty-fourth of the users, at least 16 and at most 128: a
  /// small data set needs the steps, a large one the speed.
  package var batchSize: Int?
  /// `learning_rate`. Default 0.001.
  package var learningRate = 0.001
  /// `early_stopping_step`: epochs without a better validation metric before training stops. Default 8.
  package var patience = 8
  /// What the right item is compared with.
  package enum Loss: String, Hashable, Sendable, CaseIterable {
    /// Softmax cross-entropy over the whole catalogue.
    case fullSoftmax = "CE"
    /// Softmax cross-entropy over the right item and drawn ones.
    case sampledSoftmax = "sampled_softmax"
    /// Generalised binary cross-entropy, the loss of gSASRec.
    case generalisedBinary = "gBCE"
    case binary = "BCE"
    case pairwise = "BPR"
  }
  /// `loss_type`. Default (nil) `CE` up to 20,000 items, beyond them `sampled_softmax`, whose cost does
  /// not grow with the catalogue.
  package var loss: Loss?
  /// `negative_samples_count`: items drawn for the losses that draw. Default 512.
  package var negatives = 512
  /// `negative_sharing`: `batch` (default; all positions that pass through the model together share the
  /// drawn items) or `sequence`.
  package var sharesNegativesInBatch = true
  /// `negative_popularity_power`: items are drawn in proportion to their count raised to this, and
  /// scores are corrected by the logarithm of that. Default 0, uniform.
  package var negativePopularityPower = 0.0
  /// `gbce_t`, the calibration of `gBCE` from 0 to 1. Default 0.75.
  package var calibration = 0.75
  /// `weight_decay`, decoupled (AdamW). Default 0.
  package var weightDecay = 0.0
  /// `gradient_clip_norm`. Default (nil) none.
  package var gradientNorm: Double?
  /// `learning_rate_schedule`: `constant` (default), `cosine` or `linear`.
  package var schedule = "constant"
  /// `warm_up_steps`. Default 0.
  package var warmUpSteps = 0
  /// `weight_averaging`, the decay of a moving average that is served. Default (nil) none.
  package var averaging: Double?
  /// `older_windows`: the chance that a user with more events than `max_seq_length` trains with an
  /// older window of them instead of the newest. Default 0.5: it lifted NDCG@10 on ML-1M.
  package var olderWindows = 0.5
  /// `precision`: `float32` or `bfloat16`, what matrix products multiply in training. Default (nil)
  /// `bfloat16` where the processor multiplies it in hardware.
  package var precision: String?
  /// `sample_seed`, the seed of everything random in training. Default 42.
  package var seed: UInt64 = 42

  package init() {}
}
