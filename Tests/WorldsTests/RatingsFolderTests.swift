import Domain
import Foundation
import Testing
import Worlds

/// A folder of its own with some files, gone at the end of the test.
private struct TemporaryFolder: ~Copyable {
  let url: URL

  init(_ files: [String: [UInt8]]) throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent(
      "riffle-worlds-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    for (name, bytes) in files {
      try Data(bytes).write(to: url.appendingPathComponent(name))
    }
  }

  init(_ files: [String: String]) throws { try self.init(files.mapValues { Array($0.utf8) }) }

  var path: String { url.path }

  deinit { try? FileManager.default.removeItem(at: url) }
}

private let goodMovies = """
  movieId,title,genres
  1,Toy Story (1995),Adventure|Animation
  11,"American President, The (1995)",Comedy
  70,"He said ""no"" (2001)",(no genres listed)
  90,Babylon 5,Sci-Fi

  """

@Suite struct `Ratings folder` {
  @Test(arguments: ["\n", "\r\n"]) func `reads comma-separated files with quotes`(
    lineEnd: String
  ) throws {
    let ratings = "userId,movieId,rating,timestamp\n2,11,3.5,200\n1,1,4.0,100\n1,70,5,200\n"
    let folder = try TemporaryFolder([
      "movies.csv": goodMovies.replacing("\n", with: lineEnd),
      "ratings.csv": ratings.replacing("\n", with: lineEnd),
    ])
    let data = try RatingsFolder(path: folder.path)
    #expect(
      data.items.map(\.title) == [
        "Toy Story", "American President, The", "He said \"no\"", "Babylon 5",
      ])
    #expect(data.items.map(\.year) == [1995, 1995, 2001, nil])
    #expect(data.items.map(\.genres) == [["Adventure", "Animation"], ["Comedy"], [], ["Sci-Fi"]])
    #expect(data.ratings.map(\.seconds) == [100, 200, 200])
    #expect(data.ratings.map(\.user) == [1, 2, 1])
    #expect(data.ratings.map(\.rating) == [4, 3.5, 5])
    #expect(
      data.itemRows()[0].text
        == #"{"item_id":"1","title":"Toy Story","year":1995,"genres":["Adventure","Animation"]}"#)
    #expect(
      data.ratingRows(batchSize: 2).map { $0.map(\.text) } == [
        [
          #"{"user_id":"1","item_id":"1","rating":4.0,"label":1,"created_at":"1970-01-01T00:01:40Z"}"#,
          #"{"user_id":"2","item_id":"11","rating":3.5,"label":1,"created_at":"1970-01-01T00:03:20Z"}"#,
        ],
        [
          #"{"user_id":"1","item_id":"70","rating":5.0,"label":1,"created_at":"1970-01-01T00:03:20Z"}"#
        ],
      ])
    for row in data.itemRows() {
      #expect(row.object?.map(\.name) == data.itemTable.columns.map(\.name))
    }
    for row in data.ratingRows().joined() {
      #expect(row.object?.map(\.name) == data.ratingTable.columns.map(\.name))
    }
  }

  @Test func `reads the older files with double colons and Latin-1`() throws {
    let folder = try TemporaryFolder([
      "movies.dat": Array("1::Caf".utf8) + [0xE9] + Array(": Noir (1999)::Drama|Film-Noir\n".utf8),
      "ratings.dat": Array("7::1::5::978300760".utf8),
    ])
    let data = try RatingsFolder(path: folder.path + "/")
    #expect(
      data.items == [
        RatingsFolder.Item(id: 1, title: "Café: Noir", year: 1999, genres: ["Drama", "Film-Noir"])
      ])
    #expect(
      data.ratings == [
        RatingsFolder.Rating(user: 7, item: 1, rating: 5, seconds: 978_300_760)
      ])
  }

  @Test func `reads tab-separated files whose times are an order`() throws {
    let folder = try TemporaryFolder([
      "movies.tsv": "item\tmovie_id\ttitle\tgenres\n1\t1198\tRaiders (1981)\tAction|Adventure\n",
      "interactions.tsv": "user\titem\torder\n1\t1\t1\n2\t1\t1\n1\t2\t2\n",
    ])
    let data = try RatingsFolder(path: folder.path)
    #expect(data.ratings.map(\.seconds) == [1, 1, 2])
    #expect(data.ratings.allSatisfy { $0.rating == nil })
    #expect(
      data.ratingRows().first { _ in true }?.first?.text
        == #"{"user_id":"1","item_id":"1","rating":null,"label":1,"created_at":"1970-01-01T00:00:01Z"}"#
    )
  }

  @Test func `names every bad line with its file and number`() throws {
    let folder = try TemporaryFolder([
      "movies.csv": goodMovies + "x,Nameless,Drama\n91,Too few\n92,\"never closed,Drama\n",
      "ratings.csv":
        "userId,movieId,rating,timestamp\n1,1,4,100\n1,1,good,100\n\n1,-2,4,100\n1,2,4,1e9\n",
    ])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    let path = folder.path
    #expect(
      error?.all.map(\.message) == [
        "\(path)/movies.csv, line 6: the film's id `x` is not a whole number.",
        "\(path)/movies.csv, line 7: 2 fields where 3 are needed.",
        "\(path)/movies.csv, line 8: a quote is never closed.",
        "\(path)/ratings.csv, line 3: the rating `good` is not a number.",
        "\(path)/ratings.csv, line 5: the film's id `-2` is not a whole number.",
        "\(path)/ratings.csv, line 6: the time `1e9` is not a whole number of seconds.",
      ])
    #expect(error?.all.first?.place == "\(path)/movies.csv:6")
  }

  @Test func `a quoted line break does not shift the line numbers`() throws {
    let folder = try TemporaryFolder([
      "movies.csv": "movieId,title,genres\n1,\"Two\nlines (1990)\",Drama\nbad,Title,Drama\n",
      "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4,100\n",
    ])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    #expect(error?.all.map(\.place) == ["\(folder.path)/movies.csv:4"])
  }

  @Test func `tells how many more lines are bad`() throws {
    let folder = try TemporaryFolder([
      "movies.csv": goodMovies,
      "ratings.csv": "userId,movieId,rating,timestamp\n"
        + String(repeating: "1;1;4;100\n", count: 25),
    ])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    #expect(error?.all.count == 21)
    #expect(
      error?.all.last?.message
        == "\(folder.path)/ratings.csv has 5 more lines that cannot be read.")
  }

  @Test func `suggests the column that was meant`() throws {
    let folder = try TemporaryFolder([
      "movies.csv": goodMovies, "ratings.csv": "user_Id,movieId,rating,timestamp\n1,1,4,100\n",
    ])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    #expect(
      error?.description == """
        error: \(folder.path)/ratings.csv, line 1: no column `userId`.
          at \(folder.path)/ratings.csv:1
          note: The columns are `user_Id`, `movieId`, `rating`, `timestamp`.
          help: Did you mean the column `user_Id`? Rename it to `userId`.
        """)
  }

  @Test func `an empty file is refused`() throws {
    let folder = try TemporaryFolder([
      "movies.csv": goodMovies, "ratings.csv": "userId,movieId,rating,timestamp\n",
    ])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    #expect(error?.all.map(\.code) == ["empty_file"])
  }

  @Test func `a folder that is not there is not found`() {
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: "/no/such/folder") }
    #expect(error?.kind == .notFound)
    #expect(error?.all.first?.message == "There is no folder `/no/such/folder`.")
  }

  @Test func `a folder without ratings says what is there and what is missing`() throws {
    let folder = try TemporaryFolder(["movies.csv": goodMovies, "notes.txt": "?"])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    #expect(
      error?.all.first?.notes == [
        "It holds: movies.csv, notes.txt.",
        "`movies.csv` is there, but `ratings.csv` is missing.",
      ])
    let file = #expect(throws: Diagnostics.self) {
      try RatingsFolder(path: folder.path + "/notes.txt")
    }
    #expect(file?.all.first?.message == "`\(folder.path)/notes.txt` is a file, not a folder.")
  }

  @Test func `a broken compressed file is named`() throws {
    let folder = try TemporaryFolder([
      "movies.tsv": "item\ttitle\tgenres\n1\tA\tDrama\n", "interactions.tsv.gz": "not gzip",
    ])
    let error = #expect(throws: Diagnostics.self) { try RatingsFolder(path: folder.path) }
    #expect(error?.all.map(\.code) == ["unreadable_file"])
    #expect(error?.all.first?.message.contains("interactions.tsv.gz") == true)
  }
}

/// The shared data sets, which are not part of the repository (their terms forbid it for two of them).
private enum SharedData {
  static let folder = "../shared/data"
  static func holds(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(folder)/\(name)/README.txt")
      || FileManager.default.fileExists(atPath: "\(folder)/\(name)/movies.tsv")
  }
}

@Suite struct `Shared data sets` {
  @Test(
    .enabled(
      if: SharedData.holds("ml-latest-small"),
      "ml-latest-small is not at ../shared/data/ml-latest-small, seen from the package's root"))
  func `ml-latest-small has the published counts`() throws {
    let data = try RatingsFolder(path: "\(SharedData.folder)/ml-latest-small")
    #expect(data.items.count == 9_742)
    #expect(data.ratings.count == 100_836)
    #expect(data.userCount == 610)
    #expect(data.ratedItemCount == 9_724)
  }

  @Test(
    .enabled(
      if: SharedData.holds("ml-100k"),
      "ml-100k is not at ../shared/data/ml-100k, seen from the package's root"))
  func `ml-100k has the published counts`() throws {
    let data = try RatingsFolder(path: "\(SharedData.folder)/ml-100k")
    #expect(data.ratings.count == 100_000)
    #expect(data.userCount == 943)
    #expect(data.ratedItemCount == 1_682)
    #expect(data.items.first?.year == 1995)
    #expect(data.items.first?.genres == ["Animation", "Children's", "Comedy"])
  }

  @Test(
    .enabled(
      if: SharedData.holds("ml-1m"),
      "ml-1m is not at ../shared/data/ml-1m, seen from the package's root"))
  func `ml-1m has the published counts`() throws {
    let data = try RatingsFolder(path: "\(SharedData.folder)/ml-1m")
    #expect(data.ratings.count == 999_611)
    #expect(data.userCount == 6_040)
    #expect(data.ratedItemCount == 3_416)
    #expect(data.items.count == 3_416)
    #expect(data.items.first?.title == "Raiders of the Lost Ark")
    #expect(data.items.first?.year == 1981)
  }
}
