import Kernels
import Neural
import Testing
import VectorIndex

@Suite struct `Exact search` {
  /// Both scans against scoring every row in floats, in worlds that are made to be hard.
  @Test(arguments: World.allCases, SearchKernels.available)
  func `gives the answer of scoring every allowed row`(world: World, version: String) throws {
    let kernels = try SearchKernels.named(version)
    var generator = SplitMix64(seed: 11)
    for (rows, width) in [(1, 1), (63, 3), (65, 16), (700, 17), (2100, 64), (1500, 100)] {
      let vectors = world.vectors(rows: rows, width: width, using: &generator)
      let index = ExactIndex(vectors: vectors, width: width, kernels: kernels)
      for share in [1, 0.5, 0.2, 0.03, 0.001] {
        let allowed = generator.mask(rows: rows, share: share)
        let query = world.query(of: vectors, width: width, using: &generator)
        for count in [0, 1, 10, 300, rows + 5] {
          let expected = ranking(index, query, allowed, count: count)
          for scan in ExactIndex.Scan.allCases {
            let found = index.nearest(to: query, count: count, among: allowed, scan: scan)
            #expect(found == expected, "\(rows) x \(width), \(share), \(count), \(scan)")
          }
        }
      }
    }
  }

  @Test(arguments: runSeeds)
  func `gives the same answer over bytes and floats`(seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let kernels = SearchKernels(try #require(Kernels(environment: [:])))
    for _ in 0..<60 {
      let world = try #require(World.allCases.randomElement(using: &generator))
      let rows = Int.random(in: 1...6000, using: &generator)
      let width = Int.random(in: 1...80, using: &generator)
      let vectors = world.vectors(rows: rows, width: width, using: &generator)
      let index = ExactIndex(vectors: vectors, width: width, kernels: kernels)
      let share = Double.random(in: 0...1.2, using: &generator)
      let allowed = generator.mask(rows: rows, share: share * share)
      let query = world.query(of: vectors, width: width, using: &generator)
      let count = Int.random(in: 1...400, using: &generator)
      #expect(
        index.nearest(to: query, count: count, among: allowed, scan: .bytes)
          == index.nearest(to: query, count: count, among: allowed, scan: .floats),
        "seed \(seed), \(world), \(rows) x \(width), \(count)")
    }
  }

  /// Goal: intervals that are a tenth too narrow must show. Method: what rounding takes from a row points
  /// along the query in half of the rows and against it in the others, and the bytes rank the others
  /// higher, by little less than rounding took from both; then the same with what rounding takes from the
  /// query.
  @Test(arguments: SearchKernels.available)
  func `is right where all roundings conspire`(version: String) throws {
    let kernels = try SearchKernels.named(version)
    var generator = SplitMix64(seed: 77)
    let width = 64
    let rows = 1100
    let all = generator.mask(rows: rows, share: 1.1)
    for round in 0..<6 {
      let signs = (0..<width).map { _ in Bool.random(using: &generator) ? Float(1) : -1 }
      var vectors: [Float] = []
      var query: [Float] = []
      for row in 0..<rows {
        let isBetter = row % 2 == 0
        // 63 numbers, each off by 0.499, make 31.4.
        let byBytes = Int.random(in: 0...1, using: &generator) + (isBetter ? 40 : 100)
        if round % 2 == 0 {
          query = signs.map { 127 * $0 }
          var whole = (1..<width).map { _ in Int.random(in: -9...9, using: &generator) }
          while whole.reduce(0, +) != byBytes {
            let step = whole.reduce(0, +) < byBytes ? 1 : -1
            whole[Int.random(in: 0..<width - 1, using: &generator)] += step
          }
          vectors.append(127)
          for i in 1..<width {
            vectors.append((Float(whole[i - 1]) + (isBetter ? 0.499 : -0.499)) * signs[i])
          }
        } else {
          query = [127] + signs[1...].map { 0.499 * $0 }
          vectors.append(Float(byBytes))
          vectors += signs[1...].map { (isBetter ? 127 : -127) * $0 }
        }
      }
      let index = ExactIndex(vectors: vectors, width: width, kernels: kernels)
      for count in [1, 20, 200] {
        let found = index.nearest(to: query, count: count, among: all, scan: .bytes)
        #expect(found == ranking(index, query, all, count: count), "round \(round), \(count)")
        #expect(found.allSatisfy { $0.row % 2 == 0 })
      }
    }
  }

  @Test func `scores as the sum of products does`() throws {
    var generator = SplitMix64(seed: 3)
    for version in SearchKernels.available {
      let kernels = try SearchKernels.named(version)
      for width in [1, 15, 16, 17, 64, 130] {
        let vectors = World.ties.vectors(rows: 70, width: width, using: &generator)
        let query = World.ties.query(of: [], width: width, using: &generator)
        let index = ExactIndex(vectors: vectors, width: width, kernels: kernels)
        // Whole numbers, so no rounding.
        let expected = (0..<70).map { row in
          (0..<width).reduce(Float(0)) { $0 + vectors[row * width + $1] * query[$1] }
        }
        #expect(index.scores(of: Array(0..<70), with: query) == expected, "\(version), \(width)")
        #expect(
          (0..<70).allSatisfy {
            index.vector(at: $0) == Array(vectors[$0 * width..<($0 + 1) * width])
          })
      }
    }
  }

  /// How good the interval is: a scan over bytes that scored most rows again would be right and useless.
  @Test func `scores few rows again`() throws {
    var generator = SplitMix64(seed: 5)
    let kernels = SearchKernels(try #require(Kernels(environment: [:])))
    let vectors = World.plain.vectors(rows: 20_000, width: 64, using: &generator)
    let index = ExactIndex(vectors: vectors, width: 64, kernels: kernels)
    let all = [UInt64](repeating: .max, count: 312) + [(1 << 32) - 1]
    for _ in 0..<10 {
      let query = World.plain.query(of: [], width: 64, using: &generator)
      let account = index.account(of: query, count: 100, among: all, scan: .bytes)
      #expect(account.scannedRows == 20_000)
      #expect(account.rescoredRows < 400)
    }
  }

  @Test func `gives the allowed rows even where scores are no numbers`() throws {
    for version in SearchKernels.available {
      let kernels = try SearchKernels.named(version)
      var vectors = [Float](repeating: 1, count: 100 * 4)
      vectors[40] = .nan
      vectors[44] = .infinity
      vectors[48] = -.infinity
      let index = ExactIndex(vectors: vectors, width: 4, kernels: kernels)
      #expect(!index.isFinite)
      let all: [UInt64] = [.max, (1 << 36) - 1]
      for query in [[1, 1, 1, 1], [0, 0, 0, 0], [.nan, 1, 1, 1], [.infinity, 1, 1, 1]] as [[Float]]
      {
        for count in [1, 50, 100] {
          let hits = index.nearest(to: query, count: count, among: all)
          #expect(hits == ranking(index, query, all, count: count), "\(version), \(query)")
          #expect(hits.count == count)
        }
      }
    }
  }

  @Test func `refuses a mask that reaches past the last row`() async {
    await #expect(processExitsWith: .failure) {
      guard let kernels = Kernels(environment: [:]) else { return }
      let index = ExactIndex(vectors: [1, 2, 3], width: 1, kernels: kernels)
      _ = index.nearest(to: [1], count: 1, among: [0b1000])
    }
  }
}

@Suite struct `Changing an index` {
  @Test(arguments: runSeeds)
  func `leaves every copy as it was`(seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let kernels = SearchKernels(try #require(Kernels(environment: [:])))
    let width = 9
    var vectors = World.plain.vectors(rows: 1500, width: width, using: &generator)
    var index = ExactIndex(vectors: vectors, width: width, kernels: kernels)
    var kept: [(index: ExactIndex, vectors: [Float])] = []
    for step in 0..<120 {
      if step % 10 == 0 { kept.append((index, vectors)) }
      if Int.random(in: 0..<3, using: &generator) == 0 {
        let count = Int.random(in: 0...40, using: &generator)
        let added = World.lengths.vectors(rows: count, width: width, using: &generator)
        index.append(added)
        vectors += added
      } else {
        let row = Int.random(in: 0..<index.rowCount, using: &generator)
        let vector = World.spikes.vectors(rows: 1, width: width, using: &generator)
        index.replace(row: row, with: vector)
        vectors.replaceSubrange(row * width..<(row + 1) * width, with: vector)
      }
    }
    kept.append((index, vectors))
    for (index, vectors) in kept {
      let fresh = ExactIndex(vectors: vectors, width: width, kernels: kernels)
      let all = generator.mask(rows: fresh.rowCount, share: 1.1)
      let query = World.plain.query(of: vectors, width: width, using: &generator)
      #expect(index.rowCount == fresh.rowCount)
      #expect(
        (0..<fresh.rowCount).allSatisfy { index.vector(at: $0) == fresh.vector(at: $0) },
        "seed \(seed)")
      for scan in ExactIndex.Scan.allCases {
        #expect(
          index.nearest(to: query, count: 50, among: all, scan: scan)
            == fresh.nearest(to: query, count: 50, among: all, scan: .floats), "seed \(seed)")
      }
    }
  }

  @Test func `begins with nothing`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    var index = ExactIndex(vectors: [], width: 3, kernels: kernels)
    #expect(index.nearest(to: [1, 0, 0], count: 5, among: []).isEmpty)
    index.append([1, 2, 3, 4, 5, 6])
    #expect(
      index.nearest(to: [1, 0, 0], count: 5, among: [3]) == [
        .init(row: 1, score: 4), .init(row: 0, score: 1),
      ])
  }
}

/// A few seeds always, the same ones in every run.
let runSeeds: [UInt64] = [1, 2, 3, 4]
