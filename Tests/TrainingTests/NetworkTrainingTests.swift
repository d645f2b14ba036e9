import Domain
import Evaluation
import Kernels
import Models
import Neural
import Testing
import Training

@Suite struct `Training of every network` {
  static func configuration(_ kind: NeuralKind, _ dataset: SequenceDataset) -> NeuralConfiguration {
    var configuration = NeuralConfiguration(kind, itemCount: dataset.itemCount)
    configuration.width = 16
    configuration.maximumLength = 8
    configuration.blocks = 1
    configuration.usesTimes = kind == .hstu
    configuration.temperature = 0.1
    return configuration
  }

  static func options(_ kind: NeuralKind, epochs: Int) -> TrainingOptions {
    var options = Training.options(threads: 2, epochs: epochs)
    options.initialDeviation = 0.1
    options.patience = epochs
    options.alterations.augmenterEpochs = 2
    options.alterations.groupSize = 6
    if kind == .gsasrec {
      options.loss = .sampled(.binary(calibration: 0.75), negatives: 20, sharing: .sequence)
    }
    return options
  }

  /// A ring with an event each hour.
  static func ring(users: Int, seed: UInt64) -> SequenceDataset {
    var dataset = Training.ring(items: 30, users: users, seed: seed)
    dataset.times = dataset.sequences.map { sequence in
      sequence.indices.map { Timestamp(secondsSinceEpoch: Double($0) * 3600) }
    }
    return dataset
  }

  static func trainer(
    _ kind: NeuralKind, _ dataset: SequenceDataset, _ options: TrainingOptions
  ) throws -> (Trainer, LeaveOneOut) {
    let split = LeaveOneOut(dataset)
    let trainer = Trainer(
      training: split.training,
      times: dataset.times?.map { $0.count >= 3 ? Array($0.dropLast(2)) : $0 },
      configuration: configuration(kind, dataset), options: options,
      kernels: try #require(Kernels(environment: [:])))
    return (trainer, split)
  }

  @Test(arguments: NeuralKind.allCases)
  func `learns the certain succession`(kind: NeuralKind) throws {
    let dataset = Self.ring(users: 300, seed: 1)
    let (trainer, split) = try Self.trainer(kind, dataset, Self.options(kind, epochs: 40))
    let result = try trainer.run(validating: split.cases(.validation)) { _ in true }
    let report = evaluate(result.neural, name: kind.rawValue, on: split, threads: 2)
    let recall = report.lines[0].result.recall(at: 3)
    #expect(recall > 0.9, "\(recall)")
  }

  @Test(arguments: NeuralKind.allCases)
  func `a run that was stopped goes on to the same weights`(kind: NeuralKind) throws {
    let dataset = Self.ring(users: 50, seed: 5)
    var options = Self.options(kind, epochs: 4)
    options.averaging = 0.9
    options.olderWindows = 0.5
    var saved: [TrainingCheckpoint] = []
    let (first, split) = try Self.trainer(kind, dataset, options)
    let cases = split.cases(.validation)
    let whole = try first.run(validating: cases, saving: { saved.append($0) }) { _ in true }
    for checkpoint in [saved[0], saved[2]] {
      let file = try Safetensors(parsing: checkpoint.bytes, path: "c")
      let rest = try Self.trainer(kind, dataset, options).0.run(
        validating: cases, from: try TrainingCheckpoint(file, path: "c")
      ) { _ in true }
      #expect(rest.neural.safetensors().bytes == whole.neural.safetensors().bytes)
    }
  }

  @Test(arguments: NeuralKind.allCases)
  func `a training begins where another has ended`(kind: NeuralKind) throws {
    let dataset = Self.ring(users: 200, seed: 9)
    var options = Self.options(kind, epochs: 20)
    options.averaging = 0.9
    let (first, split) = try Self.trainer(kind, dataset, options)
    let cases = split.cases(.validation)
    let trained = try first.run(validating: cases) { _ in true }
    options.epochs = 3
    options.alterations.augmenterEpochs = 0
    let second = try Self.trainer(kind, dataset, options).0
    let fresh = second.judge(cases).mean(.ndcg, at: 10)
    let model = try #require(trained.neural as any Recommender as? any NetworkRecommender)
    second.begin(from: model.parameters)
    let begun = second.judge(cases).mean(.ndcg, at: 10)
    #expect(begun == trained.bestValidationNDCG)
    #expect(fresh < 0.8 * begun)
    let further = try second.run(validating: []) { _ in true }
    #expect(further.epochs.count == 3)
    let report = evaluate(further.neural, name: kind.rawValue, on: split, threads: 1)
    #expect(report.lines[0].result.ndcg(at: 10) > 0.9 * begun)
  }

  @Test func `a history's contrast weighs as one right item, however many it has`() throws {
    let kernels = try #require(Kernels(environment: [:]))
    func loss(length: Int, contrast: Float) -> Double {
      // The newest events are the same for each length, and they are what is altered.
      let dataset = SequenceDataset(
        itemCount: 30,
        sequences: (0..<12).map { user in
          ((40 - length)..<40).map { ItemToken((user * 2 + $0) % 30) }
        })
      var options = Self.options(.laclrec, epochs: 1)
      options.dropout = 0
      options.alterations.augmenterEpochs = 0
      options.alterations.length = 6
      options.alterations.contrast = contrast
      options.alterations.triplet = contrast
      var configuration = Self.configuration(.laclrec, dataset)
      configuration.maximumLength = 30
      let trainer = Trainer(
        training: dataset.sequences, configuration: configuration, options: options,
        kernels: kernels)
      let (loss, targets) = trainer.step(Array(0..<12)[...])
      #expect(targets == 12 * (length - 1))
      return loss
    }
    let (short, long) = (
      loss(length: 9, contrast: 1) - loss(length: 9, contrast: 0),
      loss(length: 27, contrast: 1) - loss(length: 27, contrast: 0)
    )
    #expect(short > 0)
    #expect(abs(long - short) < 1e-3 * short, "\(short) and \(long)")
  }

  /// The unit rows of a cosine model and a second output table are moved row by row too.
  @Test(arguments: [NeuralKind.hstu, .gsasrec, .bert4rec, .laclrec])
  func `a large catalogue moves only the rows that a step touched`(kind: NeuralKind) throws {
    let dataset = Training.ring(items: 25_000, users: 30, seed: 6)
    var options = Self.options(kind, epochs: 1)
    options.loss = .sampled(.softmax, negatives: 50, sharing: .pass)
    options.alterations.augmenterEpochs = 0
    var configuration = Self.configuration(kind, dataset)
    configuration.usesTimes = false
    configuration.separatesOutput = kind == .gsasrec
    let kernels = try #require(Kernels(environment: [:]))
    func weights() throws -> NeuralModel {
      let trainer = Trainer(
        training: dataset.sequences, configuration: configuration, options: options,
        kernels: kernels)
      return try trainer.run(validating: []) { _ in true }.neural
    }
    let layout = configuration.network.layout
    let before = Buffer(count: layout.count)
    var generator = SplitMix64(seed: options.seed)
    layout.initialise(before, deviation: options.initialDeviation, using: &generator)
    let after = try weights()
    let parameters = after.weights.parameters
    for table in Set([layout.items, layout.output == .separate ? layout.outputs : layout.items]) {
      let moved = (0..<25_000).filter { item in
        (0..<16).contains {
          parameters.pointer[table + item * 16 + $0] != before.pointer[table + item * 16 + $0]
        }
      }
      #expect(moved.count > 100 && moved.count < 1_500, "\(moved.count)")
    }
    #expect(try weights().safetensors().bytes == after.safetensors().bytes)
  }

  @Test func `heads that do not divide the width are a problem where there are heads`() throws {
    for kind in NeuralKind.allCases {
      let policy = try #require(Policies.named(kind.rawValue))
      var settings = PolicySettings(policy.description)
      #expect(policy.problem(settings) == nil)
      settings["n_heads"] = .integer(3)
      #expect((policy.problem(settings) == nil) == (kind == .gru4rec))
    }
  }

  @Test func `only the augmenter learns in its epochs, and nothing is validated there`() throws {
    let dataset = Self.ring(users: 60, seed: 7)
    var options = Self.options(.laclrec, epochs: 3)
    options.alterations.augmenterEpochs = 2
    let (trainer, split) = try Self.trainer(.laclrec, dataset, options)
    let result = try trainer.run(validating: split.cases(.validation)) { _ in true }
    #expect(result.epochs.map { $0.validationNDCG == nil } == [true, true, false])
    #expect(result.bestEpoch == 3)
    #expect(result.epochs[1].loss < result.epochs[0].loss)
  }
}
