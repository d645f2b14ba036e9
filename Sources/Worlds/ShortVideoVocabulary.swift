/// The words that the short-video world is told in.
enum ShortVideoVocabulary {
  /// A topic and the threads inside it; a thread is what a video is about, and its first tag.
  struct Topic: Sendable {
    let name: String
    let threads: [String]
  }

  static let topics: [Topic] = [
    Topic(
      name: "street food", threads: ["tacos", "ramen", "dumplings", "falafel", "bao", "arepas"]),
    Topic(
      name: "baking",
      threads: ["sourdough", "croissants", "layer cakes", "macarons", "focaccia", "bagels"]),
    Topic(
      name: "home gardening",
      threads: ["tomatoes", "balcony herbs", "composting", "orchids", "bonsai", "raised beds"]),
    Topic(
      name: "woodworking",
      threads: ["dovetails", "bowl turning", "chair making", "hand planes", "epoxy", "carving"]),
    Topic(
      name: "guitar",
      threads: ["fingerstyle", "blues licks", "barre chords", "looping", "slide", "jazz"]),
    Topic(
      name: "football",
      threads: ["free kicks", "goalkeeping", "dribbling", "futsal", "tactics", "street football"]),
    Topic(
      name: "climbing",
      threads: ["bouldering", "finger strength", "slab", "trad gear", "falling", "dynos"]),
    Topic(
      name: "running",
      threads: ["trail running", "intervals", "marathon", "running form", "barefoot", "recovery"]),
    Topic(
      name: "cats",
      threads: ["kittens", "maine coons", "cat training", "rescue cats", "zoomies", "cat toys"]
    ),
    Topic(
      name: "dogs",
      threads: ["puppies", "agility", "recall", "greyhounds", "rescue dogs", "dog tricks"]),
    Topic(
      name: "space",
      threads: ["rockets", "exoplanets", "moon", "telescopes", "black holes", "space suits"]),
    Topic(
      name: "history",
      threads: ["roman roads", "castles", "shipwrecks", "old maps", "silk road", "lost cities"]),
    Topic(
      name: "chess",
      threads: ["gambits", "endgames", "blitz", "chess puzzles", "blunders", "knight forks"]),
    Topic(
      name: "programming",
      threads: ["swift", "rust", "sql", "terminal tricks", "debugging", "regexes"]),
    Topic(
      name: "retro games",
      threads: ["speedruns", "pixel art", "arcades", "cartridges", "emulators", "chiptunes"]),
    Topic(
      name: "makeup",
      threads: ["eyeliner", "skincare", "drag looks", "contouring", "nails", "lipstick"]),
    Topic(
      name: "thrift fashion",
      threads: ["denim", "mending", "vintage finds", "capsule wardrobes", "sneakers", "tailoring"]),
    Topic(
      name: "dance",
      threads: ["salsa", "popping", "tap", "contemporary", "breaking", "ballet barre"]),
    Topic(
      name: "magic",
      threads: [
        "card sleights", "coin tricks", "mentalism", "escapes", "street magic", "rope tricks",
      ]),
    Topic(
      name: "travel",
      threads: ["night trains", "hostels", "islands", "road trips", "markets", "solo travel"]),
    Topic(
      name: "tiny homes",
      threads: ["van builds", "solar power", "lofts", "storage", "off grid", "cabins"]),
    Topic(
      name: "science at home",
      threads: ["magnets", "crystals", "slow motion", "bubbles", "microscopes", "static"]),
    Topic(
      name: "comedy",
      threads: ["office sketches", "impressions", "stand-up", "puns", "roommates", "awkward dates"]),
    Topic(
      name: "drawing",
      threads: ["portraits", "ink", "perspective", "watercolour", "comics", "hands"]),
  ]

  /// What kind of video it is: its second tag.
  static let styles = [
    "tutorial", "behind the scenes", "challenge", "review", "story", "compilation", "beginner",
    "experiment",
  ]

  /// One title per pattern and thread; `*` stands for the thread. The same order as `styles`.
  static let titles: [[String]] = [
    ["How to get better at *", "The secret to *", "*, step by step", "* explained in one minute"],
    ["Behind the scenes: *", "A day with *", "What * really takes", "My set-up for *"],
    ["* for 30 days", "* blindfolded", "One hour to master *", "* against the clock"],
    ["Is * worth the hype?", "Ranking * from worst to best", "The truth about *", "Rating your *"],
    [
      "How * changed my year", "My first time with *", "The * story nobody tells",
      "Grandma taught me *",
    ],
    ["The best of * this week", "* moments we love", "Ten seconds of *, ten times", "Pure *"],
    [
      "*: start here", "Your first week of *", "Five mistakes everyone makes with *",
      "* on a budget",
    ],
    ["What happens if you mix up *", "Testing myths about *", "* in slow motion", "Giant *"],
  ]

  /// Titles of a series; `*` stands for the thread, and the part's number follows.
  static let seriesTitles = [
    "The * diaries", "* from zero", "All about *", "* school", "Obsessed with *", "A month of *",
  ]

  static let creatorNames = [
    "mira", "jonas", "amara", "theo", "lucia", "kenji", "noor", "felix", "ines", "oskar", "priya",
    "mateo", "hana", "elias", "zuri", "pavel", "leila", "tomas", "aiko", "nils", "carmen", "idris",
    "greta", "rafa", "yuna", "emil", "salma", "bruno", "vera", "dario",
  ]

  /// Languages with the share of creators and of viewers who speak them first.
  static let languages: [(code: String, share: Double)] = [
    ("en", 0.46), ("es", 0.24), ("de", 0.16), ("pt", 0.14),
  ]
}
