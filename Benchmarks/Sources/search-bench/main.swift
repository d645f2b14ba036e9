// Question: how long does one search take, exact and partitioned, under filters, and what does it find?
//
// `search-bench FOLDER …` reads the files that `Benchmarks/search_data.py` writes and prints a line of
// JSON for each way of searching and each filter. Exact answers are checked against the float scan, the
// recall of the others is measured against it.
import Foundation
import Kernels
import VectorIndex

let arguments = Array(CommandLine.arguments.dropFirst())
guard let folder = arguments.first, !folder.hasPrefix("-") else {
  print(
    "usage: search-bench FOLDER [--count 100] [--width 64] [--ways floats,bytes,searcher]"
      + " [--shares 1,0.1,0.01,0.001] [--rounds 3] [--queries 256] [--lists 0] [--recall 0.98] [--kernels NAME]"
  )
  exit(2)
}
func option(_ name: String, _ fallback: String) -> String {
  guard let at = arguments.firstIndex(of: "--\(name)"), at + 1 < arguments.count else {
    return fallback
  }
  return arguments[at + 1]
}
func number(_ name: String, _ fallback: Int) -> Int { Int(option(name, "")) ?? fallback }

/// The numbers of a file, as they lie in it.
func read<Number>(_ name: String, as type: Number.Type) -> [Number] {
  let path = "\(folder)/\(name)"
  guard let file = fopen(path, "rb") else {
    print("cannot read \(path); Benchmarks/search_data.py writes it")
    exit(2)
  }
  defer { fclose(file) }
  fseek(file, 0, SEEK_END)
  let count = ftell(file) / MemoryLayout<Number>.stride
  rewind(file)
  return [Number](unsafeUninitializedCapacity: count) { buffer, found in
    found = fread(buffer.baseAddress, MemoryLayout<Number>.stride, count, file)
  }
}

/// Processor time, so that other programs' turns on the core do not count.
func seconds(_ body: () -> Void) -> Double {
  func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
  let start = now()
  body()
  return now() - start
}

/// Memory in use, in MiB.
func residentMebibytes() -> Int {
  let status = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
  let pages = status.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
  return pages * 4096 / 1_048_576
}

func show(_ values: [(String, String)]) {
  print("{" + values.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ") + "}")
  fflush(nil)
}
func rounded(_ value: Double, _ places: Int = 4) -> String {
  String(format: "%.\(places)f", value)
}

var environment = ProcessInfo.processInfo.environment
if option("kernels", "") != "" { environment["RIFFLE_KERNELS"] = option("kernels", "") }
guard let kernels = Kernels(environment: environment) else {
  print("these kernels cannot run here; available: \(Kernels.available)")
  exit(2)
}
let width = number("width", 64)
let count = number("count", 100)
let ways = option("ways", "floats,bytes,searcher").split(separator: ",").map(String.init)
let shares = option("shares", "1,0.1,0.01,0.001").split(separator: ",").map(String.init)

func vectors(_ name: String) -> [[Float]] {
  let all = read(name, as: Float.self)
  return stride(from: 0, to: all.count, by: width).map { Array(all[$0..<$0 + width]) }
}
let queries = Array(vectors("queries.f32").prefix(number("queries", 256)))
let before = residentMebibytes()
var loaded: [Float] = read("rows.f32", as: Float.self)
var made: ExactIndex?
let exactBuild = seconds { made = ExactIndex(vectors: loaded, width: width, kernels: kernels) }
loaded = []
guard let rows = made else { exit(1) }
show([
  ("way", "\"exact\""), ("rows", "\(rows.rowCount)"), ("build_s", rounded(exactBuild, 2)),
  ("resident_mib", "\(residentMebibytes() - before)"),
  ("kernels", "\"\(SearchKernels(kernels).name)\""),
])
var searcher = VectorSearcher(rows)
if ways.contains("searcher"), number("lists", 0) >= 0 {
  var settings = Partition.Settings()
  if number("lists", 0) > 0 { settings.listCount = number("lists", 0) }
  settings.recall = Double(option("recall", "")) ?? 0.98
  settings.count = count
  let held = residentMebibytes()
  let sample = vectors("sample.f32")
  var partition: Partition?
  let build = seconds {
    partition = Partition.make(of: rows, kernels: kernels, queries: sample, settings: settings)
  }
  guard let partition else { exit(1) }
  searcher.use(partition)
  let steps = partition.steps.map {
    "[\($0.depth), \($0.probes), \(rounded($0.recall))]"
  }.joined(separator: ", ")
  show([
    ("way", "\"partition\""), ("build_s", rounded(build, 2)),
    ("resident_mib", "\(residentMebibytes() - held)"), ("lists", "\(partition.listCount)"),
    ("steps", "[\(steps)]"),
  ])
}

if ways.contains("searcher") {
  // One row replaced while searches hold the state before, and again in memory that is its own by then.
  var shared: [Double] = []
  var own: [Double] = []
  var before: VectorSearcher?
  var changing = searcher
  for (number, query) in queries.enumerated() {
    let row = number * 7919 % rows.rowCount
    before = changing
    shared.append(seconds { changing.replace(row: row, with: query) })
    before = nil
    own.append(seconds { changing.replace(row: row, with: query) })
  }
  _ = before
  show([
    ("way", "\"update\""), ("shared_us", rounded(shared.sorted()[shared.count / 2] * 1e6, 1)),
    ("own_us", rounded(own.sorted()[own.count / 2] * 1e6, 1)),
  ])
}

for share in shares {
  let allowed = read("mask-\(share).u64", as: UInt64.self)
  let truth = queries.map { rows.nearest(to: $0, count: count, among: allowed, scan: .floats) }
  for way in ways {
    var times: [Double] = []
    var found = 0
    var method = way
    var stated = 1.0
    for round in 0..<number("rounds", 3) {
      for (query, expected) in zip(queries, truth) {
        var hits: [ExactIndex.Hit] = []
        times.append(
          seconds {
            switch way {
            case "floats", "bytes":
              hits = rows.nearest(
                to: query, count: count, among: allowed, scan: way == "bytes" ? .bytes : .floats)
            default:
              let answer = searcher.nearest(to: query, count: count, among: allowed)
              hits = answer.hits
              method = "\(answer.method)"
              stated = answer.recall
            }
          })
        guard hits.count == expected.count else {
          print("\(way), \(share): \(hits.count) rows instead of \(expected.count)")
          exit(1)
        }
        if round == 0 {
          found += Set(hits.map(\.row)).intersection(expected.map(\.row)).count
          if way != "searcher", hits != expected {
            print("\(way), \(share): not the answer of the float scan")
            exit(1)
          }
        }
      }
    }
    times.sort()
    let total = truth.reduce(0) { $0 + $1.count }
    show([
      ("way", "\"\(way)\""), ("share", share), ("method", "\"\(method)\""),
      ("p10_ms", rounded(times[times.count / 10] * 1000)),
      ("p50_ms", rounded(times[times.count / 2] * 1000)),
      ("p90_ms", rounded(times[times.count * 9 / 10] * 1000)),
      ("recall", rounded(total > 0 ? Double(found) / Double(total) : 1)),
      ("stated", rounded(stated)),
    ])
  }
}
