import Dispatch
package import Domain
import GRDB
import Synchronization

/// The registry: documents under a kind and a name, in the database beside the rows.
extension LogStore {
  /// Stores a document under its kind and name, in place of an earlier one.
  package func setEntry(kind: String, name: String, json: String) async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "store the \(kind) `\(name)`") { database in
        try database.execute(
          sql: "INSERT OR REPLACE INTO _riffle_entries (kind, name, json) VALUES (?, ?, ?)",
          arguments: [kind, name, json])
      }
    }
  }

  /// Stores a document, and waits for it without needing a thread of the shared pool: for threads
  /// that may wait, while the pool's own threads may be waiting for them.
  package func setEntryAndWait(_ entry: RegistryEntry) throws(Diagnostic) {
    try performAndWait { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "store the \(entry.kind) `\(entry.name)`") { database in
        try database.execute(
          sql: "INSERT OR REPLACE INTO _riffle_entries (kind, name, json) VALUES (?, ?, ?)",
          arguments: [entry.kind, entry.name, entry.json])
      }
    }
  }

  /// Removes a document in the same way.
  package func removeEntryAndWait(kind: String, name: String) throws(Diagnostic) {
    try performAndWait { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "remove the \(kind) `\(name)`") { database in
        try database.execute(
          sql: "DELETE FROM _riffle_entries WHERE kind = ? AND name = ?", arguments: [kind, name])
      }
    }
  }

  private func performAndWait(
    _ body: @escaping @Sendable (LogWriter) throws(Diagnostic) -> Void
  ) throws(Diagnostic) {
    let done = DispatchSemaphore(value: 0)
    let problem = Mutex<Diagnostic?>(nil)
    try queue.enqueue(
      .perform { writer in
        do throws(Diagnostic) { try body(writer) } catch { problem.withLock { $0 = error } }
        done.signal()
      })
    done.wait()
    if let problem = problem.withLock({ $0 }) { throw problem }
  }

  /// Removes a document; nothing happens where there is none.
  package func removeEntry(kind: String, name: String) async throws(Diagnostic) {
    try await perform { (writer) throws(Diagnostic) in
      try writer.transaction(doing: "remove the \(kind) `\(name)`") { database in
        try database.execute(
          sql: "DELETE FROM _riffle_entries WHERE kind = ? AND name = ?", arguments: [kind, name])
      }
    }
  }

  /// The documents of a kind, by name.
  package func entries(kind: String) throws(Diagnostic) -> [RegistryEntry] {
    try translatingFaults(path: path, doing: "read the registry") {
      try database.read { database in
        try Row.fetchAll(
          database, sql: "SELECT name, json FROM _riffle_entries WHERE kind = ? ORDER BY name",
          arguments: [kind]
        ).map { RegistryEntry(kind: kind, name: $0["name"], json: $0["json"]) }
      }
    }
  }

  /// The document of a kind and name, or nil.
  package func entry(kind: String, name: String) throws(Diagnostic) -> RegistryEntry? {
    try entries(kind: kind).first { $0.name == name }
  }
}
