package import Domain
import Foundation
import Training

/// A search's trials as files: figures as JSON, weights as safetensors, both by the hash of what the
/// trial depends on.
///
/// The folder is a cache: it may be removed at any time, and what cannot be written is only slower.
/// Beyond a size the trials that were not used for longest are removed.
package struct TrialFolder: TrialStore {
  /// Two gigabytes: some hundred networks of a catalogue of ten thousand items.
  package static let defaultBytesAtMost = 2_000_000_000

  private let path: String
  private let bytesAtMost: Int

  package init(path: String, bytesAtMost: Int = defaultBytesAtMost) {
    self.path = path
    self.bytesAtMost = bytesAtMost
  }

  private func file(_ key: String, _ suffix: String) -> String { "\(path)/\(key).\(suffix)" }

  package func trial(_ key: String) -> JSON? {
    read(key, "json").flatMap { try? JSON(parsing: Array($0)) }
  }

  package func weights(_ key: String) -> [UInt8]? { read(key, "safetensors").map { Array($0) } }

  package func keep(_ trial: JSON, _ key: String) { write(trial.text.utf8, key, "json") }

  package func keep(weights: [UInt8], _ key: String) {
    write(weights, key, "safetensors")
    makeRoom(except: key)
  }

  /// What is used again is young again.
  private func read(_ key: String, _ suffix: String) -> Data? {
    let name = file(key, suffix)
    guard let data = FileManager.default.contents(atPath: name) else { return nil }
    try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: name)
    return data
  }

  private func write(_ bytes: some Sequence<UInt8>, _ key: String, _ suffix: String) {
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try? Data(bytes).write(to: URL(filePath: file(key, suffix)), options: .atomic)
  }

  /// Removes the oldest trials, figures and weights together, until the rest fits.
  private func makeRoom(except newest: String) {
    let keys: Set<URLResourceKey> = [.fileSizeKey, .contentModificationDateKey]
    guard
      let files = try? FileManager.default.contentsOfDirectory(
        at: URL(filePath: path), includingPropertiesForKeys: Array(keys))
    else { return }
    var trials: [String: (bytes: Int, used: Date, files: [URL])] = [:]
    for file in files where ["json", "safetensors"].contains(file.pathExtension) {
      guard let values = try? file.resourceValues(forKeys: keys) else { continue }
      let key = file.deletingPathExtension().lastPathComponent
      var trial = trials[key] ?? (0, .distantPast, [])
      trial.bytes += values.fileSize ?? 0
      trial.used = max(trial.used, values.contentModificationDate ?? .distantPast)
      trial.files.append(file)
      trials[key] = trial
    }
    var bytes = trials.values.reduce(0) { $0 + $1.bytes }
    let oldest = trials.filter { $0.key != newest }.sorted {
      ($0.value.used, $0.key) < ($1.value.used, $1.key)
    }
    for (_, trial) in oldest {
      if bytes <= bytesAtMost { return }
      for file in trial.files { try? FileManager.default.removeItem(at: file) }
      bytes -= trial.bytes
    }
  }
}
