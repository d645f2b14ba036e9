package import Connectors
package import Domain
import Ingest
import Logging
import Storage

/// The sources that bring events in: their definitions in the registry, and the work on them.
extension RiffleDatabase {
  /// All sources, by name, with how each fares.
  package var sources: [SourceInfo] { supervisor.all }

  /// - Throws: `unknown_source` with the nearest name.
  package func source(named name: String) throws(Diagnostic) -> SourceInfo {
    if let source = supervisor.source(name) { return source }
    let names = supervisor.all.map(\.definition.name)
    let help =
      nearestName(to: name, among: names).map { "Did you mean `\($0)`?" }
      ?? (names.isEmpty
        ? "There are no sources yet. Declare one: POST /v2/sources, or riffle sources create."
        : "The sources are \(names.map { "`\($0)`" }.joined(separator: ", ")).")
    throw Diagnostic(
      .notFound, code: "unknown_source", "There is no source `\(name)`.", at: "source", help: help)
  }

  /// The tracking API over the sources that take it.
  package var trackingAPI: SegmentEndpoint { supervisor.endpoint }

  /// Starts reading from all sources. A process that only looks at a directory does not call it.
  package func startSources() async { await supervisor.startAll() }

  /// Stops reading; returns when no source has anything under way.
  package func stopSources() async { await supervisor.stopAll() }

  /// Declares a source and starts it; makes its table where the definition brings one along.
  ///
  /// - Throws: `source_exists`; every problem of the definition and of its table.
  package func createSource(_ definition: JSON) async throws -> SourceDefinition {
    let source = try checked(definition)
    guard supervisor.source(source.name) == nil else {
      throw Diagnostic(
        .conflict, code: "source_exists", "A source `\(source.name)` exists already.", at: "name",
        help: "Choose another name, or change it: PATCH /v2/sources, or riffle sources update.")
    }
    if let table = try newTable(of: source) { _ = try await createTable(table) }
    try await save(source, paused: false)
    await supervisor.add(source, paused: false)
    logger.info(
      "Made a source",
      metadata: ["source": "\(source.name)", "type": "\(source.kind.rawValue)"])
    if !source.literalSecrets.isEmpty {
      logger.warning(
        "A secret stands in the data directory; ${NAME} or file:/path keeps it out",
        metadata: [
          "source": "\(source.name)",
          "keys": "\(source.literalSecrets.joined(separator: ", "))",
        ])
    }
    return source
  }

  /// Replaces a source's definition; it goes on where it was.
  package func updateSource(_ definition: JSON) async throws -> SourceDefinition {
    let source = try checked(definition)
    let former = try self.source(named: source.name)
    if let table = try newTable(of: source) { _ = try await createTable(table) }
    try await save(source, paused: former.isPaused)
    await supervisor.add(source, paused: former.isPaused)
    logger.info("Changed a source", metadata: ["source": "\(source.name)"])
    return source
  }

  /// Removes a source and forgets how far it was read. Its rows stay.
  package func deleteSource(named name: String) async throws {
    _ = try source(named: name)
    await supervisor.remove(name)
    try await log.removeEntry(kind: RegistryKind.source, name: name)
    for stream in try positions(of: name).keys {
      try await log.forgetPosition(ofSource: "\(name)/\(stream)")
    }
    logger.info("Deleted a source", metadata: ["source": "\(name)"])
  }

  /// Lets a source rest, or go on where it was; a restart keeps it so.
  package func setPaused(_ paused: Bool, source name: String) async throws {
    let source = try source(named: name)
    try await save(source.definition, paused: paused)
    _ = await supervisor.setPaused(paused, name)
    logger.info(
      paused ? "Paused a source" : "Resumed a source", metadata: ["source": "\(name)"])
  }

  /// The stored positions of a source, by stream.
  func positions(of source: String) throws -> [String: JSON] {
    let prefix = "\(source)/"
    var positions: [String: JSON] = [:]
    for position in try log.sourcePositions() where position.source.hasPrefix(prefix) {
      positions[String(position.source.dropFirst(prefix.count))] = position.position
    }
    return positions
  }

  /// Sources that deliver to a table.
  func sourceNames(deliveringTo table: String) -> [String] {
    supervisor.all.filter { $0.definition.table == table }.map(\.definition.name)
  }

  private func save(_ source: SourceDefinition, paused: Bool) async throws {
    let record: JSON = ["definition": source.json, "paused": .bool(paused)]
    try await log.setEntry(kind: RegistryKind.source, name: source.name, json: record.text)
  }

  /// Reads the stored definitions, without starting any.
  func restoreSources() throws {
    for entry in try log.entries(kind: RegistryKind.source) {
      do {
        let record = try JSON(parsing: entry.json)
        let source = try SourceDefinition(record["definition"] ?? .null)
        supervisor.register(source, paused: record["paused"]?.bool ?? false)
      } catch {
        logger.error(
          "A source cannot be restored",
          metadata: [
            "source": "\(entry.name)",
            "error": "\((error as? Diagnostics)?.description ?? "\(error)")",
          ])
      }
    }
  }

  // MARK: checks

  private func checked(_ definition: JSON) throws -> SourceDefinition {
    let source = try SourceDefinition(definition)
    try supervisor.check(source)
    let columns: [String]
    if let table = try newTable(of: source) {
      columns = try TableDefinition(table).schema.columns.map(\.name)
    } else {
      columns = try log.schema(of: source.table).columns.map(\.name)
    }
    var problems: [Diagnostic] = []
    func check(_ column: String, at place: String) {
      guard !columns.contains(column) else { return }
      problems.append(
        Diagnostic(
          code: "unknown_column", "The table `\(source.table)` has no column `\(column)`.",
          at: place,
          help: nearestName(to: column, among: columns).map { "Did you mean `\($0)`?" }
            ?? "Its columns are \(columns.map { "`\($0)`" }.joined(separator: ", "))."))
    }
    for rule in source.mapping?.rules ?? [] { check(rule.column, at: "mapping.\(rule.column)") }
    if case .kafka(let kafka) = source.settings, let column = kafka.keyColumn {
      check(column, at: "key_column")
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    return source
  }

  /// The definition of the table that a source brings along; nil where the table is there already.
  private func newTable(of source: SourceDefinition) throws -> JSON? {
    if log.table(source.table) != nil { return nil }
    if let table = source.tableDefinition { return table }
    guard source.kind.isPushed else { return nil }
    return [
      "name": .string(source.table), "schema_type": "CUSTOM", "unique_keys": ["message_id"],
      "column_schema": [
        "message_id": "String", "type": "LowCardinality(String)", "user_id": "String",
        "anonymous_id": "String", "event": "LowCardinality(String)", "properties": "Json",
        "traits": "Json", "context": "Json", "timestamp": "DateTime", "received_at": "DateTime",
      ],
    ]
  }
}
