import Columns
import Domain

/// Finds the rows of a table that share given attributes, to stand in for something that has no vector
/// of its own.
///
/// Each attribute gives the rows whose cell equals its value, or whose list holds it. An attribute that
/// no row shares, such as a title, says nothing.
struct AttributePooling {
  let table: ColumnTable
  let among: Bitmap
  /// More rows of one value add nothing to their mean.
  private static let mostRows = 10_000

  /// For each attribute the rows that share its value; attributes without any are left out.
  ///
  /// - Throws: every name that is no column.
  func groups(_ attributes: [String: JSON]) throws(Diagnostics) -> [[CatalogRow]] {
    var problems: [Diagnostic] = []
    var groups: [[CatalogRow]] = []
    for (name, value) in attributes.sorted(by: { $0.key < $1.key }) where value != .null {
      guard let column = table[name] else {
        problems.append(
          Diagnostic(
            code: "unknown_column", "No column is called `\(name)`.",
            help: nearestName(to: name, among: table.names).map { "Did you mean `\($0)`?" }
              ?? "Columns: \(table.names.joined(separator: ", "))."))
        continue
      }
      // The id is a name and no attribute.
      if name == table.names.first { continue }
      let rows =
        value.array.map { all in all.flatMap { self.rows(column, $0) } } ?? rows(column, value)
      if !rows.isEmpty { groups.append(Array(rows.prefix(Self.mostRows))) }
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    return groups
  }

  private func rows(_ column: Column, _ value: JSON) -> [CatalogRow] {
    var found: [CatalogRow] = []
    func collect<T>(_ vector: ChunkedVector<T>, _ matches: (T) -> Bool) {
      vector.forEachChunk { start, chunk in
        for (i, cell) in chunk.enumerated() where matches(cell) {
          let row = start + i
          if row < among.count, among[row], !column.isNull(row) { found.append(CatalogRow(row)) }
        }
      }
    }
    switch column.values {
    case .bool(let cells):
      if let flag = value.bool { collect(cells) { $0 == flag } }
    case .int(let cells):
      if let number = value.int { collect(cells) { $0 == number } }
    case .double(let cells):
      if let number = value.number { collect(cells) { $0 == number } }
    case .timestamp: break
    case .string(let cells):
      if let text = value.string, let code = column.dictionary.code(of: text) {
        collect(cells) { $0 == code }
      }
    case .strings(let cells):
      if let text = value.string, let code = column.dictionary.code(of: text) {
        collect(cells) { $0.contains(code) }
      }
    case .ints(let cells):
      if let number = value.int { collect(cells) { $0.contains(number) } }
    case .doubles(let cells):
      if let number = value.number { collect(cells) { $0.contains(number) } }
    }
    return found
  }

  /// The mean over attributes of the mean vectors of the rows that share them; nil of none.
  static func mean(_ groups: [[[Float]]]) -> [Float]? {
    let means = groups.filter { !$0.isEmpty }.map { average($0) }
    return means.isEmpty ? nil : average(means)
  }

  private static func average(_ vectors: [[Float]]) -> [Float] {
    var sum = vectors[0]
    for vector in vectors.dropFirst() { for i in sum.indices { sum[i] += vector[i] } }
    return sum.map { $0 / Float(vectors.count) }
  }
}
