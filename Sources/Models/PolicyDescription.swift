package import Domain

/// A kind of model as data: what YAML may say of it, what the reference page says, and what tuning
/// may search.
package struct PolicyDescription: Hashable, Sendable {
  /// What its models give to queries.
  package enum Gives: String, Hashable, Sendable {
    /// Vectors of items and histories, and scores as their inner products.
    case vectors
    /// Scores of all items.
    case scores
  }

  /// The `policy_type`.
  package var name: String
  /// One sentence: what it is.
  package var summary: String
  package var gives: Gives
  package var parameters: [Hyperparameter]
  /// Documented keys that are accepted and change nothing, with the reason.
  package var inert: [String: String]
  /// Documented keys for what this build does not do, with what to do instead.
  package var refused: [String: String]

  package init(
    name: String, summary: String, gives: Gives, parameters: [Hyperparameter],
    inert: [String: String] = [:], refused: [String: String] = [:]
  ) {
    self.name = name
    self.summary = summary
    self.gives = gives
    self.parameters = parameters
    self.inert = inert
    self.refused = refused
    precondition(
      Set(parameters.flatMap(\.allNames)).count == parameters.reduce(0) { $0 + $1.allNames.count },
      "two hyper-parameters of \(name) share a name")
  }

  /// The hyper-parameter of a name or an alias.
  package func parameter(_ name: String) -> Hyperparameter? {
    parameters.first { $0.name == name } ?? parameters.first { $0.aliases.contains(name) }
  }

  /// Every key that YAML may hold for this policy.
  package var keys: [String] {
    parameters.flatMap(\.allNames) + inert.keys.sorted() + refused.keys.sorted()
  }
}

/// One setting of a policy.
package struct Hyperparameter: Hashable, Sendable {
  package enum Kind: Hashable, Sendable {
    case integer(ClosedRange<Int>)
    case number(ClosedRange<Double>)
    case flag
    case choice([String])
    /// The name of another model of the same engine.
    case model
    /// The names of other models of the same engine, each with a weight or without.
    case models
  }

  package enum Value: Hashable, Sendable {
    case integer(Int)
    case number(Double)
    case flag(Bool)
    case text(String)
    case weights([Weight])
  }

  package struct Weight: Hashable, Sendable {
    package var model: String
    /// Nil where it is to be found on the validation events.
    package var weight: Double?
    package init(model: String, weight: Double?) { (self.model, self.weight) = (model, weight) }
  }

  /// What tuning tries.
  package enum Search: Hashable, Sendable {
    case integers(ClosedRange<Int>, logarithmic: Bool = false)
    case numbers(ClosedRange<Double>, logarithmic: Bool = false)
    case options([Value])
  }

  /// The key in YAML.
  package var name: String
  /// Other names of the same that YAML files use.
  package var aliases: [String]
  package var kind: Kind
  /// Nil where the data decide; the help says how.
  package var defaultValue: Value?
  /// One or two sentences: what it does, its unit, why the default.
  package var help: String
  /// Nil where tuning leaves it alone.
  package var search: Search?

  package init(
    _ name: String, aliases: [String] = [], _ kind: Kind, default defaultValue: Value? = nil,
    search: Search? = nil, _ help: String
  ) {
    self.name = name
    self.aliases = aliases
    self.kind = kind
    self.defaultValue = defaultValue
    self.help = help
    self.search = search
    precondition(defaultValue.map(allows) ?? true, "the default of \(name) is not allowed")
  }

  var allNames: [String] { [name] + aliases }

  package func allows(_ value: Value) -> Bool {
    switch (kind, value) {
    case (.integer(let range), .integer(let value)): range.contains(value)
    case (.number(let range), .number(let value)): range.contains(value)
    case (.flag, .flag), (.model, .text), (.models, .weights): true
    case (.choice(let names), .text(let value)): names.contains(value)
    default: false
    }
  }
}

extension Hyperparameter.Value {
  package var json: JSON {
    switch self {
    case .integer(let value): .int(Int64(value))
    case .number(let value): .double(value)
    case .flag(let value): .bool(value)
    case .text(let value): .string(value)
    case .weights(let weights):
      if weights.contains(where: { $0.weight == nil }) {
        .array(weights.map { .string($0.model) })
      } else {
        .object(weights.map { JSON.Member($0.model, .double($0.weight ?? 0)) })
      }
    }
  }
}

extension Hyperparameter.Search {
  package var json: JSON {
    switch self {
    case .integers(let range, let logarithmic):
      [
        "type": "tunable_int", "min": .int(Int64(range.lowerBound)),
        "max": .int(Int64(range.upperBound)), "scale": logarithmic ? "log" : "linear",
      ]
    case .numbers(let range, let logarithmic):
      [
        "type": "tunable_float", "min": .double(range.lowerBound),
        "max": .double(range.upperBound), "scale": logarithmic ? "log" : "linear",
      ]
    case .options(let options):
      switch options.first {
      case .flag: ["type": "tunable_bool"]
      case .integer:
        ["type": "tunable_int_categorical", "options": .array(options.map(\.json))]
      case .number:
        ["type": "tunable_float_categorical", "options": .array(options.map(\.json))]
      default: ["type": "tunable_string", "options": .array(options.map(\.json))]
      }
    }
  }
}

/// One model as it is declared: a policy with values for some of its hyper-parameters.
package struct PolicySettings: Hashable, Sendable {
  package var policy: PolicyDescription
  /// What queries call the model.
  package var name: String
  /// The kinds of events that count as positives; every positive event where nil.
  package var eventValues: [String]?
  /// The values that were given, by the hyper-parameter's name (never an alias).
  package var values: [String: Hyperparameter.Value]
  /// The ranges that tuning is asked to search, by the hyper-parameter's name.
  package var searches: [String: Hyperparameter.Search] = [:]

  package init(
    _ policy: PolicyDescription, name: String? = nil, eventValues: [String]? = nil,
    values: [String: Hyperparameter.Value] = [:]
  ) {
    self.policy = policy
    self.name = name ?? policy.name.replacing("-", with: "_")
    self.eventValues = eventValues
    self.values = values
  }

  /// The value of a hyper-parameter: the given one, else the default; nil where neither is there.
  package subscript(name: String) -> Hyperparameter.Value? {
    get {
      guard let parameter = policy.parameter(name) else {
        preconditionFailure("\(policy.name) has no hyper-parameter \(name)")
      }
      return values[parameter.name] ?? parameter.defaultValue
    }
    set {
      guard let parameter = policy.parameter(name) else {
        preconditionFailure("\(policy.name) has no hyper-parameter \(name)")
      }
      precondition(
        newValue.map(parameter.allows) ?? true, "\(name) = \(String(describing: newValue))")
      values[parameter.name] = newValue
    }
  }

  package func optionalInteger(_ name: String) -> Int? {
    if case .integer(let value) = self[name] { value } else { nil }
  }

  package func optionalNumber(_ name: String) -> Double? {
    if case .number(let value) = self[name] { value } else { nil }
  }

  package func optionalText(_ name: String) -> String? {
    if case .text(let value) = self[name] { value } else { nil }
  }

  /// - Precondition: the hyper-parameter has a default.
  package func integer(_ name: String) -> Int {
    guard let value = optionalInteger(name) else { preconditionFailure("\(name) has no value") }
    return value
  }

  /// - Precondition: the hyper-parameter has a default.
  package func number(_ name: String) -> Double {
    guard let value = optionalNumber(name) else { preconditionFailure("\(name) has no value") }
    return value
  }

  /// - Precondition: the hyper-parameter has a default.
  package func text(_ name: String) -> String {
    guard let value = optionalText(name) else { preconditionFailure("\(name) has no value") }
    return value
  }

  /// - Precondition: the hyper-parameter has a default.
  package func flag(_ name: String) -> Bool {
    guard case .flag(let value) = self[name] else { preconditionFailure("\(name) has no value") }
    return value
  }

  /// The models that this one is made of, by name.
  package var partNames: [String] {
    policy.parameters.flatMap { parameter -> [String] in
      switch (parameter.kind, self[parameter.name]) {
      case (.model, .text(let name)): [name]
      case (.models, .weights(let weights)): weights.map(\.model)
      default: []
      }
    }
  }

  /// The settings as a model in engine YAML, which reads them back.
  package var json: JSON {
    var members = [
      JSON.Member("policy_type", .string(policy.name)), JSON.Member("name", .string(name)),
    ]
    if let eventValues {
      members.append(JSON.Member("event_values", .array(eventValues.map { .string($0) })))
    }
    for parameter in policy.parameters {
      if let search = searches[parameter.name] {
        members.append(JSON.Member(parameter.name, search.json))
      } else if let value = values[parameter.name] {
        members.append(JSON.Member(parameter.name, value.json))
      }
    }
    return .object(members)
  }

  /// The settings in one line, the same for equal settings: a key for caches and checkpoints.
  package var key: String {
    let given = values.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    return "\(policy.name) \(eventValues.map { "\($0)" } ?? "-") \(given.joined(separator: " "))"
  }
}
