import Kernels
import Neural
import Testing
import VectorIndex

/// Vectors made to be hard on a search.
enum World: String, CaseIterable {
  /// Independent numbers.
  case plain
  /// Small whole numbers: many equal scores.
  case ties
  /// All rows are the same.
  case equal
  /// Rows that differ from few others by less than a byte can tell.
  case clusters
  /// Lengths from 1e-30 to 1e12.
  case lengths
  /// One great number in each row, which takes all of the byte's range.
  case spikes
  /// So small that products are lost to underflow.
  case tiny
  /// So great that intervals would overflow.
  case huge
  /// Nothing but zeros, and a few rows that are not.
  case zeros

  func vectors(rows: Int, width: Int, using generator: inout SplitMix64) -> [Float] {
    let centres = (0..<8 * width).map { _ in generator.normal() }
    var out: [Float] = []
    for row in 0..<rows {
      let centre = Int.random(in: 0..<8, using: &generator)
      let scale = Float(exp10(Float.random(in: -30...12, using: &generator)))
      let spike = Int.random(in: 0..<width, using: &generator)
      for i in 0..<width {
        let noise = generator.normal()
        switch self {
        case .plain: out.append(noise)
        case .ties: out.append(noise.rounded())
        case .equal: out.append(centres[i])
        case .clusters: out.append(centres[centre * width + i] + 1e-3 * noise)
        case .lengths: out.append(noise * scale)
        case .spikes: out.append(i == spike ? 1000 * noise : noise)
        case .tiny: out.append(noise * 1e-24)
        case .huge: out.append(noise * 1e30)
        case .zeros: out.append(row % 97 == 0 ? noise : 0)
        }
      }
    }
    return out
  }

  /// A query, which resembles a row every other time.
  func query(
    of vectors: [Float], width: Int, using generator: inout SplitMix64
  ) -> [Float] {
    if !vectors.isEmpty, Bool.random(using: &generator) {
      let row = Int.random(in: 0..<vectors.count / width, using: &generator)
      return vectors[row * width..<(row + 1) * width].map { $0 * (1 + 0.01 * generator.normal()) }
    }
    let scale: Float = self == .tiny ? 1e-20 : self == .ties ? 2 : 1
    let query = (0..<width).map { _ in generator.normal() * scale }
    return self == .ties ? query.map { $0.rounded() } : query
  }
}

private func exp10(_ exponent: Float) -> Double {
  var result = 1.0
  for _ in 0..<Int(abs(exponent)) { result *= exponent < 0 ? 0.1 : 10 }
  return result
}

extension SplitMix64 {
  /// About a normal distribution: the sum of twelve even ones (Irwin and Hall).
  mutating func normal() -> Float {
    (0..<12).reduce(Float(-6)) { sum, _ in sum + unitFloat() }
  }

  /// A bitmap of about a share of the rows.
  mutating func mask(rows: Int, share: Double) -> [UInt64] {
    var words = [UInt64](repeating: 0, count: (rows + 63) / 64)
    for row in 0..<rows where Double.random(in: 0..<1, using: &self) < share {
      words[row / 64] |= 1 << UInt64(row % 64)
    }
    return words
  }
}

/// What a search should give: every allowed row scored by the index's own float products, then sorted.
func ranking(
  _ index: ExactIndex, _ query: [Float], _ allowed: [UInt64], count: Int
) -> [ExactIndex.Hit] {
  let rows = (0..<index.rowCount).filter { allowed[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
  let scores = index.scores(of: rows, with: query)
  let hits = zip(rows, scores).map { row, score in
    ExactIndex.Hit(row: row, score: score.isNaN ? -.infinity : score + 0)
  }
  return Array(hits.sorted { ($0.score, $1.row) > ($1.score, $0.row) }.prefix(count))
}

extension SearchKernels {
  static func named(_ name: String) throws -> SearchKernels {
    try #require(SearchKernels(named: name))
  }
}
