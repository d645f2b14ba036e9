import Domain
import Models
import Training

/// What `training.tuning` says of a search over hyper-parameters.
package struct TuningSettings: Hashable, Sendable {
  /// Settings that are tried at most.
  package var jobs: Int
  /// Trainings at once; the cores are divided among them.
  package var parallelJobs: Int
  /// The time for all of it; nil where the jobs alone end it.
  package var minutes: Double?

  package init(jobs: Int = 12, parallelJobs: Int = 1, minutes: Double? = nil) {
    self.jobs = jobs
    self.parallelJobs = parallelJobs
    self.minutes = minutes
  }
}

/// Reads the models of an engine by the tables of the policies: whatever a policy describes can be
/// written, and nothing else.
extension EngineConfiguration {
  static func readTraining(_ given: SettingMap) -> ([PolicySettings], TuningSettings?) {
    var map = given
    let reader = map.reader
    if let schedule = map.string("schedule"), schedule != "@once" {
      reader.report(
        "not_available", "`training.schedule: \(schedule)` is not available yet.",
        at: "training.schedule", given.entries.first { $0.key == "schedule" }?.value.range,
        help: "Write `schedule: '@once'`, or leave it out: the engine trains when it is created.")
    }
    for key in ["compute", "data_split", "evaluation"] {
      if let node = map.take(key) {
        reader.warn(
          "no_effect",
          "`training.\(key)` changes nothing here: training uses this machine's cores, and every "
            + "model is evaluated leave-one-out on the full catalogue.",
          at: "training.\(key)", node.range)
      }
    }
    var tuning: TuningSettings?
    if var given = map.map("tuning") {
      tuning = TuningSettings()
      if let jobs = given.int("total_jobs", in: 1...10_000) { tuning?.jobs = jobs }
      if let jobs = given.int("parallel_jobs", in: 1...256) { tuning?.parallelJobs = jobs }
      tuning?.minutes = given.double("minutes", in: 0.01...100_000)
      given.finish()
    }
    var models: [PolicySettings] = []
    for (i, node) in (map.list("models") ?? []).enumerated() {
      let path = "training.models[\(i)]"
      guard let entry = reader.map(node, at: path) else { continue }
      if let model = readModel(entry, range: node.range, before: models) {
        if models.contains(where: { $0.name == model.name }) {
          reader.report(
            "duplicate_name", "Two models are called `\(model.name)`.", at: "\(path).name",
            node.range, help: "Give each its own `name`.")
        }
        models.append(model)
      }
    }
    if tuning == nil, models.contains(where: { !$0.searches.isEmpty }) { tuning = TuningSettings() }
    map.finish()
    return (models, tuning)
  }

  /// Reads one model.
  ///
  /// - Parameter before: the models above it, of which it may be made.
  private static func readModel(
    _ given: SettingMap, range: Range<Int>?, before: [PolicySettings]
  ) -> PolicySettings? {
    var map = given
    let reader = map.reader
    guard
      let node = map.required("policy_type", help: "Write, for example, `policy_type: sasrec`."),
      let name = reader.string(node, at: map.path(of: "policy_type"))
    else { return nil }
    guard let policy = Policies.named(name)?.description else {
      reportPolicy(name, at: map.path(of: "policy_type"), node.range, reader)
      return nil
    }
    var settings = PolicySettings(policy)
    if let name = map.string("name") { settings.name = name }
    if !isName(settings.name) || settings.name.contains("-") {
      reader.report(
        "invalid_name", "`\(settings.name)` cannot name a model.", at: map.path(of: "name"), range,
        help: "Use letters, digits and `_`, and begin with a letter: queries write the name bare.")
    }
    settings.eventValues = map.strings("event_values")
    for parameter in policy.parameters { read(parameter, &map, into: &settings, before) }
    let inert = policy.inert.merging(commonInert.filter { policy.parameter($0.key) == nil }) {
      a, _ in a
    }
    for (key, reason) in inert.sorted(by: { $0.key < $1.key }) {
      if let node = map.take(key) {
        reader.warn(
          "no_effect", "`\(map.path(of: key))` changes nothing here: \(reason).",
          at: map.path(of: key), node.range)
      }
    }
    for (key, help) in policy.refused.sorted(by: { $0.key < $1.key }) {
      // Switched off it is what happens anyway.
      guard let node = map.take(key), node.content != .bool(false) else { continue }
      reader.report(
        "not_available", "`\(map.path(of: key))` is not available yet.", at: map.path(of: key),
        node.range, help: help)
    }
    if let problem = Policies.named(name)?.problem(settings) {
      reader.report(
        "out_of_range", "`\(map.path(of: problem.key))`: \(problem.message)",
        at: map.path(of: problem.key), range, help: problem.help)
    }
    map.finish()
    return settings
  }

  /// What most documented policies have and no policy here needs.
  private static let commonInert = [
    "normalize_numerical_features": "the model learns from item ids",
    "use_derived_timestamp_features": "the model learns from item ids",
    "balance_labels": "the model learns from positive events",
  ]

  private static func reportPolicy(
    _ name: String, at path: String, _ range: Range<Int>?, _ reader: SettingReader
  ) {
    let names = Policies.names
    if let absent = Policies.absent[name.lowercased()] {
      reader.report(
        "not_available", "The policy `\(name)` is not available here.", at: path, range,
        help: "The nearest is `policy_type: \(absent.nearest)`: \(absent.reason).")
      return
    }
    let near = nearestName(to: name, among: names + Policies.absent.keys.sorted())
    reader.report(
      "unknown_policy", "Unknown policy `\(name)`.", at: path, range,
      label: near.map { "did you mean `\($0)`?" } ?? "",
      help: "Policies: \(names.map { "`\($0)`" }.joined(separator: ", ")).")
  }

  // MARK: hyper-parameters

  /// Reads one hyper-parameter under whichever of its names it was written.
  private static func read(
    _ parameter: Hyperparameter, _ map: inout SettingMap, into settings: inout PolicySettings,
    _ before: [PolicySettings]
  ) {
    var first: String?
    for key in [parameter.name] + parameter.aliases {
      let given = map.entries.first { $0.key == key }?.value
      let before = read(parameter, key, &map, before)
      guard let given, !given.isNull else { continue }
      guard let first else {
        first = key
        if case .value(let value) = before { settings.values[parameter.name] = value }
        if case .search(let search) = before { settings.searches[parameter.name] = search }
        continue
      }
      if case .value(let value) = before, value != settings.values[parameter.name] {
        map.reader.report(
          "not_available",
          "`\(map.path(of: key))` and `\(map.path(of: first))` have different values; here they are "
            + "one setting.", at: map.path(of: key), given.range,
          help: "Give both the same value, or leave one out.")
      }
    }
  }

  private enum Reading {
    case nothing
    case value(Hyperparameter.Value)
    case search(Hyperparameter.Search)
  }

  private static func read(
    _ parameter: Hyperparameter, _ key: String, _ map: inout SettingMap, _ before: [PolicySettings]
  ) -> Reading {
    if let node = map.entries.first(where: { $0.key == key })?.value, let type = node["type"],
      case .string(let name) = type.content, name.hasPrefix("tunable_")
    {
      _ = map.take(key)
      return readSearch(node, name, parameter, at: map.path(of: key), map.reader)
    }
    let value: Hyperparameter.Value? =
      switch parameter.kind {
      case .integer(let range): map.int(key, in: range).map { .integer($0) }
      case .number(let range): map.double(key, in: range).map { .number($0) }
      case .flag: map.bool(key).map { .flag($0) }
      case .choice(let names): map.choice(key, of: names).map { .text($0) }
      case .model:
        map.take(key).flatMap { node in
          map.reader.string(node, at: map.path(of: key)).flatMap {
            known($0, node, at: map.path(of: key), before, map.reader).map { .text($0) }
          }
        }
      case .models:
        map.take(key).flatMap { readParts($0, at: map.path(of: key), before, map.reader) }
      }
    return value.map { .value($0) } ?? .nothing
  }

  private static func known(
    _ name: String, _ node: SettingNode, at path: String, _ before: [PolicySettings],
    _ reader: SettingReader
  ) -> String? {
    if before.contains(where: { $0.name == name }) { return name }
    let names = before.map(\.name)
    let near = nearestName(to: name, among: names)
    reader.report(
      "unknown_model", "No model above this one is called `\(name)`.", at: path, node.range,
      label: near.map { "did you mean `\($0)`?" } ?? "",
      help: names.isEmpty
        ? "Declare it in `training.models`, before this one."
        : "Models above: \(names.map { "`\($0)`" }.joined(separator: ", ")).")
    return nil
  }

  /// A list of names, or a map of names and weights.
  private static func readParts(
    _ node: SettingNode, at path: String, _ before: [PolicySettings], _ reader: SettingReader
  ) -> Hyperparameter.Value? {
    switch node.content {
    case .list(let elements):
      let names = elements.enumerated().compactMap { i, element in
        reader.string(element, at: "\(path)[\(i)]").flatMap {
          known($0, element, at: "\(path)[\(i)]", before, reader)
        }
      }
      return .weights(names.map { .init(model: $0, weight: nil) })
    case .map(let entries):
      var map = SettingMap(entries: entries, path: path, range: node.range, reader: reader)
      var weights: [Hyperparameter.Weight] = []
      for entry in entries {
        guard let weight = map.double(entry.key, in: 0...1000),
          let name = known(entry.key, entry.value, at: map.path(of: entry.key), before, reader)
        else { continue }
        weights.append(.init(model: name, weight: weight))
      }
      return .weights(weights)
    default:
      reader.report(
        "wrong_type",
        "`\(path)` is \(node.kindName); it must be a list of models, or a map of models and "
          + "weights.", at: path, node.range, help: "Write `[item_knn, sasrec]`.")
      return nil
    }
  }

  // MARK: searches

  /// Reads `{type: tunable_int, min: 1, max: 10, scale: log}` and its like.
  private static func readSearch(
    _ node: SettingNode, _ type: String, _ parameter: Hyperparameter, at path: String,
    _ reader: SettingReader
  ) -> Reading {
    guard var map = reader.map(node, at: path) else { return .nothing }
    _ = map.take("type")
    defer { map.finish() }
    func wrong(_ wanted: String) -> Reading {
      reader.report(
        "wrong_type", "`\(path)` cannot be searched by `\(type)`.", at: path, node.range,
        help: "Write `\(wanted)`.")
      for key in ["min", "max", "scale", "options"] { _ = map.take(key) }
      return .nothing
    }
    switch (type, parameter.kind) {
    case ("tunable_int", .integer(let allowed)):
      let low = map.int("min", in: allowed)
      let high = map.int("max", in: allowed)
      let scale = map.choice("scale", of: ["linear", "log"])
      guard let low, let high, low <= high else {
        return wrong("{type: tunable_int, min: \(allowed.lowerBound), max: …}")
      }
      return .search(.integers(low...high, logarithmic: scale == "log"))
    case ("tunable_float", .number(let allowed)):
      let low = map.double("min", in: allowed)
      let high = map.double("max", in: allowed)
      let scale = map.choice("scale", of: ["linear", "log"])
      guard let low, let high, low <= high else {
        return wrong("{type: tunable_float, min: \(allowed.lowerBound), max: …}")
      }
      return .search(.numbers(low...high, logarithmic: scale == "log" && low > 0))
    case ("tunable_bool", .flag): return .search(.options([.flag(false), .flag(true)]))
    case ("tunable_int_categorical", .integer), ("tunable_string", .choice),
      ("tunable_float_categorical", .number):
      let options = (map.list("options") ?? []).compactMap { option -> Hyperparameter.Value? in
        let value: Hyperparameter.Value? =
          switch (option.content, parameter.kind) {
          case (.int(let value), .integer): .integer(Int(value))
          case (.int(let value), .number): .number(Double(value))
          case (.double(let value), .number): .number(value)
          case (.string(let value), .choice): .text(value)
          default: nil
          }
        if let value, parameter.allows(value) { return value }
        reader.report(
          "out_of_range", "\(option.kindName) is not among what `\(path)` may be.",
          at: "\(path).options", option.range)
        return nil
      }
      return options.isEmpty
        ? wrong("{type: \(type), options: [...]}") : .search(.options(options))
    case (_, .integer): return wrong("{type: tunable_int, min: 1, max: 10}")
    case (_, .number): return wrong("{type: tunable_float, min: 0.1, max: 1}")
    case (_, .flag): return wrong("{type: tunable_bool}")
    case (_, .choice(let names)):
      return wrong("{type: tunable_string, options: [\(names.joined(separator: ", "))]}")
    default: return wrong("the name of a model")
    }
  }
}
