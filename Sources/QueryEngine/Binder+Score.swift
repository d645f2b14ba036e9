import Columns
import Domain
import QueryLanguage

extension Binder {
  // MARK: score()

  /// The user that every retriever with a user was given, where it is one.
  var retrievalUser: UserID? {
    let users = Set(plan.retrievers.compactMap(\.user))
    return users.count == 1 ? users.first : nil
  }

  /// The user or session of a score() or computed_column().
  private func scoredUser(_ call: Call) -> UserInput? {
    let known =
      call["input_user_id"] == nil ? nil : id(call, "input_user_id").map { UserID($0) }
    if let items = session(call) { return .session(items, user: known) }
    return known.map { .user($0) }
  }

  private func overrides(_ call: Call) -> [String: Double] {
    var out: [String: Double] = [:]
    for (name, value) in features(call, "signal_overrides") {
      guard let number = value.number else {
        problems.add(
          "type_mismatch",
          "`signal_overrides` sets names to numbers; `\(name)` is \(value.kindName)",
          call["signal_overrides"]?.span ?? call.span)
        continue
      }
      out[name] = number
    }
    return out
  }

  private func formulaBinder(_ call: Call, retrievers: [String?], _ user: UserInput?)
    -> FormulaBinder
  {
    var context = self.user
    switch user {
    case .user(let id): context.id = id
    case .session(_, let id?): context.id = id
    case .session, nil: break
    }
    context.features.merge(features(call, "input_user_features")) { $1 }
    return FormulaBinder(
      finder, parameters, retrievers: retrievers, user: context, overrides: overrides(call))
  }

  mutating func bindScore(_ call: Call) {
    guard case .formula(let formula)? = call["expression"]?.kind else { return }
    var user = scoredUser(call)
    var binder = formulaBinder(call, retrievers: plan.retrievers.map(\.name), user)
    guard let program = binder.program(formula) else { return }
    if call["input_user_id"] == nil, user == nil { user = retrievalUser.map { .user($0) } }
    if let what = program.needsUser, user == nil, call["input_user_id"] == nil {
      problems.add(
        "missing_argument", "score() needs a user for \(what)", call.name.span,
        help: "input_user_id=$user_id, or input_interactions_item_ids=$items for a session")
    }
    plan.score = Plan.Score(program: program, formula: formula, user: user, span: call.span)
  }

  mutating func bindModelScore(_ model: String, _ reference: ColumnReference) {
    guard let user = retrievalUser else {
      problems.add(
        "missing_argument", "ORDER BY \(model) needs a user", reference.span,
        help: "ORDER BY score(expression='\(model)', input_user_id=$user_id)")
      return
    }
    plan.score = Plan.Score(
      program: FormulaProgram(root: .input(0), inputs: [.model(model)], columns: []),
      formula: Formula(.name([Name(model)])), user: .user(user), span: reference.span)
  }

  /// Makes the computed columns. One that conditions or orders read is worked out over all rows and
  /// then like any other column; one that is only shown, over the rows of the answer.
  mutating func bindComputedColumns(_ query: Query) {
    for item in query.select {
      guard case .call(let call, let alias) = item, call.name.text == "computed_column" else {
        continue
      }
      let name = alias?.text ?? text(call, "name")?.text
      guard let name else {
        problems.add(
          "missing_argument", "computed_column() needs a name", call.name.span,
          help: "computed_column(expression='…') AS name")
        continue
      }
      guard finder.items[name] == nil else {
        problems.add(
          "duplicate_name", "the catalog has a column `\(name)` already", alias?.span ?? call.span)
        continue
      }
      guard case .formula(let formula)? = call["expression"]?.kind else { continue }
      let user = scoredUser(call) ?? self.user.id.map { .user($0) }
      var binder = formulaBinder(call, retrievers: [], user)
      guard let program = binder.program(formula) else { continue }
      if let what = program.needsUser, user == nil {
        problems.add(
          "missing_argument", "computed_column() needs a user for \(what)", call.name.span,
          help: "input_user_id=$user_id")
        continue
      }
      guard query.reads(name) else {
        shownColumns[name] = .computed(name, program, user, call.span)
        continue
      }
      let rows = (0..<finder.items.rowCount).map { CatalogRow($0) }
      do {
        let reader = FormulaReader(source: source, user: user, found: [])
        var column = Column(type: .double)
        for value in program.run(try reader.values(program, rows), rows: rows) {
          column.append(value.map { .double($0) } ?? .null)
        }
        finder.computed[name] = column
      } catch {
        problems.record(error, call.span)
      }
    }
  }

  // MARK: SELECT

  mutating func bindSelect(_ items: [SelectItem]) {
    var taken: Set<String> = []
    func take(_ name: String) -> Bool { taken.insert(name).inserted }
    for item in items {
      switch item {
      case .all:
        for (place, name) in finder.items.names.enumerated() where take(name) {
          plan.output.append(.column(name, finder.items.column(at: place)))
        }
      case .column(let reference, let alias):
        let name = alias?.text ?? reference.name.text
        let isID = reference.name.text == "item_id" || reference.name.text == "id"
        if isID, finder.items[reference.name.text] == nil {
          if take(name) { plan.output.append(.ids(name)) }
        } else if let column = finder.column(reference), take(name) {
          plan.output.append(.column(name, column))
        }
      case .call(let call, let alias):
        switch call.name.text {
        case "score":
          if let alias, take(alias.text) { plan.output.append(.score(alias.text)) }
        case "computed_column":
          guard let name = alias?.text ?? text(call, "name")?.text else { break }
          if let shown = shownColumns[name], take(name) {
            plan.output.append(shown)
          } else if let column = finder.computed[name], take(name) {
            plan.output.append(.column(name, column))
          }
        case "embedding":
          if let name = embedding(call), !plan.embeddings.contains(name) {
            plan.embeddings.append(name)
          }
        default: break
        }
      }
    }
  }
}

extension Query {
  /// Whether anything but the making of it reads a column of this name.
  fileprivate func reads(_ name: String) -> Bool {
    var isRead = false
    func look(_ expression: Expression) {
      expression.visitColumns { isRead = isRead || $0 == name }
    }
    func look(_ reference: ColumnReference) { isRead = isRead || reference.name.text == name }
    func look(_ argument: Argument) {
      switch argument.kind {
      case .columns(let columns): for column in columns { look(column.column) }
      case .predicate(let predicate): look(predicate)
      case .call(let call): look(call)
      case .name(let word), .string(let word): isRead = isRead || word == name
      case .list(let elements): elements.forEach(look)
      // A formula may name it in many ways: its text tells.
      case .formula(let formula): isRead = isRead || Printer.text(formula).contains(name)
      case .null, .bool, .int, .double, .parameter, .object: break
      }
    }
    func look(_ call: Call) {
      for argument in call.arguments where argument.name?.text != "name" { look(argument.value) }
    }
    func look(_ from: From) {
      switch from {
      case .retrievers(let calls): calls.forEach(look)
      case .engine(_, let inner): look(inner)
      case .entity, .table: break
      }
    }
    for item in select {
      switch item {
      case .column(let reference, _): look(reference)
      case .call(let call, let alias):
        let isItself =
          call.name.text == "computed_column" && (alias?.text == name || call["name"] != nil)
        if !isItself { look(call) }
      case .all: break
      }
    }
    if let from { look(from) }
    if let predicate { look(predicate) }
    for term in order {
      switch term.key {
      case .name(let reference): look(reference)
      case .call(let call): look(call)
      }
    }
    reorder.forEach(look)
    return isRead
  }
}
