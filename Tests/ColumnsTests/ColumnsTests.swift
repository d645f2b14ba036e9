import Columns
import Domain
import Testing

/// A small repeatable generator (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite struct `Bitmaps` {
  @Test(arguments: [0, 1, 63, 64, 65, 128, 1000], [1, 2] as [UInt64])
  func `agrees with a set of rows`(count: Int, seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    func sample() -> (Bitmap, Set<Int>) {
      var bitmap = Bitmap(count: count)
      var set: Set<Int> = []
      for row in 0..<count where Bool.random(using: &random) {
        bitmap[row] = true
        set.insert(row)
      }
      for row in 0..<count where Int.random(in: 0..<9, using: &random) == 0 {
        bitmap[row] = false
        set.remove(row)
      }
      return (bitmap, set)
    }
    func check(_ bitmap: Bitmap, _ set: Set<Int>, _ what: String) {
      #expect(bitmap.rows == set.sorted(), "\(what), \(count) rows, seed \(seed)")
      #expect(bitmap.population == set.count)
      #expect(bitmap.isEmpty == set.isEmpty)
      for row in 0..<bitmap.count { #expect(bitmap[row] == set.contains(row)) }
    }
    let (a, setA) = sample()
    let (b, setB) = sample()
    check(a, setA, "made")
    var c = a
    c.formUnion(b)
    check(c, setA.union(setB), "union")
    c = a
    c.formIntersection(b)
    check(c, setA.intersection(setB), "intersection")
    c = a
    c.subtract(b)
    check(c, setA.subtracting(setB), "difference")
    c = a
    c.invert()
    check(c, Set(0..<count).subtracting(setA), "inverse")
    c.grow(to: count + 70)
    check(c, Set(0..<count).subtracting(setA), "grown")
    c = a
    c.grow(to: count + 70, with: true)
    check(c, setA.union(count..<count + 70), "grown with rows")
    check(a, setA, "untouched")
    #expect(Bitmap(words: a.words, count: count) == a)
    check(Bitmap(count: count, repeating: true), Set(0..<count), "full")
  }

  @Test func `forgets bits past its end`() {
    #expect(Bitmap(words: [.max], count: 3).population == 3)
  }
}

@Suite struct `Chunked vector` {
  @Test(arguments: [1, 2, 3] as [UInt64])
  func `agrees with arrays, and copies stand still`(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var vector = ChunkedVector<Int>()
    var array: [Int] = []
    var kept: [(ChunkedVector<Int>, [Int])] = []
    for step in 0..<6000 {
      if array.isEmpty || Int.random(in: 0..<3, using: &random) > 0 {
        vector.append(step)
        array.append(step)
      } else {
        let place = Int.random(in: array.indices, using: &random)
        vector[place] += 1
        array[place] += 1
      }
      if step % 500 == 0 { kept.append((vector, array)) }
    }
    kept.append((vector, array))
    for (vector, array) in kept {
      #expect(vector.count == array.count)
      var flat: [Int] = []
      vector.forEachChunk { start, chunk in
        #expect(start == flat.count)
        flat += chunk
      }
      #expect(flat == array, "seed \(seed)")
      #expect(array.indices.allSatisfy { vector[$0] == array[$0] })
    }
    #expect(ChunkedVector(array).chunks == vector.chunks)
  }
}

@Suite struct `A column` {
  static func sample(_ type: ColumnType, _ random: inout SeededGenerator) -> Value {
    let text = Value.string("s\(Int.random(in: 0..<20, using: &random))")
    let int = Value.int(Int64.random(in: -9...9, using: &random))
    let double = Value.double(Double.random(in: -1...1, using: &random))
    switch type {
    case .unknown, .string, .lowCardinalityString, .json, .imageURL, .bytes: return text
    case .stringArray: return .array([text, text])
    case .int64Array: return .array([int])
    case .float64Array: return .array([double, double, double])
    case .int32, .int64: return int
    case .float, .double: return double
    case .bool: return .bool(Bool.random(using: &random))
    case .dateTime:
      return .timestamp(
        Timestamp(microsecondsSinceEpoch: Int64.random(in: -99...99, using: &random)))
    }
  }

  @Test(arguments: ColumnType.allCases)
  func `gives back what it was given, and copies stand still`(type: ColumnType) {
    var random = SeededGenerator(seed: 9)
    var column = Column(type: type)
    var cells: [Value] = []
    var kept: [(Column, [Value])] = []
    for step in 0..<3000 {
      let cell = step % 7 == 0 ? .null : Self.sample(type, &random)
      if cells.isEmpty || step % 3 > 0 {
        column.append(cell)
        cells.append(cell)
      } else {
        let row = Int.random(in: cells.indices, using: &random)
        column.set(cell, at: row)
        cells[row] = cell
      }
      if step % 1000 == 0 { kept.append((column, cells)) }
    }
    for (column, cells) in kept + [(column, cells)] {
      #expect(column.count == cells.count)
      #expect(cells.indices.map { column.value(at: $0) } == cells)
      #expect(cells.indices.allSatisfy { column.isNull($0) == cells[$0].isNull })
    }
  }

  @Test func `keeps bytes as Base64 text`() {
    var column = Column(type: .bytes)
    column.append(.bytes([0, 255, 10]))
    #expect(column.value(at: 0) == .string("AP8K"))
  }

  @Test func `of another type than its value is a programmer's mistake`() async {
    await #expect(processExitsWith: .failure) {
      var column = Column(type: .bool)
      column.append(.int(1))
    }
  }
}

@Suite struct `Column table` {
  @Test func `holds columns of equal length under their names`() {
    var table = ColumnTable([
      ColumnDefinition(name: "a", type: .string), ColumnDefinition(name: "b", type: .int64),
    ])
    let rows = [table.appendEmptyRow(), table.appendEmptyRow()]
    #expect(rows == [0, 1])
    table.setRow(1, to: [.string("x"), .int(5)])
    let before = table
    table.set(.null, row: 1, column: 1)
    #expect(table.rowCount == 2)
    #expect(table["a"]?.value(at: 0) == .null)
    #expect(table["a"]?.value(at: 1) == .string("x"))
    #expect(table["b"]?.value(at: 1) == .null)
    #expect(before["b"]?.value(at: 1) == .int(5))
    #expect(table["c"] == nil)
    #expect(table[lending: 0].count == 2)
  }
}

@Suite struct `String dictionary` {
  @Test func `numbers strings by their first appearance`() {
    var dictionary = StringDictionary()
    let codes = ["b", "a", "b", ""].map { dictionary.intern($0) }
    #expect(codes == [0, 1, 0, 2])
    let early = dictionary
    let new = dictionary.intern("c")
    #expect(new == 3)
    #expect(dictionary.code(of: "c") == 3)
    #expect(early.code(of: "c") == nil)
    #expect(early.code(of: "a") == 1)
    #expect(early.count == 3)
    #expect(dictionary[3] == "c")
  }

  @Test func `finds many at once as one by one`() {
    var dictionary = StringDictionary()
    // Ids of every length, so that slots collide and strings are short and long.
    let held = (0..<3_000).map { "item-\($0)" + String(repeating: "x", count: $0 % 23) }
    for id in held.prefix(2_000) { _ = dictionary.intern(id) }
    let early = dictionary
    for id in held.dropFirst(2_000) { _ = dictionary.intern(id) }
    let wanted = held.reversed() + ["", "nobody", "item-1", "item-1"]
    #expect(dictionary.codes(of: wanted) == wanted.map { dictionary.code(of: $0) })
    #expect(dictionary.codes(of: held) == held.indices.map { Int32($0) })
    #expect(early.codes(of: wanted) == wanted.map { early.code(of: $0) })
    #expect(StringDictionary().codes(of: wanted).allSatisfy { $0 == nil })
  }
}
