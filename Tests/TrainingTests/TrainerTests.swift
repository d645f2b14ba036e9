import Domain
import Evaluation
import Kernels
import Models
import Neural
import Synchronization
import Testing
import Training

@Suite struct Training {
  /// Users walk along a ring of items from random places, so the next item is certain.
  static func ring(items: Int, users: Int, seed: UInt64) -> SequenceDataset {
    var generator = SplitMix64(seed: seed)
    return SequenceDataset(
      itemCount: items,
      sequences: (0..<users).map { _ in
        let start = Int.random(in: 0..<items, using: &generator)
        let length = Int.random(in: 4...12, using: &generator)
        return (0..<length).map { ItemToken((start + $0) % items) }
      })
  }

  static func configuration(_ dataset: SequenceDataset) -> SASRecConfiguration {
    var configuration = SASRecConfiguration(itemCount: dataset.itemCount)
    configuration.width = 16
    configuration.maximumLength = 8
    return configuration
  }

  static func options(threads: Int = 1, epochs: Int = 3) -> TrainingOptions {
    var options = TrainingOptions()
    options.epochs = epochs
    options.batchSize = 16
    options.learningRate = 5e-3
    options.threads = threads
    options.tokensPerPass = 40
    return options
  }

  static func train(
    _ dataset: SequenceDataset, _ options: TrainingOptions
  ) throws -> (TrainingResult, LeaveOneOut) {
    let kernels = try #require(Kernels(environment: [:]))
    let split = LeaveOneOut(dataset)
    let trainer = Trainer(
      training: split.training, configuration: configuration(dataset), options: options,
      kernels: kernels)
    return (try trainer.run(validating: split.cases(.validation)) { _ in true }, split)
  }

  @Test func `learns a certain succession, far above popularity`() throws {
    let dataset = Self.ring(items: 30, users: 300, seed: 1)
    let (result, split) = try Self.train(dataset, Self.options(threads: 2, epochs: 25))
    let report = evaluate(result.model, on: split, threads: 2)
    #expect(report.lines.map(\.name) == ["sasrec", "popularity", "last-item transition"])
    #expect(report.lines[0].result.recall(at: 1) > 0.9)
    #expect(report.lines[1].result.recall(at: 1) < 0.3)
    #expect(report.lines[2].result.recall(at: 1) > 0.9)
    #expect(result.epochs.first.map { $0.loss } ?? 0 > result.epochs.last.map { $0.loss } ?? 9)
  }

  @Test(arguments: [1, 2, 3])
  func `gives the same weights again, bit for bit`(threads: Int) throws {
    let dataset = Self.ring(items: 20, users: 60, seed: 2)
    let first = try Self.train(dataset, Self.options(threads: threads)).0
    let second = try Self.train(dataset, Self.options(threads: threads)).0
    #expect(first.model.safetensors().bytes == second.model.safetensors().bytes)
    var options = Self.options(threads: threads)
    options.seed = 2
    let other = try Self.train(dataset, options).0
    #expect(first.model.safetensors().bytes != other.model.safetensors().bytes)
  }

  @Test func `thread counts differ by rounding only`() throws {
    let dataset = Self.ring(items: 20, users: 60, seed: 3)
    let one = try Self.train(dataset, Self.options(threads: 1)).0.model.itemVectors
    let three = try Self.train(dataset, Self.options(threads: 3)).0.model.itemVectors
    let scale = one.map(abs).max() ?? 0
    // Adam divides by the gradient's own size, so a rounding difference in a tiny gradient can grow
    // to a part of a step; 12 steps of 0.005 bound what is possible.
    let worst = zip(one, three).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 0.02 * scale, "\(worst) of \(scale)")
  }

  @Test func `stops when validation gets no better, and keeps the best epoch`() throws {
    let dataset = Self.ring(items: 12, users: 80, seed: 4)
    var options = Self.options(epochs: 200)
    options.patience = 3
    let result = try Self.train(dataset, options).0
    #expect(result.epochs.count < 200)
    #expect(result.epochs.count == result.bestEpoch + 3)
    #expect(result.epochs[result.bestEpoch - 1].validationNDCG == result.bestValidationNDCG)
    // A first rest is sat out.
    options.stopsFrom = result.epochs.count + 7
    let longer = try Self.train(dataset, options).0
    #expect(longer.epochs.count >= options.stopsFrom)
    #expect(
      longer.epochs.prefix(result.epochs.count).map(\.loss) == result.epochs.map(\.loss),
      "the same training, only longer")
  }

  @Test func `is cancelled by its progress handler`() throws {
    let dataset = Self.ring(items: 12, users: 80, seed: 4)
    let kernels = try #require(Kernels(environment: [:]))
    let trainer = Trainer(
      training: dataset.sequences, configuration: Self.configuration(dataset),
      options: Self.options(threads: 2), kernels: kernels)
    var calls = 0
    #expect(throws: TrainingCancelled.self) {
      _ = try trainer.run(validating: []) { _ in
        calls += 1
        return calls < 3
      }
    }
    #expect(calls == 3)
  }

  @Test func `warms up and falls along the cosine`() throws {
    let dataset = Self.ring(items: 12, users: 32, seed: 4)
    let kernels = try #require(Kernels(environment: [:]))
    var options = Self.options(epochs: 10)
    options.warmUpSteps = 4
    options.schedule = .cosine
    let trainer = Trainer(
      training: dataset.sequences, configuration: Self.configuration(dataset), options: options,
      kernels: kernels)
    #expect(trainer.stepsPerEpoch == 2)
    #expect(trainer.rate(at: 1) < 0.3 * options.learningRate)
    #expect(trainer.rate(at: 5) > 0.8 * options.learningRate)
    #expect(abs(trainer.rate(at: 20) - 0.02 * options.learningRate) < 1e-6)
  }

  @Test func `a pool runs every worker once for each call`() {
    let pool = WorkerPool(count: 4)
    defer { pool.shutDown() }
    let counts = Mutex([Int](repeating: 0, count: 4))
    for _ in 0..<500 { pool.run { index in counts.withLock { $0[index] += 1 } } }
    #expect(counts.withLock { $0 } == [500, 500, 500, 500])
  }

  @Test(arguments: [nil, 0.9] as [Float?])
  func `a run that was stopped goes on to the same weights`(averaging: Float?) throws {
    let dataset = Self.ring(items: 20, users: 60, seed: 5)
    let kernels = try #require(Kernels(environment: [:]))
    let split = LeaveOneOut(dataset)
    var options = Self.options(threads: 2, epochs: 6)
    options.averaging = averaging
    options.olderWindows = 0.5
    options.schedule = .cosine
    func trainer() -> Trainer {
      Trainer(
        training: split.training, configuration: Self.configuration(dataset), options: options,
        kernels: kernels)
    }
    var saved: [TrainingCheckpoint] = []
    let whole = try trainer().run(
      validating: split.cases(.validation), saving: { saved.append($0) }
    ) { _ in true }
    #expect(saved.map(\.epoch) == [1, 2, 3, 4, 5, 6])
    for checkpoint in [saved[0], saved[2], saved[5]] {
      let file = try Safetensors(parsing: checkpoint.bytes, path: "c")
      let read = try TrainingCheckpoint(file, path: "c")
      let rest = try trainer().run(validating: split.cases(.validation), from: read) { _ in true
      }
      #expect(rest.model.safetensors().bytes == whole.model.safetensors().bytes)
      #expect(rest.epochs.map(\.loss) == whole.epochs.map(\.loss))
      #expect(rest.bestEpoch == whole.bestEpoch)
    }
    var damaged = try Safetensors(parsing: saved[0].bytes, path: "c")
    damaged.metadata["checkpoint_version"] = "99"
    #expect(throws: Diagnostic.self) { _ = try TrainingCheckpoint(damaged, path: "c") }
  }

  @Test func `ends within an epoch where its time is over, and goes on from there`() throws {
    let dataset = Self.ring(items: 30, users: 300, seed: 1)
    let kernels = try #require(Kernels(environment: [:]))
    let split = LeaveOneOut(dataset)
    func trainer(_ seconds: Double?) -> Trainer {
      var options = Self.options(epochs: 4)
      options.batchSize = 50
      options.secondsAtMost = seconds
      return Trainer(
        training: split.training, configuration: Self.configuration(dataset), options: options,
        kernels: kernels)
    }
    var saved: TrainingCheckpoint?
    var steps = 0
    let cut = try trainer(0).run(
      validating: split.cases(.validation), saving: { saved = $0 }
    ) { state in
      if state.validationNDCG == nil { steps += 1 }
      return true
    }
    #expect(steps == 1, "one step of six, then the judgement")
    #expect(cut.epochs.count == 1 && cut.epochs[0].validationNDCG != nil)
    let checkpoint = try #require(saved)
    let same = try trainer(0).run(validating: split.cases(.validation), from: checkpoint) { _ in
      Issue.record("there was no time for a step")
      return true
    }
    #expect(same.model.safetensors().bytes == cut.model.safetensors().bytes)
    let rest = try trainer(nil).run(
      validating: split.cases(.validation), from: checkpoint
    ) { _ in true }
    #expect(rest.epochs.count == 4, "being out of time is not being finished")
  }

  static let losses: [TrainingOptions.Loss] = [
    .sampled(.softmax, negatives: 20, sharing: .pass),
    .sampled(.softmax, negatives: 20, sharing: .sequence, popularity: 0.5),
    .sampled(.binary(calibration: 0.75), negatives: 20, sharing: .sequence),
    .sampled(.binary(calibration: 0), negatives: 5, sharing: .sequence),
    .sampled(.pairwise, negatives: 10, sharing: .pass),
  ]

  @Test(arguments: losses)
  func `every loss learns the certain succession`(loss: TrainingOptions.Loss) throws {
    let dataset = Self.ring(items: 30, users: 300, seed: 1)
    var options = Self.options(threads: 2, epochs: 40)
    options.loss = loss
    options.patience = 40
    let (result, split) = try Self.train(dataset, options)
    let report = evaluate(result.model, on: split, threads: 2)
    #expect(report.lines[0].result.recall(at: 3) > 0.9)
  }

  @Test func `a large catalogue moves only the rows that a step touched`() throws {
    let dataset = Self.ring(items: 25_000, users: 30, seed: 6)
    let kernels = try #require(Kernels(environment: [:]))
    var options = Self.options(threads: 2, epochs: 1)
    options.loss = .sampled(.softmax, negatives: 50, sharing: .pass)
    func weights(_ epochs: Int) throws -> SASRec {
      options.epochs = epochs
      let trainer = Trainer(
        training: dataset.sequences, configuration: Self.configuration(dataset), options: options,
        kernels: kernels)
      return try trainer.run(validating: []) { _ in true }.model
    }
    let before = Buffer(count: TransformerLayout(Self.configuration(dataset).shape).count)
    var generator = SplitMix64(seed: options.seed)
    TransformerLayout(Self.configuration(dataset).shape).initialise(
      before, deviation: options.initialDeviation, using: &generator)
    let after = try weights(1)
    let vectors = after.itemVectors
    let moved = (0..<25_000).filter { item in
      (0..<16).contains { vectors[item * 16 + $0] != before.pointer[item * 16 + $0] }
    }
    let trained = Set(dataset.sequences.flatMap { $0.suffix(9) }.map(\.index))
    #expect(trained.isSubset(of: moved))
    // Two steps of at most 4 passes with 50 drawn items each, beside the trained ones.
    #expect(moved.count <= trained.count + 2 * 8 * 50)
    #expect(try weights(1).safetensors().bytes == after.safetensors().bytes)
  }

  @Test func `ranks in tiles as the plain rule does`() throws {
    // More than one tile of 1,024 items, users who repeat items, and vectors that are equal.
    let dataset = Self.ring(items: 2_500, users: 40, seed: 7)
    let kernels = try #require(Kernels(environment: [:]))
    let split = LeaveOneOut(dataset)
    let configuration = Self.configuration(dataset)
    let layout = TransformerLayout(configuration.shape)
    let parameters = Buffer(count: layout.count)
    var generator = SplitMix64(seed: 8)
    layout.initialise(parameters, deviation: 0.3, using: &generator)
    for item in 0..<2_500 where item % 5 != 0 {
      for j in 0..<16 { parameters.pointer[item * 16 + j] = parameters.pointer[item / 5 * 80 + j] }
    }
    let model = SASRec(configuration, parameters: parameters, kernels: kernels)
    let report = evaluate(model, on: split, threads: 2)
    let items = model.itemVectors
    let expected = split.users.map { user in
      let history = split.history(of: user, .test)
      let vector = model.encode(history)
      let scores = (0..<2_500).map { item in
        kernels.dot(vector, Array(items[item * 16..<item * 16 + 16]), count: 16)
      }
      return scores.withUnsafeBufferPointer {
        rank(of: split.target(of: user, .test), scores: $0, seen: history)
      }
    }
    let found = report.lines[0].result.ranks
    // Scores of the two ways differ in the last bit, which may swap neighbours but not equals.
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 5 })
    #expect(found.allSatisfy { $0 >= 0 && $0 < 2_500 })
  }

  @Test func `reckons time and memory before the start`() throws {
    let dataset = Self.ring(items: 30, users: 300, seed: 1)
    let kernels = try #require(Kernels(environment: [:]))
    let trainer = Trainer(
      training: dataset.sequences, configuration: Self.configuration(dataset),
      options: Self.options(epochs: 10), kernels: kernels)
    let estimate = trainer.estimate(kernels: kernels)
    #expect(estimate.tokensPerEpoch == trainer.tokensPerEpoch)
    #expect(estimate.seconds > 0 && estimate.seconds.isFinite)
    #expect(estimate.bytes > 30 * 16 * 4)
  }
}
