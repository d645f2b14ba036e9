import Domain

/// How texts become the terms of a lexical search.
package struct LexicalSettings: Hashable, Sendable {
  package enum Tokenizer: Hashable, Sendable {
    /// Words, cut down to their stems by the rules of English where `stems`.
    case stemmer(stems: Bool)
    /// All pieces of a word of these lengths in characters; only those that open it where
    /// `prefixOnly`.
    case ngram(lengths: ClosedRange<Int>, prefixOnly: Bool)
    /// Whatever stands between white space.
    case whitespace
  }

  /// The columns that are read; nil: all that hold texts.
  package var fields: [String]?
  package var tokenizer: Tokenizer
  package var lowersCase: Bool
  /// Whether `Ü` counts as `U`.
  package var foldsToASCII: Bool
  package var removesStopWords: Bool
  /// Longer terms are left out, in characters.
  package var mostTermLength: Int?

  package init(
    fields: [String]? = nil, tokenizer: Tokenizer = .stemmer(stems: true),
    lowersCase: Bool = true, foldsToASCII: Bool = true, removesStopWords: Bool = true,
    mostTermLength: Int? = 40
  ) {
    self.fields = fields
    self.tokenizer = tokenizer
    self.lowersCase = lowersCase
    self.foldsToASCII = foldsToASCII
    self.removesStopWords = removesStopWords
    self.mostTermLength = mostTermLength
  }

  /// The terms of a text, in order.
  package func terms(_ text: String) -> [String] {
    var text = lowersCase ? text.lowercased() : text
    if foldsToASCII { text = LexicalSettings.folded(text) }
    var out: [String] = []
    let words: [Substring] =
      switch tokenizer {
      case .whitespace: text.split(whereSeparator: \.isWhitespace)
      case .stemmer, .ngram:
        text.split { !($0.isLetter || $0.isNumber || $0 == "_") }
      }
    for word in words {
      if removesStopWords, LexicalSettings.stopWords.contains(word.lowercased()) { continue }
      switch tokenizer {
      case .whitespace: add(String(word), &out)
      case .stemmer(let stems): add(stems ? PorterStemmer.stem(String(word)) : String(word), &out)
      case .ngram(let lengths, let prefixOnly):
        let letters = Array(word)
        for start in letters.indices where start == 0 || !prefixOnly {
          for length in lengths where start + length <= letters.count {
            add(String(letters[start..<start + length]), &out)
          }
        }
      }
    }
    return out
  }

  private func add(_ term: String, _ out: inout [String]) {
    if let mostTermLength, term.count > mostTermLength { return }
    out.append(term)
  }

  /// Letters without their marks. Letters that are no letter with a mark stay (`ß` becomes `ss`).
  private static func folded(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 < 128 }) { return text }
    var out = ""
    for character in text {
      switch character {
      case "ß": out += "ss"
      case "æ": out += "ae"
      case "Æ": out += "AE"
      case "œ": out += "oe"
      case "ø": out += "o"
      case "Ø": out += "O"
      case "đ", "ð": out += "d"
      case "ł": out += "l"
      case "Ł": out += "L"
      default: out.append(base(character))
      }
    }
    return out
  }

  /// The letter under the marks, found by comparing with each letter joined to each common mark:
  /// Swift's strings are equal where their canonical forms are.
  private static func base(_ character: Character) -> Character {
    if character.isASCII { return character }
    return bases[character] ?? character
  }

  private static let bases: [Character: Character] = {
    var out: [Character: Character] = [:]
    let marks: [Unicode.Scalar] = [
      "\u{300}", "\u{301}", "\u{302}", "\u{303}", "\u{304}", "\u{306}", "\u{307}", "\u{308}",
      "\u{30A}", "\u{30B}", "\u{30C}", "\u{323}", "\u{327}", "\u{328}", "\u{31B}",
    ]
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for letter in letters {
      for mark in marks {
        var joined = String(letter)
        joined.unicodeScalars.append(mark)
        out[Character(joined)] = letter
        for second in marks {
          var twice = joined
          twice.unicodeScalars.append(second)
          if let only = twice.first, twice.count == 1, out[only] == nil { out[only] = letter }
        }
      }
    }
    return out
  }()

  static let stopWords: Set<String> = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
  ]
}

/// Cuts the endings of English words.
///
/// - SeeAlso: Porter, *An algorithm for suffix stripping*, Program 14(3), 1980.
enum PorterStemmer {
  static func stem(_ word: String) -> String {
    let bytes = Array(word.utf8)
    guard bytes.count > 2, bytes.allSatisfy({ $0 >= 97 && $0 <= 122 }) else { return word }
    var stem = Stem(letters: bytes)
    stem.plurals()
    stem.yToI()
    stem.replace(Stem.step2, measureAbove: 0)
    stem.replace(Stem.step3, measureAbove: 0)
    stem.longEndings()
    stem.finalE()
    return String(decoding: stem.letters, as: UTF8.self)
  }

  private struct Stem {
    var letters: [UInt8]

    private func isConsonant(_ at: Int) -> Bool {
      switch letters[at] {
      case UInt8(ascii: "a"), UInt8(ascii: "e"), UInt8(ascii: "i"), UInt8(ascii: "o"),
        UInt8(ascii: "u"):
        false
      case UInt8(ascii: "y"): at == 0 || !isConsonant(at - 1)
      default: true
      }
    }

    /// The number of vowel-consonant pairs in the first letters.
    private func measure(_ count: Int) -> Int {
      var out = 0
      var wasVowel = false
      for at in 0..<count {
        let isVowel = !isConsonant(at)
        if wasVowel, !isVowel { out += 1 }
        wasVowel = isVowel
      }
      return out
    }

    private func hasVowel(_ count: Int) -> Bool { (0..<count).contains { !isConsonant($0) } }

    private func ends(_ suffix: String) -> Int? {
      let bytes = Array(suffix.utf8)
      guard letters.count > bytes.count, letters.suffix(bytes.count).elementsEqual(bytes) else {
        return nil
      }
      return letters.count - bytes.count
    }

    private var endsDouble: Bool {
      letters.count > 1 && letters[letters.count - 1] == letters[letters.count - 2]
        && isConsonant(letters.count - 1)
    }

    /// Consonant, vowel, consonant other than w, x and y.
    private func endsShort(_ count: Int) -> Bool {
      guard count > 2, isConsonant(count - 1), !isConsonant(count - 2), isConsonant(count - 3)
      else { return false }
      return ![UInt8(ascii: "w"), UInt8(ascii: "x"), UInt8(ascii: "y")]
        .contains(letters[count - 1])
    }

    private mutating func set(_ count: Int, _ ending: String) {
      letters = Array(letters.prefix(count)) + Array(ending.utf8)
    }

    mutating func plurals() {
      if let at = ends("sses") {
        set(at, "ss")
      } else if let at = ends("ies") {
        set(at, "i")
      } else if ends("ss") == nil, let at = ends("s") {
        set(at, "")
      }
      if let at = ends("eed") {
        if measure(at) > 0 { set(at, "ee") }
        return
      }
      guard let at = ends("ed") ?? ends("ing"), hasVowel(at) else { return }
      set(at, "")
      if ends("at") != nil || ends("bl") != nil || ends("iz") != nil {
        set(letters.count, "e")
      } else if endsDouble,
        ![UInt8(ascii: "l"), UInt8(ascii: "s"), UInt8(ascii: "z")]
          .contains(letters[letters.count - 1])
      {
        letters.removeLast()
      } else if measure(letters.count) == 1, endsShort(letters.count) {
        set(letters.count, "e")
      }
    }

    mutating func yToI() {
      if let at = ends("y"), hasVowel(at) { set(at, "i") }
    }

    static let step2 = [
      ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
      ("abli", "able"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"),
      ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
      ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
      ("iviti", "ive"), ("biliti", "ble"),
    ]
    static let step3 = [
      ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"),
      ("ful", ""), ("ness", ""),
    ]

    mutating func replace(_ endings: [(String, String)], measureAbove least: Int) {
      for (from, to) in endings {
        guard let at = ends(from) else { continue }
        if measure(at) > least { set(at, to) }
        return
      }
    }

    private static let step4 = [
      "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous",
      "ive", "ize", "ion", "al", "er", "ic", "ou",
    ]

    mutating func longEndings() {
      for ending in Self.step4 {
        guard let at = ends(ending) else { continue }
        guard measure(at) > 1 else { return }
        if ending == "ion",
          letters[at - 1] != UInt8(ascii: "s") && letters[at - 1] != UInt8(ascii: "t")
        {
          return
        }
        set(at, "")
        return
      }
    }

    mutating func finalE() {
      if let at = ends("e") {
        let m = measure(at)
        if m > 1 || (m == 1 && !endsShort(at)) { set(at, "") }
      }
      if endsDouble, letters.last == UInt8(ascii: "l"), measure(letters.count) > 1 {
        letters.removeLast()
      }
    }
  }
}
