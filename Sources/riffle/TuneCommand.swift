import ArgumentParser
import Domain
import Engine
import Evaluation
import Foundation
import Models
import Reports
import Training

struct Tune: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Search the settings of a model on the validation events.",
    discussion: """
      Successive halving: many settings start with few epochs, the best go on. What is searched are \
      the `tunable_*` ranges of the model in --file, or every setting of a policy that has a range of \
      its own. `auto` searches policies and blends of them instead. The test events are looked at \
      once, for the figures of what was chosen.

      With --keep, trials are kept there by the hash of all that they depend on: a search that was \
      stopped goes on where it was, and one with more jobs repeats nothing. --html writes a page with \
      every trial against time, against the length of its training and against each setting.

        riffle tune --movielens PATH --model item-knn --jobs 30
        riffle tune --movielens PATH --model auto --minutes 10 --html search.html
        riffle tune --data-dir DIR --engine-name for_you --model sasrec --minutes 30 --keep trials
      """)

  @OptionGroup var source: ModelSource

  @Option(help: "A model of the engine or of --file, or a policy.")
  var model: String

  @Option(help: "Settings that are tried at most (default: the file's `total_jobs`, else 12).")
  var jobs: Int?

  @Option(help: "Trainings at once (default: the file's `parallel_jobs`, else 1).")
  var parallel: Int?

  @Option(help: "The time for everything, in minutes.")
  var minutes: Double?

  @Option(help: ArgumentHelp("Where trials are kept.", valueName: "directory"))
  var keep: String?

  @Option(help: ArgumentHelp("Where a page with every trial is written.", valueName: "file"))
  var html: String?

  func validate() throws {
    if let jobs, jobs < 1 { throw ValidationError("--jobs is \(jobs).") }
    if let parallel, parallel < 1 { throw ValidationError("--parallel is \(parallel).") }
    if let minutes, minutes <= 0 { throw ValidationError("--minutes is \(minutes).") }
  }

  func run() throws {
    let opened = try source.open()
    var settings = try opened.settings(named: model)
    if settings.policy.name == "auto" {
      if let minutes { settings["minutes"] = .number(minutes) }
    } else if settings.searches.isEmpty {
      for parameter in settings.policy.parameters where settings.values[parameter.name] == nil {
        settings.searches[parameter.name] = parameter.search
      }
    }
    var tuning = opened.tuning ?? TuningSettings()
    if let jobs { tuning.jobs = jobs }
    if let parallel { tuning.parallelJobs = parallel }
    if let minutes { tuning.minutes = minutes }
    var trained: [String: any Recommender] = [:]
    for part in settings.partNames {
      _ = try opened.train(
        try opened.settings(named: part), threads: source.threadCount, trained: &trained,
        isPart: true)
    }
    var training = try ModelTraining(policy: settings, threads: source.threadCount, niceness: 0)
    training.parts = trained
    training.tuning = tuning
    training.trials = keep.map { TrialFolder(path: $0) }
    let line = TrainingProgressLine()
    let outcome = try training.run(opened.data) { state in
      line.show(state)
      return true
    }
    line.finish()
    let searched = SearchTrials(settings.name, outcome.trained)
    if let html, let searched { try writePage(searched.html, to: html) }
    if source.json {
      print(
        ([
          "summary": .string(outcome.summary),
          "trials": .array(outcome.trained.trials.map(\.json)),
          "notes": .array(outcome.trained.notes.map { .string($0) }),
          "model": (outcome.trained.chosen ?? settings).json,
          "evaluation": outcome.evaluation.json,
        ] as JSON).text)
      return
    }
    if settings.policy.name != "auto", let searched {
      printLine(searched.text(bold: Terminal.bold))
    } else {
      for note in outcome.trained.notes { printLine(note) }
    }
    printLine(outcome.summary)
    if let chosen = outcome.trained.chosen { printLine("YAML: - \(chosen.json.text)") }
    EvaluationPrinter.print(outcome.evaluation)
  }
}
