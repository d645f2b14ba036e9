import Kernels
import Neural

/// What one training thread owns. Unchecked Sendable: only that thread touches it while a step runs.
final class TrainingWorker: @unchecked Sendable {
  let pass: any NetworkPass
  let softmax: CatalogueSoftmax?
  let sampled: SampledLoss?
  let augmenter: Augmenter?
  let gradients: Buffer
  var dhidden = Buffer(count: 0)
  /// The hidden states that have a loss and their gradients, where not all have one.
  var chosen = Buffer(count: 0)
  var dchosen = Buffer(count: 0)
  var touched: [Int32] = []
  var loss = 0.0
  init(
    _ network: any SequenceNetwork, _ options: TrainingOptions, softmax: CatalogueSoftmax?,
    sampled: SampledLoss?, kernels: Kernels
  ) {
    augmenter = (network as? LACLNetwork).map {
      Augmenter($0, keepsOrder: options.alterations.keepsOrder, kernels: kernels)
    }
    pass = network.makePass(kernels: kernels)
    self.softmax = softmax
    self.sampled = sampled
    gradients = Buffer(count: network.layout.count)
  }
}

extension TrainingWorker {
  /// Sets the gradients to zero; of the tables of items only the rows that the last step touched,
  /// where steps are sparse.
  func clearGradients(_ layout: ParameterLayout, sparse: Bool) {
    guard sparse else {
      touched.removeAll(keepingCapacity: true)
      return gradients.clear()
    }
    let d = layout.width
    for item in touched {
      for table in layout.rowTables where table == layout.items || Int(item) < layout.itemCount {
        (gradients.pointer + table + Int(item) * d).update(repeating: 0, count: d)
      }
    }
    touched.removeAll(keepingCapacity: true)
    let dense = layout.tablesEnd
    (gradients.pointer + dense).update(repeating: 0, count: layout.trained - dense)
  }

  /// Learns from a group of histories with mistakes, or from altered ones.
  ///
  /// - Parameters:
  ///   - share: the group's part of the step's histories.
  ///   - tokens: the step's right items, over which the loss is a mean.
  func alter(
    _ histories: [[Int32]], _ weights: PackedWeights, _ options: TrainingOptions.Alterations,
    onlyAugmenter: Bool, share: Float, tokens: Int, dropout: Float, seed: UInt64
  ) {
    guard let augmenter else { return }
    var random = SplitMix64(seed: seed)
    if onlyAugmenter {
      let corruptions = histories.map {
        Corruption($0, itemCount: weights.layout.itemCount, using: &random)
      }
      let losses = augmenter.lossAndGradients(
        corruptions, weights, weight: share, dropout: dropout, into: gradients, touched: &touched,
        using: &random)
      loss += (losses.operations + losses.insertions) * Double(share) * Double(tokens)
    } else {
      // A history counts as one of the right items, as it does where each is a row of its own. As a
      // part of the step it would count as often as its many right items together, and the optimiser
      // would move by the few histories' noise.
      let count = Float(histories.count)
      let losses = augmenter.contrast(
        histories, weights, contrast: options.contrast * count, triplet: options.triplet,
        weight: 1 / Float(tokens), dropout: dropout, into: gradients, touched: &touched,
        using: &random)
      loss +=
        Double(options.contrast * count) * losses.contrast
        + Double(options.triplet) * losses.triplet
    }
  }

  /// Takes one pass forward and backward and adds up its gradients.
  func train(
    _ batch: PackedBatch, _ weights: PackedWeights, weight: Float, dropout: Float, seed: UInt64
  ) {
    let d = weights.layout.width
    let count = batch.tokenCount * d
    if dhidden.count < count { dhidden = Buffer(count: count * 5 / 4) }
    var generator = SplitMix64(seed: seed)
    let hidden = pass.forward(
      batch, weights, dropout: dropout, seed: UInt32(truncatingIfNeeded: generator.next()))
    let states: UnsafeMutablePointer<Float>
    let dstates: UnsafeMutablePointer<Float>
    if let rows = batch.targetRows {
      if chosen.count < rows.count * d {
        chosen = Buffer(count: rows.count * d * 5 / 4)
        dchosen = Buffer(count: chosen.count)
      }
      for (i, row) in rows.enumerated() {
        (chosen.pointer + i * d).update(from: hidden + Int(row) * d, count: d)
      }
      (states, dstates) = (chosen.pointer, dchosen.pointer)
    } else {
      (states, dstates) = (hidden, dhidden.pointer)
    }
    if let softmax {
      loss += softmax.lossAndGradients(
        hidden: states, targets: batch.targets, weight: weight, weights, dhidden: dstates,
        into: gradients)
    } else if let sampled {
      loss += sampled.lossAndGradients(
        hidden: states, batch, weight: weight, parameters: weights.parameters, dhidden: dstates,
        into: gradients, touched: &touched, using: &generator)
      touched += batch.tokens
    }
    if let rows = batch.targetRows {
      dhidden.pointer.update(repeating: 0, count: count)
      for (i, row) in rows.enumerated() {
        (dhidden.pointer + Int(row) * d).update(from: dstates + i * d, count: d)
      }
    }
    pass.backward(batch, weights, dhidden: dhidden.pointer, into: gradients)
  }
}
