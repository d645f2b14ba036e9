import Domain
import Kernels
package import Models
import Neural

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The `item2vec` policy: vectors of items from the company that they keep in histories.
///
/// - SeeAlso: Barkan & Koenigstein, *Item2vec*, 2016, on Mikolov et al., *Distributed Representations of
///   Words and Phrases*, NIPS 2013. In skip-gram, where a centre predicts several items, drawn items are
///   shared by a few dozen neighbouring centres and weighted to the same expectation (Ji et al.,
///   *Parallelizing Word2Vec in Shared and Distributed Memory*, 2016), so that they are matrix products.
///   CBOW, with one right item for each centre, draws for each as the papers do: sharing needed four
///   times as many items for the same quality, which was no quicker.
package enum Item2VecTraining: Policy {
  package static let description = PolicyDescription(
    name: "item2vec",
    summary:
      "Vectors of items from the company they keep (skip-gram or CBOW); a history is their mean.",
    gives: .vectors,
    parameters: [
      Hyperparameter(
        "embedding_size", aliases: ["vector_size", "factors"], .integer(2...1024),
        default: .integer(64), search: .options([32, 64, 128].map { .integer($0) }),
        "The width of vectors."),
      Hyperparameter(
        "window_size", aliases: ["window"], .integer(1...1000), default: .integer(3),
        search: .options([2, 3, 5, 10].map { .integer($0) }),
        "How many events before and after an event are its company."),
      Hyperparameter(
        "max_window_size", .integer(1...1000), default: .integer(50),
        "`window_size` is at most this."),
      Hyperparameter(
        "algorithm", .choice(["skip-gram", "cbow"]), default: .text("skip-gram"),
        search: .options([.text("skip-gram"), .text("cbow")]),
        "Whether an item predicts each of its company, or its company's mean predicts the item."),
      Hyperparameter(
        "negative", aliases: ["negative_samples_count"], .integer(1...1000), default: .integer(10),
        search: .options([5, 10, 20].map { .integer($0) }),
        "Items drawn against each right one."),
      Hyperparameter(
        "ns_exponent", .number(-2...2), default: .number(0),
        search: .options([-0.5, 0, 0.5, 0.75].map { .number($0) }),
        "Items are drawn in proportion to their count raised to this."),
      Hyperparameter(
        "sample", .number(0...1), default: .number(0),
        search: .options([0, 1e-4, 1e-3].map { .number($0) }),
        "The share of all events above which an item's events are thinned out; 0 keeps all."),
      Hyperparameter(
        "min_count", .integer(1...1_000_000), default: .integer(1),
        "Items with fewer events get no vector."),
      Hyperparameter(
        "n_epochs", aliases: ["epochs"], .integer(1...1000), default: .integer(20),
        search: .options([5, 10, 20, 40].map { .integer($0) }), "Passes over the histories."),
      Hyperparameter(
        "learning_rate", aliases: ["alpha"], .number(1e-6...1), default: .number(0.025),
        search: .numbers(0.01...0.1, logarithmic: true), "The first rate; it falls along a line."),
      Hyperparameter(
        "min_learning_rate", aliases: ["min_alpha"], .number(0...1), default: .number(0.0001),
        "The last rate."),
      Hyperparameter(
        "dynamic_windows", aliases: ["shrink_windows"], .flag, default: .flag(true),
        "Whether each window is drawn from 1 to `window_size`, so that near company counts more."),
      Hyperparameter(
        "seed", aliases: ["sample_seed"], .integer(0...Int(Int32.max)), default: .integer(42),
        "The seed of everything random."),
    ] + recencyParameters(last: 3, decay: 0.4),
    inert: ["workers": "training uses this machine's cores"])

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    guard data.histories.contains(where: { $0.items.count >= 2 }) else {
      throw nothingToLearn(settings, data)
    }
    let epochs = settings.integer("n_epochs")
    let width = settings.integer("embedding_size")
    let (vectors, seconds) = try context.withPool { pool in
      try timed {
        let run = SkipGramRun(data, settings, kernels: context.kernels, pool: pool)
        for epoch in 0..<epochs {
          try run.epoch(epoch, of: epochs) { step, steps throws(TrainingCancelled) in
            try context.report(epoch: epoch + 1, of: epochs, step: step, steps: steps)
          }
        }
        return run.vectors
      }
    }
    let model = PooledVectors(
      vectors: vectors, width: width, recency: recency(settings), isNormalised: true,
      kernels: context.kernels)
    let events = data.eventCount * epochs
    return TrainedModel(
      model, secondsTraining: seconds,
      summary: "Trained \(epochs) epochs of \(data.eventCount) events in \(text(seconds: seconds)) "
        + "(\(Int(Double(events) / max(1e-9, seconds))) events/s).")
  }
}

/// One training of item vectors.
///
/// Each worker goes through its share of the histories with vectors of its own; after some thousand
/// events the workers' changes are added up, in their order. So the same thread count gives the same
/// vectors, bit for bit; another gives others of the same quality.
private final class SkipGramRun {
  /// Events that a worker goes through before changes are added up.
  private static let eventsPerRound = 2048

  private let width: Int
  private let itemCount: Int
  private let settings: Settings
  private let kernels: Kernels
  private let pool: WorkerPool
  private let tokens: [Int32]
  /// History `h` is `tokens[offsets[h]..<offsets[h + 1]]`.
  private let offsets: [Int]
  private let counts: [Int]
  private let sampler: NegativeSampler
  private let input: Buffer
  private let output: Buffer
  private let workers: [Worker]

  struct Settings: Sendable {
    var window: Int
    var isSkipGram: Bool
    var negatives: Int
    var sample: Double
    var minimumCount: Int
    var rate: Float
    var lastRate: Float
    var isDynamic: Bool
  }

  init(_ data: TrainingSet, _ settings: PolicySettings, kernels: Kernels, pool: WorkerPool) {
    width = settings.integer("embedding_size")
    itemCount = data.itemCount
    self.kernels = kernels
    self.pool = pool
    self.settings = Settings(
      window: min(settings.integer("window_size"), settings.integer("max_window_size")),
      isSkipGram: settings.text("algorithm") == "skip-gram",
      negatives: settings.integer("negative"), sample: settings.number("sample"),
      minimumCount: settings.integer("min_count"), rate: Float(settings.number("learning_rate")),
      lastRate: Float(settings.number("min_learning_rate")),
      isDynamic: settings.flag("dynamic_windows"))
    let counts = data.counts
    self.counts = counts
    var tokens: [Int32] = []
    tokens.reserveCapacity(counts.reduce(0, +))
    var offsets = [0]
    for history in data.histories {
      for item in history.items where counts[item.index] >= self.settings.minimumCount {
        tokens.append(item.rawValue)
      }
      offsets.append(tokens.count)
    }
    self.tokens = tokens
    self.offsets = offsets
    let exponent = settings.number("ns_exponent")
    let minimum = self.settings.minimumCount
    sampler = NegativeSampler(
      weights: counts.map { $0 >= max(1, minimum) ? power(Double($0), exponent) : 0 })
    var generator = SplitMix64(seed: UInt64(settings.integer("seed")))
    input = Buffer(count: itemCount * width)
    output = Buffer(count: itemCount * width)
    for i in 0..<input.count {
      input.pointer[i] = (generator.unitFloat() - 0.5) / Float(width)
    }
    let shares = Self.shares(offsets, workers: pool.count)
    let (input, output, itemCount, width) = (input, output, itemCount, width)
    workers = shares.map { histories in
      Worker(
        histories: histories, input: pool.count == 1 ? input : input.copy(),
        output: pool.count == 1 ? output : output.copy(), itemCount: itemCount, width: width,
        kernels: kernels, seed: generator.next())
    }
  }

  /// Divides the histories into runs of nearly equal numbers of events.
  private static func shares(_ offsets: [Int], workers: Int) -> [Range<Int>] {
    let total = offsets.last ?? 0
    var start = 0
    return (1...workers).map { worker in
      var end = start
      let goal = total * worker / workers
      while end < offsets.count - 1, worker == workers || offsets[end + 1] <= goal { end += 1 }
      defer { start = end }
      return start..<end
    }
  }

  /// The item vectors, each of length 1; zeros for items without one.
  var vectors: [Float] {
    let result = input.copy()
    for item in 0..<itemCount {
      let row = result.pointer + item * width
      if counts[item] < max(1, settings.minimumCount) {
        row.update(repeating: 0, count: width)
      } else {
        normalise(row, count: width, kernels)
      }
    }
    return result.array
  }

  func epoch(
    _ epoch: Int, of epochs: Int,
    progress: (_ step: Int, _ steps: Int) throws(TrainingCancelled) -> Void
  ) throws(TrainingCancelled) {
    for worker in workers { worker.restart() }
    let longest =
      workers.map { offsets[$0.histories.upperBound] - offsets[$0.histories.lowerBound] }
      .max() ?? 0
    let rounds = max(1, (longest + Self.eventsPerRound - 1) / Self.eventsPerRound)
    for round in 0..<rounds {
      if round % 8 == 0 { try progress(round, rounds) }
      let done = (Float(epoch) + Float(round) / Float(rounds)) / Float(epochs)
      let rate = max(settings.lastRate, settings.rate - (settings.rate - settings.lastRate) * done)
      let isLast = round == rounds - 1
      let (workers, tokens, offsets, counts) = (workers, tokens, offsets, counts)
      let (sampler, settings) = (sampler, settings)
      let boxed = UncheckedSendable(workers)
      pool.run { index in
        boxed.value[index].run(
          events: isLast ? .max : Self.eventsPerRound, tokens: tokens, offsets: offsets,
          counts: counts, sampler: sampler, settings: settings, rate: rate)
      }
      if pool.count > 1 { merge() }
    }
  }

  /// Adds up the workers' changes and gives the sums back to them.
  private func merge() {
    let (width, itemCount, kernels) = (width, itemCount, kernels)
    let count = workers.count
    let share = (itemCount + pool.count - 1) / pool.count
    // Plain pointers, because counting references takes longer than adding a row.
    let sides = UncheckedSendable(
      (0..<2).map { side in
        (
          main: (side == 0 ? input : output).pointer,
          own: workers.map { (side == 0 ? $0.input : $0.output).pointer },
          touched: workers.map { $0.touched[side] }
        )
      })
    pool.run { index in
      for side in sides.value {
        side.own.withUnsafeBufferPointer { own in
          side.touched.withUnsafeBufferPointer { touched in
            for item in (index * share)..<max(index * share, min(itemCount, (index + 1) * share)) {
              var changes = 0
              var last = 0
              for worker in 0..<count where touched[worker][item] {
                changes += 1
                last = worker
                touched[worker][item] = false
              }
              guard changes > 0 else { continue }
              let row = item * width
              let main = side.main + row
              if changes == 1 {
                main.update(from: own[last] + row, count: width)
              } else {
                // main + Σ (row - main), the workers in their order.
                let rest = Float(1 - count)
                for i in 0..<width { main[i] *= rest }
                for worker in 0..<count {
                  kernels.add(1, times: own[worker] + row, to: main, count: width)
                }
              }
              for worker in 0..<count where changes > 1 || worker != last {
                (own[worker] + row).update(from: main, count: width)
              }
            }
          }
        }
      }
    }
  }

  /// What one thread owns. Unchecked Sendable: between two joins only that thread touches it.
  final class Worker: @unchecked Sendable {
    /// Centres that share drawn items.
    static let chunk = 32
    /// Items that they share.
    static let drawn = 32

    let histories: Range<Int>
    let input: Buffer
    let output: Buffer
    /// Which rows of input and output differ from the others'.
    let touched: [UnsafeMutablePointer<Bool>]
    private let itemCount: Int
    private let width: Int
    private let kernels: Kernels
    private var generator: SplitMix64
    private var nextHistory: Int
    private var sentence: [Int32] = []
    private let hidden: Buffer
    private let dhidden: Buffer
    private let rows: Buffer
    private let drows: Buffer
    private let scores: Buffer
    private let packed: Buffer
    private let scratch: Buffer
    private let sums: Buffer
    private let weights = Buffer(count: Worker.chunk)

    init(
      histories: Range<Int>, input: Buffer, output: Buffer, itemCount: Int, width: Int,
      kernels: Kernels, seed: UInt64
    ) {
      self.histories = histories
      self.input = input
      self.output = output
      self.itemCount = itemCount
      self.width = width
      self.kernels = kernels
      generator = SplitMix64(seed: seed)
      nextHistory = histories.lowerBound
      touched = (0..<2).map { _ in
        let flags = UnsafeMutablePointer<Bool>.allocate(capacity: max(1, itemCount))
        flags.initialize(repeating: false, count: itemCount)
        return flags
      }
      hidden = Buffer(count: Self.chunk * width)
      dhidden = Buffer(count: Self.chunk * width)
      rows = Buffer(count: Self.drawn * width)
      drows = Buffer(count: Self.drawn * width)
      scores = Buffer(count: Self.chunk * Self.drawn)
      packed = Buffer(count: kernels.packedCount(columns: Self.chunk, depth: width))
      scratch = Buffer(count: kernels.multiplyScratch(depth: max(Self.chunk, Self.drawn)))
      sums = Buffer(count: Self.drawn)
    }

    deinit { for flags in touched { flags.deallocate() } }

    func restart() { nextHistory = histories.lowerBound }

    func run(
      events: Int, tokens: [Int32], offsets: [Int], counts: [Int], sampler: NegativeSampler,
      settings: Settings, rate: Float
    ) {
      var done = 0
      let threshold = settings.sample * Double(tokens.count)
      while nextHistory < histories.upperBound, done < events {
        let range = offsets[nextHistory]..<offsets[nextHistory + 1]
        nextHistory += 1
        done += range.count
        sentence.removeAll(keepingCapacity: true)
        for place in range {
          let token = tokens[place]
          if threshold > 0 {
            let share = threshold / Double(counts[Int(token)])
            if Double(generator.unitFloat()) > share.squareRoot() + share { continue }
          }
          sentence.append(token)
        }
        guard sentence.count > 1 else { continue }
        sentence.withUnsafeBufferPointer { sentence in
          if !settings.isSkipGram {
            for centre in sentence.indices { predict(centre, sentence, sampler, settings, rate) }
            return
          }
          for start in stride(from: 0, to: sentence.count, by: Self.chunk) {
            step(
              sentence, start..<min(sentence.count, start + Self.chunk), sampler, settings, rate)
          }
        }
      }
    }

    /// Draws how far a centre looks: its company is what stands in `range`, without itself.
    @inline(__always)
    private func company(
      of centre: Int, in sentence: UnsafeBufferPointer<Int32>, _ settings: Settings
    ) -> ClosedRange<Int> {
      var reach = settings.window
      if settings.isDynamic {
        reach = 1 + Int(generator.next().multipliedFullWidth(by: UInt64(reach)).high)
      }
      return max(0, centre - reach)...min(sentence.count - 1, centre + reach)
    }

    /// One step of CBOW: the mean of a centre's company predicts the centre.
    private func predict(
      _ centre: Int, _ sentence: UnsafeBufferPointer<Int32>, _ sampler: NegativeSampler,
      _ settings: Settings, _ rate: Float
    ) {
      let d = width
      let (h, dh) = (hidden.pointer, dhidden.pointer)
      let range = company(of: centre, in: sentence, settings)
      let share = 1 / Float(max(1, range.count - 1))
      h.update(repeating: 0, count: d)
      dh.update(repeating: 0, count: d)
      for place in range where place != centre {
        kernels.add(share, times: input.pointer + Int(sentence[place]) * d, to: h, count: d)
      }
      let right = Int(sentence[centre])
      for draw in 0...settings.negatives {
        let item = draw == 0 ? right : Int(sampler.draw(using: &generator))
        if draw > 0, item == right { continue }
        let other = output.pointer + item * d
        let chance = 1 / (1 + exp(-kernels.dot(h, other, count: d)))
        let gain = rate * ((draw == 0 ? 1 : 0) - chance)
        kernels.add(gain, times: other, to: dh, count: d)
        kernels.add(gain, times: h, to: other, count: d)
        touched[1][item] = true
      }
      for place in range where place != centre {
        let item = Int(sentence[place])
        kernels.add(1, times: dh, to: input.pointer + item * d, count: d)
        touched[0][item] = true
      }
    }

    /// One step of skip-gram over a few neighbouring centres of a history.
    private func step(
      _ sentence: UnsafeBufferPointer<Int32>, _ centres: Range<Int>, _ sampler: NegativeSampler,
      _ settings: Settings, _ rate: Float
    ) {
      let (d, drawn) = (width, Self.drawn)
      let count = centres.count
      let (h, dh, weights) = (hidden.pointer, dhidden.pointer, weights.pointer)
      withUnsafeTemporaryAllocation(of: Int.self, capacity: 2 * count + drawn) { memory in
        guard let lows = memory.baseAddress else { return }
        let highs = lows + count
        let chosen = highs + count
        for (i, centre) in centres.enumerated() {
          let range = company(of: centre, in: sentence, settings)
          (lows[i], highs[i]) = (range.lowerBound, range.upperBound)
          (h + i * d).update(from: input.pointer + Int(sentence[centre]) * d, count: d)
        }
        for k in 0..<drawn {
          chosen[k] = Int(sampler.draw(using: &generator))
          (rows.pointer + k * d).update(from: output.pointer + chosen[k] * d, count: d)
        }
        // Drawn items: all scores at once, `[drawn, centres]`, then their gradients. The centres are
        // packed, because they are fewer.
        kernels.pack(
          h, stride: d, transposed: true, columns: count, depth: d, into: packed.pointer)
        kernels.multiplyPacked(
          rows: drawn, columns: count, depth: d, rows.pointer, rowStride: d, packed.pointer,
          into: scores.pointer, stride: count)
        kernels.logisticRows(
          rows: drawn, columns: count, scores.pointer, stride: count, rowLosses: sums.pointer)
        let weight = -rate * Float(settings.negatives) / Float(drawn)
        for i in 0..<count { weights[i] = Float(highs[i] - lows[i]) }
        for k in 0..<drawn {
          for i in 0..<count { scores.pointer[k * count + i] *= weights[i] }
        }
        kernels.multiply(
          rows: count, columns: d, depth: drawn, alpha: weight, scores.pointer, rowStride: 1,
          columnStride: count, rows.pointer, bStride: d, into: dh, stride: d,
          scratch: scratch.pointer)
        kernels.multiply(
          rows: drawn, columns: d, depth: count, alpha: weight, scores.pointer, rowStride: count, h,
          bStride: d,
          into: drows.pointer, stride: d, scratch: scratch.pointer)
        // Right items one by one, then everything moves.
        for (i, centre) in centres.enumerated() {
          let row = h + i * d
          func right(_ item: Int) {
            let other = output.pointer + item * d
            let gain = rate / (1 + exp(kernels.dot(row, other, count: d)))
            kernels.add(gain, times: other, to: dh + i * d, count: d)
            kernels.add(gain, times: row, to: other, count: d)
            touched[1][item] = true
          }
          for place in lows[i]...highs[i] where place != centre { right(Int(sentence[place])) }
        }
        for k in 0..<drawn {
          kernels.add(
            1, times: drows.pointer + k * d, to: output.pointer + chosen[k] * d, count: d)
          touched[1][chosen[k]] = true
        }
        for (i, centre) in centres.enumerated() {
          let item = Int(sentence[centre])
          kernels.add(1, times: dh + i * d, to: input.pointer + item * d, count: d)
          touched[0][item] = true
        }
      }
    }
  }
}
