package import Domain

/// Records that come as a stream of bytes, decoded piece by piece so that memory stays flat.
///
/// Where a piece ends depends on the bytes alone, not on how they arrived: it holds the whole
/// records of about a megabyte. So a stream that is sent again is cut in the same places, and a key
/// for each piece makes its repetition change nothing.
package struct RecordStream: Sendable {
  /// Records between two cuts.
  package struct Piece: Sendable {
    /// From 0.
    package var index: Int
    package var records: DecodedRecords
    package var byteCount: Int
    /// A digest of the piece's bytes.
    package var fingerprint: String
  }

  private enum Reader {
    case lines(RowScanner)
    case separated(SeparatedScanner)
  }

  /// A piece holds about so many bytes.
  package static let pieceBytes = 1 << 20
  /// A longer record is refused: it would have to fit in memory.
  package static let mostRecordBytes = 8 << 20

  private var reader: Reader
  private var cutter: RecordCutter
  private var buffer: [UInt8] = []
  private var nextLine = 1
  private var nextPiece = 0
  private var isAtStart = true
  private let digests: Bool
  private let origin: String

  /// - Parameters:
  ///   - format: `csv`, `tsv` or `jsonl`; the members of a `json` list cannot be cut.
  ///   - digests: whether pieces have a fingerprint, which takes time.
  package init(
    _ format: RowFormat, _ decoder: RowDecoder, digests: Bool = false, origin: String = "body"
  ) {
    self.digests = digests
    self.origin = origin
    switch format {
    case .csv, .tsv:
      let delimiter = UInt8(ascii: format == .csv ? "," : "\t")
      reader = .separated(SeparatedScanner(decoder, delimiter: delimiter, origin: origin))
      cutter = RecordCutter(delimiter: delimiter)
    case .json, .jsonl:
      reader = .lines(RowScanner(decoder))
      cutter = RecordCutter(delimiter: nil)
    }
  }

  /// The bytes that wait for the end of their piece.
  package var waitingBytes: Int { buffer.count }

  /// Takes in the next bytes.
  package mutating func append(_ bytes: UnsafeBufferPointer<UInt8>) { buffer += bytes }

  package mutating func append(_ bytes: [UInt8]) { buffer += bytes }

  /// The next whole piece; nil where more bytes are needed, or at the end.
  ///
  /// - Parameter isLast: whether no more bytes will come.
  /// - Throws: `record_too_large`; what is wrong with a line of names. The stream is over then.
  package mutating func next(isLast: Bool) throws(Diagnostics) -> Piece? {
    if isAtStart {
      if buffer.count < 3, !isLast { return nil }
      if buffer.starts(with: [0xEF, 0xBB, 0xBF]) { buffer.removeFirst(3) }
      isAtStart = false
    }
    let size = RecordStream.pieceBytes
    buffer.withUnsafeBufferPointer { cutter.scan($0, upTo: size) }
    var end = cutter.recordEnd
    let isWhole = cutter.scanned >= size && end > 0
    if !isWhole {
      if buffer.count - end > RecordStream.mostRecordBytes {
        throw Diagnostics(
          Diagnostic(
            code: "record_too_large",
            "A record is longer than \(RecordStream.mostRecordBytes) bytes.",
            at: "\(origin):\(nextLine)",
            help: "Send smaller records. A quoted field that is not closed makes a long record too."
          ))
      }
      guard isLast, !buffer.isEmpty else { return nil }
      // The last record may lack its line break.
      end = buffer.count
    }
    let piece = try decode(end)
    buffer.removeSubrange(..<end)
    cutter.restart()
    return piece
  }

  private mutating func decode(_ end: Int) throws(Diagnostics) -> Piece {
    let result: Result<(records: DecodedRecords, lineCount: Int), Diagnostics> =
      buffer.withUnsafeBufferPointer { whole in
        let bytes = UnsafeBufferPointer(rebasing: whole[..<end])
        do throws(Diagnostics) {
          switch reader {
          case .lines(var scanner):
            let found = scanner.lines(bytes, firstLine: nextLine)
            reader = .lines(scanner)
            return .success(found)
          case .separated(var scanner):
            let found = try scanner.records(bytes, firstLine: nextLine)
            reader = .separated(scanner)
            return .success(found)
          }
        } catch { return .failure(error) }
      }
    let (records, lineCount) = try result.get()
    nextLine += lineCount
    defer { nextPiece += 1 }
    return Piece(
      index: nextPiece, records: records, byteCount: end,
      fingerprint: digests ? Fingerprint.hexadecimal(buffer[..<end]) : "")
  }
}
