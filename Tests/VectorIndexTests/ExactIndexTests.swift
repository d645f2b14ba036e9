import Kernels
import Neural
import Testing
import VectorIndex

@Suite struct `Exact search` {
  /// Small whole numbers, so that products are exact and ties are common.
  static func world(seed: UInt64, rows: Int, width: Int) -> (vectors: [Float], query: [Float]) {
    var generator = SplitMix64(seed: seed)
    let vectors = (0..<rows * width).map { _ in Float(Int.random(in: -3...3, using: &generator)) }
    let query = (0..<width).map { _ in Float(Int.random(in: -3...3, using: &generator)) }
    return (vectors, query)
  }

  @Test(arguments: Kernels.available, [1, 2, 3, 4] as [UInt64])
  func `agrees with sorting every allowed row`(version: String, seed: UInt64) throws {
    let kernels = try #require(Kernels(named: version))
    var generator = SplitMix64(seed: seed &* 77)
    for _ in 0..<60 {
      let rows = Int.random(in: 1...300, using: &generator)
      let width = Int.random(in: 1...70, using: &generator)
      let (vectors, query) = Self.world(seed: generator.next(), rows: rows, width: width)
      let index = ExactIndex(vectors: vectors, width: width, kernels: kernels)
      let share = Int.random(in: 0...4, using: &generator)
      var mask = [UInt64](repeating: 0, count: (rows + 63) / 64)
      var allowed: [Int] = []
      for row in 0..<rows where Int.random(in: 0..<4, using: &generator) < share {
        mask[row / 64] |= 1 << UInt64(row % 64)
        allowed.append(row)
      }
      let expected =
        allowed.map { row in
          ExactIndex.Hit(
            row: row,
            score: (0..<width).reduce(0) { $0 + vectors[row * width + $1] * query[$1] })
        }.sorted { ($0.score, $1.row) > ($1.score, $0.row) }
      for count in [0, 1, 7, rows, rows + 5] {
        let found = index.nearest(to: query, count: count, among: mask)
        #expect(found == Array(expected.prefix(count)), "seed \(seed), \(rows) x \(width)")
      }
      #expect(
        index.scores(of: allowed, with: query)
          == allowed.map { row in
            (0..<width).reduce(0) { $0 + vectors[row * width + $1] * query[$1] }
          })
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
