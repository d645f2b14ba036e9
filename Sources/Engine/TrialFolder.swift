package import Domain
import Foundation
import Training

/// A search's trials as files: figures as JSON, weights as safetensors, both by the hash of what the
/// trial depends on.
///
/// The folder is a cache: it may be removed at any time, and what cannot be written is only slower.
package struct TrialFolder: TrialStore {
  private let path: String

  package init(path: String) { self.path = path }

  private func file(_ key: String, _ suffix: String) -> String { "\(path)/\(key).\(suffix)" }

  package func trial(_ key: String) -> JSON? {
    FileManager.default.contents(atPath: file(key, "json")).flatMap {
      try? JSON(parsing: Array($0))
    }
  }

  package func weights(_ key: String) -> [UInt8]? {
    FileManager.default.contents(atPath: file(key, "safetensors")).map { Array($0) }
  }

  package func keep(_ trial: JSON, _ key: String) { write(trial.text.utf8, key, "json") }

  package func keep(weights: [UInt8], _ key: String) { write(weights, key, "safetensors") }

  private func write(_ bytes: some Sequence<UInt8>, _ key: String, _ suffix: String) {
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try? Data(bytes).write(to: URL(filePath: file(key, suffix)), options: .atomic)
  }
}
