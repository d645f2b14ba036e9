import Domain
package import Models

/// The reference page of all policies, made from the tables that the parser reads.
package enum PolicyReference {
  package static var markdown: String {
    var lines = [
      "# Policies and their hyper-parameters", "",
      "Made by `riffle policies --markdown` from the tables that read engine YAML; [models.md](models.md) "
        + "says what each policy is and when to take it.", "",
      "Beside these, every model takes `name` (what queries call it; by default the policy's, with `_` "
        + "for `-`) and `event_values` (the kinds of events that count as positives).", "",
    ]
    for policy in Policies.all.map({ $0.description }) { lines += section(policy) }
    return lines.joined(separator: "\n")
  }

  /// One policy as plain text.
  package static func text(_ policy: PolicyDescription) -> String {
    var lines = ["\(policy.name): \(policy.summary)", ""]
    for parameter in policy.parameters {
      let names = ([parameter.name] + parameter.aliases).joined(separator: ", ")
      lines.append("  \(names): \(kind(parameter)), default \(defaultText(parameter))")
      lines.append("      \(parameter.help)")
    }
    return lines.joined(separator: "\n")
  }

  private static func section(_ policy: PolicyDescription) -> [String] {
    var lines = [
      "## \(policy.name)", "", "\(policy.summary) Gives \(policy.gives.rawValue).", "",
      "| key | other names | values | default | searched | meaning |", "|---|---|---|---|---|---|",
    ]
    for parameter in policy.parameters {
      let cells = [
        "`\(parameter.name)`", parameter.aliases.map { "`\($0)`" }.joined(separator: ", "),
        kind(parameter), defaultText(parameter), searched(parameter),
        parameter.help.replacing("|", with: "\\|"),
      ]
      lines.append("| \(cells.joined(separator: " | ")) |")
    }
    lines.append("")
    if !policy.inert.isEmpty {
      let keys = policy.inert.sorted { $0.key < $1.key }.map { "`\($0.key)` (\($0.value))" }
      lines += ["Accepted with a warning: \(keys.joined(separator: "; ")).", ""]
    }
    if !policy.refused.isEmpty {
      let keys = policy.refused.keys.sorted().map { "`\($0)`" }
      lines += ["Not available: \(keys.joined(separator: ", ")).", ""]
    }
    return lines
  }

  private static func kind(_ parameter: Hyperparameter) -> String {
    switch parameter.kind {
    case .integer(let range): "\(range.lowerBound) to \(range.upperBound)"
    case .number(let range): "\(range.lowerBound) to \(range.upperBound)"
    case .flag: "true, false"
    case .choice(let names): names.map { "`\($0)`" }.joined(separator: ", ")
    case .model: "a model above"
    case .models: "models above"
    }
  }

  private static func defaultText(_ parameter: Hyperparameter) -> String {
    parameter.defaultValue.map { $0.json.string ?? $0.json.text } ?? "–"
  }

  private static func searched(_ parameter: Hyperparameter) -> String {
    switch parameter.search {
    case nil: "–"
    case .integers(let range, let logarithmic):
      "\(range.lowerBound)–\(range.upperBound)\(logarithmic ? ", log" : "")"
    case .numbers(let range, let logarithmic):
      "\(range.lowerBound)–\(range.upperBound)\(logarithmic ? ", log" : "")"
    case .options(let options):
      options.map { $0.json.string ?? $0.json.text }.joined(separator: ", ")
    }
  }
}
