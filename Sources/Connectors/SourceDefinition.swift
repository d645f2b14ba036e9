package import Domain

/// The kinds of sources, by the names that definitions use.
package enum SourceKind: String, Hashable, Sendable, CaseIterable {
  case file
  case segment
  case rudderstack
  case kafka
  case kinesis

  /// A name in any case: table definitions write `KAFKA`, sources `kafka`.
  package init?(anyCase name: String) { self.init(rawValue: name.lowercased()) }

  /// Whether events are sent to Riffle, and not fetched by it.
  package var isPushed: Bool { self == .segment || self == .rudderstack }
}

/// A source as its YAML declares it, checked.
///
/// `name`, `type` and `table` are common to all, as are `mapping`, `filter` and `batch_size`; the rest
/// belongs to the kind. `Documentation/connectors.md` has each key.
package struct SourceDefinition: Hashable, Sendable {
  package enum Settings: Hashable, Sendable {
    case file(FileSettings)
    case segment(SegmentSettings)
    case kafka(KafkaSettings)
    case kinesis(KinesisSettings)
  }

  package let name: String
  package let kind: SourceKind
  package let table: String
  package let mapping: RecordMapping?
  package let filter: RecordFilter?
  /// The most records of one transaction.
  package let batchSize: Int
  package let settings: Settings
  package let description: String?
  /// The table's own definition, where the source's brings one along (`column_schema`).
  package let tableDefinition: JSON?
  /// The definition as it was given.
  package let json: JSON
  /// Keys whose secrets stand in the definition itself.
  package let literalSecrets: [String]

  /// Reads a definition.
  ///
  /// - Throws: every problem: an unknown key or kind, a missing address, a path that is none.
  package init(_ json: JSON) throws(Diagnostics) {
    guard json.object != nil else {
      throw Diagnostics(
        Diagnostic(
          code: "invalid_source", "A source's definition must be a map, not \(json.kindName).",
          help: "Write name, type and table, and what the type asks for."))
    }
    let reader = DefinitionReader(json)
    let name = reader.required("name", help: "Name the source, for example `clicks`.") ?? ""
    if !name.isEmpty, let fault = Self.nameFault(name) {
      reader.report(
        "invalid_source_name", "The name `\(name)` \(fault).", at: "name",
        help: "Names hold letters, digits, `_` and `-`, and are at most 128 characters long.")
    }
    var kind: SourceKind?
    let kinds = SourceKind.allCases.map(\.rawValue)
    if let text = reader.string("type", "schema_type") {
      kind = SourceKind(anyCase: text)
      if kind == nil {
        let near = nearestName(to: text, among: kinds)
        reader.report(
          "unknown_source_type", "There is no source of the type `\(text)`.", at: "type",
          help: near.map { "Did you mean `\($0)`?" }
            ?? "The types are \(kinds.map { "`\($0)`" }.joined(separator: ", ")).")
      }
    } else {
      reader.report(
        "missing_key", "`type` is missing.", at: "type",
        help: "It is one of \(kinds.map { "`\($0)`" }.joined(separator: ", ")).")
    }
    // A table's definition of a connector's schema type names the table by `name`.
    table = reader.string("table", "table_name") ?? name
    description = reader.string("description")
    mapping = RecordMapping(reader.object("mapping"), reader)
    filter = RecordFilter(reader.take("filter"), reader)
    batchSize = reader.int("batch_size", in: 1...100_000) ?? 5000
    let columns = reader.take("column_schema")
    let keys = reader.take("unique_keys")
    if let columns {
      var members: [JSON.Member] = [
        .init("name", .string(table)), .init("schema_type", "CUSTOM"),
        .init("column_schema", columns),
      ]
      if let keys { members.append(.init("unique_keys", keys)) }
      if let description { members.append(.init("description", .string(description))) }
      tableDefinition = .object(members)
    } else {
      tableDefinition = nil
    }
    var settings: Settings?
    switch kind {
    case .file: settings = FileSettings(reader).map { .file($0) }
    case .segment, .rudderstack: settings = SegmentSettings(reader).map { .segment($0) }
    case .kafka: settings = KafkaSettings(reader, source: name).map { .kafka($0) }
    case .kinesis: settings = KinesisSettings(reader).map { .kinesis($0) }
    case nil: break
    }
    // Without a kind there is no telling which keys belong.
    if kind != nil { reader.finish() }
    guard reader.problems.isEmpty, let kind, let settings else {
      throw Diagnostics(
        reader.problems.isEmpty
          ? [Diagnostic(code: "invalid_source", "The definition cannot be read.")]
          : reader.problems)
    }
    self.name = name
    self.kind = kind
    self.settings = settings
    self.json = json
    literalSecrets = Self.secretKeys.filter { key in
      json[key]?.string.map { Secret($0).isLiteral } ?? false
    }
  }

  private static let secretKeys = [
    "password", "write_key", "shared_secret", "aws_secret_access_key", "aws_session_token",
    "ssl_key_password",
  ]

  private static func nameFault(_ name: String) -> String? {
    if name.utf8.count > 128 { return "is longer than 128 characters" }
    let isPlain = name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
    return isPlain ? nil : "holds a character that is not allowed"
  }

  /// The definition for people: what stands in it as a secret is blanked out.
  package var displayed: JSON {
    .object(
      (json.object ?? []).map { member in
        if Self.secretKeys.contains(member.name), let text = member.value.string {
          return JSON.Member(member.name, .string(Secret(text).description))
        }
        if member.name == "properties", let inner = member.value.object {
          // librdkafka has secrets of its own among its properties.
          return JSON.Member(
            member.name,
            .object(
              inner.map { property in
                let isSecret = KafkaSettings.isSecret(property.name)
                return JSON.Member(
                  property.name,
                  isSecret
                    ? .string(property.value.string.map { Secret($0).description } ?? "***")
                    : property.value)
              }))
        }
        return member
      })
  }

  // MARK: records

  /// What a batch becomes, and how many of its records the filter passed over.
  package func delivery(of batch: SourceBatch) -> (delivery: Delivery, filtered: Int) {
    var delivery = Delivery(source: name, stream: batch.stream, position: batch.position)
    delivery.rows.reserveCapacity(batch.records.count)
    var filtered = 0
    for record in batch.records {
      guard let value = record.value else {
        let problem =
          record.problem
          ?? Diagnostic(code: "unreadable_record", "The record could not be read.")
        delivery.rejects.append(
          .init(table: table, raw: record.raw, place: record.place, problem: problem))
        continue
      }
      if let filter, !filter.accepts(value, extras: record.extras) {
        filtered += 1
        continue
      }
      let row = row(of: value, record.extras)
      guard row.object != nil else {
        delivery.rejects.append(
          .init(
            table: table, raw: record.raw, place: record.place,
            problem: Diagnostic(
              code: "invalid_row", "A record must be an object, not \(value.kindName).",
              help: "Send one JSON object in each record.")))
        continue
      }
      delivery.rows.append(
        .init(table: table, columns: row, raw: record.raw, place: record.place))
    }
    return (delivery, filtered)
  }

  private func row(of value: JSON, _ extras: [JSON.Member]) -> JSON {
    var row = mapping?.row(of: value, extras: extras) ?? value
    if case .kafka(let kafka) = settings, let column = kafka.keyColumn,
      let key = extras.first(where: { $0.name == "$key" })?.value, key != .null,
      case .object(var members) = row
    {
      members.removeAll { $0.name == column }
      members.append(JSON.Member(column, key))
      row = .object(members)
    }
    return row
  }

  /// An error as people see it, without secrets.
  package func diagnostic(of error: any Error) -> Diagnostic {
    let problem: Diagnostic =
      switch error {
      case let error as Diagnostic: error
      case let error as Diagnostics: error.all[0]
      default: Diagnostic(.unavailable, code: "source_failed", "The source failed: \(error)")
      }
    return redactor.redact(problem)
  }

  /// Knows every secret of this source that can be looked up now.
  package var redactor: Redactor {
    var redactor = Redactor()
    for key in Self.secretKeys {
      guard let text = json[key]?.string, let value = try? Secret(text).value(at: key) else {
        continue
      }
      redactor.add(value)
    }
    for property in json["properties"]?.object ?? [] where KafkaSettings.isSecret(property.name) {
      guard let text = property.value.string,
        let value = try? Secret(text).value(at: property.name)
      else { continue }
      redactor.add(value)
    }
    return redactor
  }
}
