package import Domain

/// A simulated app of short videos: a catalogue, viewers, and everything they did for some weeks.
///
/// Viewers follow interests that drift over days and a mood that moves inside a session; the app's
/// feed answers their last reactions. `Documentation/short-video-world.md` has the whole model with
/// its formulas. The same settings give the same bytes on every machine.
package struct ShortVideoWorld: Sendable {
  /// How large the world is, and which one.
  package struct Settings: Hashable, Sendable {
    /// Viewers, at least 1.
    package var users: Int
    /// Videos, at least 100.
    package var videos: Int
    /// Days that are simulated, at least 1. Events grow with it.
    package var days: Int
    /// The same seed gives the same world.
    package var seed: UInt64
    /// The first day's midnight, UTC.
    package var start: Timestamp

    package init(
      users: Int = 2_000, videos: Int = 3_000, days: Int = 18, seed: UInt64 = 1,
      start: Timestamp = Timestamp(secondsSinceEpoch: 1_767_571_200)
    ) {
      (self.users, self.videos, self.days) = (users, videos, days)
      (self.seed, self.start) = (seed, start)
    }
  }

  /// One video of the catalogue. Topics, creators and languages are numbers into the world's lists.
  struct Video: Sendable {
    var creator: Int
    var topic: Int
    /// The thread inside the topic: what the video is about.
    var thread: Int
    var style: Int
    var language: Int
    var title: String
    var durationSeconds: Int
    /// Seconds from the world's start; negative for what was there before.
    var publishedAt: Int
    /// How often a feed shows it, relative to others.
    var popularity: Double
    /// What the viewer's chance of liking it is multiplied with.
    var quality: Double
    /// The next part of a series, as an index into the catalogue.
    var nextPart: Int?
    var isPartOfSeries = false
  }

  /// What a viewer did with one video.
  package struct Event: Hashable, Sendable {
    package var user: Int
    package var video: Int
    package var value: Reaction
    /// The watched part of the video in thousandths.
    package var watchedThousandths: Int
    /// Seconds from the world's start.
    package var time: Int
    /// 1, 0 or -1.
    package var label: Int {
      ShortVideoWorld.label(of: value, watchRatio: Double(watchedThousandths) / 1000)
    }
  }

  /// The `event_value` of an event.
  package enum Reaction: String, Hashable, Sendable {
    case view, like, share, skip
  }

  package let settings: Settings
  let videos: [Video]
  let creators: [Creator]
  /// All events in time order; an event's number is its index.
  package let events: [Event]
  /// Each viewer at the end, and just before the last positive event.
  private let viewers: [(now: Viewer, beforeLastPositive: Viewer?)]
  private let lastPositives: [Int?]

  /// Makes the catalogue and lives through the days.
  ///
  /// - Complexity: about 3 µs an event.
  package init(_ settings: Settings = Settings()) {
    precondition(settings.users >= 1, "a world of \(settings.users) users")
    precondition(settings.videos >= 100, "a world of \(settings.videos) videos")
    precondition(settings.days >= 1, "a world of \(settings.days) days")
    self.settings = settings
    let catalogue = Catalogue(settings)
    videos = catalogue.videos
    creators = catalogue.creators
    var events: [Event] = []
    var viewers: [(now: Viewer, beforeLastPositive: Viewer?)] = []
    var lastPositives: [Int?] = []
    for user in 0..<settings.users {
      let life = catalogue.life(of: user, settings)
      lastPositives.append(life.events.last { $0.label == 1 }?.video)
      viewers.append((life.viewer, life.beforeLastPositive))
      events += life.events
    }
    // A viewer's own times strictly grow, so the order is total.
    events.sort { ($0.time, $0.user) < ($1.time, $1.user) }
    self.events = events
    self.viewers = viewers
    self.lastPositives = lastPositives
    self.catalogue = catalogue
  }

  private let catalogue: Catalogue

  /// What an event says about the viewer's taste: 1 for a like, a share or a watch ratio of 0.8 and
  /// more, -1 for a skip, else 0.
  package static func label(of value: Reaction, watchRatio: Double) -> Int {
    switch value {
    case .like, .share: 1
    case .skip: -1
    case .view: watchRatio >= 0.8 ? 1 : 0
    }
  }

  /// The simulator's own best possible ranking for the viewer's last positive event: the chance that
  /// the next positive event is about each video, given everything about the viewer just before it.
  ///
  /// No model can rank better on average; it sees moods, interests and the feed's rules, which the
  /// events only hint at. Videos that the viewer had already seen have chance 0.
  ///
  /// - Returns: one probability per video in the order of `videoRows()`, which sum to 1; empty where
  ///   the viewer has no positive event.
  package func oracleScores(forLastPositiveOf user: Int) -> [Double] {
    guard let viewer = viewers[user].beforeLastPositive else { return [] }
    return catalogue.nextPositiveProbabilities(for: viewer)
  }

  /// The video of the viewer's last positive event, as an index into `videoRows()`.
  package func lastPositive(of user: Int) -> Int? { lastPositives[user] }

  /// The topics' names.
  package var topics: [String] { ShortVideoVocabulary.topics.map(\.name) }

  /// The topic that lies farthest from what the viewer likes at the end of the simulated time.
  package func farTopic(for user: Int) -> String {
    let viewer = viewers[user].now
    var seenOf = [Int](repeating: 0, count: topics.count)
    for (video, wasSeen) in zip(videos, viewer.seen) where wasSeen { seenOf[video.topic] += 1 }
    let farthest = topics.indices.min {
      let (a, b) = (viewer.interests[$0] + viewer.mood[$0], viewer.interests[$1] + viewer.mood[$1])
      return (a, seenOf[$0], $0) < (b, seenOf[$1], $1)
    }
    return topics[farthest ?? 0]
  }

  /// Some unseen videos of a topic that the viewer likes from beginning to end, as event rows.
  ///
  /// They come after all other events, 20 seconds apart: popular videos of one thread first, in the
  /// viewer's language where there are enough. The same call gives the same rows.
  ///
  /// - Parameter topic: one of `topics`; nil for the one farthest from the viewer's interests.
  package func swipes(user: Int, topic: String? = nil, count: Int = 3) -> [JSON] {
    let name = topic ?? farTopic(for: user)
    guard let topic = topics.firstIndex(of: name) else { return [] }
    let viewer = viewers[user].now
    let end = endOfTime
    let unseen = videos.indices.filter {
      videos[$0].topic == topic && !viewer.seen[$0] && videos[$0].publishedAt < end
    }
    func appeal(_ video: Int) -> Double {
      videos[video].popularity * viewer.languages[videos[video].language]
    }
    let ranked = unseen.sorted { (appeal($0), $1) > (appeal($1), $0) }
    let thread = ranked.first.map { videos[$0].thread }
    let chosen =
      ranked.filter { videos[$0].thread == thread } + ranked.filter { videos[$0].thread != thread }
    return chosen.prefix(count).enumerated().map { step, video in
      row(
        of: Event(
          user: user, video: video, value: .like, watchedThousandths: 1000,
          time: end + 20 * (step + 1)),
        id: "swipe-\(userID(user))-\(itemID(video))")
    }
  }

  /// A second after the last event, and not before the last simulated day is over.
  private var endOfTime: Int { max(settings.days * 86_400, (events.last?.time ?? 0) + 1) }
}
