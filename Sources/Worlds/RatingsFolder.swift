package import Domain

/// A folder of real data: who rated which film when, and what the films are called.
///
/// Three forms are understood, by the names of the files:
/// - MovieLens, comma-separated: `ratings.csv` and `movies.csv`;
/// - MovieLens, older releases: `ratings.dat` and `movies.dat`, with `::` between the fields;
/// - tab-separated: `interactions.tsv` (or `.tsv.gz`) with `user`, `item` and `timestamp` or `order`,
///   and `movies.tsv` with `item`, `title`, `genres` and maybe `year`.
///
/// Every rating counts as one positive event, as the published figures for this data do. Where the
/// file has only an order, the order number stands for the time in seconds.
package struct RatingsFolder: Sendable {
  /// One film.
  package struct Item: Hashable, Sendable {
    package var id: Int
    package var title: String
    package var year: Int?
    package var genres: [String]

    package init(id: Int, title: String, year: Int?, genres: [String]) {
      (self.id, self.title, self.year, self.genres) = (id, title, year, genres)
    }
  }

  /// One rating.
  package struct Rating: Hashable, Sendable {
    package var user: Int
    package var item: Int
    /// Nil where the file has none.
    package var rating: Double?
    /// Seconds since 1970, or the order number.
    package var seconds: Int

    package init(user: Int, item: Int, rating: Double?, seconds: Int) {
      (self.user, self.item, self.rating, self.seconds) = (user, item, rating, seconds)
    }
  }

  package let path: String
  /// The films in the order of their file.
  package let items: [Item]
  /// The ratings in time order; those of one time keep the order of their file.
  package let ratings: [Rating]

  /// Reads a folder.
  ///
  /// - Throws: every problem with the files that it found, at most twenty bad lines of each file.
  package init(path: String) throws(Diagnostics) {
    self.path = path
    let form = try RatingsForm(folder: path)
    var problems: [Diagnostic] = []
    let items = RatingsFolder.read(form.items, &problems) {
      (header) throws(Diagnostic) in try FilmLines(form.items, header: header)
    }
    let ratings = RatingsFolder.read(form.ratings, &problems) {
      (header) throws(Diagnostic) in try RatingLines(form.ratings, header: header)
    }
    guard problems.isEmpty else { throw Diagnostics(problems) }
    self.items = items
    // Sorting whole numbers of 64 bits is several times faster than sorting the ratings themselves.
    let order = ratings.indices.sorted { (ratings[$0].seconds, $0) < (ratings[$1].seconds, $1) }
    self.ratings = order.map { ratings[$0] }
  }

  /// How many people rated something.
  package var userCount: Int { Set(ratings.map(\.user)).count }

  /// How many films were rated.
  package var ratedItemCount: Int { Set(ratings.map(\.item)).count }

  /// The table of films: one row per `item_id`.
  package var itemTable: TableSchema {
    TableSchema(
      name: "movies",
      columns: [
        ColumnDefinition(name: "item_id", type: .string),
        ColumnDefinition(name: "title", type: .string),
        ColumnDefinition(name: "year", type: .int32),
        ColumnDefinition(name: "genres", type: .stringArray),
      ], uniqueKeys: ["item_id"], description: "Films")
  }

  /// The table of ratings: one row per user and film, so that reading a folder twice changes nothing.
  package var ratingTable: TableSchema {
    TableSchema(
      name: "ratings",
      columns: [
        ColumnDefinition(name: "user_id", type: .string),
        ColumnDefinition(name: "item_id", type: .string),
        ColumnDefinition(name: "rating", type: .double),
        ColumnDefinition(name: "label", type: .int32),
        ColumnDefinition(name: "created_at", type: .dateTime),
      ], uniqueKeys: ["user_id", "item_id"], description: "Who rated which film when")
  }

  /// The films as rows of `itemTable`.
  package func itemRows() -> [JSON] {
    items.map { item in
      [
        "item_id": .string(String(item.id)),
        "title": .string(item.title),
        "year": item.year.map { .int(Int64($0)) } ?? .null,
        "genres": .array(item.genres.map { .string($0) }),
      ]
    }
  }

  /// The ratings as rows of `ratingTable`, in time order, some at a time.
  package func ratingRows(batchSize: Int = 5_000) -> RatingBatches {
    precondition(batchSize > 0, "batches of \(batchSize) ratings")
    return RatingBatches(folder: self, batchSize: batchSize)
  }

  /// The rows of all ratings, in batches; a batch is made when it is asked for.
  package struct RatingBatches: Sequence, IteratorProtocol, Sendable {
    let folder: RatingsFolder
    let batchSize: Int
    var start = 0

    package mutating func next() -> [JSON]? {
      let ratings = folder.ratings
      guard start < ratings.count else { return nil }
      let batch = ratings[start..<Swift.min(start + batchSize, ratings.count)]
      start = batch.endIndex
      return batch.map { rating in
        [
          "user_id": .string(String(rating.user)),
          "item_id": .string(String(rating.item)),
          "rating": rating.rating.map { .double($0) } ?? .null,
          "label": 1,
          "created_at": .string(
            Timestamp(microsecondsSinceEpoch: Int64(rating.seconds) * 1_000_000).iso8601),
        ]
      }
    }
  }
}
