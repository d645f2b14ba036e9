/// `VectorIndex` finds the rows of highest inner product with a query, under a bitmap.
///
/// It holds vectors by row number and knows nothing of items: whoever builds it says what a row is.
/// Every index is a value; a copy shares its memory with the original until one of them changes.
import CKernels
package import Kernels

/// Exact search: the answer is that of scoring every allowed row in 32-bit floats.
///
/// Recall is 1 under any filter, and the cost falls with the number of allowed rows. Large scans read
/// one byte for each float. A byte scan gives an interval that surely holds a row's score; the rows
/// whose interval reaches the best `count` are scored again in floats. So both scans give the same
/// answer, bit by bit, and the choice between them is one of speed.
///
/// Changing a row copies the 1,024 rows around it, unless no other copy of the index sees them.
package struct ExactIndex: Sendable {
  package let width: Int
  package private(set) var rowCount = 0
  /// Whether every number is finite. If not, searches use floats only, and a score that is not a
  /// number counts as minus infinity.
  package private(set) var isFinite = true
  let kernels: SearchKernels

  // Unchecked: the pointers lead into `memories`, which are not written to while shared.
  private nonisolated(unsafe) var chunks: [rk_chunk] = []
  /// The memory each chunk lies in.
  private var memories: [RowMemory] = []
  private var error: Float = 0
  private var norm: Float = 0
  /// No row is longer.
  private var length: Double = 0

  /// - Parameter vectors: `[rows, width]`.
  package init(vectors: [Float], width: Int, kernels: Kernels) {
    self.init(vectors: vectors, width: width, kernels: SearchKernels(kernels))
  }

  /// - Parameter vectors: `[rows, width]`.
  package init(vectors: [Float], width: Int, kernels: SearchKernels) {
    precondition(width > 0 && vectors.count % width == 0, "\(vectors.count) floats of \(width)")
    precondition(width <= 1 << 16, "rows of \(width) floats; at most 65,536")
    let count = vectors.count / width
    precondition(count < Int(Int32.max), "\(count) rows; fewer than 2^31 have numbers")
    self.width = width
    self.kernels = kernels
    guard count > 0 else { return }
    let memory = RowMemory(capacity: count, floatStride: floatStride, codeStride: codeStride)
    for start in stride(from: 0, to: count, by: Self.chunkRows) {
      chunks.append(chunk(in: memory, at: start))
      memories.append(memory)
    }
    vectors.withUnsafeBufferPointer { vectors in
      for row in 0..<count {
        write(UnsafeBufferPointer(rebasing: vectors[row * width..<(row + 1) * width]), to: row)
      }
    }
    rowCount = count
  }

  static var chunkRows: Int { Int(rk_chunk_rows) }
  var floatStride: Int { (width + 15) / 16 * 16 }
  var codeStride: Int { (width + 63) / 64 * 64 }

  private func chunk(in memory: RowMemory, at row: Int) -> rk_chunk {
    rk_chunk(
      floats: memory.floats.map { UnsafePointer($0 + row * floatStride) },
      codes: UnsafePointer(memory.codes + row * codeStride),
      scales: UnsafePointer(memory.scales + row), error: 0, norm: 0)
  }
}

// MARK: - Searching

extension ExactIndex {
  /// A row and its inner product with the query.
  package struct Hit: Hashable, Sendable {
    package var row: Int
    package var score: Float
    package init(row: Int, score: Float) {
      self.row = row
      self.score = score
    }
  }

  /// What a scan reads.
  package enum Scan: String, Hashable, Sendable, CaseIterable {
    case floats
    case bytes
  }

  /// The allowed rows of highest inner product, best first; equal scores stand in row order.
  ///
  /// - Parameters:
  ///   - query: `[width]`.
  ///   - count: rows wanted.
  ///   - allowed: bit `i & 63` of word `i >> 6` admits row `i`; bits past the last row must be zero.
  ///   - scan: what to read; the quicker one where nil. The answer is the same.
  /// - Returns: `count` rows, or as many as are allowed.
  package func nearest(
    to query: [Float], count: Int, among allowed: [UInt64], scan: Scan? = nil
  ) -> [Hit] {
    search(query, count: count, among: allowed, scan: scan).hits
  }

  /// What a search read: the rows whose bytes or floats a scan met, and those scored a second time.
  package struct Account: Hashable, Sendable {
    package var scan: Scan
    package var scannedRows = 0
    package var rescoredRows = 0
  }

  /// What `nearest` does for a search.
  package func account(
    of query: [Float], count: Int, among allowed: [UInt64], scan: Scan? = nil
  ) -> Account {
    search(query, count: count, among: allowed, scan: scan).account
  }

  func search(
    _ query: [Float], count: Int, among allowed: [UInt64], scan: Scan? = nil
  ) -> (hits: [Hit], account: Account) {
    check(allowed)
    let wanted = min(count, rowCount)
    let scan = bytesHold(query) ? scan ?? quickerScan(of: count, among: allowed) : .floats
    guard wanted > 0 else { return ([], Account(scan: scan)) }
    return withSearch(query, count: wanted, ascending: true) { rows, query, best in
      switch scan {
      case .floats: kernels.table.pointee.scan_floats(rows, query, allowed, best)
      case .bytes: kernels.table.pointee.scan_bytes(rows, query, allowed, best)
      }
      let hits = Self.finish(best)
      return (
        hits,
        Account(
          scan: scan, scannedRows: best.pointee.scanned, rescoredRows: best.pointee.rescored)
      )
    }
  }

  /// Bytes are quicker where the rows saved outweigh the two or three times `count` rows that are
  /// scored twice. Measured in a server, between whose searches other work has emptied the caches: with
  /// 3,416 rows of 64 and a count of 150, bytes took 9 % off a request; alone, floats were quicker up
  /// to three times as many rows.
  private func quickerScan(of count: Int, among allowed: [UInt64]) -> Scan {
    population(of: allowed) < 1024 + 8 * count ? .floats : .bytes
  }

  /// The number of rows in a bitmap.
  func population(of words: [UInt64]) -> Int {
    kernels.table.pointee.population(words, words.count)
  }

  func check(_ allowed: [UInt64]) {
    precondition(
      allowed.count == (rowCount + 63) / 64, "\(allowed.count) words for \(rowCount) rows")
    precondition(
      rowCount & 63 == 0 || (allowed.last ?? 0) >> UInt64(rowCount & 63) == 0,
      "bits past row \(rowCount) are set")
  }

  /// Whether no score with this query can overflow, so that intervals are to be trusted.
  func bytesHold(_ query: [Float]) -> Bool {
    let size = query.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    return isFinite && size * length < 1e37 && size < 1e18
  }

  /// Calls the body with the C structures of one search.
  func withSearch<Result>(
    _ query: [Float], count: Int, ascending: Bool,
    _ body: (UnsafePointer<rk_rows>, UnsafePointer<rk_query>, UnsafeMutablePointer<rk_best>)
      -> Result
  ) -> Result {
    precondition(query.count == width, "a query of \(query.count) floats, rows of \(width)")
    let capacity = rk_best_capacity(count)
    // Keys first, for their alignment; then two floats and a row number each; then the query.
    let byteCount = capacity * 20 + floatStride * 4 + codeStride
    return withUnsafeTemporaryAllocation(byteCount: byteCount, alignment: 64) { memory in
      guard let start = memory.baseAddress else { preconditionFailure("no memory for a search") }
      let keys = start.bindMemory(to: UInt64.self, capacity: capacity)
      let lower = (start + capacity * 8).bindMemory(to: Float.self, capacity: capacity)
      let upper = (start + capacity * 12).bindMemory(to: Float.self, capacity: capacity)
      let ids = (start + capacity * 16).bindMemory(to: Int32.self, capacity: capacity)
      let floats = (start + capacity * 20).bindMemory(to: Float.self, capacity: floatStride)
      let codes = (start + capacity * 20 + floatStride * 4)
        .bindMemory(to: Int8.self, capacity: codeStride)
      for i in 0..<width { floats[i] = query[i] }
      for i in width..<floatStride { floats[i] = 0 }
      var prepared = rk_query()
      prepared.floats = UnsafePointer(floats)
      if bytesHold(query) { rk_prepare_query(floats, width, codeStride, codes, &prepared) }
      return withRows { rows in
        withUnsafePointer(to: prepared) { query in
          var best = rk_best(
            table: kernels.table, rows: rows, query: query, k: count, capacity: capacity, ids: ids,
            lower: lower, upper: upper, keys: keys, held: 0, exact: 0, fresh: 0,
            ascending: ascending ? 1 : 0, threshold: .nan, scanned: 0, rescored: 0)
          return body(rows, query, &best)
        }
      }
    }
  }

  func withRows<Result>(_ body: (UnsafePointer<rk_rows>) -> Result) -> Result {
    // The chunks point into the memories and do not hold them.
    withExtendedLifetime(memories) {
      chunks.withUnsafeBufferPointer { chunks in
        let rows = rk_rows(
          chunks: chunks.baseAddress, count: rowCount, width: width, float_stride: floatStride,
          code_stride: codeStride, error: error, norm: norm)
        return withUnsafePointer(to: rows) { body($0) }
      }
    }
  }

  /// The best rows of a search that has seen all it should.
  static func finish(_ best: UnsafeMutablePointer<rk_best>) -> [Hit] {
    let count = best.pointee.k
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { scores in
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: count) { ids in
        let found = rk_best_finish(best, scores.baseAddress, ids.baseAddress)
        return (0..<found).map { Hit(row: Int(ids[$0]), score: scores[$0]) }
      }
    }
  }

  /// The inner products of some rows with a query: the same numbers as `nearest` gives.
  package func scores(of rows: [Int], with query: [Float]) -> [Float] {
    precondition(query.count == width, "a query of \(query.count) floats, rows of \(width)")
    let ids = rows.map { row in
      precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
      return Int32(row)
    }
    let padded = query + [Float](repeating: 0, count: floatStride - width)
    return withRows { rows in
      [Float](unsafeUninitializedCapacity: ids.count) { out, count in
        if let start = out.baseAddress {
          kernels.table.pointee.scores(rows, padded, ids, ids.count, start)
        }
        count = ids.count
      }
    }
  }

  /// The vector of a row, `[width]`.
  package func vector(at row: Int) -> [Float] {
    withVector(at: row) { Array($0) }
  }

  func withVector<Result>(
    at row: Int, _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
    let start = chunks[row / Self.chunkRows].floats + row % Self.chunkRows * floatStride
    return try withExtendedLifetime(memories) {
      try body(UnsafeBufferPointer(start: start, count: width))
    }
  }
}

// MARK: - Changing

extension ExactIndex {
  /// Puts another vector in a row's place.
  ///
  /// - Parameter vector: `[width]`.
  package mutating func replace(row: Int, with vector: [Float]) {
    precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
    precondition(vector.count == width, "a vector of \(vector.count) floats, rows of \(width)")
    makeWritable(
      row / Self.chunkRows,
      rows: min(rowCount - row / Self.chunkRows * Self.chunkRows, Self.chunkRows), adding: 0)
    vector.withUnsafeBufferPointer { write($0, to: row) }
  }

  /// Adds rows after the last.
  ///
  /// - Parameter vectors: `[rows, width]`.
  package mutating func append(_ vectors: [Float]) {
    precondition(vectors.count % width == 0, "\(vectors.count) floats of \(width)")
    precondition(rowCount + vectors.count / width < Int(Int32.max), "too many rows")
    vectors.withUnsafeBufferPointer { vectors in
      for start in stride(from: 0, to: vectors.count, by: width) {
        let inLast = rowCount % Self.chunkRows
        if inLast == 0 {
          let memory = RowMemory(
            capacity: Self.chunkRows, floatStride: floatStride, codeStride: codeStride)
          chunks.append(chunk(in: memory, at: 0))
          memories.append(memory)
        } else {
          makeWritable(chunks.count - 1, rows: inLast, adding: 1)
        }
        rowCount += 1
        write(
          UnsafeBufferPointer(rebasing: vectors[start..<start + width]), to: rowCount - 1)
      }
    }
  }

  /// Gives a chunk memory of its own, unless it has that and room for more rows.
  private mutating func makeWritable(_ number: Int, rows: Int, adding: Int) {
    let isOwn = isKnownUniquelyReferenced(&memories[number])
    if isOwn, rows + adding <= memories[number].capacity { return }
    let memory = RowMemory(
      capacity: Self.chunkRows, floatStride: floatStride, codeStride: codeStride)
    let old = chunks[number]
    if let floats = memory.floats, let source = old.floats {
      floats.update(from: source, count: rows * floatStride)
    }
    memory.codes.update(from: old.codes, count: rows * codeStride)
    memory.scales.update(from: old.scales, count: rows)
    var new = chunk(in: memory, at: 0)
    new.error = old.error
    new.norm = old.norm
    chunks[number] = new
    memories[number] = memory
  }

  /// Writes a row into memory that no other copy sees.
  private mutating func write(_ vector: UnsafeBufferPointer<Float>, to row: Int) {
    guard let source = vector.baseAddress else { return }
    let number = row / Self.chunkRows
    let at = row % Self.chunkRows
    UnsafeMutablePointer(mutating: chunks[number].floats + at * floatStride)
      .update(from: source, count: width)
    let codes = UnsafeMutablePointer(mutating: chunks[number].codes + at * codeStride)
    let scale = UnsafeMutablePointer(mutating: chunks[number].scales + at)
    guard vector.allSatisfy(\.isFinite) else {
      isFinite = false
      codes.update(repeating: 128, count: codeStride)
      scale.pointee = 0
      return
    }
    var rest: Float = 0
    var size: Float = 0
    rk_quantise(source, width, codeStride, codes, scale, &rest, &size)
    chunks[number].error = max(chunks[number].error, rest)
    chunks[number].norm = max(chunks[number].norm, size)
    error = max(error, rest)
    norm = max(norm, size)
    length = max(length, Double(scale.pointee) * Double(size + rest))
  }
}
