package import Domain

/// A record as a reader took it from its source.
package struct ReadRecord: Hashable, Sendable {
  /// The record's document; nil where it could not be read, with `problem` saying why.
  package var value: JSON?
  package var raw: [UInt8]
  /// Where it stood, as people look for it.
  package var place: JSON
  /// What the transport knows beside the record: `$key`, `$offset`, `$file`, ...
  package var extras: [JSON.Member]
  /// When the source took it in, by the source's clock.
  package var time: Timestamp?
  package var problem: Diagnostic?

  package init(
    value: JSON?, raw: [UInt8], place: JSON, extras: [JSON.Member] = [], time: Timestamp? = nil,
    problem: Diagnostic? = nil
  ) {
    self.value = value
    self.raw = raw
    self.place = place
    self.extras = extras
    self.time = time
    self.problem = problem
  }

  /// Reads the bytes as JSON; a record whose bytes are none bears the problem.
  package init(
    json raw: [UInt8], place: JSON, extras: [JSON.Member] = [], time: Timestamp? = nil
  ) {
    do throws(Diagnostic) {
      self.init(
        value: try JSON(parsing: raw), raw: raw, place: place, extras: extras, time: time)
    } catch {
      self.init(
        value: nil, raw: raw, place: place, extras: extras, time: time, problem: error)
    }
  }
}

/// Records of one stream and the position behind the last of them.
package struct SourceBatch: Hashable, Sendable {
  package var stream: String
  package var position: JSON
  package var records: [ReadRecord]

  package init(stream: String, position: JSON, records: [ReadRecord]) {
    self.stream = stream
    self.position = position
    self.records = records
  }
}

/// How far a reader is behind its source, as far as it can tell.
package struct SourceLag: Hashable, Sendable {
  package var records: Int?
  package var bytes: Int?
  package var milliseconds: Int?

  package init(records: Int? = nil, bytes: Int? = nil, milliseconds: Int? = nil) {
    self.records = records
    self.bytes = bytes
    self.milliseconds = milliseconds
  }
}

/// Reads one source. The runner owns it: it is opened once, asked for one batch after another, told
/// which are stored, and closed; after any error it is thrown away and another one is opened.
package protocol SourceReader: AnyObject, Sendable {
  /// Begins behind the stored positions, by stream.
  func open(at positions: [String: JSON]) async throws

  /// The next batch; nil where there is none for now.
  func next() async throws -> SourceBatch?

  /// How long to wait after `next` gave nil. Zero where `next` itself waits.
  var pause: Duration { get }

  /// Is called after the batch is on the disk, before the next one is asked for.
  func delivered(_ batch: SourceBatch) async throws

  var lag: SourceLag { get async }

  /// What is amiss without stopping the reader, such as data that was deleted before it was read.
  var warning: String? { get async }

  /// Whether nothing more will ever come.
  var isFinished: Bool { get async }

  func close() async
}

extension SourceReader {
  package func delivered(_ batch: SourceBatch) async throws {}
  package var warning: String? { get async { nil } }
  package var isFinished: Bool { get async { false } }
}
