import Columns
import Domain

/// One table as a source, for data queries: columns and nothing else.
struct TableSource: QuerySource {
  let items: ColumnTable
  let now: Timestamp
  var listed: Bitmap { Bitmap(count: items.rowCount, repeating: true) }
  var catalogVersion: UInt64 { 0 }
  func itemID(of row: CatalogRow) -> ItemID { ItemID(String(row.rawValue)) }
  func row(of id: ItemID) -> CatalogRow? { nil }
  var embeddingNames: [String] { [] }
  var modelNames: [String] { [] }
  var filterNames: [String] { [] }
  func nearest(
    embedding: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) -> Nearest { Nearest(rows: [], scores: []) }
  func scores(model: String, for user: UserInput, rows: [CatalogRow]) -> [Float?] {
    rows.map { _ in nil }
  }
  func forbidden(filter: String, user: UserID?) -> [CatalogRow] { [] }
}

/// Items that the caller gives with the query, in the place of the catalog.
///
/// An item that the catalog has keeps the cells that are not given, and what models and filters know of
/// it; any other is known by its given cells alone.
struct AttributeSource: QuerySource {
  let base: any QuerySource
  private(set) var items: ColumnTable
  private var ids: [ItemID] = []
  private var rows: [ItemID: CatalogRow] = [:]
  private var baseRows: [CatalogRow?] = []

  /// - Parameter attributes: an object for each item; `item_id` or `id` names it.
  init(_ attributes: [[JSON.Member]], on base: any QuerySource) {
    self.base = base
    var definitions: [ColumnDefinition] = []
    for (place, name) in base.items.names.enumerated() {
      definitions.append(
        ColumnDefinition(name: name, type: base.items.column(at: place).type))
    }
    var isKnown = Set(definitions.map(\.name))
    for member in attributes.joined() where isKnown.insert(member.name).inserted {
      let values = attributes.compactMap { item in item.last { $0.name == member.name }?.value }
      definitions.append(ColumnDefinition(name: member.name, type: AttributeSource.type(values)))
    }
    if isKnown.insert("item_id").inserted {
      definitions.append(ColumnDefinition(name: "item_id", type: .string))
    }
    items = ColumnTable(definitions)
    for (number, item) in attributes.enumerated() {
      let given = Dictionary(item.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
      let id: ItemID =
        switch given["item_id"] ?? given["id"] {
        case .string(let text): ItemID(text)
        case .int(let value): ItemID(String(value))
        default: ItemID(String(number))
        }
      guard rows[id] == nil else { continue }
      let baseRow = base.row(of: id)
      let cells = definitions.map { definition -> Value in
        if definition.name == "item_id" { return .string(id.rawValue) }
        if let value = given[definition.name] {
          return AttributeSource.coerced(value, to: definition.type)
        }
        guard let baseRow, let column = base.items[definition.name] else { return .null }
        return column.value(at: baseRow.index)
      }
      let row = CatalogRow(items.appendEmptyRow())
      items.setRow(row.index, to: cells)
      ids.append(id)
      rows[id] = row
      baseRows.append(baseRow)
    }
  }

  private static func type(_ values: [JSON]) -> ColumnType {
    var type: ColumnType?
    for value in values {
      switch (value, type) {
      case (.null, _), (.int, .double), (.int, .int64), (.string, .string), (.bool, .bool): break
      case (.int, nil): type = .int64
      case (.double, nil), (.double, .int64), (.double, .double): type = .double
      case (.bool, nil): type = .bool
      case (.array(let elements), nil), (.array(let elements), .stringArray):
        type =
          elements.allSatisfy { $0.number != nil } && !elements.isEmpty
          ? .float64Array : .stringArray
      default: type = .string
      }
    }
    return type ?? .string
  }

  private static func coerced(_ json: JSON, to type: ColumnType) -> Value {
    func elements(_ make: (JSON) -> Value?) -> Value {
      .array((json.array ?? [json]).compactMap(make))
    }
    if json == .null { return .null }
    switch type {
    case .stringArray:
      return elements { $0.string.map { .string($0) } ?? .string($0.text) }
    case .int64Array: return elements { $0.int.map { .int($0) } }
    case .float64Array: return elements { $0.number.map { .double($0) } }
    default:
      if case .object = json { return .null }
      if json.array != nil { return .null }
      var value = Scalar.converted(Value(json), to: ScalarType(type))
      if case .double(let number) = value, !number.isFinite { value = .null }
      return value
    }
  }

  var listed: Bitmap { Bitmap(count: items.rowCount, repeating: true) }
  var catalogVersion: UInt64 { 0 }
  var now: Timestamp { base.now }
  func itemID(of row: CatalogRow) -> ItemID { ids[row.index] }
  func row(of id: ItemID) -> CatalogRow? { rows[id] }
  var embeddingNames: [String] { base.embeddingNames }
  var modelNames: [String] { base.modelNames }
  var filterNames: [String] { base.filterNames }

  func nearest(
    embedding: String, to encoder: Encoder, count: Int, among: Bitmap, exactly: Bool
  ) throws -> Nearest {
    throw Diagnostic(
      code: "not_supported", "candidate_attributes() stands alone: its items are in no index")
  }

  func scores(model: String, for user: UserInput, rows: [CatalogRow]) throws -> [Float?] {
    try mapped(rows) { try base.scores(model: model, for: user, rows: $0) }
  }

  func vectors(embedding: String, rows: [CatalogRow]) throws -> [[Float]?] {
    try mapped(rows) { try base.vectors(embedding: embedding, rows: $0) }
  }

  private func mapped<T>(
    _ rows: [CatalogRow], _ read: ([CatalogRow]) throws -> [T?]
  ) rethrows -> [T?] {
    let known = rows.compactMap { baseRows[$0.index] }
    var values = try read(known).makeIterator()
    return rows.map { row in baseRows[row.index] == nil ? nil : values.next() ?? nil }
  }

  func forbidden(filter: String, user: UserID?) throws -> [CatalogRow] {
    let all = Set(try base.forbidden(filter: filter, user: user))
    return baseRows.indices.filter { place in baseRows[place].map(all.contains) ?? false }
      .map { CatalogRow($0) }
  }

  func vector(embedding: String, of input: VectorInput) throws -> [Float]? {
    try base.vector(embedding: embedding, of: input)
  }
  func history(of user: UserID, limit: Int) -> [CatalogRow] {
    base.history(of: user, limit: limit).compactMap { rows[base.itemID(of: $0)] }
  }
  var userColumns: [ColumnDefinition] { base.userColumns }
  func userCell(_ column: String, of user: UserID) -> Value {
    base.userCell(column, of: user)
  }
}
