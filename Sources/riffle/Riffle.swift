import ArgumentParser
import Domain
import Foundation

/// `riffle` is the command line: it reads arguments and files, calls the API, and prints. It decides
/// nothing that another client could not decide as well.
struct Riffle: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "riffle",
    abstract: "A real-time retrieval database for sequential recommendation.",
    discussion: """
      Tables take in events, a YAML file declares an engine, Riffle trains a sequence model, and a \
      query returns the next items for a user, under hard filters, milliseconds after the last event.

      Start with `riffle demo`, which makes a small world of short videos and serves it.

      Commands that name no --data-dir talk to the server at --url (default http://127.0.0.1:8080). \
      With --data-dir they open the directory themselves, which only works while no server does.

      EXIT CODES
        0  done
        1  failed: the server or the disk reported a fault, or a check did not hold
        2  the command line, a file, a row or a query is wrong; where a part was done before, the
           message says so
        3  not found: no such table, engine, query or file, or no server answers
      """,
    version: RiffleVersion.text,
    subcommands: [
      Demo.self, Serve.self, CreateTable.self, UpdateTable.self, TableInsert.self, ListTables.self,
      ViewTable.self, DeleteTable.self, DeadLetters.self, Alerts.self, DeleteUser.self,
      ExportUser.self,
      CreateView.self, UpdateView.self, ListViews.self, ViewView.self, DeleteView.self,
      CreateEngine.self, ListEngines.self, ViewEngine.self, DeleteEngine.self, Train.self,
      QueryCommand.self,
      Evaluate.self, Report.self, Ablate.self, Tune.self, ListPolicies.self, Sources.self,
      Doctor.self, SelfTest.self,
    ])
}

enum RiffleVersion {
  static let text = "0.1.0"
}

/// What a process tells its caller; the help text lists them.
enum ExitStatus: Int32 {
  case failed = 1
  case badInput = 2
  case notFound = 3

  init(_ kind: Diagnostic.Kind) {
    switch kind {
    case .invalid, .conflict, .unauthorized: self = .badInput
    case .notFound: self = .notFound
    case .unavailable, .overloaded, .internalError: self = .failed
    }
  }
}

/// A failure with its text, ready to print.
struct CommandFailure: Error {
  var status: ExitStatus
  var text: String
  /// The same for `--json`.
  var json: JSON

  init(_ status: ExitStatus, _ text: String) {
    self.status = status
    self.text = text
    json = ["message": .string(text)]
  }

  init(_ problems: Diagnostics) {
    status = ExitStatus(problems.kind)
    text = problems.description
    json = [
      "message": .string(problems.all.map(\.message).joined(separator: "\n")),
      "diagnostics": .array(
        problems.all.map { ["code": .string($0.code), "text": .string($0.description)] }),
    ]
  }
}

@main enum Main {
  static func main() async {
    // A reader that closes its pipe, such as `head`, is no reason to be ended by a signal.
    signal(SIGPIPE, SIG_IGN)
    let arguments = Array(CommandLine.arguments.dropFirst())
    do {
      var command = try Riffle.parseAsRoot(arguments)
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      exit(report(error, asJSON: arguments.contains("--json")))
    }
  }

  private static func report(_ error: any Error, asJSON: Bool) -> Int32 {
    let failure: CommandFailure
    switch error {
    case let error as CommandFailure: failure = error
    case let error as Diagnostics: failure = CommandFailure(error)
    case let error as Diagnostic: failure = CommandFailure(Diagnostics(error))
    case let error as ExitCode: return error.rawValue
    default:
      let code = Riffle.exitCode(for: error)
      if code == .success {
        print(Riffle.fullMessage(for: error))
        return 0
      }
      let isUsage = code == .validationFailure
      failure = CommandFailure(
        isUsage ? .badInput : .failed,
        isUsage ? Riffle.fullMessage(for: error) : "error: \(error)")
    }
    Terminal.standardError(asJSON ? failure.json.text : failure.text)
    return failure.status.rawValue
  }
}
