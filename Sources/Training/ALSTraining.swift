import Domain
import Kernels
package import Models
import Neural

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The `als` policy: users and items as vectors whose products restore who acted on what.
///
/// - SeeAlso: Hu, Koren & Volinsky, *Collaborative Filtering for Implicit Feedback Datasets*, ICDM
///   2008; each vector is solved for by a few steps of conjugate gradients from its last value
///   (Takács, Pilászy & Tikk, RecSys 2011). At the end histories are folded in exactly.
package enum ALSTraining: Policy {
  package static let description = PolicyDescription(
    name: "als",
    summary: "Factors of who acted on what, for implicit feedback (Hu, Koren & Volinsky 2008).",
    gives: .vectors,
    parameters: [
      Hyperparameter(
        "factors", aliases: ["embedding_size"], .integer(2...1024), default: .integer(64),
        search: .options([16, 32, 64, 128].map { .integer($0) }), "The width of vectors."),
      Hyperparameter(
        "regularization", .number(0...1e4), default: .number(0.05),
        search: .numbers(0.001...10, logarithmic: true), "The weight of the vectors' lengths."),
      Hyperparameter(
        "alpha", .number(0...1000), default: .number(1),
        search: .numbers(0.5...40, logarithmic: true),
        "How much more an event counts than its absence: its confidence is 1 + alpha · weight."),
      Hyperparameter(
        "iterations", aliases: ["n_epochs"], .integer(1...1000), default: .integer(15),
        "Alternations between users and items."),
      Hyperparameter(
        "cg_steps", .integer(1...50), default: .integer(3), "Steps of conjugate gradients."),
      Hyperparameter(
        "bm25", .flag, default: .flag(false), search: .options([.flag(false), .flag(true)]),
        "Whether events are weighted by BM25: less for users with many and for popular items."),
      Hyperparameter(
        "bm25_k1", .number(0...1000), default: .number(1.2), "BM25's saturation of counts."),
      Hyperparameter(
        "bm25_b", .number(0...1), default: .number(0.75), "BM25's correction for long histories."),
      Hyperparameter(
        "seed", aliases: ["sample_seed"], .integer(0...Int(Int32.max)), default: .integer(42),
        "The seed of the first vectors."),
    ] + recencyParameters(last: nil, decay: 1),
    inert: [
      "min_user_interactions": "every user with an event counts",
      "min_item_interactions": "every item with an event counts",
    ],
    refused: ["use_features": "Leave it out: the model learns from events alone."])

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.histories.contains(where: { !$0.items.isEmpty }) else {
      throw nothingToLearn(settings, data)
    }
    let iterations = settings.integer("iterations")
    let width = settings.integer("factors")
    let regularization = Float(settings.number("regularization"))
    let (items, seconds) = try context.withPool { pool in
      try timed {
        let matrix = InteractionMatrix(data)
        let (byUser, byItem) = confidences(matrix, settings)
        var generator = SplitMix64(seed: UInt64(settings.integer("seed")))
        func fresh(_ count: Int) -> Buffer {
          let buffer = Buffer(count: count * width)
          for i in 0..<buffer.count { buffer.pointer[i] = (generator.unitFloat() - 0.5) * 0.02 }
          return buffer
        }
        let users = fresh(matrix.userCount)
        let items = fresh(matrix.itemCount)
        let solver = Solver(
          width: width, regularization: regularization, steps: settings.integer("cg_steps"),
          kernels: context.kernels, pool: pool)
        let clock = ContinuousClock()
        let started = clock.now
        for iteration in 1...iterations {
          if iteration > 1, let limit = context.secondsAtMost,
            Training.seconds(clock.now - started) * Double(iteration) / Double(iteration - 1)
              > limit
          {
            break
          }
          try context.report(epoch: iteration, of: iterations)
          solver.solve(
            users, rows: matrix.userCount, from: items, rows: matrix.itemCount,
            offsets: matrix.userOffsets, columns: matrix.items, confidences: byUser)
          solver.solve(
            items, rows: matrix.itemCount, from: users, rows: matrix.userCount,
            offsets: matrix.itemOffsets, columns: matrix.users, confidences: byItem)
        }
        return items.array
      }
    }
    let model = Factors(
      vectors: items, width: width, alpha: Float(settings.number("alpha")),
      regularization: regularization, recency: recency(settings), kernels: context.kernels)
    return TrainedModel(
      model, secondsTraining: seconds,
      summary: "Alternated \(iterations) times over \(data.histories.count) users and "
        + "\(data.itemCount) items in \(text(seconds: seconds)).")
  }

  /// `alpha · weight` of each event, by users and by items.
  private static func confidences(
    _ matrix: InteractionMatrix, _ settings: PolicySettings
  ) -> (byUser: [Float], byItem: [Float]) {
    let alpha = Float(settings.number("alpha"))
    guard settings.flag("bm25") else {
      return (matrix.weights.map { alpha * $0 }, matrix.itemWeights.map { alpha * $0 })
    }
    // A user is a document and an item a word, as in the `implicit` package.
    let k1 = settings.number("bm25_k1")
    let b = settings.number("bm25_b")
    let lengths = (0..<matrix.userCount).map { user in
      (matrix.userOffsets[user]..<matrix.userOffsets[user + 1]).reduce(0.0) {
        $0 + Double(matrix.weights[$1])
      }
    }
    let average = max(1e-9, lengths.reduce(0, +) / Double(max(1, matrix.userCount)))
    func weight(_ value: Float, user: Int, item: Int) -> Float {
      let rarity =
        log(Double(matrix.userCount)) - log1p(Double(matrix.userCount(of: item)))
      let norm = 1 - b + b * lengths[user] / average
      return alpha
        * Float(max(0, rarity) * Double(value) * (k1 + 1) / (k1 * norm + Double(value)))
    }
    var byUser = matrix.weights
    for user in 0..<matrix.userCount {
      for p in matrix.userOffsets[user]..<matrix.userOffsets[user + 1] {
        byUser[p] = weight(matrix.weights[p], user: user, item: Int(matrix.items[p]))
      }
    }
    var byItem = matrix.itemWeights
    for item in 0..<matrix.itemCount {
      for p in matrix.itemOffsets[item]..<matrix.itemOffsets[item + 1] {
        byItem[p] = weight(matrix.itemWeights[p], user: Int(matrix.users[p]), item: item)
      }
    }
    return (byUser, byItem)
  }

  /// Solves for all vectors of one side with those of the other held fixed.
  private struct Solver {
    let width: Int
    let regularization: Float
    let steps: Int
    let kernels: Kernels
    let pool: WorkerPool

    func solve(
      _ target: Buffer, rows: Int, from fixed: Buffer, rows fixedRows: Int, offsets: [Int],
      columns: [Int32], confidences: [Float]
    ) {
      let gram = Buffer(
        Factors.gram(
          fixed.array, width: width, regularization: regularization, kernels: kernels))
      let (width, steps, kernels) = (width, steps, kernels)
      let longest = zip(offsets, offsets.dropFirst()).map { $1 - $0 }.max() ?? 0
      pool.run { worker in
        let work = Buffer(count: 3 * width + longest * width + 2 * longest)
        let r = work.pointer
        let p = r + width
        let minusAP = p + width
        let near = minusAP + width
        let given = near + longest * width
        let negative = given + longest
        /// `out = Σ given v - A x`, with `A = gram + Σ c v vᵀ` over the row's events.
        func subtract(
          _ x: UnsafePointer<Float>, events: Int, from given: UnsafePointer<Float>?,
          into out: UnsafeMutablePointer<Float>
        ) {
          // gram is symmetric: the sum over its rows is that over its columns.
          out.update(repeating: 0, count: width)
          kernels.addWeightedRows(rows: width, columns: width, gram.pointer, weights: x, to: out)
          for i in 0..<width { out[i] = -out[i] }
          kernels.addWeightedRows(
            rows: events, columns: width, near, weights: given, factors: negative, of: x, to: out)
        }
        for row in stride(from: worker, to: rows, by: pool.count) {
          let x = target.pointer + row * width
          let start = offsets[row]
          let count = offsets[row + 1] - start
          if count == 0 {
            x.update(repeating: 0, count: width)
            continue
          }
          // The vectors of the row's events, side by side.
          for k in 0..<count {
            (near + k * width).update(
              from: fixed.pointer + Int(columns[start + k]) * width, count: width)
            let c = confidences[start + k]
            given[k] = 1 + c
            negative[k] = -c
          }
          subtract(x, events: count, from: given, into: r)
          p.update(from: r, count: width)
          var before = kernels.dot(r, r, count: width)
          for _ in 0..<steps {
            if before < 1e-10 { break }
            subtract(p, events: count, from: nil, into: minusAP)
            let alpha = before / -kernels.dot(p, minusAP, count: width)
            kernels.add(alpha, times: p, to: x, count: width)
            kernels.add(alpha, times: minusAP, to: r, count: width)
            let after = kernels.dot(r, r, count: width)
            for i in 0..<width { p[i] = r[i] + after / before * p[i] }
            before = after
          }
        }
        withExtendedLifetime(work) {}
      }
      withExtendedLifetime(gram) {}
    }
  }
}
