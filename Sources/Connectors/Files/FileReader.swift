package import Domain
import Foundation
import Synchronization

/// Reads a file or the files of a folder, in the order of their names, and waits for what is added.
///
/// Renaming a file changes nothing, and a file that leaves the folder while it is open is read to its
/// end. A file that was emptied or replaced by other content is read from its beginning.
package final class FileReader: SourceReader {
  private struct State {
    var followers: [String: FileFollower] = [:]
    /// Stored positions, and those of files that were read to their end and closed.
    var positions: [String: FilePosition] = [:]
    /// Sizes at which closed files had been read to their end, by stream.
    var finishedSizes: [String: Int] = [:]
    /// Streams of followers that are to be read, in order.
    var order: [String] = []
    var warning: String?
    var unreadBytes = 0
  }

  private let name: String
  private let settings: FileSettings
  private let batchSize: Int
  private let queue: BlockingQueue
  // Held on the reader's own queue only, where waiting is allowed.
  private let state = Mutex(State())

  /// Files that are held open at most; the others are opened when they grow.
  private static let openFilesAtMost = 64

  package init(_ definition: SourceDefinition, _ settings: FileSettings) {
    name = definition.name
    self.settings = settings
    batchSize = definition.batchSize
    queue = BlockingQueue("riffle files \(definition.name)")
  }

  package var pause: Duration { settings.pollInterval }

  package func open(at positions: [String: JSON]) async throws {
    try await queue.run { [self] in
      try state.withLock { state in
        state = State()
        for (stream, json) in positions {
          guard let position = FilePosition(json) else {
            throw Diagnostic(
              .internalError, code: "invalid_position",
              "The stored position of `\(stream)` cannot be read.", at: stream)
          }
          state.positions[stream] = position
        }
        try scan(&state)
      }
    }
  }

  package func next() async throws -> SourceBatch? {
    try await queue.run { [self] in
      try state.withLock { state in
        if let batch = try read(&state) { return batch }
        try scan(&state)
        return try read(&state)
      }
    }
  }

  package var lag: SourceLag {
    get async {
      let bytes = try? await queue.run { [self] in
        state.withLock { state in
          state.followers.values.reduce(0) { $0 + $1.unreadBytes }
        }
      }
      return SourceLag(bytes: bytes)
    }
  }

  package var warning: String? {
    get async {
      (try? await queue.run { [self] in
        state.withLock { state in
          if let warning = state.warning { return warning }
          let waiting = state.followers.values.filter { $0.waitingBytes > 0 }
          guard let one = waiting.first else { return nil }
          return "\(one.waitingBytes) bytes at the end of `\(one.path)` wait for the end of "
            + "their line"
        }
      }) ?? nil
    }
  }

  package var isFinished: Bool {
    get async {
      guard !settings.watches else { return false }
      return
        (try? await queue.run { [self] in
          state.withLock { $0.warning == nil && $0.order.isEmpty }
        }) ?? false
    }
  }

  package func close() async {
    _ = try? await queue.run { [self] in state.withLock { $0 = State() } }
  }

  // MARK: reading

  /// The next records of the first file in order that has some.
  private func read(_ state: inout State) throws -> SourceBatch? {
    while let stream = state.order.first {
      guard let follower = state.followers[stream] else {
        state.order.removeFirst()
        continue
      }
      let records = try follower.records(limit: batchSize, atEnd: !settings.watches)
      if !records.isEmpty {
        let position = follower.position
        state.positions[stream] = position
        return SourceBatch(stream: stream, position: position.json, records: records)
      }
      state.order.removeFirst()
    }
    return nil
  }

  // MARK: finding files

  /// Looks which files there are, and puts those that have something new in order.
  private func scan(_ state: inout State) throws {
    let paths = try paths(&state)
    var seen: Set<String> = []
    for path in paths {
      var facts = stat()
      guard stat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else { continue }
      let identity = FileFollower.Identity(facts)
      let size = Int(facts.st_size)
      let stream = try stream(of: path, identity, size, &state)
      seen.insert(stream)
      if state.followers[stream] == nil {
        if state.finishedSizes[stream] == size { continue }
        state.followers[stream] = try FileFollower(
          path: path, stream: stream, position: state.positions[stream], settings: settings)
      }
      state.order.append(stream)
    }
    // Files that have left: read to their end, then let go.
    for (stream, follower) in state.followers where !seen.contains(stream) {
      if follower.unreadBytes > 0 {
        state.order.append(stream)
      } else {
        state.followers[stream] = nil
      }
    }
    closeFinished(&state)
  }

  /// Which stream the file at a path continues: the one whose position it matches, or a new one.
  private func stream(
    of path: String, _ identity: FileFollower.Identity, _ size: Int, _ state: inout State
  ) throws -> String {
    if let open = state.followers.first(where: { $0.value.identity == identity }) {
      let position = state.positions[open.key]
      if position.map({ open.value.stillMatches($0) }) ?? true {
        open.value.renamed(to: path)
        return open.key
      }
      // The same file, emptied and written anew: it starts again.
      state.followers[open.key] = nil
      state.positions[open.key] = nil
      state.finishedSizes[open.key] = nil
      return open.key
    }
    let byNumber = state.positions.first {
      $0.value.inode == identity.inode && $0.value.device == identity.device
    }
    if let byNumber {
      if state.finishedSizes[byNumber.key] == size { return byNumber.key }
      if FileFollower.matches(path, byNumber.value) { return byNumber.key }
    }
    // The number changes where a file is copied back or replaced by a longer version of itself.
    let byPath = state.positions.first {
      $0.value.path == path && state.followers[$0.key] == nil
    }
    if let byPath {
      if FileFollower.matches(path, byPath.value) { return byPath.key }
      let isStillThere = state.positions[byPath.key].map { position in
        paths(withNumber: position)
      }
      if isStillThere != true {
        // Other content under the same name, and the former file is gone.
        state.positions[byPath.key] = nil
        state.finishedSizes[byPath.key] = nil
        return byPath.key
      }
    }
    let base = relative(path)
    var stream = base
    var number = 1
    while state.positions[stream] != nil || state.followers[stream] != nil {
      number += 1
      stream = "\(base)#\(number)"
    }
    return stream
  }

  /// Whether the file of a position lives on under another name in the folder.
  private func paths(withNumber position: FilePosition) -> Bool {
    var ignored = State()
    let paths = (try? paths(&ignored)) ?? []
    return paths.contains { path in
      var facts = stat()
      return stat(path, &facts) == 0 && Int64(facts.st_ino) == position.inode
        && Int64(facts.st_dev) == position.device && path != position.path
    }
  }

  private func relative(_ path: String) -> String {
    path.hasPrefix(settings.path + "/")
      ? String(path.dropFirst(settings.path.count + 1)) : (path as NSString).lastPathComponent
  }

  private func paths(_ state: inout State) throws -> [String] {
    state.warning = nil
    var facts = stat()
    guard stat(settings.path, &facts) == 0 else {
      let folder = (settings.path as NSString).deletingLastPathComponent
      var isFolder: ObjCBool = false
      // A log that is being rotated is not there for a moment.
      if settings.watches, !folder.isEmpty,
        FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue
      {
        state.warning = "`\(settings.path)` does not exist yet"
        return []
      }
      throw Diagnostic(
        .unavailable, code: "unknown_file", "There is no file or folder `\(settings.path)`.",
        at: "path", help: "Name one that the server can read.")
    }
    guard facts.st_mode & S_IFMT == S_IFDIR else { return [settings.path] }
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: settings.path)
    } catch {
      throw Diagnostic(
        .unavailable, code: "unreadable_folder",
        "The folder `\(settings.path)` cannot be listed.", at: "path",
        help: "Make it readable for the server.")
    }
    return names.filter { !$0.hasPrefix(".") && Glob.matches($0, settings.pattern) }.sorted()
      .map { settings.path + "/" + $0 }
  }

  /// Closes files that are read to their end, where too many are open; the stored position opens them
  /// again when they grow.
  private func closeFinished(_ state: inout State) {
    guard state.followers.count > Self.openFilesAtMost else { return }
    for (stream, follower) in state.followers.sorted(by: { $0.key < $1.key })
    where state.followers.count > Self.openFilesAtMost {
      guard follower.unreadBytes == 0, follower.waitingBytes == 0 else { continue }
      state.finishedSizes[stream] = follower.size
      state.followers[stream] = nil
    }
  }
}

/// Names by pattern: `*` stands for any characters, `?` for one.
enum Glob {
  static func matches(_ name: String, _ pattern: String) -> Bool {
    let name = Array(name)
    let pattern = Array(pattern)
    // The last star and what it has taken so far: only the last one ever needs to take more.
    var star: (pattern: Int, name: Int)?
    var (n, p) = (0, 0)
    while n < name.count {
      if p < pattern.count, pattern[p] == "*" {
        star = (p, n)
        p += 1
      } else if p < pattern.count, pattern[p] == "?" || pattern[p] == name[n] {
        n += 1
        p += 1
      } else if let last = star {
        star = (last.pattern, last.name + 1)
        n = last.name + 1
        p = last.pattern + 1
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == "*" }
  }
}
