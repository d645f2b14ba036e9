extension ShortVideoWorld {
  /// Everything about a viewer that decides what comes next. Events only hint at most of it.
  struct Viewer: Sendable {
    /// What each language is worth to the viewer, 0 to 1.
    var languages: [Double]
    /// Long-lived tastes over topics, which sum to 1. A few are above 0.
    var interests: [Double]
    /// What the viewer is drawn to right now, over topics. The sum is how strongly.
    var mood: [Double]
    /// Attachment to creators, each 0 or more; it fades with every liked video.
    var attachment: [Double]
    /// The one style that the viewer likes best.
    var style: Int
    /// The last liked videos, newest first, at most `recentCount`.
    var recent: [Int] = []
    /// Which videos the viewer was shown. None is shown twice.
    var seen: [Bool]
    /// Seconds from the world's start.
    var time = 0

    static let recentCount = 6

    /// Takes in a liked video.
    mutating func liked(_ number: Int, _ video: Video) {
      for topic in mood.indices { mood[topic] *= 0.7 }
      mood[video.topic] += 1
      for creator in attachment.indices where attachment[creator] > 0 {
        attachment[creator] *= 0.92
        if attachment[creator] < 0.05 { attachment[creator] = 0 }
      }
      attachment[video.creator] += 1
      interests[video.topic] += 0.015
      let total = interests.reduce(0, +)
      for topic in interests.indices { interests[topic] /= total }
      recent.insert(number, at: 0)
      if recent.count > Self.recentCount { recent.removeLast() }
    }

    /// Takes in a skipped video.
    mutating func skipped(_ video: Video) {
      mood[video.topic] *= 0.5
      attachment[video.creator] *= 0.6
    }

    /// Turns the mood to one topic.
    mutating func turn(to topic: Int, strength: Double) {
      for other in mood.indices { mood[other] = 0 }
      mood[topic] = strength
    }

    /// Lets a night pass: interests grow and shrink, and now and then one gives way to a new one.
    mutating func sleep(_ random: inout SeededGenerator) {
      for topic in interests.indices where interests[topic] > 0 {
        interests[topic] *= 0.8 + 0.4 * random.uniform()
        if interests[topic] < 0.02 { interests[topic] = 0 }
      }
      if random.chance(0.08) { interests[random.below(interests.count)] += 0.25 }
      let total = interests.reduce(0, +)
      for topic in interests.indices { interests[topic] /= total }
    }
  }

  /// Where the feed takes a video from.
  enum Source {
    /// The next part of a series whose last part the viewer liked.
    case nextPart
    /// A creator to whom the viewer is attached.
    case creator(Int)
    /// A topic of the present mood; threads of the last liked videos come first.
    case mood(topic: Int)
    /// A topic of the long-lived interests.
    case interest(topic: Int)
    /// Whatever is popular in the viewer's languages. Also where another source has nothing left.
    case popular
  }
}

extension ShortVideoWorld.Catalogue {
  typealias Viewer = ShortVideoWorld.Viewer
  typealias Source = ShortVideoWorld.Source
  typealias Event = ShortVideoWorld.Event

  /// The sources of the viewer's feed with their shares, which sum to 1.
  func sources(for viewer: Viewer) -> [(source: Source, share: Double)] {
    var sources: [(source: Source, share: Double)] = []
    if !pendingParts(of: viewer).isEmpty { sources.append((.nextPart, 0.2)) }
    let attachment = viewer.attachment.reduce(0, +)
    for (creator, value) in viewer.attachment.enumerated() where value > 0 {
      sources.append((.creator(creator), 0.2 * value / attachment))
    }
    let mood = viewer.mood.reduce(0, +)
    for (topic, value) in viewer.mood.enumerated() where value > 0 {
      sources.append((.mood(topic: topic), 0.34 * value / mood))
    }
    for (topic, value) in viewer.interests.enumerated() where value > 0 {
      sources.append((.interest(topic: topic), 0.18 * value))
    }
    sources.append((.popular, 0.06))
    let total = sources.reduce(0) { $0 + $1.share }
    return sources.map { ($0.source, $0.share / total) }
  }

  /// The next parts of series that the viewer can go on with, and how strongly each calls.
  private func pendingParts(of viewer: Viewer) -> [(video: Int, weight: Double)] {
    var parts: [(video: Int, weight: Double)] = []
    for (video, weight) in zip(viewer.recent, Self.pendingWeights) {
      if let next = videos[video].nextPart, isAvailable(next, to: viewer) {
        parts.append((next, weight))
      }
    }
    return parts
  }

  /// How strongly a series calls by how many liked videos ago its last part was. The feed likes to put
  /// something between two parts.
  private static let pendingWeights = [0.35, 1, 1, 0.8, 0.6, 0.4]

  private func isAvailable(_ video: Int, to viewer: Viewer) -> Bool {
    !viewer.seen[video] && videos[video].publishedAt <= viewer.time
  }

  /// The videos that a source can show to the viewer, with their weights above 0.
  private func candidates(
    of source: Source, for viewer: Viewer
  ) -> [(video: Int, weight: Double)] {
    func weighted(
      _ pool: some Sequence<Int>, _ weight: (ShortVideoWorld.Video) -> Double
    ) -> [(video: Int, weight: Double)] {
      pool.lazy.filter { isAvailable($0, to: viewer) }.map { number in
        let video = videos[number]
        return (number, weight(video) * video.popularity * viewer.languages[video.language])
      }
    }
    switch source {
    case .nextPart: return pendingParts(of: viewer)
    case .creator(let creator): return weighted(videosOfCreator[creator]) { _ in 1 }
    case .interest(let topic): return weighted(videosOfTopic[topic]) { _ in 1 }
    case .mood(let topic):
      let threads = Set(
        viewer.recent.filter { videos[$0].topic == topic }.map { videos[$0].thread })
      return weighted(videosOfTopic[topic]) { threads.contains($0.thread) ? 12 : 1 }
    case .popular: return weighted(videos.indices) { $0.popularity }
    }
  }

  /// The chance that the viewer's reaction to a video is positive.
  private func positiveProbability(of number: Int, for viewer: Viewer) -> Double {
    let video = videos[number]
    let strongest = viewer.interests.max() ?? 1
    let mood = viewer.mood.reduce(0, +)
    var chance = 0.14 + 0.3 * viewer.interests[video.topic] / strongest
    if mood > 0 { chance += 0.26 * viewer.mood[video.topic] / mood }
    chance += 0.14 * min(1, viewer.attachment[video.creator])
    if video.style == viewer.style { chance += 0.12 }
    if viewer.recent.contains(where: { videos[$0].nextPart == number }) { chance += 0.25 }
    return min(0.95, chance * video.quality * (0.4 + 0.6 * viewer.languages[video.language]))
  }

  /// The distribution of the video of the viewer's next positive event, if the next event is one.
  ///
  /// By Bayes' rule, P(video | positive) is proportional to P(shown) · P(positive | shown).
  func nextPositiveProbabilities(for viewer: Viewer) -> [Double] {
    var shown = [Double](repeating: 0, count: videos.count)
    var popularShare = 0.0
    func add(_ candidates: [(video: Int, weight: Double)], share: Double) {
      let total = candidates.reduce(0) { $0 + $1.weight }
      for (video, weight) in candidates { shown[video] += share * weight / total }
    }
    for (source, share) in sources(for: viewer) {
      let found = candidates(of: source, for: viewer)
      if case .popular = source {
        popularShare += share
      } else if found.isEmpty {
        popularShare += share
      } else {
        add(found, share: share)
      }
    }
    add(candidates(of: .popular, for: viewer), share: popularShare)
    for video in shown.indices where shown[video] > 0 {
      shown[video] *= positiveProbability(of: video, for: viewer)
    }
    let total = shown.reduce(0, +)
    guard total > 0 else { return shown }
    return shown.map { $0 / total }
  }

  /// Draws the video that the feed shows next; nil where the viewer has seen everything.
  private func shown(to viewer: Viewer, _ random: inout SeededGenerator) -> Int? {
    let sources = sources(for: viewer)
    guard let drawn = random.index(weights: sources.map(\.share)) else { return nil }
    var found = candidates(of: sources[drawn].source, for: viewer)
    if found.isEmpty { found = candidates(of: .popular, for: viewer) }
    return random.index(weights: found.map(\.weight)).map { found[$0].video }
  }

  /// What one viewer did, and who the viewer had become.
  struct Life {
    var events: [Event] = []
    var viewer: Viewer
    /// The viewer just before the last positive event.
    var beforeLastPositive: Viewer?
  }

  /// Lives through all days of one viewer. Viewers are independent: each has random numbers of its own.
  func life(of user: Int, _ settings: ShortVideoWorld.Settings) -> Life {
    var random = SeededGenerator(seed: settings.seed, stream: UInt64(user) + 1)
    var life = Life(viewer: newViewer(&random))
    // Few viewers come often: 0.3 to 3.3 sessions on two days in three, the mean near 0.55 a day.
    let activity = 0.16 / (0.12 + random.uniform())
    let habit = [7, 12, 18, 20, 21, 22][random.below(6)] * 3_600
    for day in 0..<settings.days {
      if day > 0 { life.viewer.sleep(&random) }
      var sessions = random.chance(min(0.9, activity)) ? 1 : 0
      if random.chance(min(0.6, activity * 0.4)) { sessions += 1 }
      for session in 0..<sessions {
        let hour = session == 0 ? habit : (habit + 36_000) % 86_400
        let start = day * 86_400 + hour + random.below(5_400) - 2_700
        life.viewer.time = max(start, life.viewer.time + 900, 0)
        liveThroughSession(user, &life, &random)
      }
    }
    return life
  }

  private func newViewer(_ random: inout SeededGenerator) -> Viewer {
    let shares = ShortVideoVocabulary.languages.map(\.share)
    var languages = [Double](repeating: 0.04, count: shares.count)
    if random.chance(0.4) { languages[random.index(weights: shares) ?? 0] = 0.5 }
    languages[random.index(weights: shares) ?? 0] = 1
    var interests = [Double](repeating: 0, count: Self.topicCount)
    for _ in 0..<random.integer(in: 3...5) {
      interests[random.below(Self.topicCount)] += 0.25 + random.uniform()
    }
    let total = interests.reduce(0, +)
    return Viewer(
      languages: languages, interests: interests.map { $0 / total },
      mood: Array(repeating: 0, count: Self.topicCount),
      attachment: Array(repeating: 0, count: creators.count),
      style: random.below(ShortVideoVocabulary.styles.count),
      seen: Array(repeating: false, count: videos.count))
  }

  private func liveThroughSession(
    _ user: Int, _ life: inout Life, _ random: inout SeededGenerator
  ) {
    // What is left of the last session's mood, and the spark that made the viewer open the app.
    for topic in life.viewer.mood.indices { life.viewer.mood[topic] *= 0.3 }
    if let spark = random.index(weights: life.viewer.interests) { life.viewer.mood[spark] += 1 }
    var length = 4
    while length < 60, random.chance(0.9) { length += 1 }
    for _ in 0..<length {
      if random.chance(0.04) {
        let topic =
          random.chance(0.3)
          ? random.below(Self.topicCount) : random.index(weights: life.viewer.interests) ?? 0
        life.viewer.turn(to: topic, strength: 1.5)
      }
      guard let number = shown(to: life.viewer, &random) else { return }
      let event = reaction(of: life.viewer, user, to: number, &random)
      if event.label == 1 { life.beforeLastPositive = life.viewer }
      life.events.append(event)
      life.viewer.time = event.time + 1
      life.viewer.seen[number] = true
      switch event.label {
      case 1: life.viewer.liked(number, videos[number])
      case -1: life.viewer.skipped(videos[number])
      default: break
      }
    }
  }

  private func reaction(
    of viewer: Viewer, _ user: Int, to number: Int, _ random: inout SeededGenerator
  ) -> Event {
    let isPositive = random.chance(positiveProbability(of: number, for: viewer))
    let kind = random.uniform()
    let value: ShortVideoWorld.Reaction
    let watched: Int
    switch (isPositive, kind) {
    case (true, ..<0.35): (value, watched) = (.like, random.integer(in: 600...1000))
    case (true, ..<0.43): (value, watched) = (.share, random.integer(in: 700...1000))
    case (true, _): (value, watched) = (.view, random.integer(in: 800...1000))
    case (false, ..<0.6): (value, watched) = (.skip, random.integer(in: 10...250))
    case (false, _): (value, watched) = (.view, random.integer(in: 250...799))
    }
    let seconds = 2 + videos[number].durationSeconds * watched / 1000 + random.below(3)
    return Event(
      user: user, video: number, value: value, watchedThousandths: watched,
      time: viewer.time + seconds)
  }
}
