import Foundation
import Kernels
import Neural
import Testing
import VectorIndex

/// A partition of 12,000 rows, made once.
struct Made {
  let rows: ExactIndex
  let vectors: [Float]
  let partition: Partition
  let queries: [[Float]]
  static let width = 16

  init?(seed: UInt64) {
    guard let kernels = Kernels(environment: [:]) else { return nil }
    var generator = SplitMix64(seed: seed)
    var centres = World.plain.vectors(rows: 60, width: Self.width, using: &generator)
    for i in centres.indices { centres[i] *= 2 }
    func draw(_ count: Int) -> [Float] {
      (0..<count).flatMap { _ in
        let centre = Int.random(in: 0..<60, using: &generator) * Self.width
        return (0..<Self.width).map { centres[centre + $0] + generator.normal() }
      }
    }
    vectors = draw(12_000)
    let asked = draw(200)
    queries = (0..<200).map { Array(asked[$0 * Self.width..<($0 + 1) * Self.width]) }
    rows = ExactIndex(vectors: vectors, width: Self.width, kernels: kernels)
    var settings = Partition.Settings()
    settings.count = 20
    settings.sampledQueries = 100
    guard
      let partition = Partition.make(
        of: rows, kernels: kernels, queries: Array(queries[..<100]), settings: settings)
    else { return nil }
    self.partition = partition
  }

  static let one = Made(seed: 1)
}

@Suite struct `A partition` {
  /// Rows of another order with others between them, as a catalog numbers the items of a model.
  @Test func `finds the same rows under other numbers`() throws {
    let made = try #require(Made.one)
    var generator = SplitMix64(seed: 5)
    let bound = 15_000
    let numbers = Array((0..<Int32(bound)).shuffled(using: &generator).prefix(12_000))
    var vectors = [Float](repeating: 0, count: bound * Made.width)
    var known = [UInt64](repeating: 0, count: (bound + 63) / 64)
    for (row, number) in numbers.enumerated() {
      known[Int(number) >> 6] |= 1 << UInt64(number & 63)
      for i in 0..<Made.width {
        vectors[Int(number) * Made.width + i] = made.vectors[row * Made.width + i]
      }
    }
    let kernels = try #require(Kernels(environment: [:]))
    var searcher = VectorSearcher(
      ExactIndex(vectors: vectors, width: Made.width, kernels: kernels))
    searcher.use(made.partition.renumbered(numbers, bound: bound))
    var plain = VectorSearcher(made.rows)
    plain.use(made.partition)
    let all = [UInt64](repeating: .max, count: 187) + [(1 << 32) - 1]
    for query in made.queries {
      let answer = searcher.nearest(to: query, count: 20, among: known)
      let first = plain.nearest(to: query, count: 20, among: all)
      #expect(answer.method == first.method)
      #expect(answer.hits.map(\.score) == first.hits.map(\.score))
      #expect(Set(answer.hits.map(\.row)) == Set(first.hits.map { Int(numbers[$0.row]) }))
    }
    // A row that comes later is found, whatever the lists say.
    searcher.append(made.queries[0].map { $0 * 100 })
    var more = known
    if more.count * 64 < bound + 1 { more.append(0) }
    more[bound >> 6] |= 1 << UInt64(bound & 63)
    #expect(searcher.nearest(to: made.queries[0], count: 1, among: more).hits[0].row == bound)
  }

  @Test func `finds what it says it does`() throws {
    let made = try #require(Made.one)
    var searcher = VectorSearcher(made.rows)
    searcher.use(made.partition)
    let all = [UInt64](repeating: .max, count: 187) + [(1 << 32) - 1]
    var found = 0
    // Queries that it was not made with.
    for query in made.queries[100...] {
      let answer = searcher.nearest(to: query, count: 20, among: all)
      guard case .partitioned(let probed, let lists) = answer.method else {
        Issue.record("exact search of 12,000 rows")
        return
      }
      #expect(lists == made.partition.listCount && probed < lists / 3)
      #expect(answer.recall >= 0.98)
      #expect(answer.scannedRows < 6000)
      let truth = made.rows.nearest(to: query, count: 20, among: all)
      found += Set(truth.map(\.row)).intersection(answer.hits.map(\.row)).count
      // What is found has its true score and stands in order.
      #expect(made.rows.scores(of: answer.hits.map(\.row), with: query) == answer.hits.map(\.score))
      #expect(answer.hits == answer.hits.sorted { ($0.score, $1.row) > ($1.score, $0.row) })
    }
    #expect(Double(found) / 2000 >= 0.96)
  }

  @Test func `searches exactly where that is asked for`() throws {
    let made = try #require(Made.one)
    var searcher = VectorSearcher(made.rows)
    searcher.use(made.partition)
    let all = [UInt64](repeating: .max, count: 187) + [(1 << 32) - 1]
    for query in made.queries[100..<120] {
      let answer = searcher.nearest(to: query, count: 20, among: all, useExactSearch: true)
      #expect(answer.method == .exact(.bytes) && answer.recall == 1)
      #expect(answer.hits == ranking(made.rows, query, all, count: 20))
    }
  }

  @Test func `is the same when made again, and stops when told to`() throws {
    let made = try #require(Made.one)
    let again = try #require(Made(seed: 1))
    #expect(made.partition.bytes == again.partition.bytes)
    let kernels = try #require(Kernels(environment: [:]))
    for limit in [0.0, 0.3, 0.6, 0.9] {
      #expect(Partition.make(of: made.rows, kernels: kernels, goesOn: { $0 < limit }) == nil)
    }
  }

  /// Whatever the filter and whatever changed since: as many rows as are wanted and allowed, none that is
  /// forbidden, none twice, each with its true score. Where the answer says it is exact, it is.
  @Test(arguments: runSeeds)
  func `always gives the rows that are wanted, and no other`(seed: UInt64) throws {
    let made = try #require(Made.one)
    var generator = SplitMix64(seed: seed)
    var searcher = VectorSearcher(made.rows)
    searcher.use(made.partition)
    var methods: Set<String> = []
    for round in 0..<80 {
      if round % 2 == 0 {
        for _ in 0..<Int.random(in: 0...20, using: &generator) {
          let row = Int.random(in: 0..<searcher.rowCount, using: &generator)
          searcher.replace(
            row: row, with: World.plain.vectors(rows: 1, width: Made.width, using: &generator))
        }
      }
      if round % 5 == 0 {
        searcher.append(
          World.plain.vectors(
            rows: Int.random(in: 0...30, using: &generator), width: Made.width, using: &generator))
      }
      let shares: [Double] = [1.1, 0.5, 0.2, 0.05, 0.01, 0.001, 0.0001]
      let share = shares[Int.random(in: 0..<shares.count, using: &generator)]
      var allowed = generator.mask(rows: searcher.rowCount, share: share)
      if round % 9 == 0 {
        // A filter that goes with the query: only rows far from it.
        allowed = [UInt64](repeating: 0, count: allowed.count)
        for hit in made.rows.nearest(
          to: made.queries[round].map { -$0 }, count: 3000,
          among: generator.mask(rows: 12_000, share: 1.1))
        { allowed[hit.row / 64] |= 1 << UInt64(hit.row % 64) }
      }
      let population = allowed.reduce(0) { $0 + $1.nonzeroBitCount }
      let count = Int.random(in: 1...60, using: &generator)
      let query = made.queries[round]
      let answer = searcher.nearest(to: query, count: count, among: allowed)
      methods.insert(String(answer.method.description.prefix(5)))
      let rows = answer.hits.map(\.row)
      #expect(rows.count == min(count, population), "seed \(seed), round \(round)")
      #expect(Set(rows).count == rows.count)
      #expect(rows.allSatisfy { allowed[$0 / 64] >> UInt64($0 % 64) & 1 == 1 })
      #expect(searcher.rows.scores(of: rows, with: query) == answer.hits.map(\.score))
      if case .exact = answer.method {
        #expect(answer.hits == ranking(searcher.rows, query, allowed, count: count))
      }
    }
    #expect(methods == ["exact", "parti"])
  }

  @Test func `finds a row at its new place at once, and not at its old one`() throws {
    let made = try #require(Made.one)
    var searcher = VectorSearcher(made.rows)
    searcher.use(made.partition)
    let before = searcher
    let all = [UInt64](repeating: .max, count: 187) + [(1 << 32) - 1]
    let query = made.queries[150]
    let best = searcher.nearest(to: query, count: 5, among: all).hits
    searcher.replace(row: best[0].row, with: query.map { -$0 })
    searcher.replace(row: 77, with: query.map { 10 * $0 })
    let answer = searcher.nearest(to: query, count: 5, among: all)
    #expect(answer.hits[0].row == 77)
    #expect(!answer.hits.contains { $0.row == best[0].row })
    #expect(answer.hits[1...].map(\.row) == best[1...].map(\.row))
    // Rows that stay near their old place must not be found at both.
    let near = searcher.nearest(to: query, count: 20, among: all).hits.map(\.row)
    for row in near {
      searcher.replace(row: row, with: searcher.rows.vector(at: row).map { 1.001 * $0 })
    }
    #expect(searcher.nearest(to: query, count: 20, among: all).hits.map(\.row) == near)
    searcher.append(query.map { 20 * $0 })
    let more = searcher.nearest(
      to: query, count: 5, among: [UInt64](repeating: .max, count: 187) + [(1 << 33) - 1])
    #expect(more.hits[0].row == 12_000)
    #expect(searcher.partitioned?.changedRowCount == 3 + near.count - 1)
    #expect(before.nearest(to: query, count: 5, among: all).hits == best)
  }

  /// Equal scores in different lists stand in row order too, and the later rows are left out.
  @Test func `breaks ties as exact search does`() throws {
    var generator = SplitMix64(seed: 31)
    let kernels = try #require(Kernels(environment: [:]))
    func draw() -> [Float] {
      while true {
        let drawn = (0..<2).map { _ in Float(Int.random(in: -9...9, using: &generator)) }
        if drawn != [0, 0] { return drawn }
      }
    }
    let rows = ExactIndex(
      vectors: (0..<6000).flatMap { _ in draw() }, width: 2, kernels: kernels)
    var settings = Partition.Settings()
    settings.count = 40
    settings.recall = 1
    settings.listCount = 24
    let partition = try #require(
      Partition.make(
        of: rows, kernels: kernels, queries: (0..<256).map { _ in draw() }, settings: settings))
    var searcher = VectorSearcher(rows)
    searcher.use(partition)
    let all = generator.mask(rows: 6000, share: 1.1)
    var partitioned = 0
    for _ in 0..<100 {
      let query = draw()
      let answer = searcher.nearest(to: query, count: 40, among: all)
      if case .partitioned = answer.method { partitioned += 1 }
      #expect(answer.hits == rows.nearest(to: query, count: 40, among: all), "\(query)")
    }
    #expect(partitioned > 50)
  }

  @Test(arguments: [World.equal, .zeros, .tiny, .huge, .lengths])
  func `copes with vectors that do not fall into lists`(world: World) throws {
    var generator = SplitMix64(seed: 9)
    let kernels = try #require(Kernels(environment: [:]))
    for count in [1, 2, 900] {
      let vectors = world.vectors(rows: count, width: 7, using: &generator)
      let rows = ExactIndex(vectors: vectors, width: 7, kernels: kernels)
      var settings = Partition.Settings()
      settings.count = 5
      settings.sampledQueries = 10
      let partition = try #require(Partition.make(of: rows, kernels: kernels, settings: settings))
      var searcher = VectorSearcher(rows)
      searcher.use(partition)
      let all = generator.mask(rows: count, share: 1.1)
      for _ in 0..<10 {
        let query = world.query(of: vectors, width: 7, using: &generator)
        #expect(searcher.nearest(to: query, count: 5, among: all).hits.count == min(5, count))
      }
    }
  }
}

@Suite struct `Versions of the scans` {
  /// A version of the kernels that is not known here would fall back to the portable scans, which are right
  /// and slow.
  @Test(arguments: Kernels.available)
  func `fit the versions of the kernels`(version: String) throws {
    let scans = SearchKernels(try #require(Kernels(named: version))).name
    switch version {
    case "reference", "portable": #expect(scans == version)
    case "avx2": #expect(["avx2", "avxvnni"].contains(scans))
    default: #expect(scans.hasPrefix("avx512"), "\(version): \(scans)")
    }
  }

  @Test(arguments: SearchKernels.available)
  func `find greatest scores as plainly written loops do`(version: String) throws {
    let fast = try SearchKernels.named(version)
    let plain = try SearchKernels.named("reference")
    var generator = SplitMix64(seed: 21)
    for columns in [1, 2, 3, 7, 8, 15, 16, 17, 33, 100, 130] {
      for _ in 0..<5 {
        let scores = (0..<4 * (columns + 3)).map { _ in (3 * generator.normal()).rounded() }
        var results: [[Int32]] = []
        for kernels in [plain, fast] {
          var places = [Int32](repeating: -1, count: 4)
          var values = [Float](repeating: 0, count: 4)
          kernels.greatest(
            rows: 4, columns: columns, scores, stride: columns + 3, places: &places,
            values: &values)
          #expect((0..<4).allSatisfy { values[$0] == scores[$0 * (columns + 3) + Int(places[$0])] })
          results.append(places)
        }
        #expect(results[0] == results[1], "\(columns) columns")
      }
    }
  }

  /// The same lists searched by every version: whole numbers, so scores do not depend on the version.
  @Test func `give one answer from lists`() throws {
    var generator = SplitMix64(seed: 22)
    let kernels = try #require(Kernels(environment: [:]))
    let centres = World.plain.vectors(rows: 40, width: 20, using: &generator)
    func draw(_ count: Int) -> [Float] {
      (0..<count * 20).map {
        (5 * centres[$0 / 20 % 40 * 20 + $0 % 20] + generator.normal()).rounded()
      }
    }
    let vectors = draw(6000)
    let asked = draw(80)
    var settings = Partition.Settings()
    settings.count = 10
    settings.sampledQueries = 20
    let first = try #require(
      Partition.make(
        of: ExactIndex(vectors: vectors, width: 20, kernels: kernels), kernels: kernels,
        queries: (30..<80).map { Array(asked[$0 * 20..<($0 + 1) * 20]) }, settings: settings))
    let bytes = first.bytes
    let moved = World.ties.vectors(rows: 5, width: 20, using: &generator)
    var answers: [String: [SearchAnswer]] = [:]
    let queries = (0..<30).map { Array(asked[$0 * 20..<($0 + 1) * 20]) }
    let masks = (0..<30).map { generator.mask(rows: 6000, share: $0 % 2 == 0 ? 1.1 : 0.7) }
    for version in SearchKernels.available {
      let rows = ExactIndex(vectors: vectors, width: 20, kernels: try SearchKernels.named(version))
      var searcher = VectorSearcher(rows)
      searcher.use(try Partition(parsing: bytes, rows: rows, path: "memory"))
      for i in 0..<5 {
        searcher.replace(row: i * 1111, with: Array(moved[i * 20..<(i + 1) * 20]))
      }
      answers[version] = zip(queries, masks).map {
        searcher.nearest(to: $0, count: 10, among: $1)
      }
    }
    let plain = try #require(answers["reference"])
    #expect(plain.contains { if case .partitioned = $0.method { true } else { false } })
    for (version, found) in answers {
      #expect(found.map(\.hits) == plain.map(\.hits), "\(version)")
    }
  }
}

@Suite struct `A partition's file` {
  static let fixture = "partition-1.riffleiv"
  static func fixtureRows() throws -> ExactIndex {
    var generator = SplitMix64(seed: 2026)
    let kernels = try #require(Kernels(environment: [:]))
    return ExactIndex(
      vectors: World.ties.vectors(rows: 200, width: 5, using: &generator), width: 5,
      kernels: kernels)
  }
  static func fixtureBytes() throws -> [UInt8] {
    let url = try #require(
      Bundle.module.url(forResource: "Fixtures/\(fixture)", withExtension: nil))
    return [UInt8](try Data(contentsOf: url))
  }

  @Test func `comes back as it was`() throws {
    let made = try #require(Made.one)
    let back = try Partition(parsing: made.partition.bytes, rows: made.rows, path: "p")
    #expect(back.bytes == made.partition.bytes)
    #expect(back.steps == made.partition.steps && back.target == 0.98 && back.seed == 1)
    var rows = made.rows
    rows.append(made.queries[0])
    #expect(try Partition(parsing: made.partition.bytes, rows: rows, path: "p").rowCount == 12_000)
    var before = VectorSearcher(made.rows)
    before.use(made.partition)
    var after = VectorSearcher(made.rows)
    after.use(back)
    let all = [UInt64](repeating: .max, count: 187) + [(1 << 32) - 1]
    for query in made.queries {
      #expect(
        before.nearest(to: query, count: 20, among: all)
          == after.nearest(to: query, count: 20, among: all))
    }
  }

  @Test func `of version 1 is still read`() throws {
    let rows = try Self.fixtureRows()
    if ProcessInfo.processInfo.environment["RIFFLE_WRITE_FIXTURES"] == "1" {
      var settings = Partition.Settings()
      settings.count = 5
      settings.sampledQueries = 8
      settings.listCount = 6
      let kernels = try #require(Kernels(environment: [:]))
      let partition = try #require(Partition.make(of: rows, kernels: kernels, settings: settings))
      let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      try Data(partition.bytes).write(to: folder.appendingPathComponent("Fixtures/\(Self.fixture)"))
    }
    let bytes = try Self.fixtureBytes()
    let partition = try Partition(parsing: bytes, rows: rows, path: Self.fixture)
    #expect(partition.rowCount == 200 && partition.width == 5 && partition.listCount == 6)
    #expect(partition.target == 0.98 && partition.sampledQueries == 8 && partition.seed == 1)
    #expect(partition.bytes == bytes)
  }

  @Test func `is refused wherever it is cut off`() throws {
    let rows = try Self.fixtureRows()
    let bytes = try Self.fixtureBytes()
    for length in 0..<bytes.count {
      #expect(throws: FormatError.self) {
        try Partition(parsing: Array(bytes[..<length]), rows: rows, path: "cut")
      }
    }
    #expect(throws: FormatError.self) {
      try Partition(parsing: bytes + [0], rows: rows, path: "long")
    }
  }

  @Test func `is refused with any one bit turned`() throws {
    let rows = try Self.fixtureRows()
    var bytes = try Self.fixtureBytes()
    for bit in 0..<bytes.count * 8 {
      bytes[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: FormatError.self) { try Partition(parsing: bytes, rows: rows, path: "bit") }
      bytes[bit / 8] ^= 1 << (bit % 8)
    }
  }

  /// Every byte changed with a checksum that fits: it may be read or refused, but never trap or take memory
  /// by what it says.
  @Test func `is checked value by value`() throws {
    let rows = try Self.fixtureRows()
    let original = try Self.fixtureBytes()
    var refused = 0
    for place in 0..<original.count - 8 {
      for change in [0x01, 0x80, 0xFF] as [UInt8] {
        var bytes = original
        bytes[place] ^= change
        var sum: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes[..<(bytes.count - 8)] { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01B3 }
        for i in 0..<8 {
          bytes[bytes.count - 8 + i] = UInt8(truncatingIfNeeded: sum >> UInt64(8 * i))
        }
        do {
          let partition = try Partition(parsing: bytes, rows: rows, path: "changed")
          var searcher = VectorSearcher(rows)
          searcher.use(partition)
          let hits = searcher.nearest(
            to: [1, 2, 3, 4, 5], count: 3, among: [.max, .max, .max, 0xFF]
          ).hits
          #expect(hits.count == 3)
        } catch {
          refused += 1
        }
      }
    }
    #expect(refused > original.count)
  }

  @Test func `says what is wrong, where, and what to do`() throws {
    let rows = try Self.fixtureRows()
    let bytes = try Self.fixtureBytes()
    func message(_ bytes: [UInt8], _ rows: ExactIndex) -> String {
      do {
        _ = try Partition(parsing: bytes, rows: rows, path: "a.riffleiv")
        return "read"
      } catch { return error.description }
    }
    var newer = bytes
    newer[8] = 9
    #expect(
      message(newer, rows)
        == "a.riffleiv, byte 8: format version 9; this build reads 1 to 1. Let this build make the"
        + " partition again.")
    var other = bytes
    other[0] = 0
    #expect(
      message(other, rows)
        == "a.riffleiv, byte 0: this is no partition of vectors. Name the file that was saved as one."
    )
    var changed = rows
    changed.replace(row: 3, with: [9, 9, 9, 9, 9])
    #expect(
      message(bytes, changed)
        == "a.riffleiv, byte 32: the vectors differ from those it was made for. Make a partition of"
        + " these vectors.")
  }
}
