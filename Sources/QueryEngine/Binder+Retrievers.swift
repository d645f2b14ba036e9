import Columns
import Domain
import QueryLanguage

extension Binder {
  /// The search of a similarity() by its encoder.
  func similarity(_ call: Call, _ embedding: String) -> Plan.Retriever.Operator? {
    var name: (text: String, span: SourceSpan)?
    var arguments = call
    if case .call(let inner)? = call["encoder"]?.kind {
      name = (inner.name.text, inner.name.span)
      arguments = inner
    } else if call["encoder"] != nil {
      guard let given = text(call, "encoder") else { return nil }
      name = given
    } else if call["input_user_id"] != nil {
      name = ("precomputed_user", call.span)
    } else if call["input_item_id"] != nil {
      name = ("precomputed_item", call.span)
    }
    guard let name else {
      problems.add(
        "missing_argument", "similarity() needs to know what to search for", call.name.span,
        help:
          "Give input_user_id=$user_id, or encoder='precomputed_item' and input_item_id=$item_id.")
      return nil
    }
    func need(_ argument: String) -> String? {
      if arguments[argument] == nil {
        problems.add(
          "missing_argument", "the encoder `\(name.text)` needs `\(argument)`", name.span,
          help: "\(argument)=$\(argument.dropFirst("input_".count))")
      }
      return id(arguments, argument)
    }
    func pooling() -> Encoder.Pooling {
      guard let given = text(arguments, "pooling_function") else { return .mean }
      if let known = Encoder.Pooling(rawValue: given.text.lowercased()) { return known }
      problems.unknown(
        "pooling function", given.text, given.span,
        among: Encoder.Pooling.allCases.map(\.rawValue), plural: "pooling functions")
      return .mean
    }
    func whole(_ argument: String, default fallback: Int, most: Int) -> Int {
      guard let given = arguments[argument] else { return fallback }
      return max(1, count(given, argument, most: most) ?? fallback)
    }
    switch name.text {
    case "precomputed_user":
      return need("input_user_id").map {
        .nearest(embedding: embedding, .precomputedUser(UserID($0)))
      }
    case "precomputed_item":
      return need("input_item_id").map {
        .nearest(embedding: embedding, .precomputedItem(ItemID($0)))
      }
    case "interaction_pooling":
      let interactions = whole("truncate_interactions", default: 10, most: 10_000)
      let pooling = pooling()
      return need("input_user_id").map {
        .nearest(
          embedding: embedding,
          .interactionPooling(UserID($0), pooling, interactions: interactions))
      }
    case "interaction_round_robin":
      let clusters = whole("num_clusters", default: 5, most: 100)
      let interactions = whole("truncate_interactions", default: 100, most: 1000)
      let pooling = pooling()
      return need("input_user_id").map {
        .roundRobin(
          embedding: embedding, UserID($0), pooling, clusters: clusters, interactions: interactions)
      }
    case "session":
      guard let items = session(arguments) else {
        if arguments["input_interactions_item_ids"] == nil {
          problems.add(
            "missing_argument", "the encoder `session` needs `input_interactions_item_ids`",
            name.span, help: "input_interactions_item_ids=$items, oldest first")
        }
        return nil
      }
      return .nearestTo(embedding: embedding, .session(items))
    case "user_attribute_pooling":
      var values: [String: JSON] = [:]
      if let id = arguments["input_user_id"] == nil ? nil : id(arguments, "input_user_id") {
        for column in source.userColumns {
          values[column.name] = source.userCell(column.name, of: UserID(id)).json
        }
      }
      let given = features(arguments, "input_user_features")
      values.merge(given) { $1 }
      return attributes(values, embedding, name, ofUser: true)
    case "item_attribute_pooling":
      var values: [String: JSON] = [:]
      let given = features(arguments, "input_item_features")
      if arguments["input_item_id"] != nil {
        guard let id = id(arguments, "input_item_id") else { return nil }
        if given.isEmpty { return .nearestTo(embedding: embedding, .item(ItemID(id))) }
        if let row = source.row(of: ItemID(id)) {
          for (place, column) in finder.items.names.enumerated() {
            values[column] = finder.items.column(at: place).value(at: row.index).json
          }
        }
      }
      values.merge(given) { $1 }
      return attributes(values, embedding, name, ofUser: false)
    default:
      problems.unknown(
        "encoder", name.text, name.span, among: CallSignature.names(.encoder), plural: "encoders")
      return nil
    }
  }

  private func attributes(
    _ values: [String: JSON], _ embedding: String, _ encoder: (text: String, span: SourceSpan),
    ofUser: Bool
  ) -> Plan.Retriever.Operator? {
    if values.isEmpty {
      let what = ofUser ? "user" : "item"
      problems.add(
        "missing_argument",
        "the encoder `\(encoder.text)` needs `input_\(what)_id` or `input_\(what)_features`",
        encoder.span)
      return nil
    }
    return .nearestTo(embedding: embedding, .attributes(values, ofUser: ofUser))
  }

  /// The items of `input_interactions_item_ids`, oldest first; nil where it is absent or no list.
  func session(_ call: Call) -> [ItemID]? {
    guard let argument = call["input_interactions_item_ids"],
      let value = parameters.value(of: argument), value != .null
    else { return nil }
    let items = value.array?.compactMap(Binder.id)
    if let items, items.count == value.array?.count { return items.map { ItemID($0) } }
    problems.add(
      "type_mismatch", "`input_interactions_item_ids` is a list of ids, oldest first",
      argument.span)
    return nil
  }

  /// The members of an argument that is an object.
  func features(_ call: Call, _ name: String) -> [String: JSON] {
    guard let argument = call[name], let value = parameters.value(of: argument), value != .null
    else { return [:] }
    guard let members = value.object else {
      problems.add(
        "type_mismatch", "`\(name)` is an object, not \(value.kindName)", argument.span,
        help: "\(name)={'country': 'de'}, or a parameter that is an object")
      return [:]
    }
    return Dictionary(members.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
  }

  // MARK: text_search

  func textSearch(_ call: Call) -> Plan.Retriever.Operator? {
    var mode = "lexical"
    var arguments = call
    if case .call(let inner)? = call["mode"]?.kind {
      mode = inner.name.text
      arguments.arguments += inner.arguments
    } else if let given = text(call, "mode") {
      mode = given.text.lowercased()
      if mode != "lexical", mode != "vector" {
        problems.unknown(
          "mode", mode, given.span, among: ["lexical", "vector"], plural: "modes")
        return nil
      }
    }
    guard let argument = call["query"], let value = parameters.value(of: argument) else {
      return nil
    }
    guard let words = value.string ?? (value == .null ? "" : Binder.id(value)) else {
      problems.add("type_mismatch", "`query` is a text, not \(value.kindName)", argument.span)
      return nil
    }
    if words.utf8.count > 1000 {
      problems.add(
        "query_too_long",
        "the text to search for has \(words.utf8.count) bytes; at most 1000 count",
        argument.span)
      return nil
    }
    if mode == "vector" {
      guard let given = text(arguments, "text_embedding_ref") else {
        problems.add(
          "missing_argument", "text_search() in vector mode needs `text_embedding_ref`",
          call.name.span, help: "text_embedding_ref='title_embedding'")
        return nil
      }
      let name = Binder.referred(given.text)
      guard source.embeddingNames.contains(name) else {
        problems.unknown(
          "embedding", name, given.span, among: source.embeddingNames, plural: "embeddings")
        return nil
      }
      return .nearestTo(embedding: name, .text(words))
    }
    var fuzziness = 0
    if let given = arguments["fuzziness"] ?? arguments["fuzziness_edit_distance"] {
      fuzziness = count(given, "fuzziness", most: 3) ?? 0
    }
    var fields: [String] = []
    for (place, name) in finder.items.names.enumerated() {
      let column = finder.items.column(at: place)
      let holdsTexts = [.string, .strings].contains(ScalarType(column.type))
      let isWanted = source.lexicalSettings?.fields?.contains(name) ?? (name != "item_id")
      if holdsTexts, isWanted { fields.append(name) }
    }
    guard !fields.isEmpty else {
      problems.add(
        "nothing_to_search", "the catalog has no text columns to search in", call.name.span,
        help: "Name text columns in `index.lexical_search.item_fields` of the engine.")
      return nil
    }
    return .lexical(words, fuzziness: fuzziness, fields: fields)
  }
}
