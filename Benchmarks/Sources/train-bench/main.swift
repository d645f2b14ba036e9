// Question: how fast does a SASRec train on this machine, and how good does it get?
//
// `train-bench speed …` times optimiser steps on random users, as `sasrec.py --bench` of the baseline
// programs does; `train-bench train …` trains to the end and judges on the test events. Both print
// one line of JSON with their settings.
import Domain
import Evaluation
import Foundation
import Kernels
import Models
import Neural
import Training

let arguments = Array(CommandLine.arguments.dropFirst())
guard let mode = arguments.first, ["speed", "train", "kernels"].contains(mode) else {
  print(
    "usage: train-bench speed|train|kernels --data FILE.tsv[.gz] [--policy sasrec|gsasrec|bert4rec|esasrec|hstu|gru4rec|laclrec] [--threads 1] [--d 64] [--heads 2] [--mult 4]"
      + " [--act gelu] [--maxlen 200] [--dropout 0.2] [--batch 128] [--lr 0.001] [--steps 20]"
      + " [--epochs 60] [--patience 10] [--seed 1] [--item-min 0] [--pass 1000] [--loss ce|ss|gbce|bce|bpr] [--negatives 256]"
      + " [--sharing pass|sequence] [--popularity 0] [--older 0] [--ema 0.999] [--clip 1] [--kernels NAME] [--precision float32|bfloat16]"
      + " [--times yes] [--mask 0.2] [--newest 0.1] [--separate yes] [--temperature 0.05] [--deviation 0.02] [--stage1 10] [--contrast 0.1] [--triplet 0.02] [--unordered yes]"
  )
  exit(2)
}
func option(_ name: String, _ fallback: String) -> String {
  guard let at = arguments.firstIndex(of: "--\(name)"), at + 1 < arguments.count else {
    return fallback
  }
  return arguments[at + 1]
}
func number(_ name: String, _ fallback: Double) -> Double {
  Double(option(name, String(fallback))) ?? fallback
}

/// Reads `user TAB item TAB seconds …` rows, grouped by user in time order; the third column counts
/// where `--times` is given.
func readSequences(_ path: String, itemMinimum: Int) throws -> SequenceDataset {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/bin/sh")
  process.arguments = ["-c", path.hasSuffix(".gz") ? "gzip -dc \"$0\"" : "cat \"$0\"", path]
  let pipe = Pipe()
  process.standardOutput = pipe
  try process.run()
  let data = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  var rows: [(user: Int, item: Int, time: Int)] = []
  for line in data.split(separator: 10).dropFirst() {
    let cells = line.split(separator: 9)
    guard cells.count >= 2, let user = Int(String(decoding: cells[0], as: UTF8.self)),
      let item = Int(String(decoding: cells[1], as: UTF8.self))
    else { continue }
    let time = cells.count > 2 ? Int(String(decoding: cells[2], as: UTF8.self)) : nil
    rows.append((user, item, time ?? 0))
  }
  while itemMinimum > 0 {
    var items: [Int: Int] = [:]
    var users: [Int: Int] = [:]
    for row in rows {
      items[row.item, default: 0] += 1
      users[row.user, default: 0] += 1
    }
    let kept = rows.filter {
      items[$0.item, default: 0] >= itemMinimum && users[$0.user, default: 0] >= itemMinimum
    }
    if kept.count == rows.count { break }
    rows = kept
  }
  let names = Set(rows.map(\.item)).sorted()
  let tokens = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, ItemToken($0)) })
  var sequences: [[ItemToken]] = []
  var times: [[Timestamp]] = []
  var last: Int?
  for row in rows {
    if row.user != last {
      sequences.append([])
      times.append([])
    }
    last = row.user
    if let token = tokens[row.item] {
      sequences[sequences.count - 1].append(token)
      times[times.count - 1].append(Timestamp(microsecondsSinceEpoch: Int64(row.time) * 1_000_000))
    }
  }
  return SequenceDataset(
    itemCount: names.count, sequences: sequences, times: option("times", "") == "" ? nil : times)
}

var environment = ProcessInfo.processInfo.environment
if option("kernels", "") != "" { environment["RIFFLE_KERNELS"] = option("kernels", "") }
guard let kernels = Kernels(environment: environment) else {
  print("these kernels cannot run here; available: \(Kernels.available)")
  exit(2)
}
if mode == "kernels" {
  KernelBench(kernels: kernels).run()
  exit(0)
}
let dataset = try readSequences(option("data", ""), itemMinimum: Int(number("item-min", 0)))
let split = LeaveOneOut(dataset)
guard let kind = NeuralKind(rawValue: option("policy", "sasrec")) else {
  print("no policy \(option("policy", "")); there are \(NeuralKind.allCases.map(\.rawValue))")
  exit(2)
}
var configuration = NeuralConfiguration(kind, itemCount: dataset.itemCount)
configuration.width = Int(number("d", 64))
configuration.heads = Int(number("heads", 2))
configuration.blocks = Int(number("blocks", 2))
configuration.innerWidth =
  Int(number("mult", kind == .gru4rec ? 2 : 4)) * configuration.width
configuration.separatesOutput = option("separate", "") != ""
configuration.usesTimes = dataset.times != nil && kind == .hstu
configuration.temperature = Float(number("temperature", 0.05))
configuration.maximumLength = Int(number("maxlen", 200))
configuration.activation = Activation(rawValue: option("act", "gelu")) ?? .gelu
var options = TrainingOptions()
options.epochs = Int(number("epochs", 60))
options.batchSize = Int(number("batch", 128))
options.learningRate = Float(number("lr", 1e-3))
options.schedule = TrainingOptions.Schedule(rawValue: option("schedule", "constant")) ?? .constant
options.warmUpSteps = Int(number("warmup", 0))
options.weightDecay = Float(number("wd", 0))
options.dropout = Float(number("dropout", 0.2))
options.olderWindows = Float(number("older", 0))
options.averaging = option("ema", "") == "" ? nil : Float(number("ema", 0.999))
options.gradientNormAtMost = option("clip", "") == "" ? nil : Float(number("clip", 1))
let negatives = Int(number("negatives", 256))
let sharing = NegativeSharing(rawValue: option("sharing", "pass")) ?? .pass
switch option("loss", "ce") {
case "ss":
  options.loss = .sampled(
    .softmax, negatives: negatives, sharing: sharing, popularity: number("popularity", 0))
case "gbce":
  options.loss = .sampled(
    .binary(calibration: Float(number("t", 0.75))), negatives: negatives, sharing: sharing)
case "bce":
  options.loss = .sampled(.binary(calibration: 0), negatives: negatives, sharing: sharing)
case "bpr": options.loss = .sampled(.pairwise, negatives: negatives, sharing: sharing)
default: break
}
options.precision = Precision(rawValue: option("precision", ""))
options.maskedShare = Float(number("mask", 0.2))
options.onlyNewestMasked = Float(number("newest", 0.1))
options.alterations.augmenterEpochs = Int(number("stage1", 10))
options.alterations.contrast = Float(number("contrast", 0.1))
options.alterations.triplet = Float(number("triplet", 0.02))
options.alterations.keepsOrder = option("unordered", "") == ""
options.initialDeviation = Float(number("deviation", 0.02))
options.seed = UInt64(number("seed", 1))
options.threads = Int(number("threads", 1))
options.patience = Int(number("patience", 10))
options.validateEvery = Int(number("every", 1))
options.tokensPerPass = Int(number("pass", 1000))
let trainer = Trainer(
  training: split.training,
  times: dataset.times?.enumerated().map { user, times in
    dataset.sequences[user].count >= 3 ? Array(times.dropLast(2)) : times
  }, configuration: configuration, options: options, kernels: kernels)

func peakMegabytes() -> Int {
  let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
  let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM") } ?? ""
  return (line.split(separator: " ").dropLast().last.flatMap { Int($0) } ?? 0) / 1024
}
let settings =
  "\"policy\":\"\(kind.rawValue)\",\"kernels\":\"\(kernels.name)\",\"precision\":\"\(trainer.precision.rawValue)\",\"threads\":\(options.threads),\"users\":\(split.users.count),"
  + "\"items\":\(dataset.itemCount),\"d\":\(configuration.width),\"heads\":\(configuration.heads),"
  + "\"inner\":\(configuration.innerWidth ?? 0),\"maxlen\":\(configuration.maximumLength),"
  + "\"train_tokens\":\(trainer.tokensPerEpoch)"

if mode == "speed" {
  let steps = Int(number("steps", 20))
  let clock = ContinuousClock()
  var times: [Double] = []
  var tokens = 0
  for index in 0..<steps + 5 {
    let users = trainer.nextOrder().prefix(options.batchSize)
    let started = clock.now
    let done = trainer.step(users)
    guard index >= 5 else { continue }
    let elapsed = clock.now - started
    times.append(
      Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18)
    tokens += done.tokens
  }
  let total = times.reduce(0, +)
  times.sort()
  print(
    "{\(settings),\"step_ms_median\":\(times[times.count / 2] * 1e3),"
      + "\"tokens_per_s\":\(Double(tokens) / total),\"peak_mb\":\(peakMegabytes())}")
} else {
  var lastEpoch = 0
  let result = try trainer.run(validating: split.cases(.validation)) { progress in
    if let ndcg = progress.validationNDCG, progress.epoch != lastEpoch {
      lastEpoch = progress.epoch
      FileHandle.standardError.write(
        Data(
          "epoch \(progress.epoch) loss \(progress.loss) tokens/s \(Int(progress.tokensPerSecond)) val NDCG@10 \(ndcg) \(Int(progress.secondsElapsed)) s\n"
            .utf8))
    }
    return true
  }
  let model: any VectorRecommender = kind == .sasrec ? result.model : result.neural
  let report = evaluate(model, name: kind.rawValue, on: split, threads: options.threads)
  // As queries encode where the processor multiplies bfloat16.
  let served = (model.encoding(in: .bfloat16) as? any VectorRecommender).map {
    evaluate($0, name: kind.rawValue + " in bfloat16", on: split, threads: options.threads).lines
  }
  for line in report.lines + (served?.prefix(1) ?? []) {
    let recall = line.result.recallEstimate(at: 10)
    let ndcg = line.result.ndcgEstimate(at: 10)
    print(
      "{\"model\":\"\(line.name)\",\"recall@10\":\(recall.value),\"recall_low\":\(recall.low),\"recall_high\":\(recall.high),"
        + "\"ndcg@10\":\(ndcg.value),\"ndcg_low\":\(ndcg.low),\"ndcg_high\":\(ndcg.high)}")
  }
  print(
    "{\(settings),\"seed\":\(options.seed),\"best_epoch\":\(result.bestEpoch),\"epochs\":\(result.epochs.count),"
      + "\"train_s\":\(result.secondsTraining),\"validate_s\":\(result.secondsValidating),"
      + "\"tokens_per_s\":\(result.tokensPerSecond),\"peak_mb\":\(peakMegabytes())}")
}
