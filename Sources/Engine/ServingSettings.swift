package import Domain
package import QueryEngine

/// What an engine's configuration says of serving queries.
package struct ServingSettings: Sendable {
  package var lexical: LexicalSettings?
  /// `deployment.pagination.page_expiration_in_seconds`. Default half an hour.
  package var pageSeconds = 1800.0
  /// `index.vector_search`
  package var vectorSearch = VectorSearchSettings()

  /// Reads the settings from the whole configuration as a document.
  ///
  /// - Throws: every problem at once, with its path.
  package init(_ configuration: JSON) throws(Diagnostics) {
    var problems: [Diagnostic] = []
    let pagination = configuration["deployment"]?["pagination"]
    if let given = pagination?["page_expiration_in_seconds"], given != .null {
      if let seconds = given.number, seconds >= 0, seconds <= 30 * 86_400 {
        pageSeconds = seconds
      } else {
        problems.append(
          Diagnostic(
            code: "out_of_range",
            "`page_expiration_in_seconds` is a number from 0 to 2592000, not \(given.text).",
            at: "deployment.pagination.page_expiration_in_seconds"))
      }
    }
    if let given = configuration["index"]?["lexical_search"], given != .null {
      lexical = Self.lexical(given, &problems)
    }
    if let given = configuration["index"]?["vector_search"], given != .null {
      vectorSearch = VectorSearchSettings(given, &problems)
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
  }

  private static func lexical(_ given: JSON, _ problems: inout [Diagnostic]) -> LexicalSettings {
    let place = "index.lexical_search"
    var settings = LexicalSettings()
    var problemsHere: [Diagnostic] = []
    func wrong(_ code: String, _ message: String, _ key: String, help: String? = nil) {
      problemsHere.append(Diagnostic(code: code, message, at: "\(place).\(key)", help: help))
    }
    func unknown(_ key: String, _ known: [String], at path: String) {
      wrong(
        "unknown_key", "`\(key)` is no key of `\(path)`.", key,
        help: nearestName(to: key, among: known).map { "Did you mean `\($0)`?" }
          ?? "Keys: \(known.joined(separator: ", ")).")
    }
    func flag(_ map: JSON, _ key: String, _ default: Bool) -> Bool {
      guard let value = map[key], value != .null else { return `default` }
      if let flag = value.bool { return flag }
      wrong("wrong_type", "`\(key)` is true or false, not \(value.text).", "tokenizer.\(key)")
      return `default`
    }
    let keys = ["tokenizer", "item_fields", "user_fields"]
    for member in given.object ?? [] where !keys.contains(member.name) {
      unknown(member.name, keys, at: place)
    }
    if let fields = given["item_fields"], fields != .null {
      let names = (fields.array ?? [fields]).compactMap(\.string)
      if names.isEmpty {
        wrong("wrong_type", "`item_fields` is a list of columns.", "item_fields")
      } else {
        settings.fields = names
      }
    }
    if let tokenizer = given["tokenizer"], tokenizer != .null {
      let known = [
        "type", "language", "stemming", "min_length", "max_length", "prefix_only", "lower_case",
        "ascii_folding", "remove_stop_words", "with_position", "max_token_length",
      ]
      for member in tokenizer.object ?? [] where !known.contains(member.name) {
        unknown(member.name, known, at: "\(place).tokenizer")
      }
      func length(_ key: String, _ default: Int) -> Int {
        guard let value = tokenizer[key], value != .null else { return `default` }
        if let number = value.int, (1...64).contains(number) { return Int(number) }
        wrong(
          "out_of_range", "`\(key)` is a whole number from 1 to 64, not \(value.text).",
          "tokenizer.\(key)")
        return `default`
      }
      switch tokenizer["type"]?.string ?? tokenizer.string {
      case nil, "stemmer", "simple":
        let language = tokenizer["language"]?.string ?? "en"
        if language != "en", language.lowercased() != "english" {
          wrong(
            "not_available", "Stems of the language `\(language)` are not available.",
            "tokenizer.language", help: "Write `stemming: false`, or `type: ngram`.")
        }
        settings.tokenizer = .stemmer(stems: flag(tokenizer, "stemming", true))
      case "ngram":
        let least = length("min_length", 3)
        let most = length("max_length", 3)
        if least > most {
          wrong("out_of_range", "`min_length` is above `max_length`.", "tokenizer.min_length")
        }
        settings.tokenizer = .ngram(
          lengths: least...max(least, most), prefixOnly: flag(tokenizer, "prefix_only", false))
      case "whitespace": settings.tokenizer = .whitespace
      case let other?:
        wrong(
          "unknown_tokenizer", "No tokenizer is called `\(other)`.", "tokenizer.type",
          help: "Tokenizers: ngram, stemmer, whitespace.")
      }
      settings.lowersCase = flag(tokenizer, "lower_case", true)
      settings.foldsToASCII = flag(tokenizer, "ascii_folding", true)
      settings.removesStopWords = flag(tokenizer, "remove_stop_words", true)
      if tokenizer["max_token_length"] != nil, tokenizer["max_token_length"] != .null {
        settings.mostTermLength = length("max_token_length", 40)
      }
    }
    problems += problemsHere
    return settings
  }
}
