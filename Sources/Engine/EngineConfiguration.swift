package import Domain
package import Models

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
  /// In the order of the file: a model that is made of others comes after them.
  package var models: [PolicySettings]
  /// `training.tuning`; nil where nothing is searched.
  package var tuning: TuningSettings?
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
    package var userTable: TableReference?
    /// Columns of the interaction table (the item and user columns are also the item table's).
    package var itemColumn = "item_id"
    package var userColumn = "user_id"
    package var labelColumn: String?
    package var timeColumn: String?
    package var eventColumn: String?
    /// What `_derived_session_id` and `_derived_interaction_id` show in place of what would be derived.
    package var sessionColumn: String?
    package var interactionColumn: String?
    /// What `prebuilt('...')` accepts beside `already_seen`.
    package var filters: [Filter] = []

    /// Queries that are read in place of tables are kept as views under names of the engine's own.
    mutating func nameQueries(of engine: String) {
      if interactionTable.query != nil { interactionTable.name = "\(engine)-interactions" }
      if itemTable?.query != nil { itemTable?.name = "\(engine)-items" }
      if userTable?.query != nil { userTable?.name = "\(engine)-users" }
    }

    /// The references that are queries.
    var queries: [TableReference] {
      [interactionTable, itemTable, userTable].compactMap { $0 }.filter { $0.query != nil }
    }
  }

  /// A table whose rows name items that must not be recommended.
  package struct Filter: Hashable, Sendable {
    package var name: String
    package var table: TableReference
    /// The rows that count, by a condition on their cells; all where nil.
    package var condition: String?
    /// The column of the user whom a row is about; nil where rows hold for everybody.
    package var userColumn: String?
    package var itemColumn: String
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

  package func model(named name: String) -> PolicySettings? { models.first { $0.name == name } }

  /// Whether other models are made of a model.
  package func isPart(_ name: String) -> Bool { models.contains { $0.partNames.contains(name) } }
  package func query(named name: String) -> SavedQuery? { queries.first { $0.name == name } }
}
