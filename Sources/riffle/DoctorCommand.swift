import ArgumentParser
import Domain
import Engine
import Foundation
import HTTPAPI

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a data directory and this machine.",
    discussion: """
      Looks at the directory, its lock, the database's integrity, the free disk, the limit of open \
      files, the kernels for this processor, and every engine. Changes nothing. Exit code 1 where \
      something is wrong.
      """)

  @Option(help: ArgumentHelp("The data directory.", valueName: "directory"))
  var dataDir = "riffle-data"

  @Flag(help: "Print JSON for programs.")
  var json = false

  func run() async throws {
    let findings = Examination.examine(dataDir)
    if json {
      print(
        JSON.array(
          findings.map {
            [
              "check": .string($0.check), "verdict": .string($0.verdict.rawValue),
              "detail": .string($0.detail), "help": $0.help.map { .string($0) } ?? .null,
            ]
          }
        ).text)
    } else {
      for finding in findings {
        let mark =
          switch finding.verdict {
          case .good: "ok   "
          case .warning: "warn "
          case .bad: "FAIL "
          }
        print("\(mark) \(Terminal.padded(finding.check, 12)) \(finding.detail)")
        if let help = finding.help { print("                   help: \(help)") }
      }
    }
    if findings.contains(where: { $0.verdict == .bad }) {
      throw ExitCode(ExitStatus.failed.rawValue)
    }
  }
}
