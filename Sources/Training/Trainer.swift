import Dispatch
package import Domain
package import Evaluation
package import Kernels
package import Models
package import Neural

/// A trained model and how it came about.
package struct TrainingResult: Sendable {
  package var neural: NeuralModel
  package var epochs: [EpochRecord]
  /// The epoch whose weights the model has: the one of the best validation.
  package var bestEpoch: Int
  package var bestValidationNDCG: Double?
  package var secondsTraining: Double
  package var secondsValidating: Double
  package var tokensPerEpoch: Int
  package var tokensPerSecond: Double

  /// The model where it is a SASRec.
  package var model: SASRec { neural.sasrec }
}

/// Trains a network: any kind, one loop.
///
/// Each step takes a window of `batchSize` users. The step's sequences are divided into passes of
/// nearly equal token counts, the passes go to the threads by a fixed rule, and the threads'
/// gradients are added in a fixed order: the same data, options, seed and thread count give the same
/// weights, bit for bit.
package final class Trainer {
  package let configuration: NeuralConfiguration
  package let options: TrainingOptions
  /// Positions that train in one epoch.
  package let tokensPerEpoch: Int
  /// Positions that pass through the network in one epoch.
  let inputsPerEpoch: Int
  let network: any SequenceNetwork
  let layout: ParameterLayout
  let parameters: Buffer
  let first: Buffer
  let second: Buffer
  /// The moving average, where one is asked for.
  let average: Buffer?
  var generator: SplitMix64
  var stepNumber = 0
  private let kernels: Kernels
  private let sequences: [[Int32]]
  /// The seconds of each event, where the network makes use of them.
  private let times: [[Int64]]
  private let plan: PassPlan
  private let weights: PackedWeights
  /// The weights in single precision, for validation; packed when it comes.
  private let exactWeights: PackedWeights
  private let pool: WorkerPool
  private let workers: [TrainingWorker]
  /// Whether only the item rows that a step touched are moved.
  private let sparse: Bool

  /// - Parameters:
  ///   - training: each user's events, oldest first. Users with fewer than two are passed over.
  ///   - times: when each event was; needed by networks that make use of times.
  package init(
    training: [[ItemToken]], times: [[Timestamp]]? = nil, configuration: NeuralConfiguration,
    options: TrainingOptions, kernels: Kernels
  ) {
    precondition(options.threads > 0 && options.batchSize > 0 && options.epochs > 0, "\(options)")
    self.configuration = configuration
    self.options = options
    self.kernels = kernels
    let network = configuration.network
    self.network = network
    let layout = network.layout
    self.layout = layout
    let plan = PassPlan(network, options)
    self.plan = plan
    let taken = training.indices.filter { training[$0].count >= 2 }
    let keepsAll = options.olderWindows > 0
    sequences = taken.map { user in
      (keepsAll ? training[user][...] : training[user].suffix(plan.window)).map(\.rawValue)
    }
    if network.usesTimes {
      guard let times else { preconditionFailure("a network with times is trained without them") }
      precondition(
        times.count == training.count && taken.allSatisfy { times[$0].count == training[$0].count },
        "each event has a time")
      self.times = taken.map { user in
        (keepsAll ? times[user][...] : times[user].suffix(plan.window)).map(\.seconds)
      }
    } else {
      self.times = []
    }
    inputsPerEpoch = sequences.reduce(0) { $0 + plan.inputs(ofLength: min(plan.window, $1.count)) }
    tokensPerEpoch =
      network.maskToken == nil
      ? inputsPerEpoch : Int(Float(inputsPerEpoch) * options.maskedShare)
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
    first = Buffer(count: layout.trained)
    second = Buffer(count: layout.trained)
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
        TrainingWorker(
          network, options, softmax: CatalogueSoftmax(layout, kernels: kernels), sampled: nil,
          kernels: kernels)
      case .sampled(let objective, let negatives, let sharing, let popularity):
        TrainingWorker(
          network, options, softmax: nil,
          sampled: SampledLoss(
            layout, objective: objective, negatives: negatives, sharing: sharing, sampler: sampler,
            corrected: popularity > 0, kernels: kernels), kernels: kernels)
      }
    }
  }

  /// A trainer on the histories of a training set.
  convenience init(
    _ data: TrainingSet, configuration: NeuralConfiguration, options: TrainingOptions,
    kernels: Kernels
  ) {
    self.init(
      training: data.sequences,
      times: configuration.usesTimes ? data.histories.map { Array($0.times ?? []) } : nil,
      configuration: configuration, options: options, kernels: kernels)
  }

  /// A trainer of a SASRec.
  package convenience init(
    training: [[ItemToken]], configuration: SASRecConfiguration, options: TrainingOptions,
    kernels: Kernels
  ) {
    self.init(
      training: training, configuration: NeuralConfiguration(configuration), options: options,
      kernels: kernels)
  }

  deinit { pool.shutDown() }

  /// What the matrix products multiply.
  package var precision: Precision { weights.precision }

  package var stepsPerEpoch: Int {
    (sequences.count + options.batchSize - 1) / options.batchSize
  }

  /// Users who train.
  var sequenceCount: Int { sequences.count }

  // MARK: Batches

  /// The users of an epoch in the order of their steps.
  package func nextOrder() -> [Int] { Array(sequences.indices).shuffled(using: &generator) }

  /// The part of each user's events that trains in this step.
  private func windows(of users: ArraySlice<Int>) -> TrainingWindows {
    let length = plan.window
    var result = TrainingWindows()
    for user in users {
      let sequence = sequences[user]
      var range = max(0, sequence.count - length)..<sequence.count
      if sequence.count > length, options.olderWindows > 0,
        generator.unitFloat() < options.olderWindows
      {
        let end = Int.random(in: length...sequence.count, using: &generator)
        range = end - length..<end
      }
      result.tokens.append(sequence[range])
      if !times.isEmpty { result.times.append(times[user][range]) }
    }
    // Networks that hide items draw which ones; the others draw nothing here.
    if network.maskToken != nil { result.seed = generator.next() }
    return result
  }

  /// The passes of a step.
  package func prepare(_ users: ArraySlice<Int>) -> StepPlan {
    plan.step(of: windows(of: users))
  }

  // MARK: Steps

  /// One step of the optimiser over users, given as places in the training sequences.
  ///
  /// - Returns: the sum of the tokens' losses, and the number of tokens.
  package func step(_ users: ArraySlice<Int>) -> (loss: Double, tokens: Int) {
    step(prepare(users))
  }

  /// One step of the optimiser over what was prepared.
  package func step(_ step: StepPlan) -> (loss: Double, tokens: Int) {
    let passes = step.passes
    let tokens = step.targetCount
    guard tokens > 0 else { return (0, 0) }
    let weight = 1 / Float(tokens)
    stepNumber += 1
    let stepSeed = UInt64(stepNumber) &* 0x9E37_79B9_7F4A_7C15 ^ options.seed
    let workers = workers
    let weights = weights
    let threads = options.threads
    let dropout = options.dropout
    let sparse = sparse
    let layout = layout
    let alterations = options.alterations
    let onlyAugmenter = isTrainingAugmenter
    pool.run { index in
      let worker = workers[index]
      worker.clearGradients(layout, sparse: sparse)
      worker.loss = 0
      for g in stride(from: index, to: step.groups.count, by: threads) {
        worker.alter(
          step.groups[g], weights, alterations, onlyAugmenter: onlyAugmenter,
          share: Float(step.groups[g].count) / Float(step.groups.reduce(0) { $0 + $1.count }),
          tokens: tokens, dropout: dropout, seed: ~stepSeed &- UInt64(g))
      }
      if onlyAugmenter { return }
      for p in stride(from: index, to: passes.count, by: threads) {
        worker.train(
          passes[p], weights, weight: weight, dropout: dropout, seed: stepSeed &+ UInt64(p))
      }
      weights.foldOutputGradients(worker.gradients, rows: sparse ? worker.touched : nil)
    }
    update()
    return (workers.reduce(0) { $0 + $1.loss }, tokens)
  }

  /// Adds the threads' gradients in their order and moves the parameters.
  private func update() {
    let gradients = workers.map { $0.gradients.pointer }
    let touched = sparse ? Array(Set(workers.flatMap(\.touched))).sorted() : []
    let (kernels, parameters, first, second) = (kernels, parameters, first, second)
    let d = layout.width
    // A sparse step goes over the touched rows and then over what follows the tables of items.
    let dense = sparse ? layout.tablesEnd : 0
    let total = layout.trained
    let tables = layout.output == .separate ? layout.rowTables : [layout.items]
    let itemCount = layout.itemCount
    let threads = options.threads
    let part = ((total - dense) / threads + 63) / 64 * 64
    let jobs = UncheckedSendable((gradients: gradients, touched: touched))
    func ranges(_ index: Int) -> [(start: Int, count: Int)] {
      var rows: [(start: Int, count: Int)] = []
      for place in stride(from: index, to: jobs.value.touched.count, by: threads) {
        let row = Int(jobs.value.touched[place])
        // Special tokens stand in the first table only.
        for table in tables where table == tables[0] || row < itemCount {
          rows.append((start: table + row * d, count: d))
        }
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

  /// Whether the present epoch is one in which only the augmenter learns.
  private var isTrainingAugmenter: Bool {
    network is LACLNetwork
      && (stepNumber - 1) / max(1, stepsPerEpoch) < options.alterations.augmenterEpochs
  }

  /// The ranks of the users' right items under the present weights, all items ranked.
  package func judge(_ cases: [EvaluationCase]) -> Judgement {
    exactWeights.update()
    return rankings(
      cases, weights: exactWeights, network: network, kernels: kernels, pool: pool)
  }

  /// Takes over trained weights in place of the fresh ones; the optimiser's moments start at nought.
  ///
  /// - Precondition: they belong to a network of the same configuration.
  package func begin(from trained: Buffer) {
    precondition(trained.count == parameters.count, "weights of another network")
    for buffer in [parameters, average].compactMap({ $0 }) {
      buffer.pointer.update(from: trained.pointer, count: trained.count)
    }
    refreshWeights()
  }

  /// Packs the weights again after the parameters were replaced.
  func refreshWeights() { weights.update() }

  /// The weights that validation judges: the average where there is one.
  var judged: Buffer { average ?? parameters }

  /// A copy of weights as a model.
  func model(_ weights: Buffer) -> NeuralModel {
    NeuralModel(configuration, parameters: weights.copy(), kernels: kernels)
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
    // The next epoch is not begun where more of it would lie behind the limit than before it, and one
    // that runs into the limit ends there; what comes after an epoch counts too.
    var epochTakes = 0.0
    var judgingTakes = 0.0
    func isOver(_ further: Double) -> Bool {
      guard let limit = options.secondsAtMost else { return false }
      return seconds(clock.now - started) + judgingTakes + further >= limit
    }
    while state.records.count < options.epochs && !state.isFinished {
      if !state.records.isEmpty, isOver(epochTakes / 2) { break }
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
      var next = steps.first.map { Lookahead(windows(of: $0), plan, on: preparer) }
      for index in steps.indices {
        guard let current = next?.step else { break }
        next =
          index + 1 < steps.count
          ? Lookahead(windows(of: steps[index + 1]), plan, on: preparer) : nil
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
        if isOver(0) { break }
      }
      let epochSeconds = seconds(clock.now - epochStarted)
      epochTakes = epochSeconds
      secondsHere += epochSeconds
      state.secondsTraining += epochSeconds
      var record = EpochRecord(
        epoch: epoch, loss: report.loss, validationNDCG: nil, validationRecall: nil,
        seconds: epochSeconds)
      let outOfTime = isOver(epochTakes / 2)
      let isJudged = !(network is LACLNetwork) || epoch > options.alterations.augmenterEpochs
      if !cases.isEmpty, isJudged,
        epoch % options.validateEvery == 0 || epoch == options.epochs || outOfTime
      {
        let validationStarted = clock.now
        let result = judge(cases)
        judgingTakes = seconds(clock.now - validationStarted)
        state.secondsValidating += judgingTakes
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
      state.isFinished = state.withoutGain >= options.patience && epoch >= options.stopsFrom
      saving?(self.checkpoint(state))
    }
    return TrainingResult(
      neural: model(state.best?.weights ?? judged), epochs: state.records,
      bestEpoch: state.best?.epoch ?? state.records.count,
      bestValidationNDCG: state.best?.ndcg, secondsTraining: state.secondsTraining,
      secondsValidating: state.secondsValidating, tokensPerEpoch: tokensPerEpoch,
      tokensPerSecond: Double(tokensDone) / max(1e-9, secondsHere))
  }

  /// A step's passes, laid out on another thread.
  private final class Lookahead: @unchecked Sendable {
    // Unchecked: written by the one block, read after waiting for it.
    private var result = StepPlan()
    private let group = DispatchGroup()

    init(_ windows: TrainingWindows, _ plan: PassPlan, on queue: DispatchQueue) {
      queue.async(group: group) { self.result = plan.step(of: windows) }
    }

    var step: StepPlan {
      group.wait()
      return result
    }
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
