import Connectors
import Domain
import Foundation
import Gzip
import Testing

/// Goal: each record of the files becomes one row, whatever happens to the files and to the process.
@Suite struct `A source of files` {
  /// Reads on until there is nothing more for now.
  private func drain(
    _ path: String, into sink: MemorySink, _ settings: JSON = .object([]), batchSize: Int = 3,
    deliveriesAtMost: Int = .max
  ) async throws {
    let source = try self.source(path, settings, batchSize: batchSize)
    guard case .file(let file) = source.settings else { return }
    let reader = FileReader(source, file)
    try await reader.open(at: try await sink.positions(of: "files"))
    var deliveries = 0
    while deliveries < deliveriesAtMost, let batch = try await reader.next() {
      _ = try await sink.deliver(source.delivery(of: batch).delivery)
      try await reader.delivered(batch)
      deliveries += 1
    }
    // Without a close: as a killed process leaves it.
  }

  private func source(
    _ path: String, _ settings: JSON, batchSize: Int
  ) throws -> SourceDefinition {
    var members: [JSON.Member] = [
      .init("name", "files"), .init("type", "file"), .init("table", "t"),
      .init("path", .string(path)), .init("batch_size", .int(Int64(batchSize))),
    ]
    members += settings.object ?? []
    return try SourceDefinition(.object(members))
  }

  private func append(_ text: String, to path: String) throws {
    if !FileManager.default.fileExists(atPath: path) {
      _ = FileManager.default.createFile(atPath: path, contents: nil)
    }
    let handle = try #require(FileHandle(forWritingAtPath: path))
    defer { try? handle.close() }
    try handle.seekToEnd()
    try handle.write(contentsOf: Data(text.utf8))
  }

  private func line(_ number: Int) -> String { "{\"id\":\"\(number)\"}\n" }

  @Test func `reads each form`() async throws {
    try await withTemporaryFolder { folder in
      let gzip = folder + "/e.jsonl.gz"
      try append("id,note\r\n1,\"a,\"\"b\"\"\nc\"\n2,\n", to: folder + "/a.csv")
      try append("id\tnote\n3\tx\n", to: folder + "/b.tsv")
      try append(" [{\"id\":4},\n{\"id\":5}]", to: folder + "/c.json")
      try append(line(6) + "{\"id\":\"7\"}", to: folder + "/d.jsonl")
      try Data(Gzip.deflated(Array((line(8) + "{\"id\":\"9\"}").utf8)))
        .write(to: URL(fileURLWithPath: gzip))
      let sink = MemorySink()
      try await drain(folder, into: sink)
      #expect(sink.values("id") == (1...9).map(String.init))
      #expect(sink.now.rows[0].columns["note"] == "a,\"b\"\nc")
      #expect(sink.now.rows[1].columns["note"] == .some(.null))
      #expect(sink.now.rejects.isEmpty)
      // A second process finds nothing new.
      try await drain(folder, into: sink)
      #expect(sink.now.rows.count == 9)
    }
  }

  @Test func `waits for the end of a half-written line`() async throws {
    try await withTemporaryFolder { folder in
      let sink = MemorySink()
      try append("id,n\n1,2\n2,3", to: folder + "/a.csv")
      try append(line(10) + "{\"id\":\"1", to: folder + "/b.jsonl")
      try await drain(folder, into: sink)
      #expect(sink.values("id") == ["1", "10"])
      try append("4\n", to: folder + "/a.csv")
      try append("1\"}\n", to: folder + "/b.jsonl")
      try await drain(folder, into: sink)
      #expect(sink.values("id") == ["1", "10", "2", "11"])
      #expect(sink.now.rows[2].columns["n"] == "34")
    }
  }

  @Test func `reads what is there once, and is finished, where it does not watch`() async throws {
    try await withTemporaryFolder { folder in
      try append("id\n1\n2", to: folder + "/a.csv")
      let sink = MemorySink()
      try await drain(folder + "/a.csv", into: sink, ["watch": false])
      #expect(sink.values("id") == ["1", "2"])
    }
  }

  @Test func `follows a file that is renamed, and one that is rotated`() async throws {
    try await withTemporaryFolder { folder in
      let sink = MemorySink()
      let log = folder + "/app.jsonl"
      try append(line(1) + line(2), to: log)
      try await drain(folder, into: sink)
      try FileManager.default.moveItem(atPath: log, toPath: folder + "/app.1.jsonl")
      try append(line(3), to: folder + "/app.1.jsonl")
      try append(line(4), to: log)
      try await drain(folder, into: sink)
      #expect(sink.values("id").sorted() == ["1", "2", "3", "4"])
      try append(line(5), to: log)
      try append(line(6), to: folder + "/app.1.jsonl")
      try await drain(folder, into: sink)
      #expect(sink.values("id").sorted() == ["1", "2", "3", "4", "5", "6"])
    }
  }

  @Test func `reads an emptied file from its beginning, and goes on in a longer copy`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let sink = MemorySink()
      let log = folder + "/app.jsonl"
      try append(line(1) + line(2) + line(3), to: log)
      try await drain(folder, into: sink)
      // The same content under a new number in the file system, and a line more.
      try FileManager.default.copyItem(atPath: log, toPath: folder + "/.copy")
      try append(line(4), to: folder + "/.copy")
      try FileManager.default.removeItem(atPath: log)
      try FileManager.default.moveItem(atPath: folder + "/.copy", toPath: log)
      try await drain(folder, into: sink)
      #expect(sink.values("id") == ["1", "2", "3", "4"])
      // Emptied and written anew, longer than before.
      try Data((50...60).map(line).joined().utf8).write(to: URL(fileURLWithPath: log))
      try await drain(folder, into: sink)
      #expect(sink.values("id") == (["1", "2", "3", "4"] + (50...60).map(String.init)))
    }
  }

  @Test func `keeps records that cannot be read as rejects, and takes the others`() async throws {
    try await withTemporaryFolder { folder in
      let sink = MemorySink()
      try append(
        line(1) + "not json\n[1]\n{\"id\":\"\(String(repeating: "x", count: 3000))\"}\n"
          + line(2), to: folder + "/a.jsonl")
      try append("id,n\n3,4\n5\n6,7\n", to: folder + "/b.csv")
      try await drain(folder, into: sink, ["maximum_record_bytes": 1024])
      #expect(sink.values("id") == ["1", "2", "3", "6"])
      #expect(
        sink.now.rejects.map(\.problem.code) == [
          "invalid_json", "invalid_row", "record_too_large", "wrong_field_count",
        ])
      #expect(sink.now.rejects[0].place["record"] == 2)
      #expect(sink.now.rejects[0].raw == Array("not json".utf8))
    }
  }

  @Test func `says what is wrong with a path, a form and a damaged file`() async throws {
    try await withTemporaryFolder { folder in
      func code(_ path: String, _ settings: JSON = .object([])) async -> String? {
        do {
          try await drain(path, into: MemorySink(), settings)
          return nil
        } catch { return (error as? Diagnostic)?.code }
      }
      #expect(await code(folder + "/none/none.csv") == "unknown_file")
      #expect(await code(folder + "/later.csv") == nil)
      #expect(await code(folder + "/none.csv", ["watch": false]) == "unknown_file")
      try append("x", to: folder + "/a.bin")
      #expect(await code(folder + "/a.bin") == "unknown_format")
      try append("id,id\n1,2\n", to: folder + "/twice.csv")
      #expect(await code(folder + "/twice.csv") == "invalid_header")
      let packed = Gzip.deflated(Array(String(repeating: line(1), count: 5000).utf8))
      var broken = packed
      broken[packed.count / 2] ^= 0xFF
      try Data(broken).write(to: URL(fileURLWithPath: folder + "/bad.jsonl.gz"))
      #expect(await code(folder + "/bad.jsonl.gz") == "invalid_gzip")
    }
  }

  /// A descriptor that was closed twice took another thread's file away.
  @Test func `closes a file once where its names are none`() async throws {
    try await withTemporaryFolder { folder in
      let path = folder + "/twice.csv"
      try append("id,id\n1,2\n", to: path)
      for number in 0..<200 {
        let failed = Task { try await drain(path, into: MemorySink(), ["watch": false]) }
        let other = "\(folder)/\(number)"
        try Data("x".utf8).write(to: URL(fileURLWithPath: other))
        #expect(try Data(contentsOf: URL(fileURLWithPath: other)) == Data("x".utf8))
        await #expect(throws: (any Error).self) { try await failed.value }
      }
    }
  }

  @Test func `rejects what stands behind an array, and rejects it once`() async throws {
    try await withTemporaryFolder { folder in
      let path = folder + "/a.json"
      try append("[{\"id\":\"1\"},{\"id\":\"2\"}] x,y\n", to: path)
      let sink = MemorySink()
      for _ in 0..<2 {
        try await drain(path, into: sink, ["watch": false])
        #expect(sink.values("id") == ["1", "2"])
        #expect(sink.now.rejects.count == 2)
      }
    }
  }

  @Test(arguments: runSeeds)
  func `takes any bytes as records and rejects, and none of them twice`(seed: UInt64) async throws {
    var generator = Generator(state: seed)
    let alphabet = Array("[]{},:\"\\\n\r\t ab1.-e".utf8) + [0, 0xFF, 0xEF, 0xBB, 0xBF, 0x1F, 0x8B]
    try await withTemporaryFolder { folder in
      for ending in ["csv", "tsv", "json", "jsonl", "csv.gz", "json.gz"] {
        for number in 0..<12 {
          var bytes = (0..<Int.random(in: 0...400, using: &generator)).map { _ in
            alphabet.randomElement(using: &generator) ?? 0
          }
          if ending.hasPrefix("csv") { bytes = Array("id,n\n".utf8) + bytes }
          if ending.hasSuffix("gz") { bytes = Gzip.deflated(bytes) }
          let path = "\(folder)/\(number).\(ending)"
          try Data(bytes).write(to: URL(fileURLWithPath: path))
          let sink = MemorySink()
          // A line of names that is none is told as an error; anything else fails the test.
          do {
            try await drain(path, into: sink, ["watch": false, "maximum_record_bytes": 1024])
          } catch is Diagnostic { continue }
          let count = sink.now.rows.count + sink.now.rejects.count
          try await drain(path, into: sink, ["watch": false, "maximum_record_bytes": 1024])
          #expect(
            sink.now.rows.count + sink.now.rejects.count == count,
            "seed \(seed), \(path): \(bytes)")
        }
      }
    }
  }

  /// Files grow, are renamed and compressed while readers die after a random number of deliveries, some
  /// of whose answers are lost.
  @Test(arguments: runSeeds)
  func `gives each record once, however often it is interrupted`(seed: UInt64) async throws {
    var generator = Generator(state: seed)
    try await withTemporaryFolder { folder in
      let sink = MemorySink()
      var next = 0
      var partial: [String: String] = [:]
      for round in 0..<25 {
        for file in 0..<3 {
          let path = folder + "/\(file).jsonl"
          var text = partial.removeValue(forKey: path) ?? ""
          for _ in 0..<Int.random(in: 0...5, using: &generator) {
            text += line(next)
            next += 1
          }
          if Bool.random(using: &generator) {
            let whole = line(next)
            next += 1
            let cut = whole.index(
              whole.startIndex, offsetBy: Int.random(in: 1..<whole.count, using: &generator))
            text += whole[..<cut]
            partial[path] = String(whole[cut...])
          }
          try append(text, to: path)
          if partial[path] == nil, Int.random(in: 0..<6, using: &generator) == 0 {
            try FileManager.default.moveItem(
              atPath: path, toPath: folder + "/\(round)-\(file).jsonl")
          }
        }
        if Int.random(in: 0..<4, using: &generator) == 0 { sink.add([.none, .lostAnswer]) }
        let most = Int.random(in: 0...6, using: &generator)
        // A lost answer ends the reader as a crash would.
        try? await drain(
          folder, into: sink, batchSize: Int.random(in: 1...4, using: &generator),
          deliveriesAtMost: most)
      }
      for (path, rest) in partial { try append(rest, to: path) }
      sink.clearFaults()
      try await drain(folder, into: sink)
      #expect(
        sink.values("id").sorted() == (0..<next).map(String.init).sorted(), "seed \(seed)")
    }
  }
}
