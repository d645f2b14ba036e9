import Domain
import Evaluation
import Kernels
import Models
import Neural
import Testing
import Training

@Suite struct `Sparse matrices` {
  @Test(arguments: 0..<20)
  func `hold each user and item once, with the sum of the weights`(seed: Int) {
    var generator = SplitMix64(seed: UInt64(seed))
    let n = Int.random(in: 1...40, using: &generator)
    let histories = (0..<Int.random(in: 0...30, using: &generator)).map { _ -> History in
      var history = History(
        (0..<Int.random(in: 0...25, using: &generator)).map { _ in
          ItemToken(Int.random(in: 0..<n, using: &generator))
        })
      if seed % 2 == 1 {
        history.weights =
          history.items.map { _ in Float(Int.random(in: 1...9, using: &generator)) }[
            ...]
      }
      return history
    }
    let matrix = InteractionMatrix(
      TrainingSet(itemCount: n, histories: histories, validation: []))
    #expect(matrix.userOffsets.count == histories.count + 1, "seed \(seed)")
    var byItem = [[(user: Int32, weight: Float)]](repeating: [], count: n)
    for (user, history) in histories.enumerated() {
      var sums: [Int32: Float] = [:]
      for (k, item) in history.items.enumerated() {
        sums[item.rawValue, default: 0] += history.weights.map { $0[$0.startIndex + k] } ?? 1
      }
      let range = matrix.userOffsets[user]..<matrix.userOffsets[user + 1]
      let own = sums.sorted { $0.key < $1.key }
      #expect(Array(matrix.items[range]) == own.map(\.key), "seed \(seed), user \(user)")
      #expect(Array(matrix.weights[range]) == own.map(\.value), "seed \(seed), user \(user)")
      for (item, weight) in own { byItem[Int(item)].append((Int32(user), weight)) }
    }
    for item in 0..<n {
      let range = matrix.itemOffsets[item]..<matrix.itemOffsets[item + 1]
      #expect(Array(matrix.users[range]) == byItem[item].map(\.user), "seed \(seed), item \(item)")
      #expect(
        Array(matrix.itemWeights[range]) == byItem[item].map(\.weight), "seed \(seed), item \(item)"
      )
    }
  }

  @Test(arguments: 0..<40)
  func `keep the largest entries of a row, as sorting finds them`(seed: Int) {
    var generator = SplitMix64(seed: UInt64(seed))
    let count = Int.random(in: 0...3000, using: &generator)
    // Few values where the seed is even: most entries have equals.
    let values = seed % 2 == 0 ? 7 : 1_000_000
    let scale: Float = [1e-30, 1e-3, 1, 1e20][seed % 4]
    var weights = (0..<count).map { _ in
      scale * Float(Int.random(in: 1...values, using: &generator))
        * (Bool.random(using: &generator) ? 1 : -1)
    }
    var columns = weights.indices.map { Int32(3 * $0) }
    let limit = [0, 1, 20, 200, 2999, 5000][seed % 6]
    let right = weights.indices
      .sorted { (weights[$1].magnitude, $0) < (weights[$0].magnitude, $1) }
      .prefix(limit).sorted()
    let expected = right.map { (columns[$0], weights[$0]) }
    let kept = LargestEntries().keep(limit, of: count, columns: &columns, weights: &weights)
    #expect(kept == expected.count, "seed \(seed)")
    #expect(Array(columns.prefix(kept)) == expected.map(\.0), "seed \(seed)")
    #expect(Array(weights.prefix(kept)) == expected.map(\.1), "seed \(seed)")
  }
}
