package import Domain
package import Ingest
import Logging
import Storage

/// The one way in for records: HTTP, files and all connectors call `ingest`.
extension RiffleDatabase {
  /// Decodes records by their tables' contracts and stores what came of them in one commit: rows,
  /// dead letters, and how far the source was read.
  ///
  /// Returns when all of it is on the disk and every engine has seen the rows. A record that does
  /// not fit becomes a dead letter and does not hold up the others, except where its table is
  /// strict: then the whole request is refused.
  ///
  /// - Throws: `unknown_table`; every problem of the records where the request is refused;
  ///   `too_many_waiting_rows`, to be sent again after a moment; what the disk reports. Then nothing
  ///   of the request is stored, its position neither.
  package func ingest(_ request: IngestRequest) async throws -> IngestReceipt {
    do {
      return try await store(request)
    } catch let problem as Diagnostic
      where problem.code == "table_changed" || problem.code == "wrong_row_width"
    {
      // The table was altered between the decoding and the commit: its new form says what fits.
      return try await store(request)
    }
  }

  /// Inserts rows, the body of `POST /v2/tables/{table}/insert`, as `ingest` does.
  @discardableResult
  package func insert(_ body: JSON, into table: String) async throws -> IngestReceipt {
    try await ingest(
      IngestRequest(source: "http", table: table, records: try InsertBody.records(body)))
  }

  /// Ingests the bytes of such a body, without a tree of JSON values between: the way of bulk
  /// inserts. The request's parts are not looked at.
  ///
  /// - Returns: the receipt, the body's members beside `data`, and the last row that went in.
  package func insert(
    bytes: [UInt8], into table: String, _ request: IngestRequest
  ) async throws -> (receipt: IngestReceipt, others: [JSON.Member], lastRow: [Value]?) {
    func attempt() async throws -> (IngestReceipt, [JSON.Member], [Value]?) {
      let schema = try log.schema(of: table)
      var scanner = RowScanner(desk.decoder(schema))
      let (records, others) = try bytes.withUnsafeBufferPointer { buffer throws(Diagnostics) in
        try scanner.insertBody(buffer)
      }
      return (try await store([(schema, records)], request), others, records.rows.last)
    }
    do { return try await attempt() } catch let problem as Diagnostic
      where problem.code == "table_changed" || problem.code == "wrong_row_width"
    { return try await attempt() }
  }

  /// How far a source has been read, by what is stored; nil where nothing of it is.
  package func position(ofSource source: String) throws -> JSON? {
    try log.position(ofSource: source)
  }

  /// Forgets how far a source was read: it will be read from its beginning.
  package func forgetPosition(ofSource source: String) async throws {
    try await log.forgetPosition(ofSource: source)
  }

  private func store(_ request: IngestRequest) async throws -> IngestReceipt {
    var decoded: [(table: TableSchema, records: DecodedRecords)] = []
    for part in request.parts {
      let schema = try log.schema(of: part.table)
      decoded.append((schema, desk.decoder(schema).decode(records: part.records)))
    }
    return try await store(decoded, request)
  }

  /// Stores records that are decoded already.
  func store(
    _ decoded: [(table: TableSchema, records: DecodedRecords)], _ request: IngestRequest
  ) async throws -> IngestReceipt {
    try await submit(decoded, request).receipt()
  }

  /// Puts decoded records in their place in the queue and does not wait for their commit.
  func submit(
    _ decoded: [(table: TableSchema, records: DecodedRecords)], _ request: IngestRequest
  ) throws -> IngestTicket {
    let now = Timestamp.now()
    try refuseMisfits(of: decoded, request)
    var batch = LogBatch()
    batch.isChecked = true
    var problems: [Diagnostic] = []
    var alerts: [SchemaAlert] = []
    var counts: [IngestTicket.TableCount] = []
    for (schema, records) in decoded {
      batch.rows.append(LogBatch.Rows(table: schema.name, rows: records.rows))
      for misfit in records.misfits {
        problems += misfit.problems.prefix(RowDecoder.maximumProblems - problems.count)
        batch.deadLetters.append(
          DeadLetter(misfit, table: schema.name, source: request.source, at: now))
      }
      let (new, entry) = desk.observe(records, of: schema, source: request.source, at: now)
      alerts += new
      if let entry { batch.entries.append(entry) }
      counts.append((schema.name, records.rows.count, records.misfits.count))
    }
    tell(alerts)
    batch.settledDeadLetters = request.settledDeadLetters
    batch.position = request.position.map {
      SourcePosition(source: request.source, position: $0)
    }
    batch.byteCount = request.byteCount
    if let key = request.key {
      batch.key = IdempotencyKey(
        key: key, fingerprint: request.fingerprint, at: now,
        note: .array(problems.map(\.stored)))
    }
    do throws(Diagnostic) {
      return IngestTicket(
        commit: try log.submit(batch), desk: desk, counts: counts, problems: problems,
        alerts: alerts)
    } catch {
      if error.kind == .overloaded {
        for count in counts { desk.count(table: count.table) { $0.overloads += 1 } }
      }
      throw error
    }
  }

  /// Refuses a request as a whole where a strict table is given a record that does not fit.
  private func refuseMisfits(
    of decoded: [(table: TableSchema, records: DecodedRecords)], _ request: IngestRequest
  ) throws {
    let refusing = decoded.filter {
      !$0.records.misfits.isEmpty && (request.isStrict ?? $0.table.rules.isStrict)
    }
    guard !refusing.isEmpty else { return }
    var problems: [Diagnostic] = []
    var total = 0
    for (schema, records) in refusing {
      desk.count(table: schema.name) { $0.refusedRequests += 1 }
      for misfit in records.misfits {
        total += misfit.problems.count
        problems += misfit.problems.prefix(RowDecoder.maximumProblems - problems.count)
      }
    }
    for (schema, records) in decoded {
      // What came is watched although nothing of it goes in.
      var seen = records
      seen.rows = []
      tell(desk.observe(seen, of: schema, source: request.source, at: .now()).alerts)
    }
    if total > problems.count {
      problems.append(
        Diagnostic(
          code: "more_problems", "\(total - problems.count) more problems are not listed.",
          help: "Mend these first. Nothing of the request was stored."))
    }
    throw Diagnostics(problems)
  }

  private func tell(_ alerts: [SchemaAlert]) {
    for alert in alerts {
      logger.warning(
        "\(alert.message)",
        metadata: [
          "alert": "\(alert.kind.rawValue)", "table": "\(alert.table)",
          "source": "\(alert.source)", "column": "\(alert.column ?? "")",
        ])
    }
  }

  // MARK: alerts

  /// Changes of shape that were seen within a day, of one table or of all; the newest first.
  package func schemaAlerts(table: String? = nil) throws -> [SchemaAlert] {
    if let table { _ = try log.schema(of: table) }
    return desk.alerts(table: table, now: .now())
  }

  /// Takes a table's alerts off the list.
  ///
  /// - Returns: how many there were.
  package func clearSchemaAlerts(table: String) throws -> Int {
    _ = try log.schema(of: table)
    return desk.clearAlerts(table: table)
  }
}

extension DeadLetter {
  /// A record's bytes are kept up to this length. A larger record cannot be replayed.
  static let mostBytes = 1 << 20

  init(_ misfit: DecodedRecords.Misfit, table: String, source: String, at time: Timestamp) {
    self.init(
      table: table, source: source, position: misfit.position,
      code: misfit.problems.first?.code ?? "unknown",
      reason: misfit.problems.map(\.description).joined(separator: "\n"),
      raw: Array(misfit.raw.prefix(DeadLetter.mostBytes)),
      isTruncated: misfit.raw.count > DeadLetter.mostBytes, at: time)
  }
}

extension Diagnostic {
  /// The problem as it is kept with an idempotent request's answer.
  fileprivate var stored: JSON {
    [
      "code": .string(code), "message": .string(message),
      "place": place.map { .string($0) } ?? .null, "help": help.map { .string($0) } ?? .null,
    ]
  }

  fileprivate init?(stored: JSON) {
    guard let code = stored["code"]?.string, let message = stored["message"]?.string else {
      return nil
    }
    self.init(code: code, message, at: stored["place"]?.string, help: stored["help"]?.string)
  }
}

/// An ingest that waits for its commit.
struct IngestTicket: Sendable {
  typealias TableCount = (table: String, rows: Int, misfits: Int)

  let commit: CommitTicket
  let desk: IngestDesk
  let counts: [TableCount]
  var problems: [Diagnostic]
  let alerts: [SchemaAlert]

  /// Waits until everything is on the disk and every engine has seen it.
  func receipt() async throws -> IngestReceipt {
    let receipt = try await commit.receipt()
    for count in counts {
      desk.count(table: count.table) { totals in
        if receipt.isRepetition {
          totals.repeatedRequests += 1
        } else {
          totals.accepted += count.rows
          totals.dead += count.misfits
        }
      }
    }
    if let first = counts.first, receipt.replacedCount > 0, !receipt.isRepetition {
      desk.count(table: first.table) { $0.replaced += receipt.replacedCount }
    }
    let told =
      receipt.isRepetition
      ? (receipt.note.array ?? []).compactMap { Diagnostic(stored: $0) } : problems
    return IngestReceipt(
      accepted: receipt.insertedCount, dead: receipt.deadLetterCount,
      replaced: receipt.replacedCount, through: receipt.through, problems: told,
      alerts: alerts, isRepetition: receipt.isRepetition)
  }
}
