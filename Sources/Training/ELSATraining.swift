import Domain
import Evaluation
package import Kernels
package import Models
package import Neural

/// The `elsa` policy: the linear autoencoder of histories, factorised so that it fits any catalogue.
///
/// - SeeAlso: Vančura et al., *Scalable Linear Shallow Autoencoder for Collaborative Filtering*, RecSys
///   2022. The weights of items by items are `A Aᵀ - I` with rows of A of length 1; the loss is the
///   squared distance of a history and its restoration, both scaled to length 1. Here rows are scaled
///   again after every step, and the optimiser is Adam where the paper's code takes NAdam.
package enum ELSATraining: Policy {
  package static let description = PolicyDescription(
    name: "elsa",
    summary: "A linear autoencoder with low rank for any catalogue (Vančura et al. 2022).",
    gives: .vectors,
    parameters: [
      Hyperparameter(
        "factors", aliases: ["embedding_size", "n_dims"], .integer(2...2048),
        default: .integer(128), search: .options([64, 128, 256].map { .integer($0) }),
        "The width of vectors."),
      Hyperparameter(
        "lr", aliases: ["learning_rate"], .number(1e-6...1), default: .number(0.02),
        search: .numbers(0.003...0.1, logarithmic: true), "The rate of Adam."),
      Hyperparameter(
        "n_epochs", aliases: ["epochs"], .integer(1...1000), default: .integer(20),
        search: .options([10, 20, 40].map { .integer($0) }), "Passes over the users."),
      Hyperparameter(
        "batch_size", .integer(1...65_536),
        "Users in a step; by default a sixty-fourth of the users, at least 16 and at most 512."),
      Hyperparameter(
        "strategy", .choice(["default", "early_stopping"]), default: .text("early_stopping"),
        "Whether the best epoch by validation is kept and training stops when none is better."),
      Hyperparameter(
        "patience", .integer(1...1000), default: .integer(4),
        "Epochs without a better validation metric before training stops."),
      Hyperparameter(
        "seed", aliases: ["sample_seed"], .integer(0...Int(Int32.max)), default: .integer(42),
        "The seed of the first vectors and of the order of users."),
    ] + recencyParameters(last: nil, decay: 1))

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    let users = data.histories.indices.filter { data.histories[$0].items.count >= 2 }
    guard !users.isEmpty else { throw nothingToLearn(settings, data) }
    let width = settings.integer("factors")
    let epochs = settings.integer("n_epochs")
    let batch =
      settings.optionalInteger("batch_size") ?? min(512, max(16, users.count / 64))
    let stops = settings.text("strategy") == "early_stopping" && !data.validation.isEmpty
    return try context.withPool { pool in
      let clock = ContinuousClock()
      let started = clock.now
      let run = LinearRun(
        data, width: width, seed: UInt64(settings.integer("seed")), kernels: context.kernels,
        pool: pool)
      func model() -> PooledVectors {
        PooledVectors(
          vectors: run.weights.array, width: width, recency: recency(settings),
          isNormalised: false, kernels: context.kernels)
      }
      var records: [EpochRecord] = []
      var best: (model: PooledVectors, epoch: Int, ndcg: Double)?
      for epoch in 1...epochs {
        let epochStarted = clock.now
        let order = users.shuffled(using: &run.generator)
        var loss = 0.0
        for start in stride(from: 0, to: order.count, by: batch) {
          loss += run.step(
            order[start..<min(order.count, start + batch)], rate: Float(settings.number("lr")))
          try context.report(
            epoch: epoch, of: epochs, step: start / batch, steps: (order.count + batch - 1) / batch,
            loss: loss / Double(start + batch))
        }
        var record = EpochRecord(
          epoch: epoch, loss: loss / Double(order.count), validationNDCG: nil,
          validationRecall: nil, seconds: seconds(clock.now - epochStarted))
        if stops {
          let candidate = model()
          let result = rankings(data.validation, by: candidate, pool: pool)
          record.validationNDCG = result.mean(.ndcg, at: 10)
          record.validationRecall = result.mean(.recall, at: 10)
          if result.mean(.ndcg, at: 10) > best?.ndcg ?? -1 {
            best = (candidate, epoch, result.mean(.ndcg, at: 10))
          }
        }
        records.append(record)
        if let best, epoch - best.epoch >= settings.integer("patience") { break }
        if let limit = context.secondsAtMost, seconds(clock.now - started) >= limit { break }
      }
      let elapsed = seconds(clock.now - started)
      return TrainedModel(
        best?.model ?? model(), epochs: records, bestEpoch: best?.epoch ?? records.count,
        secondsTraining: elapsed,
        summary: "Trained \(records.count) epochs of \(users.count) users in "
          + "\(text(seconds: elapsed)); epoch \(best?.epoch ?? records.count) was kept.")
    }
  }
}

/// The weights of a linear autoencoder and the steps that move them.
package final class LinearRun {
  let width: Int
  let itemCount: Int
  /// A, `[N, d]`, rows of length 1.
  package let weights: Buffer
  var generator: SplitMix64
  private let histories: [[Int32]]
  private let kernels: Kernels
  private let pool: WorkerPool
  private let first: Buffer
  private let second: Buffer
  private let gradients: [Buffer]
  private var stepNumber = 0

  package init(_ data: TrainingSet, width: Int, seed: UInt64, kernels: Kernels, pool: WorkerPool) {
    self.width = width
    itemCount = data.itemCount
    self.kernels = kernels
    self.pool = pool
    histories = data.histories.map { Array(Set($0.items.map(\.rawValue))).sorted() }
    generator = SplitMix64(seed: seed)
    let count = itemCount * width
    weights = Buffer(count: count)
    first = Buffer(count: count)
    second = Buffer(count: count)
    gradients = (0..<pool.count).map { _ in Buffer(count: count) }
    for i in 0..<count { weights.pointer[i] = generator.unitFloat() - 0.5 }
    for item in 0..<itemCount { normalise(weights.pointer + item * width, count: width, kernels) }
  }

  /// The sum of the users' losses under the present weights, with its gradient by A added to
  /// `gradient`.
  ///
  /// With p = Σ A[i] over the history x and y = A p - x: the loss is 2 - 2 cos(x, y).
  package func lossAndGradient(_ users: ArraySlice<Int>, into gradient: Buffer) -> Double {
    let d = width
    let n = itemCount
    let rows = min(users.count, max(1, 2_000_000 / max(1, n)))
    let pooled = Buffer(count: rows * d)
    let restored = Buffer(count: rows * n)
    let back = Buffer(count: rows * d)
    let scratch = Buffer(count: kernels.multiplyScratch(depth: max(rows, 512)))
    var loss = 0.0
    for start in stride(from: users.startIndex, to: users.endIndex, by: rows) {
      let part = users[start..<min(users.endIndex, start + rows)]
      pooled.clear()
      for (r, user) in part.enumerated() {
        for item in histories[user] {
          kernels.add(
            1, times: weights.pointer + Int(item) * d, to: pooled.pointer + r * d, count: d)
        }
      }
      multiplyByRows(
        pooled.pointer, rows: part.count, weights.pointer, columns: n, depth: d,
        into: restored.pointer)
      for (r, user) in part.enumerated() {
        let y = restored.pointer + r * n
        let x = histories[user]
        for item in x { y[Int(item)] -= 1 }
        let lengthX = Float(x.count).squareRoot()
        let lengthY = max(1e-12, Float(kernels.sumOfSquares(y, count: n).squareRoot()))
        let cosine = x.reduce(Float(0)) { $0 + y[Int($1)] } / (lengthX * lengthY)
        loss += Double(2 - 2 * cosine)
        // dL/dy = 2 (cos · y / |y|² - x / (|x| |y|))
        let scale = 2 * cosine / (lengthY * lengthY)
        for i in 0..<n { y[i] *= scale }
        for item in x { y[Int(item)] -= 2 / (lengthX * lengthY) }
      }
      // dA = Gᵀ P + Xᵀ (G A)
      kernels.multiply(
        rows: n, columns: d, depth: part.count, restored.pointer, rowStride: 1, columnStride: n,
        pooled.pointer, bStride: d, accumulate: true, into: gradient.pointer, stride: d,
        scratch: scratch.pointer)
      back.clear()
      for tile in stride(from: 0, to: n, by: 512) {
        kernels.multiply(
          rows: part.count, columns: d, depth: min(512, n - tile), restored.pointer + tile,
          rowStride: n, weights.pointer + tile * d, bStride: d, accumulate: true,
          into: back.pointer, stride: d, scratch: scratch.pointer)
      }
      for (r, user) in part.enumerated() {
        for item in histories[user] {
          kernels.add(
            1, times: back.pointer + r * d, to: gradient.pointer + Int(item) * d, count: d)
        }
      }
    }
    withExtendedLifetime((pooled, restored, back, scratch)) {}
    return loss
  }

  private func multiplyByRows(
    _ a: UnsafePointer<Float>, rows: Int, _ b: UnsafePointer<Float>, columns: Int, depth: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let tile = 1024
    let packed = Buffer(count: kernels.packedCount(columns: min(tile, columns), depth: depth))
    for start in stride(from: 0, to: columns, by: tile) {
      let count = min(tile, columns - start)
      kernels.pack(
        b + start * depth, stride: depth, transposed: true, columns: count, depth: depth,
        into: packed.pointer)
      kernels.multiplyPacked(
        rows: rows, columns: count, depth: depth, a, rowStride: depth, packed.pointer,
        into: out + start, stride: columns)
    }
    withExtendedLifetime(packed) {}
  }

  /// One step of Adam over some users; the sum of their losses before it.
  func step(_ users: ArraySlice<Int>, rate: Float) -> Double {
    stepNumber += 1
    let share = (users.count + pool.count - 1) / pool.count
    let losses = UncheckedSendable(Buffer(count: pool.count))
    let run = UncheckedSendable(self)
    pool.run { worker in
      let run = run.value
      run.gradients[worker].clear()
      let low = min(users.endIndex, users.startIndex + worker * share)
      let part = users[low..<min(users.endIndex, low + share)]
      if part.isEmpty { return }
      losses.value.pointer[worker] = Float(
        run.lossAndGradient(part, into: run.gradients[worker]))
    }
    let (n, d, kernels, threads) = (itemCount, width, kernels, pool.count)
    let number = stepNumber
    let adam = AdamStep(
      rate: rate, beta1: 0.9, beta2: 0.99, weightDecay: 0,
      gradientScale: 1 / Float(users.count), number: number)
    let correction1 = Float(1 / (1 - power(0.9, Double(number))))
    let correction2 = Float(1 / (1 - power(0.99, Double(number))))
    pool.run { worker in
      let run = run.value
      for item in stride(from: worker, to: n, by: threads) {
        let start = item * d
        let gradient = run.gradients[0].pointer + start
        for other in run.gradients.dropFirst() {
          kernels.add(1, times: other.pointer + start, to: gradient, count: d)
        }
        // The part of the gradient along the row changes only its length, which is fixed.
        let row = run.weights.pointer + start
        kernels.add(
          -kernels.dot(gradient, row, count: d), times: row, to: gradient, count: d)
        kernels.adam(
          count: d, row, gradients: gradient, first: run.first.pointer + start,
          second: run.second.pointer + start, adam, correction1: correction1,
          correction2: correction2)
        normalise(row, count: d, kernels)
      }
    }
    return (0..<threads).reduce(0) { $0 + Double(losses.value.pointer[$1]) }
  }
}
