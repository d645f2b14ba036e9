import Domain
package import Kernels
package import Models
import Neural

/// The `ease` policy: the linear model of items by items that restores all histories best.
///
/// - SeeAlso: Steck, *Embarrassingly Shallow Autoencoders for Sparse Data*, WWW 2019: with the Gram
///   matrix G of users by items and `P = (G + λI)⁻¹`, the weights are `-P[i][j] / P[j][j]`. The
///   inverse is found by `SymmetricInverse`, in single precision; λ keeps it stable.
package enum EASETraining: Policy {
  package static let description = PolicyDescription(
    name: "ease",
    summary: "The linear autoencoder of histories in closed form (Steck 2019).",
    gives: .scores,
    parameters: [
      Hyperparameter(
        "regularization", aliases: ["lambda", "l2"], .number(1e-3...1e7), default: .number(250),
        search: .numbers(20...2000, logarithmic: true),
        "λ, added to the diagonal: more of it trusts the data less."),
      Hyperparameter(
        "neighbours", aliases: ["neighbors"], .integer(1...1_000_000),
        "Largest weights that are kept for each item; by default all, as long as that is no more "
          + "than 100 million over the catalogue."),
    ] + recencyParameters(last: nil, decay: 1))

  /// Beyond this the matrix alone takes more than 3.6 GB.
  static let itemCountAtMost = 30_000

  /// Weights that are kept over the catalogue by default: 800 MB.
  static let weightsAtMost = 100_000_000

  /// What a training will take, before it starts.
  ///
  /// Memory: the matrix (`4 N²` bytes), its panels, and twice the weights that are kept, once by the
  /// workers and once together. Time: N³ operations of products, of which the workers reach about
  /// two fifths of what the processor can do, and passes over N² numbers.
  package static func estimate(
    _ data: TrainingSet, _ settings: PolicySettings, threads: Int, kernels: Kernels
  ) -> TrainingEstimate {
    let n = Double(data.itemCount)
    let neighbours =
      settings.optionalInteger("neighbours") ?? max(100, weightsAtMost / max(1, data.itemCount))
    let kept = n * Double(min(data.itemCount, neighbours))
    let pairs = data.histories.reduce(0.0) { $0 + Double($1.items.count * $1.items.count) / 2 }
    let workers = Double(max(1, threads))
    let products = n * n * n / (kernels.operationsPerSecond() * 0.4 * workers)
    return TrainingEstimate(
      bytes: Int(4 * n * n + 12 * n * Double(SymmetricInverse.blockSize) + 16 * kept),
      seconds: products + pairs / 1.5e8 / workers + n * n / 5e7 / workers,
      tokensPerEpoch: data.histories.reduce(0) { $0 + $1.items.count },
      operationsPerToken: 0)
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.itemCount <= itemCountAtMost else {
      throw Diagnostic(
        .unavailable, code: "too_many_items",
        "The model `\(settings.name)` inverts a matrix of items by items; \(data.itemCount) items are "
          + "more than the \(itemCountAtMost) that it takes.", at: "training.models",
        help: "Use the policy `elsa`, which finds nearly the same weights as vectors of items.")
    }
    guard data.histories.contains(where: { $0.items.count >= 2 }) else {
      throw nothingToLearn(settings, data)
    }
    let n = data.itemCount
    let neighbours =
      settings.optionalInteger("neighbours") ?? max(100, weightsAtMost / max(1, n))
    let lambda = Float(settings.number("regularization"))
    if let limit = context.secondsAtMost {
      // There is no half of an inverse: what will not end in time is not begun.
      let needed = estimate(data, settings, threads: context.threads, kernels: context.kernels)
      guard needed.seconds <= limit else {
        throw Diagnostic(
          .unavailable, code: "no_time",
          "The model `\(settings.name)` would take about \(text(seconds: needed.seconds)) for "
            + "\(n) items; \(text(seconds: max(0, limit))) are left.", at: "training.models",
          help: "Give it more time, or use the policy `elsa`.")
      }
    }
    let (rows, seconds) = try context.withPool { pool in
      try timed {
        let matrix = InteractionMatrix(data)
        let gram = Buffer(count: n * n)
        pool.run { worker in
          for item in stride(from: worker, to: n, by: pool.count) {
            let row = gram.pointer + item * n
            for p in matrix.itemOffsets[item]..<matrix.itemOffsets[item + 1] {
              let user = Int(matrix.users[p])
              // A user's items ascend, and the lower triangle is all that the inverse reads.
              for q in matrix.userOffsets[user]..<matrix.userOffsets[user + 1] {
                let other = Int(matrix.items[q])
                if other > item { break }
                row[other] += 1
              }
            }
            row[item] += lambda
          }
        }
        try SymmetricInverse.invert(
          gram.pointer, size: n, kernels: context.kernels, pool: pool
        ) { done, all throws(TrainingCancelled) in
          try context.report(step: done, steps: all)
        }
        let diagonal = (0..<n).map { gram.pointer[$0 * n + $0] }
        return SimilarRows.gather(itemCount: n, pool: pool) { scratch in
          { item in
            // Row `item` of the weights: what this item of a history says of every other.
            let row = gram.pointer + item * n
            for other in 0..<n { scratch.sums[other] = row[other] }
            scratch.finish(item, keeping: neighbours) { other, value in
              -value / diagonal[other]
            }
          }
        }
      }
    }
    return TrainedModel(
      rows.model(recency: recency(settings)), secondsTraining: seconds,
      summary: "Solved for \(n) items, kept \(rows.columns.count) weights, in "
        + "\(text(seconds: seconds)).")
  }
}
