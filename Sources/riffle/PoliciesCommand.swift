import ArgumentParser
import Domain
import Models
import Training

struct ListPolicies: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "policies",
    abstract: "List the kinds of models and their hyper-parameters.",
    discussion: """
      riffle policies                 what there is
      riffle policies item-knn        one of them, with every key
      riffle policies --markdown      the reference page
      """)

  @Argument(help: "A policy.")
  var name: String?

  @Flag(help: "Print the reference page of all policies.")
  var markdown = false

  func run() throws {
    if markdown { return printLine(PolicyReference.markdown) }
    guard let name else {
      let width = (Policies.names.map(\.count).max() ?? 0) + 2
      for policy in Policies.all.map({ $0.description }) {
        printLine(Terminal.padded(policy.name, width) + policy.summary)
      }
      return
    }
    if let absent = Policies.absent[name.lowercased()] {
      throw CommandFailure(
        .badInput,
        "error: There is no policy `\(name)` here.\n  help: The nearest is `\(absent.nearest)`: "
          + "\(absent.reason). `riffle policies \(absent.nearest)` has its keys.")
    }
    guard let policy = Policies.named(name) else {
      let near = nearestName(to: name, among: Policies.names).map { " Did you mean `\($0)`?" }
      throw CommandFailure(.badInput, "error: There is no policy `\(name)`.\(near ?? "")")
    }
    printLine(PolicyReference.text(policy.description))
  }
}
