import Crypto
import Domain
import Foundation
import Gzip
import Ingest

/// Reads the records of one file from a position on, and goes on where the file grows.
///
/// It holds the file open, so that a file that is renamed or removed is still read to its end. Not
/// thread-safe: its reader uses it from one thread at a time.
final class FileFollower {
  /// The file as the system knows it, whatever it is called.
  struct Identity: Hashable {
    var device: Int64
    var inode: Int64
  }

  /// Closes a descriptor once, also where the follower's making fails, before or after it is whole.
  private final class OpenFile {
    let descriptor: Int32
    init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }
  }

  let stream: String
  private(set) var path: String
  let identity: Identity
  private let file: OpenFile
  private var descriptor: Int32 { file.descriptor }
  private let settings: FileSettings
  private let delimiter: UInt8?
  private let isCompressed: Bool
  private let form: RecordSplitter.Form
  private var splitter: RecordSplitter
  private var inflater: GzipReader?
  /// Bytes of the file itself that were read.
  private var fileOffset: off_t = 0
  /// Plain bytes that are passed over on the way to the position, in a compressed file.
  private var skipping = 0
  private var names: [String]?
  private(set) var recordCount: Int
  /// Records that are there but wait for the end of their line.
  private(set) var waitingBytes = 0

  private static let chunkBytes = 256 << 10

  /// Opens a file at a position.
  ///
  /// - Parameter position: what `position` gave; nil begins with the first record. The caller has
  ///   found it to be this file's with `matches`.
  init(
    path: String, stream: String, position: FilePosition?, settings: FileSettings
  ) throws(Diagnostic) {
    self.path = path
    self.stream = stream
    self.settings = settings
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileFollower.unreadable(path) }
    file = OpenFile(descriptor)
    var facts = stat()
    guard fstat(descriptor, &facts) == 0 else { throw FileFollower.unreadable(path) }
    identity = Identity(facts)
    let head = FileFollower.read(descriptor, at: 0, count: 512)
    isCompressed = Gzip.hasMagic(head)
    let format: RowFormat
    if let given = settings.format {
      format = given
    } else {
      format = try FileFollower.format(of: path)
    }
    delimiter =
      format == .csv ? UInt8(ascii: ",") : format == .tsv ? UInt8(ascii: "\t") : nil
    var first = head.first { ![32, 9, 10, 13, 0xEF, 0xBB, 0xBF].contains($0) }
    if isCompressed {
      var plain: [UInt8] = []
      try? GzipReader().inflate(head) { plain += $0 }
      first = plain.first { ![32, 9, 10, 13, 0xEF, 0xBB, 0xBF].contains($0) }
    }
    if let delimiter {
      form = .separated(delimiter: delimiter)
    } else if format == .json, first == UInt8(ascii: "[") {
      form = .array
    } else {
      form = .lines
    }
    let offset = position?.offset ?? 0
    recordCount = position?.records ?? 0
    // A table's names stand in the first record, so its reading begins there in any case; the same
    // goes for compressed files, which have no way to the middle.
    splitter = RecordSplitter(form, offset: 0, maximumBytes: settings.maximumRecordBytes)
    if isCompressed {
      inflater = try GzipReader()
      skipping = offset
    }
    if delimiter != nil { try readNames() }
    if offset > splitter.offset || delimiter == nil {
      splitter = RecordSplitter(form, offset: offset, maximumBytes: settings.maximumRecordBytes)
      if isCompressed {
        inflater = try GzipReader()
        fileOffset = 0
      } else {
        fileOffset = off_t(offset)
      }
    } else {
      skipping = 0
    }
  }

  func renamed(to path: String) { self.path = path }

  /// The plain offset behind the last record that was given.
  var offset: Int { splitter.offset }

  var size: Int {
    var facts = stat()
    return fstat(descriptor, &facts) == 0 ? Int(facts.st_size) : 0
  }

  /// Bytes of the file that are not read yet, waiting ones aside.
  var unreadBytes: Int { max(0, size - Int(fileOffset)) }

  // MARK: records

  /// The next records, at most so many; empty where there is none for now.
  ///
  /// - Parameter atEnd: nothing will be added to the file any more.
  func records(limit: Int, atEnd: Bool) throws -> [ReadRecord] {
    var records: [ReadRecord] = []
    while records.count < limit {
      // A table whose first line has not ended has no names and so no records yet.
      if delimiter != nil, names == nil {
        try readNames(atEnd: atEnd)
        if names == nil { break }
      }
      if let piece = splitter.next() {
        records.append(record(piece))
        continue
      }
      if try readMore() { continue }
      // What stands behind the last line's end: a record where no more can come, and where it is
      // whole by its own form.
      let noMore = atEnd || inflater?.state == .atMemberEnd
      if noMore || isWholeObject(splitter.waiting), let piece = splitter.next(atEnd: true) {
        records.append(record(piece))
      }
      break
    }
    waitingBytes = splitter.waiting.count
    return records
  }

  /// Whether the bytes are one JSON object, which nothing that follows can change.
  private func isWholeObject(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard form == .lines, bytes.last == UInt8(ascii: "}") else { return false }
    return (try? JSON(parsing: bytes)) != nil
  }

  private func record(_ piece: RecordSplitter.Piece) -> ReadRecord {
    var piece = piece
    if piece.range.lowerBound == 0, piece.bytes.starts(with: [0xEF, 0xBB, 0xBF]) {
      piece.bytes.removeFirst(3)
    }
    recordCount += 1
    let place: JSON = [
      "file": .string(path), "record": .int(Int64(recordCount)),
      "offset": .int(Int64(piece.range.lowerBound)),
    ]
    let extras = [
      JSON.Member("$file", .string(path)), JSON.Member("$record", .int(Int64(recordCount))),
      JSON.Member("$offset", .int(Int64(piece.range.lowerBound))),
    ]
    if piece.isOversize {
      return ReadRecord(
        value: nil, raw: piece.bytes, place: place, extras: extras,
        problem: Diagnostic(
          code: "record_too_large",
          "The record is longer than \(settings.maximumRecordBytes) bytes.",
          help: "Only its beginning is kept. Raise `maximum_record_bytes`, or look for a quote "
            + "that is not closed."))
    }
    guard let names, let delimiter else {
      return ReadRecord(json: piece.bytes, place: place, extras: extras)
    }
    var reader = SeparatedValues(delimiter: delimiter, at: 0, origin: path)
    do throws(Diagnostic) {
      let fields = try reader.next(piece.bytes) ?? []
      guard fields.count == names.count else {
        throw Diagnostic(
          code: "wrong_field_count",
          "The record has \(fields.count) fields; the first line names \(names.count) columns.",
          help: "Put a field that holds the separator in double quotes.")
      }
      let members = zip(names, fields).map { JSON.Member($0, $1.map { .string($0) } ?? .null) }
      return ReadRecord(
        value: .object(members), raw: piece.bytes, place: place, extras: extras)
    } catch {
      return ReadRecord(
        value: nil, raw: piece.bytes, place: place, extras: extras, problem: error)
    }
  }

  /// Reads the line of column names.
  private func readNames(atEnd: Bool = false) throws(Diagnostic) {
    while true {
      if let piece = splitter.next(atEnd: false) {
        try setNames(piece.bytes)
        return
      }
      let more: Bool
      do { more = try readMore(skips: false) } catch { throw asDiagnostic(error) }
      guard more else {
        if atEnd, let piece = splitter.next(atEnd: true) { try setNames(piece.bytes) }
        return
      }
    }
  }

  private func setNames(_ line: [UInt8]) throws(Diagnostic) {
    var line = line
    if line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
    var reader = SeparatedValues(delimiter: delimiter ?? 44, at: 0, origin: path)
    let names = (try reader.next(line) ?? []).map { $0 ?? "" }
    guard !names.contains(""), Set(names).count == names.count else {
      throw Diagnostic(
        code: "invalid_header",
        "The first line of `\(path)` does not name every column, each with another name.",
        at: "\(path):1", help: "Write the names of the columns in the first line.")
    }
    self.names = names
  }

  private func asDiagnostic(_ error: any Error) -> Diagnostic {
    error as? Diagnostic
      ?? Diagnostic(.unavailable, code: "unreadable_file", "`\(path)` cannot be read: \(error)")
  }

  // MARK: bytes

  /// Reads a piece of the file; false at its end.
  private func readMore(skips: Bool = true) throws -> Bool {
    let bytes = FileFollower.read(descriptor, at: fileOffset, count: Self.chunkBytes)
    if bytes.isEmpty { return false }
    fileOffset += off_t(bytes.count)
    guard let inflater else {
      splitter.append(bytes)
      return true
    }
    do {
      try inflater.inflate(bytes) { piece in
        var piece = piece
        if skips, skipping > 0 {
          let skipped = min(skipping, piece.count)
          skipping -= skipped
          piece = piece.dropFirst(skipped)
        }
        splitter.append(piece)
      }
    } catch let problem as Diagnostic {
      var problem = problem
      problem.place = path
      problem.help = "The file is damaged. Replace it, or move it out of the folder."
      throw problem
    }
    return true
  }

  private static func read(_ descriptor: Int32, at offset: off_t, count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(
          descriptor, buffer.baseAddress.map { $0 + filled }, count - filled, offset + off_t(filled)
        )
        if got < 0, errno == EINTR { continue }
        if got <= 0 { break }
        filled += got
      }
    }
  }

  // MARK: positions

  /// The position behind the last record that was given.
  var position: FilePosition {
    let consumed = isCompressed ? size : offset
    let headLength = min(FilePosition.headBytes, consumed)
    let tailLength = isCompressed ? 0 : min(FilePosition.tailBytes, consumed)
    return FilePosition(
      path: path, device: identity.device, inode: identity.inode, offset: offset,
      records: recordCount, headLength: headLength,
      head: FileFollower.digest(FileFollower.read(descriptor, at: 0, count: headLength)),
      tailLength: tailLength,
      tail: FileFollower.digest(
        FileFollower.read(descriptor, at: off_t(consumed - tailLength), count: tailLength)))
  }

  /// Whether what was read up to the position is still what the file holds there.
  static func matches(_ path: String, _ position: FilePosition) -> Bool {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return matches(descriptor, position)
  }

  /// The same for the file that is held open, to find out that it was emptied and written anew.
  func stillMatches(_ position: FilePosition) -> Bool {
    FileFollower.matches(descriptor, position)
  }

  private static func matches(_ descriptor: Int32, _ position: FilePosition) -> Bool {
    let head = read(descriptor, at: 0, count: position.headLength)
    guard head.count == position.headLength, digest(head) == position.head else { return false }
    if position.tailLength == 0 { return true }
    let tail = read(
      descriptor, at: off_t(position.offset - position.tailLength), count: position.tailLength)
    return tail.count == position.tailLength && digest(tail) == position.tail
  }

  /// The first 8 bytes of the SHA-256: enough to tell files apart by chance.
  private static func digest(_ bytes: [UInt8]) -> String {
    SHA256.hash(data: bytes).prefix(8).map { byte in
      let text = String(byte, radix: 16)
      return text.count == 1 ? "0\(text)" : text
    }.joined()
  }

  private static func format(of path: String) throws(Diagnostic) -> RowFormat {
    var name = (path as NSString).lastPathComponent.lowercased()
    if name.hasSuffix(".gz") { name.removeLast(3) }
    let ending = (name as NSString).pathExtension
    if ending == "ndjson" { return .jsonl }
    if let format = RowFormat(rawValue: ending) { return format }
    let names = RowFormat.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ")
    throw Diagnostic(
      code: "unknown_format", "The name of `\(path)` does not tell the form of its records.",
      at: path, help: "Give `format`, one of \(names); or choose files with `pattern`.")
  }

  private static func unreadable(_ path: String) -> Diagnostic {
    Diagnostic(
      .unavailable, code: "unreadable_file",
      "The file `\(path)` cannot be opened: \(String(cString: strerror(errno))).", at: path,
      help: "Make it readable for the server.")
  }
}

extension FileFollower.Identity {
  init(_ facts: stat) {
    device = Int64(facts.st_dev)
    inode = Int64(facts.st_ino)
  }
}

/// How far a file has been read, and how to know it again.
///
/// A file is known by its number in the file system, or by its path; in both cases the digests of its
/// beginning and of what stands before the offset must agree, so that a number or a name that was given
/// to another file does not pass for it.
struct FilePosition: Hashable, Sendable {
  var path: String
  var device: Int64
  var inode: Int64
  /// In plain bytes.
  var offset: Int
  var records: Int
  var headLength: Int
  var head: String
  var tailLength: Int
  var tail: String

  static let headBytes = 4096
  static let tailBytes = 256

  var json: JSON {
    [
      "path": .string(path), "device": .int(device), "inode": .int(inode),
      "offset": .int(Int64(offset)), "records": .int(Int64(records)),
      "head_length": .int(Int64(headLength)), "head": .string(head),
      "tail_length": .int(Int64(tailLength)), "tail": .string(tail),
    ]
  }

  init(
    path: String, device: Int64, inode: Int64, offset: Int, records: Int, headLength: Int,
    head: String, tailLength: Int, tail: String
  ) {
    self.path = path
    self.device = device
    self.inode = inode
    self.offset = offset
    self.records = records
    self.headLength = headLength
    self.head = head
    self.tailLength = tailLength
    self.tail = tail
  }

  /// Reads what `json` wrote, or gives nil.
  init?(_ json: JSON) {
    guard let path = json["path"]?.string, let device = json["device"]?.int,
      let inode = json["inode"]?.int, let offset = json["offset"]?.int,
      let records = json["records"]?.int, let headLength = json["head_length"]?.int,
      let head = json["head"]?.string, let tailLength = json["tail_length"]?.int,
      let tail = json["tail"]?.string, offset >= 0, headLength >= 0, tailLength >= 0,
      tailLength <= offset
    else { return nil }
    self.init(
      path: path, device: device, inode: inode, offset: Int(offset), records: Int(records),
      headLength: Int(headLength), head: head, tailLength: Int(tailLength), tail: tail)
  }
}
