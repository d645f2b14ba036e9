extension ShortVideoWorld {
  /// Someone who makes videos, mostly about one topic.
  struct Creator: Sendable {
    var handle: String
    var topic: Int
    var secondTopic: Int
    var language: Int
    /// How often a feed shows this creator's videos, relative to others.
    var reach: Double
  }

  /// The videos and what a feed has to look up about them.
  struct Catalogue: Sendable {
    var creators: [Creator] = []
    /// Oldest first.
    var videos: [Video] = []
    var videosOfTopic: [[Int]] = []
    var videosOfCreator: [[Int]] = []

    static let topicCount = ShortVideoVocabulary.topics.count
    /// Days before the start in which most of the catalogue appeared.
    static let pastDays = 60

    init(_ settings: Settings) {
      var random = SeededGenerator(seed: settings.seed, stream: 0)
      makeCreators(max(Self.topicCount, settings.videos / 10), &random)
      makeVideos(settings, &random)
      videosOfTopic = Array(repeating: [], count: Self.topicCount)
      videosOfCreator = Array(repeating: [], count: creators.count)
      for (number, video) in videos.enumerated() {
        videosOfTopic[video.topic].append(number)
        videosOfCreator[video.creator].append(number)
      }
    }

    private mutating func makeCreators(_ count: Int, _ random: inout SeededGenerator) {
      let names = ShortVideoVocabulary.creatorNames
      for number in 0..<count {
        // Every topic has its creators; names repeat only across topics while there are enough.
        let topic = number % Self.topicCount
        let round = number / Self.topicCount
        let name = names[(round * 7 + topic * 11) % names.count]
        let suffix = round < names.count ? "" : "\(round / names.count + 1)"
        let slug = ShortVideoVocabulary.topics[topic].name.replacing(" ", with: "")
        creators.append(
          Creator(
            handle: "\(name)\(suffix)_\(slug)", topic: topic,
            secondTopic: random.below(Self.topicCount),
            language: random.index(weights: ShortVideoVocabulary.languages.map(\.share)) ?? 0,
            reach: 1 / (0.15 + random.uniform())))
      }
    }

    private mutating func makeVideos(_ settings: Settings, _ random: inout SeededGenerator) {
      // Creators take turns by a draw; each turn brings one video or a whole series, in drafts that
      // are put in the order of publication at the end.
      var drafts: [(video: Video, series: Int?)] = []
      var seriesCount = 0
      while drafts.count < settings.videos {
        let turn =
          drafts.count < creators.count * 2 ? drafts.count / 2 : random.below(creators.count)
        let creator = creators[turn]
        let topic = random.chance(0.85) ? creator.topic : creator.secondTopic
        let thread = random.below(ShortVideoVocabulary.topics[topic].threads.count)
        let style = random.below(ShortVideoVocabulary.styles.count)
        // One in six appears while the world is watched.
        var published =
          random.chance(1.0 / 6)
          ? random.below(settings.days * 86_400)
          : random.below(Self.pastDays * 86_400) - Self.pastDays * 86_400
        let parts = random.chance(0.22) ? random.integer(in: 3...6) : 1
        let popularity = creator.reach / (0.12 + random.uniform())
        let name = seriesTitle(thread: thread, topic: topic, &random)
        for part in 1...parts where drafts.count < settings.videos {
          let title =
            parts > 1
            ? "\(name), part \(part)"
            : videoTitle(style: style, thread: thread, topic: topic, &random)
          drafts.append(
            (
              Video(
                creator: turn, topic: topic, thread: thread, style: style,
                language: creator.language, title: title,
                durationSeconds: 7 + random.below(22) + random.below(30) * random.below(5),
                publishedAt: published,
                popularity: popularity * (0.7 + 0.6 * random.uniform()),
                quality: 0.75 + 0.5 * random.uniform(), nextPart: nil),
              parts > 1 ? seriesCount : nil
            ))
          published += 3_600 + random.below(7_200)
        }
        seriesCount += 1
      }
      let order = drafts.indices.sorted {
        (drafts[$0].video.publishedAt, $0) < (drafts[$1].video.publishedAt, $1)
      }
      videos = order.map { drafts[$0].video }
      var lastPart: [Int: Int] = [:]
      for (number, draft) in order.enumerated() {
        guard let series = drafts[draft].series else { continue }
        videos[number].isPartOfSeries = true
        if let previous = lastPart[series] { videos[previous].nextPart = number }
        lastPart[series] = number
      }
    }

    private func seriesTitle(
      thread: Int, topic: Int, _ random: inout SeededGenerator
    ) -> String {
      let titles = ShortVideoVocabulary.seriesTitles
      return filled(titles[random.below(titles.count)], thread: thread, topic: topic)
    }

    private func videoTitle(
      style: Int, thread: Int, topic: Int, _ random: inout SeededGenerator
    ) -> String {
      let titles = ShortVideoVocabulary.titles[style]
      return filled(titles[random.below(titles.count)], thread: thread, topic: topic)
    }

    private func filled(_ pattern: String, thread: Int, topic: Int) -> String {
      let title = pattern.replacing("*", with: ShortVideoVocabulary.topics[topic].threads[thread])
      return title.prefix(1).uppercased() + title.dropFirst()
    }
  }
}
