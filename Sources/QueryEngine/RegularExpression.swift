/// A regular expression without backtracking: any text is searched in time linear in its length.
///
/// Letters, `.`, `[a-z]`, `[^a-z]`, `\d \w \s \D \W \S \b \B`, `^`, `$`, groups, `|`, `* + ? {m,n}`, and
/// `(?i)` at the start. Lazy quantifiers find the same texts as greedy ones. Back references and
/// look-around have no linear search and are refused.
///
/// - SeeAlso: R. Cox, *Regular Expression Matching: the Virtual Machine Approach*, 2009 (Pike's machine).
struct RegularExpression: Sendable {
  struct Fault: Error {
    var message: String
  }

  /// Programs beyond it are refused; a search costs at most this many steps for each character.
  static let mostInstructions = 1000

  private enum Instruction {
    case scalar(ScalarSet)
    case split(Int, Int)
    case jump(Int)
    case assert(Assertion)
    case match
  }

  fileprivate enum Assertion: Sendable { case start, end, boundary, noBoundary }

  fileprivate struct ScalarSet: Sendable {
    var ranges: [ClosedRange<UInt32>]
    var isNegated = false

    func contains(_ scalar: Unicode.Scalar, _ ignoresCase: Bool) -> Bool {
      func holds(_ value: UInt32) -> Bool { ranges.contains { $0.contains(value) } }
      var found = holds(scalar.value)
      if !found, ignoresCase {
        found =
          scalar.properties.lowercaseMapping.unicodeScalars.contains { holds($0.value) }
          || scalar.properties.uppercaseMapping.unicodeScalars.contains { holds($0.value) }
      }
      return found != isNegated
    }

    static let digit: [ClosedRange<UInt32>] = [48...57]
    static let word: [ClosedRange<UInt32>] = [48...57, 65...90, 95...95, 97...122]
    static let space: [ClosedRange<UInt32>] = [9...13, 32...32]
  }

  fileprivate indirect enum Node {
    case scalar(ScalarSet)
    case assert(Assertion)
    case sequence([Node])
    case either([Node])
    case repeated(Node, least: Int, most: Int?)
  }

  private var program: [Instruction] = []
  private let ignoresCase: Bool
  private var nodesEmitted = 0
  /// The size of the program, for the cost of a scan.
  var instructionCount: Int { program.count }

  init(_ pattern: String, ignoresCase: Bool) throws(Fault) {
    let folds = pattern.hasPrefix("(?i)")
    self.ignoresCase = ignoresCase || folds
    var reader = PatternReader(Array((folds ? pattern.dropFirst(4) : pattern[...]).unicodeScalars))
    try emit(try reader.whole())
    program.append(.match)
  }

  private mutating func emit(_ node: Node) throws(Fault) {
    // Repeats of nothing make no instructions and must end as well.
    nodesEmitted += 1
    guard program.count < RegularExpression.mostInstructions,
      nodesEmitted < 20 * RegularExpression.mostInstructions
    else {
      throw Fault(
        message: "it needs more than \(RegularExpression.mostInstructions) steps; repeat less")
    }
    switch node {
    case .scalar(let set): program.append(.scalar(set))
    case .assert(let assertion): program.append(.assert(assertion))
    case .sequence(let nodes): for node in nodes { try emit(node) }
    case .either(let nodes):
      var jumps: [Int] = []
      for (i, node) in nodes.enumerated() {
        guard i < nodes.count - 1 else {
          try emit(node)
          break
        }
        let split = program.count
        program.append(.split(split + 1, 0))
        try emit(node)
        jumps.append(program.count)
        program.append(.jump(0))
        program[split] = .split(split + 1, program.count)
      }
      for jump in jumps { program[jump] = .jump(program.count) }
    case .repeated(let node, let least, let most):
      for _ in 0..<least { try emit(node) }
      if let most {
        var splits: [Int] = []
        for _ in least..<max(least, most) {
          splits.append(program.count)
          program.append(.split(0, 0))
          try emit(node)
        }
        for split in splits { program[split] = .split(split + 1, program.count) }
      } else {
        let split = program.count
        program.append(.split(0, 0))
        try emit(node)
        program.append(.jump(split))
        program[split] = .split(split + 1, program.count)
      }
    }
  }

  /// Whether the expression is found anywhere in the text.
  ///
  /// - Complexity: the length of the text times the number of instructions at most.
  func isFound(in text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    var current: [Int] = []
    var next: [Int] = []
    // The position at which an instruction was last put into a list.
    var added = Array(repeating: -1, count: program.count)
    var stack: [Int] = []
    for at in 0...scalars.count {
      // A search may start at every position.
      if follow(0, at, scalars, &current, &added, &stack) { return true }
      guard at < scalars.count else { return false }
      next.removeAll(keepingCapacity: true)
      for place in current {
        guard case .scalar(let set) = program[place], set.contains(scalars[at], ignoresCase) else {
          continue
        }
        if follow(place + 1, at + 1, scalars, &next, &added, &stack) { return true }
      }
      swap(&current, &next)
    }
    return false
  }

  /// Adds the instructions that can be reached without reading; true where one of them is the end.
  private func follow(
    _ start: Int, _ at: Int, _ scalars: [Unicode.Scalar], _ list: inout [Int],
    _ added: inout [Int], _ stack: inout [Int]
  ) -> Bool {
    stack.append(start)
    while let place = stack.popLast() {
      if added[place] == at { continue }
      added[place] = at
      switch program[place] {
      case .match: return true
      case .scalar: list.append(place)
      case .jump(let target): stack.append(target)
      case .split(let a, let b):
        stack.append(b)
        stack.append(a)
      case .assert(let assertion): if holds(assertion, at, scalars) { stack.append(place + 1) }
      }
    }
    return false
  }

  private func holds(_ assertion: Assertion, _ at: Int, _ scalars: [Unicode.Scalar]) -> Bool {
    func isWord(_ place: Int) -> Bool {
      guard scalars.indices.contains(place) else { return false }
      return ScalarSet(ranges: ScalarSet.word).contains(scalars[place], false)
    }
    return switch assertion {
    case .start: at == 0
    case .end: at == scalars.count
    case .boundary: isWord(at - 1) != isWord(at)
    case .noBoundary: isWord(at - 1) == isWord(at)
    }
  }
}

/// Reads the text of a regular expression.
private struct PatternReader {
  typealias Fault = RegularExpression.Fault
  typealias Node = RegularExpression.Node
  typealias ScalarSet = RegularExpression.ScalarSet

  private let scalars: [Unicode.Scalar]
  private var at = 0
  private var depth = 0

  init(_ scalars: [Unicode.Scalar]) { self.scalars = scalars }

  private var peek: Unicode.Scalar? { at < scalars.count ? scalars[at] : nil }

  private mutating func skip(_ scalar: Unicode.Scalar) -> Bool {
    guard peek == scalar else { return false }
    at += 1
    return true
  }

  mutating func whole() throws(Fault) -> Node {
    let node = try alternatives()
    if at < scalars.count { throw Fault(message: "a `)` stands without its `(`") }
    return node
  }

  private mutating func alternatives() throws(Fault) -> Node {
    depth += 1
    defer { depth -= 1 }
    if depth > 50 { throw Fault(message: "its groups nest too deep") }
    var all = [try sequence()]
    while skip("|") { all.append(try sequence()) }
    return all.count == 1 ? all[0] : .either(all)
  }

  private mutating func sequence() throws(Fault) -> Node {
    var nodes: [Node] = []
    while let scalar = peek, scalar != "|", scalar != ")" {
      var node = try atom()
      var isRepeated = false
      while let (least, most) = try quantifier() {
        if isRepeated { throw Fault(message: "two quantifiers follow each other") }
        isRepeated = true
        node = .repeated(node, least: least, most: most)
        _ = skip("?")
      }
      nodes.append(node)
    }
    return .sequence(nodes)
  }

  private mutating func quantifier() throws(Fault) -> (Int, Int?)? {
    if skip("*") { return (0, nil) }
    if skip("+") { return (1, nil) }
    if skip("?") { return (0, 1) }
    guard peek == "{" else { return nil }
    at += 1
    let least = number()
    var most = least
    if skip(",") { most = number() }
    let isOpen = scalars[at - 1] == ","
    guard skip("}"), let least, isOpen || most != nil, most.map({ $0 >= least }) ?? true else {
      throw Fault(message: "`{` opens a count such as {2} or {2,5}; write \\{ for the character")
    }
    return (least, isOpen ? nil : most)
  }

  private mutating func number() -> Int? {
    var value: Int?
    while let scalar = peek, scalar.value >= 48, scalar.value <= 57 {
      value = min((value ?? 0) * 10 + Int(scalar.value - 48), 10_000)
      at += 1
    }
    return value
  }

  private mutating func atom() throws(Fault) -> Node {
    let scalar = scalars[at]
    at += 1
    switch scalar {
    case "(":
      if skip("?") {
        guard skip(":") else {
          throw Fault(message: "look-around and named groups are not supported; (?: ) is")
        }
      }
      let node = try alternatives()
      guard skip(")") else { throw Fault(message: "a `(` is not closed") }
      return node
    case "[": return .scalar(try bracket())
    case ".": return .scalar(ScalarSet(ranges: [10...10], isNegated: true))
    case "^": return .assert(.start)
    case "$": return .assert(.end)
    case "*", "+", "?": throw Fault(message: "`\(scalar)` has nothing before it to repeat")
    case "\\": return try escape()
    default: return .scalar(ScalarSet(ranges: [scalar.value...scalar.value]))
    }
  }

  private mutating func escape() throws(Fault) -> Node {
    guard let scalar = peek else { throw Fault(message: "it ends with a single backslash") }
    at += 1
    switch scalar {
    case "b": return .assert(.boundary)
    case "B": return .assert(.noBoundary)
    case "1"..."9": throw Fault(message: "back references are not supported")
    default:
      if let set = try escapedSet(scalar) { return .scalar(set) }
      return .scalar(ScalarSet(ranges: [scalar.value...scalar.value]))
    }
  }

  /// The set that a letter after a backslash stands for, or nil for the character itself.
  private func escapedSet(_ scalar: Unicode.Scalar) throws(Fault) -> ScalarSet? {
    switch scalar {
    case "d": return ScalarSet(ranges: ScalarSet.digit)
    case "D": return ScalarSet(ranges: ScalarSet.digit, isNegated: true)
    case "w": return ScalarSet(ranges: ScalarSet.word)
    case "W": return ScalarSet(ranges: ScalarSet.word, isNegated: true)
    case "s": return ScalarSet(ranges: ScalarSet.space)
    case "S": return ScalarSet(ranges: ScalarSet.space, isNegated: true)
    case "n": return ScalarSet(ranges: [10...10])
    case "t": return ScalarSet(ranges: [9...9])
    case "r": return ScalarSet(ranges: [13...13])
    case "a"..."z", "A"..."Z": throw Fault(message: "`\\\(scalar)` is not supported")
    default: return nil
    }
  }

  private mutating func bracket() throws(Fault) -> ScalarSet {
    var set = ScalarSet(ranges: [], isNegated: skip("^"))
    var isFirst = true
    while let scalar = peek, scalar != "]" || isFirst {
      isFirst = false
      at += 1
      var low = scalar
      if scalar == "\\" {
        guard let escaped = peek else { break }
        at += 1
        low = escaped
        if let inner = try escapedSet(escaped) {
          if inner.isNegated { throw Fault(message: "`\\\(escaped)` cannot stand between [ ]") }
          set.ranges += inner.ranges
          continue
        }
      }
      if peek == "-", at + 1 < scalars.count, scalars[at + 1] != "]" {
        at += 1
        var high = scalars[at]
        at += 1
        if high == "\\", let escaped = peek {
          high = escaped
          at += 1
        }
        guard low.value <= high.value else {
          throw Fault(message: "the range \(low)-\(high) is the wrong way round")
        }
        set.ranges.append(low.value...high.value)
      } else {
        set.ranges.append(low.value...low.value)
      }
    }
    guard skip("]") else { throw Fault(message: "a `[` is not closed") }
    return set
  }
}
