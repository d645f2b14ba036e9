import ArgumentParser
import Domain
import Engine
import Evaluation
import Foundation
import Models
import Reports
import Training

/// Writes a page and says where it is.
func writePage(_ page: String, to path: String) throws {
  do { try Data(page.utf8).write(to: URL(filePath: path)) } catch {
    throw CommandFailure(.failed, "error: The report cannot be written to `\(path)`: \(error)")
  }
  Terminal.standardError("The report is in \(path).")
}

struct Report: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train models, judge them in every respect, and write the report.",
    discussion: """
      The whole catalogue is ranked, items of the history removed, ties broken against the model. \
      Beside the models stand popularity, popularity of the last seven days, last-item transition and \
      recency-weighted item-knn; the report says whether the first model beats them by more than \
      luck. It has metrics at several depths with intervals, segments of users and items, coverage, \
      novelty, popularity bias and personalisation, a look for leaks, and what shuffled histories do.

        riffle report --movielens PATH --model sasrec --html report.html
        riffle report --movielens PATH --model item-knn --model sasrec --split time --days 30
        riffle report --data-dir DIR --engine-name for_you --model for_you_model --html report.html

      --split last asks for each user's last event; --split time trains on what happened before the \
      last two windows of --days and asks for everything new in the last one.
      """)

  enum Split: String, ExpressibleByArgument, CaseIterable {
    case last, time
  }

  @OptionGroup var source: ModelSource

  @Option(help: "A model of the engine or of --file, or a policy; the first is the one judged.")
  var model: [String]

  @Option(help: "`last`: leave one out; `time`: a global split by time.")
  var split = Split.last

  @Option(help: "Days of each window of --split time.")
  var days = 7.0

  @Flag(
    inversion: .prefixedNo, help: "Whether items without a training event are right answers too.")
  var coldItems = true

  @Option(name: .customLong("at"), help: "A depth at which figures are given; several times.")
  var depths: [Int] = [5, 10, 20]

  @Option(help: "Seed of intervals, significance and shuffling.")
  var seed: UInt64 = 1

  @Option(help: ArgumentHelp("Where the HTML page is written.", valueName: "file"))
  var html: String?

  func validate() throws {
    if model.isEmpty { throw ValidationError("Give at least one --model.") }
    if days <= 0 { throw ValidationError("--days is \(days).") }
    if depths.contains(where: { $0 < 1 || $0 > 1000 }) {
      throw ValidationError("--at is 1 to 1000.")
    }
  }

  func run() throws {
    let opened = try source.open()
    let dataset = SequenceDataset(
      itemCount: opened.data.vocabulary.count, sequences: opened.data.sequences,
      times: opened.data.times)
    let card: Scorecard
    switch split {
    case .last: card = try judge(opened, LeaveOneOut(dataset))
    case .time:
      guard
        let split = GlobalTimeSplit(
          dataset, windowSeconds: days * 86_400, countsColdItems: coldItems)
      else {
        throw CommandFailure(.badInput, "error: The events have no times to split by.")
      }
      card = try judge(opened, split)
    }
    if let html { try writePage(card.html, to: html) }
    if source.json { print(card.json.text) } else { print(card.text(bold: Terminal.bold)) }
  }

  private func judge(
    _ opened: ModelSource.Opened, _ split: some EvaluationSplit
  ) throws -> Scorecard {
    let cases = split.cases(.test)
    guard !cases.isEmpty else {
      throw CommandFailure(
        .badInput,
        "error: The split leaves no question to ask.\n  help: Use longer windows (--days), or "
          + "--split last.")
    }
    let data = TrainingSet(split)
    var trained: [String: TrainedModel] = [:]
    var contenders: [Contender] = []
    var curves: [Scorecard.Curve] = []
    for name in model {
      let result = try train(name, opened, data, &trained)
      contenders.append(Contender(result.model, name: name))
      if let curve = Scorecard.Curve(name, result) { curves.append(curve) }
    }
    if !model.contains("item-knn") {
      let neighbours = try train("item-knn", opened, data, &trained)
      var contender = Contender(neighbours.model, name: "item-knn")
      contender.role = .baseline
      contenders.append(contender)
    }
    var options = EvaluationOptions()
    options.depths = depths
    options.seed = seed
    options.threads = source.threadCount
    var card = Scorecard(
      contenders, on: split, dataset: opened.name,
      learned: trained.values.contains { $0.hasLearnedValidation }
        ? split.trainingAndValidationSet : split.trainingSet, options: options)
    card.curves = curves
    card.searches = model.compactMap { name in
      trained[name].flatMap { SearchTrials(name, $0) }
    }
    card.notes = model.compactMap { name in
      trained[name].map { "`\(name)`: \($0.summary)" }
    }
    return card
  }

  /// Trains a model and, before it, those that it is made of.
  private func train(
    _ name: String, _ opened: ModelSource.Opened, _ data: TrainingSet,
    _ trained: inout [String: TrainedModel], isPart: Bool = false
  ) throws -> TrainedModel {
    if let model = trained[name], !isPart || !model.hasLearnedValidation { return model }
    let settings = try opened.settings(named: name)
    for part in settings.partNames { _ = try train(part, opened, data, &trained, isPart: true) }
    guard let policy = Policies.named(settings.policy.name) else {
      throw CommandFailure(.badInput, "error: There is no policy `\(settings.policy.name)`.")
    }
    let line = TrainingProgressLine()
    var context = TrainingContext(
      threads: source.threadCount, kernels: try chosenKernels()
    ) { state in
      let done = Double(state.epoch - 1) + Double(state.step) / Double(max(1, state.steps))
      line.show([
        "epoch": .int(Int64(state.epoch)), "epochs": .int(Int64(state.epochs)),
        "fraction": .double(done / Double(max(1, state.epochs))), "loss": .double(state.loss),
        "tokens_per_second": .double(state.tokensPerSecond),
        "validation_ndcg_at_10": state.validationNDCG.map { .double($0) } ?? .null,
        "seconds_left": .double(state.secondsLeft),
      ])
      return true
    }
    context.parts = trained.mapValues(\.model)
    context.isPart = isPart
    let model = try policy.train(data, settings, context)
    line.finish()
    Terminal.standardError("\(name): \(model.summary)")
    trained[name] = model
    return model
  }
}
