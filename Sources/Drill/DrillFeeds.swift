import Domain
import Engine
import Foundation
import Worlds

/// A broker of Kafka that lives in the drill's process, so that it outlives the server.
package struct DrillBroker: Sendable {
  package var servers: String
  package var topic: String
  package var partitions: Int
  /// Hands messages to a partition and returns when the broker has them.
  package var produce: @Sendable (_ partition: Int, _ messages: [[UInt8]]) throws -> Void

  package init(
    servers: String, topic: String, partitions: Int,
    produce: @escaping @Sendable (_ partition: Int, _ messages: [[UInt8]]) throws -> Void
  ) {
    (self.servers, self.topic, self.partitions, self.produce) = (
      servers, topic, partitions, produce
    )
  }
}

/// Writes lines into the files of a folder that a source watches: new files, longer ones, lines in two
/// halves, and files that get another name.
struct FileFeed: Sendable {
  private let folder: String
  private var generator: SeededGenerator
  private var fileCount = 0
  /// The files that grow.
  private var growing: [(stream: String, lines: Int, rest: [UInt8])] = []

  init(_ folder: String, seed: UInt64) {
    self.folder = folder
    generator = SeededGenerator(seed: seed ^ 0xF11E, stream: 0)
  }

  mutating func work(_ round: Round) async {
    for _ in 0..<generator.integer(in: 2...6) {
      if round.isOver { return }
      do { try step(round.books) } catch {
        round.books.note(.file, nil, "the drill cannot write its files: \(error)")
        return
      }
      await round.pause(milliseconds: generator.integer(in: 1...60))
    }
  }

  /// Writes the halves of lines that are still missing.
  mutating func finish() throws {
    for i in growing.indices where !growing[i].rest.isEmpty {
      try append(growing[i].rest, to: growing[i].stream)
      growing[i].rest = []
    }
  }

  private mutating func step(_ books: Books) throws {
    if growing.isEmpty || growing.count < 2 && generator.chance(0.3) {
      fileCount += 1
      growing.append(("f\(fileCount)", 0, []))
    }
    let place = generator.below(growing.count)
    let (stream, start, rest) = growing[place]
    let count = generator.integer(in: 1...12)
    books.with { $0.hands(count, to: stream, of: .lines) }
    var bytes = rest
    for number in start..<(start + count) { bytes += streamRecord(stream, number).utf8 + [10] }
    growing[place].lines += count
    growing[place].rest = []
    if generator.chance(0.3) {
      // The last line comes in two halves; a kill may lie between them.
      let half = generator.integer(in: 1...20)
      growing[place].rest = Array(bytes.suffix(half))
      bytes.removeLast(half)
    }
    try append(bytes, to: stream)
    if growing[place].lines > 150, growing[place].rest.isEmpty {
      growing.remove(at: place)
      // As a rotation does.
      if generator.chance(0.5) {
        try FileManager.default.moveItem(
          atPath: "\(folder)/\(stream).jsonl", toPath: "\(folder)/\(stream).old.jsonl")
      }
    }
  }

  private func append(_ bytes: [UInt8], to stream: String) throws {
    let path = "\(folder)/\(stream).jsonl"
    if !FileManager.default.fileExists(atPath: path) {
      _ = FileManager.default.createFile(atPath: path, contents: nil)
    }
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    try handle.seekToEnd()
    try handle.write(contentsOf: Data(bytes))
    try handle.close()
  }
}

/// Produces messages to Kafka.
struct BrokerFeed: Sendable {
  private let broker: DrillBroker
  private var generator: SeededGenerator
  private var counts: [Int]

  init(_ broker: DrillBroker, seed: UInt64) {
    self.broker = broker
    generator = SeededGenerator(seed: seed ^ 0xCAFC, stream: 0)
    counts = Array(repeating: 0, count: broker.partitions)
  }

  mutating func work(_ round: Round) async {
    for _ in 0..<generator.integer(in: 1...4) {
      if round.isOver { return }
      let partition = generator.below(broker.partitions)
      let count = generator.integer(in: 1...15)
      let stream = "p\(partition)"
      round.books.with { $0.hands(count, to: stream, of: .messages) }
      let first = counts[partition]
      let messages = (first..<(first + count)).map { streamRecord(stream, $0).utf8 }
      counts[partition] += count
      do {
        try await outsideThePool { [broker] in try broker.produce(partition, messages) }
      } catch {
        round.books.note(.kafka, "\(stream)/\(first)", "the broker does not take it: \(error)")
        return
      }
      await round.pause(milliseconds: generator.integer(in: 1...40))
    }
  }
}
