import CKernels
import Kernels

/// Search in the lists of a partition that promise most, over rows that may have changed since.
///
/// Rows that were replaced or added after the partition was made are scored always, and their old
/// places in the lists count no more. A search is exact instead where that is quicker, as under a narrow
/// filter, and where the lists gave fewer rows than are wanted and allowed. So an answer always holds
/// `count` rows where so many are allowed.
package struct PartitionedIndex: Sendable {
  package let partition: Partition
  /// Rows that differ from those the partition was made from, in the order of their first change.
  private var changed: [Int32] = []
  /// The same as a bitmap over all rows.
  private var isChanged: [UInt64] = []
  private var rowCount: Int

  /// - Parameters:
  ///   - changed: rows of the partition that were replaced since it was made.
  ///   - rowCount: rows there are now; those from the partition's `rowBound` on were added since. Rows
  ///     below it that are in no list are never found: `allowed` has to leave them out.
  package init(_ partition: Partition, changed: some Sequence<Int> = [], rowCount: Int) {
    self.partition = partition
    self.rowCount = partition.rowBound
    isChanged = [UInt64](repeating: 0, count: (partition.rowBound + 63) / 64)
    for row in changed { note(row) }
    grow(to: rowCount)
  }

  /// Rows that are scored in every search. Once they are more than a few in a hundred, a new partition
  /// pays.
  package var changedRowCount: Int { changed.count }

  /// The recall that was measured for a search without a filter.
  package var measuredRecall: Double { partition.steps.first?.recall ?? 1 }

  /// Learns that a row was replaced.
  package mutating func note(_ row: Int) {
    precondition(row >= 0 && row < rowCount, "row \(row) of \(rowCount)")
    let bit: UInt64 = 1 << UInt64(row & 63)
    if isChanged[row >> 6] & bit == 0 {
      isChanged[row >> 6] |= bit
      changed.append(Int32(row))
    }
  }

  /// Learns that rows were added.
  package mutating func grow(to newCount: Int) {
    precondition(newCount >= rowCount, "grow from \(rowCount) to \(newCount)")
    let old = rowCount
    rowCount = newCount
    isChanged += [UInt64](repeating: 0, count: (newCount + 63) / 64 - isChanged.count)
    for row in old..<newCount { note(row) }
  }
}

// MARK: - Searching

extension PartitionedIndex {
  /// The allowed rows of highest inner product with the query, as far as the lists asked hold them.
  ///
  /// - Parameters:
  ///   - rows: those of the partition with the changes that were noted.
  ///   - allowed: as for `ExactIndex.nearest`.
  package func nearest(
    to query: [Float], count: Int, among allowed: [UInt64], in rows: ExactIndex
  ) -> SearchAnswer {
    precondition(
      rows.rowCount == rowCount && rows.width == partition.width,
      "\(rows.rowCount) rows of \(rows.width); known are \(rowCount) of \(partition.width)")
    rows.check(allowed)
    let population = rows.population(of: allowed)
    guard count > 0, rows.bytesHold(query), let step = step(for: count, allowedRows: population)
    else { return rows.answer(to: query, count: count, among: allowed) }
    let probes = partition.means.nearest(
      to: query, count: step.probes, among: partition.allLists)
    let (hits, scanned) = rows.withSearch(
      query, count: min(count, rowCount), ascending: false
    ) { all, query, best in
      let table = rows.kernels.table.pointee
      let stride = rows.codeStride
      // The lists point into the partition's memory and do not hold it.
      withExtendedLifetime(partition) {
        partition.lists.withUnsafeBufferPointer { lists in
          guard let lists = lists.baseAddress else { return }
          for (number, probe) in probes.enumerated() {
            let next = number + 1 < probes.count ? lists + probes[number + 1].row : nil
            if changed.isEmpty {
              table.scan_list(lists + probe.row, next, stride, query, allowed, nil, best)
            } else {
              table.scan_list(lists + probe.row, next, stride, query, allowed, isChanged, best)
            }
          }
        }
      }
      let others = changed.filter { allowed[Int($0) >> 6] >> UInt64($0 & 63) & 1 == 1 }
      table.scan_ids(all, query, others, others.count, best)
      return (ExactIndex.finish(best), best.pointee.scanned)
    }
    guard hits.count >= min(count, population) else {
      return rows.answer(to: query, count: count, among: allowed)
    }
    return SearchAnswer(
      hits: hits, method: .partitioned(probed: step.probes, lists: partition.listCount),
      recall: step.recall, scannedRows: scanned)
  }

  /// The probes for a search, or nil where exact search is the better one.
  private func step(for count: Int, allowedRows: Int) -> Partition.Step? {
    guard allowedRows > count else { return nil }
    // Where a filter has nothing to do with the query, the `count` best allowed rows lie among so many
    // of the unfiltered ranking.
    let rankedRows = partition.rowCount + rowCount - partition.rowBound
    let depth = Double(count) * Double(rankedRows) / Double(allowedRows)
    guard let step = partition.steps.first(where: { Double($0.depth) >= depth }) else { return nil }
    let listRows = Double(partition.rowCount) / Double(partition.listCount)
    // In times of scanning one row among its neighbours, 1.5 ns for 64 floats. Fetching a row alone
    // takes four of them, and one row in four is what makes a block worth scanning. A list's row takes two:
    // its first ones come late from memory, and rows that the filter forbids are seen to be so one by one.
    let exactCost = min(Double(rowCount), 4 * Double(allowedRows))
    let partitionedCost =
      2 * Double(partition.listCount) + Double(step.probes) * (2 * listRows + 60)
      + 4 * Double(changed.count)
    return partitionedCost < exactCost ? step : nil
  }
}
