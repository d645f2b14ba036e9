import Domain
import Foundation
import Kernels
import Logging

/// What `riffle doctor` looks at.
package enum Examination {
  package enum Verdict: String, Sendable { case good, warning, bad }

  package struct Finding: Sendable {
    package var check: String
    package var verdict: Verdict
    package var detail: String
    package var help: String?
  }

  /// Looks at a data directory and the machine; changes nothing but the lock while it looks.
  package static func examine(_ path: String) -> [Finding] {
    var findings = [kernels(), openFiles()]
    guard FileManager.default.fileExists(atPath: path) else {
      findings.append(
        Finding(
          check: "directory", verdict: .bad, detail: "There is no data directory `\(path)`.",
          help: "`riffle serve --data-dir \(path)` makes one."))
      return findings
    }
    findings.append(Finding(check: "directory", verdict: .good, detail: path))
    findings.append(disk(path))
    var options = RiffleDatabase.Options()
    options.trains = false
    var logger = Logger(label: "riffle") { _ in SwiftLogNoOpLogHandler() }
    logger.logLevel = .critical
    let database: RiffleDatabase
    do {
      database = try RiffleDatabase(opening: path, options: options, logger: logger)
    } catch {
      let problem = (error as? Diagnostic) ?? (error as? Diagnostics)?.all.first
      let isHeld = problem?.code == "data_directory_in_use"
      findings.append(
        Finding(
          check: isHeld ? "lock" : "database", verdict: isHeld ? .warning : .bad,
          detail: problem?.message ?? "\(error)",
          help: isHeld
            ? "That is right while a server runs; stop it to examine the database."
            : problem?.help))
      return findings
    }
    defer { database.close() }
    findings.append(Finding(check: "lock", verdict: .good, detail: "no other process holds it"))
    findings.append(integrity(database))
    for engine in database.engines { findings.append(examine(engine)) }
    return findings
  }

  private static func integrity(_ database: RiffleDatabase) -> Finding {
    do {
      let problems = try database.integrityProblems()
      let rows = try database.tables.map { try database.table(named: $0.schema.name).rowCount }
      let detail =
        "\(rows.count) tables, \(rows.reduce(0, +)) rows, log position "
        + "\(database.through.rawValue)"
      if problems.isEmpty { return Finding(check: "database", verdict: .good, detail: detail) }
      return Finding(
        check: "database", verdict: .bad, detail: problems.prefix(5).joined(separator: "; "),
        help: "Restore the last backup of the data directory.")
    } catch {
      return Finding(check: "database", verdict: .bad, detail: "\(error)")
    }
  }

  private static func examine(_ engine: ServedEngine) -> Finding {
    let status = engine.status
    let check = "engine"
    if let error = status.error {
      return Finding(check: check, verdict: .bad, detail: "\(engine.name): \(error)")
    }
    guard let generation = engine.generation else {
      return Finding(
        check: check, verdict: .warning, detail: "\(engine.name) has no trained model yet",
        help: "A running server trains it.")
    }
    let behind = engine.asOf.rawValue - generation.through.rawValue
    return Finding(
      check: check, verdict: .good,
      detail:
        "\(engine.name): generation \(generation.number), trained \(generation.trainedAt.iso8601), "
        + "\(behind) log positions behind")
  }

  private static func kernels() -> Finding {
    do {
      let chosen = try chosenKernels()
      return Finding(
        check: "kernels", verdict: chosen.name == "reference" ? .warning : .good,
        detail: "\(chosen.name), of \(Kernels.available.joined(separator: ", "))")
    } catch {
      return Finding(check: "kernels", verdict: .bad, detail: error.message, help: error.help)
    }
  }

  private static func disk(_ path: String) -> Finding {
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: path)
    guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.int64Value else {
      return Finding(check: "disk", verdict: .warning, detail: "the free space is not known")
    }
    let gigabytes = Double(free) / 1e9
    let text = String(format: "%.1f GB free", gigabytes)
    return Finding(
      check: "disk", verdict: gigabytes < 0.2 ? .bad : gigabytes < 2 ? .warning : .good,
      detail: text, help: gigabytes < 2 ? "Make room: an insert fails where the disk is full." : nil
    )
  }

  private static func openFiles() -> Finding {
    var limit = rlimit()
    #if canImport(Glibc)
      let outcome = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    #else
      let outcome = getrlimit(RLIMIT_NOFILE, &limit)
    #endif
    guard outcome == 0 else {
      return Finding(check: "open files", verdict: .warning, detail: "the limit is not known")
    }
    let count = limit.rlim_cur
    return Finding(
      check: "open files", verdict: count < 1024 ? .warning : .good,
      detail: count > 1 << 40 ? "no limit" : "at most \(count)",
      help: count < 1024 ? "Each connection is an open file: raise it with ulimit -n 65536." : nil)
  }
}
