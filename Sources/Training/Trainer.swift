import Dispatch
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

/// Trains a SASRec.
///
/// Each step takes a window of `batchSize` users. The step's sequences are divided into passes of
/// nearly equal token counts, the passes go to the threads by a fixed rule, and the threads'
/// gradients are added in a fixed order: the same data, options, seed and thread count give the same
/// weights, bit for bit.
package final class Trainer {
  package let configuration: SASRecConfiguration
  package let options: TrainingOptions
  /// Positions that train in one epoch.
  package let tokensPerEpoch: Int
  let layout: TransformerLayout
  let parameters: Buffer
  let first: Buffer
  let second: Buffer
  /// The moving average, where one is asked for.
  let average: Buffer?
  var generator: SplitMix64
  var stepNumber = 0
  private let kernels: Kernels
  private let sequences: [[Int32]]
  private let weights: PackedWeights
  /// The weights in single precision, for validation; packed when it comes.
  private let exactWeights: PackedWeights
  private let pool: WorkerPool
  private let workers: [Worker]
  /// Whether only the item rows that a step touched are moved.
  private let sparse: Bool

  /// What one thread owns. Unchecked Sendable: only that thread touches it while a step runs.
  fileprivate final class Worker: @unchecked Sendable {
    let pass: TransformerPass
    let softmax: CatalogueSoftmax?
    let sampled: SampledLoss?
    let gradients: Buffer
    var dhidden = Buffer(count: 0)
    var touched: [Int32] = []
    var loss = 0.0
    init(
      _ layout: TransformerLayout, softmax: CatalogueSoftmax?, sampled: SampledLoss?,
      kernels: Kernels
    ) {
      pass = TransformerPass(layout, kernels: kernels)
      self.softmax = softmax
      self.sampled = sampled
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
    let layout = TransformerLayout(configuration.shape)
    self.layout = layout
    let window = configuration.maximumLength + 1
    sequences = training.filter { $0.count >= 2 }.map { sequence in
      (options.olderWindows > 0 ? sequence[...] : sequence.suffix(window)).map(\.rawValue)
    }
    tokensPerEpoch = sequences.reduce(0) { $0 + min(window, $1.count) - 1 }
    generator = SplitMix64(seed: options.seed)
    parameters = Buffer(count: layout.count)
    layout.initialise(parameters, deviation: options.initialDeviation, using: &generator)
    average = options.averaging == nil ? nil : parameters.copy()
    let precision = options.precision ?? (kernels.hasNativeBFloat16 ? .bfloat16 : .float32)
    let isFull = options.loss == .softmax
    weights = PackedWeights(
      layout, parameters: parameters, kernels: kernels, precision: precision,
      includingItems: isFull)
    exactWeights = PackedWeights(
      layout, parameters: average ?? parameters, kernels: kernels, includingItems: false)
    first = Buffer(count: layout.count)
    second = Buffer(count: layout.count)
    sparse = !isFull && configuration.itemCount >= 20_000
    pool = WorkerPool(count: options.threads, niceness: options.niceness)
    var sampler = NegativeSampler(uniformOver: configuration.itemCount)
    if case .sampled(_, _, _, let popularity) = options.loss, popularity > 0 {
      var counts = [Double](repeating: 1, count: configuration.itemCount)
      for sequence in sequences { for token in sequence { counts[Int(token)] += 1 } }
      sampler = NegativeSampler(weights: counts.map { power($0, popularity) })
    }
    workers = (0..<options.threads).map { _ in
      switch options.loss {
      case .softmax:
        Worker(
          layout, softmax: CatalogueSoftmax(layout, kernels: kernels), sampled: nil,
          kernels: kernels)
      case .sampled(let objective, let negatives, let sharing, let popularity):
        Worker(
          layout, softmax: nil,
          sampled: SampledLoss(
            layout, objective: objective, negatives: negatives, sharing: sharing, sampler: sampler,
            corrected: popularity > 0, kernels: kernels), kernels: kernels)
      }
    }
  }

  deinit { pool.shutDown() }

  /// What the matrix products multiply.
  package var precision: Precision { weights.precision }

  package var stepsPerEpoch: Int {
    (sequences.count + options.batchSize - 1) / options.batchSize
  }

  // MARK: Batches

  /// The users of an epoch in the order of their steps.
  package func nextOrder() -> [Int] { Array(sequences.indices).shuffled(using: &generator) }

  /// The part of each user's events that trains in this step.
  private func windows(of users: ArraySlice<Int>) -> [ArraySlice<Int32>] {
    let length = configuration.maximumLength + 1
    return users.map { user in
      let sequence = sequences[user]
      guard sequence.count > length, options.olderWindows > 0,
        generator.unitFloat() < options.olderWindows
      else { return sequence.suffix(length) }
      let end = Int.random(in: length...sequence.count, using: &generator)
      return sequence[end - length..<end]
    }
  }

  /// Divides a step's windows into passes of nearly equal token counts: longest first, each to the
  /// pass with the fewest tokens so far. Depends on the windows alone, not on the threads.
  private static func passes(
    of windows: [ArraySlice<Int32>], tokensPerPass: Int, maximumLength: Int
  ) -> [PackedBatch] {
    let tokens = windows.reduce(0) { $0 + $1.count - 1 }
    let wanted = max(1, (tokens + tokensPerPass - 1) / tokensPerPass)
    let count = max(1, min(windows.count, (wanted + 3) / 4 * 4))
    var members = [[Int]](repeating: [], count: count)
    var sizes = [Int](repeating: 0, count: count)
    for i in windows.indices.sorted(by: { (windows[$0].count, $1) > (windows[$1].count, $0) }) {
      var least = 0
      for j in 1..<count where sizes[j] < sizes[least] { least = j }
      members[least].append(i)
      sizes[least] += windows[i].count - 1
    }
    return members.filter { !$0.isEmpty }.map { places in
      var batch = PackedBatch()
      for i in places { batch.append(training: windows[i], maximumLength: maximumLength) }
      return batch
    }
  }

  /// The passes of a step.
  package func prepare(_ users: ArraySlice<Int>) -> [PackedBatch] {
    Self.passes(
      of: windows(of: users), tokensPerPass: options.tokensPerPass,
      maximumLength: configuration.maximumLength)
  }

  // MARK: Steps

  /// One step of the optimiser over users, given as places in the training sequences.
  ///
  /// - Returns: the sum of the tokens' losses, and the number of tokens.
  package func step(_ users: ArraySlice<Int>) -> (loss: Double, tokens: Int) {
    step(prepare(users))
  }

  /// One step of the optimiser over prepared passes.
  package func step(_ passes: [PackedBatch]) -> (loss: Double, tokens: Int) {
    let tokens = passes.reduce(0) { $0 + $1.tokenCount }
    guard tokens > 0 else { return (0, 0) }
    let weight = 1 / Float(tokens)
    let d = configuration.width
    stepNumber += 1
    let stepSeed = UInt64(stepNumber) &* 0x9E37_79B9_7F4A_7C15 ^ options.seed
    let workers = workers
    let weights = weights
    let threads = options.threads
    let dropout = options.dropout
    let sparse = sparse
    let layout = layout
    pool.run { index in
      let worker = workers[index]
      worker.clearGradients(layout, sparse: sparse)
      worker.loss = 0
      for p in stride(from: index, to: passes.count, by: threads) {
        let batch = passes[p]
        if worker.dhidden.count < batch.tokenCount * d {
          worker.dhidden = Buffer(count: batch.tokenCount * d * 5 / 4)
        }
        var generator = SplitMix64(seed: stepSeed &+ UInt64(p))
        let hidden = worker.pass.forward(
          batch, weights, dropout: dropout, seed: UInt32(truncatingIfNeeded: generator.next()))
        let dhidden = worker.dhidden.pointer
        if let softmax = worker.softmax {
          worker.loss += softmax.lossAndGradients(
            hidden: hidden, targets: batch.targets, weight: weight, weights, dhidden: dhidden,
            into: worker.gradients)
        } else if let sampled = worker.sampled {
          worker.loss += sampled.lossAndGradients(
            hidden: hidden, batch, weight: weight, parameters: weights.parameters,
            dhidden: dhidden, into: worker.gradients, touched: &worker.touched, using: &generator)
          worker.touched += batch.tokens
        }
        worker.pass.backward(batch, weights, dhidden: dhidden, into: worker.gradients)
      }
    }
    update()
    return (workers.reduce(0) { $0 + $1.loss }, tokens)
  }

  /// Adds the threads' gradients in their order and moves the parameters.
  private func update() {
    let gradients = workers.map { $0.gradients.pointer }
    let touched = sparse ? Array(Set(workers.flatMap(\.touched))).sorted() : []
    let (kernels, parameters, first, second) = (kernels, parameters, first, second)
    let d = configuration.width
    let items = configuration.itemCount * d
    // A sparse step goes over the touched rows and then over what follows the item table.
    let dense = sparse ? (items + 15) / 16 * 16 : 0
    let total = layout.count
    let threads = options.threads
    let part = ((total - dense) / threads + 63) / 64 * 64
    let jobs = UncheckedSendable((gradients: gradients, touched: touched))
    func ranges(_ index: Int) -> [(start: Int, count: Int)] {
      let rows = jobs.value.touched.indices.filter { $0 % threads == index }.map {
        (start: Int(jobs.value.touched[$0]) * d, count: d)
      }
      let start = dense + index * part
      return rows + (start < total ? [(start: start, count: min(part, total - start))] : [])
    }
    let work = UncheckedSendable((0..<threads).map(ranges))
    pool.run { index in
      for (start, count) in work.value[index] {
        for other in jobs.value.gradients.dropFirst() {
          kernels.add(1, times: other + start, to: jobs.value.gradients[0] + start, count: count)
        }
      }
    }
    var scale: Float = 1
    if let limit = options.gradientNormAtMost {
      var squares = 0.0
      for ranges in work.value {
        for (start, count) in ranges {
          squares += kernels.sumOfSquares(gradients[0] + start, count: count)
        }
      }
      let norm = Float(squares.squareRoot())
      if norm > limit { scale = limit / norm }
    }
    let adam = AdamStep(
      rate: rate(at: stepNumber), beta1: options.beta1, beta2: options.beta2,
      weightDecay: options.weightDecay, gradientScale: scale, number: stepNumber)
    let correction1 = Float(1 / (1 - power(Double(options.beta1), Double(stepNumber))))
    let correction2 = Float(1 / (1 - power(Double(options.beta2), Double(stepNumber))))
    // The average follows the young weights quickly, the old ones slowly.
    let share = options.averaging.map {
      1 - min($0, Float(1 + stepNumber) / Float(10 + stepNumber))
    }
    let average = average
    pool.run { index in
      for (start, count) in work.value[index] {
        kernels.adam(
          count: count, parameters.pointer + start, gradients: jobs.value.gradients[0] + start,
          first: first.pointer + start, second: second.pointer + start, adam,
          correction1: correction1, correction2: correction2)
      }
      if let average, let share {
        let size = (total / threads + 63) / 64 * 64
        let start = index * size
        kernels.blend(
          count: max(0, min(size, total - start)), share, of: parameters.pointer + start,
          into: average.pointer + start)
      }
    }
    weights.update()
  }

  /// The learning rate of a step, from 1.
  package func rate(at step: Int) -> Float {
    var rate = options.learningRate
    if options.warmUpSteps > 0, step < options.warmUpSteps {
      rate *= Float(step) / Float(options.warmUpSteps)
    }
    let done = min(1, Double(step) / Double(max(1, options.epochs * stepsPerEpoch)))
    switch options.schedule {
    case .constant: break
    case .cosine: rate *= Float(0.02 + 0.98 * 0.5 * (1 + cosine(.pi * done)))
    case .linear: rate *= Float(max(0.02, 1 - done))
    }
    return rate
  }

  /// The ranks of the users' right items under the present weights, all items ranked.
  package func judge(_ cases: [EvaluationCase]) -> Judgement {
    exactWeights.update()
    return rankings(
      cases, weights: exactWeights, layout: layout, kernels: kernels, pool: pool)
  }

  /// Packs the weights again after the parameters were replaced.
  func refreshWeights() { weights.update() }

  /// The weights that validation judges: the average where there is one.
  var judged: Buffer { average ?? parameters }

  /// A copy of weights as a model.
  func model(_ weights: Buffer) -> SASRec {
    SASRec(configuration, parameters: weights.copy(), kernels: kernels)
  }

  // MARK: The loop

  /// Trains to the end or until validation stops getting better.
  ///
  /// - Parameters:
  ///   - cases: judge the epochs; without any, training goes on for all epochs.
  ///   - checkpoint: goes on from a state that an earlier run handed out; the result is that of the
  ///     run without a stop.
  ///   - saving: gets the state after every epoch.
  ///   - progress: called after every step; false cancels.
  /// - Throws: `TrainingCancelled`.
  package func run(
    validating cases: [EvaluationCase], from checkpoint: TrainingCheckpoint? = nil,
    saving: ((TrainingCheckpoint) -> Void)? = nil, progress: (TrainingProgress) -> Bool
  ) throws(TrainingCancelled) -> TrainingResult {
    let clock = ContinuousClock()
    let started = clock.now
    var state = LoopState()
    if let checkpoint { state = restore(checkpoint) }
    let preparer = DispatchQueue(label: "riffle.training.batches", qos: .utility)
    var tokensDone = 0
    var secondsHere = 0.0
    epochs: while state.records.count < options.epochs && !state.isFinished {
      let epoch = state.records.count + 1
      let order = nextOrder()
      let epochStarted = clock.now
      var loss = 0.0
      var tokens = 0
      var report = TrainingProgress(
        epoch: epoch, epochs: options.epochs, step: 0, steps: stepsPerEpoch, loss: 0,
        tokensPerSecond: 0, secondsElapsed: 0, secondsLeft: 0, validationNDCG: nil,
        bestValidationNDCG: state.best?.ndcg)
      let steps = stride(from: 0, to: order.count, by: options.batchSize).map {
        order[$0..<min(order.count, $0 + options.batchSize)]
      }
      // Windows are drawn here, in the order of the steps; the next step's passes are laid out while
      // this one runs.
      var next = steps.first.map { Lookahead(windows(of: $0), self, on: preparer) }
      for index in steps.indices {
        guard let current = next?.passes else { break }
        next =
          index + 1 < steps.count
          ? Lookahead(windows(of: steps[index + 1]), self, on: preparer) : nil
        let done = step(current)
        loss += done.loss
        tokens += done.tokens
        tokensDone += done.tokens
        let inEpoch = seconds(clock.now - epochStarted)
        report.step = index + 1
        report.loss = loss / Double(max(1, tokens))
        report.tokensPerSecond = Double(tokensDone) / max(1e-9, secondsHere + inEpoch)
        report.secondsElapsed = seconds(clock.now - started)
        let epochsDone =
          Double(epoch - 1 - state.epochsBefore) + Double(index + 1) / Double(steps.count)
        report.secondsLeft =
          report.secondsElapsed / epochsDone
          * (Double(options.epochs - state.epochsBefore) - epochsDone)
        guard progress(report) else { throw TrainingCancelled() }
      }
      let epochSeconds = seconds(clock.now - epochStarted)
      secondsHere += epochSeconds
      state.secondsTraining += epochSeconds
      var record = EpochRecord(
        epoch: epoch, loss: report.loss, validationNDCG: nil, validationRecall: nil,
        seconds: epochSeconds)
      let outOfTime = options.secondsAtMost.map { seconds(clock.now - started) >= $0 } ?? false
      if !cases.isEmpty,
        epoch % options.validateEvery == 0 || epoch == options.epochs || outOfTime
      {
        let validationStarted = clock.now
        let result = judge(cases)
        state.secondsValidating += seconds(clock.now - validationStarted)
        let ndcg = result.mean(.ndcg, at: 10)
        record.validationNDCG = ndcg
        record.validationRecall = result.mean(.recall, at: 10)
        state.judge(epoch: epoch, ndcg: ndcg, weights: judged)
        report.validationNDCG = ndcg
        report.bestValidationNDCG = state.best?.ndcg
        report.secondsElapsed = seconds(clock.now - started)
        guard progress(report) else { throw TrainingCancelled() }
      }
      state.records.append(record)
      state.isFinished = outOfTime || state.withoutGain >= options.patience
      saving?(self.checkpoint(state))
    }
    return TrainingResult(
      model: model(state.best?.weights ?? judged), epochs: state.records,
      bestEpoch: state.best?.epoch ?? state.records.count,
      bestValidationNDCG: state.best?.ndcg, secondsTraining: state.secondsTraining,
      secondsValidating: state.secondsValidating, tokensPerEpoch: tokensPerEpoch,
      tokensPerSecond: Double(tokensDone) / max(1e-9, secondsHere))
  }

  /// A step's passes, laid out on another thread.
  private final class Lookahead: @unchecked Sendable {
    // Unchecked: written by the one block, read after waiting for it.
    private var result: [PackedBatch] = []
    private let group = DispatchGroup()

    init(_ windows: [ArraySlice<Int32>], _ trainer: Trainer, on queue: DispatchQueue) {
      let tokens = trainer.options.tokensPerPass
      let length = trainer.configuration.maximumLength
      queue.async(group: group) {
        self.result = Trainer.passes(of: windows, tokensPerPass: tokens, maximumLength: length)
      }
    }

    var passes: [PackedBatch] {
      group.wait()
      return result
    }
  }
}

extension Trainer.Worker {
  /// Sets the gradients to zero; of the item table only the rows that the last step touched, where
  /// steps are sparse.
  fileprivate func clearGradients(_ layout: TransformerLayout, sparse: Bool) {
    guard sparse else {
      touched.removeAll(keepingCapacity: true)
      return gradients.clear()
    }
    let d = layout.shape.width
    for item in touched { (gradients.pointer + Int(item) * d).update(repeating: 0, count: d) }
    touched.removeAll(keepingCapacity: true)
    let items = layout.shape.itemCount * d
    (gradients.pointer + items).update(repeating: 0, count: layout.count - items)
  }
}

/// Unchecked Sendable: holds values and pointers that threads read, or write in disjoint parts.
struct UncheckedSendable<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}
