package import Domain
import Logging
package import Storage

/// SQL views: made, changed, kept up to date.
extension RiffleDatabase {
  package var views: [StoredView] { log.views() }

  /// - Throws: `unknown_view` with the nearest name.
  package func view(named name: String) throws(Diagnostic) -> StoredView { try log.view(name) }

  /// The rows of a materialised view; nil for one that is computed when it is read.
  package func rowCount(ofView name: String) throws -> Int? {
    let view = try log.view(name)
    return view.definition.kind == .materialised ? try log.rowCount(of: name) : nil
  }

  /// Makes a view, the body of `POST /v2/views`; what it holds of rows that are there already comes
  /// in the background.
  package func createView(_ definition: JSON) async throws -> StoredView {
    let view = try await log.createView(try ViewDefinition(definition), at: .now())
    logger.info("Made a view", metadata: ["view": "\(view.definition.name)"])
    Task { [weak self] in await self?.settle(view.definition.name) }
    return view
  }

  /// Replaces a view by another of the same name, the body of `PATCH /v2/views`.
  ///
  /// - Throws: `view_in_use` where an engine or another view reads it.
  package func replaceView(_ definition: JSON) async throws -> StoredView {
    let new = try ViewDefinition(definition)
    let old = try log.view(new.name)
    try checkUnused(view: new.name)
    try await log.checkView(new)
    try await log.dropView(new.name)
    do {
      let view = try await log.createView(new, at: .now())
      Task { [weak self] in await self?.settle(new.name) }
      return view
    } catch {
      // What was there stays.
      _ = try await log.createView(old.definition, at: old.createdAt)
      Task { [weak self] in await self?.settle(new.name) }
      throw error
    }
  }

  package func deleteView(named name: String) async throws {
    _ = try log.view(name)
    try checkUnused(view: name)
    try await log.dropView(name)
    logger.info("Deleted a view", metadata: ["view": "\(name)"])
  }

  private func checkUnused(view name: String) throws(Diagnostic) {
    let engines = followingEngines.filter { $0.reads(table: name) }
    guard engines.isEmpty else {
      throw Diagnostic(
        .conflict, code: "view_in_use",
        "The view `\(name)` is read by \(engines.map { "`\($0.name)`" }.joined(separator: ", ")).",
        help: "Delete the engine first: DELETE /v2/engines/\(engines[0].name).")
    }
  }

  // MARK: Views of engines

  /// Makes views of the queries that an engine reads in place of tables, and fills them.
  ///
  /// - Returns: their names.
  func makeViews(of configuration: EngineConfiguration) async throws -> [String] {
    var made: [String] = []
    var problems: [Diagnostic] = []
    for reference in configuration.data.queries {
      guard let sql = reference.query else { continue }
      do throws(Diagnostics) {
        _ = try await log.createView(
          ViewDefinition(
            name: reference.name, sql: sql, kind: .materialised, owner: configuration.name),
          at: .now())
        made.append(reference.name)
      } catch {
        problems += error.all.map { problem in
          var problem = problem
          problem.place = "\(reference.path).query"
          problem.span?.origin = "\(reference.path).query"
          return problem
        }
      }
    }
    if !problems.isEmpty {
      await dropViews(made)
      throw Diagnostics(problems)
    }
    for name in made { await settle(name) }
    return made
  }

  func dropViews(_ names: [String]) async {
    for name in names {
      do { try await log.dropView(name) } catch {
        logger.warning("A view could not go", metadata: ["view": "\(name)", "error": "\(error)"])
      }
    }
  }

  // MARK: Keeping them up to date

  /// Brings a new view up to date.
  func settle(_ name: String) async {
    do {
      while try await log.fillView(name) {}
      if try log.view(name).upkeep == .onSchedule { try await log.refreshView(name, at: .now()) }
    } catch {
      logger.warning("A view cannot be filled", metadata: ["view": "\(name)", "error": "\(error)"])
    }
  }

  /// Goes on with what a stop interrupted.
  func continueFillingViews() {
    let names = log.views().filter { $0.status == .backfilling }.map(\.definition.name)
    if names.isEmpty { return }
    Task { [weak self] in for name in names { await self?.settle(name) } }
  }

  /// Computes the scheduled views anew whose time has come, and those that read them after them.
  func refreshViews(evenIfNotDue: Bool = false) async {
    let now = Timestamp.now()
    let due = log.views().filter { view in
      guard view.upkeep == .onSchedule else { return false }
      guard !evenIfNotDue, let last = view.refreshedAt else { return true }
      return now.secondsSinceEpoch - last.secondsSinceEpoch
        >= Double(view.definition.refreshSeconds)
    }
    for view in due.sorted(by: { $0.createdAt < $1.createdAt }) {
      do { try await log.refreshView(view.definition.name, at: now) } catch {
        logger.warning(
          "A view cannot be computed",
          metadata: ["view": "\(view.definition.name)", "error": "\(error)"])
      }
    }
  }
}
