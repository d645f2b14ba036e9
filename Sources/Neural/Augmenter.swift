package import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

func logarithm(_ x: Float) -> Float { logf(x) }

/// Trains the augmenter of a `LACLNetwork`, makes altered histories with it, and lets the recommender
/// learn from them.
///
/// One object serves one thread.
package final class Augmenter {
  private let network: LACLNetwork
  private let layout: LACLNetwork.Layout
  private let kernels: Kernels
  private let encoder: TransformerPass
  private let generator: TransformerPass
  private let recommender: TransformerPass
  private let insertions: SampledLoss
  /// Whether a learned alteration keeps the order of the history. The authors' code passes it through
  /// a set, which loses order and repetitions; that says nothing of a sequence, and is almost
  /// certainly not what was meant.
  package let keepsOrder: Bool

  /// - Parameter negatives: items that a right insertion is compared with.
  package init(
    _ network: LACLNetwork, keepsOrder: Bool = true, negatives: Int = 256, kernels: Kernels
  ) {
    self.network = network
    self.keepsOrder = keepsOrder
    self.kernels = kernels
    layout = LACLNetwork.Layout(network)
    encoder = TransformerPass(layout.encoder, kernels: kernels)
    generator = TransformerPass(layout.generator, kernels: kernels)
    recommender = TransformerPass(layout.recommender, kernels: kernels)
    // The end is said as an item is, so it is among what is drawn.
    let words = network.itemCount + 2
    insertions = SampledLoss(
      ParameterLayout(itemCount: words, width: network.recommender.width), objective: .softmax,
      negatives: negatives, sharing: .pass, sampler: NegativeSampler(uniformOver: words),
      corrected: false, kernels: kernels)
  }

  private var width: Int { network.recommender.width }

  // MARK: Learning to mend

  /// Adds up the augmenter's loss on histories with mistakes, and its gradients: the mean
  /// cross-entropy of the operations, and that of the inserted items.
  ///
  /// - Parameters:
  ///   - weight: multiplied into every gradient.
  ///   - touched: every item whose row of the gradient was added to is appended.
  /// - Returns: both losses, unweighted.
  package func lossAndGradients(
    _ corruptions: [Corruption], _ weights: PackedWeights, weight: Float, dropout: Float,
    into gradients: Buffer, touched: inout [Int32], using random: inout SplitMix64
  ) -> (operations: Double, insertions: Double) {
    let d = width
    var batch = PackedBatch()
    var sentences = PackedBatch()
    var rows: [Int] = []
    var operations: [LACLNetwork.Operation] = []
    for corruption in corruptions.map({ $0.suffix(network.maximumLength) }) {
      for (i, missing) in corruption.missing.enumerated() where !missing.isEmpty {
        rows.append(operations.count + i)
        let isWhole = missing.count == LACLNetwork.insertedAtMost
        sentences.append(
          sentence: [network.endToken] + missing + (isWhole ? [] : [network.endToken]))
      }
      batch.append(history: corruption.tokens, maximumLength: network.maximumLength)
      operations += corruption.operations
    }
    let t = batch.tokenCount
    guard t > 0 else { return (0, 0) }
    let hidden = encoder.forward(
      batch, weights, dropout: dropout, seed: UInt32(truncatingIfNeeded: random.next()))
    let dhidden = Buffer(count: t * d)
    let operationLoss = operationGradients(
      operations, hidden: hidden, weights, weight: weight / Float(t), dhidden: dhidden.pointer,
      into: gradients)
    var insertionLoss = 0.0
    if !rows.isEmpty {
      let contexts = Buffer(count: rows.count * d)
      let dcontexts = Buffer(count: rows.count * d)
      for (i, row) in rows.enumerated() {
        (contexts.pointer + i * d).update(from: hidden + row * d, count: d)
      }
      generator.contexts = UnsafePointer(contexts.pointer)
      generator.dcontexts = dcontexts.pointer
      let states = generator.forward(
        sentences, weights, dropout: dropout, seed: UInt32(truncatingIfNeeded: random.next()))
      let dstates = Buffer(count: sentences.tokenCount * d)
      insertionLoss = insertions.lossAndGradients(
        hidden: states, sentences, weight: weight / Float(sentences.targets.count),
        parameters: weights.parameters, dhidden: dstates.pointer, into: gradients,
        touched: &touched, using: &random)
      generator.backward(sentences, weights, dhidden: dstates.pointer, into: gradients)
      for (i, row) in rows.enumerated() {
        kernels.add(
          1, times: dcontexts.pointer + i * d, to: dhidden.pointer + row * d, count: d)
      }
      generator.contexts = nil
      generator.dcontexts = nil
      touched += sentences.tokens
      withExtendedLifetime((contexts, dcontexts, dstates)) {}
    }
    encoder.backward(batch, weights, dhidden: dhidden.pointer, into: gradients)
    touched += batch.tokens
    withExtendedLifetime(dhidden) {}
    return (operationLoss / Double(t), insertionLoss / Double(max(1, sentences.targets.count)))
  }

  /// Scores of the three operations for each row.
  private func operationScores(
    _ hidden: UnsafePointer<Float>, rows: Int, _ weights: PackedWeights
  ) -> Buffer {
    let count = LACLNetwork.Operation.allCases.count
    let scores = Buffer(count: rows * count)
    let weight = weights.parameter(layout.operations.weight)
    let bias = weights.bias(layout.operations)
    for row in 0..<rows {
      for k in 0..<count {
        scores.pointer[row * count + k] =
          bias[k] + kernels.dot(hidden + row * width, weight + k * width, count: width)
      }
    }
    return scores
  }

  private func operationGradients(
    _ right: [LACLNetwork.Operation], hidden: UnsafePointer<Float>, _ weights: PackedWeights,
    weight: Float, dhidden: UnsafeMutablePointer<Float>, into gradients: Buffer
  ) -> Double {
    let count = LACLNetwork.Operation.allCases.count
    let d = width
    let buffer = operationScores(hidden, rows: right.count, weights)
    let scores = buffer.pointer
    let matrix = weights.parameter(layout.operations.weight)
    let dmatrix = gradients.pointer + layout.operations.weight
    var loss = 0.0
    for (row, operation) in right.enumerated() {
      let line = scores + row * count
      let score = line[operation.rawValue]
      var greatest: Float = 0
      var sum: Float = 0
      kernels.expRows(
        rows: 1, columns: count, line, stride: count, rowMax: &greatest, rowSums: &sum)
      loss += Double(greatest + logarithm(sum) - score)
      for k in 0..<count {
        let slope = weight * (line[k] / sum - (k == operation.rawValue ? 1 : 0))
        kernels.add(slope, times: matrix + k * d, to: dhidden + row * d, count: d)
        kernels.add(slope, times: hidden + row * d, to: dmatrix + k * d, count: d)
        if let bias = layout.operations.bias { gradients.pointer[bias + k] += slope }
      }
    }
    withExtendedLifetime(buffer) {}
    return loss
  }

  // MARK: Altering

  /// The operation for each event of each history: the best by its score times a random number from
  /// `0..<1`, as in the authors' code; without a generator the best by its score.
  package func operations(
    for histories: [[Int32]], _ weights: PackedWeights, using random: inout SplitMix64,
    isRandom: Bool = true
  ) -> [[LACLNetwork.Operation]] {
    decide(histories, weights, isRandom: isRandom, using: &random).operations
  }

  private func decide(
    _ histories: [[Int32]], _ weights: PackedWeights, isRandom: Bool,
    using random: inout SplitMix64
  ) -> (operations: [[LACLNetwork.Operation]], hidden: UnsafeMutablePointer<Float>) {
    var batch = PackedBatch()
    for history in histories {
      batch.append(history: history, maximumLength: network.maximumLength)
    }
    let hidden = encoder.forward(batch, weights)
    let buffer = operationScores(hidden, rows: batch.tokenCount, weights)
    let count = LACLNetwork.Operation.allCases.count
    var row = 0
    let operations = histories.map { history in
      history.suffix(network.maximumLength).map { _ in
        var best = LACLNetwork.Operation.keep
        var greatest = -Float.infinity
        for operation in LACLNetwork.Operation.allCases {
          let noise = isRandom ? random.unitFloat() : 1
          let score = buffer.pointer[row * count + operation.rawValue] * noise
          if score > greatest { (best, greatest) = (operation, score) }
        }
        row += 1
        return best
      }
    }
    withExtendedLifetime(buffer) {}
    return (operations, hidden)
  }

  /// Histories as the augmenter alters them.
  ///
  /// - Returns: one for each history, never empty; the newest events where it grew too long.
  package func views(
    of histories: [[Int32]], _ weights: PackedWeights, using random: inout SplitMix64,
    isRandom: Bool = true
  ) -> [[Int32]] {
    let histories = histories.map { Array($0.suffix(network.maximumLength)) }
    let (operations, hidden) = decide(histories, weights, isRandom: isRandom, using: &random)
    var rows: [Int] = []
    var row = 0
    for line in operations {
      for operation in line {
        if operation == .insert { rows.append(row) }
        row += 1
      }
    }
    let inserted = insert(at: rows, hidden: hidden, weights)
    var place = 0
    return zip(histories, operations).map { history, line in
      var view: [Int32] = []
      for (item, operation) in zip(history, line) {
        switch operation {
        case .keep: view.append(item)
        case .delete: break
        case .insert:
          // What is missing was learned nearest first.
          view += inserted[place].reversed()
          view.append(item)
          place += 1
        }
      }
      if view.isEmpty { view = history.suffix(1) }
      if !keepsOrder { view = Set(view).sorted() }
      return view.suffix(network.maximumLength)
    }
  }

  /// What the generator says at some rows of the encoder's states, item by item.
  private func insert(
    at rows: [Int], hidden: UnsafePointer<Float>, _ weights: PackedWeights
  ) -> [[Int32]] {
    let d = width
    var found = [[Int32]](repeating: [], count: rows.count)
    var open = Array(rows.indices)
    let contexts = Buffer(count: rows.count * d)
    let states = Buffer(count: rows.count * d)
    for _ in 0..<LACLNetwork.insertedAtMost where !open.isEmpty {
      var sentences = PackedBatch()
      for (i, place) in open.enumerated() {
        (contexts.pointer + i * d).update(from: hidden + rows[place] * d, count: d)
        sentences.append(sentence: [network.endToken] + found[place] + [network.endToken])
      }
      generator.contexts = UnsafePointer(contexts.pointer)
      let all = generator.forward(sentences, weights)
      for i in open.indices {
        (states.pointer + i * d).update(
          from: all + (Int(sentences.offsets[i + 1]) - 1) * d, count: d)
      }
      let words = bestWords(states.pointer, rows: open.count, weights)
      for (place, word) in zip(open, words) where word != network.endToken {
        found[place].append(word)
      }
      open = zip(open, words).filter { $1 != network.endToken }.map(\.0)
    }
    generator.contexts = nil
    withExtendedLifetime((contexts, states)) {}
    return found
  }

  /// The item, or the end, that each state is nearest to.
  private func bestWords(
    _ states: UnsafePointer<Float>, rows: Int, _ weights: PackedWeights
  ) -> [Int32] {
    let tile = 512
    let d = width
    let words = network.itemCount + 2
    let packed = Buffer(count: kernels.packedCount(columns: tile, depth: d))
    let scores = Buffer(count: rows * tile)
    var best = [Int32](repeating: network.endToken, count: rows)
    var greatest = [Float](repeating: -.infinity, count: rows)
    for start in stride(from: 0, to: words, by: tile) {
      let count = min(tile, words - start)
      kernels.pack(
        weights.parameter(layout.table.items) + start * d, stride: d, transposed: true,
        columns: count, depth: d, into: packed.pointer)
      kernels.multiplyPacked(
        rows: rows, columns: count, depth: d, states, rowStride: d, packed.pointer,
        into: scores.pointer, stride: tile)
      for i in 0..<rows {
        let line = scores.pointer + i * tile
        for j in 0..<count where line[j] > greatest[i] {
          let word = Int32(start + j)
          if word == network.hiddenToken { continue }
          (best[i], greatest[i]) = (word, line[j])
        }
      }
    }
    withExtendedLifetime((packed, scores)) {}
    return best
  }

  // MARK: Learning from alterations

  /// Adds up the contrastive losses of a group of histories and the recommender's gradients.
  ///
  /// - Parameter weight: multiplied into every gradient.
  /// - Returns: both losses, unweighted.
  package func contrast(
    _ histories: [[Int32]], _ weights: PackedWeights, contrast: Float, triplet: Float,
    weight: Float, dropout: Float, into gradients: Buffer, touched: inout [Int32],
    using random: inout SplitMix64
  ) -> (contrast: Double, triplet: Double) {
    let learned = views(of: histories, weights, using: &random)
    var batch = PackedBatch()
    let length = network.maximumLength
    for history in histories { batch.append(history: history, maximumLength: length) }
    for history in histories {
      batch.append(
        history: randomView(
          of: history.suffix(length), hidden: network.hiddenToken, using: &random),
        maximumLength: length)
    }
    for view in learned { batch.append(history: view, maximumLength: length) }
    let d = width
    let hidden = recommender.forward(
      batch, weights, dropout: dropout, seed: UInt32(truncatingIfNeeded: random.next()))
    let vectors = Buffer(count: batch.sequenceCount * d)
    let dvectors = Buffer(count: batch.sequenceCount * d)
    let dhidden = Buffer(count: batch.tokenCount * d)
    let newest = batch.offsets.dropFirst().map { (Int($0) - 1) * d }
    for (s, row) in newest.enumerated() {
      (vectors.pointer + s * d).update(from: hidden + row, count: d)
    }
    let losses = ContrastiveLoss.lossAndGradients(
      vectors.pointer, groupCount: histories.count, width: d, contrast: weight * contrast,
      triplet: weight * triplet, dvectors: dvectors.pointer, kernels: kernels)
    for (s, row) in newest.enumerated() {
      (dhidden.pointer + row).update(from: dvectors.pointer + s * d, count: d)
    }
    recommender.backward(batch, weights, dhidden: dhidden.pointer, into: gradients)
    touched += batch.tokens
    withExtendedLifetime((vectors, dvectors, dhidden)) {}
    return losses
  }
}
