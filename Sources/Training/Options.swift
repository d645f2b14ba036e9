package import Neural

/// How a model is trained.
package struct TrainingOptions: Hashable, Sendable {
  package enum Schedule: String, Hashable, Sendable, CaseIterable {
    case constant
    /// Falls to a fiftieth of the rate along half a cosine.
    case cosine
    /// Falls to a fiftieth of the rate along a line.
    case linear
  }

  /// What a position's right item is compared with.
  package enum Loss: Hashable, Sendable {
    /// The whole catalogue.
    case softmax
    /// Drawn items.
    case sampled(
      SampledObjective, negatives: Int, sharing: NegativeSharing, popularity: Double = 0)
  }

  /// How a network with an augmenter (`laclrec`) learns.
  package struct Alterations: Hashable, Sendable {
    /// First epochs, in which only the augmenter learns; nothing is validated in them.
    package var augmenterEpochs = 10
    /// What the contrast of one history weighs beside the loss of one right item.
    package var contrast: Float = 0.1
    /// What the triplet of one history weighs beside the loss of one right item.
    package var triplet: Float = 0.02
    /// Newest events of a history that is altered.
    package var length = 60
    /// Histories that are told from one another.
    package var groupSize = 32
    /// Whether learned alterations keep the order of events.
    package var keepsOrder = true

    package init() {}
  }

  package var loss = Loss.softmax
  /// Passes over the data at most.
  package var epochs = 60
  /// Users in one step of the optimiser.
  package var batchSize = 128
  package var learningRate: Float = 1e-3
  package var schedule = Schedule.constant
  /// Steps over which the rate rises from 0.
  package var warmUpSteps = 0
  package var beta1: Float = 0.9
  package var beta2: Float = 0.98
  package var weightDecay: Float = 0
  /// Gradients whose norm over all parameters is above this are scaled down to it; nil never.
  package var gradientNormAtMost: Float?
  /// The decay of an exponential moving average of the weights (Polyak & Juditsky 1992), which is
  /// then what is validated and kept; nil keeps the weights themselves.
  package var averaging: Float?
  /// The chance that a user whose events do not fit into one window contributes a window that ends at
  /// a random earlier event instead of the newest one.
  package var olderWindows: Float = 0
  package var dropout: Float = 0.2
  /// The share of a sequence's items that are hidden, where a network learns to guess hidden ones.
  package var maskedShare: Float = 0.2
  /// The chance that of such a sequence only the newest item is hidden, as when a question is asked.
  package var onlyNewestMasked: Float = 0.1
  /// How altered histories are learned from, where a network makes them.
  package var alterations = Alterations()
  /// The standard deviation of fresh weights.
  package var initialDeviation: Float = 0.02
  package var seed: UInt64 = 1
  package var threads = 1
  /// Training stands back for other work by this much (0 to 19).
  package var niceness: Int32 = 0
  /// Validations without a better NDCG@10 after which training stops.
  package var patience = 10
  /// The epoch before which training is not stopped for want of a gain. Networks first learn what is
  /// popular and may rest there for some epochs before they learn more.
  package var stopsFrom = 0
  /// Epochs from one validation to the next.
  package var validateEvery = 1
  /// Stops after the epoch in which this many seconds of training have passed; nil for no limit.
  package var secondsAtMost: Double?
  /// What the matrix products multiply; parameters, sums and the optimiser stay in floats. Nil is
  /// bfloat16 where the processor multiplies it in hardware, else float32.
  package var precision: Precision?
  /// Tokens that one thread passes through the model at a time: bounds memory, keeps activations in
  /// cache, changes nothing else but the order of additions.
  package var tokensPerPass = 1000

  package init() {}
}

/// What training says of itself while it runs.
package struct TrainingProgress: Sendable {
  /// From 1.
  package var epoch: Int
  package var epochs: Int
  /// Steps done in this epoch.
  package var step: Int
  package var steps: Int
  /// Mean loss of a token in this epoch so far, in nats.
  package var loss: Double
  package var tokensPerSecond: Double
  package var secondsElapsed: Double
  /// To the last epoch, if training does not stop early.
  package var secondsLeft: Double
  /// NDCG@10 on the validation events, set at the end of an epoch that was validated.
  package var validationNDCG: Double?
  package var bestValidationNDCG: Double?
}

/// One epoch of a finished training.
package struct EpochRecord: Hashable, Sendable {
  package var epoch: Int
  package var loss: Double
  package var validationNDCG: Double?
  package var validationRecall: Double?
  package var seconds: Double

  package init(
    epoch: Int, loss: Double, validationNDCG: Double?, validationRecall: Double?, seconds: Double
  ) {
    self.epoch = epoch
    self.loss = loss
    self.validationNDCG = validationNDCG
    self.validationRecall = validationRecall
    self.seconds = seconds
  }
}

/// Why training stopped before its result.
package struct TrainingCancelled: Error, Hashable, Sendable {
  package init() {}
}
