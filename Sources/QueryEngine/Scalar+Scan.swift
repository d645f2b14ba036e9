import Columns
import Domain
import QueryLanguage

/// The truth of a condition for every row: true, or unknown (NULL), or neither.
///
/// Bits past the number of rows may hold anything until `bitmap` cuts them off. No row is both true and
/// unknown.
struct Truth {
  var isTrue: [UInt64]
  var isUnknown: [UInt64]

  init(wordCount: Int, _ value: Bool? = false) {
    isTrue = Array(repeating: value == true ? .max : 0, count: wordCount)
    isUnknown = Array(repeating: value == nil ? .max : 0, count: wordCount)
  }

  mutating func formAnd(_ other: Truth) {
    for i in isTrue.indices {
      let both = isTrue[i] & other.isTrue[i]
      let possible = (isTrue[i] | isUnknown[i]) & (other.isTrue[i] | other.isUnknown[i])
      isTrue[i] = both
      isUnknown[i] = possible & ~both
    }
  }

  mutating func formOr(_ other: Truth) {
    for i in isTrue.indices {
      isTrue[i] |= other.isTrue[i]
      isUnknown[i] = (isUnknown[i] | other.isUnknown[i]) & ~isTrue[i]
    }
  }

  mutating func negate() {
    for i in isTrue.indices { isTrue[i] = ~(isTrue[i] | isUnknown[i]) }
  }

  func bitmap(count: Int) -> Bitmap { Bitmap(words: isTrue, count: count) }
}

/// Evaluates a condition over all rows of a catalog, a column at a time.
///
/// Words of truth values are combined 64 rows at once; numbers are compared chunk by chunk in plain
/// loops; a condition over one text column is worked out once for each distinct text. What fits none
/// of these (two text columns in one comparison, for example) is evaluated row by row.
struct PredicateScan {
  let columns: [Column]
  let rowCount: Int
  private var wordCount: Int { (rowCount + 63) / 64 }

  init(columns: [Column], rowCount: Int) {
    self.columns = columns
    self.rowCount = rowCount
  }

  /// The rows for which the condition is true; not those for which it is NULL.
  func rows(_ condition: Scalar) -> Bitmap { truth(condition).bitmap(count: rowCount) }

  private func truth(_ condition: Scalar) -> Truth {
    switch condition {
    case .constant(let value):
      if case .bool(let bool) = value { return Truth(wordCount: wordCount, bool) }
      return Truth(wordCount: wordCount, nil)
    case .and(let left, let right):
      var both = truth(left)
      both.formAnd(truth(right))
      return both
    case .or(let left, let right):
      var either = truth(left)
      either.formOr(truth(right))
      return either
    case .not(let operand):
      var negated = truth(operand)
      negated.negate()
      return negated
    case .rows(let bitmap):
      var truth = Truth(wordCount: wordCount)
      truth.isTrue = bitmap.words
      return truth
    case .isNull(.column(let place)):
      var truth = present(columns[place])
      truth.isTrue = truth.isUnknown
      truth.isUnknown = Array(repeating: 0, count: wordCount)
      return truth
    case .isTrue(let operand):
      var truth = truth(operand)
      truth.isUnknown = Array(repeating: 0, count: wordCount)
      return truth
    case .isFalse(let operand):
      var truth = truth(operand)
      truth.negate()
      truth.isUnknown = Array(repeating: 0, count: wordCount)
      return truth
    default: return leaf(condition)
    }
  }

  private func leaf(_ condition: Scalar) -> Truth {
    if let truth = overText(condition) ?? overNumbers(condition) ?? overLists(condition) {
      return truth
    }
    if case .column(let place) = condition, case .bool(let values) = columns[place].values {
      return scan(values, columns[place]) { $0 }
    }
    return rowByRow(condition)
  }

  /// Unknown where the column is null, nowhere true.
  private func present(_ column: Column) -> Truth {
    var truth = Truth(wordCount: wordCount)
    if column.nullCount == 0 { return truth }
    column.present.forEachChunk { start, chunk in
      PredicateScan.pack(chunk, into: &truth.isUnknown, from: start) { $0 == 0 }
    }
    return truth
  }

  /// True where the value passes, unknown where the column is null.
  private func scan<T>(
    _ values: ChunkedVector<T>, _ column: Column, _ passes: (T) -> Bool
  ) -> Truth {
    var truth = present(column)
    values.forEachChunk { start, chunk in
      PredicateScan.pack(chunk, into: &truth.isTrue, from: start, passes)
    }
    for i in truth.isTrue.indices { truth.isTrue[i] &= ~truth.isUnknown[i] }
    return truth
  }

  /// Sets the bit of each element that passes. Chunks start at a multiple of 64.
  @inline(__always)
  private static func pack<T>(
    _ chunk: [T], into words: inout [UInt64], from start: Int, _ passes: (T) -> Bool
  ) {
    chunk.withUnsafeBufferPointer { elements in
      var at = 0
      var word = start >> 6
      while at < elements.count {
        let end = min(at + 64, elements.count)
        var bits: UInt64 = 0
        for i in at..<end { bits |= (passes(elements[i]) ? 1 : 0) << UInt64(i - at) }
        words[word] = bits
        word += 1
        at = end
      }
    }
  }

  private func rowByRow(_ condition: Scalar) -> Truth {
    var truth = Truth(wordCount: wordCount)
    var cells = Cells(columns: columns)
    for row in 0..<rowCount {
      cells.row = row
      let bit: UInt64 = 1 << UInt64(row & 63)
      switch condition.evaluate(cells) {
      case .bool(true): truth.isTrue[row >> 6] |= bit
      case .null: truth.isUnknown[row >> 6] |= bit
      default: break
      }
    }
    return truth
  }

  // MARK: Texts

  /// A condition whose only column is a text column.
  private func overText(_ condition: Scalar) -> Truth? {
    var used: Set<Int> = []
    guard condition.collectColumns(&used), used.count == 1, let place = used.first,
      case .string(let codes) = columns[place].values
    else { return nil }
    let column = columns[place]
    let dictionary = column.dictionary
    switch condition {
    case .compare(.equal, .column, .constant(.string(let text))),
      .compare(.equal, .constant(.string(let text)), .column):
      guard let code = dictionary.code(of: text) else { return present(column) }
      if column.codesAreRows { return rows([code], column) }
      return scan(codes, column) { $0 == code }
    case .member(.column, let list, hasNull: false) where column.codesAreRows:
      return rows(dictionary.codes(of: PredicateScan.texts(list)), column)
    case .compare(.notEqual, .column, .constant(.string(let text))),
      .compare(.notEqual, .constant(.string(let text)), .column):
      let code = dictionary.code(of: text) ?? -1
      return scan(codes, column) { $0 != code }
    default: break
    }
    // What the condition says of each distinct text: 0 false, 1 true, 2 unknown.
    var cells = Cells(columns: columns)
    func verdict(_ value: Value) -> UInt8 {
      cells.text = value
      return switch condition.evaluate(cells) {
      case .bool(true): 1
      case .null: 2
      default: 0
      }
    }
    let ofNull = verdict(.null)
    var verdicts: [UInt8] = []
    if case .member(.column, let list, let hasNull) = condition {
      verdicts = Array(repeating: hasNull ? 2 : 0, count: dictionary.count)
      for case let code? in dictionary.codes(of: PredicateScan.texts(list)) {
        verdicts[Int(code)] = 1
      }
    } else {
      verdicts.reserveCapacity(dictionary.count)
      dictionary.strings.forEachChunk { _, chunk in
        for text in chunk { verdicts.append(verdict(.string(text))) }
      }
    }
    if verdicts.isEmpty { verdicts = [0] }
    let hasUnknown = verdicts.contains(2)
    let nulls = present(column).isUnknown
    var truth = Truth(wordCount: wordCount)
    verdicts.withUnsafeBufferPointer { verdicts in
      codes.forEachChunk { start, chunk in
        PredicateScan.pack(chunk, into: &truth.isTrue, from: start) { verdicts[Int($0)] == 1 }
        if hasUnknown {
          PredicateScan.pack(chunk, into: &truth.isUnknown, from: start) { verdicts[Int($0)] == 2 }
        }
      }
    }
    for i in nulls.indices {
      truth.isTrue[i] &= ~nulls[i]
      truth.isUnknown[i] &= ~nulls[i]
      if ofNull == 1 { truth.isTrue[i] |= nulls[i] }
      if ofNull == 2 { truth.isUnknown[i] |= nulls[i] }
    }
    return truth
  }

  private static func texts(_ list: ValueList) -> [String] {
    list.values.compactMap { value in
      if case .string(let text) = value { text } else { nil }
    }
  }

  /// True in the rows of these numbers, where the column's codes are its rows.
  private func rows(_ codes: [Int32?], _ column: Column) -> Truth {
    var truth = present(column)
    for case let code? in codes where code < rowCount && !column.isNull(Int(code)) {
      truth.isTrue[Int(code) >> 6] |= 1 << UInt64(code & 63)
    }
    return truth
  }

  // MARK: Lists

  private func overLists(_ condition: Scalar) -> Truth? {
    guard case .call(let function, let arguments) = condition, arguments.count == 2,
      case .column(let place) = arguments[0], case .constant(let constant) = arguments[1],
      case .strings(let lists) = columns[place].values
    else { return nil }
    let column = columns[place]
    switch (function, constant) {
    case (.arrayHas, .string(let text)):
      guard let code = column.dictionary.code(of: text) else { return present(column) }
      return scan(lists, column) { $0.contains(code) }
    case (.arrayHasAny, .array(let values)), (.arrayHasAll, .array(let values)):
      var codes: [Int32] = []
      var isComplete = true
      for case .string(let text) in values {
        if let code = column.dictionary.code(of: text) {
          codes.append(code)
        } else {
          isComplete = false
        }
      }
      let wanted = codes
      if function == .arrayHasAny {
        return scan(lists, column) { list in wanted.contains { list.contains($0) } }
      }
      if !isComplete { return present(column) }
      return scan(lists, column) { list in wanted.allSatisfy { list.contains($0) } }
    default: return nil
    }
  }

  // MARK: Numbers

  private func overNumbers(_ condition: Scalar) -> Truth? {
    switch condition {
    case .compare(let op, .column(let place), .constant(let constant)):
      if let truth = compare(op, columns[place], constant) { return truth }
    case .compare(let op, .constant(let constant), .column(let place)):
      if let truth = compare(op.flipped, columns[place], constant) { return truth }
    case .member(.column(let place), let list, let hasNull):
      if let truth = member(columns[place], list) {
        return hasNull ? unknownUnlessTrue(truth) : truth
      }
    default: break
    }
    guard case .compare(let op, let left, let right) = condition, left.isNumeric(columns),
      right.isNumeric(columns)
    else { return nil }
    var truth = Truth(wordCount: wordCount)
    for start in stride(from: 0, to: rowCount, by: 1024) {
      let count = min(1024, rowCount - start)
      let (l, r) = (block(left, start, count), block(right, start, count))
      var known = [Bool](repeating: true, count: count)
      for i in 0..<count { known[i] = l.known[i] && r.known[i] }
      PredicateScan.pack(known, into: &truth.isUnknown, from: start) { !$0 }
      switch (l.values, r.values) {
      case (.ints(let x), .ints(let y)): holds(op, x, y, start, &truth)
      case (.doubles(let x), .doubles(let y)): holds(op, x, y, start, &truth)
      default: preconditionFailure("both sides of a comparison have one type")
      }
    }
    for i in truth.isTrue.indices { truth.isTrue[i] &= ~truth.isUnknown[i] }
    return truth
  }

  private func unknownUnlessTrue(_ truth: Truth) -> Truth {
    var truth = truth
    for i in truth.isTrue.indices { truth.isUnknown[i] = ~truth.isTrue[i] }
    return truth
  }

  private func holds<T: Comparable>(
    _ op: Expression.BinaryOperator, _ x: [T], _ y: [T], _ start: Int,
    _ truth: inout Truth
  ) {
    let results = zip(x, y).map { Scalar.holds(op, $0, $1) }
    PredicateScan.pack(results, into: &truth.isTrue, from: start) { $0 }
  }

  private func compare(
    _ op: Expression.BinaryOperator, _ column: Column, _ constant: Value
  ) -> Truth? {
    switch (column.values, constant) {
    case (.int(let values), .int(let number)): compare(op, values, column, number)
    case (.double(let values), .double(let number)): compare(op, values, column, number)
    case (.timestamp(let values), .timestamp(let time)):
      compare(op, values, column, time.microsecondsSinceEpoch)
    case (.bool(let values), .bool(let bool)):
      scan(values, column) { Scalar.holds(op, $0 ? 1 : 0, bool ? 1 : 0) }
    default: nil
    }
  }

  /// One loop for each operator: the operator is chosen outside of it.
  private func compare<T: Comparable>(
    _ op: Expression.BinaryOperator, _ values: ChunkedVector<T>, _ column: Column,
    _ number: T
  ) -> Truth {
    switch op {
    case .equal: scan(values, column) { $0 == number }
    case .notEqual: scan(values, column) { $0 != number }
    case .less: scan(values, column) { $0 < number }
    case .lessOrEqual: scan(values, column) { $0 <= number }
    case .greater: scan(values, column) { $0 > number }
    case .greaterOrEqual: scan(values, column) { $0 >= number }
    default: preconditionFailure("\(op) is no comparison")
    }
  }

  private func member(_ column: Column, _ list: ValueList) -> Truth? {
    switch column.values {
    case .int(let values):
      var wanted: Set<Int64> = []
      for value in list.values {
        guard case .int(let number) = value else { return nil }
        wanted.insert(number)
      }
      return scan(values, column) { wanted.contains($0) }
    case .double(let values):
      var wanted: Set<Double> = []
      for value in list.values {
        guard case .double(let number) = value else { return nil }
        wanted.insert(number)
      }
      return scan(values, column) { wanted.contains($0) }
    case .timestamp(let values):
      var wanted: Set<Int64> = []
      for value in list.values {
        guard case .timestamp(let time) = value else { return nil }
        wanted.insert(time.microsecondsSinceEpoch)
      }
      return scan(values, column) { wanted.contains($0) }
    default: return nil
    }
  }

  /// Numbers of up to 1,024 rows.
  private struct Block {
    enum Values { case ints([Int64]), doubles([Double]) }
    var values: Values
    var known: [Bool]
  }

  private func block(_ scalar: Scalar, _ start: Int, _ count: Int) -> Block {
    switch scalar {
    case .constant(.int(let number)):
      return Block(
        values: .ints(Array(repeating: number, count: count)),
        known: Array(repeating: true, count: count))
    case .constant(.double(let number)):
      return Block(
        values: .doubles(Array(repeating: number, count: count)),
        known: Array(repeating: true, count: count))
    case .column(let place):
      let column = columns[place]
      let known = column.present.chunks[start >> 10].map { $0 != 0 }
      switch column.values {
      case .int(let values): return Block(values: .ints(values.chunks[start >> 10]), known: known)
      case .double(let values):
        return Block(values: .doubles(values.chunks[start >> 10]), known: known)
      default: preconditionFailure("a column of numbers")
      }
    case .toDouble(let operand):
      let inner = block(operand, start, count)
      guard case .ints(let values) = inner.values else { return inner }
      return Block(values: .doubles(values.map(Double.init)), known: inner.known)
    case .negate(let operand):
      var inner = block(operand, start, count)
      switch inner.values {
      case .ints(let values):
        inner.values = .ints(values.map { 0 &- $0 })
        for i in 0..<count where values[i] == .min { inner.known[i] = false }
      case .doubles(let values): inner.values = .doubles(values.map { -$0 })
      }
      return inner
    case .arithmetic(let op, let left, let right):
      let (l, r) = (block(left, start, count), block(right, start, count))
      var known = l.known
      for i in 0..<count { known[i] = known[i] && r.known[i] }
      switch (l.values, r.values) {
      case (.ints(let x), .ints(let y)):
        var out = x
        for i in 0..<count where known[i] {
          if let value = Scalar.calculated(op, x[i], y[i]) {
            out[i] = value
          } else {
            known[i] = false
          }
        }
        return Block(values: .ints(out), known: known)
      case (.doubles(let x), .doubles(let y)):
        var out = x
        for i in 0..<count where known[i] {
          if let value = Scalar.calculated(op, x[i], y[i]) {
            out[i] = value
          } else {
            known[i] = false
          }
        }
        return Block(values: .doubles(out), known: known)
      default: preconditionFailure("both sides of an operation have one type")
      }
    default: preconditionFailure("not a block of numbers")
    }
  }
}

extension Expression.BinaryOperator {
  /// The operator with its sides exchanged.
  var flipped: Self {
    switch self {
    case .less: .greater
    case .lessOrEqual: .greaterOrEqual
    case .greater: .less
    case .greaterOrEqual: .lessOrEqual
    default: self
    }
  }
}

extension Scalar {
  /// Adds the columns that the expression reads.
  ///
  /// - Returns: false where it reads more than columns and constants.
  func collectColumns(_ used: inout Set<Int>) -> Bool {
    switch self {
    case .constant: return true
    case .column(let place):
      used.insert(place)
      return true
    case .rows: return false
    case .not(let a), .isNull(let a), .isTrue(let a), .isFalse(let a), .member(let a, _, _),
      .like(let a, _), .search(let a, _), .negate(let a), .toDouble(let a), .cast(let a, _):
      return a.collectColumns(&used)
    case .and(let a, let b), .or(let a, let b), .compare(_, let a, let b),
      .arithmetic(_, let a, let b):
      return a.collectColumns(&used) && b.collectColumns(&used)
    case .call(_, let arguments): return arguments.allSatisfy { $0.collectColumns(&used) }
    case .choice(let branches, let otherwise):
      return branches.allSatisfy {
        $0.condition.collectColumns(&used) && $0.value.collectColumns(&used)
      } && otherwise.collectColumns(&used)
    }
  }

  /// Whether the expression is made of numbers that can be worked out block by block.
  func isNumeric(_ columns: [Column]) -> Bool {
    switch self {
    case .constant(.int), .constant(.double): return true
    case .column(let place):
      switch columns[place].values {
      case .int, .double: return true
      default: return false
      }
    case .toDouble(let a), .negate(let a): return a.isNumeric(columns)
    case .arithmetic(_, let a, let b): return a.isNumeric(columns) && b.isNumeric(columns)
    default: return false
    }
  }
}
