// swift-tools-version: 6.2
import PackageDescription

/// Warnings stop a CI build and only show in a developer's.
let strict: [SwiftSetting] =
  Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)]

let settings: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ] + strict

let package = Package(
  name: "Benchmarks",
  platforms: [.macOS(.v15)],
  targets: [
    .target(name: "CWait"),
    .target(name: "LoadTool", dependencies: ["CWait"], swiftSettings: settings),
    .executableTarget(name: "load", dependencies: ["LoadTool"], swiftSettings: settings),
    .testTarget(name: "LoadToolTests", dependencies: ["LoadTool"], swiftSettings: settings),
  ]
)
