package import Domain

/// Decides which shards are read, and when a shard is done. Holds no connection or clock.
///
/// A key's records move to other shards where a stream is split or merged, so a shard is read only when
/// all its parents are done: then a user's events keep their order.
package struct ShardPlan: Hashable, Sendable {
  /// How far a shard has been read, as it is stored.
  package struct Progress: Hashable, Sendable {
    /// The last record's number; nil before the first.
    package var sequenceNumber: String?
    package var isDone = false

    package init(sequenceNumber: String? = nil, isDone: Bool = false) {
      self.sequenceNumber = sequenceNumber
      self.isDone = isDone
    }

    package var json: JSON {
      ["sequence": sequenceNumber.map { .string($0) } ?? .null, "done": .bool(isDone)]
    }

    /// Reads what `json` wrote.
    package init?(_ json: JSON) {
      guard let done = json["done"]?.bool else { return nil }
      self.init(sequenceNumber: json["sequence"]?.string, isDone: done)
    }
  }

  package private(set) var shards: [KinesisClient.Shard] = []
  package private(set) var progress: [String: Progress]

  package init(progress: [String: Progress] = [:]) { self.progress = progress }

  /// Takes in what the stream looks like now.
  package mutating func update(_ shards: [KinesisClient.Shard]) {
    self.shards = shards.sorted { $0.id < $1.id }
  }

  package mutating func set(_ progress: Progress, of shard: String) {
    self.progress[shard] = progress
  }

  /// The shards that may be read now, in the order of their names.
  ///
  /// A parent that the stream does not list any more is gone with its records, and holds nobody up.
  package var readable: [KinesisClient.Shard] {
    let listed = Set(shards.map(\.id))
    return shards.filter { shard in
      !isDone(shard.id)
        && shard.parents.allSatisfy { !listed.contains($0) || isDone($0) }
    }
  }

  package func isDone(_ shard: String) -> Bool { progress[shard]?.isDone ?? false }

  package func isClosed(_ shard: String) -> Bool {
    shards.first { $0.id == shard }?.isClosed ?? false
  }
}
