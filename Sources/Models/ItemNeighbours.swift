package import Domain
package import Kernels

/// A model of items that resemble one another: an item's score is the sum of its weights in the rows
/// of the history's newest items, each row counting less the older it is.
///
/// `item-knn` and `ease` make such models; they differ in where the weights come from.
package struct ItemNeighbours: Recommender {
  package static let kind = "item-neighbours"

  package let itemCount: Int
  package let recency: Recency
  /// The row of item `i` is `offsets[i]..<offsets[i + 1]`.
  package let offsets: [Int]
  /// Ascending within a row.
  package let columns: [Int32]
  package let weights: [Float]

  package init(
    itemCount: Int, recency: Recency, offsets: [Int], columns: [Int32], weights: [Float]
  ) {
    precondition(
      offsets.count == itemCount + 1 && columns.count == weights.count
        && offsets.last == columns.count, "the rows of \(itemCount) items do not fit")
    self.itemCount = itemCount
    self.recency = recency
    self.offsets = offsets
    self.columns = columns
    self.weights = weights
  }

  package var maximumLength: Int { recency.last }

  /// The weight of one item in another's row; 0 where it is not there.
  package func weight(of column: ItemToken, in row: ItemToken) -> Float {
    for i in offsets[row.index]..<offsets[row.index + 1] where columns[i] == column.rawValue {
      return weights[i]
    }
    return 0
  }

  package func score(_ histories: [History], into scores: UnsafeMutablePointer<Float>) {
    columns.withUnsafeBufferPointer { columns in
      weights.withUnsafeBufferPointer { weights in
        for (h, history) in histories.enumerated() {
          let out = scores + h * itemCount
          out.update(repeating: 0, count: itemCount)
          recency.forEach(history) { item, weight in
            for i in offsets[item.index]..<offsets[item.index + 1] {
              out[Int(columns[i])] += weight * weights[i]
            }
          }
        }
      }
    }
  }

  // MARK: Weight files

  package func safetensors() -> Safetensors {
    var file = Safetensors(model: Self.kind)
    recency.write(to: &file)
    file.put("lengths", zip(offsets, offsets.dropFirst()).map { Int32($1 - $0) })
    file.put("columns", columns)
    file.put("weights", weights)
    return file
  }

  package init(
    restoring file: Safetensors, path: String, kernels: Kernels
  ) throws(Diagnostic) {
    let lengths = try file.integers("lengths", in: 0..<Int(Int32.max), path: path)
    let columns = try file.integers("columns", in: 0..<max(1, lengths.count), path: path)
    let weights = try file.floats("weights", shape: [columns.count], path: path)
    var offsets = [0]
    for length in lengths { offsets.append((offsets.last ?? 0) + Int(length)) }
    guard offsets.last == columns.count else {
      throw file.fault("lengths and columns differ", path: path)
    }
    self.init(
      itemCount: lengths.count, recency: try Recency(file, path: path), offsets: offsets,
      columns: columns, weights: weights)
  }
}
