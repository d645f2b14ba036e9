import ArgumentParser
import Domain
import Foundation

struct DeadLetters: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dead-letters",
    abstract: "Look at records that did not fit, send them in again, or drop them.",
    discussion: """
      A record that does not fit its table is kept as it came, with the reason and its place in the \
      source. Mend the table (`riffle update-table`) or the source, then replay: what fits now goes \
      in, the rest stays.
      """,
    subcommands: [List.self, Show.self, Replay.self, Drop.self], defaultSubcommand: List.self)

  /// Which dead letters a command is about.
  struct Choice: ParsableArguments {
    @Option(help: "Only those of this table.")
    var tableName: String?

    @Option(help: "Only those of this source, such as http or a connector's name.")
    var source: String?

    @Option(help: "Only those of this reason, such as type_mismatch.")
    var code: String?

    func path(_ path: String, _ more: [(String, String)] = []) -> String {
      let pairs =
        [("table", tableName), ("source", source), ("code", code)].compactMap { name, value in
          value.map { (name, $0) }
        } + more
      if pairs.isEmpty { return path }
      return path + "?" + pairs.map { "\($0)=\(escaped($1))" }.joined(separator: "&")
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List dead letters, oldest first, after a count by table and reason.")

    @OptionGroup var choice: Choice

    @Option(help: "At most so many.")
    var limit = 20

    @Option(help: "Only letters with a larger number.")
    var after = 0

    @OptionGroup var connection: ConnectionOptions

    func validate() throws {
      guard (1...1000).contains(limit) else {
        throw ValidationError("--limit is \(limit); give 1 to 1000.")
      }
    }

    func run() async throws {
      let connection = try connection.open()
      defer { connection.close() }
      let letters = try await connection.call(
        "GET",
        choice.path(
          "/v2/dead-letters", [("limit", String(limit)), ("after", String(after))]))
      if self.connection.json {
        print(letters.text)
        return
      }
      let ofTable = choice.tableName.map { "?table=\(escaped($0))" } ?? ""
      let counts = try await connection.call("GET", "/v2/dead-letters/counts" + ofTable)
      for count in counts["counts"]?.array ?? [] {
        print(
          "\(Terminal.grouped(Int(count["count"]?.int ?? 0)))  \(count["table"]?.string ?? "")  "
            + "\(count["code"]?.string ?? "")  from \(count["source"]?.string ?? "")")
      }
      if (counts["total"]?.int ?? 0) == 0 { print("There are no dead letters.") }
      for letter in letters["dead_letters"]?.array ?? [] {
        let reason = letter["reason"]?.string?.split(separator: "\n").first ?? ""
        print(
          "\(letter["id"]?.int ?? 0)  \(letter["at"]?.string ?? "")  "
            + "\(letter["table"]?.string ?? "")  \(reason)")
      }
      if let next = letters["next_after"]?.int { print("More: --after \(next)") }
    }
  }

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show one dead letter with all that is wrong and its own bytes.")

    @Argument(help: "The letter's number.")
    var id: Int

    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      let connection = try connection.open()
      defer { connection.close() }
      let letter = try await connection.call("GET", "/v2/dead-letters/\(id)")
      if self.connection.json {
        print(letter.text)
        return
      }
      print("table     \(letter["table"]?.string ?? "")")
      print("source    \(letter["source"]?.string ?? ""), at \(letter["position"]?.text ?? "null")")
      print("came      \(letter["at"]?.string ?? "")")
      print(letter["reason"]?.string ?? "")
      print(letter["raw"]?.string ?? letter["raw_base64"]?.string ?? "")
    }
  }

  struct Replay: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Send dead letters in again; those that fit now become rows.")

    @OptionGroup var choice: Choice

    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      let connection = try connection.open()
      defer { connection.close() }
      let answer = try await connection.call("POST", choice.path("/v2/dead-letters/replay"))
      print(self.connection.json ? answer.text : answer["message"]?.string ?? answer.text)
      if self.connection.json { return }
      for problem in answer["problems"]?.array ?? [] { print(problem["text"]?.string ?? "") }
    }
  }

  struct Drop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Throw dead letters away for good.")

    @OptionGroup var choice: Choice

    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      let connection = try connection.open()
      defer { connection.close() }
      let answer = try await connection.call("DELETE", choice.path("/v2/dead-letters"))
      print(self.connection.json ? answer.text : answer["message"]?.string ?? answer.text)
    }
  }
}

struct Alerts: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List changes in the shape of what comes in, seen within a day.")

  @Option(help: "Only those of this table.")
  var tableName: String?

  @Flag(help: "Take the table's alerts off the list.")
  var clear = false

  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if clear, tableName == nil { throw ValidationError("--clear needs --table-name.") }
  }

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let path = tableName.map { "/v2/tables/\(escaped($0))/alerts" } ?? "/v2/alerts"
    let answer = try await connection.call(clear ? "DELETE" : "GET", path)
    if self.connection.json || clear {
      print(self.connection.json ? answer.text : answer["message"]?.string ?? answer.text)
      return
    }
    let alerts = answer["alerts"]?.array ?? []
    if alerts.isEmpty { print("Nothing has changed its shape within a day.") }
    for alert in alerts {
      print(
        "\(alert["last_seen"]?.string ?? "")  \(alert["kind"]?.string ?? "")  "
          + "\(alert["message"]?.string ?? "")")
    }
  }
}

struct DeleteUser: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Erase everything that is kept under a user's id.",
    discussion: """
      Rows, dead letters, stored states and the copies that deleting leaves on the disk. Published \
      models stay until the next training, which does not see the user.
      """)

  @Option(help: "The user's id, as it stands in the tables.")
  var userId: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("DELETE", "/v2/users/\(escaped(userId))")
    if self.connection.json {
      print(answer.text)
      return
    }
    print(answer["message"]?.string ?? answer.text)
    for engine in answer["engines_to_retrain"]?.array ?? [] {
      print("The model of `\(engine.string ?? "")` learned from these rows; train it again.")
    }
  }
}

struct ExportUser: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print everything that is kept under a user's id, as JSON.")

  @Option(help: "The user's id, as it stands in the tables.")
  var userId: String

  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    let connection = try connection.open()
    defer { connection.close() }
    let answer = try await connection.call("GET", "/v2/users/\(escaped(userId))/export")
    print(self.connection.json ? answer.text : answer.prettyText)
  }
}
