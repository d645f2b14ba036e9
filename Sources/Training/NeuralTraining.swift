import Domain
import Kernels
package import Models
import Neural

/// A policy that trains a network by the loop that SASRec has, with its hyper-parameters where they
/// mean something.
package protocol NeuralPolicy: Policy {
  static var kind: NeuralKind { get }
  /// Settles what is this policy's own.
  static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet)
}

extension NeuralPolicy {
  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    // Recurrent units have no heads.
    kind == .gru4rec ? nil : SASRecTraining.problem(settings)
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    var configuration = NeuralConfiguration(
      SASRecTraining.configuration(settings, itemCount: data.itemCount))
    configuration.kind = kind
    var options = SASRecTraining.options(settings, data, context)
    adjust(&configuration, &options, settings, data)
    let trainer = Trainer(
      data, configuration: configuration, options: options, kernels: context.kernels)
    if let start = context.start { trainer.begin(from: start.parameters) }
    context.estimated?(trainer.estimate(kernels: context.kernels))
    let result = try trainer.run(
      validating: data.validation, from: context.checkpoint, saving: context.saving,
      progress: context.progress)
    return TrainedModel(result.neural, result, context.kernels)
  }

  package static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet
  ) {}

  /// SASRec's hyper-parameters with other defaults, further names and further members.
  static func parameters(
    defaults: [String: Hyperparameter.Value] = [:],
    searches: [String: Hyperparameter.Search] = [:], aliases: [String: [String]] = [:],
    help: [String: String] = [:], adding further: [Hyperparameter] = []
  ) -> [Hyperparameter] {
    SASRecTraining.description.parameters.map { parameter in
      var parameter = parameter
      if let value = defaults[parameter.name] { parameter.defaultValue = value }
      if let search = searches[parameter.name] { parameter.search = search }
      parameter.aliases += aliases[parameter.name] ?? []
      if let help = help[parameter.name] { parameter.help = help }
      return parameter
    } + further
  }
}

extension TrainedModel {
  init(_ model: any Recommender, _ result: TrainingResult, _ kernels: Kernels) {
    let tenths = Int((result.secondsTraining * 10).rounded())
    self.init(
      model, epochs: result.epochs, bestEpoch: result.bestEpoch,
      secondsTraining: result.secondsTraining,
      summary: "Trained \(result.epochs.count) epochs of \(result.tokensPerEpoch) tokens in "
        + "\(tenths / 10).\(tenths % 10) s (\(Int(result.tokensPerSecond)) tokens/s, kernels "
        + "\(kernels.name)); epoch \(result.bestEpoch) was best.")
  }
}

/// The `gsasrec` policy: SASRec with generalised binary cross-entropy.
package enum GSASRecTraining: NeuralPolicy {
  package static let kind = NeuralKind.gsasrec

  package static let description = PolicyDescription(
    name: "gsasrec",
    summary: "SASRec with many drawn items and a calibrated binary loss (Petrov & Macdonald 2023).",
    gives: .vectors,
    parameters: parameters(
      defaults: [
        "loss_type": .text("gBCE"), "negative_samples_count": .integer(1024),
        "negative_sharing": .text("sequence"), "learning_rate": .number(0.003),
        "learning_rate_schedule": .text("linear"), "n_epochs": .integer(100),
        "initializer_range": .number(0.1), "weight_averaging": .number(0.998),
      ],
      // Its loss counts a position's one right item for little: it wants larger steps.
      searches: ["learning_rate": .numbers(1e-3...1e-2, logarithmic: true)],
      aliases: [
        "hidden_size": ["embedding_dim"], "n_heads": ["num_heads"], "n_layers": ["num_blocks"],
        "max_seq_length": ["sequence_length"], "hidden_dropout_prob": ["dropout_rate"],
        "negative_samples_count": ["neg_per_positive"], "early_stopping_step": ["patience"],
      ],
      adding: [
        Hyperparameter(
          "reuse_item_embeddings", .flag, default: .flag(true),
          "Whether hidden states are compared with the vectors that also go in. The authors' code "
            + "has a second table by default; one table learns faster and is half the size.")
      ]),
    inert: SASRecTraining.description.inert.merging(
      [
        "max_batches_per_epoch": "an epoch is one pass over the users",
        "filter_rated": "seen items are left out by the query",
        "eval_after_epochs": "every epoch is evaluated", "split_ratio": "the split is by event",
        "eps": "the loss is computed without it",
      ]) { old, _ in old }, refused: SASRecTraining.description.refused)

  package static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet
  ) {
    configuration.separatesOutput = !settings.flag("reuse_item_embeddings")
  }
}

/// The `bert4rec` policy: a transformer that sees both ways and guesses hidden items.
package enum BERT4RecTraining: NeuralPolicy {
  package static let kind = NeuralKind.bert4rec

  package static let description = PolicyDescription(
    name: "bert4rec",
    summary: "A transformer that sees both ways guesses hidden items (Sun et al. 2019).",
    gives: .vectors,
    parameters: parameters(
      defaults: [
        "learning_rate": .number(0.003), "learning_rate_schedule": .text("cosine"),
        "initializer_range": .number(0.05), "weight_averaging": .number(0.998),
        "n_epochs": .integer(80), "early_stopping_step": .integer(20),
      ],
      searches: ["learning_rate": .numbers(1e-3...6e-3, logarithmic: true)],
      adding: [
        Hyperparameter(
          "mask_rate", .number(0.01...0.9), default: .number(0.3), search: .numbers(0.1...0.6),
          "The share of a history's items that are hidden and guessed."),
        Hyperparameter(
          "newest_mask_rate", .number(0...1), default: .number(0.1),
          "The chance that of a history only the newest item is hidden, as when a question is asked."
        ),
      ]),
    inert: SASRecTraining.description.inert.filter { $0.key != "mask_rate" },
    refused: SASRecTraining.description.refused)

  package static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet
  ) {
    options.maskedShare = Float(settings.number("mask_rate"))
    options.onlyNewestMasked = Float(settings.number("newest_mask_rate"))
  }
}

/// The `esasrec` policy: SASRec with gated blocks.
package enum ESASRecTraining: NeuralPolicy {
  package static let kind = NeuralKind.esasrec

  package static let description = PolicyDescription(
    name: "esasrec",
    summary: "SASRec with gated (LiGR) blocks (Tikhonovich et al. 2025).",
    gives: .vectors,
    parameters: parameters(defaults: [
      "learning_rate": .number(0.0015), "initializer_range": .number(0.05),
      "weight_averaging": .number(0.998),
    ]),
    inert: SASRecTraining.description.inert, refused: SASRecTraining.description.refused)
}

/// The `hstu` policy: attention without a softmax, with biases of distance and time.
package enum HSTUTraining: NeuralPolicy {
  package static let kind = NeuralKind.hstu

  package static let description = PolicyDescription(
    name: "hstu",
    summary: "Gated attention that knows when events were (Zhai et al. 2024).",
    gives: .vectors,
    parameters: parameters(
      defaults: [
        "initializer_range": .number(0.05), "weight_averaging": .number(0.995),
        "layer_norm_eps": .number(1e-6), "learning_rate": .number(0.001),
      ],
      adding: [
        Hyperparameter(
          "time_bias", .flag, default: .flag(true),
          "Whether the times of events and of the question count, where events have times."),
        Hyperparameter(
          "temperature", .number(0.001...10), default: .number(0.05),
          "What the cosine of a history and an item is divided by."),
      ]),
    inert: SASRecTraining.description.inert.merging(
      [
        "inner_size": "a layer has no feed-forward part", "hidden_act": "its activation is SiLU",
      ]) { old, _ in old }, refused: SASRecTraining.description.refused)

  package static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet
  ) {
    configuration.usesTimes =
      settings.flag("time_bias") && !data.histories.isEmpty
      && data.histories.allSatisfy { $0.times != nil }
    configuration.temperature = Float(settings.number("temperature"))
  }
}

/// The `gru4rec` policy: recurrent units.
package enum GRU4RecTraining: NeuralPolicy {
  package static let kind = NeuralKind.gru4rec

  package static let description = PolicyDescription(
    name: "gru4rec",
    summary: "Recurrent units read the history event by event (Hidasi et al. 2016).",
    gives: .vectors,
    parameters: parameters(
      defaults: [
        "n_layers": .integer(1), "learning_rate": .number(0.002),
        "initializer_range": .number(0.1), "weight_averaging": .number(0.998),
      ],
      help: ["inner_size": "The width of the state; by default twice `hidden_size`."]),
    inert: SASRecTraining.description.inert, refused: SASRecTraining.description.refused)

  package static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet
  ) {
    configuration.heads = 1
  }
}

/// The `laclrec` policy: SASRec that learns from altered histories too.
package enum LACLRecTraining: NeuralPolicy {
  package static let kind = NeuralKind.laclrec

  package static let description = PolicyDescription(
    name: "laclrec",
    summary: "A transformer with a learned augmenter and contrastive losses (arXiv 2503.20232).",
    gives: .vectors,
    parameters: parameters(
      defaults: [
        "n_layers": .integer(1), "n_epochs": .integer(70), "learning_rate": .number(0.0015),
        "weight_averaging": .number(0.998),
      ],
      help: [
        "n_layers": "Blocks that recommender and augmenter share; the recommender has one more."
      ],
      adding: [
        Hyperparameter(
          "augmenter_epochs", .integer(0...10_000),
          "First epochs, in which only the augmenter learns; they count among `n_epochs`. By default a "
            + "fifth of them, 10 at most."),
        Hyperparameter(
          "contrast_weight", .number(0...100), default: .number(0.1),
          "What the contrast between one history's alterations (NT-Xent) weighs beside the loss of one "
            + "right item."),
        Hyperparameter(
          "triplet_weight", .number(0...100), default: .number(0.02),
          "What one history's triplet weighs beside the loss of one right item: a history is nearer to "
            + "its learned alteration than to its random one."),
        Hyperparameter(
          "altered_length", .integer(2...1000), default: .integer(60),
          "Newest events of a history that is altered."),
        Hyperparameter(
          "keep_order", .flag, default: .flag(true),
          "Whether learned alterations keep the order of events. The authors' code loses it, almost "
            + "certainly by mistake; false does as it does."),
      ]), inert: SASRecTraining.description.inert, refused: SASRecTraining.description.refused)

  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    if let given = settings.optionalInteger("augmenter_epochs"),
      given >= settings.integer("n_epochs")
    {
      return SettingsProblem(
        key: "augmenter_epochs",
        "of \(settings.integer("n_epochs")) epochs (`n_epochs`) the augmenter takes \(given): none is "
          + "left for the recommender.",
        help: "Leave `augmenter_epochs` out, or give more `n_epochs`.")
    }
    return SASRecTraining.problem(settings)
  }

  package static func adjust(
    _ configuration: inout NeuralConfiguration, _ options: inout TrainingOptions,
    _ settings: PolicySettings, _ data: TrainingSet
  ) {
    options.alterations.augmenterEpochs =
      settings.optionalInteger("augmenter_epochs") ?? min(10, options.epochs / 5)
    options.stopsFrom += options.alterations.augmenterEpochs
    options.alterations.contrast = Float(settings.number("contrast_weight"))
    options.alterations.triplet = Float(settings.number("triplet_weight"))
    options.alterations.length = settings.integer("altered_length")
    options.alterations.keepsOrder = settings.flag("keep_order")
  }
}
