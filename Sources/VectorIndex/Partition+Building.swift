package import Kernels
import Neural

extension Partition {
  package struct Settings: Hashable, Sendable {
    /// Lists; by default the square root of the number of rows. On a million weakly clustered rows twice
    /// and four times as many made searches 15 and 25 % slower and took two and four times as long to
    /// make.
    package var listCount: Int?
    /// The share of the true answer that a search shall find on average. The probes are chosen so that
    /// the average found lies two standard errors above it.
    package var recall = 0.98
    /// The rows that a usual search asks for.
    package var count = 100
    /// Queries to measure the recall with; rows stand in for queries that are not given.
    package var sampledQueries = 256
    /// Rounds of moving the centres.
    package var rounds = 8
    /// Rows for each list to find its centre with.
    package var sampledRowsPerList = 64
    package var seed: UInt64 = 1

    package init() {}
  }

  /// Makes a partition of an index's rows.
  ///
  /// Centres come from Lloyd's algorithm on the directions of a sample of rows (spherical k-means,
  /// Dhillon & Modha 2001); then every row goes to the centre of greatest cosine. The probes come from
  /// the exact rankings of half of the sampled queries, the stated recall from those of the other half.
  /// Equal arguments give an equal partition.
  ///
  /// - Parameters:
  ///   - rows: finite, at least one.
  ///   - queries: such as will be asked, `[width]` each.
  ///   - goesOn: is told the share of the work done, now and then; false stops the work.
  /// - Returns: nil if it was stopped.
  /// - Complexity: for `N` rows and `L` lists, `N · L · width` multiplications; about 4 s for a million rows
  ///   of 64
  ///   on one core.
  package static func make(
    of rows: ExactIndex, kernels: Kernels, queries: [[Float]] = [], settings: Settings = Settings(),
    goesOn: (_ share: Double) -> Bool = { _ in true }
  ) -> Partition? {
    precondition(rows.rowCount > 0 && rows.isFinite, "a partition needs rows, and finite ones")
    precondition(settings.count > 0 && settings.recall > 0 && settings.recall <= 1)
    let listCount = max(
      1,
      min(
        rows.rowCount,
        settings.listCount ?? Int(Double(rows.rowCount).squareRoot().rounded())))
    var builder = Builder(
      rows: rows, kernels: kernels, listCount: listCount, settings: settings,
      generator: SplitMix64(seed: settings.seed))
    guard builder.train(goesOn: { goesOn(0.4 * $0) }),
      let places = builder.assign(goesOn: { goesOn(0.4 + 0.35 * $0) })
    else { return nil }

    var sizes = [Int](repeating: 0, count: listCount)
    for place in places { sizes[Int(place)] += 1 }
    var next = sizes.indices.map { _ in 0 }
    var sum = 0
    for list in sizes.indices {
      next[list] = sum
      sum += sizes[list]
    }
    var ids = [Int32](repeating: 0, count: rows.rowCount)
    for row in places.indices {
      ids[next[Int(places[row])]] = Int32(row)
      next[Int(places[row])] += 1
    }
    let means = ExactIndex(
      vectors: builder.means(places, sizes), width: rows.width, kernels: rows.kernels)
    let samples = builder.samples(queries)
    guard
      let steps = builder.steps(
        places, means, samples, goesOn: { goesOn(0.75 + 0.25 * $0) })
    else { return nil }
    return Partition(
      rows: rows, means: means, ids: ids, sizes: sizes, steps: steps, target: settings.recall,
      sampledQueries: samples.count, seed: settings.seed,
      fingerprint: rows.fingerprint(rows: rows.rowCount))
  }
}

/// The work of making a partition.
private struct Builder {
  let rows: ExactIndex
  let kernels: Kernels
  let listCount: Int
  let settings: Partition.Settings
  var generator: SplitMix64
  /// Directions, `[lists, width]`.
  var centres: [Float] = []

  /// Rows that are compared with all centres at a time: their scores stay in the cache.
  static let block = 64

  /// Moves the centres, round by round. False if it was stopped.
  mutating func train(goesOn: (Double) -> Bool) -> Bool {
    let width = rows.width
    let sampled = min(rows.rowCount, listCount * settings.sampledRowsPerList)
    let sample = Buffer(count: sampled * width)
    for i in 0..<sampled {
      let from = i * rows.rowCount / sampled
      let to = (i + 1) * rows.rowCount / sampled
      let row = Int.random(in: from..<to, using: &generator)
      rows.withVector(at: row) { write(direction: $0, to: sample.pointer + i * width) }
    }
    centres = []
    for list in 0..<listCount {
      let from = list * sampled / listCount
      let to = (list + 1) * sampled / listCount
      let row = Int.random(in: from..<to, using: &generator)
      centres += UnsafeBufferPointer(start: sample.pointer + row * width, count: width)
    }
    for round in 0..<settings.rounds {
      let sums = Buffer(count: listCount * width)
      var sizes = [Int](repeating: 0, count: listCount)
      let wasStopped = !forEachBlock(of: sampled) { start, count, compare in
        compare(sample.pointer + start * width, width) { places in
          for i in 0..<count {
            let list = Int(places[i])
            sizes[list] += 1
            kernels.add(
              1, times: sample.pointer + (start + i) * width, to: sums.pointer + list * width,
              count: width)
          }
        }
        return goesOn(
          (Double(round) + Double(start) / Double(sampled)) / Double(settings.rounds))
      }
      if wasStopped { return false }
      let directions = Buffer(count: listCount * width)
      for list in 0..<listCount {
        // A centre that no row chose starts again at a random row.
        let source =
          sizes[list] > 0
          ? sums.pointer + list * width
          : sample.pointer + Int.random(in: 0..<sampled, using: &generator) * width
        write(
          direction: UnsafeBufferPointer(start: source, count: width),
          to: directions.pointer + list * width)
      }
      centres = directions.array
    }
    return true
  }

  private func write(
    direction vector: UnsafeBufferPointer<Float>, to out: UnsafeMutablePointer<Float>
  ) {
    // In double, so that neither huge nor tiny rows lose their direction.
    let size = vector.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    for i in vector.indices { out[i] = size > 0 ? Float(Double(vector[i]) / size) : 0 }
  }

  /// The list of every row, or nil if it was stopped.
  func assign(goesOn: (Double) -> Bool) -> [Int32]? {
    var lists = [Int32](repeating: 0, count: rows.rowCount)
    let stride = rows.floatStride
    let wentOn = forEachBlock(of: rows.rowCount) { start, count, compare in
      // Blocks divide chunks, so a block's rows stand side by side.
      rows.withVector(at: start) { first in
        if let first = first.baseAddress {
          compare(first, stride) { places in
            for i in 0..<count { lists[start + i] = places[i] }
          }
        }
      }
      return goesOn(Double(start) / Double(rows.rowCount))
    }
    return wentOn ? lists : nil
  }

  /// Calls the body for each block of rows with a function that finds the nearest centre for each row of
  /// it. Stops where the body returns false, and then returns false.
  private func forEachBlock(
    of count: Int,
    _ body: (
      _ start: Int, _ count: Int,
      _ compare: (UnsafePointer<Float>, _ stride: Int, (UnsafePointer<Int32>) -> Void) -> Void
    ) -> Bool
  ) -> Bool {
    let width = rows.width
    let packed = Buffer(count: kernels.packedCount(columns: listCount, depth: width))
    kernels.pack(
      centres, stride: width, transposed: true, columns: listCount, depth: width,
      into: packed.pointer)
    let scores = Buffer(count: Self.block * listCount)
    var places = [Int32](repeating: 0, count: Self.block)
    var values = [Float](repeating: 0, count: Self.block)
    for start in stride(from: 0, to: count, by: Self.block) {
      let here = min(Self.block, count - start)
      let goesOn = body(start, here) { first, stride, found in
        kernels.multiplyPacked(
          rows: here, columns: listCount, depth: width, first, rowStride: stride, packed.pointer,
          into: scores.pointer, stride: listCount)
        rows.kernels.greatest(
          rows: here, columns: listCount, scores.pointer, stride: listCount, places: &places,
          values: &values)
        found(places)
      }
      if !goesOn { return false }
    }
    return true
  }

  /// The mean row of each list, `[lists, width]`; zeros for an empty list.
  func means(_ places: [Int32], _ sizes: [Int]) -> [Float] {
    let width = rows.width
    var sums = [Double](repeating: 0, count: listCount * width)
    for row in places.indices {
      let at = Int(places[row]) * width
      rows.withVector(at: row) { vector in
        for i in 0..<width { sums[at + i] += Double(vector[i]) }
      }
    }
    return sums.indices.map { Float(sums[$0] / Double(max(1, sizes[$0 / width]))) }
  }

  /// The queries to measure with.
  mutating func samples(_ queries: [[Float]]) -> [[Float]] {
    let wanted = max(2, settings.sampledQueries)
    var samples = Array(queries.filter { rows.bytesHold($0) }.prefix(wanted))
    while samples.count < wanted {
      samples.append(
        rows.vector(at: Int.random(in: 0..<rows.rowCount, using: &generator)))
    }
    samples.shuffle(using: &generator)
    return samples
  }

  /// Finds the probes for each depth, or nil if it was stopped.
  func steps(
    _ places: [Int32], _ means: ExactIndex, _ samples: [[Float]], goesOn: (Double) -> Bool
  ) -> [Partition.Step]? {
    let allRows = everyRow(rows.rowCount)
    let allLists = everyRow(listCount)
    var depths: [Int] = []
    for factor in [1, 2, 4, 8, 16, 32, 64] {
      // Beyond a quarter of the rows a partition saves nothing.
      let depth = settings.count * factor
      if depth <= rows.rowCount / 4 || factor == 1 { depths.append(min(depth, rows.rowCount)) }
    }
    let deepest = depths[depths.count - 1]
    // For each query the rank of the list of each row of its ranking.
    var listRanks: [[Int32]] = []
    var ranks = [Int32](repeating: 0, count: listCount)
    for query in samples {
      for (rank, hit) in means.nearest(to: query, count: listCount, among: allLists).enumerated() {
        ranks[hit.row] = Int32(rank)
      }
      listRanks.append(
        rows.nearest(to: query, count: deepest, among: allRows).map { ranks[Int(places[$0.row])] })
      guard goesOn(Double(listRanks.count) / Double(samples.count)) else { return nil }
    }
    let half = (samples.count + 1) / 2
    var steps: [Partition.Step] = []
    for depth in depths {
      var probes = steps.last?.probes ?? 1
      var beyond = listCount
      while probes < beyond {
        let middle = (probes + beyond) / 2
        let (mean, error) = Self.recall(listRanks[..<half], depth: depth, probes: middle)
        if mean - 2 * error >= settings.recall { beyond = middle } else { probes = middle + 1 }
      }
      // The other half was not chosen by, so it may tell the recall; where it falls short of the target,
      // some more probes mend that.
      var stated = Self.recall(listRanks[half...], depth: depth, probes: probes).mean
      while stated < settings.recall, probes < listCount {
        probes += max(1, probes / 16)
        probes = min(probes, listCount)
        stated = Self.recall(listRanks[half...], depth: depth, probes: probes).mean
      }
      steps.append(Partition.Step(depth: depth, probes: probes, recall: stated))
    }
    return steps
  }

  /// The share of the first `depth` rows whose list is among the first `probes`: its mean over some
  /// queries, and the mean's standard error.
  private static func recall(
    _ listRanks: ArraySlice<[Int32]>, depth: Int, probes: Int
  ) -> (mean: Double, error: Double) {
    var sum = 0.0
    var squares = 0.0
    for ranks in listRanks {
      let share = Double(ranks.prefix(depth).count { $0 < Int32(probes) }) / Double(depth)
      sum += share
      squares += share * share
    }
    let count = Double(listRanks.count)
    let mean = sum / count
    return (mean, (max(0, squares / count - mean * mean) / count).squareRoot())
  }
}
