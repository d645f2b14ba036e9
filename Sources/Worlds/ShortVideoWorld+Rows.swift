package import Domain

extension ShortVideoWorld {
  /// The table of videos: one row per `item_id`.
  package var videoTable: TableSchema {
    TableSchema(
      name: "videos",
      columns: [
        ColumnDefinition(name: "item_id", type: .string),
        ColumnDefinition(name: "creator_id", type: .lowCardinalityString),
        ColumnDefinition(name: "title", type: .string),
        ColumnDefinition(name: "topic", type: .lowCardinalityString),
        ColumnDefinition(name: "tags", type: .stringArray),
        ColumnDefinition(name: "language", type: .lowCardinalityString),
        ColumnDefinition(name: "duration_s", type: .int32),
        ColumnDefinition(name: "published_at", type: .dateTime),
      ], uniqueKeys: ["item_id"], description: "Short videos of a simulated app")
  }

  /// The table of what viewers did: one row per `event_id`.
  package var eventTable: TableSchema {
    TableSchema(
      name: "video_events",
      columns: [
        ColumnDefinition(name: "event_id", type: .string),
        ColumnDefinition(name: "user_id", type: .string),
        ColumnDefinition(name: "item_id", type: .string),
        ColumnDefinition(name: "event_value", type: .lowCardinalityString),
        ColumnDefinition(name: "watch_ratio", type: .double),
        ColumnDefinition(name: "label", type: .int32),
        ColumnDefinition(name: "created_at", type: .dateTime),
      ], uniqueKeys: ["event_id"], description: "What viewers did with the videos")
  }

  /// The catalogue, oldest video first.
  package func videoRows() -> [JSON] {
    videos.enumerated().map { number, video in
      let topic = ShortVideoVocabulary.topics[video.topic]
      var tags: [JSON] = [
        .string(topic.threads[video.thread]), .string(ShortVideoVocabulary.styles[video.style]),
      ]
      if video.isPartOfSeries { tags.append("series") }
      return [
        "item_id": .string(itemID(number)),
        "creator_id": .string(creators[video.creator].handle),
        "title": .string(video.title),
        "topic": .string(topic.name),
        "tags": .array(tags),
        "language": .string(ShortVideoVocabulary.languages[video.language].code),
        "duration_s": .int(Int64(video.durationSeconds)),
        "published_at": .string(timestamp(video.publishedAt).iso8601),
      ]
    }
  }

  /// All events in time order, some at a time; a batch is made when it is asked for.
  package func eventRows(batchSize: Int = 5_000) -> EventBatches {
    precondition(batchSize > 0, "batches of \(batchSize) events")
    return EventBatches(world: self, batchSize: batchSize)
  }

  /// The rows of all events, in batches.
  package struct EventBatches: Sequence, IteratorProtocol, Sendable {
    let world: ShortVideoWorld
    let batchSize: Int
    var start = 0

    package mutating func next() -> [JSON]? {
      guard start < world.events.count else { return nil }
      let batch = start..<Swift.min(start + batchSize, world.events.count)
      start = batch.upperBound
      return batch.map { world.row(of: world.events[$0], id: "e\(padded($0 + 1, 7))") }
    }
  }

  /// The name of a user by number, from 0.
  package func userID(_ user: Int) -> String { "u\(padded(user + 1, 4))" }

  /// The name of a video by its place in `videoRows()`.
  package func itemID(_ video: Int) -> String { "v\(padded(video + 1, 4))" }

  func row(of event: Event, id: String) -> JSON {
    [
      "event_id": .string(id),
      "user_id": .string(userID(event.user)),
      "item_id": .string(itemID(event.video)),
      "event_value": .string(event.value.rawValue),
      "watch_ratio": .double(Double(event.watchedThousandths) / 1000),
      "label": .int(Int64(event.label)),
      "created_at": .string(timestamp(event.time).iso8601),
    ]
  }

  private func timestamp(_ seconds: Int) -> Timestamp {
    Timestamp(
      microsecondsSinceEpoch: settings.start.microsecondsSinceEpoch + Int64(seconds) * 1_000_000)
  }
}

private func padded(_ number: Int, _ width: Int) -> String {
  let text = String(number)
  return String(repeating: "0", count: max(0, width - text.count)) + text
}
