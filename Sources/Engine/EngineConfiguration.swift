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
  /// `sample_seed`, the seed of everything random in training. Default 42.
  package var seed: UInt64 = 42

  package init() {}
}
