package import Domain

/// `State` folds the log into what serving and training read: the catalog's columns, every user's
/// history, and the exact set of items that each has seen.
///
/// It is a pure fold. The same rows give the same state in whatever commits they came, and it reads
/// no clock and does no I/O.

/// The names of the columns that the fold reads.
package struct EntityColumns: Hashable, Sendable {
  package var userID = "user_id"
  package var itemID = "item_id"
  package var createdAt = "created_at"
  package var label = "label"
  package var eventValue = "event_value"
  package init() {}
}

/// Which tables, and which of their columns, make an engine's users and items.
package struct EntityMapping: Hashable, Sendable {
  package let interactionTable: TableSchema
  /// Nil where every item that was ever interacted with may be recommended.
  package let itemTable: TableSchema?

  /// Places of the columns in a row of the interaction table.
  let userPlace: Int
  let itemPlace: Int
  let timePlace: Int
  /// Nil where the table has no such column: every interaction then counts as 1.
  let labelPlace: Int?
  let eventPlace: Int?
  /// The place of the item's id in a row of the item table.
  let itemTableIDPlace: Int?
  /// The columns of the catalog: `item_id` first, then the item table's other columns.
  package let catalogColumns: [ColumnDefinition]
  /// Whether a row of the item table may go and leave an earlier row of the same item behind.
  let mayUncoverOlderItems: Bool

  /// Finds the columns in the tables.
  ///
  /// The interaction table must have the user's id, the item's id (text or whole numbers) and the
  /// time (`DateTime`). A label (a number or a Bool) and an event's kind are optional. The item
  /// table must have the item's id.
  ///
  /// - Throws: every column that is missing or of the wrong type.
  package init(
    interactions: TableSchema, items: TableSchema? = nil, columns: EntityColumns = EntityColumns()
  ) throws(Diagnostics) {
    var problems: [Diagnostic] = []
    func place(
      of name: String, in table: TableSchema, _ role: String, _ allowed: [ColumnType],
      isRequired: Bool = true
    ) -> Int? {
      guard let place = table.index(of: name) else {
        if isRequired {
          let names = table.columns.map(\.name)
          let near = nearestName(to: name, among: names)
          problems.append(
            Diagnostic(
              code: "missing_column",
              "The \(role) table `\(table.name)` has no column `\(name)`.", at: table.name,
              help: (near.map { "Did you mean `\($0)`? " } ?? "")
                + "Its columns are \(names.map { "`\($0)`" }.joined(separator: ", "))."))
        }
        return nil
      }
      let type = table.columns[place].type
      if !allowed.contains(type) {
        problems.append(
          Diagnostic(
            code: "wrong_column_type",
            "The column `\(name)` of the \(role) table `\(table.name)` is of type \(type.rawValue).",
            at: "\(table.name).\(name)",
            help: "It must be one of \(allowed.map(\.rawValue).joined(separator: ", "))."))
      }
      return place
    }
    let ids: [ColumnType] = [.string, .lowCardinalityString, .int32, .int64]
    let user = place(of: columns.userID, in: interactions, "interaction", ids)
    let item = place(of: columns.itemID, in: interactions, "interaction", ids)
    let time = place(of: columns.createdAt, in: interactions, "interaction", [.dateTime])
    let label = place(
      of: columns.label, in: interactions, "interaction",
      [.int32, .int64, .float, .double, .bool], isRequired: false)
    let event = place(
      of: columns.eventValue, in: interactions, "interaction",
      [.string, .lowCardinalityString, .int32, .int64, .float, .double, .bool], isRequired: false)
    let tableItem = items.flatMap { place(of: columns.itemID, in: $0, "item", ids) }
    if let items, items.name == interactions.name {
      problems.append(
        Diagnostic(
          code: "same_table",
          "The item table and the interaction table are both `\(items.name)`.", at: items.name,
          help: "Name two tables, or leave the item table out."))
    }
    if !problems.isEmpty { throw Diagnostics(problems) }
    guard let user, let item, let time else { preconditionFailure("a missing column is a problem") }
    interactionTable = interactions
    itemTable = items
    userPlace = user
    itemPlace = item
    timePlace = time
    labelPlace = label
    eventPlace = event
    itemTableIDPlace = tableItem
    // The catalog names the item's id `item_id`, whatever the table calls it.
    catalogColumns =
      [ColumnDefinition(name: EntityMapping.itemIDColumn, type: .string)]
      + (items?.columns ?? []).filter {
        $0.name != columns.itemID && $0.name != EntityMapping.itemIDColumn
      }
    mayUncoverOlderItems =
      items.map { items in
        items.uniqueKeys.isEmpty
          ? items.rules.retention != nil : items.uniqueKeys != [columns.itemID]
      } ?? false
  }

  /// The catalog's column of item ids.
  package static let itemIDColumn = "item_id"
}
