package import Domain
package import Evaluation
package import Kernels
package import Models
package import Neural

/// A trained model and how it came about.
package struct TrainingResult: Sendable {
  package var model: SASRec
  package var epochs: [EpochRecord]
  /// The epoch whose weights the model has: the one of the best validation.
  package var bestEpoch: Int
  package var bestValidationNDCG: Double?
  package var secondsTraining: Double
  package var secondsValidating: Double
  package var tokensPerEpoch: Int
  package var tokensPerSecond: Double
}

/// Trains a SASRec with the softmax over the whole catalogue.
///
/// Each step takes the newest window of `batchSize` users. The step's sequences are divided into
/// passes of nearly equal token counts, the passes go to the threads by a fixed rule, and the
/// threads' gradients are added in a fixed order: the same data, options, seed and thread count give
/// the same weights, bit for bit.
package final class Trainer {
  package let configuration: SASRecConfiguration
  package let options: TrainingOptions
  package let tokensPerEpoch: Int
  private let kernels: Kernels
  private let layout: TransformerLayout
  private let sequences: [[Int32]]
  private let parameters: Buffer
  private let weights: PackedWeights
  /// The weights in single precision, for validation; packed when it comes.
  private let exactWeights: PackedWeights
  private let first: Buffer
  private let second: Buffer
  private let pool: WorkerPool
  private let workers: [Worker]
  private var generator: SplitMix64
  private var stepNumber = 0
  private var beta1Power = 1.0
  private var beta2Power = 1.0

  /// What one thread owns. Unchecked Sendable: only that thread touches it while a step runs.
  private final class Worker: @unchecked Sendable {
    let pass: TransformerPass
    let softmax: CatalogueSoftmax
    let gradients: Buffer
    var dhidden = Buffer(count: 0)
    var loss = 0.0
    init(_ layout: TransformerLayout, kernels: Kernels) {
      pass = TransformerPass(layout, kernels: kernels)
      softmax = CatalogueSoftmax(layout, kernels: kernels)
      gradients = Buffer(count: layout.count)
    }
  }

  /// - Parameter training: each user's events, oldest first. Users with fewer than two are passed
  ///   over.
  package init(
    training: [[ItemToken]], configuration: SASRecConfiguration, options: TrainingOptions,
    kernels: Kernels
  ) {
    precondition(options.threads > 0 && options.batchSize > 0 && options.epochs > 0, "\(options)")
    self.configuration = configuration
    self.options = options
    self.kernels = kernels
    layout = TransformerLayout(configuration.shape)
    sequences = training.filter { $0.count >= 2 }.map {
      $0.suffix(configuration.maximumLength + 1).map(\.rawValue)
    }
    tokensPerEpoch = sequences.reduce(0) { $0 + $1.count - 1 }
    generator = SplitMix64(seed: options.seed)
    parameters = Buffer(count: layout.count)
    layout.initialise(parameters, deviation: options.initialDeviation, using: &generator)
    let precision = options.precision ?? (kernels.hasNativeBFloat16 ? .bfloat16 : .float32)
    weights = PackedWeights(
      layout, parameters: parameters, kernels: kernels, precision: precision)
    exactWeights =
      precision == .float32
      ? weights : PackedWeights(layout, parameters: parameters, kernels: kernels)
    first = Buffer(count: layout.count)
    second = Buffer(count: layout.count)
    pool = WorkerPool(count: options.threads, niceness: options.niceness)
    let layout = layout
    workers = (0..<options.threads).map { _ in Worker(layout, kernels: kernels) }
  }

  deinit { pool.shutDown() }

  /// What the matrix products multiply.
  package var precision: Precision { weights.precision }

  package var stepsPerEpoch: Int {
    (sequences.count + options.batchSize - 1) / options.batchSize
  }

  /// The users of an epoch in the order of their steps.
  package func nextOrder() -> [Int] { Array(sequences.indices).shuffled(using: &generator) }

  /// Divides a step's users into passes of nearly equal token counts: longest first, each to the
  /// pass with the fewest tokens so far. Depends on the users alone, not on the threads.
  private func passes(of users: ArraySlice<Int>) -> [PackedBatch] {
    let tokens = users.reduce(0) { $0 + sequences[$1].count - 1 }
    let wanted = max(1, (tokens + options.tokensPerPass - 1) / options.tokensPerPass)
    let count = min(users.count, (wanted + 3) / 4 * 4)
    var members = [[Int]](repeating: [], count: count)
    var sizes = [Int](repeating: 0, count: count)
    let longestFirst = users.sorted { (sequences[$0].count, $1) > (sequences[$1].count, $0) }
    for user in longestFirst {
      var least = 0
      for i in 1..<max(1, count) where sizes[i] < sizes[least] { least = i }
      members[least].append(user)
      sizes[least] += sequences[user].count - 1
    }
    return members.map { users in
      var batch = PackedBatch()
      for user in users {
        batch.append(training: sequences[user], maximumLength: configuration.maximumLength)
      }
      return batch
    }
  }

  /// One step of the optimiser.
  ///
  /// - Parameter users: places in the training sequences.
  /// - Returns: the sum of the tokens' losses, and the number of tokens.
  package func step(_ users: ArraySlice<Int>) -> (loss: Double, tokens: Int) {
    let passes = passes(of: users)
    let tokens = passes.reduce(0) { $0 + $1.tokenCount }
    guard tokens > 0 else { return (0, 0) }
    let weight = 1 / Float(tokens)
    let d = configuration.width
    stepNumber += 1
    let stepSeed = UInt32(truncatingIfNeeded: UInt64(stepNumber) &* 0x9E37_79B9 ^ options.seed)
    let workers = workers
    let weights = weights
    let threads = options.threads
    let dropout = options.dropout
    pool.run { index in
      let worker = workers[index]
      worker.gradients.clear()
      worker.loss = 0
      for p in stride(from: index, to: passes.count, by: threads) {
        let batch = passes[p]
        if worker.dhidden.count < batch.tokenCount * d {
          worker.dhidden = Buffer(count: batch.tokenCount * d * 5 / 4)
        }
        let hidden = worker.pass.forward(
          batch, weights, dropout: dropout,
          seed: stepSeed &+ UInt32(p) &* 0x85EB_CA6B)
        worker.loss += worker.softmax.lossAndGradients(
          hidden: hidden, targets: batch.targets, weight: weight, weights,
          dhidden: worker.dhidden.pointer, into: worker.gradients)
        worker.pass.backward(
          batch, weights, dhidden: worker.dhidden.pointer, into: worker.gradients)
      }
    }
    update()
    return (workers.reduce(0) { $0 + $1.loss }, tokens)
  }

  /// Adds the threads' gradients in their order and moves the parameters.
  private func update() {
    beta1Power *= Double(options.beta1)
    beta2Power *= Double(options.beta2)
    let adam = AdamStep(
      rate: rate(at: stepNumber), beta1: options.beta1, beta2: options.beta2,
      weightDecay: options.weightDecay, number: stepNumber)
    let correction1 = Float(1 / (1 - beta1Power))
    let correction2 = Float(1 / (1 - beta2Power))
    let kernels = kernels
    let workers = workers
    let total = layout.count
    let (parameters, first, second) = (parameters, first, second)
    let part = (total / options.threads + 63) / 64 * 64
    pool.run { index in
      let start = index * part
      let count = min(part, total - start)
      guard count > 0 else { return }
      for other in workers.dropFirst() {
        kernels.add(
          1, times: other.gradients.pointer + start, to: workers[0].gradients.pointer + start,
          count: count)
      }
      kernels.adam(
        count: count, parameters.pointer + start, gradients: workers[0].gradients.pointer + start,
        first: first.pointer + start, second: second.pointer + start, adam,
        correction1: correction1, correction2: correction2)
    }
    weights.update()
  }

  /// The learning rate of a step, from 1.
  package func rate(at step: Int) -> Float {
    var rate = options.learningRate
    if options.warmUpSteps > 0, step < options.warmUpSteps {
      rate *= Float(step) / Float(options.warmUpSteps)
    }
    if options.schedule == .cosine {
      let done = min(1, Double(step) / Double(max(1, options.epochs * stepsPerEpoch)))
      rate *= Float(0.1 + 0.9 * 0.5 * (1 + cosine(.pi * done)))
    }
    return rate
  }

  /// The ranks of the users' right items under the present weights, all items ranked.
  package func judge(_ split: LeaveOneOut, _ stage: LeaveOneOut.Stage) -> RankingResult {
    exactWeights.update()
    return rankings(
      split, stage, weights: exactWeights, layout: layout, kernels: kernels, pool: pool)
  }

  /// A copy of the present weights as a model.
  package func model(_ copy: Buffer? = nil) -> SASRec {
    SASRec(configuration, parameters: (copy ?? parameters).copy(), kernels: kernels)
  }

  /// Trains to the end or until validation stops getting better.
  ///
  /// - Parameters:
  ///   - split: gives the validation events; nil trains for all epochs.
  ///   - progress: called after every step; false cancels.
  /// - Throws: `TrainingCancelled`.
  package func run(
    validating split: LeaveOneOut?, progress: (TrainingProgress) -> Bool
  ) throws(TrainingCancelled) -> TrainingResult {
    let clock = ContinuousClock()
    let started = clock.now
    var records: [EpochRecord] = []
    var best: (epoch: Int, ndcg: Double, parameters: Buffer)?
    var withoutGain = 0
    var secondsTraining = 0.0
    var secondsValidating = 0.0
    var tokensDone = 0
    epochs: for epoch in 1...options.epochs {
      let order = nextOrder()
      let epochStarted = clock.now
      var loss = 0.0
      var tokens = 0
      var state = TrainingProgress(
        epoch: epoch, epochs: options.epochs, step: 0, steps: stepsPerEpoch, loss: 0,
        tokensPerSecond: 0, secondsElapsed: 0, secondsLeft: 0, validationNDCG: nil,
        bestValidationNDCG: best?.ndcg)
      for index in 0..<stepsPerEpoch {
        let users = order[
          index * options.batchSize..<min(order.count, (index + 1) * options.batchSize)]
        let done = step(users)
        loss += done.loss
        tokens += done.tokens
        tokensDone += done.tokens
        let inEpoch = seconds(clock.now - epochStarted)
        state.step = index + 1
        state.loss = loss / Double(max(1, tokens))
        state.tokensPerSecond = Double(tokensDone) / max(1e-9, secondsTraining + inEpoch)
        state.secondsElapsed = seconds(clock.now - started)
        let epochsDone = Double(epoch - 1) + Double(index + 1) / Double(stepsPerEpoch)
        state.secondsLeft =
          state.secondsElapsed / epochsDone * (Double(options.epochs) - epochsDone)
        guard progress(state) else { throw TrainingCancelled() }
      }
      secondsTraining += seconds(clock.now - epochStarted)
      var record = EpochRecord(
        epoch: epoch, loss: state.loss, validationNDCG: nil, validationRecall: nil,
        seconds: seconds(clock.now - epochStarted))
      let outOfTime = options.secondsAtMost.map { seconds(clock.now - started) >= $0 } ?? false
      if let split, !split.users.isEmpty,
        epoch % options.validateEvery == 0 || epoch == options.epochs || outOfTime
      {
        let validationStarted = clock.now
        let result = judge(split, .validation)
        secondsValidating += seconds(clock.now - validationStarted)
        let ndcg = result.ndcg(at: 10)
        record.validationNDCG = ndcg
        record.validationRecall = result.recall(at: 10)
        if ndcg > best?.ndcg ?? -1 {
          best = (epoch, ndcg, parameters.copy())
          withoutGain = 0
        } else {
          withoutGain += 1
        }
        state.validationNDCG = ndcg
        state.bestValidationNDCG = best?.ndcg
        state.secondsElapsed = seconds(clock.now - started)
        guard progress(state) else { throw TrainingCancelled() }
      }
      records.append(record)
      if outOfTime || withoutGain >= options.patience { break epochs }
    }
    return TrainingResult(
      model: model(best?.parameters), epochs: records, bestEpoch: best?.epoch ?? records.count,
      bestValidationNDCG: best?.ndcg, secondsTraining: secondsTraining,
      secondsValidating: secondsValidating, tokensPerEpoch: tokensPerEpoch,
      tokensPerSecond: Double(tokensDone) / max(1e-9, secondsTraining))
  }
}

private func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}
