// swift-tools-version: 6.2
import PackageDescription

/// Warnings stop a CI build and only show in a developer's.
let strict: [SwiftSetting] =
  Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]
let strictC: [CSetting] = Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]

let settings: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  ] + strict

/// A target of the package with the settings that every target shares.
func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// The tests of one target.
func tests(
  _ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = []
) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.byName(name: name)] + dependencies, resources: resources,
    swiftSettings: settings)
}

let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(
  name: "HummingbirdCore", package: "hummingbird")
let nio = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTP = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let arguments = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")

let package = Package(
  name: "riffle",
  platforms: [.macOS(.v15)],
  products: [.executable(name: "riffle", targets: ["riffle"])],
  traits: [
    .trait(
      name: "Kafka",
      description: "Reads from Kafka through librdkafka, which must be installed with its headers.")
  ],
  dependencies: [
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
  ],
  targets: [
    module("Domain"),
    module("Columns", ["Domain"]),
    module("Storage", ["Domain", "Columns", grdb]),
    module("Ingest", ["CZlib", "Domain", "Storage"]),
    module("Gzip", ["Domain", "CZlib"]),
    module("Connectors", ["Domain", "Gzip", "Ingest", crypto]),
    .systemLibrary(
      name: "CRDKafka", pkgConfig: "rdkafka",
      providers: [.apt(["librdkafka-dev"]), .brew(["librdkafka"])]),
    module(
      "KafkaConnector",
      ["Domain", "Connectors", .target(name: "CRDKafka", condition: .when(traits: ["Kafka"]))]),
    module("State", ["Domain", "Columns"]),
    .systemLibrary(
      name: "CZlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    .target(name: "CKernels", cSettings: strictC),
    module("Kernels", ["CKernels"]),
    module("Neural", ["Kernels"]),
    module("Models", ["Domain", "Neural"]),
    module("VectorIndex", ["CKernels", "Kernels", "Neural"]),
    module("Evaluation", ["Domain"]),
    module("Reports", ["Domain", "Evaluation"]),
    module("Training", ["Models", "Evaluation"]),
    module("QueryLanguage", ["Domain"]),
    module("QueryEngine", ["QueryLanguage", "Columns"]),
    module(
      "Engine",
      [
        "Domain", "Columns", "Storage", "Ingest", "Connectors", "State", "Kernels", "Neural",
        "Models",
        "VectorIndex", "Evaluation",
        "Training", "QueryLanguage", "QueryEngine", yams, logging,
      ]),
    module("Worlds", ["Domain"]),
    module("Drill", ["Domain", "Engine", "HTTPAPI", "State", "Storage", "Worlds", logging]),
    module(
      "HTTPAPI",
      [
        "Domain", "Engine", "Ingest", "State", "Storage", "Connectors", hummingbird,
        hummingbirdCore, nio, nioHTTP, logging,
      ]),
    .executableTarget(
      name: "riffle",
      dependencies: [
        "HTTPAPI", "Engine", "Evaluation", "Reports", "Models", "Training", "Worlds", "Connectors",
        "Drill", "Storage",
        .target(name: "KafkaConnector", condition: .when(traits: ["Kafka"])), arguments, logging,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "search-bench", dependencies: ["Kernels", "VectorIndex"],
      path: "Benchmarks/Sources/search-bench", swiftSettings: settings),
    .executableTarget(
      name: "policy-bench",
      dependencies: ["Domain", "Evaluation", "Kernels", "Models", "Neural", "Training"],
      path: "Benchmarks/Sources/policy-bench", swiftSettings: settings),
    .executableTarget(
      name: "train-bench",
      dependencies: ["Domain", "Evaluation", "Kernels", "Models", "Neural", "Training"],
      path: "Benchmarks/Sources/train-bench", swiftSettings: settings),

    tests("Domain"),
    tests("Columns"),
    tests("Storage", [grdb], resources: [.copy("Fixtures")]),
    tests("Ingest", [grdb]),
    tests("Gzip"),
    tests("Connectors", ["Gzip"]),
    tests(
      "KafkaConnector",
      [
        "Connectors", "Domain", "Engine", "HTTPAPI", logging,
        .target(name: "CRDKafka", condition: .when(traits: ["Kafka"])),
      ]),
    tests("State", ["Storage", grdb], resources: [.copy("Fixtures")]),
    tests("Kernels"),
    tests("Neural"),
    tests("Models", resources: [.copy("Golden")]),
    tests("VectorIndex", ["Kernels", "Neural"], resources: [.copy("Fixtures")]),
    tests("Reports", ["Domain", "Evaluation"]),
    tests("Evaluation"),
    tests("Training"),
    tests("QueryLanguage"),
    tests("QueryEngine"),
    tests("Engine"),
    tests("Worlds"),
    tests(
      "Drill",
      [
        "Domain", "State", "Storage", grdb,
        .target(name: "KafkaConnector", condition: .when(traits: ["Kafka"])),
      ]),
    tests("HTTPAPI"),
  ]
)
