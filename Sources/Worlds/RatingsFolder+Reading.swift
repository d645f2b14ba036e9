import Domain
import Foundation

/// One of the forms in which a folder can hold ratings.
struct RatingsForm {
  /// One file and how to read it.
  struct File {
    var path: String
    var separator: DelimitedText.Separator
    /// The columns where the file has no header line.
    var columns: [String]?
    /// Whether text may be Latin-1, as in the older releases of MovieLens.
    var isMaybeLatin1 = false
    var isCompressed: Bool { path.hasSuffix(".gz") }
  }

  var items: File
  var ratings: File

  /// Finds out which form a folder has.
  init(folder: String) throws(Diagnostics) {
    let path = folder.hasSuffix("/") ? String(folder.dropLast()) : folder
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else {
      let isFile = FileManager.default.fileExists(atPath: path)
      throw Diagnostics(
        Diagnostic(
          .notFound, code: "data_folder_not_found",
          isFile ? "`\(path)` is a file, not a folder." : "There is no folder `\(path)`.", at: path,
          help: "Name the folder that holds `ratings.csv` and `movies.csv`."))
    }
    func file(
      _ name: String, _ separator: DelimitedText.Separator, columns: [String]? = nil
    ) -> File {
      File(
        path: "\(path)/\(name)", separator: separator, columns: columns,
        isMaybeLatin1: separator == .doubleColon)
    }
    let csv = (items: file("movies.csv", .comma), ratings: file("ratings.csv", .comma))
    let dat = (
      items: file("movies.dat", .doubleColon, columns: ["item", "title", "genres"]),
      ratings: file("ratings.dat", .doubleColon, columns: ["user", "item", "rating", "timestamp"])
    )
    let interactions =
      names.contains("interactions.tsv") ? "interactions.tsv" : "interactions.tsv.gz"
    let tsv = (items: file("movies.tsv", .tab), ratings: file(interactions, .tab))
    let forms = [csv, dat, tsv]
    func isThere(_ file: File) -> Bool { names.contains { file.path == "\(path)/\($0)" } }
    if let form = forms.first(where: { isThere($0.items) && isThere($0.ratings) }) {
      (items, ratings) = form
      return
    }
    func name(_ file: File) -> String { String(file.path.dropFirst(path.count + 1)) }
    var notes = [
      names.isEmpty
        ? "The folder is empty."
        : "It holds: \(names.sorted().prefix(12).joined(separator: ", "))"
          + (names.count > 12 ? " and \(names.count - 12) more." : ".")
    ]
    for form in forms where isThere(form.items) != isThere(form.ratings) {
      let (found, missing) =
        isThere(form.items) ? (form.items, form.ratings) : (form.ratings, form.items)
      notes.append("`\(name(found))` is there, but `\(name(missing))` is missing.")
    }
    throw Diagnostics(
      Diagnostic(
        .notFound, code: "no_ratings_in_folder", "`\(path)` holds no ratings that can be read.",
        at: path, notes: notes,
        help: "The folder must hold `ratings.csv` and `movies.csv` (MovieLens), `ratings.dat` and "
          + "`movies.dat`, or `interactions.tsv` (or `.tsv.gz`) and `movies.tsv`."))
  }

  /// The bytes of a file, decompressed.
  ///
  /// Compressed files go through `gzip -dc`, which every supported system has; linking zlib would ask
  /// for its headers on every machine that builds.
  static func contents(of file: File) throws(Diagnostic) -> [UInt8] {
    func unreadable(_ why: String, help: String? = nil) -> Diagnostic {
      Diagnostic(
        .notFound, code: "unreadable_file", "`\(file.path)` cannot be read: \(why).", at: file.path,
        help: help)
    }
    guard file.isCompressed else {
      do {
        return Array(try Data(contentsOf: URL(fileURLWithPath: file.path)))
      } catch {
        throw unreadable(error.localizedDescription)
      }
    }
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["gzip", "-dc", "--", file.path]
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    let data: Data
    do {
      try process.run()
      data = try output.fileHandleForReading.readToEnd() ?? Data()
    } catch {
      throw unreadable("gzip did not run (\(error.localizedDescription))")
    }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw unreadable(
        "gzip ended with status \(process.terminationStatus)",
        help: "Decompress it by hand and leave `\(file.path.dropLast(3))` beside it.")
    }
    return Array(data)
  }
}

/// What turns the records of one file into values.
protocol RecordReader {
  associatedtype Record
  /// Reads the current record; the fault says what is wrong with it.
  func record(_ text: DelimitedText) throws(LineFault) -> Record
  /// How many fields every record needs.
  var fieldCount: Int { get }
}

/// What is wrong with one line.
struct LineFault: Error {
  var message: String
}

extension RatingsFolder {
  private static let shownLineFaults = 20

  /// Reads all records of a file; problems go to `problems`.
  static func read<Reader: RecordReader>(
    _ file: RatingsForm.File, _ problems: inout [Diagnostic],
    _ makeReader: ([String]) throws(Diagnostic) -> Reader
  ) -> [Reader.Record] {
    do throws(Diagnostic) {
      var text = DelimitedText(try RatingsForm.contents(of: file), separator: file.separator)
      var header = file.columns ?? []
      if file.columns == nil, text.advance() {
        header = (0..<text.count).map { text.text($0, latin1: true) ?? "" }
      }
      let reader = try makeReader(header)
      var records: [Reader.Record] = []
      var faults = 0
      while text.advance() {
        do throws(LineFault) {
          guard !text.isQuoteOpen else { throw LineFault(message: "a quote is never closed") }
          guard text.count >= reader.fieldCount else {
            throw LineFault(
              message: "\(text.count) fields where \(reader.fieldCount) are needed")
          }
          records.append(try reader.record(text))
        } catch {
          faults += 1
          if faults <= shownLineFaults {
            problems.append(
              Diagnostic(
                code: "bad_line", "\(file.path), line \(text.line): \(error.message).",
                at: "\(file.path):\(text.line)"))
          }
        }
      }
      if faults > shownLineFaults {
        problems.append(
          Diagnostic(
            code: "bad_line",
            "\(file.path) has \(faults - shownLineFaults) more lines that cannot be read.",
            at: file.path))
      } else if records.isEmpty, faults == 0 {
        problems.append(
          Diagnostic(code: "empty_file", "`\(file.path)` holds no lines of data.", at: file.path))
      }
      return records
    } catch {
      problems.append(error)
      return []
    }
  }
}

/// Where the wanted columns stand in a file's header.
private struct Header {
  let file: RatingsForm.File
  let names: [String]

  /// The place of the first of these names that is there.
  func find(_ names: String...) -> Int? {
    names.lazy.compactMap { self.names.firstIndex(of: $0) }.first
  }

  func missing(_ wanted: [String]) -> Diagnostic {
    let suggestion = wanted.compactMap { nearestName(to: $0, among: names) }.first
    let found = names.map { "`\($0)`" }.joined(separator: ", ")
    return Diagnostic(
      code: "missing_column",
      "\(file.path), line 1: no column \(wanted.map { "`\($0)`" }.joined(separator: " or ")).",
      at: "\(file.path):1", notes: ["The columns are \(found.isEmpty ? "none" : found)."],
      help: suggestion.map { "Did you mean the column `\($0)`? Rename it to `\(wanted[0])`." })
  }
}

struct FilmLines: RecordReader {
  let fieldCount: Int
  private let id: Int
  private let title: Int
  private let year: Int?
  private let genres: Int
  private let latin1: Bool

  init(_ file: RatingsForm.File, header: [String]) throws(Diagnostic) {
    let header = Header(file: file, names: header)
    guard let id = header.find("movieId", "item") else {
      throw header.missing(file.separator == .comma ? ["movieId"] : ["item"])
    }
    guard let title = header.find("title") else { throw header.missing(["title"]) }
    guard let genres = header.find("genres") else { throw header.missing(["genres"]) }
    (self.id, self.title, self.genres, latin1) = (id, title, genres, file.isMaybeLatin1)
    year = header.find("year")
    fieldCount = max(id, title, genres, year ?? 0) + 1
  }

  func record(_ text: DelimitedText) throws(LineFault) -> RatingsFolder.Item {
    let number = try text.identifier(id, "film")
    guard let fullTitle = text.text(title, latin1: latin1),
      let genreText = text.text(genres, latin1: latin1)
    else { throw LineFault(message: "the text is not UTF-8") }
    var (name, ownYear) = splitYear(fullTitle)
    // Published files hold years such as `unkonwn`: a film without a year, not a broken file.
    if let year { ownYear = text.wholeNumber(year) ?? ownYear }
    if name.isEmpty { name = fullTitle }
    return RatingsFolder.Item(
      id: number, title: name, year: ownYear, genres: splitGenres(genreText))
  }

  /// Takes the year off the end of `Toy Story (1995)`.
  private func splitYear(_ title: String) -> (name: String, year: Int?) {
    let bytes = Array(title.utf8)
    var end = bytes.count
    while end > 0, bytes[end - 1] == 32 { end -= 1 }
    guard end >= 6, bytes[end - 1] == UInt8(ascii: ")"), bytes[end - 6] == UInt8(ascii: "("),
      let year = Int(String(decoding: bytes[end - 5..<end - 1], as: UTF8.self)), year >= 1000
    else { return (title, nil) }
    var nameEnd = end - 6
    while nameEnd > 0, bytes[nameEnd - 1] == 32 { nameEnd -= 1 }
    return (String(decoding: bytes[..<nameEnd], as: UTF8.self), year)
  }

  /// Genres stand between bars, in one of the files between spaces.
  private func splitGenres(_ text: String) -> [String] {
    if text.isEmpty || text == "(no genres listed)" { return [] }
    return text.split { $0 == "|" || $0 == " " }.map(String.init)
  }
}

struct RatingLines: RecordReader {
  let fieldCount: Int
  private let user: Int
  private let item: Int
  private let rating: Int?
  private let time: Int

  init(_ file: RatingsForm.File, header: [String]) throws(Diagnostic) {
    let header = Header(file: file, names: header)
    let isCSV = file.separator == .comma
    guard let user = header.find("userId", "user") else {
      throw header.missing(isCSV ? ["userId"] : ["user"])
    }
    guard let item = header.find("movieId", "item") else {
      throw header.missing(isCSV ? ["movieId"] : ["item"])
    }
    guard let time = header.find("timestamp", "order") else {
      throw header.missing(isCSV ? ["timestamp"] : ["timestamp", "order"])
    }
    rating = header.find("rating")
    if isCSV, rating == nil { throw header.missing(["rating"]) }
    (self.user, self.item, self.time) = (user, item, time)
    fieldCount = max(user, item, time, rating ?? 0) + 1
  }

  func record(_ text: DelimitedText) throws(LineFault) -> RatingsFolder.Rating {
    var value: Double?
    if let rating {
      value = text.number(rating)
      guard value != nil else {
        throw LineFault(message: "the rating `\(text.text(rating) ?? "")` is not a number")
      }
    }
    // 12 digits reach beyond the year 30000 and stay within a timestamp's range.
    guard let seconds = text.wholeNumber(time), seconds < 1_000_000_000_000 else {
      throw LineFault(
        message: "the time `\(text.text(time) ?? "")` is not a whole number of seconds")
    }
    return RatingsFolder.Rating(
      user: try text.identifier(user, "user"), item: try text.identifier(item, "film"),
      rating: value, seconds: seconds)
  }
}

extension DelimitedText {
  fileprivate func identifier(_ index: Int, _ what: String) throws(LineFault) -> Int {
    guard let number = wholeNumber(index) else {
      throw LineFault(
        message: "the \(what)'s id `\(text(index) ?? "")` is not a whole number")
    }
    return number
  }
}
