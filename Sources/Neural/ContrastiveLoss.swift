package import Kernels

/// What contrastive learning adds to the loss of a group of histories, each seen three times: as it is,
/// with a random alteration and with a learned one.
package enum ContrastiveLoss {
  /// Adds up both losses and their gradients.
  ///
  /// - NT-Xent (Chen et al., *SimCLR*, ICML 2020) between the altered histories: a vector should be
  ///   nearer to the other alteration of its own history than to any of another; by inner products, at
  ///   temperature 1, the mean over the `2G` vectors.
  /// - A triplet: the history should be nearer to its learned alteration than to its random one,
  ///   `log(1 + exp(h·h₁ − h·h₂))`, the sum over the group.
  ///
  /// - Parameters:
  ///   - vectors: histories, random alterations, learned alterations, `[3G, d]`.
  ///   - contrast, triplet: the weights of the two.
  ///   - dvectors: overwritten, `[3G, d]`.
  /// - Returns: both losses, unweighted.
  package static func lossAndGradients(
    _ vectors: UnsafePointer<Float>, groupCount g: Int, width d: Int, contrast: Float,
    triplet: Float, dvectors: UnsafeMutablePointer<Float>, kernels: Kernels
  ) -> (contrast: Double, triplet: Double) {
    dvectors.update(repeating: 0, count: 3 * g * d)
    var contrastLoss = 0.0
    var tripletLoss = 0.0
    let views = vectors + g * d
    let dviews = dvectors + g * d
    let scores = Buffer(count: 2 * g)
    let row = scores.pointer
    for i in 0..<2 * g {
      let other = (i + g) % (2 * g)
      for j in 0..<2 * g { row[j] = kernels.dot(views + i * d, views + j * d, count: d) }
      let right = row[other]
      row[i] = -.infinity
      var greatest: Float = 0
      var sum: Float = 0
      kernels.expRows(rows: 1, columns: 2 * g, row, stride: 2 * g, rowMax: &greatest, rowSums: &sum)
      row[i] = 0
      contrastLoss += Double(greatest + logarithm(sum) - right)
      let weight = contrast / Float(2 * g)
      for j in 0..<2 * g where j != i {
        let slope = weight * (row[j] / sum - (j == other ? 1 : 0))
        kernels.add(slope, times: views + j * d, to: dviews + i * d, count: d)
        kernels.add(slope, times: views + i * d, to: dviews + j * d, count: d)
      }
    }
    for i in 0..<g {
      let h = vectors + i * d
      let (random, learned) = (views + i * d, views + (g + i) * d)
      var difference = [kernels.dot(h, random, count: d) - kernels.dot(h, learned, count: d)]
      var loss: Float = 0
      kernels.logisticRows(rows: 1, columns: 1, &difference, stride: 1, rowLosses: &loss)
      tripletLoss += Double(loss)
      let slope = triplet * difference[0]
      kernels.add(slope, times: random, to: dvectors + i * d, count: d)
      kernels.add(-slope, times: learned, to: dvectors + i * d, count: d)
      kernels.add(slope, times: h, to: dviews + i * d, count: d)
      kernels.add(-slope, times: h, to: dviews + (g + i) * d, count: d)
    }
    withExtendedLifetime(scores) {}
    return (contrastLoss / Double(max(1, 2 * g)), tripletLoss)
  }
}
