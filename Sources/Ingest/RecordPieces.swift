package import Domain

/// Cuts a file of lines into pieces that can each be sent alone: whole records, and in separated
/// values the line of names before them.
package struct RecordPieces {
  private let isSeparated: Bool
  private var cutter: RecordCutter
  private var buffer: [UInt8] = []
  private var header: [UInt8]?
  private let pieceBytes: Int

  /// - Parameter format: `csv`, `tsv` or `jsonl`.
  package init(_ format: RowFormat, pieceBytes: Int = 4 << 20) {
    self.pieceBytes = pieceBytes
    switch format {
    case .csv, .tsv:
      isSeparated = true
      cutter = RecordCutter(delimiter: UInt8(ascii: format == .csv ? "," : "\t"))
    case .json, .jsonl:
      isSeparated = false
      cutter = RecordCutter(delimiter: nil)
    }
  }

  package mutating func append(_ bytes: some Collection<UInt8>) { buffer += bytes }

  /// The next piece; nil where more bytes are needed, or at the end.
  ///
  /// - Throws: `record_too_large` where no record ends within some megabytes.
  package mutating func next(isLast: Bool) throws(Diagnostic) -> [UInt8]? {
    if isSeparated, header == nil {
      buffer.withUnsafeBufferPointer { cutter.scan($0, upTo: 1) }
      guard cutter.recordEnd > 0 || isLast else { return nil }
      let end = cutter.recordEnd > 0 ? cutter.recordEnd : buffer.count
      header = Array(buffer[..<end])
      buffer.removeSubrange(..<end)
      cutter.restart()
      // A file of names alone is still worth checking.
      if isLast, buffer.isEmpty { return header }
    }
    buffer.withUnsafeBufferPointer { cutter.scan($0, upTo: pieceBytes) }
    var end = cutter.recordEnd
    if cutter.scanned < pieceBytes || end == 0 {
      guard buffer.count - end <= RecordStream.mostRecordBytes else {
        throw Diagnostic(
          code: "record_too_large",
          "A record is longer than \(RecordStream.mostRecordBytes) bytes.",
          help: "A quoted field that is not closed makes a long record.")
      }
      guard isLast, !buffer.isEmpty else { return nil }
      end = buffer.count
    }
    let piece = (header ?? []) + buffer[..<end]
    buffer.removeSubrange(..<end)
    cutter.restart()
    return piece
  }
}
