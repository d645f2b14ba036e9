package import Domain
package import Kernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A model of what many act on: counts of events in a window of time, the same for everybody.
///
/// Time is divided into periods that end at the newest event. A question with a moment before that
/// sees the periods that had ended by then; any other sees the newest ones.
package final class Popularity: Recommender {
  package static let kind = "popularity"

  /// Where the periods lie and what of them counts.
  package struct Window: Hashable, Sendable {
    /// The end of the newest period, in microseconds since 1970.
    package var end: Int64
    /// The length of a period in microseconds.
    package var period: Int64
    /// Periods that count, newest first.
    package var periods: Int
    /// How strongly growth counts: a score is multiplied by the growth from the window before to this
    /// one, raised to the power of this. 0 for plain popularity.
    package var rise: Double

    package init(end: Int64, period: Int64, periods: Int, rise: Double) {
      precondition(period > 0 && periods > 0 && rise >= 0, "\(period) \(periods) \(rise)")
      self.end = end
      self.period = period
      self.periods = periods
      self.rise = rise
    }
  }

  package let itemCount: Int
  /// Nil where all events count alike.
  package let window: Window?
  /// Events of each item in all, `[N]`.
  private let totals: [Float]
  /// Period `p`, 0 the newest, holds entries `starts[p]..<starts[p + 1]` of the two that follow.
  private let starts: [Int]
  private let items: [Int32]
  private let counts: [Float]
  private let kept = Mutex<[Int: [Float]]>([:])

  /// Periods' scores that are kept for questions to come.
  private static let keptAtMost = 64

  package init(
    totals: [Float], window: Window?, starts: [Int] = [0], items: [Int32] = [],
    counts: [Float] = []
  ) {
    precondition(
      starts.last == items.count && items.count == counts.count, "periods do not fit")
    itemCount = totals.count
    self.totals = totals
    self.window = window
    self.starts = starts
    self.items = items
    self.counts = counts
  }

  package var answersWithoutHistory: Bool { true }
  package var maximumLength: Int { 1 }
  package var usesTimes: Bool { window != nil }

  package func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>) {
    for (h, history) in histories.enumerated() {
      let row = window.map { scoresOfPeriod(firstPeriod(at: history.moment, $0), $0) } ?? totals
      row.withUnsafeBufferPointer { row in
        if let base = row.baseAddress {
          (scores + h * itemCount).update(from: base, count: itemCount)
        }
      }
    }
  }

  private func firstPeriod(at moment: Timestamp?, _ window: Window) -> Int {
    guard let moment, moment.microsecondsSinceEpoch < window.end else { return 0 }
    let behind = window.end - moment.microsecondsSinceEpoch
    return min(starts.count - 1, Int((behind + window.period - 1) / window.period))
  }

  private func scoresOfPeriod(_ first: Int, _ window: Window) -> [Float] {
    if let known = kept.withLock({ $0[first] }) { return known }
    let recent = sums(of: first, window.periods)
    let most = max(1, totals.max() ?? 1)
    var scores = [Float](repeating: 0, count: itemCount)
    if window.rise == 0 {
      scores = recent
    } else {
      let before = sums(of: first + window.periods, window.periods)
      // Ten events more on both sides keep a growth from nothing to a handful from counting.
      for i in scores.indices {
        scores[i] = recent[i] * pow((recent[i] + 10) / (before[i] + 10), Float(window.rise))
      }
    }
    // Equal counts in the window are ordered by all events.
    for i in scores.indices { scores[i] += 0.5 * totals[i] / most }
    kept.withLock { kept in
      if kept.count >= Self.keptAtMost { kept.removeAll() }
      kept[first] = scores
    }
    return scores
  }

  private func sums(of first: Int, _ count: Int) -> [Float] {
    var sums = [Float](repeating: 0, count: itemCount)
    let low = min(first, starts.count - 1)
    let high = min(starts.count - 1, low + min(count, starts.count))
    for i in starts[low]..<starts[high] { sums[Int(items[i])] += counts[i] }
    return sums
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind)
    file.put("totals", totals)
    guard let window else { return file }
    file.metadata["end"] = String(window.end)
    file.metadata["period"] = String(window.period)
    file.metadata["periods"] = String(window.periods)
    file.metadata["rise"] = String(window.rise)
    file.put("starts", starts.map { Int32($0) })
    file.put("items", items)
    file.put("counts", counts)
    return file
  }

  package convenience init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let totals = try file.floats("totals", shape: [-1], path: path)
    guard file.metadata["end"] != nil else {
      self.init(totals: totals, window: nil)
      return
    }
    let end: Int64 = try file.number("end", path: path)
    let period: Int64 = try file.number("period", path: path)
    let periods: Int = try file.number("periods", path: path)
    let rise: Double = try file.number("rise", path: path)
    let items = try file.integers("items", in: 0..<max(1, totals.count), path: path)
    let counts = try file.floats("counts", shape: [items.count], path: path)
    let starts = try file.integers("starts", in: 0..<items.count + 1, path: path).map { Int($0) }
    guard period > 0, periods > 0, rise >= 0, starts.first == 0, starts.last == items.count,
      zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 })
    else { throw file.fault("its periods do not fit", path: path) }
    self.init(
      totals: totals, window: Window(end: end, period: period, periods: periods, rise: rise),
      starts: starts, items: items, counts: counts)
  }
}
