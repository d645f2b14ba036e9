import Kernels
package import Models
import Neural

/// The `sasrec` policy: a self-attentive sequence model and how it is trained.
///
/// Defaults differ from the documented service's where its own are known to be weak (one epoch, BPR
/// with two negatives): the loss is full-catalogue cross-entropy, and training stops early on the
/// validation metric.
package enum SASRecTraining: Policy {
  package static let description = PolicyDescription(
    name: "sasrec",
    summary: "A causal transformer over the history predicts the next item (Kang & McAuley 2018).",
    gives: .vectors,
    parameters: [
      Hyperparameter(
        "hidden_size", .integer(4...1024), default: .integer(64),
        search: .options([32, 64, 128].map { .integer($0) }), "The width of item vectors."),
      Hyperparameter(
        "inner_size", .integer(4...4096),
        "The width of the feed-forward layer; by default four times `hidden_size`."),
      Hyperparameter(
        "n_heads", .integer(1...16), default: .integer(2),
        search: .options([1, 2, 4].map { .integer($0) }), "Attention heads."),
      Hyperparameter(
        "n_layers", .integer(1...12), default: .integer(2), search: .integers(1...3), "Blocks."),
      Hyperparameter(
        "max_seq_length", .integer(1...1000), default: .integer(200),
        search: .options([50, 100, 200].map { .integer($0) }),
        "Newest events that the model sees. Sequences are packed, so a short one costs no more."),
      Hyperparameter(
        "hidden_act", .choice(["gelu", "relu", "silu"]), default: .text("gelu"),
        "The activation of the feed-forward layer."),
      Hyperparameter(
        "hidden_dropout_prob", aliases: ["attn_dropout_prob"], .number(0...0.9),
        default: .number(0.2), search: .numbers(0...0.6), "Dropout; one value serves both names."),
      Hyperparameter(
        "layer_norm_eps", .number(1e-14...0.1), default: .number(1e-5),
        "Added to the variance when normalising."),
      Hyperparameter(
        "initializer_range", .number(1e-6...1), default: .number(0.02),
        "The standard deviation of the first weights."),
      Hyperparameter("n_epochs", .integer(1...10_000), default: .integer(60), "Epochs at most."),
      Hyperparameter(
        "batch_size", .integer(1...65_536),
        "Users in a step; by default a sixty-fourth of the users, at least 16 and at most 128: a "
          + "small data set needs the steps, a large one the speed."),
      Hyperparameter(
        "learning_rate", .number(1e-7...1), default: .number(0.001),
        search: .numbers(3e-4...3e-3, logarithmic: true), "The rate of Adam."),
      Hyperparameter(
        "early_stopping_step", .integer(1...10_000), default: .integer(8),
        "Epochs without a better validation metric before training stops; not before epoch 20, or a "
          + "third of `n_epochs`: networks rest for some epochs where they know what is popular."),
      Hyperparameter(
        "loss_type", .choice(["CE", "sampled_softmax", "gBCE", "BCE", "BPR"]),
        "What the right item is compared with; by default `CE`, the whole catalogue, up to 20,000 "
          + "items, beyond them `sampled_softmax`, whose cost does not grow with the catalogue."),
      Hyperparameter(
        "negative_samples_count", .integer(1...100_000), default: .integer(512),
        "Items drawn for the losses that draw."),
      Hyperparameter(
        "negative_sharing", .choice(["batch", "sequence"]), default: .text("batch"),
        "Who shares drawn items: all that pass through the model together, or one sequence."),
      Hyperparameter(
        "negative_popularity_power", .number(0...1), default: .number(0),
        "Items are drawn in proportion to their count raised to this, and scores corrected by the "
          + "logarithm of that; 0 is uniform."),
      Hyperparameter(
        "gbce_t", .number(0...1), default: .number(0.75), "The calibration of `gBCE`."),
      Hyperparameter("weight_decay", .number(0...1), default: .number(0), "Decoupled (AdamW)."),
      Hyperparameter(
        "gradient_clip_norm", .number(1e-6...1e6),
        "Gradients of a larger norm are scaled down to it; by default never."),
      Hyperparameter(
        "learning_rate_schedule", .choice(["constant", "cosine", "linear"]),
        default: .text("constant"), "How the rate falls."),
      Hyperparameter(
        "warm_up_steps", .integer(0...1_000_000), default: .integer(0),
        "Steps over which the rate rises from 0."),
      Hyperparameter(
        "weight_averaging", .number(0...0.99999), default: .number(0.998),
        "The decay of a moving average of the weights, which is then judged and served; the average "
          + "follows young weights quickly. 0 serves the weights themselves."),
      Hyperparameter(
        "older_windows", .number(0...1), default: .number(0.5),
        "The chance that a user with more events than `max_seq_length` trains with an older window "
          + "of them: it lifted NDCG@10 on ML-1M."),
      Hyperparameter(
        "precision", .choice(["float32", "bfloat16"]),
        "What matrix products multiply in training and in encoding histories for queries; by default "
          + "`bfloat16` where the processor does so in hardware. Evaluation is in `float32`."),
      Hyperparameter(
        "sample_seed", aliases: ["seed"], .integer(0...Int(Int32.max)), default: .integer(42),
        "The seed of everything random in training."),
    ],
    inert: [
      "eval_batch_size": "evaluation ranks in batches of its own",
      "mask_rate": "the model predicts the next item and masks nothing",
      "sample_ratio": "every event is used", "eval_step": "every epoch is evaluated",
      "sample_strategy": "windows are taken by user",
      "device": "training uses this machine's cores",
      "normalize_numerical_features": "the model learns from item ids",
      "use_derived_timestamp_features": "the model learns from item ids",
      "balance_labels": "the model learns from positive events",
    ],
    refused: [
      "append_item_features": "Leave it out: the model learns from item ids.",
      "append_item_embeddings": "Leave it out: the model learns from item ids.",
      "use_candidate_embeddings": "Leave it out: the model learns from item ids.",
    ])

  package static func problem(_ settings: PolicySettings) -> SettingsProblem? {
    let width = settings.integer("hidden_size")
    let heads = settings.integer("n_heads")
    guard width % heads != 0 else { return nil }
    return SettingsProblem(
      key: "n_heads", "`hidden_size` is \(width), which \(heads) heads do not divide.",
      help: "Let `hidden_size` be a multiple of `n_heads`.")
  }

  package static func train(
    _ data: TrainingSet, _ settings: PolicySettings, _ context: TrainingContext
  ) throws -> TrainedModel {
    let trainer = Trainer(
      training: data.sequences,
      configuration: configuration(settings, itemCount: data.itemCount),
      options: options(settings, data, context), kernels: context.kernels)
    if let start = context.start { trainer.begin(from: start.parameters) }
    context.estimated?(trainer.estimate(kernels: context.kernels))
    let result = try trainer.run(
      validating: data.validation, from: context.checkpoint, saving: context.saving,
      progress: context.progress)
    return TrainedModel(result.model, result, context.kernels)
  }

  static func configuration(_ settings: PolicySettings, itemCount: Int) -> SASRecConfiguration {
    var configuration = SASRecConfiguration(itemCount: itemCount)
    configuration.width = settings.integer("hidden_size")
    configuration.heads = settings.integer("n_heads")
    configuration.blocks = settings.integer("n_layers")
    configuration.innerWidth = settings.optionalInteger("inner_size")
    configuration.maximumLength = settings.integer("max_seq_length")
    if let activation = Activation(rawValue: settings.text("hidden_act")) {
      configuration.activation = activation
    }
    configuration.normEpsilon = Float(settings.number("layer_norm_eps"))
    return configuration
  }

  static func options(
    _ settings: PolicySettings, _ data: TrainingSet, _ context: TrainingContext
  ) -> TrainingOptions {
    var options = TrainingOptions()
    options.epochs = settings.integer("n_epochs")
    options.batchSize =
      settings.optionalInteger("batch_size") ?? min(128, max(16, data.histories.count / 64))
    options.learningRate = Float(settings.number("learning_rate"))
    options.dropout = Float(settings.number("hidden_dropout_prob"))
    options.initialDeviation = Float(settings.number("initializer_range"))
    options.seed = UInt64(settings.integer("sample_seed"))
    options.patience = settings.integer("early_stopping_step")
    options.stopsFrom = min(20, options.epochs / 3)
    options.loss = loss(settings, itemCount: data.itemCount)
    options.weightDecay = Float(settings.number("weight_decay"))
    options.gradientNormAtMost = settings.optionalNumber("gradient_clip_norm").map { Float($0) }
    if let schedule = TrainingOptions.Schedule(rawValue: settings.text("learning_rate_schedule")) {
      options.schedule = schedule
    }
    options.warmUpSteps = settings.integer("warm_up_steps")
    options.averaging = settings.optionalNumber("weight_averaging").flatMap {
      $0 > 0 ? Float($0) : nil
    }
    options.olderWindows = Float(settings.number("older_windows"))
    options.precision = settings.optionalText("precision").flatMap(Precision.init(rawValue:))
    options.secondsAtMost = context.secondsAtMost
    options.threads = context.threads
    options.niceness = context.niceness
    return options
  }

  private static func loss(_ settings: PolicySettings, itemCount: Int) -> TrainingOptions.Loss {
    let sharing =
      settings.text("negative_sharing") == "batch" ? NegativeSharing.pass : .sequence
    func sampled(_ objective: SampledObjective) -> TrainingOptions.Loss {
      .sampled(
        objective,
        negatives: min(settings.integer("negative_samples_count"), max(1, itemCount - 1)),
        sharing: sharing, popularity: settings.number("negative_popularity_power"))
    }
    switch settings.optionalText("loss_type") ?? (itemCount <= 20_000 ? "CE" : "sampled_softmax") {
    case "sampled_softmax": return sampled(.softmax)
    case "gBCE": return sampled(.binary(calibration: Float(settings.number("gbce_t"))))
    case "BCE": return sampled(.binary(calibration: 0))
    case "BPR": return sampled(.pairwise)
    default: return .softmax
    }
  }
}
