import Columns
import Domain
import Synchronization

/// An inverted index over texts of a catalog: for each term the rows that hold it and how often.
///
/// - SeeAlso: Robertson & Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009. The
///   weight of a term is `ln(1 + (N - n + 0.5) / (n + 0.5))`, as in Lucene: never negative.
struct LexicalIndex: Sendable {
  private struct Posting {
    var row: Int32
    var count: Int32
  }

  /// How fast repetition of a term saturates, and how much long texts are held back.
  private static let k1 = 1.2
  private static let b = 0.75
  /// More than these of the terms near a misspelt one are looked for.
  private static let mostVariants = 64

  let settings: LexicalSettings
  private var terms: [String: Int32] = [:]
  private var names: [String] = []
  private var postings: [[Posting]] = []
  private var lengths: [Int32] = []
  private var documentCount = 0
  private var totalLength = 0

  /// What was indexed, to find what has changed since.
  private var columns: [Column]

  /// - Parameter columns: text columns, or lists of texts. Each text is one part of a row's.
  init(_ settings: LexicalSettings, columns: [Column], rowCount: Int) {
    self.settings = settings
    self.columns = columns
    lengths = Array(repeating: 0, count: rowCount)
    // A text of a dictionary is cut into terms once, however many rows hold it.
    let parts = columns.map { column in
      column.dictionary.strings.chunks.joined().map { text in
        settings.terms(text).map { number(of: $0) }
      }
    }
    for row in 0..<rowCount {
      add(row, LexicalIndex.codes(columns, row).map { parts[$0.column][Int($0.code)] })
    }
  }

  /// The index of a later state of the same columns, or nil where so much has changed that making it
  /// anew is no slower.
  ///
  /// - Complexity: a comparison for each row and column, and the work of indexing the changed rows.
  func updated(_ later: [Column], rowCount: Int) -> LexicalIndex? {
    guard later.count == columns.count, rowCount >= lengths.count else { return nil }
    var changed: [Int] = []
    for row in 0..<lengths.count where !LexicalIndex.isSame(columns, later, row) {
      changed.append(row)
      if changed.count > max(64, rowCount / 16) { return nil }
    }
    guard rowCount - lengths.count <= max(64, rowCount / 16) else { return nil }
    var index = self
    for row in changed { index.remove(row) }
    index.columns = later
    index.lengths += Array(repeating: 0, count: rowCount - lengths.count)
    for row in changed + Array(lengths.count..<rowCount) {
      index.add(
        row,
        LexicalIndex.codes(later, row).map { part in
          settings.terms(later[part.column].dictionary[part.code]).map { index.number(of: $0) }
        })
    }
    return index
  }

  /// The texts of a row, as codes of their columns.
  private static func codes(_ columns: [Column], _ row: Int) -> [(column: Int, code: Int32)] {
    var out: [(column: Int, code: Int32)] = []
    for (place, column) in columns.enumerated() where !column.isNull(row) {
      switch column.values {
      case .string(let codes): out.append((place, codes[row]))
      case .strings(let lists): out += lists[row].map { (place, $0) }
      default: break
      }
    }
    return out
  }

  private static func isSame(_ a: [Column], _ b: [Column], _ row: Int) -> Bool {
    for (x, y) in zip(a, b) {
      if x.isNull(row) != y.isNull(row) { return false }
      switch (x.values, y.values) {
      case (.string(let u), .string(let v)): if u[row] != v[row] { return false }
      case (.strings(let u), .strings(let v)): if u[row] != v[row] { return false }
      default: return false
      }
    }
    return true
  }

  private mutating func add(_ row: Int, _ parts: [[Int32]]) {
    var counts: [Int32: Int32] = [:]
    var length = 0
    for terms in parts {
      length += terms.count
      for term in terms { counts[term, default: 0] += 1 }
    }
    guard length > 0 else { return }
    documentCount += 1
    totalLength += length
    lengths[row] = Int32(length)
    for (term, count) in counts {
      postings[Int(term)].append(Posting(row: Int32(row), count: count))
    }
  }

  private mutating func remove(_ row: Int) {
    guard lengths[row] > 0 else { return }
    documentCount -= 1
    totalLength -= Int(lengths[row])
    lengths[row] = 0
    var gone: Set<Int32> = []
    for part in LexicalIndex.codes(columns, row) {
      for term in settings.terms(columns[part.column].dictionary[part.code]) {
        if let number = terms[term] { gone.insert(number) }
      }
    }
    for number in gone { postings[Int(number)].removeAll { $0.row == Int32(row) } }
  }

  private mutating func number(of term: String) -> Int32 {
    if let number = terms[term] { return number }
    let number = Int32(names.count)
    terms[term] = number
    names.append(term)
    postings.append([])
    return number
  }

  /// The best rows of the bitmap that hold a term of the text, best first; ties in the order of rows.
  ///
  /// - Parameter fuzziness: terms within this many edits of a term of the text count too, with a
  ///   weight that each edit halves.
  func search(
    _ text: String, fuzziness: Int, count: Int, among: Bitmap
  ) -> (rows: [CatalogRow], scores: [Double]) {
    let wanted = Set(settings.terms(text))
    var scores: [Int32: Double] = [:]
    let meanLength = Double(totalLength) / Double(max(documentCount, 1))
    for term in wanted.sorted() {
      // Of the variants of a term the best counts, so that a text gains nothing by misspellings.
      var best: [Int32: Double] = [:]
      for (number, weight) in variants(of: term, fuzziness) {
        let list = postings[Int(number)]
        let n = Double(list.count)
        let idf = naturalLogarithm(1 + (Double(documentCount) - n + 0.5) / (n + 0.5))
        for posting in list where Int(posting.row) < among.count && among[Int(posting.row)] {
          let tf = Double(posting.count)
          let norm = 1 - Self.b + Self.b * Double(lengths[Int(posting.row)]) / meanLength
          let score = weight * idf * tf * (Self.k1 + 1) / (tf + Self.k1 * norm)
          best[posting.row] = max(best[posting.row] ?? 0, score)
        }
      }
      for (row, score) in best { scores[row, default: 0] += score }
    }
    let found = scores.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(count)
    return (found.map { CatalogRow($0.key) }, found.map(\.value))
  }

  /// Terms of the index within some edits of a term, with their weights.
  private func variants(of term: String, _ fuzziness: Int) -> [(number: Int32, weight: Double)] {
    var out: [(number: Int32, weight: Double)] = []
    if let number = terms[term] { out.append((number, 1)) }
    guard fuzziness > 0 else { return out }
    let letters = Array(term.unicodeScalars)
    var near: [(distance: Int, number: Int32)] = []
    for (number, name) in names.enumerated() where name != term && !postings[number].isEmpty {
      let other = Array(name.unicodeScalars)
      guard abs(other.count - letters.count) <= fuzziness else { continue }
      if let distance = boundedDistance(letters, other, fuzziness) {
        near.append((distance, Int32(number)))
      }
    }
    near.sort { ($0.distance, names[Int($0.number)]) < ($1.distance, names[Int($1.number)]) }
    out += near.prefix(Self.mostVariants).map { ($0.number, raised(0.5, to: Double($0.distance))) }
    return out
  }
}

/// The edit distance of two texts (inserted, deleted, changed characters), or nil beyond a bound.
///
/// - Complexity: the product of both lengths; a row of the table that is beyond the bound ends it.
func boundedDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar], _ most: Int) -> Int? {
  var last = Array(0...b.count)
  for (i, letter) in a.enumerated() {
    var row = [i + 1]
    row.reserveCapacity(b.count + 1)
    var least = i + 1
    for (j, other) in b.enumerated() {
      let cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (letter == other ? 0 : 1))
      row.append(cost)
      least = min(least, cost)
    }
    if least > most { return nil }
    last = row
  }
  return last[b.count] <= most ? last[b.count] : nil
}

/// The index of the newest version of a catalog that was searched.
final class LexicalCache: Sendable {
  private struct Key: Hashable {
    var version: UInt64
    var rowCount: Int
    var settings: LexicalSettings
  }
  private let newest = Mutex<(key: Key, index: LexicalIndex)?>(nil)

  /// Builds outside the lock: two queries at once may build the same index twice, and neither waits
  /// for other queries.
  func index(of source: any QuerySource, fields: [String]) -> LexicalIndex {
    var settings = source.lexicalSettings ?? LexicalSettings()
    settings.fields = fields
    let key = Key(
      version: source.catalogVersion, rowCount: source.items.rowCount, settings: settings)
    let kept = newest.withLock { $0 }
    if let kept, kept.key == key { return kept.index }
    let columns = fields.compactMap { source.items[$0] }
    let rowCount = source.items.rowCount
    var earlier: LexicalIndex?
    if let kept, kept.key.settings == settings, kept.key.version < key.version {
      earlier = kept.index.updated(columns, rowCount: rowCount)
    }
    let index = earlier ?? LexicalIndex(settings, columns: columns, rowCount: rowCount)
    newest.withLock { kept in
      if kept.map({ $0.key.version <= key.version }) ?? true { kept = (key, index) }
    }
    return index
  }
}
