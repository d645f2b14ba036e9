package import Domain
import Ingest
import Logging
import State
import Storage

extension RiffleDatabase {
  /// Changes a table: the body of `PATCH /v2/tables`, a definition that names what is new.
  ///
  /// Columns are added or widened, rules replaced; nothing is taken away. Engines that read the table
  /// follow at once, without folding the log again.
  ///
  /// - Throws: `unknown_table`; every problem of the change; `engine_busy` while an engine that reads
  ///   the table is being made.
  @discardableResult
  package func alterTable(_ definition: JSON) async throws -> TableSchema {
    guard let name = definition["name"]?.string else {
      throw Diagnostic(
        code: "missing_member", "The change names no table.", at: "name",
        help: #"Write {"name": "events", "column_schema": {"device": "String"}}."#)
    }
    let schema = try await log.alterTable(name) { [self] (old) throws(Diagnostics) in
      let new = try TableChange.apply(definition, to: old)
      let mappings = try remapped(new)
      return (
        new,
        {
          for (engine, mapping) in mappings { engine.adopt(mapping) }
        }
      )
    }
    logger.info(
      "Changed a table",
      metadata: ["table": "\(name)", "columns": "\(schema.columns.count)"])
    return schema
  }

  /// The engines that read a table, each with what it will make of the table's new form.
  private func remapped(
    _ schema: TableSchema
  ) throws(Diagnostics) -> [(ServedEngine, EntityMapping)] {
    var found: [(ServedEngine, EntityMapping)] = []
    var problems: [Diagnostic] = []
    for engine in followingEngines {
      let mapping = engine.mapping
      guard mapping.interactionTable.name == schema.name || mapping.itemTable?.name == schema.name
      else { continue }
      if engine.isReplaying {
        problems.append(
          Diagnostic(
            .conflict, code: "engine_busy",
            "The engine `\(engine.name)` is being made from the table `\(schema.name)`.",
            help: "Send the change again once the engine is there."))
        continue
      }
      let new = self.mapping(of: engine.configuration, &problems) { name throws(Diagnostic) in
        name == schema.name ? schema : try log.schema(of: name)
      }
      if let new { found.append((engine, new)) }
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    return found
  }
}
