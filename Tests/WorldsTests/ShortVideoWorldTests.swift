import Domain
import Testing
import Worlds

/// Small enough for a debug build, large enough for the statistics below.
private let smallWorld = ShortVideoWorld(.init(users: 300, videos: 600, days: 14, seed: 3))

/// Videos of the positive events of each user, in time order.
private func positives(of world: ShortVideoWorld) -> [[Int]] {
  var histories = [[Int]](repeating: [], count: world.settings.users)
  for event in world.events where event.label == 1 { histories[event.user].append(event.video) }
  return histories
}

private func bytes(of world: ShortVideoWorld) -> [UInt8] {
  var out: [UInt8] = []
  for row in world.videoRows() { row.write(into: &out) }
  for batch in world.eventRows() { for row in batch { row.write(into: &out) } }
  for row in world.swipes(user: 0) { row.write(into: &out) }
  return out
}

/// FNV-1a, to write a world down in one number.
private func fingerprint(_ bytes: [UInt8]) -> UInt64 {
  bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
}

@Suite struct `Short-video world` {
  @Test func `the same seed gives the same bytes`() {
    let settings = ShortVideoWorld.Settings(users: 40, videos: 300, days: 6, seed: 11)
    #expect(bytes(of: ShortVideoWorld(settings)) == bytes(of: ShortVideoWorld(settings)))
  }

  @Test func `another seed gives another world`() {
    let one = ShortVideoWorld(.init(users: 40, videos: 300, days: 6, seed: 11))
    let other = ShortVideoWorld(.init(users: 40, videos: 300, days: 6, seed: 12))
    #expect(bytes(of: one) != bytes(of: other))
    #expect(one.events != other.events)
  }

  @Test func `one world is the same on every machine`() {
    let world = ShortVideoWorld(.init(users: 20, videos: 200, days: 4, seed: 1))
    #expect(fingerprint(bytes(of: world)) == 16_659_253_105_326_072_631)
  }

  @Test func `times never decrease, and grow strictly for one user`() {
    let events = smallWorld.events
    #expect(zip(events, events.dropFirst()).allSatisfy { $0.time <= $1.time })
    var last: [Int: Int] = [:]
    for event in events {
      if let before = last[event.user] { #expect(before < event.time) }
      last[event.user] = event.time
    }
  }

  @Test func `nobody is shown a video twice, or one that is not out yet`() throws {
    var seen = Set<[Int]>()
    let published = try smallWorld.videoRows().map { row in
      try #require(row["published_at"]?.string.flatMap { Timestamp(iso8601: $0) })
    }
    let start = smallWorld.settings.start.microsecondsSinceEpoch
    for event in smallWorld.events {
      #expect(seen.insert([event.user, event.video]).inserted)
      let time = Timestamp(microsecondsSinceEpoch: start + Int64(event.time) * 1_000_000)
      #expect(published[event.video] < time)
    }
  }

  @Test(arguments: [
    ("like", 0.1, 1), ("share", 0, 1), ("view", 0.8, 1), ("view", 0.799, 0), ("view", 0, 0),
    ("skip", 0.9, -1),
  ])
  func `the label follows one rule`(value: String, ratio: Double, label: Int) throws {
    let reaction = try #require(ShortVideoWorld.Reaction(rawValue: value))
    #expect(ShortVideoWorld.label(of: reaction, watchRatio: ratio) == label)
  }

  @Test func `rows fit their tables and name what exists`() {
    let videos = smallWorld.videoRows()
    #expect(videos.count == smallWorld.settings.videos)
    let items = Set(videos.compactMap { $0["item_id"]?.string })
    #expect(items.count == videos.count)
    for row in videos {
      #expect(row.object?.map(\.name) == smallWorld.videoTable.columns.map(\.name))
      #expect(row["title"]?.string?.isEmpty == false)
      #expect(row["tags"]?.array?.isEmpty == false)
    }
    var ids = Set<String>()
    var sizes: [Int] = []
    for batch in smallWorld.eventRows(batchSize: 1_000) {
      sizes.append(batch.count)
      for row in batch {
        #expect(row.object?.map(\.name) == smallWorld.eventTable.columns.map(\.name))
        if let id = row["event_id"]?.string { ids.insert(id) }
        #expect(row["item_id"]?.string.map(items.contains) == true)
      }
    }
    #expect(ids.count == smallWorld.events.count)
    #expect(sizes.reduce(0, +) == smallWorld.events.count)
    #expect(sizes.dropLast().allSatisfy { $0 == 1_000 })
  }

  @Test func `parts of a series come out in order`() {
    var lastPart: [String: Int] = [:]
    var parts = 0
    for row in smallWorld.videoRows() {
      guard let title = row["title"]?.string, let creator = row["creator_id"]?.string,
        let at = title.firstRange(of: ", part "), let part = Int(title[at.upperBound...])
      else { continue }
      parts += 1
      // Two series of one creator may share a name; a part then follows itself or starts again.
      let name = creator + title[..<at.lowerBound]
      if let before = lastPart[name] { #expect(part <= before + 1) } else { #expect(part == 1) }
      lastPart[name] = max(part, lastPart[name] ?? 0)
    }
    #expect(parts > 100)
  }

  @Test func `the oracle is a distribution over what the user had not seen`() throws {
    let histories = positives(of: smallWorld)
    for user in 0..<smallWorld.settings.users {
      let scores = smallWorld.oracleScores(forLastPositiveOf: user)
      guard let last = smallWorld.lastPositive(of: user) else {
        #expect(scores.isEmpty)
        continue
      }
      #expect(histories[user].last == last)
      #expect(scores.count == smallWorld.settings.videos)
      #expect(scores.allSatisfy { $0 >= 0 })
      #expect(abs(scores.reduce(0, +) - 1) < 1e-9)
      #expect(scores[last] > 0)
      let end = try #require(
        smallWorld.events.firstIndex { $0.user == user && $0.video == last })
      for event in smallWorld.events[..<end] where event.user == user {
        #expect(scores[event.video] == 0)
      }
    }
  }

  /// The chance that the oracle gives to its ten best must be the share of users for whom one of them
  /// came: a distribution that is right is also calibrated.
  @Test func `the oracle's chances come true`() {
    var promised = 0.0
    var kept = 0.0
    var users = 0.0
    for seed in 1...4 as ClosedRange<UInt64> {
      let world = ShortVideoWorld(.init(users: 300, videos: 400, days: 8, seed: seed))
      for user in 0..<world.settings.users {
        let scores = world.oracleScores(forLastPositiveOf: user)
        guard let last = world.lastPositive(of: user) else { continue }
        let best = scores.indices.sorted { (scores[$0], $1) > (scores[$1], $0) }.prefix(10)
        promised += best.reduce(0) { $0 + scores[$1] }
        kept += best.contains(last) ? 1 : 0
        users += 1
      }
    }
    #expect(users > 900)
    // Four standard errors of a share near one half.
    #expect(abs(promised - kept) / users < 2 / users.squareRoot())
  }

  @Test func `the oracle's ten best hold the last positive far more often than the popular ten`() {
    let histories = positives(of: smallWorld)
    var popularity = [Int](repeating: 0, count: smallWorld.settings.videos)
    for video in histories.flatMap({ $0.dropLast() }) { popularity[video] += 1 }
    var oracleHits = 0
    var popularHits = 0
    for (user, history) in histories.enumerated() {
      guard let last = history.last else { continue }
      let scores = smallWorld.oracleScores(forLastPositiveOf: user)
      oracleHits += scores.count { $0 >= scores[last] } <= 10 ? 1 : 0
      let seen = Set(history.dropLast())
      let better = popularity.indices.count {
        !seen.contains($0) && popularity[$0] >= popularity[last]
      }
      popularHits += better <= 10 ? 1 : 0
    }
    #expect(oracleHits > smallWorld.settings.users * 4 / 10)
    #expect(oracleHits > 5 * popularHits)
  }

  /// Goal: the order of a history carries signal, beyond which videos are in it. Method: count how
  /// often a transition counter, trained on other users, finds the last positive among its ten best;
  /// then the same with each history before the last shuffled.
  @Test func `shuffling histories hurts a transition counter`() {
    let world = ShortVideoWorld(.init(users: 600, videos: 600, days: 14, seed: 4))
    func hits(_ histories: [[Int]]) -> Int {
      var following: [Int: [Int: Int]] = [:]
      for history in histories {
        for (a, b) in zip(history.dropLast(2), history.dropLast().dropFirst()) {
          following[a, default: [:]][b, default: 0] += 1
        }
      }
      return histories.count { history in
        guard history.count > 1, let last = history.last else { return false }
        let counts = following[history[history.count - 2]] ?? [:]
        guard let own = counts[last] else { return false }
        return counts.count { $0.value >= own } <= 10
      }
    }
    let histories = positives(of: world).filter { $0.count >= 5 }
    var random = SeededGenerator(seed: 8)
    let shuffled = histories.map { history in
      Array(history.dropLast()).shuffled(using: &random) + history.suffix(1)
    }
    #expect(hits(histories) > 2 * hits(shuffled))
    #expect(hits(histories) > histories.count / 20)
  }

  @Test func `an interest inside a session outlives the last video`() {
    // The video before last must tell something that the last one does not: where the last video left
    // the topic of the two before it, the next often returns to it.
    var returns = 0
    var chances = 0
    var topics: [String] = []
    for row in smallWorld.videoRows() { topics.append(row["topic"]?.string ?? "") }
    for history in positives(of: smallWorld) where history.count >= 4 {
      for i in 3..<history.count {
        let (a, b, c) = (history[i - 3], history[i - 2], history[i - 1])
        guard topics[a] == topics[b], topics[b] != topics[c] else { continue }
        chances += 1
        returns += topics[history[i]] == topics[a] ? 1 : 0
      }
    }
    #expect(chances > 200)
    #expect(returns * 10 > chances * 2)
  }

  @Test func `swipes are unseen videos of a topic far from the user's interests`() throws {
    let events = smallWorld.events
    for user in stride(from: 0, to: smallWorld.settings.users, by: 17) {
      let topic = smallWorld.farTopic(for: user)
      let rows = smallWorld.swipes(user: user)
      #expect(rows.count == 3)
      #expect(rows == smallWorld.swipes(user: user, topic: topic, count: 3))
      let videos = smallWorld.videoRows()
      var last = Timestamp(microsecondsSinceEpoch: .min)
      for row in rows {
        let item = try #require(row["item_id"]?.string)
        let video = try #require(videos.firstIndex { $0["item_id"]?.string == item })
        #expect(videos[video]["topic"]?.string == topic)
        #expect(!events.contains { $0.user == user && $0.video == video })
        #expect(row["user_id"]?.string == smallWorld.userID(user))
        #expect(row["label"]?.int == 1)
        let time = try #require(row["created_at"]?.string.flatMap { Timestamp(iso8601: $0) })
        #expect(last < time)
        last = time
      }
      #expect(Set(rows.compactMap { $0["event_id"]?.string }).count == 3)
    }
    #expect(smallWorld.swipes(user: 0, topic: "no such topic").isEmpty)
  }
}
