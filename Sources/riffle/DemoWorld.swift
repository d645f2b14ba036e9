import Domain
import Engine
import Foundation
import Worlds

/// A world that the demo loads, trains on and shows.
struct DemoWorld {
  var title: String
  /// Lines about the world, before it is loaded.
  var facts: [String]
  /// In the order in which they are made and filled; the last is the table of events.
  var tables: [(schema: TableSchema, batches: any Sequence<[JSON]>, rowCount: Int)]
  var engineYAML: String
  /// The world's own best possible ranking, where it has one.
  var oracle: ((UserID, [ItemID]) -> [Float])?
  /// The person for whom the feed is shown.
  var user: String
  /// The column by which the feed turns, and its value in the swipes.
  var topicColumn: String
  var topic: String
  var swipes: [JSON]
  /// What the demo calls the swipes.
  var swipeWords: String
  /// How many items of the feed the check looks at to see it turn.
  var checkedCount: Int

  var eventTable: String { tables.last?.schema.name ?? "" }

  /// The engine that every demo declares.
  static func engineYAML(
    description: String, events: String, items: String, columns: String, model: String
  ) -> String {
    """
    version: v2
    name: for_you
    description: \(description)
    data:
      interaction_table: {type: table, name: \(events)}
      item_table: {type: table, name: \(items)}
    index:
      embeddings:
        - {name: taste, encoder: {type: trained_model, model_ref: sasrec}}
    training:
      models:
        - \(model)
    queries:
      feed:
        parameters: {user_id: {default: ''}, n: {default: 10}}
        query: |
          SELECT \(columns)
          FROM similarity(embedding_ref='taste', encoder='precomputed_user',
                          input_user_id=$user_id, limit=200)
          WHERE prebuilt('already_seen', input_user_id=$user_id)
          ORDER BY score(expression='sasrec', input_user_id=$user_id)
          LIMIT $n

    """
  }
}

extension DemoWorld {
  /// The short-video world of the simulator.
  static func shortVideos(_ settings: ShortVideoWorld.Settings = .init()) -> DemoWorld {
    let world = ShortVideoWorld(settings)
    let user = 6
    let topic = world.farTopic(for: user)
    return DemoWorld(
      title: "A world of short videos",
      facts: [
        "\(Terminal.grouped(settings.videos)) videos on \(world.topics.count) topics, "
          + "\(Terminal.grouped(settings.users)) viewers, \(settings.days) days, "
          + "\(Terminal.grouped(world.events.count)) events (simulated, seed \(settings.seed))"
      ],
      tables: [
        (world.videoTable, [world.videoRows()], settings.videos),
        (world.eventTable, world.eventRows(), world.events.count),
      ],
      engineYAML: engineYAML(
        description: The.feed, events: world.eventTable.name, items: world.videoTable.name,
        columns: "title, topic, creator_id",
        model: "{policy_type: sasrec, name: sasrec, hidden_size: 64, max_seq_length: 50, "
          + "n_epochs: 20, early_stopping_step: 3}"),
      oracle: { user, items in
        guard let number = Int(user.rawValue.dropFirst()) else { return items.map { _ in 0 } }
        let scores = world.oracleScores(forLastPositiveOf: number - 1)
        return items.map { item in
          guard let video = Int(item.rawValue.dropFirst()), video <= scores.count else { return 0 }
          return Float(scores[video - 1])
        }
      },
      user: world.userID(user), topicColumn: "topic", topic: topic,
      swipes: world.swipes(user: user, topic: topic),
      swipeWords: "likes three videos about \(topic)", checkedCount: 10)
  }

  private enum The {
    static let feed = "The feed of the short-video demo"
    static let films = "Films that a person may want to see next"
  }

  /// A MovieLens folder.
  static func films(_ path: String) throws(Diagnostics) -> DemoWorld {
    let folder = try RatingsFolder(path: path)
    let (user, genre, liked) = likes(in: folder)
    let now = Timestamp.now().iso8601
    return DemoWorld(
      title: "Films from `\(path)`",
      facts: [
        "\(Terminal.grouped(folder.items.count)) films, \(Terminal.grouped(folder.userCount)) people, "
          + "\(Terminal.grouped(folder.ratings.count)) ratings, each one a positive event"
      ],
      tables: [
        (folder.itemTable, folder.itemRows().chunked(5000), folder.items.count),
        (folder.ratingTable, folder.ratingRows(), folder.ratings.count),
      ],
      engineYAML: engineYAML(
        description: The.films, events: folder.ratingTable.name, items: folder.itemTable.name,
        columns: "title, genres",
        model: "{policy_type: sasrec, name: sasrec, hidden_size: 64, max_seq_length: 200, "
          + "n_epochs: 40, early_stopping_step: 8}"),
      oracle: nil, user: String(user), topicColumn: "genres", topic: genre,
      swipes: liked.map { item in
        [
          "user_id": .string(String(user)), "item_id": .string(String(item)), "rating": 5,
          "label": 1, "created_at": .string(now),
        ]
      }, swipeWords: "rates three films of the genre \(genre)", checkedCount: 50)
  }

  /// A person with a middling history, a genre that is rare in it (at most one film in ten), and three
  /// films of that genre that many have rated, but not this person.
  private static func likes(in folder: RatingsFolder) -> (user: Int, genre: String, items: [Int]) {
    var rated: [Int: Set<Int>] = [:]
    var popularity: [Int: Int] = [:]
    for rating in folder.ratings {
      rated[rating.user, default: []].insert(rating.item)
      popularity[rating.item, default: 0] += 1
    }
    let people = rated.sorted { ($0.value.count, $0.key) < ($1.value.count, $1.key) }
    guard let (user, seen) = people.isEmpty ? nil : people[people.count / 2] else {
      return (0, "", [])
    }
    var inHistory: [String: Int] = [:]
    var unseen: [String: [Int]] = [:]
    for item in folder.items {
      for genre in item.genres {
        if seen.contains(item.id) {
          inHistory[genre, default: 0] += 1
        } else if popularity[item.id, default: 0] > 0 {
          unseen[genre, default: []].append(item.id)
        }
      }
    }
    func known(_ genre: String) -> [Int] {
      let films = (unseen[genre] ?? []).sorted {
        (popularity[$0, default: 0], $1) > (popularity[$1, default: 0], $0)
      }
      return Array(films.prefix(3))
    }
    func fame(_ genre: String) -> Int { known(genre).reduce(0) { $0 + popularity[$1, default: 0] } }
    let rare = unseen.keys.filter {
      inHistory[$0, default: 0] * 10 <= seen.count && (unseen[$0]?.count ?? 0) >= 60
    }
    guard let genre = rare.max(by: { (fame($0), $1) < (fame($1), $0) }) else {
      return (user, "", [])
    }
    return (user, genre, known(genre))
  }
}

extension Array {
  fileprivate func chunked(_ size: Int) -> [[Element]] {
    stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
  }
}
