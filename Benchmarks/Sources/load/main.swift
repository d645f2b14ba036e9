import Foundation
import LoadTool

private let usage = """
  Sends requests to a server on this machine at a fixed rate and measures how long the answers take.

  usage: load --url http://127.0.0.1:PORT/PATH --rate PER_SECOND [options]

    --url URL           where to send; only 127.0.0.1 and localhost
    --rate R            requests a second
    --bodies FILE       request bodies, one JSON document a line, drawn at random
    --method METHOD     default POST with bodies, else GET
    --connections N     keep-alive connections, default 32
    --warm-up SECONDS   sent at the same rate and not measured, default 2
    --seconds SECONDS   measured, default 10; with the warm-up at most 600
    --timeout SECONDS   after sending after which a request counts as failed, default 5
    --seed N            which body goes when, default 1
    --json              one line of JSON
    --help              this text

  Latency runs from the moment a request is due, not from when it could be sent, so a stalled server
  is seen by every request that it kept waiting. Exit status: 0 where every answer was 2xx, 1 where
  some were not or failed, 2 where the run could not take place.
  """

private func stop(_ message: String) -> Never {
  FileHandle.standardError.write(Data((message + "\n").utf8))
  exit(2)
}

private func run() {
  var values: [String: String] = [:]
  var isJSON = false
  let known = [
    "--url", "--rate", "--bodies", "--method", "--connections", "--warm-up", "--seconds",
    "--timeout", "--seed",
  ]
  var arguments = CommandLine.arguments.dropFirst()
  while let name = arguments.popFirst() {
    if name == "--help" || name == "-h" {
      print(usage)
      exit(0)
    }
    if name == "--json" {
      isJSON = true
      continue
    }
    guard known.contains(name) else { stop("unknown option \(name)\n\n\(usage)") }
    guard let value = arguments.popFirst() else { stop("\(name) needs a value") }
    values[name] = value
  }
  func number(_ name: String, default fallback: Double) -> Double {
    guard let text = values[name] else { return fallback }
    guard let value = Double(text) else { stop("\(name) \(text): not a number") }
    return value
  }
  func count(_ name: String, default fallback: Int) -> Int {
    guard let text = values[name] else { return fallback }
    guard let value = Int(text), value >= 0 else { stop("\(name) \(text): not a whole number") }
    return value
  }
  guard let url = values["--url"], values["--rate"] != nil else {
    stop("--url and --rate are needed\n\n\(usage)")
  }
  var bodies: [[UInt8]] = []
  if let path = values["--bodies"] {
    guard let data = FileManager.default.contents(atPath: path) else {
      stop("--bodies \(path): cannot be read")
    }
    bodies = data.split(separator: 10).map { Array($0) }
    if bodies.isEmpty { stop("--bodies \(path): holds no line") }
  }
  do throws(LoadPlan.Invalid) {
    let plan = try LoadPlan(
      url: url, method: values["--method"] ?? (bodies.isEmpty ? "GET" : "POST"), bodies: bodies,
      rate: number("--rate", default: 0), connections: count("--connections", default: 32),
      warmUp: number("--warm-up", default: 2), seconds: number("--seconds", default: 10),
      timeout: number("--timeout", default: 5), seed: UInt64(count("--seed", default: 1)))
    do throws(LoadFailure) {
      let report = try LoadRun(plan).run()
      print(isJSON ? report.json : report.text)
      exit(report.non2xx + report.failed == 0 ? 0 : 1)
    } catch {
      stop(error.message)
    }
  } catch {
    stop(error.description)
  }
}

run()
