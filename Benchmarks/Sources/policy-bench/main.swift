// Question: how fast does a policy train here, and how good does it get?
//
// policy-bench FILE [--core N] [--threads N] POLICY [KEY=VALUE ...] [-- POLICY ...]
//
// FILE has a heading and lines of user, item and whatever follows, separated by tabs, each user's
// events in time order; with --times 1 the third column holds seconds. --notes 1 also prints what a
// search tried, --keep 1 keeps its trials in ./trials. One line of JSON for each policy: leave-one-out, full ranking, seen items
// removed, 95 % bootstrap intervals. A policy may name those before it as its parts.

import Domain
import Evaluation
import Foundation
import Kernels
import Models
import Neural
import Training

func fail(_ message: String) -> Never {
  FileHandle.standardError.write(Data("policy-bench: \(message)\n".utf8))
  exit(2)
}

/// Each user's items in order; with a core, users and items with fewer events are left out until
/// none is left.
func readEvents(_ path: String, core: Int, times readsTimes: Bool) -> SequenceDataset {
  guard let data = FileManager.default.contents(atPath: path) else { fail("no file \(path)") }
  var rows: [(user: Int, item: Int, time: Int)] = []
  var row = (0, 0, 0)
  var field = 0
  var isHeading = true
  for byte in data {
    switch byte {
    case 10:
      if !isHeading { rows.append(row) }
      isHeading = false
      row = (0, 0, 0)
      field = 0
    case 9: field += 1
    case 48...57:
      if field == 0 { row.0 = row.0 * 10 + Int(byte - 48) }
      if field == 1 { row.1 = row.1 * 10 + Int(byte - 48) }
      if field == 2 { row.2 = row.2 * 10 + Int(byte - 48) }
    default: break
    }
  }
  while core > 0 {
    var users: [Int: Int] = [:]
    var items: [Int: Int] = [:]
    for (user, item, _) in rows {
      users[user, default: 0] += 1
      items[item, default: 0] += 1
    }
    let kept = rows.filter {
      users[$0.user, default: 0] >= core && items[$0.item, default: 0] >= core
    }
    if kept.count == rows.count { break }
    rows = kept
  }
  let items = Set(rows.map(\.item)).sorted()
  let tokens = Dictionary(uniqueKeysWithValues: items.enumerated().map { ($1, ItemToken($0)) })
  var places: [Int: Int] = [:]
  var sequences: [[ItemToken]] = []
  var times: [[Timestamp]] = []
  for (user, item, time) in rows {
    guard let token = tokens[item] else { continue }
    let moment = Timestamp(secondsSinceEpoch: Double(time))
    if let place = places[user] {
      sequences[place].append(token)
      times[place].append(moment)
    } else {
      places[user] = sequences.count
      sequences.append([token])
      times.append([moment])
    }
  }
  return SequenceDataset(
    itemCount: items.count, sequences: sequences.filter { $0.count >= 3 },
    times: readsTimes ? times.filter { $0.count >= 3 } : nil)
}

/// Processor time of this process so far, all threads together.
func processorSeconds() -> Double { Double(clock()) / Double(CLOCKS_PER_SEC) }

/// The most memory that this process has had at once.
func peakMegabytes() -> Int {
  var usage = rusage()
  #if canImport(Glibc)
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss / 1000
  #else
    getrusage(RUSAGE_SELF, &usage)
    return usage.ru_maxrss / 1_000_000
  #endif
}

/// Trials as files of `./trials`.
struct TrialFiles: TrialStore {
  private func file(_ name: String) -> URL { URL(filePath: "trials/\(name)") }
  private func write(_ data: Data, _ name: String) {
    try? FileManager.default.createDirectory(atPath: "trials", withIntermediateDirectories: true)
    try? data.write(to: file(name), options: .atomic)
  }
  func trial(_ key: String) -> JSON? {
    (try? Data(contentsOf: file("\(key).json"))).flatMap { try? JSON(parsing: Array($0)) }
  }
  func weights(_ key: String) -> [UInt8]? {
    (try? Data(contentsOf: file("\(key).safetensors"))).map { Array($0) }
  }
  func keep(_ trial: JSON, _ key: String) { write(Data(trial.text.utf8), "\(key).json") }
  func keep(weights: [UInt8], _ key: String) { write(Data(weights), "\(key).safetensors") }
}

func value(_ text: String, _ parameter: Hyperparameter) -> Hyperparameter.Value? {
  switch parameter.kind {
  case .integer: Int(text).map { .integer($0) }
  case .number: Double(text).map { .number($0) }
  case .flag: Bool(text).map { .flag($0) }
  case .choice, .model: .text(text)
  case .models: .weights(text.split(separator: ",").map { .init(model: String($0), weight: nil) })
  }
}

var arguments = Array(CommandLine.arguments.dropFirst())
guard !arguments.isEmpty else { fail("usage: policy-bench FILE [options] POLICY [KEY=VALUE ...]") }
let path = arguments.removeFirst()
var core = 0
var threads = 1
var readsTimes = false
var showsNotes = false
var keepsTrials = false
while let first = arguments.first, first.hasPrefix("--") {
  arguments.removeFirst()
  guard let next = arguments.first, let number = Int(next) else { fail("\(first) needs a number") }
  arguments.removeFirst()
  switch first {
  case "--core": core = number
  case "--threads": threads = number
  case "--times": readsTimes = number != 0
  case "--notes": showsNotes = number != 0
  case "--keep": keepsTrials = number != 0
  default: fail("unknown option \(first)")
  }
}
guard let kernels = Kernels(environment: ProcessInfo.processInfo.environment) else {
  fail("RIFFLE_KERNELS names no kernels of this machine")
}
let dataset = readEvents(path, core: core, times: readsTimes)
let split = LeaveOneOut(dataset)
let set = TrainingSet(split)
var parts: [String: any Recommender] = [:]
let pool = WorkerPool(count: threads)
defer { pool.shutDown() }

for words in arguments.split(separator: "--") {
  guard let name = words.first, let policy = Policies.named(name) else {
    fail("unknown policy \(words.first ?? ""); policies: \(Policies.names.joined(separator: ", "))")
  }
  var settings = PolicySettings(policy.description)
  for word in words.dropFirst() {
    let pair = word.split(separator: "=", maxSplits: 1).map(String.init)
    guard pair.count == 2 else { fail("\(word) is no KEY=VALUE") }
    if pair[0] == "name" {
      settings.name = pair[1]
      continue
    }
    guard let parameter = policy.description.parameter(pair[0]),
      let value = value(pair[1], parameter), parameter.allows(value)
    else { fail("\(name) takes no \(word)") }
    settings[pair[0]] = value
  }
  var context = TrainingContext(threads: threads, kernels: kernels)
  context.parts = parts
  if keepsTrials { context.trials = TrialFiles() }
  do {
    let clock = ContinuousClock()
    let started = clock.now
    let processorBefore = processorSeconds()
    let trained = try policy.train(set, settings, context)
    let elapsed = clock.now - started
    let processor = processorSeconds() - processorBefore
    if showsNotes {
      for note in trained.notes { FileHandle.standardError.write(Data("\(note)\n".utf8)) }
    }
    parts[settings.name] = trained.model
    let validation = rankings(set.validation, by: trained.model, pool: pool)
    let test = rankings(split.cases(.test), by: trained.model, pool: pool)
    let recall = test.estimate(.recall, at: 10)
    let ndcg = test.estimate(.ndcg, at: 10)
    let line: JSON = [
      "model": .string(settings.name), "settings": settings.json,
      "users": .int(Int64(dataset.sequences.count)), "items": .int(Int64(dataset.itemCount)),
      "threads": .int(Int64(threads)),
      "seconds": .double(trained.secondsTraining),
      "seconds_in_all": .double(
        Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18),
      "processor_seconds": .double(processor), "megabytes_at_most": .int(Int64(peakMegabytes())),
      "validation_ndcg@10": .double(validation.mean(.ndcg, at: 10)),
      "recall@10": .double(recall.value), "recall_low": .double(recall.low),
      "recall_high": .double(recall.high), "ndcg@10": .double(ndcg.value),
      "ndcg_low": .double(ndcg.low), "ndcg_high": .double(ndcg.high),
      "summary": .string(trained.summary),
    ]
    print(line.text)
  } catch { fail("\(name): \(error)") }
}
